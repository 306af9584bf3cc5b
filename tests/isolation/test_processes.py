"""What other processes of the machine can learn of the stack's: argv, environment, logs, settings, core dumps."""

import base64
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psutil
import pytest

from infra.local.stack import Stack
from trivault import Vault

SERVICES: Final = ("gateway", "cryptor", "keystore", "mapstore", "datastore")


def secrets_of(stack: Stack) -> dict[str, bytes]:
    """Every secret of the stack by where it is kept, as it stands in its file."""
    folders = {name: stack.secrets.of(name) for name in ("gateway", "cryptor", "keystore", "mapstore", "datastore")}
    found: dict[str, str] = {}
    for name, folder in folders.items():
        for file in folder.glob("*-*.json"):
            for epoch, key in json.loads(file.read_bytes())["epochs"].items():
                found[f"{name}/{file.name}/{epoch}"] = key
    keyring = json.loads((folders["cryptor"] / "keyring.json").read_bytes())
    found |= {f"kek/{name}": key for name, key in keyring["keks"].items()}
    found |= {f"map-mac/{name}": key for name, key in keyring["map_mac_keys"].items()}
    for profile in (stack.layout.root / "clients").glob("*/profile.toml"):
        told = tomllib.loads(profile.read_text())
        found |= {f"{told['name']}/{key}": told[key] for key in ("signing_key", "client_secret")}
    found["s3"] = (folders["datastore"] / "s3.secret").read_text()
    found["cookie"] = (stack.layout.rabbitmq / ".erlang.cookie").read_text()
    return {name: value.strip().encode() for name, value in found.items()} | dict(_files_of_keys(stack))


def _files_of_keys(stack: Stack) -> Iterator[tuple[str, bytes]]:
    """Private keys: the first line of a PEM's body, which has the key in it; all of a raw one."""
    root = stack.layout.root
    for path in (*root.rglob("*.key"), *root.rglob("identity.pem")):
        body = path.read_bytes()
        lines = [line for line in body.splitlines() if not line.startswith(b"-----")]
        yield str(path.relative_to(root)), max(lines, key=len) if b"-----" in body else body


def forms(secret: bytes) -> set[bytes]:
    """How a secret may show itself: as it is, raw instead of hexadecimal and the reverse, in base64."""
    try:
        raw = bytes.fromhex(secret.decode())
    except ValueError:
        raw = secret
    told = {secret, raw, raw.hex().encode(), raw.hex().upper().encode()}
    return told | {base64.b64encode(raw).rstrip(b"="), base64.urlsafe_b64encode(raw).rstrip(b"=")}


def showing(places: dict[str, bytes], secrets: dict[str, bytes]) -> list[str]:
    """Which secret shows where; never the secret itself."""
    return [
        f"{secret} in {place}"
        for secret, value in secrets.items()
        for form in forms(value)
        for place, text in places.items()
        if form in text
    ]


def processes(stack: Stack) -> dict[str, psutil.Process]:
    """Everything that runs for the stack: programs, what they started, and their supervisor."""
    found: dict[str, psutil.Process] = {}
    for name, (_, pid) in stack.status().items():
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            found[f"{name} {each.pid}"] = each
    found["supervisord"] = psutil.Process(psutil.Process(stack.status()["gateway"][1]).ppid())
    return found


@pytest.fixture
async def secrets(stack: Stack, vault: Vault) -> dict[str, bytes]:
    """All secrets of a stack in which something has happened."""
    external_uuid = await vault.dump(bytes(300_000))
    await vault.load(external_uuid)
    found = secrets_of(stack)
    assert {"kek", "map-mac", "alice", "cookie", "s3", "gateway", "secrets", "ca", "clients"} <= {
        name.split("/")[0] for name in found
    }
    assert min(map(len, found.values())) >= 20
    assert len(found) >= 25
    return found


def test_a_secret_that_shows_is_found(secrets: dict[str, bytes]) -> None:
    """The search itself works, in every form."""
    for name, value in secrets.items():
        assert f"{name} in x" in showing({"x": b"--key=" + value + b"\0"}, secrets)
    assert showing({"x": b"--config\0/etc/gateway.toml"}, secrets) == []


def test_no_process_shows_a_secret_in_its_arguments_or_environment(stack: Stack, secrets: dict[str, bytes]) -> None:
    """Both can be read by others: the arguments by everybody on the machine, the environment by the same user."""
    places: dict[str, bytes] = {}
    for name, process in processes(stack).items():
        for kind in ("cmdline", "environ"):
            try:
                places[f"{kind} of {name}"] = Path(f"/proc/{process.pid}/{kind}").read_bytes()
            except (PermissionError, FileNotFoundError, ProcessLookupError):
                continue  # others cannot read it either; or it is over
    assert {f"cmdline of {name} {stack.status()[name][1]}" for name in SERVICES} <= places.keys()
    assert showing(places, secrets) == []


def test_no_log_shows_a_secret(stack: Stack, secrets: dict[str, bytes]) -> None:
    """Not the services', and not those of what they stand on."""
    logs = {path.name: path.read_bytes() for path in stack.layout.logs.iterdir()}
    assert all(logs[f"{service}.log"] for service in SERVICES)
    assert showing(logs, secrets) == []


def test_no_configuration_shows_a_secret(stack: Stack, secrets: dict[str, bytes]) -> None:
    """Settings name files; supervisord's configuration, the broker's definitions and the database's too."""
    files = [*stack.layout.etc.iterdir(), *(stack.layout.postgres / "data").glob("*.conf")]
    assert stack.layout.etc / "supervisord.conf" in files
    assert showing({path.name: path.read_bytes() for path in files}, secrets) == []


def test_no_public_file_shows_a_secret(stack: Stack, secrets: dict[str, bytes]) -> None:
    """Certificates, ids and whatever else others may read."""
    readable = [
        path for path in stack.layout.root.rglob("*") if path.is_file() and path.stat(follow_symlinks=False).st_mode & 4
    ]
    assert len(readable) > 20
    assert showing({str(path): path.read_bytes() for path in readable}, secrets) == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_dumps_no_core(stack: Stack, service: str) -> None:
    """Its memory holds keys or plaintext; the limit is hard, so that it cannot be lifted again."""
    process = psutil.Process(stack.status()[service][1])
    assert process.rlimit(psutil.RLIMIT_CORE) == (0, 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root owns its entries whether or not they are dumpable")
def test_services_are_not_dumpable(stack: Stack) -> None:
    """The kernel gives the entries of such a process to root: nobody attaches to it, the same user included."""
    states = stack.status()
    assert {Path(f"/proc/{states[service][1]}/mem").stat().st_uid for service in SERVICES} == {0}


def test_hardening_takes_dumpability_away() -> None:
    """What every service does first; here in a process that can be asked about itself."""
    program = (
        "import ctypes, messaging.service as service\n"
        "libc = ctypes.CDLL(None)\n"
        "before = libc.prctl(3, 0, 0, 0, 0)\n"  # PR_GET_DUMPABLE
        "service.harden()\n"
        "print(before, libc.prctl(3, 0, 0, 0, 0))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603 - fixed argv
    assert done.stdout.split() == ["1", "0"]
