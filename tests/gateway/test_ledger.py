"""The job ledger against the real PostgreSQL: idempotency, quotas, hand-outs, and ends that stay."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from contracts.edge import Event, Head, Op, State, Transfer
from contracts.failures import FailureCode, PermanentError
from contracts.registry import Client
from gateway.admission import Admitted
from gateway.ledger import _UNFINISHED, _USAGE, SCHEMA, SESSION, Handout, Ledger, NewJob, Standing
from gateway.settings import Quota
from infra.local.stack import Stack
from tests.faults import pieces
from tests.fix_stack import DatabaseAs
from workers.postgres import Database


@pytest.fixture(scope="session")
async def database(database_as: DatabaseAs) -> AsyncIterator[Database]:
    """The gateway's database, entered as its own role."""
    async with Database.open(database_as("svc.gateway", "gateway"), version=SCHEMA, **SESSION) as opened:
        yield opened


@pytest.fixture
def ledger(database: Database, stack: Stack) -> Iterator[Ledger]:
    """A patient ledger: nothing of these tests is due while the stack's own gateway runs beside it."""
    yield Ledger(database, Quota(), silence_seconds=600, attempts=3)
    stack.psql("gateway", "DELETE FROM jobs WHERE client = 'ledger-test'")


def job(
    owner: bytes, *, op: Op = Op.DUMP, tag: bytes = bytes(32), reply_to: str | None = None, size: int = 10
) -> NewJob:
    """A request of a client that only exists here."""
    head = Head(
        version=1,
        suite=1,
        vault_id=uuid4(),
        op=op,
        client_id=owner,
        job_id=uuid4(),
        size=size,
        items=1,
        transfer=Transfer.INLINE,
        key_id=bytes(32),
        issued_at=0,
        expires_at=int(time.time()) + 3600,
        request_tag=tag,
    )
    client = Client(name="ledger-test", client_id=owner, verify_key=bytes(32))
    return NewJob(Admitted(client, head, bytes(32)), b"sealed request", None, notify=False, reply_to=reply_to)


def retagged(given: NewJob, tag: bytes) -> NewJob:
    """The same job id for other content."""
    head = given.admitted.head.model_copy(update={"request_tag": tag})
    return replace(given, admitted=replace(given.admitted, head=head))


def ended(given: NewJob, state: State = State.SUCCEEDED, **changes: object) -> Event:
    """The end of a job."""
    owner, job_id = given.key
    return Event.model_validate(
        {"client_id": owner, "job_id": job_id, "state": state, "done": 1, "total": 1, **changes}
    )


async def only(ledger: Ledger, given: NewJob) -> Standing | PermanentError:
    """Admit one."""
    (standing,) = await ledger.admit([given])
    return standing


async def test_the_same_request_twice_is_one_job(ledger: Ledger) -> None:
    """In one batch or in two; other content under the same id is a conflict."""
    given = job(os.urandom(16))
    first, second = await ledger.admit([given, given])
    assert isinstance(first, Standing)
    assert isinstance(second, Standing)
    assert (first.new, second.new) == (True, False)
    assert second.status.state is State.ACCEPTED
    other = await only(ledger, retagged(given, b"o" * 32))
    assert isinstance(other, PermanentError)
    assert other.code is FailureCode.CONFLICT


async def test_many_gateways_admit_a_job_once(ledger: Ledger) -> None:
    """However many try at once."""
    given = job(os.urandom(16))
    standings = await asyncio.gather(*(only(ledger, given) for _ in range(8)))
    assert sum(isinstance(each, Standing) and each.new for each in standings) == 1


async def test_quotas_refuse_and_a_repetition_is_not_refused(database: Database, ledger: Ledger) -> None:
    """`quota_exceeded` for one client, `busy` for all; a job that is in already still answers."""
    owner = os.urandom(16)
    narrow = Ledger(database, Quota(client_jobs=1), silence_seconds=600, attempts=3)
    given = job(owner)
    assert isinstance(await only(narrow, given), Standing)
    refused = await only(narrow, job(owner))
    assert isinstance(refused, PermanentError)
    assert refused.code is FailureCode.QUOTA_EXCEEDED
    assert isinstance(await only(narrow, given), Standing)
    full = Ledger(database, Quota(bytes=1), silence_seconds=600, attempts=3)
    busy = await only(full, job(os.urandom(16)))
    assert isinstance(busy, PermanentError)
    assert busy.code is FailureCode.BUSY
    assert isinstance(await only(ledger, job(owner)), Standing)


