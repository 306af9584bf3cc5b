"""The `keys` table: insert or compare, read, erase; and for a sweep list, quarantine, purge.

It knows neither messages nor what a key opens.

Every method takes and returns whole lists, item by item in the same order. Rows are locked in order of their ids, so
that overlapping batches wait for each other instead of deadlocking.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

import asyncpg

from contracts.failures import FailureCode
from contracts.stores import Done, Failure, Key, Listing, Mark, Measure, Old, Page, Verdict
from messaging.settings import DatabaseSettings
from workers.postgres import Database

SCHEMA: Final = 2  # the version of infra/postgres/keystore.sql that these statements are written for

_DUMP = """
INSERT INTO keys (key_store_uuid, key, iv) SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::bytea[])
ON CONFLICT DO NOTHING RETURNING key_store_uuid
"""

# A statement of its own: the one that inserts does not see a row that won while it ran.
_LOAD = "SELECT key_store_uuid, key, iv FROM keys WHERE key_store_uuid = ANY($1::uuid[]) AND erased_at IS NULL"

# An id that never came is erased too: a delayed dump must not create it afterwards. Two statements, because the second
# has to see a row that won while the first one ran; and because `ON CONFLICT DO UPDATE` would ask the policy about
# tombstones too, from PostgreSQL 17 on. Rows are locked in order, so that erases do not deadlock.
_BURY = """
INSERT INTO keys (key_store_uuid, erased_at) SELECT id, clock_timestamp() FROM unnest($1::uuid[]) AS id
ON CONFLICT DO NOTHING
"""

_ERASE = """
UPDATE keys SET key = NULL, iv = NULL, erased_at = clock_timestamp()
FROM (SELECT key_store_uuid AS id FROM keys WHERE key_store_uuid = ANY($1::uuid[]) AND erased_at IS NULL
      ORDER BY id FOR UPDATE) AS live
WHERE key_store_uuid = id AND erased_at IS NULL
"""

# Tombstones count against the limit, so that a long run of them does not make a page a long one.
_LIST = """
SELECT key_store_uuid, erased_at IS NULL AS held, created_at < clock_timestamp() - $3 * interval '1 second' AS old,
       CASE WHEN quarantined_at IS NOT NULL
           THEN greatest(floor(extract(epoch FROM clock_timestamp() - quarantined_at)), 0)::bigint END AS quarantined
