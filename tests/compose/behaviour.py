"""The vault in containers as a user and as a thief meet it. In this order: each test finds what those before it left.

`tests/compose/run` brings the images and the engine. What one container can reach is tried from its own network
namespace, by address, so that no name has to resolve.
"""

import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest

PROJECT: Final = "trivault-test"
FILES: Final = Path(os.environ["TRIVAULT_FILES"])
SERVICES: Final = ("gateway", "cryptor", "keystore", "mapstore", "datastore")
SERVERS: Final = ("rabbitmq", "gateway-db", "keystore-db", "mapstore-db", "s3")
LARGE: Final = 52_428_800

# Who may open what. Nothing else may even answer: not with a refusal, either.
DOORS: Final = {
    "client": {("rabbitmq", 5671)},
    "gateway": {("rabbitmq", 5671), ("gateway-db", 5432)},
    "cryptor": {("rabbitmq", 5671)},
    "keystore": {("rabbitmq", 5671), ("keystore-db", 5432)},
    "mapstore": {("rabbitmq", 5671), ("mapstore-db", 5432)},
    "datastore": {("rabbitmq", 5671), ("s3", 9000)},
    **{server: set() for server in SERVERS},
}
PORTS: Final = (4369, 5432, 5671, 5672, 9000, 9464, 15672, 15692, 25672)
OUTSIDE: Final = "1.1.1.1"

# Prints, per address and port: open, refused (somebody is there), or away.
PROBE: Final = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def knock(target):
    try:
        socket.create_connection(target, 2).close()
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "away"
    return "open"
targets = [tuple(each) for each in json.loads(sys.argv[1])]
with ThreadPoolExecutor(64) as pool:
    print(json.dumps(list(pool.map(knock, targets))))
"""


def run(*argv: str, stdin: bytes | None = None, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    """Run a program; its output."""
    done = subprocess.run(argv, input=stdin, capture_output=True, timeout=300, check=False)  # noqa: S603 - fixed argv
    assert done.returncode == 0 or not check, (argv, done.stdout[-2000:], done.stderr[-2000:])
    return done


def docker(*arguments: str, **more: Any) -> str:
    """Ask the engine."""
    return run("docker", *arguments, **more).stdout.decode()


COMPOSE: Final = (
    ["docker", "compose"] if run("docker", "compose", "version", check=False).returncode == 0 else ["docker-compose"]
)


def compose(*arguments: str, who: str = "me", **more: Any) -> subprocess.CompletedProcess[bytes]:
    """Run docker compose, whichever there is, for one of the clients."""
    return run("env", f"TRIVAULT_CLIENT={who}", *COMPOSE, *arguments, **more)


def client(*arguments: str, **more: Any) -> bytes:
    """What `trivault` prints in a client's container."""
    return compose("run", "--rm", "-T", "client", "trivault", *arguments, **more).stdout


def containers(service: str) -> list[str]:
    """Ids of a service's running containers."""
    return docker(
        *("ps", "--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}"),
        *("--filter", f"label=com.docker.compose.service={service}"),
    ).split()


def inspect(*names: str) -> list[dict[str, Any]]:
    """What the engine tells of containers or images."""
    told: list[dict[str, Any]] = json.loads(docker("inspect", *names))
    return told


def up(*arguments: str) -> None:
    """Bring the vault up; return when every container is healthy."""
    compose("up", "--detach", *arguments)
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        states = [inspect(each)[0]["State"] for name in (*SERVICES, *SERVERS) for each in containers(name)]
        if len(states) >= len(SERVICES + SERVERS) and all(each["Health"]["Status"] == "healthy" for each in states):
            return
        time.sleep(1)
    pytest.fail(compose("ps").stdout.decode())


def everybody() -> dict[str, str]:
    """One container of each, by its service's name."""
    return {name: containers(name)[0] for name in (*SERVICES, *SERVERS)}


@pytest.fixture(scope="module")
def records() -> dict[str, bytes]:
    """What was dumped so far, by its external_uuid."""
    return {}


@pytest.fixture(scope="module")
def idle_client() -> Iterator[str]:
    """A client's container that waits."""
    command = ["python", "-c", "import time; time.sleep(3600)"]
    compose("run", "--detach", "--name", f"{PROJECT}-idle", "client", *command)
    yield f"{PROJECT}-idle"
    docker("rm", "--force", f"{PROJECT}-idle")


def dump(content: bytes, **more: Any) -> str:
    """The external_uuid of new record."""
    return str(UUID(client("dump", "-", stdin=content, **more).decode().strip()))


# --- as a user -------------------------------------------------------------------------------------------------------


