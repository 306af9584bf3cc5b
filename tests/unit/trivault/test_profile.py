"""A profile that cannot be used is refused with what to do, and never quoted."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w

from infra.pki.authority import Authority
from trivault.profile import Profile, ProfileError

SECRET = "5e" * 32
WHOLE = {
    "vault_id": "6f1f6c1e-58b2-4f6f-9d0b-5a1f6f0a7a11",
    "name": "alice",
    "client_id": "aa" * 16,
    "url": "amqps://localhost:5671/edge",
    "ca_file": "ca.pem",
    "cert_file": "alice.pem",
    "key_file": "alice.key",
    "signing_key": SECRET,
    "client_secret": SECRET,
    "vault_identity": "bb" * 32,
}


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """A whole profile, with its files beside it."""
    authority = Authority.create("a CA")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    authority.client("alice").save(tmp_path, "alice")
    file = tmp_path / "profile.toml"
    file.write_text(tomli_w.dumps(WHOLE))
    file.chmod(0o600)
    return file


def test_files_are_found_beside_the_profile(profile: Path) -> None:
    """Wherever the command is run; absolute names stay as they are."""
    assert Profile.read(profile).key_file == profile.parent / "alice.key"
    absolute = str(profile.parent / "ca.pem")
    profile.write_text(tomli_w.dumps(WHOLE | {"ca_file": absolute}))
    assert Profile.read(str(profile)).ca_file == Path(absolute)


def test_secrets_are_in_no_repr(profile: Path) -> None:
    """A profile may be logged by mistake."""
    assert SECRET not in repr(Profile.read(profile))
    assert SECRET not in str(Profile.read(profile))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o610])
def test_a_profile_that_others_may_read_is_refused(profile: Path, mode: int) -> None:
    """And the text says how to close it."""
    profile.chmod(mode)
    with pytest.raises(ProfileError, match="chmod 600"):
        Profile.read(profile)


@pytest.mark.parametrize("key", WHOLE)
@pytest.mark.parametrize("value", [None, 7, "", "zz" * 32], ids=["missing", "number", "empty", "nonsense"])
def test_a_malformed_field_is_named_and_not_quoted(profile: Path, key: str, value: object) -> None:
    """Whichever it is: no error but ProfileError, and no secret in it."""
    changed = {name: given for name, given in (WHOLE | {key: value}).items() if given is not None}
    profile.write_text(tomli_w.dumps(changed))
    with pytest.raises(ProfileError) as caught:
        Profile.read(profile)
    assert f" {key}: " in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("spoil", [lambda raw: raw + b"[", lambda raw: b"\xff" + raw], ids=["syntax", "not utf-8"])
def test_what_is_not_toml_is_refused(profile: Path, spoil: Callable[[bytes], bytes]) -> None:
    """As a profile error, not as the parser's."""
    profile.write_bytes(spoil(profile.read_bytes()))
    with pytest.raises(ProfileError, match="not TOML"):
        Profile.read(profile)


@pytest.mark.parametrize("name", ["ca.pem", "alice.pem", "alice.key"])
def test_a_file_beside_it_is_named(profile: Path, name: str) -> None:
    """Lost on the way, or damaged."""
    field = {"ca.pem": "ca_file", "alice.pem": "cert_file", "alice.key": "key_file"}[name]
    (profile.parent / name).write_text("damaged")
    with pytest.raises(ProfileError, match=field):
        Profile.read(profile)
    (profile.parent / name).unlink()
    with pytest.raises(ProfileError, match=f"{field}: cannot be read: No such file"):
        Profile.read(profile)


def test_a_key_that_others_may_read_is_refused(profile: Path) -> None:
    """As the profile itself."""
    (profile.parent / "alice.key").chmod(0o644)
    with pytest.raises(ProfileError, match=r"key_file: .* chmod 600"):
        Profile.read(profile)


def test_an_unknown_field_is_refused(profile: Path) -> None:
    """A newer profile may mean something that this client would not do."""
    profile.write_text(tomli_w.dumps(tomllib.loads(profile.read_text()) | {"proxy": "x"}))
    with pytest.raises(ProfileError, match="proxy"):
        Profile.read(profile)
