"""Counting broker messages exactly: RabbitMQ's firehose copies every publish, direct replies included.

Tracing slows the broker down; what is counted is not timed.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import aio_pika

from bench.scratch import scratch_settings, scratch_user
from contracts import topology
from infra.local.stack import Stack

FIREHOSE: Final = "amq.rabbitmq.trace"
PUBLISHES: Final = "publish.#"
QUIET_SECONDS: Final = 0.5  # without a copy: everything that was published has been counted

Counts = Counter[tuple[str, str]]  # (vhost, exchange); the exchange is empty for replies


class Tap:
    """Counts publishes on every vhost of a stack."""

    def __init__(self) -> None:
        """Begin at nothing; `counting` makes one."""
        self._counts: Counts = Counter()

    def count(self, vhost: str, routing_key: str) -> None:
        """Take one copy."""
        self._counts[vhost, routing_key.removeprefix("publish.")] += 1

    async def taken(self) -> Counts:
        """Wait until nothing more comes; what came since the last time."""
        seen = -1
        while seen != self._counts.total():
            seen = self._counts.total()
            await asyncio.sleep(QUIET_SECONDS)
        taken, self._counts = self._counts, Counter()
        return taken


@asynccontextmanager
async def counting(stack: Stack) -> AsyncIterator[Tap]:
    """Count while the context is open."""
    vhosts = [vhost.name for vhost in topology.VHOSTS]
    tap = Tap()
    async with AsyncExitStack() as context:
        context.enter_context(scratch_user(stack, *vhosts))
        for vhost in vhosts:
            await context.enter_async_context(_tapped(stack, vhost, tap))
        yield tap


@asynccontextmanager
async def _tapped(stack: Stack, vhost: str, tap: Tap) -> AsyncIterator[None]:
    settings = scratch_settings(stack, vhost)
    connection = await aio_pika.connect(f"{settings.url}?auth=external", ssl_context=settings.ssl_context())
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(FIREHOSE, PUBLISHES)

        async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            tap.count(vhost, message.routing_key or "")

        await queue.consume(take, no_ack=True)
        await asyncio.to_thread(stack.rabbitmqctl, "trace_on", "-p", vhost)
        try:
            yield
        finally:
            await asyncio.to_thread(stack.rabbitmqctl, "trace_off", "-p", vhost)
