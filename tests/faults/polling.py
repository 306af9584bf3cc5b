"""Waiting for something to become true: polled, with a deadline, never slept for."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")

SECONDS: Final = 45.0  # for anything to happen on a busy machine


async def until(ask: Callable[[], Awaitable[T]], complaint: str, *, every: float = 0.05) -> T:
    """The first true thing that `ask` says.

    Raises:
        AssertionError: with the complaint, if there is none in time.
    """
    deadline = time.monotonic() + SECONDS
    while not (told := await ask()):
        assert time.monotonic() < deadline, complaint
        await asyncio.sleep(every)
    return told
