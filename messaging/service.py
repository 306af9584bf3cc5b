"""Lifecycle of a service process: hardening, logs, signals, readiness, and an exit code that tells.

It does not know what the service does.
"""

import asyncio
import ctypes
import resource
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

import uvloop

from contracts.failures import VaultError
from messaging.logs import configure, log

PR_SET_DUMPABLE: Final = 4  # prctl(2): no core dumps, no ptrace by others, /proc entries owned by root


class Lifecycle:
    """What a service tells the outside, and hears from it."""

    def __init__(self) -> None:
        """Listen for SIGTERM and SIGINT from now on."""
        self._stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    async def run(self) -> None:
        """Say that the service is ready, and return when it shall stop."""
        log.info("ready", action="service.ready")
        await self._stop.wait()
        log.info("stopping", action="service.stopping")


Serve = Callable[[Lifecycle], Coroutine[Any, Any, None]]


def run(name: str, serve: Serve) -> None:
    """Run `serve` until it returns.

    It calls `Lifecycle.run` once it is ready. Exits 0 after a clean stop, 1 otherwise.
    """
    harden()
    configure(name)

    async def main() -> None:
        await serve(Lifecycle())

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())
    except VaultError as error:
        log.error("the service cannot run", action="service.failed", code=str(error.code), reason=error.reason)
        sys.exit(1)
    except Exception:  # noqa: BLE001 - the last one to hear of it
        log.exception("the service failed", action="service.failed")
        sys.exit(1)
    log.info("stopped", action="service.stopped")


def harden() -> None:
    """Keep this process's memory out of core dumps and away from other processes of the same user."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_DUMPABLE) failed")
