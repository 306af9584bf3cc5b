"""Handlers without services: outcomes in order, bad items alone, bodies cut exactly, work bounded."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from contracts.codec import Meta, cut
from contracts.failures import FailureCode, NotOursError, PermanentError, TransientError
from contracts.limits import PART
from contracts.stores import (
    REPLIES,
    Begun,
    Data,
    DataBegin,
    DataBeginReply,
    DataDump,
    DataDumpReply,
    DataErase,
    DataEraseReply,
    DataLoad,
    DataLoadReply,
    Done,
    Failure,
    KeyLoad,
    Loaded,
    MapLoad,
    Part,
    Parts,
    Range,
    Receipt,
    Unwanted,
    entry_uuid,
    object_uuid,
)
from workers.datastore.backend import Found
from workers.datastore.directory_sweep import DirectorySweep
from workers.datastore.handlers import DataStoreHandlers
from workers.datastore.sweeping import SweepHandlers
from workers.keystore.handlers import KeyStoreHandlers
from workers.keystore.repository import Keys
from workers.mapstore.handlers import MapStoreHandlers
from workers.mapstore.repository import Map
from workers.postgres import Database

TAG = bytes(32)


class FakeBackend:
    """Objects in memory, and for some ids a failure or a delay instead."""

    def __init__(self) -> None:
        self.objects: dict[UUID, bytes] = {}
        self.dumps = self.loads = 0
        self.failing: dict[UUID, Exception] = {}
        self.before: Callable[[UUID], Awaitable[None]] | None = None

    async def _meet(self, id_: UUID) -> None:
        if self.before:
            await self.before(id_)
        if id_ in self.failing:
            raise self.failing[id_]

    async def dump(self, items: Sequence[Data], encrypted: memoryview) -> Done:
        """Keep the bytes, and how often that was asked for."""
        await self._meet(items[0].data_store_uuid)
        self.dumps += 1
        for item, piece in zip(items, cut(encrypted, (item.size for item in items)), strict=True):
            self.objects[item.data_store_uuid] = bytes(piece)
        return Done()

    async def begin(self, item: Data) -> Begun:
        """Name the upload after the object."""
        await self._meet(item.data_store_uuid)
        return Begun(upload_id=item.data_store_uuid.hex)

    async def part(self, part: Part, encrypted: memoryview) -> Receipt:
        """Not asked for here."""
        raise NotImplementedError

    async def complete(self, parts: Parts) -> Done:
        """Not asked for here."""
        raise NotImplementedError

    async def load(self, wanted: Sequence[Range]) -> list[Found | Failure]:
        """Cut the ranges out."""
        await self._meet(wanted[0].data_store_uuid)
        self.loads += 1
        return [self._range(each) for each in wanted]

    def _range(self, wanted: Range) -> Found:
        whole = self.objects[wanted.data_store_uuid]
        data = whole[wanted.offset :][: wanted.length]
        return Loaded(auth_tag=TAG, total=len(whole), size=len(data)), data

    async def erase(self, unwanted: Sequence[Unwanted]) -> Done:
        """Forget nothing; only failures matter here."""
        await self._meet(unwanted[0].data_store_uuid)
        return Done()


@pytest.fixture
def backend() -> FakeBackend:
    """An empty one."""
    return FakeBackend()


@pytest.fixture
def handlers(backend: FakeBackend) -> DataStoreHandlers:
    """Handlers that work on three items at a time."""
    return DataStoreHandlers(backend, concurrency=3)


def soon() -> float:
    """A deadline that no call here meets."""
    return time.time() + 20


def data(size: int) -> Data:
    """A fresh item of `size` bytes."""
    return Data(data_store_uuid=object_uuid(uuid4()), auth_tag=TAG, size=size)


async def test_a_body_is_cut_at_the_sizes_of_its_items(handlers: DataStoreHandlers, backend: FakeBackend) -> None:
    """Each item gets its own bytes, empty ones included, and loads return them in the order asked for."""
    items = [data(3), data(0), data(4)]
    reply, body = await handlers.dump(DataDump(items=items), memoryview(b"abcdefg"), soon())
    assert (reply, list(body)) == (DataDumpReply(outcomes=[Done()] * 3), [])
    assert [backend.objects[item.data_store_uuid] for item in items] == [b"abc", b"", b"defg"]
    wanted = [Range(data_store_uuid=item.data_store_uuid, offset=1, length=10) for item in reversed(items)]
    reply, body = await handlers.load(DataLoad(items=wanted), memoryview(b""), soon())
    loaded = [Loaded(auth_tag=TAG, total=total, size=size) for total, size in ((4, 3), (0, 0), (3, 2))]
    assert reply == DataLoadReply(outcomes=list(loaded))
    assert b"".join(body) == b"efgbc"


async def test_entries_of_one_object_are_written_and_read_once(
    handlers: DataStoreHandlers, backend: FakeBackend
) -> None:
    """A pack is one call of the backend, its items keep their places among others, and share its failures."""
    pack = object_uuid(uuid4())
    entries = [Data(data_store_uuid=entry_uuid(pack, at), auth_tag=TAG, size=2) for at in range(3)]
    items = [data(1), *entries, data(1)]
    await handlers.dump(DataDump(items=items), memoryview(b"xaabbccy"), soon())
    assert backend.dumps == 3
    mixed = [items[at] for at in (3, 0, 1, 4, 2)]
    wanted = [Range(data_store_uuid=item.data_store_uuid, offset=0, length=9) for item in mixed]
    _, body = await handlers.load(DataLoad(items=wanted), memoryview(b""), soon())
    assert (b"".join(body), backend.loads) == (b"ccxaaybb", 3)
    backend.failing[entries[2].data_store_uuid] = PermanentError(FailureCode.INTEGRITY_FAILED)
    reply, body = await handlers.load(DataLoad(items=wanted), memoryview(b""), soon())
    assert isinstance(reply, DataLoadReply)
    assert [isinstance(each, Failure) for each in reply.outcomes] == [True, False, True, False, True]
    assert b"".join(body) == b"xy"


async def test_one_bad_item_never_fails_its_neighbours(handlers: DataStoreHandlers, backend: FakeBackend) -> None:
    """Every exception becomes the outcome of its own item, at its own place."""
    items = [Unwanted(data_store_uuid=object_uuid(uuid4())) for _ in range(6)]
    ids = [item.data_store_uuid for item in items]
    backend.failing = {
        ids[1]: PermanentError(FailureCode.CONFLICT),
        ids[2]: TransientError(FailureCode.STORE_UNAVAILABLE, "disk_enospc"),
        ids[4]: PermanentError(FailureCode.INTEGRITY_FAILED),
    }
    reply, _ = await handlers.erase(DataErase(items=items), memoryview(b""), soon())
    codes = {1: FailureCode.CONFLICT, 2: FailureCode.STORE_UNAVAILABLE, 4: FailureCode.INTEGRITY_FAILED}
    assert reply == DataEraseReply(outcomes=[Failure(code=codes[n]) if n in codes else Done() for n in range(6)])


async def test_an_item_that_hangs_is_given_up_before_the_deadline(
    handlers: DataStoreHandlers, backend: FakeBackend
) -> None:
    """The others are answered in time; what became of it is unknown and said to be so."""
    items = [data(1), data(1), data(1)]

    async def hang(id_: UUID) -> None:
        if id_ == items[1].data_store_uuid:
            await asyncio.sleep(3600)

    backend.before = hang
    deadline = time.time() + 0.6
    reply, _ = await handlers.begin(DataBegin(items=items), memoryview(b""), deadline)
    assert time.time() < deadline
    begun = [Begun(upload_id=item.data_store_uuid.hex) for item in items]
    assert reply == DataBeginReply(outcomes=[begun[0], Failure(code=FailureCode.STORE_UNAVAILABLE), begun[2]])


async def test_a_bug_is_no_outcome(handlers: DataStoreHandlers, backend: FakeBackend) -> None:
    """What is no `VaultError` passes, so that nothing is answered and the alarm goes off."""
    item = data(1)
    backend.failing[item.data_store_uuid] = KeyError("bug")
    with pytest.raises(ExceptionGroup) as caught:
        await handlers.begin(DataBegin(items=[item]), memoryview(b""), soon())
    assert caught.group_contains(KeyError)


async def test_work_is_bounded_over_all_requests(handlers: DataStoreHandlers, backend: FakeBackend) -> None:
    """However many items and requests there are, only so many are under way at a time."""
    under_way = peak = 0

    async def count(_: UUID) -> None:
        nonlocal under_way, peak
        under_way += 1
        peak = max(peak, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1

    backend.before = count
    requests = [DataBegin(items=[data(1) for _ in range(20)]) for _ in range(4)]
    await asyncio.gather(*[handlers.begin(request, memoryview(b""), soon()) for request in requests])
    assert peak == 3


async def test_a_reply_never_grows_beyond_one_message(handlers: DataStoreHandlers) -> None:
    """Ranges past one part's worth of bytes are refused, those before them are served."""
    items = [data(1), data(2), data(3)]
    await handlers.dump(DataDump(items=items), memoryview(b"abbccc"), soon())
    lengths = (PART - 5, 5, 1)
    wanted = [
        Range(data_store_uuid=item.data_store_uuid, offset=0, length=length)
        for item, length in zip(items, lengths, strict=True)
    ]
    reply, body = await handlers.load(DataLoad(items=wanted), memoryview(b""), soon())
    assert isinstance(reply, DataLoadReply)
    assert reply.outcomes[2] == Failure(code=FailureCode.BUSY)
    assert b"".join(body) == b"abb"


