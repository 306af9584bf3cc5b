"""Mallory owns the broker: every right on every vhost, and leave to publish as anybody (`impersonator`).

`Mallory.between` puts her between an exchange and its queue: what is published comes to her first, and what she
publishes instead goes on to the queue. She has no keys.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

from contracts import topology
from infra.files import private_folder
from infra.local.stack import Stack
from infra.pki.authority import Authority
from messaging.rpc import REPLY_TO
from messaging.settings import BrokerSettings
from tests.fix_stack import BrokerAs

NAME: Final = "mallory"
SECONDS: Final = 10  # for a broker call


@dataclass(frozen=True)
class Message:
    """A message as she has it in her hands."""

    body: bytes = field(repr=False)
    properties: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, got: AbstractIncomingMessage) -> "Message":
        """What came."""
        names = ("headers", "type", "correlation_id", "reply_to", "user_id", "message_id", "delivery_mode")
        return cls(got.body, {name: getattr(got, name) for name in names})

    def altered(self, at: int = -20) -> "Message":
        """One bit of the body flipped."""
        body = bytearray(self.body)
        body[at % len(body)] ^= 1
        return replace(self, body=bytes(body))

    def having(self, **properties: object) -> "Message":
        """With other properties."""
        return replace(self, properties=self.properties | properties)


Act = Callable[[Message], Sequence[Message]]


def passing(message: Message) -> Sequence[Message]:
    """Do nothing."""
    return [message]


def dropping(_: Message) -> Sequence[Message]:
    """Let nothing through."""
    return []


def altering(message: Message) -> Sequence[Message]:
    """Flip a bit of everything."""
    return [message.altered()]


def doubling(message: Message) -> Sequence[Message]:
    """Send everything twice."""
    return [message, message]


class Swapping:
    """Exchange neighbours: the second message goes first."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._held: Message | None = None

    def __call__(self, message: Message) -> Sequence[Message]:
        """Hold every first one back until the second has gone."""
        if self._held is None:
            self._held = message
            return []
        first, self._held = self._held, None
        return [message, first]


class First:
    """Do it to the first messages only, then let pass: what it takes to see the honest way recover."""

    def __init__(self, act: Act, count: int = 1) -> None:
        """Do `act` `count` times."""
        self._act, self._left = act, count

    def __call__(self, message: Message) -> Sequence[Message]:
        """As above."""
        self._left -= 1
        return self._act(message) if self._left >= 0 else [message]


Way = tuple[str, str, str, str]  # vhost, exchange, queue, routing key


def requests_of(store: str) -> Way:
    """How requests come to a store."""
    return store, topology.REQUESTS, topology.STORE_REQUESTS, topology.STORE_REQUESTS


