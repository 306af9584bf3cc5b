"""RPC over direct reply-to: sealed requests with a deadline inside, sealed replies, nothing else.

A request or reply that does not open (forged, altered, replayed against another call, of another link) is dropped and
counted; the caller sees a time-out. Replies go to the token that came with the request and are never `mandatory`: a
live token would be delivered and returned both. What the messages mean is the affair of the two ends.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from aio_pika.abc import AbstractIncomingMessage, AbstractRobustChannel, AbstractRobustConnection

from contracts import topology
from contracts.codec import Meta, decode, encode, parse
from contracts.failures import FailureCode, NotOursError, TransientError
from messaging.connection import BROKER_SECONDS, Broker, broker_errors, goodbye
from messaging.consuming import Consumer, Delivery, consuming
from messaging.link import Buffers, Direction, LinkKeys, LinkSealError
from messaging.logs import describe, log
from messaging.publishing import DEFAULT_EXCHANGE, Outgoing, Publisher

REPLY_TO: Final = "amq.rabbitmq.reply-to"
FORGERIES: Final = 16  # replies to one call that are looked at: the real one, and what a hostile broker adds


Handler = Callable[[Any, memoryview, float], Awaitable[tuple[Meta, Buffers]]]
R = TypeVar("R", bound=Meta)


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


class RpcClient:
    """Calls the one service behind a store vhost."""

    def __init__(self, link: LinkKeys) -> None:
        """Seal with `link`; `RpcClient.open` makes one."""
        self._link = link
        self._channel: ReplyChannel | None = None
        self._pending: dict[str, asyncio.Queue[Delivery | None]] = {}
        self.dropped = 0  # replies that nobody waited for, or that did not open

    @classmethod
    @asynccontextmanager
    async def open(cls, broker: Broker, link: LinkKeys) -> AsyncIterator["RpcClient"]:
        """Open a reply channel on `broker`."""
        client = cls(link)
        async with ReplyChannel.open(broker.publishing, client._receive, lost=client._lost, confirms=False) as channel:
            client._channel = channel
            yield client

    def _receive(self, delivery: Delivery) -> None:
        replies = self._pending.get(delivery.correlation_id)
        if replies is None or replies.full():
            self.dropped += 1
        else:
            replies.put_nowait(delivery)

    def _lost(self) -> None:
        for replies in self._pending.values():
            if not replies.full():
                replies.put_nowait(None)

    async def call(self, request: Meta, body: Buffers, reply: type[R], deadline: float) -> tuple[R, memoryview]:
        """Send one request and return its reply, meta and body.

        Args:
            request: what to do.
            body: its raw bytes, in pieces.
            reply: the only reply that is believed.
            deadline: unix time in seconds after which the store must not do it any more.

        Raises:
            TransientError: no reply in time: the outcome is unknown.
        """
        correlation_id = uuid.uuid4().hex
        replies = self._pending[correlation_id] = asyncio.Queue(maxsize=FORGERIES)
        try:
            async with asyncio.timeout(deadline - time.time()):
                await self._send(request, body, correlation_id, deadline)
                return await self._opened(replies, correlation_id, reply)
        except TimeoutError:
            raise TransientError(FailureCode.STORE_UNAVAILABLE, "store_timeout") from None
        finally:
            del self._pending[correlation_id]

    async def _send(self, request: Meta, body: Buffers, correlation_id: str, deadline: float) -> None:
        sealed = await self._link.seal(Direction.REQUEST, request.TYPE, correlation_id, deadline, encode(request), body)
        message = Outgoing(
            type=request.TYPE,
            body=sealed,
            correlation_id=correlation_id,
            reply_to=REPLY_TO,
            expires_seconds=max(deadline - time.time(), 0.001),
        )
        if self._channel is None:
            raise RuntimeError("RpcClient.open was not entered")
        await self._channel.publish(topology.REQUESTS, topology.STORE_REQUESTS, message)

    async def _opened(
        self, replies: asyncio.Queue[Delivery | None], correlation_id: str, reply: type[R]
    ) -> tuple[R, memoryview]:
        """The first reply that opens; what does not is somebody else's doing, and the real one may follow it."""
        while (delivery := await replies.get()) is not None:
            try:
                opened = await self._link.open(Direction.REPLY, reply.TYPE, correlation_id, delivery.body)
                return parse(reply, opened.meta), opened.body
            except (LinkSealError, NotOursError):
                self.dropped += 1
                log.warning("a reply did not open", action="rpc.reply_dropped")
        raise TransientError(FailureCode.STORE_UNAVAILABLE, "connection_lost")


class RpcServer:
    """Answers the requests of a store vhost by its routes."""

    def __init__(self, link: LinkKeys, routes: Mapping[type[Meta], Handler], publisher: Publisher) -> None:
        """Open with `link`, dispatch by type, answer through `publisher` (without confirms)."""
        self._link = link
        self._routes = routes
        self._publisher = publisher
        self.dropped = 0  # requests that did not open, or came late

    async def handle(self, delivery: Delivery) -> None:
        """Open, do, answer, ack. Settled in every case: a caller that hears nothing repeats with a new message."""
        try:
            request, body, deadline = await self._open(delivery)
        except (LinkSealError, NotOursError) as error:
            self.dropped += 1
            log.warning(
                "a request was dropped", action="rpc.request_dropped", type=delivery.kind, error=type(error).__name__
            )
            await delivery.ack()
            return
        try:
            async with asyncio.timeout(deadline - time.time()):
                meta, pieces = await self._routes[type(request)](request, body, deadline)
            await self._answer(delivery, meta, pieces, deadline)
        except (TransientError, TimeoutError) as error:
            log.warning(
                "a request was not answered", action="rpc.unanswered", type=delivery.kind, error=describe(error)
            )
        await delivery.ack()

    async def _open(self, delivery: Delivery) -> tuple[Meta, memoryview, float]:
        """Believe a request: sealed for this link and this call, of a type we serve, and in time.

        Raises:
            LinkSealError: it does not open.
            NotOursError: `unknown_type`, `late`, `bad_reply_to`, or what the codec refuses.
        """
        opened = await self._link.open(Direction.REQUEST, delivery.kind, delivery.correlation_id, delivery.body)
        if opened.deadline <= time.time():
            raise NotOursError("late")
        if not (delivery.reply_to or "").startswith(REPLY_TO):
            raise NotOursError("bad_reply_to")
        return decode(self._routes, delivery.kind, opened.meta, len(opened.body)), opened.body, opened.deadline

    async def _answer(self, delivery: Delivery, meta: Meta, body: Buffers, deadline: float) -> None:
        correlation_id = delivery.correlation_id
        sealed = await self._link.seal(Direction.REPLY, meta.TYPE, correlation_id, deadline, encode(meta), body)
        message = Outgoing(type=meta.TYPE, body=sealed, correlation_id=correlation_id)
        await self._publisher.publish(DEFAULT_EXCHANGE, delivery.reply_to or "", message, mandatory=False)


@asynccontextmanager
async def serving(
    broker: Broker, link: LinkKeys, routes: Mapping[type[Meta], Handler], *, prefetch: int, drain_seconds: float
) -> AsyncIterator[Consumer]:
    """Serve a store vhost while the context is open; leaving it drains."""
    async with Publisher.open(broker.publishing, confirms=False) as publisher:
        server = RpcServer(link, routes, publisher)
        async with consuming(
            broker.consuming, topology.STORE_REQUESTS, server.handle, prefetch=prefetch, drain_seconds=drain_seconds
        ) as consumer:
            yield consumer
