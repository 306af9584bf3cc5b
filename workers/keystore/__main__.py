"""The KeyStore process: opens what its handlers work with, and closes it in order."""

from messaging.connection import Broker
from messaging.link import LinkKeys
from messaging.rpc import serving
from messaging.service import Lifecycle, run
from messaging.settings import load
from workers.keystore.handlers import KeyStoreHandlers
from workers.keystore.repository import Keys
from workers.keystore.settings import Settings


async def serve(settings: Settings, lifecycle: Lifecycle) -> None:
    """Serve until told to stop."""
    link = LinkKeys.from_file(settings.broker.link_file)
    async with (
        Keys.open(settings.database) as keys,
        Broker.open(settings.broker, "keystore") as broker,
        serving(
            broker,
            link,
            KeyStoreHandlers(keys).routes(),
            prefetch=settings.prefetch,
            drain_seconds=settings.drain_seconds,
        ) as requests,
    ):
        await lifecycle.run(broker=broker.check, requests=requests.check, database=keys.check)


def main() -> None:
    """Run the KeyStore with the settings that the command line names."""
    settings = load(Settings)
    run("keystore", settings, lambda lifecycle: serve(settings, lifecycle))


if __name__ == "__main__":
    main()
