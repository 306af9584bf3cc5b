"""Where a loaded record goes: into memory, or into a file that appears only when it is whole and verified."""

import asyncio
import hashlib
import os
import secrets
from pathlib import Path
from typing import BinaryIO, Protocol

from contracts.limits import PIECE
from trivault.content import Progress


class Sink(Protocol):
    """Takes provisional plaintext."""

    async def restart(self) -> None:
        """Forget what was written: the result starts over."""

    async def write(self, data: bytes) -> None:
        """Take the next bytes."""

    def progress(self, done: int, total: int) -> None:
        """Hear that `done` of `total` pieces have come."""


class MemorySink:
    """Collects bytes."""

    def __init__(self) -> None:
        """Begin empty."""
        self._pieces: list[bytes] = []

    async def restart(self) -> None:
        """Forget."""
        self._pieces.clear()

    async def write(self, data: bytes) -> None:
        """Keep."""
        self._pieces.append(data)

    def progress(self, done: int, total: int) -> None:
        """Nobody looks."""

    def value(self) -> bytes:
        """Everything, in one piece."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)


class DigestSink:
    """Measures what passes on its way to another sink, or to nowhere."""

    def __init__(self, sink: Sink | None = None) -> None:
        """Pass to `sink`."""
        self._sink = sink
        self._hash = hashlib.sha256()
        self.size = 0

    async def restart(self) -> None:
        """Measure from the start."""
        self._hash, self.size = hashlib.sha256(), 0
        if self._sink is not None:
            await self._sink.restart()

    async def write(self, data: bytes) -> None:
        """Measure, and pass on."""
        self._hash.update(data)
        self.size += len(data)
        if self._sink is not None:
            await self._sink.write(data)

    def progress(self, done: int, total: int) -> None:
        """Pass on."""
        if self._sink is not None:
            self._sink.progress(done, total)

    def digest(self) -> bytes:
        """SHA-256 of what was written."""
        return self._hash.digest()


class FileSink:
    """Writes beside the target, mode 0600, and renames at the end."""

    def __init__(self, target: Path, progress: Progress | None = None) -> None:
        """Open a temporary file in the target's directory.

        Raises:
            OSError: the directory is not there or not ours.
        """
        self._target = target
        self._progress = progress
        self._path: Path | None = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._file: BinaryIO = os.fdopen(descriptor, "w+b", buffering=0)

    async def restart(self) -> None:
        """Cut back to nothing."""
        self._file.seek(0)
        self._file.truncate()

    async def write(self, data: bytes) -> None:
        """Append, in a worker thread."""
        await asyncio.to_thread(self._file.write, data)

    def progress(self, done: int, total: int) -> None:
        """Tell whoever looks, in bytes."""
        if self._progress is not None:
            self._progress(done * PIECE, total * PIECE)

    async def commit(self) -> None:
        """Sync and rename."""
        await asyncio.to_thread(self._finish)

    def _finish(self) -> None:
        os.fsync(self._file.fileno())
        self._file.close()
        if self._path is not None:
            self._path.replace(self._target)
            self._path = None

    async def discard(self) -> None:
        """Remove the temporary file."""
        self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
