"""`trivault-admin sweep` on a live vault: what dead attempts left is collected in time, and nothing live ever is.

Time is made by ageing: rows by their owner, files by their modification time. The settings are the defaults.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from contracts.codec import encode, parse
from contracts.failures import FailureCode, PermanentError
from contracts.limits import MIB, PART
from contracts.registry import Registry
from contracts.sweep import Stop, SweepReport
from infra.files import write
from infra.local.stack import Stack
from tests.ageing import BOTH, DAY, NEITHER, Piece, piece_of
from tests.faults.harm import frozen
from tests.fix_stack import DatabaseAs
from tests.refusals.leftovers import sql
from tests.stores.test_backends import Blob
from tests.stores.test_keystore import key, soon
from trivault import Profile, State, Vault
from workers.datastore.directory import DirectoryBackend
from workers.keystore.repository import Keys

ADMIN = Path(sys.executable).with_name("trivault-admin")
ORPHANS = 1_200  # more than the floor


@pytest.fixture
async def store(stack: Stack) -> AsyncIterator[DirectoryBackend]:
    """The DataStore's own directory."""
    async with DirectoryBackend.open(stack.layout.objects, threads=1) as backend:
        yield backend


@pytest.fixture
async def orphan(stack: Stack, store: DirectoryBackend, database_as: DatabaseAs) -> AsyncIterator[Piece]:
    """What an attempt leaves that died before its row, just now."""
    blob, orphaned = Blob.of(1000), key()
    async with Keys.open(database_as("svc.keystore", "keystore")) as keys:
        await keys.dump([orphaned], soon())
    await store.dump([blob.data], memoryview(blob.content))
    piece = Piece(stack, orphaned.key_store_uuid, blob.id)
    yield piece
    piece.forget()


@pytest.fixture(scope="module")
def operator(stack: Stack) -> Path:
    """An operator's profile file."""
    return stack.enrol("operator", operator=True)


@pytest.fixture
async def sweeping(operator: Path) -> AsyncIterator[Vault]:
    """The vault, as an operator."""
    async with Vault.open(operator) as opened:
        yield opened


@contextmanager
def without_rows(stack: Stack, condition: str) -> Iterator[None]:
    """Have the MapStore lose rows while the context is open."""
    stack.psql(
        "mapstore", sql("CREATE TABLE lost AS SELECT * FROM map WHERE {0}; DELETE FROM map WHERE {0}", condition)
    )
    try:
        yield
    finally:
        stack.psql("mapstore", "INSERT INTO map SELECT * FROM lost; DROP TABLE lost")


def forget_mark(stack: Stack) -> None:
    """Make the vault one that was never swept."""
    stack.psql("keystore", "DELETE FROM high_water")


@pytest.fixture(autouse=True)
async def records(stack: Stack, vault: Vault) -> None:
    """There is a record; and tests that took map rows away for good, or invented marks, were other vaults' affair."""
    forget_mark(stack)
    await vault.dump(b"a record")


def changes(report: SweepReport) -> list[int]:
    """How much was done, of everything that can be."""
    done = [(swept.quarantined, swept.released, swept.purged) for swept in (report.keys, report.objects)]
    return [*sum(done, ()), report.uploads, report.files]


async def test_what_no_record_names_is_quarantined_then_purged_and_records_stay(
    vault: Vault, sweeping: Vault, stack: Stack, orphan: Piece
) -> None:
    """Nothing happens within the grace, nothing is erased within the retention, and then nothing is left of it."""
    small, large = os.urandom(1000), os.urandom(PART + MIB)
    records = {await vault.dump(blob): blob for blob in (small, large)}
    ours = [piece_of(stack, external_uuid) for external_uuid in records]
    for piece in ours:
        piece.age(400)
    report = await sweeping.sweep()
    assert report.stopped is None
    assert orphan.quarantined == NEITHER  # for the stores, it may be a dump that has not come to its row yet
    orphan.age(1)
    await sweeping.sweep()
    assert orphan.quarantined == NEITHER  # 24 hours are not enough: a request may live so long, and its attempt begins
    orphan.age(2)
    report = await sweeping.sweep()
    assert (report.keys.quarantined, report.objects.quarantined) == (1, 1)
    assert (orphan.quarantined, orphan.there) == (BOTH, BOTH)
    orphan.age_in_quarantine(34)
    assert changes(await sweeping.sweep()) == [0] * 8
    assert (orphan.quarantined, orphan.there) == (BOTH, BOTH)
    orphan.age_in_quarantine(36)
    report = await sweeping.sweep()
    assert (report.keys.purged, report.objects.purged) == (1, 1)
    assert (orphan.quarantined, orphan.there) == (NEITHER, NEITHER)
    assert changes(await sweeping.sweep()) == [0] * 8
    for piece in ours:
        assert (piece.quarantined, piece.there) == (NEITHER, BOTH)
    assert [await vault.load(external_uuid) for external_uuid in records] == [small, large]


