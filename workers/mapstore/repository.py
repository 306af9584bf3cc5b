"""The `map` table: settle each (owner, job_id, item) once and for all, read, and tell what is named.

It knows neither messages nor MACs.

Every method takes and returns whole lists, item by item in the same order. Rows are inserted in order of their keys, so
that overlapping batches wait for each other instead of deadlocking.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

import asyncpg

from contracts.failures import FailureCode
from contracts.limits import MAX_BLOB
from contracts.stores import Counted, Failure, Kind, MapKey, Named, Reference, Row, RowState, entry_uuid
from messaging.settings import DatabaseSettings
from workers.postgres import Database

SCHEMA: Final = 1  # the version of infra/postgres/mapstore.sql that these statements are written for
MAC_KEYS: Final = 2**31  # what the column holds; a Cryptor would rotate daily for six million years

Key = tuple[bytes, UUID, int]  # owner, job_id, item

# A commit that only begins after its deadline is refused here as well. One that begins in time, and then waits for the
# key of another, is cancelled a second later (`workers.postgres`); its outcome is unknown, and it may come about late.
# No answer builds on that: whoever says `failed` has put the `aborted` row first, which may be done at any time.
_SETTLE = """
INSERT INTO map (owner, job_id, item, state, external_uuid, data_store_uuid, key_store_uuid, map_share, request_tag,
                 size, suite, mac_key, mac)
SELECT new.* FROM unnest(
    $1::bytea[], $2::uuid[], $3::integer[], $4::text[], $5::uuid[], $6::uuid[], $7::uuid[], $8::bytea[], $9::bytea[],
    $10::bigint[], $11::smallint[], $12::integer[], $13::bytea[]
) AS new (owner, job_id, item, state, external_uuid, data_store_uuid, key_store_uuid, map_share, request_tag, size,
          suite, mac_key, mac)
