"""What a sweep asks of the stores: pages that miss nothing, a quarantine that harms nothing, a purge that is final."""

import asyncio
import fcntl
import os
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts.failures import FailureCode
from contracts.limits import PAGE, PART
from contracts.stores import (
    Cleaned,
    Data,
    Done,
    Failure,
    Kind,
    Listing,
    Mark,
    Measure,
    Named,
    Old,
    Page,
    Reference,
    RowState,
    Stale,
    Unwanted,
    Verdict,
    entry_uuid,
    object_uuid,
)
from infra.local.stack import Stack
from tests.faults.polling import until
from tests.stores.conftest import Store
from tests.stores.test_backends import Blob, dump, read, read_all, refuses, send
from tests.stores.test_keystore import key, soon
from tests.stores.test_mapstore import aborted, item, live
from workers.datastore.backend import SweepableBackend
from workers.datastore.directory import DirectoryBackend
from workers.datastore.s3_sweep import S3Sweep
from workers.keystore.repository import Keys
from workers.mapstore.repository import Map

DAY = 86_400
CONFLICT = Failure(code=FailureCode.CONFLICT)
NOT_FOUND = Failure(code=FailureCode.NOT_FOUND)


def neighbours(count: int) -> list[UUID]:
    """Ids that follow one another in any order of ids, with nobody's in between: they share their first eight bytes."""
    prefix = int.from_bytes(os.urandom(8)) << 64
    return [UUID(int=prefix | number << 16) for number in range(1, count + 1)]


def before(id_: UUID) -> UUID:
    """Where a page begins that is to begin with this id."""
    return UUID(int=id_.int - 1)


def verdict(id_: UUID, measure: Measure, quarantined: int = 0) -> Verdict:
    """What to do with it."""
    return Verdict(id=id_, measure=measure, quarantined=quarantined)


# --- KeyStore -------------------------------------------------------------------------------------------------------


async def old_keys(keys: Keys, stack: Stack, count: int, seconds: int = DAY) -> list[UUID]:
    """Keys that were written so long ago."""
    ids = neighbours(count)
    assert await keys.dump([key(id_) for id_ in ids], soon()) == [Done()] * count
    await age(stack, "keys", "created_at", ids, seconds)
    return ids


async def age(stack: Stack, table: str, column: str, ids: list[UUID], seconds: int) -> None:
    """Make rows of the KeyStore older, as only its owner can."""
    listed = ", ".join(f"'{id_}'" for id_ in ids)
    statement = f"UPDATE {table} SET {column} = now() - interval '{seconds} s' WHERE key_store_uuid IN ({listed})"  # noqa: S608 - our own ids
    await asyncio.to_thread(stack.psql, "keystore", statement)


async def carry_out(keys: Keys, *verdicts: Verdict) -> list[Failure | Done]:
    """Have the KeyStore carry verdicts out."""
    return await keys.sweep(verdicts, soon())


async def quarantined(keys: Keys, id_: UUID) -> int | None:
    """How long a key has been in quarantine."""
    page = await keys.page(Listing(after=before(id_), limit=1, older_than=0), soon())
    assert page.old[0].id == id_
    return page.old[0].quarantined


async def test_pages_of_keys_miss_nothing_and_name_only_what_is_old(keys: Keys, stack: Stack) -> None:
    """Ten keys in pages of four; young ones and tombstones are counted, or not, where they stand."""
    ids = await old_keys(keys, stack, 10)
    await age(stack, "keys", "created_at", [ids[2]], 10)
    await keys.erase([ids[5]], soon())
    old: list[Old] = []
    after = before(ids[0])
    for limit, held in ((4, 4), (4, 3), (2, 2)):  # a tombstone takes its place on the page and is not held
        page = await keys.page(Listing(after=after, limit=limit, older_than=DAY - 60), soon())
        assert page.last is not None
        assert page.held == held
        old, after = [*old, *page.old], page.last
    assert after == ids[9]
    assert [each.id for each in old] == [id_ for at, id_ in enumerate(ids) if at not in {2, 5}]
    assert all(each.quarantined is None for each in old)


