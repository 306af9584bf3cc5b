"""Enrolling clients: who is refused, what the others get, and that nobody is lost when two come at once."""

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts import topology
from contracts.registry import Client
from infra.enrolment import EnrolmentError, enrol, registry_of
from infra.provision import Secrets, provision
from trivault import Profile

URL = "amqps://localhost:5671/edge"

Enrol = Callable[..., Path]


@pytest.fixture
def told(tmp_path: Path) -> Secrets:
    """A new vault's secrets."""
    return provision(tmp_path / "vault")


@pytest.fixture
def enrolled(told: Secrets) -> Enrol:
    """Enrol on it."""

    def do(name: str, *, operator: bool = False, profile: Path | None = None) -> Path:
        return enrol(told, name, url=URL, operator=operator, profile=profile)

    return do


def clients(told: Secrets) -> list[Client]:
    """Who is enrolled; both copies of the registry agree."""
    gateway, cryptor = (registry.read_bytes() for registry in told.registries)
    assert gateway == cryptor
    return registry_of(told).clients


def test_a_profile_is_what_the_client_needs_and_fits_the_registry(told: Secrets, enrolled: Enrol) -> None:
    """The client signs with what the vault knows it by, and pins the vault that it belongs to."""
    profile = Profile.read(enrolled("alice"))
    (client,) = clients(told)
    assert (profile.name, client.name, client.operator) == ("alice", "alice", False)
    assert profile.owner == client.client_id
    seed = bytes.fromhex(profile.signing_key)
    assert Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw() == client.verify_key
    assert (str(profile.vault_id), profile.url) == (told.vault_id, URL)
    assert profile.vault_identity == told.identity.read_text().strip()
    certificate = x509.load_pem_x509_certificate(profile.cert_file.read_bytes())
    assert certificate.subject.rfc4514_string() == "CN=alice"
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate((told.authority / "ca.pem").read_bytes()))
    profile.broker.ssl_context()  # certificate, key and CA can be used together


def test_a_clients_secrets_are_its_own(told: Secrets, enrolled: Enrol) -> None:
    """The vault keeps no signing key and no client secret; its folder and its files are private."""
    path = enrolled("alice")
    profile = Profile.read(path)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes == {"profile.toml": 0o600, "alice.key": 0o600, "alice.pem": 0o644, "ca.pem": 0o644}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    elsewhere = [each for each in told.root.rglob("*") if each.is_file() and each != path]
    assert elsewhere
    for secret in (profile.signing_key, profile.client_secret):
        assert not any(secret.encode() in each.read_bytes() for each in elsewhere)


def test_no_two_clients_share_anything(told: Secrets, enrolled: Enrol) -> None:
    """Ids and secrets are drawn for each."""
    profiles = [Profile.read(enrolled(name)) for name in ("alice", "bob", "carol")]
    for secret in ("client_id", "signing_key", "client_secret"):
        assert len({getattr(profile, secret) for profile in profiles}) == 3
    assert [client.name for client in clients(told)] == ["alice", "bob", "carol"]


def test_operators_are_marked(told: Secrets, enrolled: Enrol) -> None:
    """In the registry, which the client does not write."""
    enrolled("root", operator=True)
    assert clients(told)[0].operator


NO_NAMES = {
    "a role": "svc.gateway",
    "a role's beginning": "svc.",
    "a new role": "svc.alice",
    "a dot": "al.ice",
    "nothing": "",
    "too long": "a" * 33,
    "capitals": "Alice",
    "a digit first": "1alice",
    "a hyphen first": "-alice",
    "an underscore": "al_ice",
    "a space": "al ice",
    "a line end": "alice\n",
    "a star": "ali*",
    "a hash": "#",
    "an expression": "al|bob",
    "a path": "../alice",
    "another path": "/etc/x",
    "an umlaut": "älice",
    "another alphabet": "аlice",  # noqa: RUF001 - Cyrillic on purpose
    "a null": "alice\0",
}