async def test_a_record_in_quarantine_loads_and_is_released(vault: Vault, sweeping: Vault, stack: Stack) -> None:
    """Its row was lost for a while; no sweep has seen it before, so that no mark tells."""
    external_uuid = await vault.dump(b"precious")
    piece = piece_of(stack, external_uuid)
    piece.age(3)
    with without_rows(stack, sql("external_uuid = '{}'", external_uuid)):
        forget_mark(stack)
        assert (await sweeping.sweep()).stopped is None
        assert piece.quarantined == BOTH
        piece.age_in_quarantine(90)
    assert await vault.load(external_uuid) == b"precious"
    report = await sweeping.sweep()
    assert (report.keys.released, report.objects.released) == (1, 1)
    assert (report.keys.purged, report.objects.purged) == (0, 0)
    assert (piece.quarantined, piece.there) == (NEITHER, BOTH)
    assert await vault.load(external_uuid) == b"precious"


async def test_a_pack_of_which_one_record_lives_stays_whole(vault: Vault, sweeping: Vault, stack: Stack) -> None:
    """Of the others the keys go, which is enough."""
    outcomes = await vault.ingest_batch([b"first", b"second", b"third"])
    uuids = [outcome.external_uuid for outcome in outcomes if outcome.external_uuid]
    pieces = [piece_of(stack, each) for each in uuids]
    assert len({piece.object for piece in pieces}) == 1
    for piece in pieces:
        piece.age(3)
    with without_rows(stack, sql("external_uuid IN ('{}', '{}')", uuids[0], uuids[2])):
        forget_mark(stack)
        assert (await sweeping.sweep()).stopped is None
        assert [piece.quarantined for piece in pieces] == [(True, False), NEITHER, (True, False)]
    await sweeping.sweep()
    assert [piece.quarantined for piece in pieces] == [NEITHER] * 3
    assert [await vault.load(each) for each in uuids] == [b"first", b"second", b"third"]


@pytest.fixture
def overdue(orphan: Piece) -> Piece:
    """An orphan that the next sweep puts into quarantine."""
    orphan.age(3)
    return orphan


async def test_an_emptied_map_stops_a_sweep(vault: Vault, sweeping: Vault, stack: Stack, overdue: Piece) -> None:
    """Whether or not the vault was swept before; not one key or object is touched."""
    piece = piece_of(stack, await vault.dump(b"precious"))
    piece.age(3)
    assert (await sweeping.sweep(dry_run=True)).stopped is None
    await sweeping.sweep()  # which notes how many records there are
    overdue.age_in_quarantine(90)
    with without_rows(stack, "true"):
        report = await sweeping.sweep()
        assert (report.stopped, report.store, report.records) == (Stop.MAP_BELOW_MARK, "mapstore", 0)
        assert changes(report) == [0] * 8
        forget_mark(stack)
        report = await sweeping.sweep()
        assert (report.stopped, report.store) == (Stop.MAP_EMPTY, "mapstore")
        assert changes(report) == [0] * 8
    assert (piece.quarantined, piece.there) == (NEITHER, BOTH)
    assert (overdue.quarantined, overdue.there) == (BOTH, BOTH)