async def test_the_last_page_of_keys_says_so(keys: Keys) -> None:
    """Behind the highest id there is nothing more."""
    assert await keys.page(Listing(after=UUID(int=2**128 - 1), limit=PAGE, older_than=0), soon()) == Page(
        held=0, old=[]
    )


async def test_a_quarantined_key_loads_and_its_time_counts_from_the_first_verdict(keys: Keys, stack: Stack) -> None:
    """Quarantining again does not begin anew; a release forgets it; both may be repeated."""
    (id_,) = await old_keys(keys, stack, 1)
    (before_,) = await keys.load([id_], soon())
    assert await carry_out(keys, verdict(id_, Measure.QUARANTINE)) == [Done()]
    await age(stack, "quarantine", "quarantined_at", [id_], 500)
    assert await carry_out(keys, verdict(id_, Measure.QUARANTINE)) == [Done()]
    seconds = await quarantined(keys, id_)
    assert seconds is not None
    assert 500 <= seconds < 530
    assert await keys.load([id_], soon()) == [before_]
    for _ in range(2):
        assert await carry_out(keys, verdict(id_, Measure.RELEASE)) == [Done()]
        assert await quarantined(keys, id_) is None
    assert await keys.load([id_], soon()) == [before_]


async def test_only_what_was_in_quarantine_for_so_long_is_purged(keys: Keys, stack: Stack) -> None:
    """One request, five fates: overdue, too young, not in quarantine, erased before, never there."""
    overdue, young, free, erased = await old_keys(keys, stack, 4)
    never = uuid4()
    await carry_out(keys, *(verdict(id_, Measure.QUARANTINE) for id_ in (overdue, young)))
    await age(stack, "quarantine", "quarantined_at", [overdue], 1000)
    await keys.erase([erased], soon())
    ids = [young, overdue, never, erased, free]
    outcomes = [CONFLICT, Done(), Done(), Done(), CONFLICT]
    for _ in range(2):  # a purge whose answer was lost is asked for again
        assert await carry_out(keys, *(verdict(id_, Measure.PURGE, 900) for id_ in ids)) == outcomes
    loaded = await keys.load(ids, soon())
    assert [isinstance(each, Failure) for each in loaded] == [False, True, True, True, False]
    assert await keys.dump([key(overdue)], soon()) == [CONFLICT]  # a tombstone stands there


async def test_a_released_key_is_not_purged_by_a_verdict_that_comes_late(keys: Keys, stack: Stack) -> None:
    """Whoever found it named wins over whoever did not."""
    (id_,) = await old_keys(keys, stack, 1)
    await carry_out(keys, verdict(id_, Measure.QUARANTINE))
    await age(stack, "quarantine", "quarantined_at", [id_], 1000)
    await carry_out(keys, verdict(id_, Measure.RELEASE))
    assert await carry_out(keys, verdict(id_, Measure.PURGE, 900)) == [CONFLICT]


async def test_an_erased_key_does_not_go_into_quarantine(keys: Keys, stack: Stack) -> None:
    """There is nothing to keep an eye on."""
    (id_,) = await old_keys(keys, stack, 1)
    await keys.erase([id_], soon())
    assert await carry_out(keys, verdict(id_, Measure.QUARANTINE)) == [Done()]
    assert stack.psql("keystore", f"SELECT count(*) FROM quarantine WHERE key_store_uuid = '{id_}'") == "0"  # noqa: S608


async def test_the_mark_only_rises(keys: Keys, stack: Stack) -> None:
    """Also when several raise it at once."""
    start = (await keys.mark(Mark(records=0), soon())).records
    marks = await asyncio.gather(*(keys.mark(Mark(records=start + more), soon()) for more in (2, 5, 3)))
    assert max(mark.records for mark in marks) == start + 5
    assert (await keys.mark(Mark(records=start + 1), soon())).records == start + 5
    stack.psql("keystore", "DELETE FROM high_water")  # there never were so many records


