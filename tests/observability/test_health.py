"""/ready tells what a service waits for, and /live whether its event loop turns."""

import asyncio
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from ipaddress import IPv4Address

import pytest

from contracts.failures import FailureCode, TransientError
from infra.local.layout import Ports
from infra.local.stack import REPOSITORY, Stack
from messaging import health
from messaging.health import Health
from messaging.monitoring import REQUESTS, monitored
from messaging.settings import MonitoringSettings
from tests.faults.polling import SECONDS, until
from tests.observability.scraping import SERVICES

BROKER = {
    "gateway": {"broker", "events", "requests"},
    "cryptor": {"edge", "keystore", "datastore", "mapstore", "bulk", "interactive"},
    "keystore": {"broker", "requests"},
    "mapstore": {"broker", "requests"},
    "datastore": {"broker", "requests"},
}


async def waiting(stack: Stack, service: str) -> set[str]:
    """What a service says that it waits for; the status has to agree."""
    status, body = await asyncio.to_thread(stack.monitoring, service, "/ready")
    told = json.loads(body)
    assert (status == 200) == told["ready"] == (not told["waiting_for"])
    return set(told["waiting_for"])


async def becomes(stack: Stack, service: str, wanted: set[str]) -> None:
    """Poll until a service waits for exactly that."""

    async def does() -> bool:
        return await waiting(stack, service) == wanted

    await until(does, f"{service} does not come to wait for {wanted}")


@pytest.fixture
async def mended(stack: Stack) -> AsyncIterator[None]:
    """Whatever was stopped runs again, and everybody is ready, before the next test."""
    yield
    await asyncio.to_thread(stack.up, tied=True)
    for service in SERVICES:
        await becomes(stack, service, set())


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_is_live_and_ready_and_says_no_more(stack: Stack, service: str) -> None:
    """Three paths, and no other."""
    await becomes(stack, service, set())
    assert (await asyncio.to_thread(stack.monitoring, service, "/live"))[0] == 200
    for path in ("/", "/metrics/", "/config", "/debug/pprof"):
        assert (await asyncio.to_thread(stack.monitoring, service, path)) == (404, "")


def test_status_shows_health_and_where_the_metrics_are(stack: Stack) -> None:
    """`./dev status`; and the file for Prometheus names the same ports."""
    argv = [sys.executable, "-m", "infra.local", "status", "--root", str(stack.layout.root)]
    done = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)  # noqa: S603 - fixed argv
    shown = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    targets = json.loads(stack.layout.targets.read_text())
    assert [each["labels"]["process"] for each in targets] == list(SERVICES)
    for each in targets:
        assert shown[each["labels"]["process"]].endswith(f" ready      http://{each['targets'][0]}/metrics")


@pytest.mark.usefixtures("mended")
async def test_without_the_broker_nobody_is_ready(stack: Stack) -> None:
    """Each says what it waits for; none of them is dead; with the broker they are ready again."""
    await asyncio.to_thread(stack.stop, "rabbitmq")
    for service in SERVICES:
        await becomes(stack, service, BROKER[service])
        assert (await asyncio.to_thread(stack.monitoring, service, "/live"))[0] == 200
    await asyncio.to_thread(stack.up, tied=True)
    for service in SERVICES:
        await becomes(stack, service, set())


@pytest.mark.usefixtures("mended")
async def test_without_the_database_those_that_need_it_are_not_ready(stack: Stack) -> None:
    """The Cryptor and the DataStore do not need it."""
    await asyncio.to_thread(stack.stop, "postgres")
    for service in ("gateway", "keystore", "mapstore"):
        await becomes(stack, service, {"database"})
    for service in ("cryptor", "datastore"):
        assert await waiting(stack, service) == set()
    await asyncio.to_thread(stack.up, tied=True)
    for service in SERVICES:
        await becomes(stack, service, set())


async def test_without_its_volume_the_datastore_is_not_ready(stack: Stack) -> None:
    """As if it were not mounted any more."""
    folder = stack.layout.objects / "incoming"
    moved = folder.rename(folder.with_name("elsewhere"))
    try:
        await becomes(stack, "datastore", {"objects"})
    finally:
        moved.rename(folder)
    await becomes(stack, "datastore", set())


# --- without a stack ------------------------------------------------------------------------------------------------


@pytest.fixture
async def port() -> int:
    """A free one."""
    return Ports.free().s3


def get(port: int, path: str) -> tuple[int, object]:
    """Status and JSON of one GET."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.loads(refusal.read())


async def test_it_is_ready_from_its_start_to_its_stop_only(port: int) -> None:
    """Starting, then a dependency that comes late, then ready, then stopping."""
    told, late = Health(), asyncio.Event()

    async def check() -> None:
        if not late.is_set():
            raise TransientError(FailureCode.BUSY, "not_yet")

    async def says(status: int, *waiting_for: str) -> None:
        async def does() -> bool:
            body = {"ready": not waiting_for, "waiting_for": list(waiting_for)}
            return await asyncio.to_thread(get, port, "/ready") == (status, body)

        await until(does, f"it never said {waiting_for}")

    async with monitored(MonitoringSettings(port=port), told):
        await says(503, "starting")
        told.started({"late": check})
        await says(503, "late")
        late.set()
        await says(200)
        told.stopping()
        await says(503, "stopping")


async def test_a_dependency_that_hangs_is_not_ready(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And does not hold up those who ask."""
    monkeypatch.setattr(health, "PATIENCE_SECONDS", 0.05)
    told = Health()
    async with monitored(MonitoringSettings(port=port), told):
        told.started({"stuck": asyncio.Event().wait})  # type: ignore[dict-item]  # a check that never returns

        async def found() -> bool:
            return told.waiting_for == ("stuck",)

        await until(found, "nobody noticed")


async def test_a_stuck_event_loop_is_not_live(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen from outside while the loop stands still: here, because it waits for the thread that asks."""
    monkeypatch.setattr(health, "STALL_SECONDS", 0.5)
    seen: list[tuple[int, object]] = []

    def watch() -> None:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and (not seen or seen[-1][0] == 200):
            seen.append(get(port, "/live"))

    async with monitored(MonitoringSettings(port=port), Health()):
        thread = threading.Thread(target=watch)
        thread.start()
        thread.join(SECONDS)
    assert seen[-1] == (503, {"live": False})


async def test_nothing_listens_unless_the_settings_say_so(port: int) -> None:
    """No monitoring section, no port."""
    async with monitored(None, Health()):
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_peers_that_say_nothing_are_bounded(port: int) -> None:
    """Those beyond the limit are hung up on; none of them grows the process."""
    async with monitored(MonitoringSettings(address=IPv4Address("127.0.0.1"), port=port), Health()):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(REQUESTS)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(SECONDS):
            assert await reader.read() == b""
        for _, each in (*idle, (reader, writer)):
            each.close()
