"""What the store tests run against: the real PostgreSQL of the stack, a directory, two S3 servers over TLS."""

import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fix_stack import DatabaseAs
from workers.datastore.backend import Backend
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
    open: Callable[[], AbstractAsyncContextManager[Backend]]


@contextmanager
def _server(arguments: list[str], port: int, cwd: Path) -> Iterator[None]:
    """Run a server until the tests are over."""
    process = subprocess.Popen(arguments, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - fixed argv
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("localhost", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, f"{arguments[0]} did not start"
                assert time.monotonic() < deadline, f"{arguments[0]} does not listen"
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def s3_settings(tmp_path_factory: pytest.TempPathFactory, server_tls: TlsFiles) -> Callable[[int], S3Settings]:
    """Settings for an S3 server on a port."""
    folder = tmp_path_factory.mktemp("s3-keys")
    (folder / "access").write_text(ACCESS_KEY + "\n")
    (folder / "secret").write_text(SECRET_KEY + "\n")

    def settings(port: int) -> S3Settings:
        return S3Settings(
            endpoint_url=f"https://localhost:{port}",
            bucket="objects",
            ca_file=server_tls[0],
            access_key_file=folder / "access",
            secret_key_file=folder / "secret",
        )

    return settings


@pytest.fixture(scope="session")
def rclone(
    tmp_path_factory: pytest.TempPathFactory, server_tls: TlsFiles, s3_settings: Callable[[int], S3Settings]
) -> Iterator[S3Settings]:
    """An S3 server that keeps files, and honours no conditions."""
    folder, port = tmp_path_factory.mktemp("rclone"), _free_port()
    (folder / "objects").mkdir()
    _, certificate, key = server_tls
    program = str(Path(sys.executable).with_name("rclone"))
    options = ["--config", "", "--addr", f"localhost:{port}", "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"]
    tls = ["--cert", str(certificate), "--key", str(key)]
    with _server([program, "serve", "s3", *options, *tls, str(folder)], port, folder):
        yield s3_settings(port)


@pytest.fixture(scope="session")
def moto(
    tmp_path_factory: pytest.TempPathFactory, server_tls: TlsFiles, s3_settings: Callable[[int], S3Settings]
) -> Iterator[S3Settings]:
    """An S3 server that keeps everything in memory, and is strict."""
    ca, certificate, key = server_tls
    port = _free_port()
    options = ["-H", "localhost", "-p", str(port), "-s", "-c", str(certificate), "-k", str(key)]
    with _server([sys.executable, "-m", "moto.server", *options], port, tmp_path_factory.mktemp("moto")):
        create = urllib.request.Request(f"https://localhost:{port}/objects", method="PUT")
        urllib.request.urlopen(create, context=ssl.create_default_context(cafile=ca)).close()  # noqa: S310 - https
        yield s3_settings(port)


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
async def backends(stores: dict[str, Store]) -> AsyncIterator[dict[str, Backend]]:
    """An open backend on each of them; opening one for every test would take longer than the tests."""
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(store.open()) for name, store in stores.items()}


@pytest.fixture(params=["directory", "rclone", "moto"])
def store(request: pytest.FixtureRequest, stores: dict[str, Store]) -> Store:
    """Each place for objects in turn."""
    return stores[request.param]


@pytest.fixture
def backend(store: Store, backends: dict[str, Backend]) -> Backend:
    """The open backend on `store`."""
    return backends[store.name]
