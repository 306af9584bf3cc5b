"""What the init container lays out, to each its own, readable by nobody else; and how a client is enrolled there."""

import json
import os
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from docs.generate.configuration import SERVICES
from infra import admin, enrolment
from infra.compose import vault as module
from infra.compose.vault import COPY, GROUPS, REGISTRY, ContainerVault
from infra.enrolment import EnrolmentError
from infra.errors import StackError
from infra.files import private_folder
from messaging.settings import load
from trivault import Profile

DATABASE = {
    *("ca.pem", "server.pem", "server.key", "serve.sh"),
    *("postgresql.conf", "pg_hba.conf", "pg_ident.conf", "schema.sql", "initdb.options"),
}
ROOT = Path(__file__).parents[3]
TABLE = {"ca.pem", "settings.toml"}
HOLDS = {
    "gateway": TABLE | {"svc.gateway.pem", "svc.gateway.key", "gateway-cryptor.json"},
    "cryptor": TABLE
    | {"keyring.json", "identity.pem", "hpke", "svc.cryptor.pem", "svc.cryptor.key", "gateway-cryptor.json"}
    | {
        f"{piece}"
        for store in ("keystore", "datastore", "mapstore")
        for piece in (f"svc.cryptor.{store}.pem", f"svc.cryptor.{store}.key", f"cryptor-{store}.json")
    },
    "keystore": TABLE | {"svc.keystore.pem", "svc.keystore.key", "cryptor-keystore.json"},
    "mapstore": TABLE | {"svc.mapstore.pem", "svc.mapstore.key", "cryptor-mapstore.json"},
    "datastore": TABLE | {"svc.datastore.pem", "svc.datastore.key", "cryptor-datastore.json", "s3.access", "s3.secret"},
    "s3": {"ca.pem", "server.pem", "server.key", "auth.csv"},
    "rabbitmq": {
        "ca.pem",
        "server.pem",
        "server.key",
        "rabbitmq.conf",
        "definitions.json",
        "enabled_plugins",
        "serve.sh",
    },
    "gateway-db": DATABASE,
    "keystore-db": DATABASE,
    "mapstore-db": DATABASE,
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Empty volumes, where the containers mount them."""
    for folder in ("vault", "registry", "client", "seen", "data", *(f"secrets/{name}" for name in GROUPS)):
        (tmp_path / folder).mkdir(parents=True, mode=0o700)
    return tmp_path


@pytest.fixture
def vault(base: Path) -> ContainerVault:
    """A new vault. Every group is our own: another takes root, or a container."""
    made = ContainerVault(base, dict.fromkeys(GROUPS, os.getgid()))
    made.init()
    return made


def mode(path: Path) -> int:
    """Permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def test_each_service_holds_its_own_and_nothing_else(vault: ContainerVault, base: Path) -> None:
    """Above all: nobody but the Cryptor holds the keyring, nobody at all the CA."""
    assert {name: {path.name for path in (base / "secrets" / name).iterdir()} for name in GROUPS} == HOLDS
    assert vault.secrets.provisioned()


@pytest.mark.usefixtures("vault")
def test_files_are_for_their_group_to_read(base: Path) -> None:
    """Not to write, and not for others; what replaces a file stays in the group. What is written to lies apart."""
    for name in GROUPS:
        folder = base / "secrets" / name
        assert mode(folder) == 0o2750
        assert {mode(path) for path in folder.iterdir() if path.is_file()} == {0o640}
    assert mode(base / "seen") == mode(base / "data") == mode(base / "data/objects") == 0o2770
    assert (mode(base / "registry"), mode(base / "registry/clients.json")) == (0o755, 0o644)
    assert mode(base / "vault") == mode(base / "vault/ca") == 0o700


@pytest.mark.usefixtures("vault")
@pytest.mark.parametrize("service", SERVICES)
def test_every_service_accepts_its_settings(base: Path, tmp_path: Path, service: str) -> None:
    """The strict models read them, with files that are the service's own, as its container copies them."""
    own = private_folder(tmp_path / "copy")
    hpke = private_folder(tmp_path / "hpke")
    for path in (base / "secrets" / service).glob("*.*"):
        shutil.copyfile(path, own / path.name)
        (own / path.name).chmod(0o600)
    told = (own / "settings.toml").read_text()
    for place, here in ((COPY, own), (REGISTRY.parent, base / "registry"), (Path("/var/lib/hpke"), hpke)):
        told = told.replace(f'"{place}', f'"{here}')
    (own / "settings.toml").write_text(told)
    settings = load(SERVICES[service][1], ["--config", str(own / "settings.toml")])
    assert settings.monitoring is not None
    assert f"127.0.0.1:{settings.monitoring.port}/ready" in (ROOT / "docker-compose.yml").read_text()


def test_init_again_keeps_all_secrets(vault: ContainerVault, base: Path) -> None:
    """It runs at every `up`."""
    before = {path: path.read_bytes() for path in base.rglob("*") if path.is_file()}
    vault.init()
    assert {path: path.read_bytes() for path in base.rglob("*") if path.is_file()} == before


def test_the_first_client_has_a_profile(vault: ContainerVault, base: Path) -> None:
    """In its own volume, for itself only; the broker will know it."""
    profile = Profile.read(base / "client" / "profile.toml")
    assert (profile.name, profile.url) == ("me", "amqps://rabbitmq:5671/edge")
    assert [client.name for client in enrolment.registry_of(vault.secrets).clients] == ["me"]
    assert "me" in _users(base)


def _users(base: Path) -> list[str]:
    told = json.loads((base / "secrets/rabbitmq/definitions.json").read_text())
    return [user["name"] for user in told["users"]]


@pytest.fixture
def broker(vault: ContainerVault, base: Path) -> Iterator[None]:
    """Takes over the definitions, as rabbitmq.sh does."""
    assert vault.secrets.provisioned()
    stop = threading.Event()

    def follow() -> None:
        while not stop.wait(0.01):
            told = (base / "secrets/rabbitmq/definitions.json").read_bytes()
            (base / "seen/definitions").write_text(sha256(told).hexdigest() + "\n")

    thread = threading.Thread(target=follow)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.mark.usefixtures("broker")
def test_a_client_is_enrolled_by_command(vault: ContainerVault, base: Path, tmp_path: Path) -> None:
    """Broker and registry know it, files keep their modes, and its profile is its own."""
    profile = tmp_path / "nurse" / "profile.toml"
    assert admin.run(["client", "add", "nurse", "--profile-out", str(profile)], lambda _: vault) == 0
    assert Profile.read(profile).name == "nurse"
    assert _users(base)[-2:] == ["me", "nurse"]
    assert [client.name for client in enrolment.registry_of(vault.secrets).clients] == ["me", "nurse"]
    assert mode(base / "registry/clients.json") == 0o644
    assert mode(base / "secrets/rabbitmq/definitions.json") == 0o640


@pytest.mark.usefixtures("broker")
def test_a_profile_is_not_overwritten(vault: ContainerVault) -> None:
    """Of who is enrolled in the mounted volume already."""
    with pytest.raises(EnrolmentError, match="exists: remove it"):
        vault.enrol("nurse")
    assert [client.name for client in enrolment.registry_of(vault.secrets).clients] == ["me"]


def test_a_broker_that_does_not_take_a_client_over_is_told_of(
    vault: ContainerVault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The client is enrolled: a broker that is down reads the same file when it starts."""
    monkeypatch.setattr(module, "TAKEN_OVER_SECONDS", 0.1)
    began = time.monotonic()
    with pytest.raises(StackError, match="does not know it yet"):
        vault.enrol("nurse", profile=tmp_path / "nurse" / "profile.toml")
    assert time.monotonic() - began < 5
    out = tmp_path / "oscar" / "profile.toml"
    assert admin.run(["client", "add", "oscar", "--profile-out", str(out)], lambda _: vault) == admin.DOWN
    assert "does not know it yet" in capsys.readouterr().err
