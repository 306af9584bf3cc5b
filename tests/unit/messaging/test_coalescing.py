"""Coalescing: who is alone goes at once, who has to wait travels together, and nobody pays for a neighbour."""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from messaging.coalescing import Coalescer


class Line:
    """A far end that holds every batch until it is let go."""

    def __init__(self) -> None:
        """Hold everything."""
        self.batches: list[list[int]] = []
        self.gates: list[asyncio.Future[None]] = []

    async def send(self, items: Sequence[int]) -> list[int]:
        """Take a batch; answer each item with its square once released."""
        self.batches.append(list(items))
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.gates.append(gate)
        await gate
        return [item * item for item in items]


async def _turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def _coalescer(line: Line, *, max_items: int = 100, max_bytes: int = 100, ways: int = 1) -> Coalescer[int, int]:
    return Coalescer(line.send, max_items=max_items, max_bytes=max_bytes, size=lambda item: item, ways=ways)


async def test_an_idle_call_goes_at_once_and_alone() -> None:
    """No timer, no waiting for company."""
    line = Line()
    call = asyncio.create_task(_coalescer(line).call(3))
    await _turns()
    assert line.batches == [[3]]
    line.gates[0].set_result(None)
    assert await call == 9


async def test_calls_that_wait_travel_together_in_order() -> None:
    """While a batch is under way the others gather; each caller gets its own result."""
    line = Line()
    coalescer = _coalescer(line)
    calls = [asyncio.create_task(coalescer.call(1))]
    await _turns()
    calls += [asyncio.create_task(coalescer.call(item)) for item in (2, 3, 4)]
    await _turns()
    assert line.batches == [[1]]
    line.gates[0].set_result(None)
    await _turns()
    assert line.batches == [[1], [2, 3, 4]]
    line.gates[1].set_result(None)
    assert await asyncio.gather(*calls) == [1, 4, 9, 16]


async def test_a_batch_is_bounded_by_items() -> None:
    """What is left over goes with the next one."""
    line = Line()
    coalescer = _coalescer(line, max_items=2)
    calls = [asyncio.create_task(coalescer.call(item)) for item in range(1, 6)]
    for number in range(3):
        await _turns()
        line.gates[number].set_result(None)
    await asyncio.gather(*calls)
    assert line.batches == [[1, 2], [3, 4], [5]]


async def test_a_batch_is_bounded_by_bytes_and_one_item_always_goes() -> None:
    """An item over the bound travels alone instead of never."""
    line = Line()
    coalescer = _coalescer(line, max_bytes=10)
    calls = [asyncio.create_task(coalescer.call(item)) for item in (4, 6, 1, 25, 2)]
    for number in range(4):
        await _turns()
        line.gates[number].set_result(None)
    await asyncio.gather(*calls)
    assert line.batches == [[4, 6], [1], [25], [2]]


async def test_no_more_batches_are_under_way_than_there_are_ways() -> None:
    """The third batch waits for the first to return."""
    line = Line()
    coalescer = _coalescer(line, max_items=1, ways=2)
    calls = [asyncio.create_task(coalescer.call(item)) for item in (1, 2, 3)]
    await _turns()
    assert line.batches == [[1], [2]]
    line.gates[1].set_result(None)
    await _turns()
    assert line.batches == [[1], [2], [3]]
    line.gates[0].set_result(None)
    line.gates[2].set_result(None)
    assert await asyncio.gather(*calls) == [1, 4, 9]


async def test_a_failing_batch_fails_only_its_own_callers() -> None:
    """The next batch goes as if nothing had been."""
    line = Line()
    coalescer = _coalescer(line)
    first = asyncio.create_task(coalescer.call(1))
    await _turns()
    later = [asyncio.create_task(coalescer.call(item)) for item in (2, 3)]
    await _turns()
    line.gates[0].set_exception(ConnectionResetError())
    with pytest.raises(ConnectionResetError):
        await first
    await _turns()
    line.gates[1].set_result(None)
    assert await asyncio.gather(*later) == [4, 9]


async def test_every_caller_of_a_failing_batch_hears_of_it() -> None:
    """Nobody is left waiting."""
    line = Line()
    coalescer = _coalescer(line)
    calls = [asyncio.create_task(coalescer.call(item)) for item in (1, 2, 3)]
    await _turns()
    line.gates[0].set_exception(ConnectionResetError())
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [ConnectionResetError] * 3


async def test_a_batch_with_another_number_of_results_is_believed_in_nothing() -> None:
    """Results that cannot be told apart belong to nobody."""

    async def forgetful(items: Sequence[int]) -> list[int]:
        return list(items)[1:]

    coalescer: Coalescer[int, int] = Coalescer(forgetful, max_items=9, max_bytes=0)
    results = await asyncio.gather(coalescer.call(1), coalescer.call(2), return_exceptions=True)
    assert [type(result) for result in results] == [RuntimeError, RuntimeError]


async def test_a_caller_that_gave_up_before_its_batch_left_is_not_sent() -> None:
    """And those around it are."""
    line = Line()
    coalescer = _coalescer(line)
    calls = [asyncio.create_task(coalescer.call(1))]
    await _turns()
    calls += [asyncio.create_task(coalescer.call(item)) for item in (2, 3, 4)]
    await _turns()
    calls[2].cancel()
    line.gates[0].set_result(None)
    await _turns()
    assert line.batches == [[1], [2, 4]]
    line.gates[1].set_result(None)
    assert [await call for call in (*calls[:2], calls[3])] == [1, 4, 16]


async def test_a_caller_that_gives_up_on_the_way_leaves_its_batch_alone() -> None:
    """Cancelling one call cancels neither the batch nor the neighbours."""
    line = Line()
    coalescer = _coalescer(line)
    calls = [asyncio.create_task(coalescer.call(item)) for item in (1, 2)]
    await _turns()
    calls[0].cancel()
    await _turns()
    line.gates[0].set_result(None)
    assert await calls[1] == 4
    assert calls[0].cancelled()


async def test_cancelling_a_batch_is_a_failure_and_not_a_cancellation_of_its_callers() -> None:
    """A caller that nobody cancelled must not look cancelled, or its message would be left unsettled for ever."""
    line = Line()
    coalescer = _coalescer(line)
    calls = [asyncio.create_task(coalescer.call(item)) for item in (1, 2)]
    await _turns()
    line.gates[0].cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [ConnectionAbortedError] * 2
    again = asyncio.create_task(coalescer.call(5))
    await _turns()
    line.gates[1].set_result(None)
    assert await again == 25


async def test_a_batch_is_nobodys() -> None:
    """What a caller has bound (a job's id, for its log lines) is not seen by a batch that others share."""
    bound: ContextVar[str] = ContextVar("bound", default="nothing")
    seen: list[str] = []

    async def send(items: Sequence[str]) -> list[str]:
        seen.append(bound.get())
        await asyncio.sleep(0)
        return list(items)

    coalescer: Coalescer[str, str] = Coalescer(send, max_items=10, max_bytes=10)

    async def call(name: str) -> str:
        bound.set(name)
        return await coalescer.call(name)

    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(call("one"))
        await _turns(2)
        others = [tasks.create_task(call(name)) for name in ("two", "three")]
    assert (first.result(), *(each.result() for each in others)) == ("one", "two", "three")
    assert seen == ["nothing", "nothing"]
