"""PostgreSQL as the table stores use it: one pool entered as one role, one schema version, errors split by what to do.

It knows no table but `schema_version` and decides no outcome: a statement whose fate is unknown raises, so that nothing
is answered and the caller asks again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import asyncpg

from contracts.failures import FailureCode, PermanentError, TransientError
from messaging.settings import DatabaseSettings

CONNECT_SECONDS: Final = 15  # to connect at start: TCP, TLS and authentication on a busy machine
GRACE_SECONDS: Final = 1  # past a deadline: enough for the database to say itself that it was too late

# Commit returns once the log is on disk, and a statement whose client is gone does not outlive the clean-up of its
# attempt by much, whatever the role or the server is set to.
SESSION: Final = {"synchronous_commit": "on", "statement_timeout": "30s"}

WHY: Final = {  # by the reason for which there is no connection at start
    "database_unavailable": "nobody there speaks PostgreSQL with a certificate that `ca_file` signed for `host`; check "
    "these, and whether the server runs",
    "database_refused": "the server lets nobody into that database with `cert_file`; its common name must be `user`",
}

TRANSIENT: Final = (
    OSError,  # TimeoutError and TLS failures are OSErrors
    asyncpg.InterfaceError,  # the pool's connection went away under the statement
    asyncpg.InternalClientError,  # likewise, when the server was killed in the middle of an answer
    asyncpg.PostgresConnectionError,
    asyncpg.TransactionRollbackError,  # deadlocks
    asyncpg.InsufficientResourcesError,  # disk full, too many connections
    asyncpg.OperatorInterventionError,  # shutdown, start-up, cancelled
    asyncpg.PostgresSystemError,  # I/O error
)


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn every failure that a later try may not meet into `TransientError`; all others are bugs and pass."""
    try:
        yield
    except TRANSIENT as error:
        if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):  # an argument of ours is wrong
            raise
        raise TransientError(FailureCode.STORE_UNAVAILABLE, "database_unavailable") from error


class Database:
    """One database, entered as one role."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        """Use an open pool; `Database.open` makes one."""
        self._pool = pool

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: DatabaseSettings, *, version: int, **session: str) -> AsyncIterator["Database"]:
        """Connect, check the schema's version, and close whatever happens; lost connections are replaced by the pool.

        Args:
            settings: where, and as whom.
            version: of the schema that this code was written for.
            session: settings of PostgreSQL besides `SESSION`, for every connection.

        Raises:
            TransientError: the database is not there, or did not let us in; a note says where, and what to look at.
            PermanentError: `schema_version`: it holds another schema than this code was written for.
        """
        arguments = settings.asyncpg_arguments() | {"server_settings": SESSION | session}
        try:
            pool = await cls._connected(arguments)
        except TransientError as error:
            error.add_note(f"{settings.user}@{settings.host}:{settings.port}/{settings.name}: {WHY[error.reason]}")
            raise
        try:
            database = cls(pool)
            rows = await database.fetch(time.time() + CONNECT_SECONDS, "SELECT version FROM schema_version")
            if [row["version"] for row in rows] != [version]:
                raise PermanentError(FailureCode.INTERNAL, "schema_version")
            yield database
        finally:
            pool.terminate()

    async def check(self) -> None:
        """Return if the database answers.

        Raises:
            TransientError: it does not.
        """
        await self.fetch(time.time(), "SELECT")

    @staticmethod
    async def _connected(arguments: dict[str, Any]) -> asyncpg.Pool:
        try:
            with database_errors():
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await asyncpg.create_pool(**arguments)
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
            raise TransientError(FailureCode.STORE_UNAVAILABLE, "database_refused") from error

    async def fetch(self, deadline: float, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run one statement in a transaction of its own and return its rows.

        Args:
            deadline: unix time in seconds after which nobody waits any more.
            query: the statement.
            arguments: its parameters.

        Raises:
            TransientError: the outcome is unknown.
        """
        with database_errors():
            async with asyncio.timeout(max(deadline - time.time(), 0) + GRACE_SECONDS):
                return await self._pool.fetch(query, *arguments)
