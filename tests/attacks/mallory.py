"""Mallory owns the broker: every right on every vhost, and leave to publish as anybody (`impersonator`).

`Mallory.between` puts her between an exchange and its queue: what is published comes to her first, and what she
publishes instead goes on to the queue. She has no keys.

RabbitMQ closes the connection of whoever acts on a channel that it has closed, say over a queue that went away with its
job. So she takes a connection of its own for every errand, and nothing of one outlives it.
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
from messaging.replies import REPLY_TO
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
    """Everything that she has seen, and her ways of being in between."""

    def __init__(self, broker_as: BrokerAs) -> None:
        """Enter the broker by `broker_as`; `Mallory.open` makes one that may."""
        self._broker_as = broker_as
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
        for vhost in (topology.EDGE, *topology.STORES):
            stack.rabbitmqctl("set_permissions", "-p", vhost, NAME, ".*", ".*", ".*")
        try:
            yield cls(broker_as)
        finally:
            stack.rabbitmqctl("delete_user", NAME)
            shutil.rmtree(folder)

    @asynccontextmanager
    async def _errand(self, vhost: str) -> AsyncIterator[AbstractConnection]:
        """A connection for one errand."""
        settings = self._broker_as(NAME, vhost)
        async with asyncio.timeout(SECONDS):
            connection = await aio_pika.connect(f"{settings.url}?auth=external", ssl_context=settings.ssl_context())
        try:
            yield connection
        finally:
            with suppress(TimeoutError, *aio_pika.exceptions.CONNECTION_EXCEPTIONS):
                async with asyncio.timeout(SECONDS):
                    await connection.close()

    async def publish(self, vhost: str, queue: str, message: Message) -> None:
        """Put a message into a queue, or send it to a reply token, by the default exchange."""
        async with self._errand(vhost) as connection:
            await _send(await connection.channel(), queue, message)

    async def take(self, vhost: str, queue: str, count: int) -> list[Message]:
        """Take `count` messages out of a queue, as soon as they are there."""
        taken: list[Message] = []
        async with asyncio.timeout(3 * SECONDS), self._errand(vhost) as connection:
            there = await (await connection.channel()).get_queue(queue, ensure=False)
            while len(taken) < count:
                got = await there.get(no_ack=True, fail=False)
                if got is None:
                    await asyncio.sleep(0.02)
                else:
                    taken.append(Message.of(got))
        self.seen += taken
        return taken

    async def has_seen(self, count: int) -> None:
        """Wait until she has seen that many messages, and has sent what she sends instead."""
        async with asyncio.timeout(SECONDS), self._news:
            await self._news.wait_for(lambda: len(self.seen) >= count)

    @asynccontextmanager
    async def between(
        self, vhost: str, exchange: str, queue: str, key: str, act: Act = passing, *, by: AbstractChannel | None = None
    ) -> AsyncIterator[None]:
        """Have what goes from `exchange` to `queue` by `key` come to her, and go on as `act` says, `by` a channel."""
        async with self._errand(vhost) as connection:
            sending = by or await connection.channel()

            async def go_on(got: AbstractIncomingMessage) -> None:
                message = Message.of(got)
                async with self._news:  # one message after the other: what she does not reorder stays in order
                    for each in act(message):
                        await _send(sending, queue, each)
                    self.seen.append(message)
                    self._news.notify_all()

            channel = await connection.channel()
            mine = await channel.declare_queue(exclusive=True)  # goes with the connection
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

        def redirect(request: Message) -> Sequence[Message]:
            waiting[request.properties["correlation_id"]] = request.properties["reply_to"]
            return [request.having(reply_to=REPLY_TO)]

        async with self._errand(vhost) as connection:
            answering = await connection.channel()

            async def go_on(got: AbstractIncomingMessage) -> None:
                message = Message.of(got)
                self.seen.append(message)
                for each in act(message):
                    await _send(answering, waiting[each.properties["correlation_id"]], each)

            asking = await connection.channel(publisher_confirms=False)  # a token is its channel's
            replies = await asking.get_queue(REPLY_TO, ensure=False)
            await replies.consume(go_on, no_ack=True)
            async with self.between(*requests_of(vhost), redirect, by=asking):
                yield


async def _send(channel: AbstractChannel, queue: str, message: Message) -> None:
    """Publish by the default exchange. A queue that is gone, or full, takes nothing."""
    told = aio_pika.Message(message.body, **message.properties)
    async with asyncio.timeout(SECONDS):
        with suppress(aio_pika.exceptions.DeliveryError):
            await channel.default_exchange.publish(told, routing_key=queue, mandatory=False)
