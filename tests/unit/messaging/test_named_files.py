"""Files that settings name: each mistake stops the service, names the option, says what to do, and quotes nothing."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import tomli_w
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from infra.provision import Secrets, provision
from messaging.settings import BrokerSettings, load
from tests.cryptor_settings import cryptor_settings
from workers.cryptor.settings import Settings

CANARY: Final = "canary-5e17"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Secrets:
    """A vault's secrets."""
    return provision(tmp_path_factory.mktemp("vault"))


@pytest.fixture
def folder(pristine: Secrets, tmp_path: Path) -> Path:
    """A copy of the Cryptor's, to spoil."""
    return Path(shutil.copytree(pristine.of("cryptor"), tmp_path / "cryptor"))


def refusal(folder: Path, **changes: str) -> str:
    """What a Cryptor says that is started with these files; nothing if it would start."""
    file = folder.parent / "cryptor.toml"
    file.write_text(tomli_w.dumps(cryptor_settings(folder) | changes))
    try:
        load(Settings, ["--config", str(file)])
    except SystemExit as refused:
        return str(refused)
    return ""


def test_what_provisioning_made_is_accepted(folder: Path) -> None:
    """Nothing below is refused for another reason than its own."""
    assert refusal(folder) == ""


SECRET_FILES: Final = {
    "keyring.json": "keyring_file",
    "identity.pem": "identity_file",
    "svc.cryptor.key": "edge.key_file",
    "svc.cryptor.keystore.key": "keystore.key_file",
    "cryptor-mapstore.json": "mapstore.link_file",
}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644], ids=oct)
@pytest.mark.parametrize("name", SECRET_FILES)
def test_a_secret_that_others_may_use_is_refused(folder: Path, name: str, mode: int) -> None:
    """A key that somebody else could have read is none; how to close it is said."""
    (folder / name).chmod(mode)
    _, line = refusal(folder).splitlines()
    assert line.strip().startswith(f"{SECRET_FILES[name]}: group or others may use it")
    assert "chmod 600" in line


def test_a_folder_of_secrets_that_others_may_enter_is_refused(folder: Path) -> None:
    """The short-lived keys lie in it."""
    (folder / "hpke").chmod(0o750)
    assert "hpke_dir: group or others may use it, but it is secret: chmod 700" in refusal(folder)


@pytest.mark.parametrize(("name", "option"), [("ca.pem", "edge.ca_file"), ("clients.json", "clients_file")])
def test_a_public_file_that_others_may_change_is_refused(folder: Path, name: str, option: str) -> None:
    """Who may add to the registry, or replace the CA, decides whom the vault believes."""
    (folder / name).chmod(0o644)
    assert refusal(folder) == ""
    (folder / name).chmod(0o664)
    assert f"{option}: group or others may change it: chmod go-w" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "option", "text"),
    [
        ("keyring.json", "keyring_file", "a keyring"),
        ("clients.json", "clients_file", "a registry of clients"),
        ("identity.pem", "identity_file", "an Ed25519 private key"),
        ("cryptor-datastore.json", "datastore.link_file", "the keys of a link"),
        ("ca.pem", "edge", "ca_file holds no certificate"),
        ("svc.cryptor.pem", "edge", "cert_file and key_file"),
        ("svc.cryptor.key", "edge", "cert_file and key_file"),
    ],
)
def test_a_file_that_holds_something_else_is_named(folder: Path, name: str, option: str, text: str) -> None:
    """And what it should hold; its content is not quoted."""
    (folder / name).write_text(f'{{"{CANARY}": 1}}')
    told = refusal(folder)
    assert any(line.startswith(f"  {option}: ") and text in line for line in told.splitlines()), told
    assert CANARY not in told


def test_anothers_key_is_refused(folder: Path) -> None:
    """A certificate and a key that are no pair."""
    shutil.copyfile(folder / "svc.cryptor.keystore.key", folder / "svc.cryptor.key")
    assert "edge: cert_file and key_file are not a certificate and its own key" in refusal(folder)


def test_an_encrypted_key_is_refused_without_asking_for_its_password(folder: Path) -> None:
    """Nobody sits at a service's terminal."""
    encryption = BestAvailableEncryption(CANARY.encode())
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    for name in ("svc.cryptor.key", "identity.pem"):
        (folder / name).write_bytes(pem)
    told = refusal(folder)
    assert "edge: cert_file and key_file" in told
    assert "identity_file: does not hold an Ed25519 private key" in told


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (Path.unlink, "cannot be read: No such file"),
        (lambda path: (path.unlink(), path.mkdir()), "is a directory"),
        (lambda path: (path.unlink(), path.symlink_to(path)), "cannot be read: Too many levels"),
    ],
    ids=["missing", "directory", "loop"],
)
def test_a_file_that_is_none_is_named(folder: Path, spoil: Callable[[Path], object], text: str) -> None:
    """By its option."""
    spoil(folder / "keyring.json")
    assert f"keyring_file: {text}" in refusal(folder)


def test_a_secret_in_the_place_of_a_path_is_not_quoted(folder: Path) -> None:
    """Somebody pasted the key itself, long or short."""
    pem = (folder / "identity.pem").read_text()
    for pasted in (pem, pem * 100, CANARY, CANARY * 100, f"{CANARY}\0"):
        told = refusal(folder, identity_file=pasted)
        assert "  identity_file: " in told
        assert CANARY not in told
        assert pem.splitlines()[1] not in told


def test_everything_that_is_wrong_is_said_at_once(folder: Path) -> None:
    """On one screen."""
    (folder / "keyring.json").chmod(0o644)
    (folder / "ca.pem").unlink()
    (folder / "hpke").rmdir()
    told = refusal(folder, vault_id="none")
    for option in ("vault_id", "keyring_file", "hpke_dir", "edge.ca_file", "mapstore.ca_file"):
        assert f"  {option}: " in told
    assert len(told.splitlines()) < 24


def test_settings_made_in_code_are_checked_as_well(folder: Path) -> None:
    """No way around: a client's profile goes the same way."""
    (folder / "svc.cryptor.key").chmod(0o640)
    with pytest.raises(ValueError, match="chmod 600"):
        BrokerSettings(
            url="amqps://localhost:5671/edge",
            ca_file=folder / "ca.pem",
            cert_file=folder / "svc.cryptor.pem",
            key_file=folder / "svc.cryptor.key",
        )
