"""The MapStore process: opens what its handlers work with, and closes it in order."""

from messaging.connection import Broker
from messaging.link import LinkKeys
from messaging.rpc import serving
from messaging.service import Lifecycle, run
from messaging.settings import load
from workers.mapstore.handlers import MapStoreHandlers
from workers.mapstore.repository import Map
from workers.mapstore.settings import Settings


async def serve(settings: Settings, lifecycle: Lifecycle) -> None:
    """Serve until told to stop."""
    link = LinkKeys.from_file(settings.broker.link_file)
    async with (
        Map.open(settings.database) as table,
        Broker.open(settings.broker, "mapstore") as broker,
        serving(
            broker,
            link,
            MapStoreHandlers(table).routes(),
            prefetch=settings.prefetch,
            drain_seconds=settings.drain_seconds,
        ) as requests,
    ):
        await lifecycle.run(broker=broker.check, requests=requests.check, database=table.check)


def main() -> None:
    """Run the MapStore with the settings that the command line names."""
    settings = load(Settings)
    run("mapstore", settings, lambda lifecycle: serve(settings, lifecycle))


if __name__ == "__main__":
    main()
