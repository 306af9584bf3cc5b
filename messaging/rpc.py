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

from contracts import topology
from contracts.codec import Meta, decode, encode, parse
from contracts.failures import FailureCode, NotOursError, TransientError
from messaging import metrics
from messaging.connection import Broker
from messaging.consuming import Consumer, Delivery, consuming
from messaging.link import Buffers, Direction, LinkKeys, LinkSealError
from messaging.logs import describe, log
from messaging.publishing import DEFAULT_EXCHANGE, Outgoing, Publisher
from messaging.replies import REPLY_TO, ReplyChannel

FORGERIES: Final = 16  # replies to one call that are looked at: the real one, and what a hostile broker adds


Handler = Callable[[Any, memoryview, float], Awaitable[tuple[Meta, Buffers]]]
R = TypeVar("R", bound=Meta)


def _why(error: LinkSealError | NotOursError) -> str:
    return error.reason if isinstance(error, NotOursError) else "link_seal"


class RpcClient:
    """Calls the one service behind a store vhost."""

    def __init__(self, link: LinkKeys) -> None:
        """Seal with `link`; `RpcClient.open` makes one."""
        self._link = link
        self._channel: ReplyChannel | None = None
        self._pending: dict[str, asyncio.Queue[Delivery | None]] = {}

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
            log.info("a reply came that nobody waits for", action="rpc.reply_unclaimed")
        else:
            replies.put_nowait(delivery)

    def _lost(self) -> None:
        for replies in self._pending.values():
            if not replies.full():
                replies.put_nowait(None)

    async def call(
        self, request: Meta, body: Buffers, reply: type[R], deadline: float, *, rpc: str = ""
    ) -> tuple[R, memoryview]:
        """Send one request and return its reply, meta and body.

        Args:
            request: what to do.
            body: its raw bytes, in pieces.
            reply: the only reply that is believed.
            deadline: unix time in seconds after which the store must not do it any more.
            rpc: its correlation id, by which both ends log it, if the caller wants to know it.

        Raises:
            TransientError: no reply in time: the outcome is unknown.
        """
        correlation_id = rpc or uuid.uuid4().hex
        replies = self._pending[correlation_id] = asyncio.Queue(maxsize=FORGERIES)
        started, outcome = time.perf_counter(), "failed"
        try:
            async with asyncio.timeout(deadline - time.time()):
                await self._send(request, body, correlation_id, deadline)
                opened = await self._opened(replies, correlation_id, reply)
            outcome = "answered"
        except TimeoutError:
            raise TransientError(FailureCode.STORE_UNAVAILABLE, "store_timeout") from None
        else:
            return opened
        finally:
            del self._pending[correlation_id]
            metrics.observe(metrics.RPC_CLIENT_SECONDS, request.TYPE, outcome, value=time.perf_counter() - started)

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
            except (LinkSealError, NotOursError) as error:
                log.warning("a reply was dropped", action="rpc.reply_dropped", rpc=correlation_id, reason=_why(error))
        raise TransientError(FailureCode.STORE_UNAVAILABLE, "connection_lost")


class RpcServer:
    """Answers the requests of a store vhost by its routes."""

    def __init__(self, link: LinkKeys, routes: Mapping[type[Meta], Handler], publisher: Publisher) -> None:
        """Open with `link`, dispatch by type, answer through `publisher` (without confirms)."""
        self._link = link
        self._routes = routes
        self._publisher = publisher

    async def handle(self, delivery: Delivery) -> None:
        """Open, do, answer, ack. Settled in every case: a caller that hears nothing repeats with a new message."""
        try:
            request, body, deadline = await self._open(delivery)
        except (LinkSealError, NotOursError) as error:
            log.warning("a request was dropped", action="rpc.request_dropped", reason=_why(error))
            await delivery.ack()
            return
        told = {"type": request.TYPE, "rpc": delivery.correlation_id}
        started, outcome = time.perf_counter(), "answered"
        try:
            async with asyncio.timeout(deadline - time.time()):
                meta, pieces = await self._routes[type(request)](request, body, deadline)
            await self._answer(delivery, meta, pieces, deadline)
            log.debug("a request was answered", action="rpc.answered", **told)
        except (TransientError, TimeoutError) as error:
            outcome = "unanswered"
            log.warning("a request was not answered", action="rpc.unanswered", **told, error=describe(error))
        metrics.observe(metrics.RPC_SERVER_SECONDS, request.TYPE, outcome, value=time.perf_counter() - started)
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
