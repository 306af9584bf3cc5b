"""The gateway process: opens what `gateway.desk` works with, and closes it in order."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from contracts import topology
from contracts.codec import parse
from contracts.edge import State
from contracts.failures import TransientError
from contracts.registry import Registry
from gateway.desk import Desk
from gateway.ledger import SCHEMA, SESSION, Ledger
from gateway.settings import Settings
from messaging import metrics
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

HOUSEKEEPING_SECONDS: Final = 600
COUNTING_SECONDS: Final = 5  # between two looks at the unfinished jobs, for the metrics


async def serve(settings: Settings, lifecycle: Lifecycle) -> None:
    """Serve until told to stop."""
    registry = Watched(settings.clients_file, lambda data: parse(Registry, data))
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.open(settings.database, version=SCHEMA, **SESSION))
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
                background.create_task(_keep(HOUSEKEEPING_SECONDS, partial(ledger.forget, settings.retention_seconds))),
                background.create_task(_keep(COUNTING_SECONDS, partial(_count, ledger))),
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


async def _keep(seconds: float, do: Callable[[], Awaitable[None]]) -> None:
    """Do it again and again, with a pause in between."""
    while True:
        try:
            await do()
        except TransientError as error:
            log.warning("the ledger is out of reach", action="ledger.unreachable", reason=error.reason)
        await asyncio.sleep(seconds)


async def _count(ledger: Ledger) -> None:
    """Tell the metrics what is unfinished."""
    unfinished = await ledger.unfinished()
    for state in (State.ACCEPTED, State.RUNNING):
        jobs, oldest = unfinished.get(state, (0, 0))
        metrics.LEDGER_JOBS.labels(state).set(jobs)
        metrics.LEDGER_OLDEST.labels(state).set(oldest)


def main() -> None:
    """Run the gateway with the settings that the command line names."""
    settings = load(Settings)
    run("gateway", settings, lambda lifecycle: serve(settings, lifecycle))


if __name__ == "__main__":
    main()