async def test_the_first_end_wins_and_is_kept(ledger: Ledger) -> None:
    """A later end, a late progress report or a repetition of the event changes nothing."""
    given = job(os.urandom(16))
    await only(ledger, given)
    assert [each.answer for each in await ledger.settle([(ended(given), b"sealed")])] == [b"sealed"]
    assert await ledger.settle([(ended(given, State.FAILED), b"other")]) == []
    assert await ledger.settle([(ended(given, State.RUNNING), b"")]) == []
    ((status, answer),) = await ledger.statuses(given.key[0], [given.key[1]])
    assert (status.state, answer) == (State.SUCCEEDED, b"sealed")
    again = await only(ledger, given)
    assert isinstance(again, Standing)
    assert again.answer == b"sealed"


async def test_an_end_beside_progress_in_one_batch_is_the_end(ledger: Ledger) -> None:
    """Whichever comes last in the message."""
    given = job(os.urandom(16))
    await only(ledger, given)
    changed = await ledger.settle([(ended(given), b"sealed"), (ended(given, State.RUNNING), b"")])
    assert [each.event.state for each in changed] == [State.SUCCEEDED]


@pytest.mark.parametrize(("reply_to", "kept"), [(None, b"sealed"), ("amq.rabbitmq.reply-to.x", b"")])
async def test_the_ledger_is_no_fifth_store(ledger: Ledger, reply_to: str | None, kept: bytes) -> None:
    """A load's result is kept only if nobody waits for it, and told once."""
    given = job(os.urandom(16), op=Op.LOAD, reply_to=reply_to, size=0)
    await only(ledger, given)
    await ledger.settle([(ended(given), b"sealed")])
    told = [(await ledger.statuses(given.key[0], [given.key[1]]))[0][1] for _ in range(2)]
    assert told == [kept, b""]


async def test_another_client_sees_nothing(ledger: Ledger) -> None:
    """A job id is no capability."""
    given = job(os.urandom(16))
    await only(ledger, given)
    ((status, _),) = await ledger.statuses(os.urandom(16), [given.key[1]])
    assert status.state is State.UNKNOWN


