"""A dump's plaintext, piece by piece: from the request itself, or from the upload queue behind it.

The last piece is yielded only after the stream proved itself whole and of the announced size.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from contracts.edge import Upload
from contracts.failures import FailureCode, NotOursError, PermanentError
from contracts.limits import PIECE, pieces
from messaging.connection import Connection
from messaging.consuming import Delivery
from messaging.streaming import QueueStream
from sealing.streams import Opener, SealError, open_sealed
from workers.cryptor.requests import Opened

FOREIGN: Final = 16  # messages that are not the client's and may be in the way: dropped, and settled at once


class UploadLostError(PermanentError):
    """The payload did not arrive whole."""

    def __init__(self, reason: str) -> None:
        """Say which check failed."""
        super().__init__(FailureCode.UPLOAD_LOST, reason)


async def inline(opened: Opened) -> AsyncIterator[bytes]:
    """The payload that came with the request.

    Raises:
        UploadLostError: it does not open, or has another size.
    """
    try:
        blob = open_sealed(opened.secrets.payload_key, opened.payload_context, opened.payload)
    except SealError:
        raise UploadLostError("seal") from None
    if len(blob) != opened.head.size:
        raise UploadLostError("size")
    yield blob


class UploadStream:
    """The payload behind a request, and the means to settle its messages once it is a record."""

    def __init__(self, opened: Opened, stream: QueueStream, idle_seconds: float, deadline: float) -> None:
        """Read `stream`; `UploadStream.open` makes one."""
        self._opened = opened
        self._stream = stream
        self._idle_seconds = idle_seconds
        self._deadline = deadline
        self._last: Delivery | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls, opened: Opened, connection: Connection, queue: str, *, idle_seconds: float, deadline: float
    ) -> AsyncIterator["UploadStream"]:
        """Consume the upload exclusively; what is not settled goes to the next attempt, in order.

        Args:
            opened: whose upload.
            connection: where to consume it.
            queue: its name.
            idle_seconds: that each piece may take to come.
            deadline: unix time in seconds by which all of it must be here.

        Raises:
            TransientError: the queue is gone, or another Cryptor has it.
        """
        prefetch = pieces(opened.head.size) + FOREIGN
        async with QueueStream.open(connection, queue, prefetch=prefetch, exclusive=True) as stream:
            yield cls(opened, stream, idle_seconds, deadline)

    async def plaintext(self) -> AsyncIterator[bytes]:
        """The payload in pieces.

        Raises:
            UploadLostError: it stands still, has a gap, or does not open.
            TransientError: the channel was lost; the upload itself may still be whole.
        """
        opener = Opener(self._opened.secrets.payload_key, self._opened.payload_context)
        size = 0
        try:
            for number in range(pieces(self._opened.head.size)):
                piece = opener.update(await self._piece(number))
                size += len(piece)
                yield piece
            piece = opener.finish()
        except SealError:
            raise UploadLostError("seal") from None
        if size + len(piece) != self._opened.head.size:
            raise UploadLostError("size")
        yield piece

    async def _piece(self, number: int) -> bytes:
        """Piece `number`; repeated ones, and what is not from the client, are passed over, and buy no time."""
        until = min(time.time() + self._idle_seconds, self._deadline)
        while (left := until - time.time()) > 0:
            try:
                delivery = await self._stream.next(left)
            except TimeoutError:
                break
            found = self._number(delivery)
            if found == number:
                if len(delivery.body) > PIECE:
                    raise UploadLostError("piece_size")
                self._last = delivery
                return delivery.body
            if found is not None and found > number:
                raise UploadLostError("gap")
            await delivery.ack()
        raise UploadLostError("idle")

    def _number(self, delivery: Delivery) -> int | None:
        """Which piece a delivery is.

        None if it is not the client's. The broker vouches for `user_id`, if there is one.
        """
        if delivery.user_id != self._opened.client.name:
            return None
        try:
            upload = delivery.decode((Upload,))
        except NotOursError:
            return None
        if upload.job_id != self._opened.head.job_id:
            return None
        return upload.number

    async def settle(self) -> None:
        """Settle every piece: they are a record now, or never will be.

        Raises:
            TransientError: the broker did not hear it.
        """
        if self._last is not None:
            await self._stream.ack_through(self._last)
