"""Coalescing: calls that are waiting anyway travel together.

A call that finds the way free goes at once, alone. While `ways` batches are under way the others wait, and leave
together when one returns: the busier it gets, the fewer messages a record costs. This module knows neither messages nor
stores.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Coalescer(Generic[Item, Result]):
    """Turns `send(list of items) -> results in the same order` into `call(item) -> result`."""

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        max_items: int,
        max_bytes: int,
        size: Callable[[Item], int] = lambda _: 0,
        count: Callable[[Item], int] = lambda _: 1,
        ways: int = 1,
    ) -> None:
        """Bound one batch by `max_items`, as `count` counts, and `max_bytes`, as `size` does; one item always goes."""
        self._send = send
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._size = size
        self._count = count
        self._ways = ways
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self._context = contextvars.copy_context()  # a batch is nobody's: what a caller has bound stays its own

    async def call(self, item: Item) -> Result:
        """Send one item with whatever else waits; its own result, or the exception that its batch met."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        if not self._scheduled and len(self._under_way) < self._ways:
            self._scheduled = True
            loop.call_soon(self._depart, context=self._context)  # calls made in the same turn of the loop join
        return await future

    def _depart(self) -> None:
        self._scheduled = False
        while self._waiting and len(self._under_way) < self._ways:
            batch = self._take()
            if batch:
                task = asyncio.get_running_loop().create_task(self._carry(batch))
                self._under_way.add(task)
                task.add_done_callback(self._arrived, context=self._context)

    def _take(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        batch: list[tuple[Item, asyncio.Future[Result]]] = []
        room, places = self._max_bytes, self._max_items
        while self._waiting:
            item, future = self._waiting[0]
            room, places = room - self._size(item), places - self._count(item)
            if (room < 0 or places < 0) and batch:
                break
            self._waiting.popleft()
            if not future.done():  # its caller has not given up
                batch.append((item, future))
        return batch

    def _arrived(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._depart()

    async def _carry(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._send([item for item, _ in batch])
            if len(results) != len(batch):
                raise RuntimeError("a batch came back with another number of results")  # noqa: TRY301 - told to callers
        except BaseException as error:  # noqa: BLE001 - whatever it was, every caller has to hear of it
            for _, future in batch:
                if not future.done():
                    future.set_exception(_hear(error))
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)


def _hear(error: BaseException) -> BaseException:
    """Cancellation of the batch is a failure to its callers: nobody has cancelled them."""
    return ConnectionAbortedError("the batch was cancelled") if isinstance(error, asyncio.CancelledError) else error
