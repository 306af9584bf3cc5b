"""The job ledger in PostgreSQL: which jobs were accepted, what became of them, and which must be handed out (again).

It is the outbox: a job is in it before anybody is told `accepted`, and stays with its sealed request until it is over.
All methods are plural, so that what arrives together is committed together. It knows nothing of brokers.
"""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from contracts.edge import Event, JobStatus, Op, State
from contracts.failures import FailureCode, PermanentError
from gateway.admission import Admitted
from gateway.settings import Quota
from workers.postgres import Database

SCHEMA: Final = 2  # the version of infra/postgres/gateway.sql that these statements are written for
# Plans are kept. One that was made while the table was empty would read all of it, ended jobs too, until autovacuum
# comes by: that doubled what PostgreSQL spends on a dump. Every statement here has an index.
SESSION: Final = {"enable_seqscan": "off"}

Key = tuple[bytes, UUID]  # client_id, job_id
STATEMENT_SECONDS: Final = 20  # for one statement; after that its outcome is unknown, and the message is not acked


@dataclass(frozen=True, slots=True)
class NewJob:
    """A request on its way into the ledger."""

    admitted: Admitted
    request: bytes
    upload: str | None
    notify: bool
    reply_to: str | None

    @property
    def key(self) -> Key:
        """Its primary key."""
        return self.admitted.head.client_id, self.admitted.head.job_id


@dataclass(frozen=True, slots=True)
class Standing:
    """What the ledger says of a request: `new`, or the job that was already there."""

    new: bool
    status: JobStatus
    answer: bytes = b""


@dataclass(frozen=True, slots=True)
class Handout:
    """A job to publish to its lane."""

    client: str
    client_id: bytes
    job_id: UUID
    attempt: int
    upload: str | None
    abort: FailureCode | None
    bulk: bool
    request: bytes
    moved: bool = False  # its Cryptor asked for the other lane; nobody was silent


@dataclass(frozen=True, slots=True)
class Settled:
    """An event that changed a job, and who waits to hear of it."""

    event: Event
    answer: bytes
    op: Op
    request_tag: bytes
    reply_to: str | None
    notify: bool
    upload: str | None
    size: int  # bytes of payload
    seconds: float  # since it was accepted


_USAGE = """
SELECT client_id, count(*) AS jobs, coalesce(sum(size), 0)::bigint AS bytes
FROM jobs WHERE due_at IS NOT NULL GROUP BY client_id
"""

_ADMIT = """
INSERT INTO jobs (client_id, job_id, client, op, request_tag, fingerprint, size, total, bulk, upload, request, notify,
                  reply_to, expires_at, due_at)
SELECT *, least(expires_at, now() + $15 * interval '1 second') FROM unnest(
    $1::bytea[], $2::uuid[], $3::text[], $4::text[], $5::bytea[], $6::bytea[], $7::bigint[], $8::bigint[],
    $9::boolean[], $10::text[], $11::bytea[], $12::boolean[], $13::text[], $14::timestamptz[]
) AS given (client_id, job_id, client, op, request_tag, fingerprint, size, total, bulk, upload, request, notify,
            reply_to, expires_at)
ORDER BY client_id, job_id
ON CONFLICT (client_id, job_id) DO NOTHING
RETURNING client_id, job_id
"""

# A repeated request hears of the end where it asked last.
_RENEW = """
UPDATE jobs SET reply_to = coalesce($4, reply_to), notify = $5
WHERE client_id = $1 AND job_id = $2 AND request_tag = $3 RETURNING *
"""

# Two answers of one load would be two chances to be wrong about who has it: a load that somebody waits for is not kept.
_SETTLE = """
UPDATE jobs SET
    state = e.state, code = e.code, reason = e.reason, done = e.done, total = e.total, bulk = jobs.bulk OR e.bulk,
    download = coalesce(e.download, jobs.download),
    answer = CASE WHEN e.ended AND (jobs.op NOT IN ('load', 'export') OR jobs.reply_to IS NULL)
        THEN nullif(e.answer, '') END,
    request = CASE WHEN NOT e.ended THEN jobs.request END,
    due_at = CASE WHEN e.bulk THEN now() WHEN NOT e.ended THEN now() + $11 * interval '1 second' END,
    updated_at = now()
FROM unnest($1::bytea[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::text[],
            $9::boolean[], $10::bytea[], $12::boolean[])
     AS e (client_id, job_id, state, code, reason, done, total, download, bulk, answer, ended)
WHERE jobs.client_id = e.client_id AND jobs.job_id = e.job_id AND jobs.due_at IS NOT NULL
RETURNING jobs.client_id, jobs.job_id, jobs.op, jobs.request_tag, jobs.reply_to, jobs.notify, jobs.upload, jobs.size,
          extract(epoch FROM clock_timestamp() - jobs.accepted_at)::float AS seconds
"""