def test_the_vault_comes_up() -> None:
    """From nothing: certificates, secrets, databases, a client; and again, without changing anything."""
    up()
    before = everybody()
    up()
    assert everybody() == before


def test_records_come_back(records: dict[str, bytes]) -> None:
    """A small one from stdin, a large one, and a file of this machine."""
    (FILES / "scan.dcm").write_bytes(b"a scan")
    for content in (b"a small record", os.urandom(LARGE)):
        records[dump(content)] = content
    records[client("dump", "/files/scan.dcm").decode().strip()] = b"a scan"
    for external_uuid, content in records.items():
        assert client("load", external_uuid) == content


def test_a_directory_is_ingested_and_exported() -> None:
    """Every file is a record; all come back byte by byte, through a volume of the client."""
    archive = FILES / "archive"
    shutil.rmtree(archive, ignore_errors=True)
    archive.mkdir()
    contents = {f"{number:03}.bin": os.urandom(1 + 37 * number) for number in range(200)}
    for name, content in contents.items():
        (archive / name).write_bytes(content)
    client("ingest", "/files/archive", "--manifest", "archive.jsonl")
    client("verify", "archive.jsonl")
    client("export", "archive.jsonl", "restored")
    packed = compose("run", "--rm", "-T", "client", "tar", "-C", "restored", "-c", ".")
    with tarfile.open(fileobj=BytesIO(packed.stdout)) as tar:
        files = [(Path(member.name).name, tar.extractfile(member)) for member in tar if member.isfile()]
        assert {name: file.read() for name, file in files if file is not None} == contents


def test_a_second_client_is_enrolled_on_the_live_vault(records: dict[str, bytes]) -> None:
    """It can dump at once, in a volume of its own, and loads nothing of others. Its name is not given out twice."""
    add = ("run", "--rm", "admin", "client", "add", "nurse")
    compose(*add, who="nurse")
    external_uuid = dump(b"the nurse's", who="nurse")
    assert client("load", external_uuid, who="nurse") == b"the nurse's"
    for who, theirs in (("me", external_uuid), ("nurse", next(iter(records)))):
        refused = compose("run", "--rm", "-T", "client", "trivault", "load", theirs, "-o", "x", who=who, check=False)
        assert (refused.returncode, b"not_found" in refused.stderr) == (5, True)
    again = compose(*add, who="another", check=False)
    assert (again.returncode, b"enrolled already" in again.stdout + again.stderr) == (3, True)


def test_an_operator_sweeps() -> None:
    """From a client's container; what an hour-old vault leaves behind is too young to be looked at."""
    compose("run", "--rm", "admin", "client", "add", "oscar", "--operator", who="oscar")
    swept = compose("run", "--rm", "-T", "client", "trivault-admin", "sweep", "--dry-run", "--json", who="oscar")
    report = json.loads(swept.stdout)
    assert (report["stopped"], report["dry_run"]) == (None, True)


def test_workers_scale(records: dict[str, bytes]) -> None:
    """Three Cryptors and two of each table store share the work; old records load, new ones too."""
    up("--scale", "cryptor=3", "--scale", "keystore=2", "--scale", "mapstore=2")
    assert [len(containers(name)) for name in ("cryptor", "keystore", "mapstore")] == [3, 2, 2]
    for vhost, queue, wanted in (
        ("edge", "cryptor.interactive", 3),
        ("keystore", "requests", 2),
        ("mapstore", "requests", 2),
    ):
        argv = ("-q", "list_consumers", "-p", vhost, "--no-table-headers", "queue_name")
        assert docker("exec", containers("rabbitmq")[0], "rabbitmqctl", *argv).split().count(queue) == wanted
    for number in range(6):
        records[dump(bytes([number]) * 1000)] = bytes([number]) * 1000
    for external_uuid, content in records.items():
        assert client("load", external_uuid) == content


def test_records_and_clients_survive_that_everything_is_made_anew(records: dict[str, bytes]) -> None:
    """All containers are removed; what stays are the volumes."""
    before = set(everybody().values())
    compose("down", "--timeout", "30")
    up()
    assert not before & set(everybody().values())
    for external_uuid, content in records.items():
        assert client("load", external_uuid) == content
    assert dump(b"again", who="nurse")


# --- as a thief ------------------------------------------------------------------------------------------------------


def test_nobody_reaches_more_than_their_own_doors(idle_client: str) -> None:
    """From every container to every address of every other: who shares no network is not even refused.

    Nor is there a way out.
    """
    everyone = everybody() | {"client": idle_client}
    for source in everyone:
        opened, near = reach(source, everyone)
        assert opened == DOORS[source], source
        assert near == {name for name in everyone if {source, name} in NEIGHBOURS}, source


