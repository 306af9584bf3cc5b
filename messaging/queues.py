"""The two kinds of queue that services declare at run time: upload and download queues, one per job.

Everything else in the topology is the broker's own, from its definitions.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aio_pika.abc import AbstractRobustChannel, AbstractRobustConnection

from messaging.connection import BROKER_SECONDS, broker_errors, goodbye


class JobQueues:
    """Declares, binds and deletes queues on a channel of its own."""

    def __init__(self, channel: AbstractRobustChannel) -> None:
        """Work on `channel`; `JobQueues.open` makes one."""
        self._channel = channel

    @classmethod
    @asynccontextmanager
    async def open(cls, connection: AbstractRobustConnection) -> AsyncIterator["JobQueues"]:
        """Open a channel for declarations."""
        with broker_errors():
            async with asyncio.timeout(BROKER_SECONDS):
                channel = connection.channel(publisher_confirms=False)
                await channel.initialize()
        try:
            yield cls(channel)
        finally:
            await goodbye(channel.close())

    async def declare(
        self, queue: str, exchange: str, arguments: Mapping[str, str | int], *, auto_delete: bool = False
    ) -> None:
        """Declare a durable queue and bind it to `exchange` under its own name; again is well too.

        Raises:
            TransientError: the broker did not answer, or refused.
        """
        with broker_errors():
            async with asyncio.timeout(BROKER_SECONDS):
                # Not restored after a reconnect: it is durable, and outlives its job only until it expires.
                declared = await self._channel.declare_queue(
                    queue, durable=True, auto_delete=auto_delete, arguments=dict(arguments), robust=False
                )
                await declared.bind(exchange, routing_key=queue, robust=False)

    async def delete(self, queue: str) -> None:
        """Delete a queue with what is left in it; one that is gone is well too.

        Raises:
            TransientError: the broker did not answer.
        """
        with broker_errors():
            async with asyncio.timeout(BROKER_SECONDS):
                await self._channel.queue_delete(queue)
