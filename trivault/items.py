"""What a bulk caller wants to keep, read and cut into batches: the work that is done before anything is sent.

Blocking reads happen in worker threads, many items at a time. An item that cannot be read costs nobody but itself.
"""

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from threading import Thread
from typing import BinaryIO, Final, TypeVar
from uuid import UUID, uuid4

from contracts.failures import FailureCode, PermanentError
from contracts.limits import ITEM_MAX, MAX_BLOB, MIB
from contracts.lp import PREFIX
from trivault.content import Data

BATCH_ITEMS: Final = 2_000  # of one job: what a kill or a lost connection throws back
BATCH_BYTES: Final = 4 * MIB
CHUNK_ITEMS: Final = 64  # read in one visit of a worker thread
CHUNK_BYTES: Final = MIB  # of items that are bytes already: enough to end a visit


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Item:
    """Something to keep, under a name that its outcome will bear."""

    name: str
    data: Data = field(repr=False)


Items = Iterable[Item | Data] | AsyncIterable[Item | Data]


@dataclass(frozen=True, slots=True)
class Member:
    """One item that was read: small ones whole, large files as their path."""

    index: int  # among all items, from 0
    name: str
    size: int
    sha256: bytes
    data: bytes | Path = field(repr=False)

    @property
    def large(self) -> bool:
        """Whether it needs a job of its own."""
        return self.size > ITEM_MAX


@dataclass(frozen=True, slots=True)
class Unread:
    """One item that could not be read."""

    index: int
    name: str
    code: FailureCode
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Items that travel as one job, in this order."""

    members: Sequence[Member]
    job_id: UUID = field(default_factory=uuid4)


@dataclass(frozen=True, slots=True)
class Sent:
    """The place that an item had in a batch that was sent before; what became of it is not known."""

    job_id: UUID
    item: int
    items: int  # of that batch
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Remnant:
    """What is left of a batch that was sent before: others of it have changed, are gone, or are known already."""

    job_id: UUID
    members: Mapping[int, Member]  # by their place in it


Standing = Callable[[str], Sent | None]  # what is known of the item of this name


async def batches(items: Items, standing: Standing = lambda _: None) -> AsyncIterator[Batch | Remnant | Unread]:
    """Read the items and cut them into batches. A batch leaves when it is full, or when there are no more items.

    A batch that was sent before is put together again, if all its items come by unchanged: under its job id, it finds
    out what became of them.
    """
    numbers = count()
    puzzle = _Puzzle(standing)
    batch: list[Member] = []
    size = 0
    async for chunk in _chunks(items):
        for read in await asyncio.to_thread(lambda some: [_read(next(numbers), item) for item in some], chunk):
            if isinstance(read, Unread):
                yield read
            elif puzzle.has_place_for(read):
                if whole := puzzle.put(read):
                    yield whole
            elif read.large:
                yield Batch([read])
            else:
                more = read.size + PREFIX
                if batch and (len(batch) == BATCH_ITEMS or size + more > BATCH_BYTES):
                    yield Batch(batch)
                    batch, size = [], 0
                batch.append(read)
                size += more
    for left in puzzle.left():
        yield left
    if batch:
        yield Batch(batch)


class _Puzzle:
    """Puts batches together again that were sent before."""

    def __init__(self, standing: Standing) -> None:
        """Know where members were."""
        self._standing = standing
        self._found: dict[UUID, dict[int, Member]] = {}

    def has_place_for(self, member: Member) -> bool:
        """Whether it was sent before, as it is now."""
        sent = self._standing(member.name)
        return sent is not None and sent.sha256 == member.sha256

    def put(self, member: Member) -> Batch | None:
        """The batch, if this was all that it lacked."""
        if (sent := self._standing(member.name)) is None:
            raise ValueError("it has no place")
        found = self._found.setdefault(sent.job_id, {})
        found[sent.item] = member
        if len(found) < sent.items:
            return None
        del self._found[sent.job_id]
        return Batch([found[item] for item in range(sent.items)], sent.job_id)

    def left(self) -> Iterator[Remnant]:
        """What lies there in the end."""
        for job_id, found in self._found.items():
            yield Remnant(job_id, found)


async def _chunks(items: Items) -> AsyncIterator[list[Item]]:
    if not isinstance(items, AsyncIterable):
        iterator = iter(items)
        while chunk := await _apart(partial(_take, iterator)):
            yield chunk
        return
    chunk, size = [], 0
    async for each in items:
        chunk.append(_named(each))
        size += _weight(chunk[-1])
        if len(chunk) == CHUNK_ITEMS or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


async def _apart(act: Callable[[], T]) -> T:
    """Run in a thread that nobody waits for in the end: whose iterator it is may wait for stdin, and for ever."""
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(act())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            outcome.set_exception(error)

    Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(outcome)


def _take(items: Iterator[Item | Data]) -> list[Item]:
    chunk: list[Item] = []
    size = 0
    for each in items:
        chunk.append(_named(each))
        size += _weight(chunk[-1])
        if len(chunk) == CHUNK_ITEMS or size >= CHUNK_BYTES:
            break
    return chunk


def _named(each: Item | Data) -> Item:
    if isinstance(each, Item):
        return each
    return Item(str(each) if isinstance(each, str | Path) else "", each)


def _weight(item: Item) -> int:
    return len(item.data) if isinstance(item.data, bytes | bytearray | memoryview) else 0


def _read(index: int, item: Item) -> Member | Unread:
    try:
        return read(index, item)
    except PermanentError as error:
        return Unread(index, item.name, error.code, error.reason)


def read(index: int, item: Item) -> Member:
    """Read one item; it blocks.

    Raises:
        PermanentError: `blob_too_large`; `invalid_request` with `vanished`, `directory`, `not_a_file`, `unreadable` or
            `content_changed`.
    """
    data = item.data
    try:
        if isinstance(data, str | Path):
            return _read_file(index, item.name, Path(data))
        blob = bytes(data) if isinstance(data, bytes | bytearray | memoryview) else data.read(MAX_BLOB + 1)
    except FileNotFoundError:
        raise _unread("vanished") from None
    except IsADirectoryError:
        raise _unread("directory") from None
    except OSError:
        raise _unread("unreadable") from None
    if len(blob) > MAX_BLOB:
        raise PermanentError(FailureCode.BLOB_TOO_LARGE)
    return Member(index, item.name, len(blob), hashlib.sha256(blob).digest(), blob)


def _read_file(index: int, name: str, path: Path) -> Member:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb", buffering=0) as file:
        before = _state(file)
        if before.st_size > MAX_BLOB:
            raise PermanentError(FailureCode.BLOB_TOO_LARGE)
        if before.st_size > ITEM_MAX:
            member = Member(index, name, before.st_size, hashlib.file_digest(file, "sha256").digest(), path)
        else:
            blob = file.read(before.st_size + 1)
            member = Member(index, name, before.st_size, hashlib.sha256(blob).digest(), blob)
        after = _state(file)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise _unread("content_changed")
    return member


def _state(file: BinaryIO) -> os.stat_result:
    state = os.fstat(file.fileno())
    if not stat.S_ISREG(state.st_mode):
        raise _unread("not_a_file")
    return state


def _unread(reason: str) -> PermanentError:
    return PermanentError(FailureCode.INVALID_REQUEST, reason)
