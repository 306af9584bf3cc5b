"""Dump and load through the whole pipeline, at every size where something changes, on both backends of the DataStore.

The shared stack's DataStore is moved to S3 and back.
"""

import hashlib
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
import tomli_w

from infra.files import write
from infra.local.settings import write_settings
from infra.local.stack import Stack
from tests.command import result, run
from tests.sizes import SIZES
from trivault import Vault
from workers.datastore.settings import S3Settings


@pytest.fixture(scope="module", params=["directory", "s3"], autouse=True)
def backend(stack: Stack, request: pytest.FixtureRequest) -> Iterator[None]:
    """Where the DataStore keeps objects while a test runs."""
    if request.param == "directory":
        yield
        return
    s3: S3Settings = request.getfixturevalue("rclone")
    file = stack.layout.etc / "datastore.toml"
    before = file.read_text()
    write_settings(stack.layout, stack.secrets, "s3", stack.overrides)
    write(file, tomli_w.dumps({**tomllib.loads(file.read_text()), "s3": s3.model_dump(mode="json")}))
    stack.restart("datastore")
    yield
    write(file, before)
    stack.restart("datastore")


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_dumped_is_loaded(vault: Vault, size: int) -> None:
    """By SDK: bytes in, the same bytes out."""
    blob = os.urandom(size)
    assert hashlib.sha256(await vault.load(await vault.dump(blob))).digest() == hashlib.sha256(blob).digest()


@pytest.mark.parametrize("size", SIZES)
def test_a_dumped_file_is_loaded_by_command_line(alices: Path, tmp_path: Path, size: int) -> None:
    """`dump FILE` prints a uuid and nothing else; `load UUID -o FILE` gives the same bytes, for the owner only."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(size))
    dumped = run("dump", source, profile=alices)
    assert (dumped.returncode, dumped.stderr) == (0, b"")
    external_uuid = UUID(dumped.stdout.decode().removesuffix("\n"))
    told = result("load", external_uuid, "-o", target, profile=alices)
    assert told == {"external_uuid": str(external_uuid), "file": str(target), "size": size}
    assert_private_copy(target, source)


async def test_files_are_streamed_both_ways(vault: Vault, tmp_path: Path) -> None:
    """By SDK: a path in, a file out, whole and private."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(3_000_000))
    await vault.load_to(await vault.dump(source), target)
    assert_private_copy(target, source)


def assert_private_copy(target: Path, source: Path) -> None:
    """The same bytes, for the owner only, and nothing left beside them."""
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(source.read_bytes()).digest()
    assert target.stat().st_mode & 0o777 == 0o600
    assert sorted(target.parent.iterdir()) == [source, target]
