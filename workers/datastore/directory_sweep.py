"""A sweep of a directory: lists objects by name, marks them with empty files, and takes leftovers away.

A mark is `quarantine/<object>`; its modification time is when the object went into quarantine. It belongs to whoever
unlinks it: a release and a purge at the same time cannot both have it. Nothing here reads an object.
"""

import fcntl
import heapq
import os
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from contracts.failures import FailureCode, PermanentError
from contracts.stores import Cleaned, Done, Listing, Old, Page, Stale, Verdict
from workers.datastore.backend import CLEANED
from workers.datastore.format import TOMBSTONE

_NAME: Final = re.compile(r"[0-9a-f]{32}")

InThread = Callable[..., Awaitable[Any]]  # runs a function and its arguments in a thread
Bury = Callable[[UUID], None]  # puts a tombstone in the place of an object


class DirectorySweep:
    """An `ObjectSweep` of one directory."""

    def __init__(self, root: Path, run: InThread, bury: Bury) -> None:
        """Sweep the directory of a backend, which lends its threads and its way to erase."""
        self._objects = root / "objects"
        self._incoming = root / "incoming"
        self._uploads = root / "uploads"
        self._quarantine = root / "quarantine"
        self._run = run
        self._bury = bury

    async def page(self, listing: Listing) -> Page:
        """See `ObjectSweep.page`."""
        told: Page = await self._run(self._page, listing)
        return told

    async def quarantine(self, verdict: Verdict) -> Done:
        """See `ObjectSweep.quarantine`."""
        await self._run(self._mark, verdict.id)
        return Done()

    async def release(self, verdict: Verdict) -> Done:
        """See `ObjectSweep.release`."""
        await self._run(self._unmark, verdict.id)
        return Done()

    async def purge(self, verdict: Verdict) -> Done:
        """See `ObjectSweep.purge`."""
        await self._run(self._purge, verdict)
        return Done()

    async def clean(self, stale: Stale) -> Cleaned:
        """See `ObjectSweep.clean`."""
        files = await self._run(_clean, self._incoming, stale)
        uploads = await self._run(_clean, self._uploads, stale)
        return Cleaned(uploads=uploads, files=files, more=CLEANED in {uploads, files})

    def _page(self, listing: Listing) -> Page:
        now = time.time()
        names = self._names(listing.after.hex, listing.limit)
        held, old = 0, []
        for name in names:
            found = (self._objects / name[:2] / name).stat()
            if found.st_size == len(TOMBSTONE):
                continue
            held += 1
            if now - found.st_mtime > listing.older_than:
                old.append(Old(id=UUID(name), quarantined=_age(self._quarantine / name, now)))
        return Page(held=held, old=old, last=UUID(names[-1]) if len(names) == listing.limit else None)

    def _names(self, after: str, limit: int) -> list[str]:
        """The first objects and tombstones behind `after`; a folder at a time, and only as many of it as are wanted."""
        names: list[str] = []
        for shard in range(int(after[:2], 16), 256):
            with os.scandir(self._objects / f"{shard:02x}") as entries:
                found = (entry.name for entry in entries if entry.name > after and _NAME.fullmatch(entry.name))
                names += heapq.nsmallest(limit - len(names), found)
            if len(names) == limit:
                break
        return names

    def _mark(self, object_: UUID) -> None:
        if self._is_object(object_):
            with suppress(FileExistsError):
                os.close(os.open(self._quarantine / object_.hex, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            sync_directory(self._quarantine)

    def _unmark(self, object_: UUID) -> None:
        (self._quarantine / object_.hex).unlink(missing_ok=True)
        sync_directory(self._quarantine)

    def _purge(self, verdict: Verdict) -> None:
        mark = self._quarantine / verdict.id.hex
        age = _age(mark, time.time())
        if age is not None and age >= verdict.quarantined and _unlinked(mark):
            sync_directory(self._quarantine)
            self._bury(verdict.id)
        elif self._is_object(verdict.id):
            raise PermanentError(FailureCode.CONFLICT, "not_quarantined")

    def _is_object(self, object_: UUID) -> bool:
        try:
            return (self._objects / object_.hex[:2] / object_.hex).stat().st_size != len(TOMBSTONE)
        except FileNotFoundError:
            return False


def sync_directory(folder: Path) -> None:
    """Put a directory's names on disk."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _unlinked(path: Path) -> bool:
    """Unlink a file; whether it was we who did."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def _age(path: Path, now: float) -> int | None:
    """Whole seconds since a file was written; None if there is none."""
    try:
        return max(0, int(now - path.stat().st_mtime))
    except FileNotFoundError:
        return None


def _clean(folder: Path, stale: Stale) -> int:
    """Take away, or count, files that nobody has written to for so long."""
    count = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if count == CLEANED:
                break
            with suppress(FileNotFoundError):  # somebody finished it meanwhile
                count += _take(Path(entry.path), stale)
    return count


def _take(path: Path, stale: Stale) -> bool:
    """Whether a file was stale, and nobody holds it. Parts and completion hold a lock while they work."""
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if time.time() - os.fstat(file).st_mtime <= stale.older_than:
            return False
        if stale.remove:
            path.unlink()
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True
