"""Objects as files. Durable means fsync: of the file, and of the directory that names it, before anything is answered.

    objects/<first two hex digits>/<object>            objects and tombstones
    incoming/<random>                                  whole objects and tombstones being written
    uploads/<object>.<upload_id>                       objects arriving in parts, laid out as they will be
    quarantine/<object>                                marks of a sweep (`workers.datastore.directory_sweep`)

An object is linked to its name, which fails if the name is taken; a tombstone, or a pack without an erased entry, is
renamed over it. So one name has one winner, between any number of worker processes. Nothing is kept in memory: what a
restart finds is all there is.
"""

import asyncio
import errno
import fcntl
import functools
import hashlib
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final, ParamSpec, TypeVar
from uuid import UUID

from contracts.failures import FailureCode, PermanentError, TransientError
from contracts.stores import (
    Begun,
    Data,
    Done,
    Failure,
    Part,
    Parts,
    Range,
    Receipt,
    Unwanted,
    entry_number,
    object_uuid,
)
from workers.datastore.backend import Found, MissingError
from workers.datastore.directory_sweep import DirectorySweep, sync_directory
from workers.datastore.format import (
    HEADER_SIZE,
    TOMBSTONE,
    Header,
    check_entries,
    check_large,
    check_part,
    header_needed,
    header_of,
    parse_header,
    part_count,
    part_offset,
    part_size,
    without,
)

_UPLOAD_ID: Final = re.compile(r"[0-9a-f]{32}")

P = ParamSpec("P")
R = TypeVar("R")


