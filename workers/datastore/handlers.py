"""DataStore requests to backend calls: objects apart from each other, so that a bad one never fails its neighbours.

It cuts bodies, brings entries of one object together, bounds what is under way, and turns each object's exception into
its items' outcomes. It decides no more.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from itertools import accumulate, groupby, islice, repeat
from typing import Final, TypeVar
from uuid import UUID

from contracts.codec import Meta, cut
from contracts.failures import FailureCode, PermanentError, TransientError
from contracts.limits import PART
from contracts.stores import (
    Data,
    DataBegin,
    DataBeginReply,
    DataComplete,
    DataCompleteReply,
    DataDump,
    DataDumpReply,
    DataErase,
    DataEraseReply,
    DataLoad,
    DataLoadReply,
    DataPart,
    DataPartReply,
    Done,
    Failure,
    Range,
    Unwanted,
    object_uuid,
)
from messaging.link import Buffers
from messaging.logs import describe, log
from messaging.rpc import Handler
from workers.datastore.backend import Backend, Found

REPLY_BYTES: Final = PART  # of encrypted data in one reply, so that it stays below MAX_BODY whatever its meta takes
ANSWER_SECONDS: Final = 0.5  # before the deadline: an item that hangs is given up, and the others are still answered

T = TypeVar("T")
Wanted = TypeVar("Wanted", Range, Unwanted)


class DataStoreHandlers:
    """What the DataStore answers."""

    def __init__(self, backend: Backend, *, concurrency: int) -> None:
        """Answer from `backend`, at most `concurrency` items at a time over all requests."""
        self._backend = backend
        self._concurrency = concurrency
        self._slots = asyncio.Semaphore(concurrency)

    def routes(self) -> dict[type[Meta], Handler]:
        """Which handler answers which request."""
        return {
            DataDump: self.dump,
            DataBegin: self.begin,
            DataPart: self.part,
            DataComplete: self.complete,
            DataLoad: self.load,
            DataErase: self.erase,
        }

    async def dump(self, request: DataDump, body: memoryview, deadline: float) -> tuple[Meta, Buffers]:
        """Write whole objects."""
        objects = [list(each) for _, each in groupby(request.items, _object)]
        pieces = cut(body, (sum(item.size for item in items) for items in objects))
        calls = [partial(self._backend.dump, *each) for each in zip(objects, pieces, strict=True)]
        outcomes = await self._each(calls, deadline)
        return DataDumpReply(
            outcomes=[outcome for items, outcome in zip(objects, outcomes, strict=True) for _ in items]
        ), ()

    async def begin(self, request: DataBegin, body: memoryview, deadline: float) -> tuple[Meta, Buffers]:
        """Begin objects that arrive in parts."""
        cut(body, [])
        calls = [partial(self._backend.begin, item) for item in request.items]
        return DataBeginReply(outcomes=await self._each(calls, deadline)), ()

    async def part(self, request: DataPart, body: memoryview, deadline: float) -> tuple[Meta, Buffers]:
        """Store parts."""
        pieces = cut(body, (item.size for item in request.items))
        calls = [partial(self._backend.part, *each) for each in zip(request.items, pieces, strict=True)]
        return DataPartReply(outcomes=await self._each(calls, deadline)), ()

    async def complete(self, request: DataComplete, body: memoryview, deadline: float) -> tuple[Meta, Buffers]:
        """Make objects of their parts."""
        cut(body, [])
        calls = [partial(self._backend.complete, item) for item in request.items]
        return DataCompleteReply(outcomes=await self._each(calls, deadline)), ()

    async def load(self, request: DataLoad, body: memoryview, deadline: float) -> tuple[Meta, Buffers]:
        """Read ranges. What would make the reply too large to send is refused as `busy`, item by item."""
        cut(body, [])
        room = accumulate(request.items, lambda left, item: left - item.length, initial=REPLY_BYTES)
        fitting = [item for item, left in zip(request.items, islice(room, 1, None), strict=True) if left >= 0]
        objects = _by_object(enumerate(fitting))
        calls = [partial(self._backend.load, [wanted for _, wanted in each]) for each in objects]
        full: Found | Failure = Failure(code=FailureCode.BUSY)
        found = [full] * len(request.items)
        for ranges, told in zip(objects, await self._each(calls, deadline), strict=True):
            for (index, _), each in zip(ranges, repeat(told) if isinstance(told, Failure) else told, strict=False):
                found[index] = each
        outcomes = [each if isinstance(each, Failure) else each[0] for each in found]
        return DataLoadReply(outcomes=outcomes), [each[1] for each in found if not isinstance(each, Failure)]

    async def erase(self, request: DataErase, body: memoryview, deadline: float) -> tuple[Meta, Buffers]:
        """Erase objects and leave tombstones."""
        cut(body, [])
        objects = _by_object(enumerate(request.items))
        calls = [partial(self._backend.erase, [unwanted for _, unwanted in each]) for each in objects]
        outcomes: dict[int, Failure | Done] = {}
        for each, outcome in zip(objects, await self._each(calls, deadline), strict=True):
            outcomes.update((index, outcome) for index, _ in each)
        return DataEraseReply(outcomes=[outcomes[index] for index in range(len(request.items))]), ()

    async def _each(self, calls: Sequence[Callable[[], Awaitable[T]]], deadline: float) -> list[Failure | T]:
        """Make the calls side by side; their outcomes in the same order."""
        outcomes: dict[int, Failure | T] = {}
        waiting = iter(enumerate(calls))

        async def work() -> None:
            for index, call in waiting:
                async with self._slots:
                    outcomes[index] = await outcome_of(call, deadline)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._concurrency, len(calls))):
                group.create_task(work())
        return [outcomes[index] for index in range(len(calls))]


async def outcome_of(call: Callable[[], Awaitable[T]], deadline: float) -> Failure | T:
    """A call's result, or its exception as a failure; what the operator can mend is logged."""
    try:
        async with asyncio.timeout(deadline - ANSWER_SECONDS - time.time()):
            return await call()
    except PermanentError as error:
        if error.code is FailureCode.INTEGRITY_FAILED:
            log.error("an object or a part is damaged", action="datastore.damaged", reason=error.reason)
        return Failure(code=error.code)
    except (TransientError, TimeoutError) as error:
        log.warning("an item was not done", action="datastore.item_failed", error=describe(error))
        return Failure(code=FailureCode.STORE_UNAVAILABLE)


def _object(item: Data | Range | Unwanted) -> UUID:
    return object_uuid(item.data_store_uuid)


def _by_object(items: Iterable[tuple[int, Wanted]]) -> list[list[tuple[int, Wanted]]]:
    """Items with their places, those of one object together."""
    objects: dict[UUID, list[tuple[int, Wanted]]] = {}
    for index, item in items:
        objects.setdefault(_object(item), []).append((index, item))
    return list(objects.values())
