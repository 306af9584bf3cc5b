"""Dump and load through the whole pipeline, at every size where something changes."""

import hashlib
import os
from pathlib import Path

import pytest

from tests.sizes import SIZES
from trivault import Vault


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_dumped_is_loaded(vault: Vault, size: int) -> None:
    """Bytes in, the same bytes out."""
    blob = os.urandom(size)
    assert hashlib.sha256(await vault.load(await vault.dump(blob))).digest() == hashlib.sha256(blob).digest()


async def test_files_are_streamed_both_ways(vault: Vault, tmp_path: Path) -> None:
    """A path in, a file out, whole and private."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(3_000_000))
    await vault.load_to(await vault.dump(source), target)
    assert_private_copy(target, source)


def assert_private_copy(target: Path, source: Path) -> None:
    """The same bytes, for the owner only, and nothing left beside them."""
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o600
    assert sorted(target.parent.iterdir()) == [source, target]
