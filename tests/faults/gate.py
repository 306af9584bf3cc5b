"""A gate in front of one job's commit: an open transaction that holds the job's key in MapStore's table.

Whoever settles the job waits in PostgreSQL until the gate opens. So a test can stop any process exactly between the
sending of a commit and its reply; nothing in the product knows of it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

import asyncpg
from asyncpg.transaction import Transaction

from messaging.settings import DatabaseSettings
from tests.faults.polling import until

_HOLD: Final = """
INSERT INTO map (owner, job_id, item, state, request_tag, size, suite, mac_key, mac)
VALUES ($1, $2, 0, 'aborted', $3, 0, 1, 1, $3)
"""
_WAITING: Final = "SELECT count(*) FROM pg_locks WHERE NOT granted AND transactionid = pg_current_xact_id()::xid"


class Gate:
    """Holds one job back; `Gate.closed` makes one."""

    def __init__(self, connection: asyncpg.Connection, transaction: Transaction) -> None:
        """Hold what `transaction` has inserted."""
        self._connection = connection
        self._transaction = transaction

    @classmethod
    @asynccontextmanager
    async def closed(cls, settings: DatabaseSettings, owner: bytes, job_id: UUID) -> AsyncIterator["Gate"]:
        """Hold (owner, job_id, 0) back, as the role of `settings`, until the gate opens or the context ends."""
        arguments = settings.asyncpg_arguments()
        wanted = ("host", "port", "database", "user", "ssl", "timeout")
        connection = await asyncpg.connect(**{name: arguments[name] for name in wanted})
        try:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(_HOLD, owner, job_id, bytes(32))
            yield cls(connection, transaction)
        finally:
            connection.terminate()

    async def waiting(self) -> int:
        """How many commits and aborts have arrived at the gate."""
        return int(await self._connection.fetchval(_WAITING))

    async def somebody_waits(self) -> None:
        """Return when there is one."""
        await until(self.waiting, "nobody came to the gate")

    async def open(self) -> None:
        """Let them pass, as if the gate had never been."""
        await self._transaction.rollback()
