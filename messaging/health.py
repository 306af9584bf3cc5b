"""What a process knows of its own health: whether its event loop turns, and which dependencies it is waiting for.

Kept up by two tasks on the event loop and read from any thread: a loop that has stopped turning is seen because nobody
says any more that it turns. This module does not know who asks.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Final

from messaging import metrics
from messaging.logs import log

TURN_SECONDS: Final = 0.25  # between two looks at the clock
STALL_SECONDS: Final = 10.0  # our longest step takes milliseconds; a machine that swaps may take seconds
CHECK_SECONDS: Final = 1.0  # between two rounds of checks
PATIENCE_SECONDS: Final = 2.0  # for one check: what answers later than that is of no use to a request either

STARTING: Final = "starting"
STOPPING: Final = "stopping"

Check = Callable[[], Awaitable[None]]  # returns if the dependency is fine, raises if it is not


class Health:
    """The health of this process."""

    def __init__(self) -> None:
        """Starting; `kept` keeps it up to date."""
        self._turned = time.monotonic()
        self._checks: Mapping[str, Check] | None = None
        self._waiting_for: tuple[str, ...] = (STARTING,)

    @property
    def live(self) -> bool:
        """Whether the event loop turned lately."""
        return time.monotonic() - self._turned < STALL_SECONDS

    @property
    def waiting_for(self) -> tuple[str, ...]:
        """What keeps the service from working; nothing if it is ready."""
        return self._waiting_for

    def started(self, checks: Mapping[str, Check]) -> None:
        """From now on it is ready whenever all checks pass."""
        self._checks = checks

    def stopping(self) -> None:
        """It works off what it has, and takes no more."""
        self._checks = None
        self._waiting_for = (STOPPING,)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Keep it up to date while the context is open."""
        async with asyncio.TaskGroup() as tasks:
            chores = [tasks.create_task(self._keep_turning()), tasks.create_task(self._keep_checking())]
            try:
                yield
            finally:
                for chore in chores:
                    chore.cancel()

    async def _keep_turning(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(TURN_SECONDS)
            self._turned = time.monotonic()
            metrics.EVENT_LOOP_LAG.observe(max(self._turned - before - TURN_SECONDS, 0))

    async def _keep_checking(self) -> None:
        while True:
            await self._check()
            await asyncio.sleep(CHECK_SECONDS)

    async def _check(self) -> None:
        checks = self._checks
        if checks is None:
            return
        async with asyncio.TaskGroup() as tasks:
            passed = {name: tasks.create_task(_passes(check)) for name, check in checks.items()}
        if self._checks is not checks:  # it is stopping by now
            return
        lost = tuple(name for name, up in passed.items() if not up.result())
        for name in checks:
            metrics.DEPENDENCY_UP.labels(name).set(name not in lost)
        if lost != self._waiting_for:
            level = logging.WARNING if lost else logging.INFO
            log.log(level, "what the service waits for has changed", action="service.waiting", waiting_for=lost)
        self._waiting_for = lost


async def _passes(check: Check) -> bool:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await check()
    except Exception:  # noqa: BLE001 - it cannot be used, whatever it is; whoever uses it says why
        return False
    return True
