"""The DataStore process: opens what its handlers work with, and closes it in order."""

from contextlib import AbstractAsyncContextManager
from typing import cast

from messaging.connection import Broker
from messaging.link import LinkKeys
from messaging.rpc import serving
from messaging.service import Lifecycle, run
from messaging.settings import load
from workers.datastore.backend import SweepableBackend
from workers.datastore.directory import DirectoryBackend
from workers.datastore.handlers import DataStoreHandlers
from workers.datastore.s3 import S3Backend
from workers.datastore.settings import DirectorySettings, Settings
from workers.datastore.sweeping import SweepHandlers


def open_backend(settings: Settings) -> AbstractAsyncContextManager[SweepableBackend]:
    """The backend that the settings name."""
    if settings.s3 is not None:
        return S3Backend.open(settings.s3, connections=settings.concurrency)
    directory = cast("DirectorySettings", settings.directory)  # the settings have exactly one of the two
    return DirectoryBackend.open(directory.path, threads=settings.concurrency)


async def serve(settings: Settings, lifecycle: Lifecycle) -> None:
    """Serve until told to stop."""
    link = LinkKeys.from_file(settings.broker.link_file)
    async with (
        open_backend(settings) as backend,
        Broker.open(settings.broker, "datastore") as broker,
        serving(
            broker,
            link,
            DataStoreHandlers(backend, concurrency=settings.concurrency).routes()
            | SweepHandlers(backend.sweep).routes(),
            prefetch=settings.prefetch,
            drain_seconds=settings.drain_seconds,
        ) as requests,
    ):
        await lifecycle.run(broker=broker.check, requests=requests.check, objects=backend.check)


def main() -> None:
    """Run the DataStore with the settings that the command line names."""
    settings = load(Settings)
    run("datastore", settings, lambda lifecycle: serve(settings, lifecycle))


if __name__ == "__main__":
    main()