def test_a_way_between_two_stores_would_be_found(idle_client: str) -> None:
    """One that is opened for a moment: so the test before this one can fail."""
    everyone = everybody() | {"client": idle_client}
    docker("network", "connect", f"{PROJECT}_mapstore", everyone["keystore"])
    try:
        assert "mapstore" in reach("keystore", everyone)[1]
    finally:
        docker("network", "disconnect", f"{PROJECT}_mapstore", everyone["keystore"])


NEIGHBOURS: Final = [{source, target} for source, doors in DOORS.items() for target, _ in doors]


def reach(source: str, everyone: dict[str, str]) -> tuple[set[tuple[str, int]], set[str]]:
    """The ports that open to a container, and who answers at all, from everybody else's every address and outside."""
    others = {
        each["IPAddress"]: name
        for name, identity in everyone.items()
        for each in inspect(identity)[0]["NetworkSettings"]["Networks"].values()
        if name != source
    }
    assert len(set(others.values())) == len(everyone) - 1
    targets = [(address, port) for address in (*others, OUTSIDE) for port in PORTS]
    found = dict(zip(targets, probe(everyone[source], targets), strict=True))
    opened = {(others.get(address, "outside"), port) for (address, port), state in found.items() if state == "open"}
    return opened, {others.get(address, "outside") for (address, _), state in found.items() if state != "away"}


def probe(container: str, targets: Sequence[tuple[str, int]]) -> list[str]:
    """Knock at every target from a container's network namespace."""
    where = ("run", "--rm", "--network", f"container:{container}", "--cap-drop", "ALL", "--user", "10001")
    told: list[str] = json.loads(docker(*where, "trivault-gateway:0.1.0", "python", "-c", PROBE, json.dumps(targets)))
    return told


def test_no_container_has_a_capability_or_can_write_to_its_image(idle_client: str) -> None:
    """Nor become somebody else; nor change its own secrets."""
    for name, identity in (everybody() | {"client": idle_client}).items():
        status = docker("exec", identity, "cat", "/proc/1/status")
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(fields[kind], 16) == 0, name
        assert fields["NoNewPrivs"] == "1", name
        assert "0" not in fields["Uid"].split() + fields["Gid"].split(), name
        for place in ("/x", "/usr/x", "/client/x" if name == "client" else "/vault/x"):
            done = run("docker", "exec", identity, "sh", "-c", f"touch {place}", check=False)
            assert (done.returncode, b"Read-only file system" in done.stderr) == (1, True), (name, place)


def test_no_secret_is_in_what_the_engine_tells(idle_client: str) -> None:
    """Not in its description of a container or an image, not in a log, an argument or an environment."""
    known = secrets()
    assert len(known) > 30
    everyone = everybody() | {"client": idle_client}
    images = [each["Image"] for each in inspect(*everyone.values())]
    told = json.dumps(inspect(*everyone.values(), *images))
    told += "".join(docker("history", "--no-trunc", image) for image in images)
    for name, identity in everyone.items():
        told += docker("top", identity, "-eo", "pid,args")
        logs = run("docker", "logs", identity)
        told += (logs.stdout + logs.stderr).decode()
        if name != "s3":  # rclone takes its keys from its own environment, which only its own user can read
            told += docker("exec", identity, "sh", "-c", "tr '\\0' '\\n' </proc/1/environ", check=False)
    assert "/client/profile.toml" in told
    assert [secret for secret in known if secret in told] == []


def secrets() -> set[str]:
    """Every line of private keys, and every long value, in the vault's volumes: read as only the host can."""
    volumes = docker("volume", "ls", "--quiet", "--filter", f"name={PROJECT}").split()
    mounts = [part for name in volumes if not name.endswith("-data") for part in ("--volume", f"{name}:/all/{name}:ro")]
    argv = ("run", "--rm", "--user", "0", *mounts, "trivault-gateway:0.1.0", "tar", "-C", "/all", "-c", ".")
    found: set[str] = set()
    with tarfile.open(fileobj=BytesIO(run("docker", *argv).stdout)) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is None or not member.name.endswith((".key", ".json", ".toml", "identity.pem", "s3.secret")):
                continue
            text = file.read()
            if member.name.startswith("./trivault-test_cryptor-hpke"):
                found.add(text.hex())
            else:
                found |= {word for line in text.decode().splitlines() for word in words(line)}
    return found - {public for public in found if public.startswith("/vault")}


def words(line: str) -> Iterator[str]:
    """What in a line could be a secret."""
    if "vault_identity" in line or "client_id" in line or "verify_key" in line or "vault_id" in line:
        return
    for word in line.replace('"', " ").replace(",", " ").split():
        if len(word) >= 32 and not word.startswith(("/", "amqps:", "https:", "^")):
            yield word