@pytest.mark.parametrize("name", NO_NAMES.values(), ids=NO_NAMES)
def test_what_is_no_clients_name_is_refused(told: Secrets, enrolled: Enrol, name: str) -> None:
    """Roles have dots, patterns have characters that mean something, paths have slashes: none of them is a name."""
    with pytest.raises(EnrolmentError, match="is no client name: use up to 32 of a-z"):
        enrolled(name)
    assert clients(told) == []
    assert not (told.root / "clients").exists()


@pytest.mark.parametrize("name", topology.ROLES)
def test_nobody_enrols_as_a_role(enrolled: Enrol, name: str) -> None:
    """Whatever roles there are."""
    with pytest.raises(EnrolmentError):
        enrolled(name)


@pytest.mark.parametrize("name", ["a", "a-", "a--b", "z9", "svc", "svc-gateway", "a" * 32])
def test_clients_names_are_accepted(told: Secrets, enrolled: Enrol, name: str) -> None:
    """Up to 32 characters."""
    enrolled(name)
    assert [client.name for client in clients(told)] == [name]


def test_a_name_is_not_given_out_twice(told: Secrets, enrolled: Enrol, tmp_path: Path) -> None:
    """Not even if the first profile is gone, or the second goes elsewhere; the first client is not touched."""
    path = enrolled("alice")
    before = clients(told), path.read_bytes()
    with pytest.raises(EnrolmentError, match="enrolled already: choose another name"):
        enrolled("alice")
    with pytest.raises(EnrolmentError, match="enrolled already"):
        enrolled("alice", profile=tmp_path / "other" / "profile.toml")
    assert (clients(told), path.read_bytes()) == before
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("there", ["profile.toml", "bob.pem", "bob.key"])
def test_nobodys_files_are_overwritten(told: Secrets, enrolled: Enrol, tmp_path: Path, there: str) -> None:
    """Another profile in the same folder keeps its keys."""
    (tmp_path / there).write_text("mine")
    with pytest.raises(EnrolmentError, match="exists: remove it"):
        enrolled("bob", profile=tmp_path / "profile.toml")
    assert (tmp_path / there).read_text() == "mine"
    assert clients(told) == []


def test_two_vaults_do_not_share_a_folder(told: Secrets, enrolled: Enrol, tmp_path: Path) -> None:
    """A profile whose ca.pem were replaced would believe the wrong broker; clients of one vault may share."""
    other = provision(tmp_path / "other")
    first = enrol(other, "alice", url=URL, operator=False, profile=tmp_path / "alice.toml")
    with pytest.raises(EnrolmentError, match="another vault's"):
        enrolled("bob", profile=tmp_path / "bob.toml")
    assert clients(told) == []
    second = enrol(other, "bob", url=URL, operator=False, profile=tmp_path / "bob.toml")
    assert [Profile.read(path).name for path in (first, second)] == ["alice", "bob"]


def test_concurrent_enrolments_all_land(told: Secrets, enrolled: Enrol) -> None:
    """The registry is read, added to and replaced by one at a time."""
    names = [f"c{number}" for number in range(12)]
    with ThreadPoolExecutor(len(names)) as crowd:
        profiles = [Profile.read(path) for path in crowd.map(enrolled, names)]
    assert {client.name: client.client_id for client in clients(told)} == {
        profile.name: profile.owner for profile in profiles
    }
    assert len(clients(told)) == 12


def test_of_two_that_want_one_name_one_gets_it(told: Secrets, enrolled: Enrol, tmp_path: Path) -> None:
    """And the registry knows the one that got it."""

    def attempt(number: int) -> Path | None:
        try:
            return enrolled("alice", profile=tmp_path / str(number) / "profile.toml")
        except EnrolmentError:
            return None

    with ThreadPoolExecutor(6) as crowd:
        (won,) = filter(None, crowd.map(attempt, range(6)))
    (client,) = clients(told)
    assert Profile.read(won).owner == client.client_id


def test_an_enrolment_that_fails_leaves_no_client(
    told: Secrets, enrolled: Enrol, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry is written last: who has no profile is not enrolled, and the next one is not in the way."""
    with monkeypatch.context() as patch:
        patch.setattr("infra.enrolment._profile", lambda *_: {"name": 1j})
        with pytest.raises(TypeError):
            enrolled("alice")
    assert clients(told) == []
    enrolled("bob")
    assert [client.name for client in clients(told)] == ["bob"]
