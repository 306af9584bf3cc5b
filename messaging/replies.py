"""Direct reply-to: one channel that publishes requests and consumes the replies to them.

What requests and replies hold, and whether a reply is believed, is the affair of whoever opens it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from aio_pika.abc import AbstractIncomingMessage, AbstractRobustChannel, AbstractRobustConnection

from messaging.connection import BROKER_SECONDS, broker_errors, goodbye
from messaging.consuming import Delivery
from messaging.publishing import Outgoing, Publisher

REPLY_TO: Final = "amq.rabbitmq.reply-to"


class ReplyChannel:
    """One channel that publishes requests and consumes their replies, as direct reply-to demands."""

    def __init__(self, channel: AbstractRobustChannel, *, confirms: bool) -> None:
        """Publish on `channel`; `ReplyChannel.open` makes one."""
        self._publisher = Publisher(channel)
        self._confirms = confirms  # without confirms nobody would hear of a return

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        connection: AbstractRobustConnection,
        receive: Callable[[Delivery], None],
        *,
        lost: Callable[[], None],
        confirms: bool,
    ) -> AsyncIterator["ReplyChannel"]:
        """Hand every reply to `receive`; call `lost` when the channel went, and with it the replies still owed."""
        with broker_errors():
            async with asyncio.timeout(BROKER_SECONDS):
                channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
                await channel.initialize()
                # Passive, because only a declared queue is consumed again after a reconnect.
                queue = await channel.declare_queue(REPLY_TO, passive=True)

                async def deliver(message: AbstractIncomingMessage) -> None:
                    receive(Delivery(message))

                await queue.consume(deliver, no_ack=True)
        channel.close_callbacks.add(lambda *_: lost())
        try:
            yield cls(channel, confirms=confirms)
        finally:
            await goodbye(channel.close())

    async def publish(self, exchange: str, routing_key: str, message: Outgoing) -> None:
        """Publish a message whose `reply_to` is `REPLY_TO`.

        Raises:
            TransientError: as `Publisher.publish`.
        """
        await self._publisher.publish(exchange, routing_key, message, mandatory=self._confirms)
