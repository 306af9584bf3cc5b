"""Sweeps beside faults: what a killed process left is collected, and a dump that merely stands still is not."""

import asyncio
import os
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from infra.local.stack import Stack
from tests.ageing import BOTH, NEITHER, Piece, piece_of
from tests.faults import pieces
from tests.faults.gate import Gate
from tests.faults.harm import frozen, kill
from tests.faults.polling import until
from tests.fix_stack import DatabaseAs
from trivault import Profile, Vault


@pytest.fixture
async def sweeping(stack: Stack) -> AsyncIterator[Vault]:
    """The vault, as an operator; it was never swept before."""
    stack.psql("keystore", "DELETE FROM high_water")
    async with Vault.open(stack.enrol(f"o{uuid4().hex[:8]}", operator=True)) as opened:
        yield opened


async def piece_besides(stack: Stack, before: set[UUID]) -> Piece:
    """The key and the object that are new and that no record names, as soon as both are there."""

    async def found() -> tuple[UUID, UUID] | None:
        fresh = await pieces.orphans(stack) - before
        files = {UUID(path.name) for path in (stack.layout.objects / "objects").glob("*/*")}
        keys, objects = fresh - files, fresh & files
        return (keys.pop(), objects.pop()) if keys and objects else None

    async def both() -> list[UUID]:
        return list(await found() or ())

    key, object_ = await until(both, "there are no key and object without a record")
    return Piece(stack, key, object_)


async def test_a_dump_that_waits_for_its_commit_is_not_swept(
    stack: Stack, vault: Vault, sweeping: Vault, alice: Profile, database_as: DatabaseAs
) -> None:
    """Key and object are there and no row names them: they look like leftovers, but for their age."""
    await vault.dump(b"a record")
    before = await pieces.orphans(stack)
    job_id = uuid4()
    async with Gate.closed(database_as("svc.mapstore", "mapstore"), alice.owner, job_id) as gate:
        dump = asyncio.create_task(vault.dump(b"stalled", job_id=job_id))
        await gate.somebody_waits()
        stalled = await piece_besides(stack, before)
        report = await sweeping.sweep()
        assert report.stopped is None
        assert (stalled.quarantined, stalled.there) == (NEITHER, BOTH)
        await gate.open()
        external_uuid = await dump
    assert piece_of(stack, external_uuid) == stalled
    assert await vault.load(external_uuid) == b"stalled"


async def test_what_a_killed_cryptor_left_is_collected(stack: Stack, vault: Vault, sweeping: Vault) -> None:
    """It died before its row; another attempt made the record, which stays when the pieces of the first one go."""
    await vault.dump(b"a record")
    before = await pieces.orphans(stack)
    blob = os.urandom(1000)

    stack.stop("mapstore")
    dump = asyncio.create_task(vault.dump(blob))
    left = await piece_besides(stack, before)
    await kill(stack, "cryptor")
    stack.rabbitmqctl("purge_queue", "requests", "-p", "mapstore")  # the dead one's commit never comes
    stack.start("mapstore")
    kept = piece_of(stack, external_uuid := await dump)  # the ledger has handed it out again
    await pieces.all_over(stack)
    for piece in (left, kept):
        piece.age(3)
    assert (await sweeping.sweep()).stopped is None
    assert (left.quarantined, kept.quarantined) == (BOTH, NEITHER)
    left.age_in_quarantine(36)
    await sweeping.sweep()
    assert await pieces.orphans(stack) <= before
    assert await vault.load(external_uuid) == blob


async def test_a_cryptor_that_is_killed_in_a_sweep_does_no_harm(stack: Stack, vault: Vault, sweeping: Vault) -> None:
    """The ledger hands the sweep out again, and the operator is answered."""
    await vault.dump(b"a record")
    job_id = uuid4()
    with frozen(stack, "datastore"):
        sweep = asyncio.create_task(sweeping.sweep(job_id=job_id))

        async def at_work() -> bool:
            (status,) = await sweeping.status([job_id])
            return status.done > 0  # keys; the objects cannot be listed

        await until(at_work, "the sweep tells nothing of its progress")
        await kill(stack, "cryptor")
    report = await sweep
    assert report.stopped is None
    assert report.keys.seen > 0
