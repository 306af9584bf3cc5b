"""S3 servers for tests: rclone, which keeps files and honours no conditions, and moto, which is strict."""

import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.files import write
from workers.datastore.settings import S3Settings

TlsFiles = tuple[Path, Path, Path]  # ca, certificate for localhost, its key

ACCESS_KEY = "tests"
SECRET_KEY = "not-a-secret-but-long-enough"


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
    write(folder / "access", ACCESS_KEY + "\n")
    write(folder / "secret", SECRET_KEY + "\n")

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
