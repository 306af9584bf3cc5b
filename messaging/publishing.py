"""Publishing: one channel with publisher confirms, mandatory by default, and every wait bounded.

A publish that raises has an unknown outcome; whoever repeats it uses the same idempotency key, and a new message id.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import aio_pika
from aio_pika.abc import AbstractRobustChannel, AbstractRobustConnection

from contracts.codec import Meta, encode
from contracts.failures import NotOursError
from contracts.limits import MAX_BODY, MAX_META_HEADER
from messaging.connection import BROKER_SECONDS, broker_errors, goodbye
from messaging.together import together

META: Final = "meta"  # the AMQP header that carries an unsealed meta
DEFAULT_EXCHANGE: Final = ""
WINDOW: Final = 8  # messages of a stream that wait for their confirms: with 1 MiB each, what a stream holds in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message as AMQP sees it. `meta` stays out of the header when it travels sealed inside `body`."""

    type: str
    body: bytes = b""
    meta: bytes | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    user_id: str | None = None
    message_id: str | None = None
    expires_seconds: float | None = None
    persistent: bool = False

    def message(self) -> aio_pika.Message:
        """The aio-pika message; a message id is always drawn anew, because returns are matched by it."""
        return aio_pika.Message(
            self.body,
            type=self.type,
            headers={} if self.meta is None else {META: self.meta.decode()},
            message_id=self.message_id or uuid.uuid4().hex,
            correlation_id=self.correlation_id,
            reply_to=self.reply_to,
            user_id=self.user_id,
            expiration=self.expires_seconds,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT if self.persistent else aio_pika.DeliveryMode.NOT_PERSISTENT,
        )


def outgoing(meta: Meta, body: bytes = b"", **properties: object) -> Outgoing:
    """A message with its meta in the header.

    Raises:
        NotOursError: the meta does not fit into one frame, or the body is over the limit.
    """
    encoded = encode(meta)
    if len(encoded) > MAX_META_HEADER:
        raise NotOursError("oversize_meta")
    if len(body) > MAX_BODY:
        raise NotOursError("oversize_body")
    return Outgoing(type=meta.TYPE, meta=encoded, body=body, **properties)  # type: ignore[arg-type]  # checked by the dataclass's callers


class Publisher:
    """One channel to publish on."""

    def __init__(self, channel: AbstractRobustChannel) -> None:
        """Publish on `channel`; `Publisher.open` makes one."""
        self._channel = channel
        self._exchanges: dict[str, aio_pika.abc.AbstractExchange] = {DEFAULT_EXCHANGE: channel.default_exchange}

    @classmethod
    @asynccontextmanager
    async def open(cls, connection: AbstractRobustConnection, *, confirms: bool = True) -> AsyncIterator["Publisher"]:
        """Open a channel; with `confirms`, a publish returns only when the broker took responsibility."""
        with broker_errors():
            async with asyncio.timeout(BROKER_SECONDS):
                channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
                await channel.initialize()
        try:
            yield cls(channel)
        finally:
            await goodbye(channel.close())

    async def publish(self, exchange: str, routing_key: str, message: Outgoing, *, mandatory: bool = True) -> None:
        """Publish one message, and wait for its confirm if the channel has them.

        Raises:
            TransientError: `unroutable` (mandatory, and no queue took it), `queue_full` (refused by a bounded queue),
                or the broker did not answer: the outcome is unknown.
        """
        with broker_errors():
            async with asyncio.timeout(BROKER_SECONDS):
                if exchange not in self._exchanges:
                    self._exchanges[exchange] = await self._channel.get_exchange(exchange, ensure=False)
                await self._exchanges[exchange].publish(message.message(), routing_key, mandatory=mandatory)

    async def publish_stream(self, exchange: str, routing_key: str, messages: AsyncIterator[Outgoing]) -> None:
        """Publish messages in order, `WINDOW` of them ahead of their confirms.

        Raises:
            TransientError: as `publish`; what comes after the one that failed may have been published or not.
        """
        window = asyncio.Semaphore(WINDOW)

        async def publish(message: Outgoing) -> None:
            try:
                await self.publish(exchange, routing_key, message)
            finally:
                window.release()

        async def feed() -> None:
            async with asyncio.TaskGroup() as group:
                async for message in messages:
                    await window.acquire()
                    group.create_task(publish(message))  # in order: the channel's lock is first come, first served

        await together(feed())
