"""What a vault has before it starts: whole, once, never replaced, and to each service its own."""

import json
import stat
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from contracts.codec import parse
from contracts.registry import Registry
from infra import provision as module
from infra.files import write
from infra.provision import Secrets, provision
from messaging.link import LinkKeys
from workers.cryptor.core.keys import Keyring

CERTIFIED = {
    "gateway": ["svc.gateway"],
    "cryptor": ["svc.cryptor", "svc.cryptor.keystore", "svc.cryptor.datastore", "svc.cryptor.mapstore"],
    "keystore": ["svc.keystore"],
    "datastore": ["svc.datastore"],
    "mapstore": ["svc.mapstore"],
}
ENDS = {
    "gateway-cryptor": {"gateway", "cryptor"},
    "cryptor-keystore": {"cryptor", "keystore"},
    "cryptor-datastore": {"cryptor", "datastore"},
    "cryptor-mapstore": {"cryptor", "mapstore"},
}
SERVERS = ("rabbitmq", "postgres", "s3")


@pytest.fixture
def told(tmp_path: Path) -> Secrets:
    """A new vault's secrets."""
    return provision(tmp_path / "vault")


def contents(root: Path) -> dict[str, bytes]:
    """Every file's bytes."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def complete(told: Secrets) -> None:
    """Everything is there, fits together, and is what the services read."""
    ca = x509.load_pem_x509_certificate((told.authority / "ca.pem").read_bytes())
    for service, roles in CERTIFIED.items():
        folder = told.of(service)
        assert (folder / "ca.pem").read_bytes() == (told.authority / "ca.pem").read_bytes()
        assert sorted(path.stem for path in folder.glob("*.key")) == sorted(roles)
        for role in roles:
            certificate = x509.load_pem_x509_certificate((folder / f"{role}.pem").read_bytes())
            certificate.verify_directly_issued_by(ca)
            assert certificate.subject.rfc4514_string() == f"CN={role}"
            key = load_pem_private_key((folder / f"{role}.key").read_bytes(), None)
            assert key.public_key() == certificate.public_key()
    for server in SERVERS:
        names = {path.name for path in told.of(server).iterdir()}
        assert names == {"ca.pem", "server.pem", "server.key"} | ({"auth.csv"} if server == "s3" else set())
    access, secret = ((told.of("datastore") / f"s3.{half}").read_text() for half in ("access", "secret"))
    assert (told.of("s3") / "auth.csv").read_text() == f'"{access},{secret}"'
    for link, ends in ENDS.items():
        assert len({LinkKeys.from_file(told.of(end) / f"{link}.json").epochs[1] for end in ends}) == 1
    Keyring.from_file(told.of("cryptor") / "keyring.json")
    assert [parse(Registry, registry.read_bytes()).clients for registry in told.registries] == [[], []]
    assert (told.of("cryptor") / "hpke").is_dir()
    assert told.vault_id
    identity = load_pem_private_key((told.of("cryptor") / "identity.pem").read_bytes(), None)
    public: Any = identity.public_key()
    assert told.identity.read_text() == f"{public.public_bytes_raw().hex()}\n"


def test_a_new_vault_is_complete(told: Secrets) -> None:
    """And says so."""
    complete(told)
    assert told.provisioned()


def test_a_link_key_is_at_its_two_ends_only(told: Secrets) -> None:
    """And no two links share one."""
    assert {
        path.stem: {other.parent.name for other in told.root.rglob(path.name)} for path in told.root.rglob("*-*.json")
    } == ENDS
    keys = {LinkKeys.from_file(next(told.root.rglob(f"{link}.json"))).epochs[1] for link in ENDS}
    assert len(keys) == 4


def test_only_the_cryptor_has_keyring_and_identity(told: Secrets) -> None:
    """Nobody else can unwrap a key or speak for the vault."""
    for name in ("keyring.json", "identity.pem", "hpke"):
        assert [path.parent for path in told.root.rglob(name)] == [told.of("cryptor")]
    ring = json.loads((told.of("cryptor") / "keyring.json").read_bytes())
    drawn = [*ring["keks"].values(), *ring["map_mac_keys"].values()]
    assert len(set(drawn)) == 2
    others = b"".join(text for path, text in contents(told.root).items() if path != "secrets/cryptor/keyring.json")
    assert not any(key.encode() in others for key in drawn)


def test_modes_are_right_from_the_start(told: Secrets) -> None:
    """0600, but for what is public; folders 0700."""
    public = {"vault_id", "vault_identity", *(f"{role}.pem" for roles in CERTIFIED.values() for role in roles)}
    for path in told.root.rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.is_file():
            assert mode == (0o644 if path.name in public | {"ca.pem", "server.pem"} else 0o600), path
        elif path.name != "secrets":
            assert mode == 0o700, path
    assert stat.S_IMODE(told.root.stat().st_mode) == 0o700


def test_two_vaults_have_nothing_in_common(told: Secrets, tmp_path: Path) -> None:
    """Not an id, not a key; only their registries, empty both, are alike."""
    other = provision(tmp_path / "other")
    mine, others = contents(told.root), contents(other.root)
    assert mine.keys() == others.keys()
    assert {path for path in mine if mine[path] == others[path]} == {
        "secrets/gateway/clients.json",
        "secrets/cryptor/clients.json",
        "secrets/datastore/s3.access",  # a user's name
    }


def test_provisioning_again_changes_nothing(told: Secrets) -> None:
    """Not a byte, whatever happened to the vault since."""
    (told.of("gateway") / "clients.json").write_text('{"clients": [], "x": 1}')
    before = contents(told.root)
    provision(told.root)
    assert contents(told.root) == before


@pytest.mark.parametrize("lost", ["vault_identity", "secrets/cryptor/keyring.json", "ca/ca.key", "vault_id"])
def test_a_vault_that_lost_a_file_is_not_made_anew(told: Secrets, lost: str) -> None:
    """Its keyring opens records and its registry says whose they are: replacing them would destroy all of it."""
    (told.root / lost).unlink()
    before = contents(told.root)
    provision(told.root)
    assert contents(told.root) == before


@pytest.mark.parametrize("survived", [0, 5, 8, 12, 17, 18, 19, 20])
def test_an_interrupted_provisioning_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    """The keyring is drawn last: before it, nothing can have been kept, and all is made anew."""
    numbers = count()

    def breaking(path: Path, data: bytes | str, mode: int = 0o600) -> None:
        if next(numbers) == survived:
            raise OSError("the disk is full")
        write(path, data, mode)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write", breaking)
        patch.setattr(module, "write_json", lambda path, value: breaking(path, json.dumps(value)))
        with pytest.raises(OSError, match="the disk is full"):
            provision(tmp_path)
    assert not (tmp_path / "secrets/cryptor/keyring.json").exists()
    complete(provision(tmp_path))