# --- MapStore -------------------------------------------------------------------------------------------------------


async def test_the_map_tells_which_keys_and_objects_its_rows_name(records: Map) -> None:
    """An object is named by a row that names any of its entries; an aborted row names nothing."""
    pack = object_uuid(uuid4())
    rows = [live(item()), live(item(), data_store_uuid=entry_uuid(pack, 2**16 - 1)), aborted(item())]
    await records.settle(rows, soon())
    key_id, data_id = rows[0].key_store_uuid, rows[0].data_store_uuid
    assert key_id is not None
    assert data_id is not None
    following = UUID(int=pack.int + 2**16)
    asked = [
        (Kind.KEY, key_id, True),
        (Kind.OBJECT, object_uuid(data_id), True),
        (Kind.OBJECT, pack, True),
        (Kind.OBJECT, following, False),
        (Kind.OBJECT, object_uuid(key_id), False),  # a key is no object
        (Kind.KEY, data_id, False),
        (Kind.KEY, uuid4(), False),
    ]
    told = await records.names([Reference(kind=kind, id=id_) for kind, id_, _ in asked], soon())
    assert told == [Named(named=named) for *_, named in asked]


async def test_rows_are_counted_by_state(records: Map) -> None:
    """Aborted ones apart: they never were records."""
    states = list(RowState)

    async def counts() -> list[int]:
        return [each.rows for each in await records.count(states, soon()) if not isinstance(each, Failure)]

    before_ = await counts()
    await records.settle([live(item()), live(item()), aborted(item())], soon())
    assert await counts() == [count + more for count, more in zip(before_, (2, 1), strict=True)]


@pytest.mark.parametrize(("column", "index"), [("key_store_uuid", "map_keys"), ("data_store_uuid", "map_objects")])
def test_asking_about_ids_needs_no_scan(stack: Stack, column: str, index: str) -> None:
    """On a table of any size: a sweep asks about everything that is old."""
    between = f"{column} BETWEEN first AND last" if index == "map_objects" else f"{column} = first"
    ids = "unnest(ARRAY[gen_random_uuid()], ARRAY[gen_random_uuid()]) AS asked (first, last)"
    query = f"SELECT first FROM {ids} WHERE EXISTS (SELECT 1 FROM map WHERE {between})"  # noqa: S608 - our own text
    assert index in stack.psql("mapstore", f"SET enable_seqscan = off; EXPLAIN {query}")


# --- DataStore ------------------------------------------------------------------------------------------------------


async def objects(backend: SweepableBackend, count: int) -> list[Blob]:
    """Small objects with neighbouring ids."""
    blobs = [Blob(id_, os.urandom(32), os.urandom(100)) for id_ in neighbours(count)]
    for blob in blobs:
        await dump(backend, blob)
    return blobs


async def page_of(backend: SweepableBackend, id_: UUID, limit: int = 1, **asked: Any) -> Page:
    """A page of objects that begins with this id."""
    return await backend.sweep.page(Listing(after=before(id_), limit=limit, **{"older_than": 0} | asked))


async def aged(backend: SweepableBackend, id_: UUID) -> Old:
    """An object once it is at least a second old, and so is its mark if it has one."""

    async def old() -> list[Old]:
        page = await page_of(backend, id_)
        return [each for each in page.old if each.id == id_ and each.quarantined != 0]

    return (await until(old, "it does not grow older", every=0.2))[0]


async def test_pages_of_objects_miss_nothing(backend: SweepableBackend) -> None:
    """Seven in pages of three; a tombstone keeps its place and is not held."""
    blobs = await objects(backend, 7)
    await backend.erase([Unwanted(data_store_uuid=blobs[1].id)])
    await aged(backend, blobs[6].id)
    first = await page_of(backend, blobs[0].id, 3)
    assert (first.held, [each.id for each in first.old]) == (2, [blobs[0].id, blobs[2].id])
    assert first.last == blobs[2].id
    second = await page_of(backend, UUID(int=first.last.int + 1), 4)
    assert (second.held, [each.id for each in second.old]) == (4, [blob.id for blob in blobs[3:]])


