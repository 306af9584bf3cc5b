"""Lifecycle of a service process: hardening, logs, signals, health, and an exit code that tells.

It does not know what the service does.
"""

import asyncio
import ctypes
import gc
import resource
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

import uvloop

from contracts.failures import VaultError
from contracts.limits import MIB
from messaging.health import Check, Health
from messaging.logs import configure, log
from messaging.metrics import count_line
from messaging.monitoring import monitored
from messaging.settings import ServiceSettings

PR_SET_DUMPABLE: Final = 4  # prctl(2): no core dumps, no ptrace by others, /proc entries owned by root
M_TRIM_THRESHOLD: Final = -1  # mallopt(3)
M_MMAP_THRESHOLD: Final = -3

GC_THRESHOLD: Final = 10_000  # containers made and not freed before a collection; one batch has more than CPython's 700

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class Lifecycle:
    """What a service tells the outside, and hears from it."""

    def __init__(self) -> None:
        """Listen for SIGTERM and SIGINT from now on."""
        self.health = Health()
        self._stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    async def run(self, **dependencies: Check) -> None:
        """Say that the service is ready while its dependencies are, and return when it shall stop."""
        self.health.started(dependencies)
        spare_the_collector()
        log.info("ready", action="service.ready")
        await self._stop.wait()
        self.health.stopping()
        log.info("stopping", action="service.stopping")


Serve = Callable[[Lifecycle], Coroutine[Any, Any, None]]


def run(name: str, settings: ServiceSettings, serve: Serve) -> None:
    """Run `serve` until it returns, and answer the service's operators meanwhile.

    It calls `Lifecycle.run` once it is ready. Exits 0 after a clean stop, 1 otherwise.
    """
    harden()
    keep_buffers()
    configure(name, settings.log_level, processors=[count_line])

    async def main() -> None:
        lifecycle = Lifecycle()
        async with monitored(settings.monitoring, lifecycle.health):
            await serve(lifecycle)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    except VaultError as error:
        advice = getattr(error, "__notes__", [])  # our own (`Broker.open` and its like): where, and what to look at
        failed = {"code": str(error.code), "reason": error.reason, "advice": advice}
        log.error("the service cannot run", action="service.failed", **failed)
        sys.exit(1)
    except Exception:  # noqa: BLE001 - the last one to hear of it
        log.exception("the service failed", action="service.failed")
        sys.exit(1)
    log.info("stopped", action="service.stopped")


def harden() -> None:
    """Keep this process's memory out of core dumps and away from other processes of the same user."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if _LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE) failed")


def keep_buffers() -> None:
    """Have glibc reuse large buffers instead of returning each to the kernel, which would hand it out zeroed again.

    Saves an eighth of the CPU of a 50 MiB dump in Cryptor and DataStore. Other C libraries have no such call.
    """
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(M_MMAP_THRESHOLD, 32 * MIB)
        _LIBC.mallopt(M_TRIM_THRESHOLD, 64 * MIB)


def spare_the_collector() -> None:
    """Keep what a started service consists of out of every later garbage collection, and collect less often.

    Traversing it again and again took a fifth of the Cryptor's CPU under bulk ingestion.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