FROM keys LEFT JOIN quarantine USING (key_store_uuid)
WHERE key_store_uuid > $1 ORDER BY key_store_uuid LIMIT $2
"""

_QUARANTINE = """
INSERT INTO quarantine (key_store_uuid)
SELECT key_store_uuid FROM keys WHERE key_store_uuid = ANY($1::uuid[]) AND erased_at IS NULL ORDER BY key_store_uuid
ON CONFLICT DO NOTHING
"""

_RELEASE = "DELETE FROM quarantine WHERE key_store_uuid = ANY($1::uuid[])"

# One statement: a release at the same time either comes first, and the key stays, or finds nothing to release.
_PURGE = """
WITH due AS (
    DELETE FROM quarantine USING unnest($1::uuid[], $2::bigint[]) AS asked (id, seconds)
    WHERE key_store_uuid = id AND quarantined_at <= clock_timestamp() - seconds * interval '1 second'
    RETURNING key_store_uuid
)
UPDATE keys SET key = NULL, iv = NULL, erased_at = clock_timestamp()
FROM due WHERE keys.key_store_uuid = due.key_store_uuid AND erased_at IS NULL
"""

_MARK = """
INSERT INTO high_water (records) VALUES ($1)
ON CONFLICT (one) DO UPDATE SET records = greatest(high_water.records, excluded.records) RETURNING records
"""


class Keys:
    """The table, as the role `svc.keystore` may use it."""

    def __init__(self, database: Database) -> None:
        """Use an open database; `Keys.open` opens one."""
        self._database = database

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: DatabaseSettings) -> AsyncIterator["Keys"]:
        """Connect; raises what `Database.open` raises."""
        async with Database.open(settings, version=SCHEMA) as database:
            yield cls(database)

    async def check(self) -> None:
        """See `Database.check`."""
        await self._database.check()

    async def dump(self, items: Sequence[Key], deadline: float) -> list[Failure | Done]:
        """Insert keys; `conflict` where the id holds another key or iv, or was erased.

        Raises:
            TransientError: the outcome is unknown.
        """
        rows = sorted(items, key=lambda item: item.key_store_uuid)
        inserted = await self._database.fetch(
            deadline,
            _DUMP,
            [row.key_store_uuid for row in rows],
            [row.key for row in rows],
            [row.iv for row in rows],
        )
        if len(inserted) == len(items):
            return [Done()] * len(items)
        stored = await self._stored([item.key_store_uuid for item in items], deadline)
        conflict = Failure(code=FailureCode.CONFLICT)
        return [Done() if stored.get(item.key_store_uuid) == (item.key, item.iv) else conflict for item in items]

    async def load(self, ids: Sequence[UUID], deadline: float) -> list[Failure | Key]:
        """Read keys; `not_found` for an id that never was or is erased.

        Raises:
            TransientError: the database did not answer.
        """
        stored = await self._stored(ids, deadline)
        missing = Failure(code=FailureCode.NOT_FOUND)
        return [_key(id_, *stored[id_]) if id_ in stored else missing for id_ in ids]

    async def erase(self, ids: Sequence[UUID], deadline: float) -> list[Failure | Done]:
        """Forget keys and leave tombstones; what is erased already, or never came, is done too.

        Raises:
            TransientError: the outcome is unknown.
        """
        unwanted = sorted(set(ids))
        await self._database.fetch(deadline, _BURY, unwanted)
        await self._database.fetch(deadline, _ERASE, unwanted)
        return [Done()] * len(ids)

    async def page(self, listing: Listing, deadline: float) -> Page:
        """One page of keys, in order of their ids.

        Raises:
            TransientError: the database did not answer.
        """
        rows = await self._database.fetch(deadline, _LIST, listing.after, listing.limit, float(listing.older_than))
        held = [row for row in rows if row["held"]]
        return Page(
            held=len(held),
            old=[Old(id=row["key_store_uuid"], quarantined=row["quarantined"]) for row in held if row["old"]],
            last=rows[-1]["key_store_uuid"] if len(rows) == listing.limit else None,
        )

    async def sweep(self, verdicts: Sequence[Verdict], deadline: float) -> list[Failure | Done]:
        """Quarantine, release and purge keys; `conflict` for a purge of one that was not in quarantine for so long.

        Raises:
            TransientError: the outcome is unknown.
        """
        chosen = {measure: _chosen(verdicts, measure) for measure in Measure}
        if some := chosen[Measure.QUARANTINE]:
            await self._database.fetch(deadline, _QUARANTINE, [verdict.id for verdict in some])
        if some := chosen[Measure.RELEASE]:
            await self._database.fetch(deadline, _RELEASE, [verdict.id for verdict in some])
        kept: dict[UUID, tuple[bytes, bytes]] = {}
        if some := chosen[Measure.PURGE]:
            ids = [verdict.id for verdict in some]
            await self._database.fetch(deadline, _PURGE, ids, [verdict.quarantined for verdict in some])
            kept = await self._stored(ids, deadline)
        conflict = Failure(code=FailureCode.CONFLICT)
        return [conflict if verdict.measure is Measure.PURGE and verdict.id in kept else Done() for verdict in verdicts]

    async def mark(self, mark: Mark, deadline: float) -> Mark:
        """Raise the high-water mark, unless it is higher; the mark as it is then.

        Raises:
            TransientError: the outcome is unknown.
        """
        (row,) = await self._database.fetch(deadline, _MARK, mark.records)
        return Mark(records=row["records"])

    async def _stored(self, ids: Sequence[UUID], deadline: float) -> dict[UUID, tuple[bytes, bytes]]:
        rows: list[asyncpg.Record] = await self._database.fetch(deadline, _LOAD, ids)
        return {row["key_store_uuid"]: (row["key"], row["iv"]) for row in rows}


def _key(key_store_uuid: UUID, key: bytes, iv: bytes) -> Key:
    return Key(key_store_uuid=key_store_uuid, key=key, iv=iv)


def _chosen(verdicts: Sequence[Verdict], measure: Measure) -> Sequence[Verdict]:
    return sorted((each for each in verdicts if each.measure is measure), key=lambda each: each.id)
