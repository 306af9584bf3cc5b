"""The races of design §5.4 with real processes: whoever is stopped around the commit, nothing live is ever erased.

Most tests hold one job's commit at a gate (`tests.faults.gate`), break or freeze a process there, and open it.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

import pytest

from contracts.failures import FailureCode, PermanentError
from infra.local.stack import Stack
from tests.faults import pieces
from tests.faults.gate import Gate
from tests.faults.harm import another_cryptor, frozen, kill
from tests.faults.polling import SECONDS, until
from tests.fix_stack import IMPATIENT, DatabaseAs
from trivault import Profile, Vault

ATTEMPT_SECONDS: Final = IMPATIENT["cryptor"]["attempt_seconds"]
AGAIN, ABORT = 1, int(IMPATIENT["gateway"]["attempts"])  # hand-outs so far: the job is done again, or given up
SIZES: Final = [1_000, 1_500_000]  # inline, upload


@dataclass
class Dumping:
    """A dump that is under way."""

    job_id: UUID
    blob: bytes
    end: asyncio.Task[UUID]


@asynccontextmanager
async def dumping(vault: Vault, size: int, job_id: UUID) -> AsyncIterator[Dumping]:
    """Begin a dump of `size` bytes; nobody waits for it any longer than the context is open."""
    blob = os.urandom(size)
    end = asyncio.create_task(vault.dump(blob, job_id=job_id))
    try:
        async with asyncio.timeout(2 * SECONDS):
            yield Dumping(job_id, blob, end)
    finally:
        end.cancel()
        await asyncio.wait([end])


AtGate = Callable[[int], AbstractAsyncContextManager[tuple[Dumping, Gate]]]


@pytest.fixture
def at_gate(vault: Vault, alice: Profile, database_as: DatabaseAs) -> AtGate:
    """How to begin a dump of so many bytes whose commit waits at a gate, in PostgreSQL."""

    @asynccontextmanager
    async def held(size: int) -> AsyncIterator[tuple[Dumping, Gate]]:
        job_id, settings = uuid4(), database_as("svc.mapstore", "mapstore")
        async with Gate.closed(settings, alice.owner, job_id) as gate, dumping(vault, size, job_id) as dump:
            await until(gate.waiting, "the commit did not come")
            yield dump, gate

    return held


@pytest.fixture(autouse=True)
async def losers_erase_their_own(stack: Stack) -> AsyncIterator[None]:
    """Whoever lost a race has erased what it had stored."""
    before = await pieces.orphans(stack)
    yield
    await pieces.all_over(stack)
    await erased_but(stack, before)


async def erased_but(stack: Stack, orphans: set[UUID]) -> None:
    """Wait until no other pieces without a record are left."""

    async def erased() -> bool:
        return await pieces.orphans(stack) <= orphans

    await until(erased, "a lost attempt left its pieces", every=0.2)


async def is_the_record(stack: Stack, vault: Vault, dump: Dumping) -> UUID:
    """The dump is answered with the one row that its job has, now and later, and loads."""
    external_uuid = await dump.end
    assert await pieces.records(stack, dump.job_id) == [("live", external_uuid)]
    assert await vault.load(external_uuid) == dump.blob
    (status,) = await vault.status([dump.job_id])
    assert (status.external_uuid, status.sealed) == (external_uuid, True)
    return external_uuid


async def is_no_record(stack: Stack, vault: Vault, dump: Dumping) -> None:
    """The dump is answered `failed`, under seal, now and later, and its job will never have a record."""
    with pytest.raises(PermanentError) as told:
        await dump.end
    assert told.value.code is FailureCode.INTERNAL
    assert await pieces.records(stack, dump.job_id) == [("aborted", None)]
    (status,) = await vault.status([dump.job_id])
    assert (status.code, status.sealed) == (FailureCode.INTERNAL, True)


async def hand_out_again(stack: Stack, job_id: UUID, attempts: int) -> None:
    """Let the gateway's patience with a job end now, after so many hand-outs."""
    change = f"UPDATE jobs SET due_at = now(), attempts = {attempts} WHERE job_id = '{job_id}' AND due_at IS NOT NULL"  # noqa: S608 - our own uuid
    await pieces.ask(stack, "gateway", change)


async def end_by_another(stack: Stack, dump: Dumping, attempts: int) -> None:
    """Have a second Cryptor, which is not frozen, bring the job to its end; some hand-outs go to the frozen one."""

    async def ended() -> bool:
        await hand_out_again(stack, dump.job_id, attempts)
        await asyncio.wait([dump.end], timeout=1.5)
        return dump.end.done()

    async with another_cryptor(stack):
        await until(ended, "the other Cryptor did not end the job")