WHERE new.state = 'aborted' OR clock_timestamp() < to_timestamp($14)
ON CONFLICT DO NOTHING RETURNING 1
"""

# Statements of their own: the one that inserts does not see a row that won while it ran.
_WINNERS = """
SELECT map.* FROM map JOIN unnest($1::bytea[], $2::uuid[], $3::integer[]) AS asked (owner, job_id, item)
USING (owner, job_id, item)
"""
_BY_UUID = "SELECT * FROM map WHERE external_uuid = ANY($1::uuid[])"

# Whatever the row's state: what a row names is nobody's to collect.
_NAMED_KEYS = """
SELECT id FROM unnest($1::uuid[]) AS id WHERE EXISTS (SELECT 1 FROM map WHERE key_store_uuid = id)
"""
_NAMED_OBJECTS = """
SELECT first AS id FROM unnest($1::uuid[], $2::uuid[]) AS asked (first, last)
WHERE EXISTS (SELECT 1 FROM map WHERE data_store_uuid BETWEEN first AND last)
"""
_COUNT = "SELECT state, count(*) AS rows FROM map WHERE state = ANY($1::text[]) GROUP BY state"
LAST_ENTRY: Final = 2**16 - 1  # of an object


class Map:
    """The table, as the role `svc.mapstore` may use it."""

    def __init__(self, database: Database) -> None:
        """Use an open database; `Map.open` opens one."""
        self._database = database

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: DatabaseSettings) -> AsyncIterator["Map"]:
        """Connect; raises what `Database.open` raises."""
        async with Database.open(settings, version=SCHEMA) as database:
            yield cls(database)

    async def check(self) -> None:
        """See `Database.check`."""
        await self._database.check()

    async def settle(self, rows: Sequence[Row], deadline: float) -> list[Failure | Row]:
        """Commit or abort items; the outcome is the row that won, the caller's own or another.

        Failures: `expired` for a commit past the deadline of an item that nobody settled, `conflict` for an
        external_uuid that belongs to another item, `invalid_request` for a row that says two things at once.

        Raises:
            TransientError: the outcome is unknown.
        """
        sound = sorted((row for row in rows if _is_sound(row)), key=_key)
        inserted = await self._database.fetch(deadline, _SETTLE, *_columns(sound), deadline)
        if len(inserted) == len(rows):
            return list(rows)
        winners = await self._winners(sound, deadline)
        losers = [row.external_uuid for row in sound if row.external_uuid and _key(row) not in winners]
        taken = await self._by_uuid(losers, deadline) if losers else {}
        return [_outcome(row, winners, taken) for row in rows]

    async def load(self, ids: Sequence[UUID], deadline: float) -> list[Failure | Row]:
        """Read rows by external_uuid; `not_found` for one that is no record's.

        Raises:
            TransientError: the database did not answer.
        """
        stored = await self._by_uuid(ids, deadline)
        return [stored.get(id_) or Failure(code=FailureCode.NOT_FOUND) for id_ in ids]

    async def names(self, references: Sequence[Reference], deadline: float) -> list[Failure | Named]:
        """Which of these keys and objects a row names.

        Raises:
            TransientError: the database did not answer.
        """
        keys = [each.id for each in references if each.kind is Kind.KEY]
        objects = [each.id for each in references if each.kind is Kind.OBJECT]
        named: dict[Kind, set[UUID]] = {Kind.KEY: set(), Kind.OBJECT: set()}
        if keys:
            named[Kind.KEY] = {row["id"] for row in await self._database.fetch(deadline, _NAMED_KEYS, keys)}
        if objects:
            last = [entry_uuid(each, LAST_ENTRY) for each in objects]
            rows = await self._database.fetch(deadline, _NAMED_OBJECTS, objects, last)
            named[Kind.OBJECT] = {row["id"] for row in rows}
        return [Named(named=each.id in named[each.kind]) for each in references]

    async def count(self, states: Sequence[RowState], deadline: float) -> list[Failure | Counted]:
        """How many rows have these states; reads the whole table.

        Raises:
            TransientError: the database did not answer.
        """
        rows = {row["state"]: row["rows"] for row in await self._database.fetch(deadline, _COUNT, states)}
        return [Counted(rows=rows.get(state, 0)) for state in states]

    async def _winners(self, keys: Sequence[MapKey], deadline: float) -> dict[Key, Row]:
        found = await self._database.fetch(
            deadline, _WINNERS, [key.owner for key in keys], [key.job_id for key in keys], [key.item for key in keys]
        )
        return {_key(row): row for row in _rows(found)}

    async def _by_uuid(self, ids: Sequence[UUID], deadline: float) -> dict[UUID, Row]:
        found = await self._database.fetch(deadline, _BY_UUID, ids)
        return {row.external_uuid: row for row in _rows(found) if row.external_uuid}


def _key(row: MapKey) -> Key:
    return row.owner, row.job_id, row.item


def _is_sound(row: Row) -> bool:
    """Whether the table would take it: one bad row must not fail the statement that its neighbours share."""
    ids = (row.external_uuid, row.data_store_uuid, row.key_store_uuid, row.map_share)
    complete = all(ids) if row.state is RowState.LIVE else not any(ids)
    return complete and row.size <= MAX_BLOB and row.mac_key < MAC_KEYS


def _columns(rows: Sequence[Row]) -> Iterable[Sequence[object]]:
    """The rows as one array per column, in the order of `_SETTLE`."""
    return ([getattr(row, name) for row in rows] for name in Row.model_fields)


def _rows(records: Iterable[asyncpg.Record]) -> Iterable[Row]:
    names = Row.model_fields
    return (Row(**{name: record[name] for name in names} | {"state": RowState(record["state"])}) for record in records)


def _outcome(row: Row, winners: dict[Key, Row], taken: dict[UUID, Row]) -> Failure | Row:
    if not _is_sound(row):
        return Failure(code=FailureCode.INVALID_REQUEST)
    if winner := winners.get(_key(row)):
        return winner
    return Failure(code=FailureCode.CONFLICT if row.external_uuid in taken else FailureCode.EXPIRED)
