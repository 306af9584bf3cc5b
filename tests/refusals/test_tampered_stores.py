"""Stored pieces that were altered, cut, lost or swapped: a load raises, and never returns other bytes.

Every test breaks what the stores hold behind the vault's back (superuser, file system), and mends it again: the record
is then loaded whole, so that what was refused was refused for the damage alone.
"""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import aio_pika
import pytest

from contracts.failures import FailureCode
from contracts.limits import INLINE_MAX, PART
from infra.local.stack import Stack
from tests.refusals.forge import NOTIFYING, Forger, Wire, flipped, refusing
from tests.refusals.leftovers import forget, objects, orphans, sql
from trivault import Profile, Vault
from workers.datastore.format import HEADER_SIZE, TOMBSTONE

SIZES = {"small": 20_000, "large": INLINE_MAX + 1}  # answered in one message, and streamed through a queue

Harm = Callable[["Record"], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Record:
    """A record, and where its pieces are."""

    stack: Stack
    blob: bytes
    external_uuid: UUID
    data_store_uuid: UUID
    key_store_uuid: UUID

    @property
    def object(self) -> Path:
        """Its file in the DataStore."""
        name = self.data_store_uuid.hex
        return self.stack.layout.objects / "objects" / name[:2] / name

    @property
    def key_row(self) -> str:
        """Its row in KeyStore, as a condition."""
        return f"key_store_uuid = '{self.key_store_uuid}'"

    @property
    def map_row(self) -> str:
        """Its row in MapStore, as a condition that holds whatever becomes of the uuid."""
        return sql("map.ctid = (SELECT ctid FROM map WHERE external_uuid = '{}')", self.external_uuid)


async def dumped(vault: Vault, stack: Stack, size: int) -> Record:
    """A new record."""
    blob = os.urandom(size)
    external_uuid = await vault.dump(blob)
    pointers = "SELECT data_store_uuid, key_store_uuid FROM map WHERE external_uuid = '{}'"
    row = stack.psql("mapstore", sql(pointers, external_uuid))
    return Record(stack, blob, external_uuid, *map(UUID, row.strip().split("|")))


@dataclass(frozen=True, slots=True)
class Trio:
    """Records of one size: two of Alice's, one of Bob's."""

    record: Record
    other: Record
    bobs: Record


@pytest.fixture(scope="module")
async def trios(vault: Vault, bob: Profile, stack: Stack) -> AsyncIterator[dict[str, Trio]]:
    """Records to harm, and to mend; what was kept is whole when everybody has tried."""
    async with Vault.open(bob) as his:
        made = {
            name: Trio(*[await dumped(whose, stack, size) for whose in (vault, vault, his)])
            for name, size in SIZES.items()
        }
    yield made
    for trio in made.values():
        assert await vault.load(trio.record.external_uuid) == trio.record.blob


@pytest.fixture(params=SIZES)
def trio(request: pytest.FixtureRequest, trios: dict[str, Trio]) -> Trio:
    """A small and a large record, and their like."""
    return trios[request.param]


@pytest.fixture
def record(trio: Trio) -> Record:
    """The record to harm."""
    return trio.record


async def refused(vault: Vault, harmed: Record, harm: AbstractContextManager[None], code: FailureCode) -> None:
    """Load it harmed, which raises; load it mended, which does not."""
    with harm, refusing(code):
        await vault.load(harmed.external_uuid)
    assert await vault.load(harmed.external_uuid) == harmed.blob


# --- ways to harm -----------------------------------------------------------------------------------------------------


@contextmanager
def rows(stack: Stack, table: str, *statements: str) -> Iterator[None]:
    """Run statements on a store's only table, and put the whole table back afterwards."""
    database = {"keys": "keystore", "map": "mapstore"}[table]
    change = "CREATE TABLE saved AS TABLE {}; BEGIN; {}; COMMIT"
    back = "BEGIN; DELETE FROM {0}; INSERT INTO {0} TABLE saved; DROP TABLE saved; COMMIT"
    stack.psql(database, sql(change, table, "; ".join(statements)))
    try:
        yield
    finally:
        stack.psql(database, sql(back, table))


@contextmanager
def content(path: Path, change: Callable[[bytes], bytes]) -> Iterator[None]:
    """Change an object's bytes, and put them back afterwards."""
    whole = path.read_bytes()
    changed = change(whole)
    assert changed != whole
    path.write_bytes(changed)
    try:
        yield
    finally:
        path.write_bytes(whole)


@contextmanager
def gone(path: Path) -> Iterator[None]:
    """Hide an object."""
    hidden = path.with_suffix(".hidden")
    path.rename(hidden)
    try:
        yield
    finally:
        hidden.rename(path)


def flip(column: str, at: int | str) -> str:
    """SQL that flips one bit of a bytea column."""
    return f"{column} = set_byte({column}, {at}, get_byte({column}, {at}) # 1)"


def near(uuid: UUID) -> UUID:
    """A uuid that differs in one bit."""
    return UUID(int=uuid.int ^ 1)


# --- KeyStore ---------------------------------------------------------------------------------------------------------

KEY_CHANGES = {
    "kek-id": flip("key", 0),
    "key-salt": flip("key", 4),
    "key-commitment": flip("key", 40),
    "key-middle": flip("key", "octet_length(key) / 2"),
    "key-last-byte": flip("key", "octet_length(key) - 1"),
    "key-cut": "key = substring(key FOR octet_length(key) - 1)",
    "key-padded": r"key = key || '\x00'",
    "key-one-byte": r"key = '\x00'",
    "key-kek-id-only": "key = substring(key FOR 4)",
    "iv-first-byte": flip("iv", 0),
    "iv-last-byte": flip("iv", 23),
    "key-and-iv-erased": "key = NULL, iv = NULL, erased_at = now()",
}


@pytest.mark.parametrize("change", KEY_CHANGES.values(), ids=KEY_CHANGES)
async def test_an_altered_key_row_is_found_out(vault: Vault, record: Record, change: str) -> None:
    """Each bit of KeyStore's row is authenticated, and so is that it is there."""
    harm = rows(record.stack, "keys", sql("UPDATE keys SET {} WHERE {}", change, record.key_row))
    await refused(vault, record, harm, FailureCode.INTEGRITY_FAILED)


async def test_a_missing_key_is_found_out(vault: Vault, record: Record) -> None:
    """A map row without its key is a loss, and not a record that never was."""
    harm = rows(record.stack, "keys", sql("DELETE FROM keys WHERE {}", record.key_row))
    await refused(vault, record, harm, FailureCode.INTEGRITY_FAILED)


# --- MapStore ---------------------------------------------------------------------------------------------------------

MAP_CHANGES: dict[str, Callable[[Record], str]] = {
    "data-store-uuid": lambda record: f"data_store_uuid = '{near(record.data_store_uuid)}'",
    "key-store-uuid": lambda record: f"key_store_uuid = '{near(record.key_store_uuid)}'",
    "ids-exchanged": lambda _: "data_store_uuid = key_store_uuid, key_store_uuid = data_store_uuid",
    "owner": lambda _: flip("owner", 0),
    "job-id": lambda _: f"job_id = '{uuid4()}'",
    "item": lambda _: "item = item + 1",
    "map-share-first-byte": lambda _: flip("map_share", 0),
    "map-share-last-byte": lambda _: flip("map_share", 31),
    "request-tag": lambda _: flip("request_tag", 16),
    "size-plus-one": lambda _: "size = size + 1",
    "size-minus-one": lambda _: "size = size - 1",
    "size-nothing": lambda _: "size = 0",
    "size-absurd": lambda _: "size = 9223372036854775807",
    "suite": lambda _: "suite = suite + 1",
    "mac-key-unknown": lambda _: "mac_key = 2147483647",
    "mac-first-byte": lambda _: flip("mac", 0),
    "mac-last-byte": lambda _: flip("mac", 31),
}


@pytest.mark.parametrize("change", MAP_CHANGES.values(), ids=MAP_CHANGES)
async def test_an_altered_map_row_is_found_out(vault: Vault, record: Record, change: Callable[[Record], str]) -> None:
    """Each column of MapStore's row is under its MAC."""
    harm = rows(record.stack, "map", sql("UPDATE map SET {} WHERE {}", change(record), record.map_row))
    await refused(vault, record, harm, FailureCode.INTEGRITY_FAILED)


NOT_THERE: dict[str, str] = {
    "deleted": "DELETE FROM map WHERE {}",
    "aborted": "UPDATE map SET state = 'aborted', external_uuid = NULL, data_store_uuid = NULL, key_store_uuid = NULL,"
    " map_share = NULL WHERE {}",
    "renamed": "UPDATE map SET external_uuid = gen_random_uuid() WHERE {}",
}


@pytest.mark.parametrize("statement", NOT_THERE.values(), ids=NOT_THERE)
async def test_a_record_without_a_map_row_is_not_found(vault: Vault, record: Record, statement: str) -> None:
    """Nothing says any more that the record ever was."""
    harm = rows(record.stack, "map", sql(statement, record.map_row))
    await refused(vault, record, harm, FailureCode.NOT_FOUND)


async def test_a_record_under_another_uuid_is_found_out(vault: Vault, record: Record) -> None:
    """A row that was renamed answers to its new name, but its MAC does not."""
    alias = uuid4()
    harm = rows(record.stack, "map", sql("UPDATE map SET external_uuid = '{}' WHERE {}", alias, record.map_row))
    with harm, refusing(FailureCode.INTEGRITY_FAILED):
        await vault.load(alias)


async def test_a_copied_map_row_is_found_out(vault: Vault, record: Record) -> None:
    """A second name for the same record, made from all of its row."""
    alias = uuid4()
    copy = (
        "INSERT INTO map SELECT owner, gen_random_uuid(), item, state, '{}', data_store_uuid, key_store_uuid,"
        " map_share, request_tag, size, suite, mac_key, mac FROM map WHERE {}"
    )
    harm = rows(record.stack, "map", sql(copy, alias, record.map_row))
    with harm, refusing(FailureCode.INTEGRITY_FAILED):
        await vault.load(alias)


# --- DataStore --------------------------------------------------------------------------------------------------------


def _resized(whole: bytes) -> bytes:
    """An object whose header agrees with its size."""
    return whole[: HEADER_SIZE - 8] + (len(whole) - HEADER_SIZE).to_bytes(8, "big") + whole[HEADER_SIZE:]


def _exchanged(whole: bytes) -> bytes:
    """Half a chunk from either end, exchanged: every byte is still there."""
    head, data = whole[:HEADER_SIZE], whole[HEADER_SIZE:]
    return head + data[-8192:] + data[8192:-8192] + data[:8192]


OBJECT_CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "magic": lambda whole: flipped(whole, 0),
    "count": lambda whole: flipped(whole, 7),
    "auth-tag-first-byte": lambda whole: flipped(whole, 8),
    "auth-tag-last-byte": lambda whole: flipped(whole, 39),
    "size": lambda whole: flipped(whole, HEADER_SIZE - 1),
    "first-byte": lambda whole: flipped(whole, HEADER_SIZE),
    "middle-byte": lambda whole: flipped(whole, len(whole) // 2),
    "last-byte": lambda whole: flipped(whole, -1),
    "one-byte-less": lambda whole: whole[:-1],
    "one-byte-more": lambda whole: whole + bytes(1),
    "header-only": lambda whole: whole[:HEADER_SIZE],
    "half-a-header": lambda whole: whole[: HEADER_SIZE // 2],
    "empty": lambda _: b"",
    "chunk-cut-and-header-mended": lambda whole: _resized(whole[:-16]),
    "padded-and-header-mended": lambda whole: _resized(whole + bytes(16)),
    "chunks-exchanged": _exchanged,
    "all-zeros": lambda whole: whole[:HEADER_SIZE] + bytes(len(whole) - HEADER_SIZE),
    "tombstone": lambda _: TOMBSTONE,
}


@pytest.mark.parametrize("change", OBJECT_CHANGES.values(), ids=OBJECT_CHANGES)
async def test_an_altered_object_is_found_out(vault: Vault, record: Record, change: Callable[[bytes], bytes]) -> None:
    """Each bit of the DataStore's object is authenticated, and so are its length and its order."""
    await refused(vault, record, content(record.object, change), FailureCode.INTEGRITY_FAILED)


async def test_a_missing_object_is_found_out(vault: Vault, record: Record) -> None:
    """A map row without its object is a loss, and not a record that never was."""
    await refused(vault, record, gone(record.object), FailureCode.INTEGRITY_FAILED)


def empty(folder: Path) -> bool:
    """Whether a folder holds nothing, hidden files included."""
    return not any(folder.iterdir())


async def test_damage_to_a_later_part_is_found_out(vault: Vault, stack: Stack, tmp_path: Path) -> None:
    """What was streamed before the damage is not returned, and no file appears."""
    large = await dumped(vault, stack, PART + 100_000)
    for at in (HEADER_SIZE + PART + 10, -1):
        with content(large.object, partial(flipped, at=at)), refusing(FailureCode.INTEGRITY_FAILED):
            await vault.load_to(large.external_uuid, tmp_path / "out")
    assert empty(tmp_path)
    assert await vault.load(large.external_uuid) == large.blob


async def test_a_download_that_nobody_reads_goes_with_its_failed_load(
    vault: Vault, stack: Stack, wire: Wire, forger: Forger
) -> None:
    """Its client may be dead, or may have heard of the end before it began to read: no queue waits for it."""
    large = await dumped(vault, stack, PART + 100_000)
    forged = forger.load(large.external_uuid)
    with content(large.object, partial(flipped, at=-1)):
        await wire.send(forged, meta=NOTIFYING)
        status, _ = await wire.update(forged.job_id)
        while status.download is None:
            status, _ = await wire.update(forged.job_id)
        assert status.download == f"down.{wire.name}.{forged.job_id}"
        with refusing(FailureCode.INTEGRITY_FAILED):
            await wire.end(forged)
    with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
        await wire.ready(status.download)


# --- swapped ----------------------------------------------------------------------------------------------------------


def swap_columns(table: str, columns: str, key: str, one: UUID, two: UUID) -> str:
    """SQL that exchanges columns of two rows, which `key` tells apart."""
    given = ", ".join(f"{name} = theirs.{name}" for name in columns.split(", "))
    return sql(
        "UPDATE {0} SET {1} FROM {0} AS theirs WHERE ({0}.{2} = '{3}' AND theirs.{2} = '{4}')"
        " OR ({0}.{2} = '{4}' AND theirs.{2} = '{3}')",
        table,
        given,
        key,
        one,
        two,
    )


def swapped_keys(one: Record, two: Record, columns: str = "key, iv") -> AbstractContextManager[None]:
    """Exchange what two KeyStore rows hold."""
    ids = one.key_store_uuid, two.key_store_uuid
    return rows(one.stack, "keys", swap_columns("keys", columns, "key_store_uuid", *ids))


def swapped_map_rows(one: Record, two: Record, columns: str) -> AbstractContextManager[None]:
    """Exchange columns of two MapStore rows."""
    ids = one.external_uuid, two.external_uuid
    return rows(one.stack, "map", swap_columns("map", columns, "external_uuid", *ids))


@contextmanager
def swapped_objects(one: Record, two: Record) -> Iterator[None]:
    """Exchange two objects."""
    with ExitStack() as mended:
        first, second = one.object.read_bytes(), two.object.read_bytes()
        mended.enter_context(content(one.object, lambda _: second))
        mended.enter_context(content(two.object, lambda _: first))
        yield


@contextmanager
def both(*harms: AbstractContextManager[None]) -> Iterator[None]:
    """Several at once."""
    with ExitStack() as mended:
        for harm in harms:
            mended.enter_context(harm)
        yield


POINTERS = "data_store_uuid, key_store_uuid"
MAC = "mac_key, mac"

SWAPS: dict[str, Callable[[Record, Record], AbstractContextManager[None]]] = {
    "key-rows": swapped_keys,
    "keys": lambda one, two: swapped_keys(one, two, "key"),
    "ivs": lambda one, two: swapped_keys(one, two, "iv"),
    "objects": swapped_objects,
    "keys-and-objects": lambda one, two: both(swapped_keys(one, two), swapped_objects(one, two)),
    "map-pointers": lambda one, two: swapped_map_rows(one, two, POINTERS),
    "map-pointers-and-shares": lambda one, two: swapped_map_rows(one, two, f"{POINTERS}, map_share"),
    "map-pointers-and-macs": lambda one, two: swapped_map_rows(one, two, f"{POINTERS}, map_share, {MAC}"),
    "map-shares": lambda one, two: swapped_map_rows(one, two, "map_share"),
    "map-macs": lambda one, two: swapped_map_rows(one, two, MAC),
}


@pytest.mark.parametrize("swap", SWAPS.values(), ids=SWAPS)
async def test_swapped_pieces_are_found_out(
    vault: Vault, trio: Trio, swap: Callable[[Record, Record], AbstractContextManager[None]]
) -> None:
    """Two records of one client, of one size: neither can be had for the other."""
    with swap(trio.record, trio.other):
        for each in (trio.record, trio.other):
            with refusing(FailureCode.INTEGRITY_FAILED):
                await vault.load(each.external_uuid)
    for each in (trio.record, trio.other):
        assert await vault.load(each.external_uuid) == each.blob


ACROSS = {name: SWAPS[name] for name in ("key-rows", "objects", "keys-and-objects", "map-pointers-and-macs")}


@pytest.mark.parametrize("swap", ACROSS.values(), ids=ACROSS)
async def test_another_clients_pieces_are_found_out(
    vault: Vault, trio: Trio, swap: Callable[[Record, Record], AbstractContextManager[None]]
) -> None:
    """Whoever owns all three stores cannot give Alice what is Bob's."""
    with swap(trio.record, trio.bobs), refusing(FailureCode.INTEGRITY_FAILED):
        await vault.load(trio.record.external_uuid)


async def test_another_clients_record_cannot_be_made_ours(vault: Vault, trio: Trio) -> None:
    """Bob's whole row with Alice's name on it: the MAC knows the owner, and Bob's uuid stays unknown to Alice."""
    mine, theirs = trio.record.external_uuid, trio.bobs.external_uuid
    statement = "UPDATE map SET owner = (SELECT owner FROM map WHERE external_uuid = '{}') WHERE external_uuid = '{}'"
    with refusing(FailureCode.NOT_FOUND):
        await vault.load(theirs)
    with rows(trio.record.stack, "map", sql(statement, mine, theirs)), refusing(FailureCode.INTEGRITY_FAILED):
        await vault.load(theirs)


# --- a dump that meets an altered row ---------------------------------------------------------------------------------


async def test_a_duplicate_of_an_altered_row_is_not_answered(vault: Vault, stack: Stack) -> None:
    """A dump believes a winning row only with its MAC: it answers no uuid that somebody put there, and erases nothing.

    Not even what the doubtful attempt wrote itself: its key and object are left to the sweep.
    """
    job_id, blob = uuid4(), os.urandom(100)
    external_uuid = await vault.dump(blob, job_id=job_id)
    before = orphans(stack)
    forget(stack, job_id)
    harm = rows(stack, "map", sql("UPDATE map SET external_uuid = '{}' WHERE job_id = '{}'", uuid4(), job_id))
    with harm, refusing(FailureCode.INTEGRITY_FAILED):
        await vault.dump(blob, job_id=job_id)
    forget(stack, job_id)
    assert await vault.dump(blob, job_id=job_id) == external_uuid
    assert await vault.load(external_uuid) == blob
    swept(stack, orphans(stack) - before)


def swept(stack: Stack, left: set[str]) -> None:
    """Remove one key and one object that no record names, as the sweep would."""
    (data_store_uuid,) = left & objects(stack).keys()
    (key_store_uuid,) = left - {data_store_uuid}
    objects(stack)[data_store_uuid].unlink()
    stack.psql("keystore", sql("DELETE FROM keys WHERE key_store_uuid = '{}'", UUID(key_store_uuid)))