async def handed_out(ledger: Ledger, job_id: UUID) -> Handout:
    """The next hand-out of one job; the stack's own jobs that happen to be due are not ours to judge."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for handout in await ledger.due(100):
            if handout.job_id == job_id:
                return handout
        await asyncio.sleep(0.05)
    raise AssertionError("the job was not handed out")


async def test_silence_hands_a_job_out_again_and_in_the_end_aborts_it(database: Database, stack: Stack) -> None:
    """Attempts are counted in the ledger; past them the job is to be settled, for as long as it takes."""
    stack.stop("gateway")  # it would take them first
    try:
        impatient = Ledger(database, Quota(), silence_seconds=0.05, attempts=3)
        given = job(os.urandom(16))
        await only(impatient, given)
        seen = [await handed_out(impatient, given.key[1]) for _ in range(4)]
        assert [each.attempt for each in seen] == [2, 3, 4, 5]
        assert [each.abort for each in seen] == [None, None, FailureCode.INTERNAL, FailureCode.INTERNAL]
        assert {each.request for each in seen} == {b"sealed request"}
        await impatient.settle([(ended(given, State.FAILED), b"sealed")])
        assert given.key[1] not in [each.job_id for each in await impatient.due(100)]
    finally:
        stack.start("gateway")


async def test_an_expired_job_is_to_be_settled_as_expired(database: Database, stack: Stack) -> None:
    """It is due at its expiry at the latest, however patient the ledger is."""
    stack.stop("gateway")
    try:
        patient = Ledger(database, Quota(), silence_seconds=600, attempts=3)
        given = job(os.urandom(16))
        head = given.admitted.head.model_copy(update={"expires_at": int(time.time()) + 1})
        given = replace(given, admitted=replace(given.admitted, head=head))
        await only(patient, given)
        assert (await handed_out(patient, head.job_id)).abort is FailureCode.EXPIRED
    finally:
        stack.start("gateway")


async def test_an_end_frees_the_request_and_is_forgotten_in_time(ledger: Ledger, stack: Stack) -> None:
    """The sealed request goes when the job is over, the job when its retention is."""
    given = job(os.urandom(16))
    await only(ledger, given)
    where = f"WHERE job_id = '{given.key[1]}'"
    assert stack.psql("gateway", f"SELECT request IS NULL FROM jobs {where}") == "f"  # noqa: S608 - our own uuid
    await ledger.settle([(ended(given), b"sealed")])
    assert stack.psql("gateway", f"SELECT request IS NULL FROM jobs {where}") == "t"  # noqa: S608 - our own uuid
    await ledger.forget(3600)
    assert stack.psql("gateway", f"SELECT count(*) FROM jobs {where}") == "1"  # noqa: S608 - our own uuid
    await ledger.forget(0)
    assert stack.psql("gateway", f"SELECT count(*) FROM jobs {where}") == "0"  # noqa: S608 - our own uuid


async def test_a_job_that_changes_lanes_is_not_taken_for_a_silent_one(database: Database, stack: Stack) -> None:
    """Handed out at once, and told apart from one that nobody spoke of, so that an alert on those means something."""
    stack.stop("gateway")
    try:
        impatient = Ledger(database, Quota(), silence_seconds=0.05, attempts=3)
        given = job(os.urandom(16), op=Op.LOAD, size=0)
        await only(impatient, given)
        assert not (await handed_out(impatient, given.key[1])).moved
        await impatient.settle([(ended(given, State.ACCEPTED, bulk=True), b"")])
        assert (await handed_out(impatient, given.key[1])).moved
        assert not (await handed_out(impatient, given.key[1])).moved
        await impatient.settle([(ended(given, State.FAILED), b"sealed")])
    finally:
        stack.start("gateway")


async def test_unfinished_jobs_are_counted_with_the_age_of_the_oldest(ledger: Ledger, stack: Stack) -> None:
    """By state; and how long a job took is told with its end."""
    await pieces.all_over(stack)
    assert await ledger.unfinished() == {}
    old, young = job(os.urandom(16)), job(os.urandom(16))
    await ledger.admit([old, young])
    stack.psql("gateway", f"UPDATE jobs SET accepted_at = now() - interval '90 s' WHERE job_id = '{old.key[1]}'")  # noqa: S608 - our own uuid
    counted = await ledger.unfinished()
    assert [(state, jobs) for state, (jobs, _) in counted.items()] == [(State.ACCEPTED, 2)]
    assert 90 <= counted[State.ACCEPTED][1] < 120
    await ledger.settle([(ended(young, State.RUNNING), b"")])
    assert {state: jobs for state, (jobs, _) in (await ledger.unfinished()).items()} == {
        State.ACCEPTED: 1,
        State.RUNNING: 1,
    }
    settled = {each.event.job_id: each for each in await ledger.settle([(ended(old), b""), (ended(young), b"")])}
    assert 90 <= settled[old.key[1]].seconds < 120
    assert 0 <= settled[young.key[1]].seconds < 30
    assert await ledger.unfinished() == {}


@pytest.mark.parametrize("query", [_USAGE, _UNFINISHED], ids=["usage", "unfinished"])
async def test_what_is_asked_all_the_time_reads_no_ended_job(database: Database, query: str) -> None:
    """Whatever the table held when its plan was made: the index has unfinished jobs only."""
    plan = "\n".join(row["QUERY PLAN"] for row in await database.fetch(time.time() + 5, f"EXPLAIN {query}"))
    assert "jobs_due" in plan
    assert "Seq Scan" not in plan
