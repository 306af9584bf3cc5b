"""Doing several things at once, and sharing memory fairly while doing them."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from contracts.failures import FailureCode, PermanentError
from messaging.together import together
from workers.cryptor.budget import ByteBudget


async def _turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def _after(turns: int, result: int | Exception) -> int:
    await _turns(turns)
    if isinstance(result, Exception):
        raise result
    return result


async def test_results_come_in_order_whoever_is_first() -> None:
    """As `gather` has them."""
    assert await together(_after(9, 1), _after(0, 2), _after(4, 3)) == [1, 2, 3]
    assert await together() == []


async def test_the_first_failure_is_raised_plainly_and_the_others_end() -> None:
    """Callers catch by disposition and never meet a group; nothing goes on behind their back."""
    others = asyncio.create_task(asyncio.sleep(3600))

    async def waiting() -> None:
        await others

    with pytest.raises(PermanentError, match="not_found"):
        await together(waiting(), _after(1, PermanentError(FailureCode.NOT_FOUND)))
    assert others.cancelled()


async def test_a_failure_within_a_failure_is_raised_plainly_too() -> None:
    """Nested groups are opened down to what happened first."""

    async def nested() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_after(0, ConnectionResetError()))

    with pytest.raises(ConnectionResetError):
        await together(nested())


async def test_cancelling_the_whole_cancels_every_part() -> None:
    """And is a cancellation to who waits for it."""
    parts = [asyncio.create_task(asyncio.sleep(3600)) for _ in range(2)]

    async def waiting(part: asyncio.Task[None]) -> None:
        await part

    whole = asyncio.create_task(together(*map(waiting, parts)))
    await _turns()
    whole.cancel()
    with pytest.raises(asyncio.CancelledError):
        await whole
    assert all(part.cancelled() for part in parts)


class Job:
    """Somebody who holds bytes until told to let go."""

    def __init__(self, budget: ByteBudget, size: int) -> None:
        """Ask for `size` bytes at once."""
        self.holding = False
        self._let_go = asyncio.Event()
        self.task = asyncio.create_task(self._hold(budget, size))

    async def _hold(self, budget: ByteBudget, size: int) -> None:
        async with budget.hold(size):
            self.holding = True
            try:
                await self._let_go.wait()
            finally:
                self.holding = False

    async def done(self) -> None:
        """Let go."""
        self._let_go.set()
        await self.task
        await _turns()


async def _all_free(budget: ByteBudget, total: int) -> None:
    """Everything can be had at once, so nothing was lost; and no more than that, so nothing was made."""
    assert (budget.free, budget.held) == (total, 0)
    async with asyncio.timeout(1), budget.hold(total):
        assert (budget.free, budget.held) == (0, total)
        extra = Job(budget, 1)
        await _turns()
        assert [extra.holding] == [False]
    await _turns()
    assert extra.holding
    await extra.done()


async def test_bytes_are_shared_first_come_first_served() -> None:
    """A small job does not overtake a large one that came before it, or large ones would starve."""
    budget = ByteBudget(10)
    first, large, small = Job(budget, 6), Job(budget, 8), Job(budget, 1)
    await _turns()
    assert [first.holding, large.holding, small.holding] == [True, False, False]
    await first.done()
    assert [large.holding, small.holding] == [True, True]
    await large.done()
    await small.done()
    await _all_free(budget, 10)


async def test_who_fits_does_not_wait() -> None:
    """Up to the last byte."""
    budget = ByteBudget(10)
    jobs = [Job(budget, size) for size in (3, 0, 7)]
    await _turns()
    assert all(job.holding for job in jobs)
    for job in jobs:
        await job.done()
    await _all_free(budget, 10)


async def test_a_job_larger_than_the_budget_takes_all_of_it_instead_of_waiting_for_ever() -> None:
    """And gives all of it back."""
    budget = ByteBudget(10)
    giant = Job(budget, 1000)
    await _turns()
    assert giant.holding
    await giant.done()
    await _all_free(budget, 10)


async def test_a_cancelled_holder_gives_back_its_bytes() -> None:
    """Cancellation in the middle of the work."""
    budget = ByteBudget(10)
    holder, waiter = Job(budget, 10), Job(budget, 10)
    await _turns()
    holder.task.cancel()
    await _turns()
    assert waiter.holding
    await waiter.done()
    await _all_free(budget, 10)


async def test_a_cancelled_waiter_makes_room_for_those_behind_it() -> None:
    """It took nothing, so it gives nothing back; but it no longer stands in the way."""
    budget = ByteBudget(10)
    holder, large, small = Job(budget, 6), Job(budget, 8), Job(budget, 4)
    await _turns()
    assert [large.holding, small.holding] == [False, False]
    large.task.cancel()
    await _turns()
    assert small.holding
    await holder.done()
    await small.done()
    await _all_free(budget, 10)


async def test_a_waiter_cancelled_in_the_moment_of_its_admission_loses_nothing() -> None:
    """The bytes were given to it, but it never came to run."""
    budget = ByteBudget(10)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(budget.hold(10))
        waiter = Job(budget, 10)
        await _turns()
    waiter.task.cancel()  # admitted by the exit above, not yet resumed
    await _turns()
    assert waiter.task.cancelled()
    await _all_free(budget, 10)


async def test_a_failing_job_gives_back_its_bytes() -> None:
    """Whatever is raised."""
    budget = ByteBudget(10)
    with pytest.raises(ZeroDivisionError):
        async with budget.hold(10):
            raise ZeroDivisionError
    await _all_free(budget, 10)