@pytest.mark.parametrize("body", [b"abcd", b"ab", b""])
async def test_a_body_that_does_not_fit_is_not_ours(handlers: DataStoreHandlers, body: bytes) -> None:
    """Bytes too many or too few mean that the message is not what it says."""
    with pytest.raises(NotOursError, match="body_size"):
        await handlers.dump(DataDump(items=[data(3)]), memoryview(body), soon())


@pytest.mark.parametrize(
    "request_",
    [
        DataBegin(items=[data(1)]),
        DataErase(items=[Unwanted(data_store_uuid=object_uuid(uuid4()))]),
        DataLoad(items=[Range(data_store_uuid=object_uuid(uuid4()), offset=0, length=1)]),
        KeyLoad(items=[uuid4()]),
        MapLoad(items=[uuid4()]),
    ],
    ids=lambda request: request.TYPE,
)
async def test_a_body_where_none_belongs_is_not_ours(handlers: DataStoreHandlers, request_: Meta) -> None:
    """A request without data that brings some is refused before any store is asked."""
    nowhere = Database.__new__(Database)
    routes = handlers.routes() | KeyStoreHandlers(Keys(nowhere)).routes() | MapStoreHandlers(Map(nowhere)).routes()
    with pytest.raises(NotOursError, match="body_size"):
        await routes[type(request_)](request_, memoryview(b"x"), soon())


async def test_every_request_of_the_contract_has_its_handler(handlers: DataStoreHandlers, tmp_path: Path) -> None:
    """Between them the three stores serve all requests that contracts.stores names, and no others."""
    nowhere = Database.__new__(Database)
    routes = [
        *handlers.routes(),
        *SweepHandlers(DirectorySweep(tmp_path, asyncio.to_thread, lambda _: None)).routes(),
        *KeyStoreHandlers(Keys(nowhere)).routes(),
        *MapStoreHandlers(Map(nowhere)).routes(),
    ]
    assert sorted(routes, key=str) == sorted(REPLIES, key=str)
