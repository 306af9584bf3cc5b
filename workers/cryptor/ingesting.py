"""A batch: many small blobs in one payload, each of which becomes a record of its own, or fails by itself.

The payload is cut into blobs while it arrives, and blobs into groups that are dumped together while more arrive. Every
blob keeps its place: outcome n belongs to blob n.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final

from contracts.edge import ItemOutcome
from contracts.failures import FailureCode, PermanentError, TransientError
from contracts.limits import ITEM_MAX, MIB
from contracts.lp import PREFIX
from workers.cryptor.dumping import Dumper
from workers.cryptor.payloads import UploadLostError
from workers.cryptor.requests import Opened

GROUP_ITEMS: Final = 250  # of one object, one KeyStore and one MapStore statement: each step stays below 5 ms
GROUP_BYTES: Final = 4 * MIB  # of one object; with what its header and seals add, below one message
GROUPS_AHEAD: Final = 3  # groups under way: one in each store while the next is encrypted

Progress = Callable[[int], Coroutine[Any, Any, None]]


class Ingester:
    """Carries batches out."""

    def __init__(self, dumper: Dumper) -> None:
        """Make records with `dumper`."""
        self._dumper = dumper

    async def ingest(
        self, opened: Opened, payload: AsyncIterator[bytes], deadline: float, progress: Progress
    ) -> list[ItemOutcome]:
        """Make a record of every blob in the payload.

        Args:
            opened: the request.
            payload: its plaintext, in pieces.
            deadline: unix time, seconds, of the attempt.
            progress: told how many items are done.

        Raises:
            TransientError: an item could not be settled: another attempt does it.
        """
        count = opened.head.items
        outcomes: dict[int, ItemOutcome] = {}
        unsettled: TransientError | None = None
        failure = FailureCode.INTERNAL
        ahead = asyncio.Semaphore(GROUPS_AHEAD)

        async def dump(first: int, group: list[bytes]) -> None:
            nonlocal unsettled
            try:
                told = await self._dumper.dump_all(opened, first, group, deadline)
            except TransientError as error:
                unsettled = error
            else:
                outcomes.update(enumerate(told, first))
                await progress(len(outcomes))
            finally:
                ahead.release()

        async with asyncio.TaskGroup() as tasks:
            sent = 0
            try:
                async for group in _groups(_blobs(payload, count)):
                    await ahead.acquire()
                    tasks.create_task(dump(sent, group))
                    sent += len(group)
            except PermanentError as error:  # what came whole before it is kept
                failure = error.code
            except TransientError as error:
                unsettled = error
        if unsettled is not None:
            raise unsettled
        missing = [item for item in range(count) if item not in outcomes]
        outcomes.update(zip(missing, await self._dumper.abort(opened, failure, missing), strict=True))
        return [outcomes[item] for item in range(count)]


async def _blobs(payload: AsyncIterator[bytes], count: int) -> AsyncIterator[bytes]:
    """The blobs of a payload of `count` fields LP(blob).

    Raises:
        PermanentError: `invalid_request` if it has others; `upload_lost` if it does not come.
    """
    buffer = bytearray()
    left = count
    async for piece in payload:
        buffer += piece
        at = 0
        while len(buffer) - at >= PREFIX:
            end = at + PREFIX + int.from_bytes(buffer[at : at + PREFIX], "big")
            if not left or end - at - PREFIX > ITEM_MAX:
                raise PermanentError(FailureCode.INVALID_REQUEST, "items")
            if end > len(buffer):
                break
            yield bytes(buffer[at + PREFIX : end])
            at, left = end, left - 1
        del buffer[:at]
    if left or buffer:
        raise PermanentError(FailureCode.INVALID_REQUEST, "items")


async def _groups(blobs: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    group: list[bytes] = []
    size = 0
    try:
        async for blob in blobs:
            if group and (len(group) == GROUP_ITEMS or size + len(blob) > GROUP_BYTES):
                yield group
                group, size = [], 0
            group.append(blob)
            size += len(blob)
    except UploadLostError:
        if group:
            yield group  # these came whole
        raise
    if group:
        yield group
