"""How work is put on: many at once from one process, or one at a time, and how long it took."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from statistics import median
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def at_once(
    act: Callable[[Item], Awaitable[Result]], items: Iterable[Item], in_flight: int
) -> tuple[float, list[Result]]:
    """Do it for every item, so many under way at any time; items per second, and the results."""
    waiting = iter(items)
    results: list[Result] = []

    async def work() -> None:
        for item in waiting:
            results.append(await act(item))  # noqa: PERF401 - an async comprehension would not share `waiting` sooner

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(work())
    return len(results) / (time.perf_counter() - began), results


async def one_by_one(act: Callable[[Item], Awaitable[object]], items: Iterable[Item]) -> float:
    """Do it for every item, one after the other; the median duration in milliseconds."""
    return 1000 * median([(await timed(act(item)))[0] for item in items])


async def timed(act: Awaitable[Result]) -> tuple[float, Result]:
    """How many seconds it took, and what it returned."""
    began = time.perf_counter()
    result = await act
    return time.perf_counter() - began, result
