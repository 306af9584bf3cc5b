"""Consuming: bounded prefetch, handlers in a task group of their own, and acks only on purpose.

aio-pika cancels its own consumer tasks when a connection is lost; ours run elsewhere, and a handler that is cancelled
never settles its message: the broker hands it out again. A handler that raises a `TransientError` is tried again in
place; anything else means a bug or a message that is not ours, and the message is dead-lettered.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractRobustConnection

from contracts.codec import Meta, decode
from contracts.failures import FailureCode, NotOursError, TransientError
from contracts.limits import MAX_META_HEADER
from messaging.connection import BROKER_SECONDS, broker_errors, goodbye
from messaging.logs import log
from messaging.publishing import META

M = TypeVar("M", bound=Meta)

RETRY_SECONDS: Final = 0.5  # before a handler is tried again; doubled up to the longest
LONGEST_RETRY_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """A received message. Nothing of it has been believed yet."""

    message: AbstractIncomingMessage

    @property
    def body(self) -> bytes:
        """The raw body."""
        return self.message.body

    @property
    def kind(self) -> str:
        """The claimed type, empty if absent."""
        return self.message.type or ""

    @property
    def user_id(self) -> str | None:
        """The user that published it: checked by the broker, and absent if the publisher left it out."""
        return self.message.user_id

    @property
    def correlation_id(self) -> str:
        """The claimed correlation id, empty if absent."""
        return self.message.correlation_id or ""

    @property
    def reply_to(self) -> str | None:
        """Where an answer is wanted, as claimed."""
        return self.message.reply_to

    def decode(self, types: Iterable[type[M]]) -> M:
        """Decode the unsealed meta.

        Raises:
            NotOursError: no meta, or what `contracts.codec.decode` refuses.
        """
        meta = self.message.headers.get(META)
        if not isinstance(meta, str):
            raise NotOursError("missing_meta")
        if len(meta) > MAX_META_HEADER:
            raise NotOursError("oversize_meta")
        return decode(types, self.kind, meta.encode(), len(self.body))

    async def ack(self) -> None:
        """Settle: done.

        Raises:
            UnsettledError: the broker did not hear it, and will hand the message out again.
        """
        await self._settle(self.message.ack())

    async def dead_letter(self) -> None:
        """Settle: nobody can do it.

        Raises:
            UnsettledError: as `ack`.
        """
        await self._settle(self.message.reject(requeue=False))

    @staticmethod
    async def _settle(settling: Coroutine[Any, Any, None]) -> None:
        try:
            with broker_errors():
                async with asyncio.timeout(BROKER_SECONDS):
                    await settling
        except TransientError as error:
            raise UnsettledError(error.code, error.reason) from None

    @property
    def ours(self) -> bool:
        """Whether it may still be settled: a delivery does not outlive its channel."""
        return not self.message.channel.is_closed


class UnsettledError(TransientError):
    """A delivery could not be settled: its channel is gone."""


Handler = Callable[[Delivery], Awaitable[None]]


class Consumer:
    """A queue that is being consumed."""

    def __init__(self, channel: AbstractChannel) -> None:
        """Consume on `channel`; `consuming` does it."""
        self._channel = channel

    async def check(self) -> None:
        """Return if deliveries can come.

        Raises:
            TransientError: the channel is gone; it is being repaired.
        """
        if self._channel.is_closed:
            raise TransientError(FailureCode.BUSY, "not_consuming")


@asynccontextmanager
async def consuming(
    connection: AbstractRobustConnection, queue: str, handler: Handler, *, prefetch: int, drain_seconds: float
) -> AsyncIterator[Consumer]:
    """Consume `queue` while the context is open; leaving it stops deliveries, then waits for handlers under way.

    Handlers settle their own deliveries. At most `prefetch` are under way, so their bytes are bounded by
    `prefetch` times the largest message that the queue may hold.

    Raises:
        TransientError: the queue is not there or not ours.
    """
    with broker_errors():
        async with asyncio.timeout(BROKER_SECONDS):
            channel = await connection.channel(publisher_confirms=False)
            await channel.set_qos(prefetch_count=prefetch)
            source = await channel.declare_queue(queue, passive=True)
    try:
        async with asyncio.timeout(None) as deadline, asyncio.TaskGroup() as handlers:

            async def deliver(message: AbstractIncomingMessage) -> None:
                handlers.create_task(_guard(handler, Delivery(message)))

            with broker_errors():
                tag = await source.consume(deliver, timeout=BROKER_SECONDS)
            try:
                yield Consumer(channel)
            finally:
                await goodbye(source.cancel(tag))
                deadline.reschedule(asyncio.get_running_loop().time() + drain_seconds)
    except TimeoutError:
        log.warning(
            "handlers were still busy at the drain deadline; their messages go back", action="consumer.undrained"
        )
    finally:
        await goodbye(channel.close())


async def _guard(handler: Handler, delivery: Delivery) -> None:
    """Run one handler; decide by disposition what becomes of the message that it did not settle."""
    try:
        try:
            await _persist(handler, delivery)
        except NotOursError as error:
            log.warning("a message is not ours", action="message.refused", reason=error.reason)
            await delivery.dead_letter()
        except UnsettledError:
            raise
        except Exception:  # noqa: BLE001 - a bug: the message stays for the operator, the service for everybody else
            log.exception("a handler failed", action="message.failed", type=delivery.kind)
            await delivery.dead_letter()
    except UnsettledError as error:
        log.warning("a message could not be settled", action="message.unsettled", reason=error.reason)


async def _persist(handler: Handler, delivery: Delivery) -> None:
    """Repeat the handler while what it needs is out of reach, for as long as the message is ours.

    It keeps its place in the prefetch: a queue is not emptied into handlers that cannot work, and no redelivery counts
    towards the queue's limit.
    """
    pause = RETRY_SECONDS
    while True:
        try:
            await handler(delivery)
        except UnsettledError:
            raise
        except TransientError as error:
            log.warning("a message waits", action="message.waits", type=delivery.kind, reason=error.reason)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_RETRY_SECONDS)
            if not delivery.ours:
                raise UnsettledError(error.code, error.reason) from None
        else:
            return