_STATUSES = "SELECT * FROM jobs WHERE client_id = $1 AND job_id = ANY($2::uuid[])"

_DELIVERED = (
    "UPDATE jobs SET answer = NULL WHERE client_id = $1 AND job_id = ANY($2::uuid[]) AND op IN ('load', 'export')"
)

_DUE = """
UPDATE jobs SET
    attempts = attempts + 1,
    abort = coalesce(abort, CASE WHEN expires_at <= now() THEN 'expired' WHEN attempts >= $1 THEN 'internal' END),
    due_at = now() + $2 * interval '1 second'
FROM (
    SELECT client_id, job_id, due_at = updated_at AS moved  -- due at once: see _SETTLE
    FROM jobs WHERE due_at <= now() ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED
) AS due
WHERE jobs.client_id = due.client_id AND jobs.job_id = due.job_id
RETURNING client, jobs.client_id, jobs.job_id, attempts, upload, abort, bulk, request, moved
"""

_UNFINISHED = """
SELECT state, count(*) AS jobs, extract(epoch FROM now() - min(accepted_at))::float AS oldest
FROM jobs WHERE due_at IS NOT NULL GROUP BY state
"""

_FORGET = "DELETE FROM jobs WHERE due_at IS NULL AND updated_at < now() - $1 * interval '1 second'"

_DIRECTORY = """
INSERT INTO directory VALUES (true, $1, $2)
ON CONFLICT (one) DO UPDATE SET issued_at = excluded.issued_at, statement = excluded.statement
WHERE directory.issued_at <= excluded.issued_at
"""


