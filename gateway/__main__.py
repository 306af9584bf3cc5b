"""The gateway process: opens what `gateway.desk` works with, and closes it in order."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from contracts import topology
from contracts.codec import parse
from contracts.failures import TransientError
from contracts.registry import Registry
from gateway.desk import Desk
from gateway.ledger import Ledger
from gateway.settings import Settings
from messaging.connection import Broker
from messaging.consuming import consuming
from messaging.link import Direction, LinkKeys
from messaging.logs import log
from messaging.publishing import Publisher
from messaging.queues import JobQueues
from messaging.sealed import SealedPublisher
from messaging.service import Lifecycle, run
from messaging.settings import load
from messaging.watching import Watched
from workers.postgres import Database

SCHEMA_VERSION: Final = 1
HOUSEKEEPING_SECONDS: Final = 600


async def serve(settings: Settings, lifecycle: Lifecycle) -> None:
    """Serve until told to stop."""
    registry = Watched(settings.clients_file, lambda data: parse(Registry, data))
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.open(settings.database, version=SCHEMA_VERSION))
        ledger = Ledger(database, settings.quota, silence_seconds=settings.silence_seconds, attempts=settings.attempts)
        broker = await stack.enter_async_context(Broker.open(settings.edge, "gateway"))
        jobs = await stack.enter_async_context(Publisher.open(broker.publishing))
        answers = await stack.enter_async_context(Publisher.open(broker.publishing, confirms=False))
        desk = Desk(
            vault_id=settings.vault_id,
            registry=registry.current,
            ledger=ledger,
            uploads=await stack.enter_async_context(JobQueues.open(broker.publishing)),
            jobs=SealedPublisher(jobs, LinkKeys.from_file(settings.edge.link_file), Direction.JOB),
            answers=answers,
        )
        async with asyncio.TaskGroup() as background:
            chores = [
                background.create_task(desk.keep_handing_out()),
                background.create_task(_forget(ledger, settings.retention_seconds)),
            ]
            consume = partial(
                consuming, broker.consuming, prefetch=settings.prefetch, drain_seconds=settings.drain_seconds
            )
            async with (
                consume(topology.GATEWAY_EVENTS, desk.record) as events,
                consume(topology.GATEWAY_REQUESTS, desk.receive) as requests,
            ):
                await lifecycle.run(
                    broker=broker.check, events=events.check, requests=requests.check, database=database.check
                )
            for chore in chores:
                chore.cancel()


async def _forget(ledger: Ledger, retention_seconds: float) -> None:
    while True:
        try:
            await ledger.forget(retention_seconds)
        except TransientError as error:
            log.warning("the ledger is out of reach", action="ledger.unreachable", reason=error.reason)
        await asyncio.sleep(HOUSEKEEPING_SECONDS)


def main() -> None:
    """Run the gateway with the settings that the command line names."""
    settings = load(Settings)
    run("gateway", settings, lambda lifecycle: serve(settings, lifecycle))


if __name__ == "__main__":
    main()
