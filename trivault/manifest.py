"""The manifest of an archive: one JSON object per line, written ahead, so that whoever was interrupted can go on.

    {"manifest": "trivault", "version": 1}
    {"name": "a/b.pdf", "state": "sent", "size": 12, "sha256": "...", "job_id": "...", "item": 0, "items": 250}
    {"name": "a/b.pdf", "state": "stored", "size": 12, "sha256": "...", "external_uuid": "..."}
    {"name": "c", "state": "failed", "code": "invalid_request", "reason": "vanished"}

Lines are only ever added; the last one about a name counts. A line without its line feed is one that a kill cut short.
The file is its owner's alone: names, sizes and hashes say much about what they stand for.
"""

import asyncio
import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO, Final, Literal
from uuid import UUID

from pydantic import Field

from contracts.codec import Bytes32, Model, Size, encode, parse
from contracts.failures import FailureCode, NotOursError
from trivault.bulk import Ingested
from trivault.items import Batch, Sent


class ManifestError(Exception):
    """The manifest cannot be used; the text says why and what to do."""


class EntryState(StrEnum):
    """What is known of an item."""

    SENT = "sent"
    STORED = "stored"
    FAILED = "failed"


class Header(Model):
    """The first line."""

    manifest: Literal["trivault"]
    version: Literal[1]


class Entry(Model):
    """Any other line."""

    name: Annotated[str, Field(min_length=1)]
    state: EntryState
    size: Size = 0
    sha256: Bytes32 | None = None
    external_uuid: UUID | None = None  # of a stored one
    job_id: UUID | None = None  # of a sent one, with its place in the batch
    item: Size = 0
    items: Size = 0
    code: FailureCode | None = None  # of a failed one
    reason: str = ""


HEADER: Final = encode(Header(manifest="trivault", version=1))


def entries(path: Path) -> Iterator[Entry]:
    """The lines of a manifest, oldest first.

    Raises:
        ManifestError: it is not one, or was damaged.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        yield from _entries(path, file)


def stored(path: Path) -> Iterator[Entry]:
    """The records of a manifest, each once.

    Raises:
        ManifestError: as `entries`; or a record without its hash and uuid.
        OSError: it cannot be read.
    """
    for entry in entries(path):
        if entry.state is EntryState.STORED:
            if entry.sha256 is None or entry.external_uuid is None:
                raise ManifestError(f"{path}: the record {entry.name!r} has no sha256 or no external_uuid")
            yield entry


def _entries(path: Path, file: BinaryIO) -> Iterator[Entry]:
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            return
        try:
            if number > 1:
                yield parse(Entry, line)
            else:
                parse(Header, line)
        except NotOursError as error:
            raise ManifestError(f"{path}, line {number}: not a line of a manifest ({error.reason})") from None


class Manifest:
    """A manifest that is being written: the journal of an ingestion."""

    def __init__(self, file: BinaryIO) -> None:
        """Go on in `file`; `Manifest.open` makes one."""
        self._file = file
        self._stored: set[str] = set()  # by processes before this one
        self._standing: dict[str, Sent] = {}

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, resume: bool) -> Iterator["Manifest"]:
        """Begin a new manifest, mode 0600, or go on with one.

        Raises:
            ManifestError: it exists and is not to be resumed, the other way round, or is in use or damaged.
            OSError: it cannot be written.
        """
        if resume is not path.exists():
            what = "does not exist: there is nothing to resume" if resume else "exists; add --resume, or name another"
            raise ManifestError(f"{path} {what}")
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ManifestError(f"{path} is in use by another trivault; wait for it to end") from None
            manifest = cls(file)
            manifest._read(path)
            yield manifest
            manifest._sync()

    def _read(self, path: Path) -> None:
        """Learn what is known, and cut off what a kill has left of a line."""
        for entry in _entries(path, self._file):
            if entry.state is EntryState.SENT and entry.job_id is not None and entry.sha256 is not None:
                self._standing[entry.name] = Sent(entry.job_id, entry.item, entry.items, entry.sha256)
                continue
            self._standing.pop(entry.name, None)
            if entry.state is EntryState.STORED:
                self._stored.add(entry.name)
        self._file.seek(0)
        whole = sum(len(line) for line in self._file if line.endswith(b"\n"))
        self._file.truncate(whole)
        if not whole:
            self._write([HEADER])
            self._sync()

    def done(self, name: str) -> bool:
        """Whether nothing is left to do about an item."""
        return name in self._stored

    def sent_as(self, name: str) -> Sent | None:
        """See `Journal`."""
        return self._standing.get(name)

    async def sending(self, batch: Batch) -> None:
        """See `Journal`."""
        lines = [
            Entry(
                name=member.name,
                state=EntryState.SENT,
                size=member.size,
                sha256=member.sha256,
                job_id=batch.job_id,
                item=item,
                items=len(batch.members),
            )
            for item, member in enumerate(batch.members)
        ]
        await asyncio.to_thread(self._note, lines, durably=True)

    async def settled(self, outcomes: Sequence[Ingested]) -> None:
        """See `Journal`."""
        known = [outcome for outcome in outcomes if not outcome.unknown]
        await asyncio.to_thread(self._note, [_entry(outcome) for outcome in known], durably=False)

    def _note(self, lines: Iterable[Entry], *, durably: bool) -> None:
        self._write(map(encode, lines))
        if durably:
            self._sync()

    def _write(self, lines: Iterable[bytes]) -> None:
        self._file.write(b"".join(line + b"\n" for line in lines))
        self._file.flush()

    def _sync(self) -> None:
        os.fsync(self._file.fileno())


def _entry(outcome: Ingested) -> Entry:
    return Entry(
        name=outcome.name,
        state=EntryState.FAILED if outcome.external_uuid is None else EntryState.STORED,
        size=outcome.size,
        sha256=outcome.sha256 or None,
        external_uuid=outcome.external_uuid,
        code=outcome.code,
        reason=outcome.reason,
    )