async def test_young_objects_are_counted_and_not_named(backend: SweepableBackend) -> None:
    """By the store's own clock."""
    blobs = await objects(backend, 2)
    page = await page_of(backend, blobs[0].id, 2, older_than=DAY)
    assert (page.held, page.old) == (2, [])


async def test_every_object_is_on_exactly_one_page(backend: SweepableBackend) -> None:
    """From the first page to the last, marks and all, whatever else the store holds."""
    blobs = await objects(backend, 3)
    await backend.sweep.quarantine(verdict(blobs[1].id, Measure.QUARANTINE))
    await aged(backend, blobs[2].id)
    seen: list[UUID] = []
    after: UUID | None = UUID(int=0)
    while after is not None:
        page = await backend.sweep.page(Listing(after=after, limit=2, older_than=0))
        seen += [each.id for each in page.old]
        after = page.last
    assert len(seen) == len(set(seen))
    assert {blob.id for blob in blobs} <= set(seen)


async def test_a_quarantined_object_loads_and_is_released_unharmed(backend: SweepableBackend) -> None:
    """The mark's age is not renewed by another verdict; both verdicts may be repeated."""
    blobs = await objects(backend, 3)
    id_ = blobs[1].id
    assert (await aged(backend, id_)).quarantined is None
    assert await backend.sweep.quarantine(verdict(id_, Measure.QUARANTINE)) == Done()
    first = (await aged(backend, id_)).quarantined
    assert first
    await backend.sweep.quarantine(verdict(id_, Measure.QUARANTINE))
    second = (await aged(backend, id_)).quarantined
    assert second
    assert second >= first
    assert await read_all(backend, blobs[1]) == blobs[1].content
    page = await page_of(backend, blobs[0].id, 3)
    assert [each.quarantined is not None for each in page.old] == [False, True, False]
    for _ in range(2):
        await backend.sweep.release(verdict(id_, Measure.RELEASE))
        assert (await aged(backend, id_)).quarantined is None
    assert await read_all(backend, blobs[1]) == blobs[1].content


async def test_only_an_object_with_an_old_mark_is_purged(backend: SweepableBackend) -> None:
    """Not one without a mark, not one with a young one; its place is a tombstone for ever, and its mark is gone."""
    blobs = await objects(backend, 2)
    id_ = blobs[0].id
    with refuses(FailureCode.CONFLICT):
        await backend.sweep.purge(verdict(id_, Measure.PURGE))
    await backend.sweep.quarantine(verdict(id_, Measure.QUARANTINE))
    await aged(backend, id_)
    with refuses(FailureCode.CONFLICT):
        await backend.sweep.purge(verdict(id_, Measure.PURGE, DAY))
    assert await read_all(backend, blobs[0]) == blobs[0].content
    for _ in range(2):  # a purge whose answer was lost is asked for again
        assert await backend.sweep.purge(verdict(id_, Measure.PURGE, 1)) == Done()
    with refuses(FailureCode.NOT_FOUND):
        await read(backend, id_)
    with refuses(FailureCode.CONFLICT):
        await dump(backend, blobs[0])
    await backend.sweep.quarantine(verdict(id_, Measure.QUARANTINE))  # there is nothing to mark
    with refuses(FailureCode.NOT_FOUND):
        await read(backend, id_)
    assert await read_all(backend, blobs[1]) == blobs[1].content
    if isinstance(backend.sweep, S3Sweep):
        assert await backend.sweep._age(f"quarantine/{id_.hex}") is None