class Mallory:
    """A connection to each vhost, and everything that she has seen."""

    def __init__(self, connections: dict[str, AbstractConnection], channels: dict[str, AbstractChannel]) -> None:
        """Use open connections, and channels to publish by; `Mallory.open` makes them."""
        self._connections = connections
        self._channels = channels
        self.seen: list[Message] = []
        self._news = asyncio.Condition()

    @classmethod
    @asynccontextmanager
    async def open(cls, stack: Stack, broker_as: BrokerAs) -> AsyncIterator["Mallory"]:
        """Become the broker's owner; stop being it afterwards."""
        folder = stack.layout.root / "clients" / NAME
        private_folder(folder)
        Authority.load(stack.secrets.authority).client(NAME).save(folder, NAME)
        shutil.copy(stack.secrets.authority / "ca.pem", folder)
        stack.rabbitmqctl("add_user", NAME, "unused")
        stack.rabbitmqctl("set_user_tags", NAME, "administrator", "impersonator")
        vhosts = (topology.EDGE, *topology.STORES)
        for vhost in vhosts:
            stack.rabbitmqctl("set_permissions", "-p", vhost, NAME, ".*", ".*", ".*")
        connections = {}
        try:
            for vhost in vhosts:
                connections[vhost] = await _connect(broker_as(NAME, vhost))
            yield cls(connections, {vhost: await each.channel() for vhost, each in connections.items()})
        finally:
            for each in connections.values():
                await each.close()
            stack.rabbitmqctl("delete_user", NAME)
            shutil.rmtree(folder)

    async def publish(self, vhost: str, queue: str, message: Message, *, by: AbstractChannel | None = None) -> None:
        """Put a message into a queue, or send it to a reply token, by the default exchange."""
        told = aio_pika.Message(message.body, **message.properties)
        channel = by or self._channels[vhost]
        async with asyncio.timeout(SECONDS):
            if channel.is_closed:  # over something that went wrong with an earlier message
                await channel.reopen()
            exchange = channel.default_exchange
            await exchange.publish(told, routing_key=queue, mandatory=False)

    async def take(self, vhost: str, queue: str, count: int) -> list[Message]:
        """Take `count` messages out of a queue, as soon as they are there."""
        taken: list[Message] = []
        async with asyncio.timeout(3 * SECONDS), self._connections[vhost].channel() as channel:
            there = await channel.get_queue(queue, ensure=False)
            while len(taken) < count:
                got = await there.get(no_ack=True, fail=False)
                if got is None:
                    await asyncio.sleep(0.02)
                else:
                    taken.append(Message.of(got))
        self.seen += taken
        return taken

    async def has_seen(self, count: int) -> None:
        """Wait until she has seen that many messages."""
        async with asyncio.timeout(SECONDS), self._news:
            await self._news.wait_for(lambda: len(self.seen) >= count)

    @asynccontextmanager
    async def between(
        self, vhost: str, exchange: str, queue: str, key: str, act: Act = passing, *, by: AbstractChannel | None = None
    ) -> AsyncIterator[None]:
        """Have what goes from `exchange` to `queue` by `key` come to her, and go on as `act` says."""

        async def go_on(got: AbstractIncomingMessage) -> None:
            message = Message.of(got)
            async with self._news:  # one message after the other: what she does not reorder stays in order
                for each in act(message):
                    await self.publish(vhost, queue, each, by=by)
                self.seen.append(message)
                self._news.notify_all()

        async with self._connections[vhost].channel() as channel:
            mine = await channel.declare_queue(exclusive=True, auto_delete=True)  # goes with its consumer
            await mine.consume(go_on, no_ack=True)
            theirs = await channel.get_queue(queue, ensure=False)
            await mine.bind(exchange, routing_key=key)
            await theirs.unbind(exchange, routing_key=key)
            try:
                yield
            finally:
                with suppress(aio_pika.exceptions.ChannelClosed):  # the queue of a job that is over
                    await theirs.bind(exchange, routing_key=key)

    @asynccontextmanager
    async def between_replies(self, vhost: str, act: Act) -> AsyncIterator[None]:
        """Have a store answer her own reply token, and answer the Cryptor as `act` says."""
        waiting: dict[str, str] = {}

        async def go_on(got: AbstractIncomingMessage) -> None:
            message = Message.of(got)
            self.seen.append(message)
            for each in act(message):
                await self.publish(vhost, waiting[each.properties["correlation_id"]], each)

        def redirect(request: Message) -> Sequence[Message]:
            waiting[request.properties["correlation_id"]] = request.properties["reply_to"]
            return [request.having(reply_to=REPLY_TO)]

        async with self._connections[vhost].channel(publisher_confirms=False) as channel:
            replies = await channel.get_queue(REPLY_TO, ensure=False)
            await replies.consume(go_on, no_ack=True)
            async with self.between(*requests_of(vhost), redirect, by=channel):
                yield


async def _connect(settings: BrokerSettings) -> AbstractConnection:
    async with asyncio.timeout(SECONDS):
        return await aio_pika.connect(f"{settings.url}?auth=external", ssl_context=settings.ssl_context())
