"""Reading one queue in order, as a stream: an upload by its Cryptor, a download by its client.

The stream has a channel of its own, opened plainly: it is not repaired when it breaks. Whoever reads it starts over,
and so does the broker, which hands out again, in order, everything that was not acked.

Queues of jobs come and go, so the broker often refuses: it closes the channel. That may cross with a caller who gives
up, and must not cost the connection: opening and leaving are never interrupted.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress

import aio_pika
from aio_pika.abc import AbstractRobustConnection
from aiormq.abc import AbstractChannel, DeliveredMessage

from contracts.failures import FailureCode, TransientError
from messaging.connection import BROKER_SECONDS, broker_errors, goodbye, undisturbed
from messaging.consuming import Delivery


class QueueStream:
    """Deliveries of one queue, in order, none of them settled yet."""

    def __init__(self, channel: AbstractChannel, prefetch: int) -> None:
        """Hold at most `prefetch` unsettled deliveries; `QueueStream.open` makes one."""
        self._channel = channel
        self._arrived: asyncio.Queue[Delivery | None] = asyncio.Queue(maxsize=prefetch + 1)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, connection: AbstractRobustConnection, queue: str, *, prefetch: int, exclusive: bool
    ) -> AsyncIterator["QueueStream"]:
        """Consume `queue` while the context is open; leaving it gives back what was not acked.

        Raises:
            TransientError: the queue is not there, is not ours, or somebody else reads it exclusively.
        """
        opening = asyncio.ensure_future(cls._consume(connection, queue, prefetch, exclusive=exclusive))
        try:
            with broker_errors():
                stream = await undisturbed(opening, BROKER_SECONDS)
            yield stream
        finally:
            await goodbye(_leave(opening))

    @classmethod
    async def _consume(
        cls, connection: AbstractRobustConnection, queue: str, prefetch: int, *, exclusive: bool
    ) -> "QueueStream":
        transport = connection.transport
        if transport is None:
            raise TransientError(FailureCode.BUSY, "broker_unavailable")
        channel = await transport.connection.channel(publisher_confirms=False)
        try:
            stream = cls(channel, prefetch)
            channel.on_consumer_cancel_callbacks.add(stream._ended)
            channel.closing.add_done_callback(stream._ended)
            await channel.basic_qos(prefetch_count=prefetch)
            await channel.basic_consume(queue, stream._deliver, exclusive=exclusive)
        except Exception:
            await channel.close()
            raise
        return stream

    async def close(self) -> None:
        """Close the channel: with it goes every unsettled delivery. `QueueStream.open` sees to it."""
        await self._channel.close()

    async def _deliver(self, message: DeliveredMessage) -> None:
        self._arrived.put_nowait(Delivery(aio_pika.message.IncomingMessage(message)))

    def _ended(self, _: object) -> None:
        if not self._arrived.full():
            self._arrived.put_nowait(None)

    async def next(self, idle_seconds: float) -> Delivery:
        """The next delivery.

        Raises:
            TimeoutError: nothing came for `idle_seconds`.
            TransientError: the channel or the queue is gone.
        """
        async with asyncio.timeout(idle_seconds):
            delivery = await self._arrived.get()
        if delivery is None:
            raise TransientError(FailureCode.BUSY, "stream_lost")
        return delivery

    async def ack_through(self, delivery: Delivery) -> None:
        """Settle this delivery and all before it."""
        with broker_errors():
            await self._channel.basic_ack(delivery.message.delivery_tag or 0, multiple=True)


async def _leave(opening: Awaitable[QueueStream]) -> None:
    """Close a stream once the broker has said whether it opened."""
    with suppress(TransientError, *aio_pika.exceptions.CONNECTION_EXCEPTIONS):  # then there is none
        stream = await opening
        await stream.close()