async def test_a_purged_pack_is_gone_with_all_its_entries(backend: SweepableBackend) -> None:
    """An object stands for all of its entries."""
    (id_,) = neighbours(1)
    items = [Data(data_store_uuid=entry_uuid(id_, n), auth_tag=os.urandom(32), size=10) for n in range(3)]
    await backend.dump(items, memoryview(os.urandom(30)))
    await aged(backend, id_)
    await backend.sweep.quarantine(verdict(id_, Measure.QUARANTINE))
    await aged(backend, id_)
    await backend.sweep.purge(verdict(id_, Measure.PURGE))
    for each in items:
        with refuses(FailureCode.NOT_FOUND):
            await read(backend, each.data_store_uuid)


async def test_an_object_that_never_came_is_neither_marked_nor_purged(backend: SweepableBackend) -> None:
    """A purge leaves no tombstone where nothing was: it may have been a slip of the id."""
    blob = Blob.of(10)
    await backend.sweep.quarantine(verdict(blob.id, Measure.QUARANTINE))
    await backend.sweep.purge(verdict(blob.id, Measure.PURGE))
    await backend.sweep.release(verdict(blob.id, Measure.RELEASE))
    assert await dump(backend, blob) == Done()


async def test_temporary_files_are_collected_once_they_are_old(tmp_path: Path) -> None:
    """What a killed DataStore was writing; what is being written now is young."""
    async with DirectoryBackend.open(tmp_path, threads=2) as backend:
        dead, fresh = (tmp_path / "incoming" / name for name in ("dead", "fresh"))
        for file in (dead, fresh):
            file.write_bytes(b"half of it")
        os.utime(dead, (0, time.time() - 2 * DAY))
        for remove in (False, True):
            assert await backend.sweep.clean(Stale(older_than=DAY, remove=remove)) == Cleaned(uploads=0, files=1)
            assert dead.exists() != remove
        assert fresh.exists()


async def test_an_upload_that_is_being_completed_is_not_collected(tmp_path: Path) -> None:
    """However old it is: whoever works on it holds a lock."""
    async with DirectoryBackend.open(tmp_path, threads=2) as backend:
        blob = Blob.of(PART + 10)
        upload_id = (await backend.begin(blob.data)).upload_id
        (file,) = (tmp_path / "uploads").iterdir()
        os.utime(file, (0, time.time() - 2 * DAY))
        with file.open() as held:
            fcntl.flock(held, fcntl.LOCK_SH)
            assert await backend.sweep.clean(Stale(older_than=DAY, remove=True)) == Cleaned(uploads=0, files=0)
        receipts = await send(backend, blob, upload_id, [1, 2])
        await backend.complete(blob.parts(upload_id, receipts))
        assert await read_all(backend, blob) == blob.content


async def test_unfinished_uploads_are_collected_once_they_are_old(backend: SweepableBackend, store: Store) -> None:
    """Young ones go on; counting changes nothing; a finished one is an object and stays."""
    await backend.sweep.clean(Stale(older_than=0, remove=True))  # what other tests left behind
    dead, done = Blob.of(PART + 10), Blob.of(PART + 20)
    dead_id, done_id = [(await backend.begin(blob.data)).upload_id for blob in (dead, done)]
    await send(backend, dead, dead_id, [1])
    receipts = await send(backend, done, done_id, [1, 2])
    if store.name != "moto":  # which says of every upload that it was begun in 2010
        assert (await backend.sweep.clean(Stale(older_than=DAY, remove=True))).uploads == 0
    await backend.complete(done.parts(done_id, receipts))

    async def old() -> bool:
        return (await backend.sweep.clean(Stale(older_than=1, remove=False))).uploads == 1

    await until(old, "the upload does not grow old", every=0.2)
    await send(backend, dead, dead_id, [2])  # it was only counted
    await until(old, "the upload does not grow old", every=0.2)
    assert (await backend.sweep.clean(Stale(older_than=1, remove=True))).uploads == 1
    assert (await backend.sweep.clean(Stale(older_than=0, remove=True))).uploads == 0
    if store.name != "moto":  # which answers the parts of an unknown upload with status 500
        with refuses(FailureCode.NOT_FOUND):
            await send(backend, dead, dead_id, [1])
    assert await read_all(backend, done) == done.content
