"""What a caller wants to keep, as a size, a hash and a sequence of pieces of at most 1 MiB.

Bytes, a path or a seekable binary file. Files are read in worker threads, twice: once for the hash that makes the
request idempotent, once to encrypt. A file that changed in between is refused.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from contracts.failures import FailureCode, PermanentError
from contracts.limits import MAX_BLOB, PIECE

Progress = Callable[[int, int], None]  # bytes so far, bytes in all
Data = bytes | bytearray | memoryview | Path | str | BinaryIO


class Content:
    """A blob to dump."""

    def __init__(self, file: BinaryIO, *, in_memory: bool, progress: Progress | None) -> None:
        """Read `file` from its current position; `Content.of` makes one."""
        self._file = file
        self._start = file.tell()
        self._in_memory = in_memory
        self._progress = progress
        self._sha256: bytes | None = None
        self.size = file.seek(0, os.SEEK_END) - self._start

    @classmethod
    @contextmanager
    def of(cls, data: Data, progress: Progress | None = None) -> Iterator["Content"]:
        """Wrap what the caller gave; a `str` is a path. What is opened here is closed again.

        Raises:
            PermanentError: `blob_too_large`.
            OSError: the path cannot be read.
        """
        if isinstance(data, str | Path):
            with Path(data).open("rb") as file:
                yield cls._checked(file, in_memory=False, progress=progress)
        elif isinstance(data, bytes | bytearray | memoryview):
            yield cls._checked(BytesIO(data), in_memory=True, progress=progress)
        else:
            with _rewound_on_failure(data):
                yield cls._checked(data, in_memory=False, progress=progress)

    @classmethod
    def _checked(cls, file: BinaryIO, *, in_memory: bool, progress: Progress | None) -> "Content":
        content = cls(file, in_memory=in_memory, progress=progress)
        if content.size > MAX_BLOB:
            raise PermanentError(FailureCode.BLOB_TOO_LARGE)
        return content

    async def sha256(self, expected: bytes | None = None) -> bytes:
        """SHA-256 of the whole blob.

        Raises:
            PermanentError: `invalid_request`, `content_changed`: it does not have its announced size any more, or not
                the hash that the caller expects.
        """
        self._sha256 = await asyncio.to_thread(self._hash) if self.size > PIECE else self._hash()
        if expected not in {None, self._sha256}:
            raise PermanentError(FailureCode.INVALID_REQUEST, "content_changed")
        return self._sha256

    def _hash(self) -> bytes:
        self._file.seek(self._start)
        digest, read = hashlib.sha256(), 0
        while read <= self.size and (piece := self._file.read(PIECE)):
            digest.update(piece)
            read += len(piece)
        if read != self.size:
            raise PermanentError(FailureCode.INVALID_REQUEST, "content_changed")
        return digest.digest()

    async def pieces(self) -> AsyncIterator[bytes]:
        """The blob in pieces of at most 1 MiB, the last one only if all of them are what `sha256` has seen.

        Raises:
            PermanentError: `invalid_request`, `content_changed`: they are not.
        """
        self._file.seek(self._start)
        digest, left = hashlib.sha256(), self.size
        while left:
            piece = self._file.read(PIECE) if self._in_memory else await asyncio.to_thread(self._file.read, PIECE)
            left -= len(piece)
            if not self._in_memory:  # bytes cannot change
                digest.update(piece)
            changed = left == 0 and not self._in_memory and digest.digest() != self._sha256
            if not piece or left < 0 or changed:
                raise PermanentError(FailureCode.INVALID_REQUEST, "content_changed")
            yield piece
            if self._progress is not None:
                self._progress(self.size - left, self.size)


@contextmanager
def _rewound_on_failure(file: BinaryIO) -> Iterator[None]:
    """Leave the caller's file where it was if it was not kept: who tries again must not keep what follows it."""
    start = file.tell()
    try:
        yield
    except Exception:
        file.seek(start)
        raise
