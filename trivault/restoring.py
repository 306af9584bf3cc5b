"""The records of a manifest, loaded again: written to files under their names, or only compared.

Nothing is taken on trust: every record has to hash to what the manifest says, whoever else has verified it.
"""

import asyncio
import hashlib
import os
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final
from uuid import UUID

from contracts.failures import FailureCode, PermanentError
from contracts.limits import ITEM_MAX, MIB
from trivault.bulk import Exported, merged
from trivault.manifest import Entry, ManifestError, stored
from trivault.sinks import DigestSink, FileSink
from trivault.sources import restored
from trivault.vault import Vault

CHUNK: Final = 250  # entries looked at, or records written, in one visit of a worker thread
CHUNK_BYTES: Final = 4 * MIB


@dataclass(frozen=True, slots=True)
class Checked:
    """One record of a manifest: loaded and the same, or why not."""

    name: str
    size: int
    code: FailureCode | None = None
    reason: str = ""


class Verifier:
    """Compares size and hash; nothing is written."""

    def there(self, entry: Entry) -> bool:  # noqa: ARG002 - who restores has to look
        """Never: everything is to be loaded."""
        return False

    def small(self, entry: Entry, data: bytes) -> None:
        """Compare a record that is in memory."""
        _compare(entry, len(data), hashlib.sha256(data).digest())

    async def large(self, entry: Entry, vault: Vault) -> None:
        """Load a large record, and compare it as it comes."""
        sink = DigestSink()
        await vault.load_into(_uuid(entry), sink)
        _compare(entry, sink.size, sink.digest())


class Restorer(Verifier):
    """Writes records to their names below a directory, mode 0600; a file appears when it is whole and compared.

    A file that is there already is left alone: if it is the record, all is well; if not, that is `exists`.
    """

    def __init__(self, directory: Path) -> None:
        """Write below `directory`, which need not be there.

        Raises:
            OSError: it cannot be made.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory

    def there(self, entry: Entry) -> bool:
        """Whether the file is there already, and is the record.

        Raises:
            PermanentError: `exists`: it is something else; or `unsafe_name`.
        """
        path = restored(self._directory, entry.name)
        if not path.exists():
            return False
        if path.is_file() and path.stat().st_size == entry.size:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").digest() == entry.sha256:
                    return True
        raise PermanentError(FailureCode.INVALID_REQUEST, "exists")

    def small(self, entry: Entry, data: bytes) -> None:
        """Compare, then write."""
        super().small(entry, data)
        _write(self._target(entry), data)

    async def large(self, entry: Entry, vault: Vault) -> None:
        """Write as it comes, compare, then give it its name."""
        file = FileSink(self._target(entry))
        try:
            sink = DigestSink(file)
            await vault.load_into(_uuid(entry), sink)
            _compare(entry, sink.size, sink.digest())
            await file.commit()
        finally:
            await file.discard()

    def _target(self, entry: Entry) -> Path:
        target = restored(self._directory, entry.name)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return target


async def restore(vault: Vault, manifest: Path, to: Verifier, ways: int) -> AsyncGenerator[Checked, None]:
    """Load every record of a manifest: small ones many at a time, then large ones each by itself.

    Raises:
        ManifestError: the manifest cannot be used.
        OSError: a file cannot be written.
        TransientError: the vault does not answer.
    """
    for kind in (_small, _large):
        async with aclosing(kind(vault, manifest, to, ways)) as checked:
            async for each in checked:
                yield each


async def _small(vault: Vault, manifest: Path, to: Verifier, ways: int) -> AsyncGenerator[Checked, None]:
    under_way: dict[UUID, Entry] = {}
    looked_at: list[Checked] = []
    waiting: list[tuple[Entry, Exported]] = []
    size = 0

    async def wanted() -> AsyncIterator[UUID]:
        async for entry, checked in _entries(manifest, to, large=False):
            if checked is not None:
                looked_at.append(checked)
            elif under_way.setdefault(_uuid(entry), entry) is not entry:
                raise ManifestError(f"{manifest}: {entry.name!r} and another name are one record; remove one of them")
            else:
                yield _uuid(entry)

    async with aclosing(vault.export(wanted(), ways=ways)) as records:
        async for record in records:
            waiting.append((under_way.pop(record.external_uuid), record))
            size += len(record.data)
            if len(waiting) == CHUNK or size > CHUNK_BYTES:
                looked_at += await asyncio.to_thread(_keep, to, waiting)
                waiting, size = [], 0
            while looked_at:
                yield looked_at.pop()
    for checked in (*looked_at, *await asyncio.to_thread(_keep, to, waiting)):
        yield checked


async def _large(vault: Vault, manifest: Path, to: Verifier, ways: int) -> AsyncGenerator[Checked, None]:
    async def one(entry: Entry, checked: Checked | None) -> AsyncIterator[Checked]:
        if checked is None:
            try:
                await to.large(entry, vault)
            except PermanentError as error:
                checked = _checked(entry, error)
        yield checked or _checked(entry)

    each = (one(*looked) async for looked in _entries(manifest, to, large=True))
    async with aclosing(merged(each, ways)) as told:
        async for checked in told:
            yield checked


async def _entries(manifest: Path, to: Verifier, *, large: bool) -> AsyncIterator[tuple[Entry, Checked | None]]:
    """Entries of one kind, with what there is to say of those that need not be loaded, or cannot be kept."""

    def look(entry: Entry) -> Checked | None:
        try:
            return _checked(entry) if to.there(entry) else None
        except PermanentError as error:
            return _checked(entry, error)

    entries = (entry for entry in stored(manifest) if (entry.size > ITEM_MAX) is large)
    while chunk := await asyncio.to_thread(lambda: [(entry, look(entry)) for entry in islice(entries, CHUNK)]):
        for each in chunk:
            yield each


def _keep(to: Verifier, records: Sequence[tuple[Entry, Exported]]) -> list[Checked]:
    """Compare, and perhaps write, some small records; it blocks."""

    def keep(entry: Entry, record: Exported) -> Checked:
        if record.code is not None:
            return _checked(entry, PermanentError(record.code))
        try:
            to.small(entry, record.data)
        except PermanentError as error:
            return _checked(entry, error)
        return _checked(entry)

    return [keep(*each) for each in records]


def _checked(entry: Entry, error: PermanentError | None = None) -> Checked:
    if error is None:
        return Checked(entry.name, entry.size)
    return Checked(entry.name, entry.size, error.code, error.reason)


def _compare(entry: Entry, size: int, sha256: bytes) -> None:
    if (size, sha256) != (entry.size, entry.sha256):
        raise PermanentError(FailureCode.INTEGRITY_FAILED, "manifest")


def _uuid(entry: Entry) -> UUID:
    if entry.external_uuid is None:
        raise ValueError("not a stored record")
    return entry.external_uuid


def _write(target: Path, data: bytes) -> None:
    """Write a small file; many of them are synced together, at the end."""
    path = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0) as file:
        file.write(data)
    path.replace(target)
