"""A budget of bytes that large jobs share: who does not fit waits, in order."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class ByteBudget:
    """Like a semaphore, counted in bytes, first come first served."""

    def __init__(self, total: int) -> None:
        """Share out `total` bytes."""
        self._total = total
        self._free = total
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def free(self) -> int:
        """Bytes that nobody holds."""
        return self._free

    @property
    def held(self) -> int:
        """Bytes that are held."""
        return self._total - self._free

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes while the context is open; more than there is in all counts as all."""
        size = min(size, self._total)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((size, future))
        self._admit()
        try:
            await future
            yield
        finally:
            if future.done() and not future.cancelled():
                self._free += size
            self._admit()

    def _admit(self) -> None:
        while self._queue:
            size, future = self._queue[0]
            if future.cancelled():
                self._queue.popleft()
            elif size <= self._free:
                self._queue.popleft()
                self._free -= size
                future.set_result(None)
            else:
                return