class Ledger:
    """The jobs table."""

    def __init__(self, database: Database, quota: Quota, *, silence_seconds: float, attempts: int) -> None:
        """Use `database`; hand a job out again after `silence_seconds`, at most `attempts` times."""
        self._database = database
        self._quota = quota
        self._silence = silence_seconds
        self._attempts = attempts

    async def _fetch(self, query: str, *arguments: Any) -> list[Any]:
        return await self._database.fetch(time.time() + STATEMENT_SECONDS, query, *arguments)

    async def admit(self, jobs: Sequence[NewJob]) -> list[Standing | PermanentError]:
        """Write new jobs within the quotas; say of the others how they stand, or why they are refused."""
        usage = await self._fetch(_USAGE)
        refused = dict(self._over_quota(jobs, usage))
        rows = [job for at, job in enumerate(jobs) if at not in refused]
        inserted = {(row["client_id"], row["job_id"]) for row in await self._insert(rows)} if rows else set()
        standings: list[Standing | PermanentError] = []
        for at, job in enumerate(jobs):
            if job.key in inserted and at not in refused:
                inserted.discard(job.key)  # a second copy of it in this batch is a repetition
                status = JobStatus(
                    job_id=job.key[1],
                    state=State.ACCEPTED,
                    total=job.admitted.head.items,
                    upload=job.upload,
                    request=job.admitted.fingerprint,
                )
                standings.append(Standing(new=True, status=status))
            else:
                standings.append(await self._repeated(job, refused.get(at)))
        return standings

    def _over_quota(self, jobs: Sequence[NewJob], usage: Iterable[Any]) -> Iterable[tuple[int, PermanentError]]:
        counts: Counter[bytes] = Counter()
        sizes: Counter[bytes] = Counter()
        for row in usage:
            counts[row["client_id"]], sizes[row["client_id"]] = row["jobs"], row["bytes"]
        for at, job in enumerate(jobs):
            owner, size = job.key[0], job.admitted.head.size
            if counts.total() >= self._quota.jobs or sizes.total() + size > self._quota.bytes:
                yield at, PermanentError(FailureCode.BUSY)
            elif counts[owner] >= self._quota.client_jobs or sizes[owner] + size > self._quota.client_bytes:
                yield at, PermanentError(FailureCode.QUOTA_EXCEEDED)
            else:
                counts[owner] += 1
                sizes[owner] += size

    async def _insert(self, jobs: Sequence[NewJob]) -> list[Any]:
        columns = zip(*map(_columns, jobs), strict=True)
        return await self._fetch(_ADMIT, *map(list, columns), self._silence)

    async def _repeated(self, job: NewJob, refusal: PermanentError | None) -> Standing | PermanentError:
        """The job that was there already; a refusal only if there is none."""
        head = job.admitted.head
        rows = await self._fetch(_RENEW, head.client_id, head.job_id, head.request_tag, job.reply_to, job.notify)
        for row in rows:
            return Standing(new=False, status=_status(row), answer=row["answer"] or b"")
        return refusal or PermanentError(FailureCode.CONFLICT)

    async def settle(self, events: Sequence[tuple[Event, bytes]]) -> list[Settled]:
        """Record events; return those that changed a job. An ended job never changes again."""
        last: dict[Key, tuple[Event, bytes]] = {}
        for event, answer in events:
            key = event.client_id, event.job_id
            if key not in last or not last[key][0].state.terminal:
                last[key] = event, answer
        columns = zip(*(_event_columns(*last[key]) for key in sorted(last)), strict=True)
        *given, ended = map(list, columns)
        rows = await self._fetch(_SETTLE, *given, self._silence, ended)
        changed = {(row["client_id"], row["job_id"]): row for row in rows}
        return [
            Settled(
                *last[key],
                op=Op(row["op"]),
                request_tag=row["request_tag"],
                reply_to=row["reply_to"],
                notify=row["notify"],
                upload=row["upload"],
                size=row["size"],
                seconds=row["seconds"],
            )
            for key, row in changed.items()
        ]

    async def statuses(self, client_id: bytes, job_ids: Sequence[UUID]) -> list[tuple[JobStatus, bytes]]:
        """How jobs of one client stand, with their sealed answers; a load's answer is told once."""
        found = {row["job_id"]: row for row in await self._fetch(_STATUSES, client_id, job_ids)}
        told = [job_id for job_id, row in found.items() if row["answer"] and Op(row["op"]).reads]
        if told:
            await self._fetch(_DELIVERED, client_id, told)
        unknown = {job_id: JobStatus(job_id=job_id, state=State.UNKNOWN) for job_id in job_ids}
        return [
            (_status(found[job_id]), found[job_id]["answer"] or b"") if job_id in found else (unknown[job_id], b"")
            for job_id in dict.fromkeys(job_ids)
        ]

    async def due(self, limit: int) -> list[Handout]:
        """Take jobs that are due; each is due again after another silence. Past its attempts a job is due for abort."""
        rows = await self._fetch(_DUE, self._attempts, self._silence, limit)
        return [
            Handout(
                client=row["client"],
                client_id=row["client_id"],
                job_id=row["job_id"],
                attempt=row["attempts"],
                upload=row["upload"],
                abort=FailureCode(row["abort"]) if row["abort"] else None,
                bulk=row["bulk"],
                request=row["request"],
                moved=row["moved"],
            )
            for row in rows
        ]

    async def unfinished(self) -> dict[State, tuple[int, float]]:
        """How many unfinished jobs there are, and the age of the oldest in seconds, by state."""
        rows = await self._fetch(_UNFINISHED)
        return {State(row["state"]): (row["jobs"], row["oldest"]) for row in rows}

    async def forget(self, retention_seconds: float) -> None:
        """Delete ended jobs that ended long ago; MapStore still knows their idempotency keys."""
        await self._fetch(_FORGET, retention_seconds)

    async def keep_directory(self, issued_at: int, statement: bytes) -> None:
        """Keep the newest key statement."""
        await self._fetch(_DIRECTORY, issued_at, statement)

    async def directory(self) -> bytes | None:
        """The newest key statement, if a Cryptor ever sent one."""
        rows = await self._fetch("SELECT statement FROM directory")
        return rows[0]["statement"] if rows else None


def _columns(job: NewJob) -> tuple[object, ...]:
    head = job.admitted.head
    return (
        head.client_id,
        head.job_id,
        job.admitted.client.name,
        head.op,
        head.request_tag,
        job.admitted.fingerprint,
        head.size,
        head.items,
        job.admitted.bulk,
        job.upload,
        job.request,
        job.notify,
        job.reply_to,
        datetime.fromtimestamp(head.expires_at, UTC),
    )


def _event_columns(event: Event, answer: bytes) -> tuple[object, ...]:
    return (
        event.client_id,
        event.job_id,
        event.state,
        event.code,
        event.reason,
        event.done,
        event.total,
        event.download,
        event.bulk,
        answer,
        event.state.terminal,
    )


def _status(row: Any) -> JobStatus:
    return JobStatus(
        job_id=row["job_id"],
        state=State(row["state"]),
        code=FailureCode(row["code"]) if row["code"] else None,
        reason=row["reason"],
        done=row["done"],
        total=row["total"],
        upload=row["upload"],
        download=row["download"],
        op=Op(row["op"]),
        request_tag=row["request_tag"],
        request=row["fingerprint"],
        size=len(row["answer"] or b""),
    )