async def past_the_attempt(began: float) -> None:
    """Wait until an attempt that began at `began` may commit no more."""

    async def past() -> bool:
        return time.monotonic() > began + ATTEMPT_SECONDS

    await until(past, "time stands still", every=0.2)


@pytest.mark.parametrize("size", SIZES)
async def test_a_lost_commit_reply_is_asked_for_again(stack: Stack, vault: Vault, at_gate: AtGate, size: int) -> None:
    """MapStore is killed after it committed and before it answered: the retry finds its own row."""
    async with at_gate(size) as (dump, gate):
        with frozen(stack, "mapstore"):
            await gate.open()
            external_uuid = await pieces.live(stack, dump.job_id)
            await kill(stack, "mapstore")
        assert await is_the_record(stack, vault, dump) == external_uuid


async def test_a_commit_whose_reply_never_came_is_found_by_the_abort(
    stack: Stack, vault: Vault, at_gate: AtGate
) -> None:
    """MapStore is silent past the attempt's deadline: the Cryptor goes on to abort, and hears that it had committed."""
    async with at_gate(1_000) as (dump, gate):
        with frozen(stack, "mapstore"):
            began = time.monotonic()
            await gate.open()
            external_uuid = await pieces.live(stack, dump.job_id)
            await past_the_attempt(began)
            assert not dump.end.done()
        assert await is_the_record(stack, vault, dump) == external_uuid


@pytest.mark.parametrize("size", SIZES)
async def test_a_job_is_handed_out_again_after_its_commit(
    stack: Stack, vault: Vault, at_gate: AtGate, size: int
) -> None:
    """The Cryptor is killed after its commit and before its ack: the next one answers with the same record."""
    async with at_gate(size) as (dump, gate):
        with frozen(stack, "cryptor"):
            await gate.open()
            external_uuid = await pieces.live(stack, dump.job_id)
            await kill(stack, "cryptor")
        assert await is_the_record(stack, vault, dump) == external_uuid


@pytest.mark.parametrize("attempts", [AGAIN, ABORT], ids=["done again", "aborted"])
async def test_a_commit_stands_whatever_another_cryptor_wants(
    stack: Stack, vault: Vault, at_gate: AtGate, attempts: int
) -> None:
    """A Cryptor freezes with its commit on the way; the next, sent to redo or to abort, answers with that record."""
    async with at_gate(1_000) as (dump, gate):
        with frozen(stack, "cryptor"):
            await gate.open()
            external_uuid = await pieces.live(stack, dump.job_id)
            await end_by_another(stack, dump, attempts)
        assert await is_the_record(stack, vault, dump) == external_uuid


@pytest.mark.parametrize("late", [False, True], ids=["in time", "past its deadline"])
@pytest.mark.parametrize("attempts", [AGAIN, ABORT], ids=["done again", "aborted"])
async def test_who_comes_last_changes_nothing(stack: Stack, vault: Vault, attempts: int, late: bool) -> None:  # noqa: FBT001 - drawn by pytest
    """A Cryptor freezes while it stores; what the next one made of the job stands when the first goes on to commit."""
    before = await pieces.orphans(stack)

    async def storing() -> bool:
        return await pieces.orphans(stack) > before

    with ExitStack() as keystore:
        keystore.enter_context(frozen(stack, "keystore"))
        async with dumping(vault, 1_000, uuid4()) as dump:
            await until(storing, "no object was stored")
            began = time.monotonic()
            with frozen(stack, "cryptor"):
                keystore.close()
                await end_by_another(stack, dump, attempts)
                if late:
                    await past_the_attempt(began)
            await erased_but(stack, before)
            await (is_the_record if attempts == AGAIN else is_no_record)(stack, vault, dump)


async def test_a_commit_and_an_abort_at_the_same_moment(stack: Stack, vault: Vault, at_gate: AtGate) -> None:
    """Two Cryptors wait for the same key of the map, one to commit, one to abort: one wins, and both say the same."""
    async with another_cryptor(stack), at_gate(1_000) as (dump, gate):

        async def both_wait() -> bool:
            await hand_out_again(stack, dump.job_id, ABORT)
            return await gate.waiting() > 1

        await until(both_wait, "the abort did not come", every=0.5)
        await gate.open()
        await asyncio.wait([dump.end])
        await (is_no_record if dump.end.exception() else is_the_record)(stack, vault, dump)