class DirectoryBackend:
    """A `Backend` in one directory."""

    def __init__(self, root: Path, threads: ThreadPoolExecutor) -> None:
        """Use a directory that has its folders; `DirectoryBackend.open` makes them."""
        self._objects = root / "objects"
        self._incoming = root / "incoming"
        self._uploads = root / "uploads"
        self._quarantine = root / "quarantine"
        self._threads = threads

    @property
    def sweep(self) -> DirectorySweep:
        """See `SweepableBackend`."""
        return DirectorySweep(self._objects.parent, self._run, self._bury)

    @classmethod
    @asynccontextmanager
    async def open(cls, root: Path, *, threads: int) -> AsyncIterator["DirectoryBackend"]:
        """Make the folders, so that no write ever has to, and start `threads` threads for file I/O.

        The directory itself must exist: a volume that is not mounted is not an empty store.

        Raises:
            TransientError: it does not, or we may not write to it; `reason` says which.
        """
        with ThreadPoolExecutor(threads, "datastore") as executor:
            backend = cls(root, executor)
            await backend._run(backend._prepare, root)
            yield backend

    async def dump(self, items: Sequence[Data], encrypted: memoryview) -> Done:
        """See `Backend.dump`."""
        return await self._run(self._dump, items, encrypted)

    async def begin(self, item: Data) -> Begun:
        """See `Backend.begin`."""
        return await self._run(self._begin, item)

    async def part(self, part: Part, encrypted: memoryview) -> Receipt:
        """See `Backend.part`."""
        return await self._run(self._part, part, encrypted)

    async def complete(self, parts: Parts) -> Done:
        """See `Backend.complete`."""
        return await self._run(self._complete, parts)

    async def load(self, wanted: Sequence[Range]) -> list[Found | Failure]:
        """See `Backend.load`."""
        return await self._run(self._load, wanted)

    async def erase(self, unwanted: Sequence[Unwanted]) -> Done:
        """See `Backend.erase`."""
        return await self._run(self._erase, unwanted)

    async def check(self) -> None:
        """See `SweepableBackend.check`."""
        await self._run(self._check)

    async def _run(self, do: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Do file I/O in a thread. Concurrent fsyncs share commits of the file system's journal: our group commit."""
        with disk_errors():
            call = functools.partial(do, *args, **kwargs)
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _check(self) -> None:
        if not os.access(self._incoming, os.R_OK | os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    def _prepare(self, root: Path) -> None:
        for folder in (self._objects, self._incoming, self._uploads, self._quarantine):
            folder.mkdir(mode=0o700, exist_ok=True)
        for shard in range(256):
            (self._objects / f"{shard:02x}").mkdir(mode=0o700, exist_ok=True)
        for folder in (self._objects, root):
            sync_directory(folder)

    def _dump(self, items: Sequence[Data], encrypted: memoryview) -> Done:
        check_entries(items)
        header = header_of((item.auth_tag, item.size) for item in items)
        target = self._object(items[0].data_store_uuid)
        with self._written(header, encrypted) as file:
            try:
                os.link(file, target)
            except FileExistsError:
                if target.stat().st_size != len(header) + len(encrypted) or target.read_bytes() != header + encrypted:
                    raise PermanentError(FailureCode.CONFLICT, "object_exists") from None
        sync_directory(target.parent)  # also if another attempt linked it: that one may not have come this far
        return Done()

    def _begin(self, item: Data) -> Begun:
        check_large(item)
        if self._object(item.data_store_uuid).exists():
            raise PermanentError(FailureCode.CONFLICT, "object_exists")
        upload_id = secrets.token_hex(16)
        path = self._upload(item.data_store_uuid, upload_id)
        try:
            with _created(path) as file:
                os.posix_fallocate(file, 0, HEADER_SIZE + item.size)  # a full disk refuses here, not after 50 MiB
                _write(file, 0, header_of([(item.auth_tag, item.size)]))
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return Begun(upload_id=upload_id)

    def _part(self, part: Part, encrypted: memoryview) -> Receipt:
        check_part(part, encrypted)
        with _locked(self._upload(part.data_store_uuid, part.upload_id), fcntl.LOCK_SH) as file:
            if os.pread(file, HEADER_SIZE, 0) != header_of([(part.auth_tag, part.total)]):
                raise PermanentError(FailureCode.INVALID_REQUEST, "part_header")
            _write(file, HEADER_SIZE + part_offset(part.number), encrypted)
            os.fdatasync(file)  # spreads the disk's work over the upload; `complete` finds little left to do
        return Receipt(receipt=part.sha256.hex())

    def _complete(self, parts: Parts) -> Done:
        target = self._object(parts.data_store_uuid)
        try:
            path = self._upload(parts.data_store_uuid, parts.upload_id)
            with _locked(path, fcntl.LOCK_EX) as file:
                _compare(file, parts, FailureCode.UPLOAD_LOST)
                os.fsync(file)
                os.link(path, target)
                sync_directory(target.parent)
                path.unlink()
        except (FileExistsError, MissingError):  # completed before, erased, or never begun
            with _opened(target, os.O_RDONLY) as file:
                _compare(file, parts, FailureCode.CONFLICT)
            sync_directory(target.parent)
        return Done()

    def _load(self, wanted: Sequence[Range]) -> list[Found | Failure]:
        with _opened(self._object(wanted[0].data_store_uuid), os.O_RDONLY) as file:
            header = _header(file)
            return [_range(file, header, each) for each in wanted]

    def _erase(self, unwanted: Sequence[Unwanted]) -> Done:
        target = self._object(unwanted[0].data_store_uuid)
        entries = {entry_number(each.data_store_uuid) for each in unwanted}
        with _alone(target) as file, self._written(*_left(file, entries)) as written:
            written.replace(target)
        sync_directory(target.parent)
        for upload_id in {each.upload_id for each in unwanted if each.upload_id is not None}:
            with suppress(MissingError):
                path = self._upload(unwanted[0].data_store_uuid, upload_id)
                with _locked(path, fcntl.LOCK_EX):
                    path.unlink()
        return Done()

    def _bury(self, data_store_uuid: UUID) -> None:
        """Put a tombstone in the place of a whole object."""
        target = self._object(data_store_uuid)
        with _alone(target), self._written(TOMBSTONE) as written:
            written.replace(target)
        sync_directory(target.parent)

    def _object(self, data_store_uuid: UUID) -> Path:
        name = object_uuid(data_store_uuid).hex
        return self._objects / name[:2] / name

    def _upload(self, data_store_uuid: UUID, upload_id: str) -> Path:
        """Where an upload is. An upload id came over the wire: what we did not make names no file."""
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise MissingError
        return self._uploads / f"{object_uuid(data_store_uuid).hex}.{upload_id}"

    @contextmanager
    def _written(self, *content: bytes | memoryview) -> Iterator[Path]:
        """A new file whose content is on disk, gone again afterwards unless it was renamed."""
        path = self._incoming / secrets.token_hex(16)
        try:
            with _created(path) as file:
                _write(file, 0, *content)
                os.fsync(file)
            yield path
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn what the disk refuses (full, read-only, denied, broken) into `TransientError`."""
    try:
        yield
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "error").lower()
        raise TransientError(FailureCode.STORE_UNAVAILABLE, f"disk_{name}") from error


@contextmanager
def _created(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        yield file
    finally:
        os.close(file)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """Open an object or an upload; missing is only what its folder does not hold, not what lies on a lost volume."""
    try:
        file = os.open(path, flags)
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise
        raise MissingError from None
    try:
        yield file
    finally:
        os.close(file)


@contextmanager
def _locked(path: Path, operation: int) -> Iterator[int]:
    """Open an upload and lock it against other processes: parts share it, completing and erasing it exclude them."""
    with _opened(path, os.O_RDWR) as file:
        fcntl.flock(file, operation)  # ends with the descriptor
        if not path.exists():  # completed or erased while we waited; a completed object never changes
            raise MissingError
        yield file


@contextmanager
def _alone(path: Path) -> Iterator[int | None]:
    """Open an object and lock it against others who take entries out of it; None if there is no object.

    Without an object there is nothing to keep: a tombstone may be written at any time.
    """
    while True:
        try:
            with _opened(path, os.O_RDONLY) as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # ends with the descriptor
                if os.path.samestat(os.fstat(file), path.stat()):  # nobody replaced it while we waited
                    yield file
                    return
        except MissingError:
            yield None
            return


def _left(file: int | None, entries: set[int]) -> tuple[bytes, ...]:
    """What an object becomes without some of its entries: itself with zeros in their place, or a tombstone.

    What cannot be read as an object has no entry that anybody could load.
    """
    if file is not None:
        with suppress(PermanentError):
            header = _header(file)
            if header.live() - entries:
                whole = os.pread(file, header.stored, 0)
                return (without(whole, header, header.live() & entries),)
    return (TOMBSTONE,)


def _header(file: int) -> Header:
    """The header of an open object.

    Raises:
        PermanentError: as `parse_header`.
    """
    stored = os.fstat(file).st_size
    front = os.pread(file, HEADER_SIZE, 0)
    needed = header_needed(front, stored)
    return parse_header(front if needed <= len(front) else os.pread(file, needed, 0), stored)


def _range(file: int, header: Header, wanted: Range) -> Found | Failure:
    try:
        entry = header.entry(entry_number(wanted.data_store_uuid))
    except PermanentError as error:
        return Failure(code=error.code)
    begin, end = entry.cut(wanted)
    data = os.pread(file, end - begin, begin) if end > begin else b""
    return entry.loaded(len(data)), data


def _write(file: int, offset: int, *content: bytes | memoryview) -> None:
    """Write all of it; a disk may take less at a time."""
    for piece in content:
        rest = memoryview(piece)
        while rest:
            written = os.pwrite(file, rest, offset)
            rest, offset = rest[written:], offset + written


def _compare(file: int, parts: Parts, code: FailureCode) -> None:
    """Compare an open object, laid out as it will be, with the header and the receipts it should have.

    Reads everything (30 ms for 50 MiB from the page cache), which needs no second record of what arrived.

    Raises:
        PermanentError: they differ; `code` says what that means.
    """
    front = header_of([(parts.auth_tag, parts.total)])
    if os.fstat(file).st_size != HEADER_SIZE + parts.total or os.pread(file, HEADER_SIZE, 0) != front:
        raise PermanentError(code, "object_header")
    if len(parts.receipts) != part_count(parts.total):
        raise PermanentError(code, "part_count")
    for number, receipt in enumerate(parts.receipts, start=1):
        data = os.pread(file, part_size(parts.total, number), HEADER_SIZE + part_offset(number))
        if hashlib.sha256(data).hexdigest() != receipt:
            raise PermanentError(code, "part_content")
