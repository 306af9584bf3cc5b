"""Whoever gives up a broker call, at any moment of it, costs nobody the connection that all others share.

The AMQP library says good-bye on behalf of a call that is cancelled. One that crosses with the broker's own, or comes
twice, is an error to RabbitMQ, and it closes the whole connection. So every call here is cancelled at many moments.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Final
from uuid import uuid4

import pytest

from contracts import topology
from contracts.failures import TransientError
from messaging.connection import Broker, Connection
from messaging.publishing import Publisher
from messaging.queues import JobQueues
from messaging.streaming import QueueStream
from tests.fix_stack import BrokerAs

MOMENTS: Final = 60  # of one call at which it is cancelled
SETTLED_SECONDS: Final = 0.02  # for the broker to say what it thinks of that

Call = Callable[[Connection], Awaitable[None]]


@pytest.fixture
async def broker(broker_as: BrokerAs) -> AsyncIterator[Broker]:
    """Two connections, as the Cryptor has them."""
    async with Broker.open(broker_as("svc.cryptor", topology.EDGE), "test") as opened:
        yield opened


@pytest.fixture
async def queue(broker_as: BrokerAs) -> AsyncIterator[str]:
    """An upload queue."""
    name = topology.upload_queue("nobody", str(uuid4()))
    async with (
        Broker.open(broker_as("svc.gateway", topology.EDGE), "test") as gateway,
        JobQueues.open(gateway.publishing) as queues,
    ):
        await queues.declare(name, topology.UPLOADS, topology.upload_arguments(0, 0, 60))
        yield name
        await queues.delete(name)


def reading(queue: str) -> Call:
    """Open a stream on a queue, and leave it."""

    async def call(connection: Connection) -> None:
        async with QueueStream.open(connection, queue, prefetch=1, exclusive=True):
            pass

    return call


async def publishing(connection: Connection) -> None:
    """Open a channel to publish on, and leave it."""
    async with Publisher.open(connection):
        pass


async def connections_lost(connection: Connection, call: Call) -> int:
    """Make a call many times, each time given up at another moment; how often the connection went with it."""
    lost: list[object] = []
    connection.close_callbacks.add(lambda *why: lost.append(why))
    began = time.monotonic()
    with suppress(TransientError):
        await call(connection)
    whole = time.monotonic() - began
    for at in range(MOMENTS):
        task = asyncio.ensure_future(call(connection))
        await asyncio.sleep(1.2 * whole * at / MOMENTS)
        task.cancel()
        with suppress(asyncio.CancelledError, TransientError):
            await task
        await asyncio.sleep(SETTLED_SECONDS)
    return len(lost)


async def test_reading_a_queue_that_is_gone(broker: Broker) -> None:
    """The broker closes the channel just when the reader does not want it any more: a download that has expired."""
    gone = topology.upload_queue("nobody", str(uuid4()))
    with pytest.raises(TransientError):
        await reading(gone)(broker.consuming)
    assert await connections_lost(broker.consuming, reading(gone)) == 0


async def test_reading_a_queue_that_is_there(broker: Broker, queue: str) -> None:
    """Neither opening nor leaving is said twice."""
    assert await connections_lost(broker.consuming, reading(queue)) == 0


async def test_publishing(broker: Broker) -> None:
    """A client that gives up an upload keeps its other jobs."""
    assert await connections_lost(broker.publishing, publishing) == 0
