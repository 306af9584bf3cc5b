"""What is dumped is what was hashed: a file that changes meanwhile is refused, never cut or mixed."""

import hashlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from contracts.failures import FailureCode, PermanentError
from contracts.limits import MAX_BLOB, PIECE
from trivault.content import Content, Data

BLOB = bytes(range(256)) * 12_000  # just below 3 MiB


async def read(content: Content) -> bytes:
    """All pieces."""
    return b"".join([piece async for piece in content.pieces()])


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, len(BLOB)])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, BytesIO])
async def test_every_kind_of_data_is_the_same_blob(kind: Callable[[bytes], Data], size: int) -> None:
    """Size, hash and pieces agree, and the pieces can be read again."""
    with Content.of(kind(BLOB[:size])) as content:
        assert content.size == size
        assert await content.sha256() == hashlib.sha256(BLOB[:size]).digest()
        assert await read(content) == await read(content) == BLOB[:size]


async def test_an_open_file_is_read_from_where_it_stands() -> None:
    """What came before its position is not part of the blob."""
    file = BytesIO(b"head" + BLOB)
    file.seek(4)
    with Content.of(file) as content:
        await content.sha256()
        assert await read(content) == BLOB


async def test_progress_counts_up_to_the_size() -> None:
    """In bytes, each piece once."""
    told: list[tuple[int, int]] = []
    with Content.of(BLOB, lambda done, total: told.append((done, total))) as content:
        await content.sha256()
        await read(content)
    assert told[-1] == (len(BLOB), len(BLOB))
    assert told == sorted(set(told))


def test_one_byte_too_many_is_refused(tmp_path: Path) -> None:
    """At the limit it is taken, beyond it never."""
    file = tmp_path / "large"
    file.touch()
    for size in (MAX_BLOB, MAX_BLOB + 1):
        with file.open("r+b") as opened:
            opened.truncate(size)
        if size == MAX_BLOB:
            with Content.of(file) as content:
                assert content.size == MAX_BLOB
    with pytest.raises(PermanentError) as caught, Content.of(str(file)):
        pass
    assert caught.value.code is FailureCode.BLOB_TOO_LARGE


async def collect(content: Content, into: list[bytes]) -> None:
    """Pieces, kept even if reading fails."""
    async for piece in content.pieces():
        into.append(piece)  # noqa: PERF401 - what came before a failure stays


CHANGES = {"grown": BLOB + b"x", "shrunk": BLOB[:-1], "altered": BLOB[:-1] + b"x", "emptied": b""}


@pytest.mark.parametrize("after", CHANGES.values(), ids=CHANGES)
async def test_a_file_that_changes_between_hash_and_upload_is_refused(tmp_path: Path, after: bytes) -> None:
    """Before its last piece has gone, so that no whole stream of it exists."""
    file = tmp_path / "file"
    file.write_bytes(BLOB)
    with Content.of(file) as content:
        await content.sha256()
        with file.open("r+b") as opened:
            opened.truncate(0)
            opened.write(after)
        went: list[bytes] = []
        with pytest.raises(PermanentError, match="content_changed"):
            await collect(content, went)
    assert sum(map(len, went)) < len(BLOB)


@pytest.mark.parametrize("after", [CHANGES["grown"], CHANGES["shrunk"]], ids=["grown", "shrunk"])
async def test_a_file_that_changes_before_it_is_hashed_is_refused(tmp_path: Path, after: bytes) -> None:
    """Its announced size would not be its own."""
    file = tmp_path / "file"
    file.write_bytes(BLOB)
    with Content.of(file) as content:
        file.write_bytes(after)
        with pytest.raises(PermanentError, match="content_changed"):
            await content.sha256()
