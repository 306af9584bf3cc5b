"""The Cryptor process: opens what `workers.cryptor.desk` works with, and closes it in order."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

from contracts import topology
from contracts.codec import parse
from contracts.edge import Directory
from contracts.failures import TransientError
from contracts.registry import Registry
from messaging.connection import Broker
from messaging.consuming import consuming
from messaging.link import Direction, LinkKeys
from messaging.logs import log
from messaging.publishing import Publisher
from messaging.queues import JobQueues
from messaging.rpc import RpcClient
from messaging.sealed import SealedPublisher
from messaging.service import Lifecycle, run
from messaging.settings import LinkSettings, load
from messaging.watching import Watched
from workers.cryptor.core.keys import Keyring
from workers.cryptor.desk import Desk
from workers.cryptor.dumping import Dumper
from workers.cryptor.exporting import Exporter
from workers.cryptor.hpke_keys import HpkeKeys, read_identity
from workers.cryptor.ingesting import Ingester
from workers.cryptor.loading import Loader
from workers.cryptor.requests import Requests
from workers.cryptor.settings import Settings
from workers.cryptor.stores import Stores

DIRECTORY_SECONDS: Final = 300  # between two key statements: a gateway that lost its database has none until the next
RETRY_SECONDS: Final = 5


async def serve(settings: Settings, lifecycle: Lifecycle) -> None:
    """Serve until told to stop."""
    registry = Watched(settings.clients_file, partial(parse, Registry))
    keyring = Keyring.from_file(settings.keyring_file)
    keys = HpkeKeys(
        settings.hpke_dir, read_identity(settings.identity_file), settings.vault_id, settings.rotate_seconds
    )
    async with AsyncExitStack() as stack:
        brokers: dict[str, Broker] = {}

        async def rpc(link: LinkSettings, name: str) -> RpcClient:
            brokers[name] = await stack.enter_async_context(Broker.open(link, f"cryptor to {name}"))
            return await stack.enter_async_context(RpcClient.open(brokers[name], LinkKeys.from_file(link.link_file)))

        stores = Stores(
            keystore=await rpc(settings.keystore, topology.KEYSTORE),
            datastore=await rpc(settings.datastore, topology.DATASTORE),
            mapstore=await rpc(settings.mapstore, topology.MAPSTORE),
            seconds=settings.store_seconds,
        )
        edge = brokers[topology.EDGE] = await stack.enter_async_context(Broker.open(settings.edge, "cryptor"))
        publisher = await stack.enter_async_context(Publisher.open(edge.publishing))
        events = SealedPublisher(publisher, LinkKeys.from_file(settings.edge.link_file), Direction.EVENT)
        dumper = Dumper(stores, keyring)
        loader = Loader(stores, keyring)
        desk = Desk(
            settings=settings,
            requests=Requests(settings.vault_id, registry.current, keys),
            dumper=dumper,
            ingester=Ingester(dumper),
            loader=loader,
            exporter=Exporter(stores, loader),
            stores=stores,
            events=events,
            downloads=await stack.enter_async_context(Publisher.open(edge.publishing)),
            queues=await stack.enter_async_context(JobQueues.open(edge.publishing)),
            uploads=edge.consuming,
        )
        consume = partial(consuming, edge.consuming, handler=desk.handle, drain_seconds=settings.drain_seconds)
        async with asyncio.TaskGroup() as background:
            directory = background.create_task(_keep_directory(keys, events))
            async with (
                consume(topology.CRYPTOR_BULK, prefetch=settings.bulk_prefetch) as bulk,
                consume(topology.CRYPTOR_INTERACTIVE, prefetch=settings.interactive_prefetch) as interactive,
            ):
                await lifecycle.run(
                    bulk=bulk.check,
                    interactive=interactive.check,
                    **{name: each.check for name, each in brokers.items()},
                )
            directory.cancel()


async def _keep_directory(keys: HpkeKeys, events: SealedPublisher) -> None:
    """Rotate the HPKE keys when it is time, and have the gateway serve the newest statement."""
    while True:
        statement, issued_at = await asyncio.to_thread(keys.refresh)
        pause = DIRECTORY_SECONDS
        try:
            meta = Directory(issued_at=issued_at)
            await events.publish(topology.EVENTS, topology.EVENT_KEY, meta, [statement])
        except TransientError as error:
            log.warning("the key statement was not published", action="keys.unpublished", reason=error.reason)
            pause = RETRY_SECONDS
        await asyncio.sleep(pause)


def main() -> None:
    """Run a Cryptor with the settings that the command line names."""
    settings = load(Settings)
    run("cryptor", settings, lambda lifecycle: serve(settings, lifecycle))


if __name__ == "__main__":
    main()