async def test_a_map_from_yesterday_stops_a_sweep(vault: Vault, sweeping: Vault, stack: Stack, overdue: Piece) -> None:
    """One record fewer than there once were is enough; with all of them back, it goes on."""
    external_uuid = await vault.dump(b"made today")
    piece = piece_of(stack, external_uuid)
    assert (await sweeping.sweep()).stopped is None
    piece.age(3)
    overdue.age_in_quarantine(90)
    with without_rows(stack, sql("external_uuid = '{}'", external_uuid)):
        report = await sweeping.sweep()
        assert report.stopped is Stop.MAP_BELOW_MARK
        assert report.records == report.mark - 1
        assert changes(report) == [0] * 8
        assert (piece.quarantined, piece.there) == (NEITHER, BOTH)
        assert overdue.there == BOTH
    report = await sweeping.sweep()
    assert (report.stopped, report.keys.purged, report.objects.purged) == (None, 1, 1)
    assert await vault.load(external_uuid) == b"made today"


async def test_too_many_candidates_stop_a_sweep(sweeping: Vault, stack: Stack, overdue: Piece) -> None:
    """So many leftovers look like a fault. None of them is touched."""
    many = sql(
        "INSERT INTO keys (key_store_uuid, key, iv, created_at) "
        "SELECT gen_random_uuid(), '\\x77', decode(repeat('00', 24), 'hex'), now() - interval '3 days' "
        "FROM generate_series(1, {})",
        ORPHANS,
    )
    stack.psql("keystore", many)
    try:
        report = await sweeping.sweep()
        assert (report.stopped, report.store) == (Stop.TOO_MANY_CANDIDATES, "keystore")
        assert report.keys.candidates > ORPHANS
        assert changes(report) == [0] * 8
        assert overdue.quarantined == NEITHER
    finally:
        stack.psql("keystore", "DELETE FROM keys WHERE key = '\\x77'")
    assert (await sweeping.sweep()).stopped is None
    assert overdue.quarantined == BOTH


@pytest.mark.parametrize("silent", ["keystore", "mapstore", "datastore"])
async def test_a_silent_store_stops_a_sweep(sweeping: Vault, stack: Stack, overdue: Piece, silent: str) -> None:
    """What is not known is kept; the vault goes on when the store is back."""
    with frozen(stack, silent):
        report = await sweeping.sweep()
        assert (report.stopped, report.store) == (Stop.STORE_UNAVAILABLE, silent)
        assert changes(report) == [0] * 8
        assert overdue.quarantined == NEITHER
    assert (await sweeping.sweep()).stopped is None


async def test_unfinished_uploads_and_temporary_files_are_collected(
    sweeping: Vault, stack: Stack, store: DirectoryBackend
) -> None:
    """Once they are past the grace; an upload that goes on is not."""
    dead, going_on = Blob.of(PART + 1), Blob.of(PART + 1)
    for blob in (dead, going_on):
        await store.begin(blob.data)
    (upload,) = (stack.layout.objects / "uploads").glob(f"{dead.id.hex}.*")
    temporary = stack.layout.objects / "incoming" / "half"
    temporary.write_bytes(b"half of it")
    for file in (upload, temporary):
        os.utime(file, (0, time.time() - 2 * DAY))
    report = await sweeping.sweep(dry_run=True)
    assert (report.uploads, report.files) == (1, 1)
    assert upload.exists()
    report = await sweeping.sweep()
    assert (report.uploads, report.files) == (1, 1)
    assert (upload.exists(), temporary.exists()) == NEITHER
    (upload,) = (stack.layout.objects / "uploads").glob(f"{going_on.id.hex}.*")
    upload.unlink()


async def test_a_dry_run_changes_nothing_and_tells_what_a_sweep_would_do(
    sweeping: Vault, stack: Stack, overdue: Piece
) -> None:
    """Not even the high-water mark."""
    forget_mark(stack)
    report = await sweeping.sweep(dry_run=True)
    assert (report.dry_run, report.mark, report.keys.quarantined, report.objects.quarantined) == (True, 0, 1, 1)
    assert overdue.quarantined == NEITHER
    done = await sweeping.sweep()
    assert changes(done) == changes(report)
    assert done.mark == done.records
    assert overdue.quarantined == BOTH


