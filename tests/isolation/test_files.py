"""Whose files are whose: modes of everything below the stack's folders, and what each service's folder holds."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from infra.local.stack import Stack
from trivault import Vault

# Who may enter the stack's folder at all may read these; everybody else cannot even do that.
PUBLIC: Final = ("vault_id", "vault_identity", "enrolment.lock")
CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"

FOLDERS: Final = {
    "gateway": {"ca.pem", "svc.gateway.pem", "svc.gateway.key", "gateway-cryptor.json", "clients.json"},
    "keystore": {"ca.pem", "svc.keystore.pem", "svc.keystore.key", "cryptor-keystore.json"},
    "mapstore": {"ca.pem", "svc.mapstore.pem", "svc.mapstore.key", "cryptor-mapstore.json"},
    "datastore": {
        *("ca.pem", "svc.datastore.pem", "svc.datastore.key", "cryptor-datastore.json"),
        *("s3.access", "s3.secret"),
    },
    "cryptor": {
        *("ca.pem", "clients.json", "keyring.json", "identity.pem", "hpke", "gateway-cryptor.json"),
        *("svc.cryptor.pem", "svc.cryptor.key"),
        *("svc.cryptor.keystore.pem", "svc.cryptor.keystore.key", "cryptor-keystore.json"),
        *("svc.cryptor.datastore.pem", "svc.cryptor.datastore.key", "cryptor-datastore.json"),
        *("svc.cryptor.mapstore.pem", "svc.cryptor.mapstore.key", "cryptor-mapstore.json"),
    },
    "rabbitmq": {"ca.pem", "server.pem", "server.key"},
    "postgres": {"ca.pem", "server.pem", "server.key"},
    "s3": {"ca.pem", "server.pem", "server.key", "auth.csv"},
}


def below(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Everything below a folder, with it; what vanishes meanwhile was temporary."""
    for path in (folder, *folder.rglob("*")):
        try:
            yield path, path.lstat()
        except FileNotFoundError:
            continue


def public(path: Path, stack: Stack) -> bool:
    """Whether others may read a file, once they are in its folder."""
    if path.parent == stack.layout.root:
        return path.name in PUBLIC
    if path.suffix == ".pem":
        return path.read_bytes().startswith(CERTIFICATE)
    return path.parent == stack.layout.logs or path == stack.layout.runtime / "supervisord.pid"


@pytest.fixture
async def used(stack: Stack, vault: Vault) -> Stack:
    """The stack, with records of both kinds in it."""
    await vault.dump(b"small")
    await vault.dump(bytes(300_000))
    return stack


def test_every_file_is_its_owners_alone(used: Stack) -> None:
    """Keys, secrets, profiles, settings, objects, the broker's messages, tables: mode 0600, or 0400."""
    readable = [
        f"{stat.filemode(told.st_mode)} {path}"
        for folder in (used.layout.root, used.layout.runtime)
        for path, told in below(folder)
        if stat.S_ISREG(told.st_mode) and told.st_mode & 0o177 and not public(path, used)
    ]
    assert readable == []


def test_public_files_can_be_changed_by_their_owner_alone(used: Stack) -> None:
    """A certificate or a pinned identity that others replace is as bad as a key that they read."""
    writable = [
        f"{stat.filemode(told.st_mode)} {path}"
        for folder in (used.layout.root, used.layout.runtime)
        for path, told in below(folder)
        if (stat.S_ISREG(told.st_mode) or stat.S_ISDIR(told.st_mode)) and told.st_mode & 0o022
    ]
    assert writable == []


@pytest.mark.usefixtures("alice")
def test_nobody_else_enters_the_folders(used: Stack) -> None:
    """The root, and once more every folder with a secret in it, wherever it may be copied to."""
    layout, secrets = used.layout, used.secrets
    private = [layout.root, layout.etc, layout.logs, layout.objects, layout.rabbitmq, layout.postgres]
    private += [layout.postgres_tls, secrets.authority, *map(secrets.of, FOLDERS), secrets.of("cryptor") / "hpke"]
    private += [*(layout.root / "clients").iterdir()]
    assert {stat.filemode(folder.stat().st_mode) for folder in private} == {"drwx------"}


def test_the_runtime_folder_shows_nothing(used: Stack) -> None:
    """PostgreSQL's user has to pass through it; reading it is for nobody. Supervisor's socket is the owner's alone."""
    assert used.layout.runtime.stat().st_mode & 0o066 == 0
    assert stat.filemode(used.layout.supervisor_socket.stat().st_mode) == "srw-------"


@pytest.mark.parametrize("service", FOLDERS)
def test_a_service_has_its_own_secrets_and_no_others(stack: Stack, service: str) -> None:
    """Four things are needed to read a record, and no folder but the Cryptor's holds more than one service's part."""
    names = {path.name for path in stack.secrets.of(service).iterdir()}
    assert {name for name in names if not name.startswith(".")} == FOLDERS[service]


def test_no_private_key_is_in_two_places(stack: Stack) -> None:
    """Nobody holds another's identity; only PostgreSQL's, which its own user has to read, is there twice."""
    keys: dict[bytes, list[str]] = {}
    for folder in (stack.layout.root, stack.layout.postgres_tls):
        for path in (*folder.rglob("*.key"), *folder.rglob("identity.pem")):
            keys.setdefault(path.read_bytes(), []).append(path.name)
    assert len(keys) >= 12
    twice = [names for names in keys.values() if len(names) > 1]
    assert twice == [["server.key", "server.key"]]


def test_settings_name_only_the_services_own_folder(stack: Stack) -> None:
    """A service is told of no other one's secrets."""
    for service in ("gateway", "cryptor", "keystore", "mapstore", "datastore"):
        settings = (stack.layout.etc / f"{service}.toml").read_text()
        others = [stack.secrets.of(other) for other in FOLDERS if other != service] + [stack.secrets.authority]
        assert str(stack.secrets.of(service)) in settings
        assert [folder for folder in others if str(folder) in settings] == []
