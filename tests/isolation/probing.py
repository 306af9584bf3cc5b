"""One operation on the broker at a time, tried as one user: does its permission allow it, whatever comes of it then?

Nothing that services live on is changed: what exists is declared with other arguments (406 is a permission, 403 is
none), what is bound is unbound, a message goes by a key that no queue is bound with.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection

from messaging.settings import BrokerSettings

SECONDS: Final = 10
NOWHERE: Final = "nowhere"  # a routing key without a binding

REFUSED: Final = aiormq.exceptions.ChannelAccessRefused
OTHERWISE: Final = (aiormq.exceptions.ChannelNotFoundEntity, aiormq.exceptions.ChannelPreconditionFailed)

Operation = Callable[[AbstractChannel], Awaitable[Any]]


@asynccontextmanager
async def entered(settings: BrokerSettings) -> AsyncIterator[AbstractConnection]:
    """A plain connection, which nothing repairs."""
    async with asyncio.timeout(SECONDS):
        connection = await aiormq.connect(f"{settings.url}?auth=external", context=settings.ssl_context())
    try:
        yield connection
    finally:
        async with asyncio.timeout(SECONDS):
            await connection.close()


class Prober:
    """Tries operations on one connection; a refusal costs a channel, and the next attempt opens another."""

    def __init__(self, connection: AbstractConnection) -> None:
        """Try as whoever entered."""
        self._connection = connection
        self._channel: AbstractChannel | None = None

    async def permits(self, operation: Operation) -> bool:
        """Whether the user may do it; that there is nothing to do it to is not the permission's affair."""
        async with asyncio.timeout(SECONDS):
            if self._channel is None:
                self._channel = await self._connection.channel(publisher_confirms=True)
            try:
                await operation(self._channel)
            except REFUSED:
                self._channel = None
                return False
            except OTHERWISE:
                self._channel = None
        return True

    async def permitted(self, operations: dict[str, Operation]) -> set[str]:
        """Which of these it permits."""
        return {name for name, operation in operations.items() if await self.permits(operation)}


# --- operations -----------------------------------------------------------------------------------------------------


def declare_queue(name: str) -> Operation:
    """Declare a queue unlike any of ours."""

    async def operation(channel: AbstractChannel) -> None:
        await channel.queue_declare(name, auto_delete=True, arguments={"x-expires": 60_000})
        await channel.queue_delete(name)

    return operation


def delete_queue(name: str) -> Operation:
    """Delete a queue that nobody uses."""
    return lambda channel: channel.queue_delete(name, if_unused=True, if_empty=True)


def purge(name: str) -> Operation:
    """Drop what waits in a queue."""
    return lambda channel: channel.queue_purge(name)


def get(name: str) -> Operation:
    """Take a message, and give it back."""

    async def operation(channel: AbstractChannel) -> None:
        message = await channel.basic_get(name)
        if message.delivery_tag is not None:
            await channel.basic_nack(message.delivery_tag, requeue=True)

    return operation


def consume(name: str) -> Operation:
    """Begin to read a queue, and stop."""

    async def operation(channel: AbstractChannel) -> None:
        started = await channel.basic_consume(name, _unread)
        assert started.consumer_tag is not None
        await channel.basic_cancel(started.consumer_tag)

    return operation


async def _unread(_message: object) -> None:
    """Settle nothing: what comes goes back when the channel closes."""


def declare_exchange(name: str) -> Operation:
    """Declare an exchange unlike any of ours."""

    async def operation(channel: AbstractChannel) -> None:
        await channel.exchange_declare(name, exchange_type="headers", auto_delete=True)
        await channel.exchange_delete(name)

    return operation


def delete_exchange(name: str) -> Operation:
    """Delete an exchange that nothing is bound to."""
    return lambda channel: channel.exchange_delete(name, if_unused=True)


def bind(queue: str, exchange: str) -> Operation:
    """Bind a queue by a key that nobody uses."""

    async def operation(channel: AbstractChannel) -> None:
        await channel.queue_bind(queue, exchange, NOWHERE)
        await channel.queue_unbind(queue, exchange, NOWHERE)

    return operation


def bind_exchange(destination: str, source: str) -> Operation:
    """Bind an exchange by a key that nobody uses."""

    async def operation(channel: AbstractChannel) -> None:
        await channel.exchange_bind(destination, source, NOWHERE)
        await channel.exchange_unbind(destination, source, NOWHERE)

    return operation


def publish(exchange: str, key: str = NOWHERE, **properties: Any) -> Operation:
    """Publish rubbish, and wait for the confirm, before which a refusal arrives."""

    async def operation(channel: AbstractChannel) -> None:
        told = aiormq.spec.Basic.Properties(**properties)
        await channel.basic_publish(b"rubbish", exchange=exchange, routing_key=key, properties=told)

    return operation