async def test_two_sweeps_at_once_do_what_one_does(sweeping: Vault, vault: Vault, overdue: Piece) -> None:
    """Quarantine and purge, each by two at a time, while records are made."""
    assert {report.stopped for report in await asyncio.gather(sweeping.sweep(), sweeping.sweep())} == {None}
    assert (overdue.quarantined, overdue.there) == (BOTH, BOTH)
    overdue.age_in_quarantine(36)
    *reports, external_uuid = await asyncio.gather(sweeping.sweep(), sweeping.sweep(), vault.dump(b"meanwhile"))
    assert {report.stopped for report in reports} == {None}
    assert (overdue.quarantined, overdue.there) == (NEITHER, NEITHER)
    assert await vault.load(external_uuid) == b"meanwhile"


async def test_a_sweep_is_for_operators_only(vault: Vault) -> None:
    """The gateway says so, and what to do."""
    with pytest.raises(PermanentError) as caught:
        await vault.sweep()
    assert (caught.value.code, caught.value.reason) == (FailureCode.UNAUTHENTICATED, "operators_only")


async def test_a_gateway_makes_nobody_an_operator(stack: Stack, overdue: Piece) -> None:
    """The Cryptor looks into its own registry."""
    name = f"m{uuid4().hex[:8]}"
    profile = stack.enrol(name)
    copy = stack.secrets.of("gateway") / "clients.json"
    honest = copy.read_text()
    clients = [
        client.model_copy(update={"operator": client.operator or client.name == name})
        for client in parse(Registry, copy.read_bytes()).clients
    ]
    write(copy, encode(Registry(clients=clients)).decode())
    job_id = uuid4()
    try:
        async with Vault.open(profile) as mallory:
            with pytest.raises(PermanentError) as caught:
                await mallory.sweep(job_id=job_id)
            (status,) = await mallory.status([job_id])  # it became a job: the gateway had let it through
    finally:
        write(copy, honest)
    assert (caught.value.code, caught.value.reason) == (FailureCode.UNAUTHENTICATED, "operators_only")
    assert status.state is State.FAILED
    assert overdue.quarantined == NEITHER


async def test_the_same_job_is_the_same_sweep(sweeping: Vault, overdue: Piece) -> None:
    """Asked again it tells what it did then; a dry run under its id is another request."""
    job_id = uuid4()
    report = await sweeping.sweep(job_id=job_id)
    assert report.keys.quarantined == 1
    assert overdue.quarantined == BOTH
    assert await sweeping.sweep(job_id=job_id) == report
    with pytest.raises(PermanentError, match="conflict"):
        await sweeping.sweep(job_id=job_id, dry_run=True)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run `trivault-admin sweep`."""
    argv = [str(ADMIN), "sweep", *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - fixed argv


async def test_the_command_prints_a_report(operator: Path, overdue: Piece) -> None:
    """For people a table, for programs one object."""
    done = await asyncio.to_thread(run, "--profile", operator, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Nothing was changed" in done.stdout
    assert overdue.quarantined == NEITHER
    done = await asyncio.to_thread(run, "--profile", operator, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = SweepReport.model_validate(json.loads(done.stdout), strict=False)
    assert (told.dry_run, told.stopped, told.keys.quarantined) == (False, None, 1)


async def test_a_stopped_sweep_exits_with_5_and_says_what_to_do(operator: Path, stack: Stack) -> None:
    """On stdout: the report is the result."""
    assert (await asyncio.to_thread(run, "--profile", operator)).returncode == 0
    with without_rows(stack, "true"):
        done = await asyncio.to_thread(run, "--profile", operator)
    assert (done.returncode, done.stderr) == (5, "")
    assert "STOPPED: map_below_mark (mapstore): MapStore holds fewer records than it once did" in done.stdout


async def test_the_command_refuses_who_is_no_operator(alices: Path, alice: Profile) -> None:
    """Exit 3, and how to enrol one."""
    del alice  # whose profile it is
    done = await asyncio.to_thread(run, "--profile", alices, "--json")
    assert (done.returncode, done.stdout) == (3, "")
    told = json.loads(done.stderr)
    assert (told["error"], told["reason"]) == ("unauthenticated", "operators_only")
    assert "client add NAME --operator" in told["advice"]


def test_a_profile_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    """Exit 2."""
    done = run("--profile", tmp_path / "none.toml")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no such profile" in done.stderr
