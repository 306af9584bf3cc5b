"""Many small blobs in one job: each is a record of its own, whatever happens to the others or to the processes."""

import asyncio
import os
import random
from uuid import UUID, uuid4

import pytest

from contracts.edge import ItemOutcome, State
from contracts.failures import FailureCode
from contracts.limits import ITEM_MAX
from infra.local.stack import Stack
from trivault import PermanentError, Profile, Vault


def uuids(outcomes: list[ItemOutcome]) -> list[UUID]:
    """Of a batch in which every item became a record."""
    assert all(outcome.code is None for outcome in outcomes)
    return [outcome.external_uuid for outcome in outcomes if outcome.external_uuid is not None]


def rows(stack: Stack, job_id: UUID) -> list[str]:
    """States of a job's items."""
    return stack.psql("mapstore", f"SELECT state FROM map WHERE job_id = '{job_id}' ORDER BY item").split()  # noqa: S608 - our own uuid


async def loaded(vault: Vault, ids: list[UUID]) -> list[bytes]:
    """Records, a few at a time."""
    slots = asyncio.Semaphore(32)

    async def load(external_uuid: UUID) -> bytes:
        async with slots:
            return await vault.load(external_uuid)

    return await asyncio.gather(*map(load, ids))


@pytest.mark.parametrize(
    "sizes",
    [[0], [1], [0, 0, 0], [100] * 40, [1024] * 600, [0, 1, 16_384, ITEM_MAX, 300_000, ITEM_MAX, 17]],
    ids=["one empty", "one byte", "empty", "inline", "three groups", "mixed"],
)
async def test_every_blob_of_a_batch_is_a_record_of_its_own(vault: Vault, sizes: list[int]) -> None:
    """Outcomes in order, ids all different, bytes the same."""
    blobs = [os.urandom(size) for size in sizes]
    ids = uuids(await vault.ingest_batch(blobs))
    assert len(set(ids)) == len(blobs)
    assert await loaded(vault, ids) == blobs


async def test_the_same_batch_again_is_the_same_records(vault: Vault, stack: Stack) -> None:
    """By ledger and, once that has forgotten the job, by MapStore; other blobs under the job id are a conflict."""
    blobs, job_id = [os.urandom(500) for _ in range(300)], uuid4()
    first = await vault.ingest_batch(blobs, job_id=job_id)
    assert await vault.ingest_batch(blobs, job_id=job_id) == first
    stack.psql("gateway", f"DELETE FROM jobs WHERE job_id = '{job_id}'")  # noqa: S608 - our own uuid
    assert await vault.ingest_batch(blobs, job_id=job_id) == first
    assert rows(stack, job_id) == ["live"] * len(blobs)
    with pytest.raises(PermanentError, match="conflict"):
        await vault.ingest_batch([b"other"], job_id=job_id)


async def test_a_restarted_client_learns_every_outcome(vault: Vault, newcomer: Profile) -> None:
    """The answer can be opened by who remembers nothing but the job id; nobody else sees it."""
    job_id = uuid4()
    blobs = [os.urandom(10) for _ in range(20)]
    async with Vault.open(newcomer) as other:
        outcomes = await other.ingest_batch(blobs, job_id=job_id)
    async with Vault.open(newcomer) as again:
        (told,) = await again.status([job_id])
    assert (told.state, told.sealed, told.done, told.total) == (State.SUCCEEDED, True, 20, 20)
    assert list(told.outcomes) == outcomes
    assert (await vault.status([job_id]))[0].state is State.UNKNOWN


async def test_a_killed_cryptor_makes_no_item_twice(vault: Vault, stack: Stack) -> None:
    """What it had committed stays, the rest is done by the next attempt: one row for each item, one record each."""
    blobs = [random.randbytes(2000) for _ in range(3000)]  # noqa: S311 - test data
    job_id = uuid4()
    ingesting = asyncio.create_task(vault.ingest_batch(blobs, job_id=job_id))
    async with asyncio.timeout(60):
        while len(await asyncio.to_thread(rows, stack, job_id)) < 500:
            assert not ingesting.done()
            await asyncio.sleep(0.01)
        await asyncio.to_thread(stack.kill, "cryptor")
        ids = uuids(await ingesting)
    assert rows(stack, job_id) == ["live"] * len(blobs)
    sample = range(0, len(blobs), 61)
    assert await loaded(vault, [ids[at] for at in sample]) == [blobs[at] for at in sample]


async def test_a_blob_that_is_too_large_for_a_batch_fails_with_those_behind_it(vault: Vault, stack: Stack) -> None:
    """What came before it is kept: partial success is normal, and every item has its outcome."""
    job_id = uuid4()
    outcomes = await vault.ingest_batch([b"before", bytes(ITEM_MAX + 1), b"behind"], job_id=job_id)
    assert [outcome.code for outcome in outcomes[1:]] == [FailureCode.INVALID_REQUEST] * 2
    assert rows(stack, job_id)[1:] == ["aborted", "aborted"]
