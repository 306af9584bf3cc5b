"""Large payloads on their way: pieces to the upload queue, pieces from the download queue.

What arrives is provisional until its stream has proved itself whole; the sink is told to commit only then.
"""

from collections.abc import AsyncIterator
from typing import Final

from contracts import topology
from contracts.edge import Download, Upload
from contracts.failures import FailureCode, NotOursError, PermanentError, TransientError
from contracts.limits import PIECE
from messaging.connection import Connection
from messaging.publishing import Outgoing, Publisher, outgoing
from messaging.streaming import QueueStream
from sealing.answers import download_context
from sealing.streams import Opener, Recutter, Sealer, SealError
from trivault.content import Content
from trivault.sealer import Prepared
from trivault.sinks import Sink

DOWNLOAD_PREFETCH: Final = 8  # pieces of 1 MiB that wait to be decrypted and written
IDLE_SECONDS: Final = 60  # that a download may stand still
REFUSED: Final = {"unroutable", "queue_full"}  # what the broker says of a piece that it did not take


async def upload(connection: Connection, user: str, prepared: Prepared, content: Content, queue: str) -> None:
    """Send a request's payload to its queue.

    Raises:
        PermanentError: `upload_lost`: a piece was refused or returned; or the content changed.
        TransientError: a confirm did not come; the pieces may all be there, and the job may become a record.
    """
    async with Publisher.open(connection) as publisher:
        try:
            await publisher.publish_stream(topology.UPLOADS, queue, _messages(user, prepared, content))
        except TransientError as error:
            if error.reason not in REFUSED:
                raise
            raise PermanentError(FailureCode.UPLOAD_LOST, error.reason) from None


async def _messages(user: str, prepared: Prepared, content: Content) -> AsyncIterator[Outgoing]:
    number = 0
    async for body in _sealed(prepared, content):
        yield outgoing(Upload(job_id=prepared.job_id, number=number), body, user_id=user, persistent=True)
        number += 1


async def _sealed(prepared: Prepared, content: Content) -> AsyncIterator[bytes]:
    """The payload stream in messages of 1 MiB."""
    sealer = Sealer(prepared.secrets.payload_key, prepared.payload_context)
    recutter = Recutter(PIECE)
    async for piece in content.pieces():
        for message in recutter.feed(sealer.update(piece)):
            yield message
    for message in recutter.feed(sealer.finish()):
        yield message
    if rest := recutter.rest():
        yield rest


async def download(connection: Connection, prepared: Prepared, queue: str, sink: Sink) -> None:
    """Read a record from its download queue into `sink`.

    The queue goes away with its reader. When this returns, `sink` holds all of it, verified, and is not committed yet.

    Raises:
        PermanentError: `integrity_failed`.
        TransientError: the download was lost or stands still; load again.
    """
    async with QueueStream.open(connection, queue, prefetch=DOWNLOAD_PREFETCH, exclusive=True) as stream:
        reader = _Reader(prepared, sink)
        while not reader.whole:
            try:
                delivery = await stream.next(IDLE_SECONDS)
            except TimeoutError:
                raise TransientError(FailureCode.BUSY, "download_idle") from None
            try:
                meta = delivery.decode((Download,))
            except NotOursError:
                meta = None
            if meta is not None and meta.job_id == prepared.job_id:
                await reader.take(meta, delivery.body)
            await delivery.ack()


class _Reader:
    """Follows the Cryptor's newest attempt at sending a record."""

    def __init__(self, prepared: Prepared, sink: Sink) -> None:
        """Write what verifies to `sink`."""
        self._prepared = prepared
        self._sink = sink
        self._expected = 0
        self._opener: Opener | None = None
        self._attempt = b""
        self.whole = False

    async def take(self, meta: Download, body: bytes) -> None:
        """Take one piece; pieces that are not the next one of the present attempt are passed over.

        Raises:
            SealError: the piece is not the Cryptor's.
        """
        if meta.number == 0 and meta.attempt != self._attempt:
            self._attempt, self._expected = meta.attempt, 0
            context = download_context(self._prepared.digest, meta.attempt)
            self._opener = Opener(self._prepared.secrets.reply_key, context)
            await self._sink.restart()
        if self._opener is None or (meta.attempt, meta.number) != (self._attempt, self._expected):
            return
        if len(body) > PIECE:
            raise SealError
        self._expected += 1
        await self._sink.write(self._opener.update(body))
        self._sink.progress(self._expected, meta.pieces)
        if self._expected == meta.pieces:
            await self._sink.write(self._opener.finish())
            self.whole = True
