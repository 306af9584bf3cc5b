"""The `keys` table: insert or compare, read, erase. It knows neither messages nor what a key opens.

Every method takes and returns whole lists, item by item in the same order. Rows are locked in order of their ids, so
that overlapping batches wait for each other instead of deadlocking.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

import asyncpg

from contracts.failures import FailureCode
from contracts.stores import Done, Failure, Key
from messaging.settings import DatabaseSettings
from workers.postgres import Database

SCHEMA: Final = 1  # the version of infra/postgres/keystore.sql that these statements are written for

_DUMP = """
INSERT INTO keys (key_store_uuid, key, iv) SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::bytea[])
ON CONFLICT DO NOTHING RETURNING key_store_uuid
"""

# A statement of its own: the one that inserts does not see a row that won while it ran.
_LOAD = "SELECT key_store_uuid, key, iv FROM keys WHERE key_store_uuid = ANY($1::uuid[]) AND erased_at IS NULL"

# An id that never came is erased too: a delayed dump must not create it afterwards.
_ERASE = """
INSERT INTO keys (key_store_uuid, erased_at) SELECT id, clock_timestamp() FROM unnest($1::uuid[]) AS id
ON CONFLICT (key_store_uuid) DO UPDATE SET key = NULL, iv = NULL, erased_at = excluded.erased_at
WHERE keys.erased_at IS NULL
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
        await self._database.fetch(deadline, _ERASE, sorted(set(ids)))
        return [Done()] * len(ids)

    async def _stored(self, ids: Sequence[UUID], deadline: float) -> dict[UUID, tuple[bytes, bytes]]:
        rows: list[asyncpg.Record] = await self._database.fetch(deadline, _LOAD, ids)
        return {row["key_store_uuid"]: (row["key"], row["iv"]) for row in rows}


def _key(key_store_uuid: UUID, key: bytes, iv: bytes) -> Key:
    return Key(key_store_uuid=key_store_uuid, key=key, iv=iv)
