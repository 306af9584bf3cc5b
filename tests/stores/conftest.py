"""What the store tests run against: the real PostgreSQL of the stack, a directory, two S3 servers over TLS."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fix_stack import DatabaseAs
from workers.datastore.backend import SweepableBackend
from workers.datastore.directory import DirectoryBackend
from workers.datastore.s3 import S3Backend
from workers.datastore.settings import S3Settings
from workers.keystore.repository import Keys
from workers.mapstore.repository import Map

TlsFiles = tuple[Path, Path, Path]  # ca, certificate for localhost, its key

ACCESS_KEY = "tests"
SECRET_KEY = "not-a-secret-but-long-enough"


@pytest.fixture(scope="session")
async def keys(database_as: DatabaseAs) -> AsyncIterator[Keys]:
    """The KeyStore's table, entered as its own role."""
    async with Keys.open(database_as("svc.keystore", "keystore")) as table:
        yield table


@pytest.fixture(scope="session")
async def records(database_as: DatabaseAs) -> AsyncIterator[Map]:
    """The MapStore's table, entered as its own role."""
    async with Map.open(database_as("svc.mapstore", "mapstore")) as table:
        yield table


@dataclass(frozen=True)
class Store:
    """A place for objects, and how to open a backend on it: a second one is another worker, or the next one."""

    name: str
    open: Callable[[], AbstractAsyncContextManager[SweepableBackend]]


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory, rclone: S3Settings, moto: S3Settings) -> dict[str, Store]:
    """Every place for objects by name."""
    folder = tmp_path_factory.mktemp("directory")
    return {
        "directory": Store("directory", lambda: DirectoryBackend.open(folder, threads=4)),
        "rclone": Store("rclone", lambda: S3Backend.open(rclone, connections=4)),
        "moto": Store("moto", lambda: S3Backend.open(moto, connections=4)),
    }


@pytest.fixture(scope="session")
async def backends(stores: dict[str, Store]) -> AsyncIterator[dict[str, SweepableBackend]]:
    """An open backend on each of them; opening one for every test would take longer than the tests."""
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(store.open()) for name, store in stores.items()}


@pytest.fixture(params=["directory", "rclone", "moto"])
def store(request: pytest.FixtureRequest, stores: dict[str, Store]) -> Store:
    """Each place for objects in turn."""
    return stores[request.param]


@pytest.fixture
def backend(store: Store, backends: dict[str, SweepableBackend]) -> SweepableBackend:
    """The open backend on `store`."""
    return backends[store.name]
