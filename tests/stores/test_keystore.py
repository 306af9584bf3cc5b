"""The KeyStore's table on the real PostgreSQL: idempotent, final once erased, and no more than its role may do."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import asyncpg
import pytest

from contracts.failures import FailureCode, PermanentError, TransientError
from contracts.stores import Done, Failure, Key
from tests.fix_stack import DatabaseAs
from workers.keystore.repository import SCHEMA, Keys
from workers.postgres import Database

CONFLICT = Failure(code=FailureCode.CONFLICT)
NOT_FOUND = Failure(code=FailureCode.NOT_FOUND)


def key(id_: UUID | None = None) -> Key:
    """A fresh key, under its own id or a given one."""
    return Key(key_store_uuid=id_ or uuid4(), key=os.urandom(90), iv=os.urandom(24))


def soon() -> float:
    """A deadline that no healthy call meets."""
    return time.time() + 20


@asynccontextmanager
async def connected(database_as: DatabaseAs, role: str, database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection past the repository, as somebody who stole the role's certificate would have."""
    arguments = database_as(role, database).asyncpg_arguments()
    del arguments["min_size"], arguments["max_size"], arguments["reset"]
    connection = await asyncpg.connect(**arguments)
    try:
        yield connection
    finally:
        await connection.close()


async def test_keys_load_in_the_order_asked_for_with_misses_in_place(keys: Keys) -> None:
    """Outcomes stand where their items stood, whatever the database's order, duplicates included."""
    made = [key() for _ in range(20)]
    assert await keys.dump(made, soon()) == [Done()] * 20
    unknown = uuid4()
    wanted = [made[3].key_store_uuid, unknown, made[0].key_store_uuid, made[3].key_store_uuid]
    assert await keys.load(wanted, soon()) == [made[3], NOT_FOUND, made[0], made[3]]


async def test_dumping_again_is_done_and_other_content_conflicts(keys: Keys) -> None:
    """One request may mix new, repeated and conflicting keys; each gets its own outcome and nothing is replaced."""
    old, fresh = key(), key()
    await keys.dump([old], soon())
    other_key, other_iv = old.model_copy(update={"key": b"x"}), old.model_copy(update={"iv": bytes(24)})
    assert await keys.dump([other_key, old, fresh, other_iv], soon()) == [CONFLICT, Done(), Done(), CONFLICT]
    assert await keys.load([old.key_store_uuid, fresh.key_store_uuid], soon()) == [old, fresh]


async def test_duplicates_inside_one_request_behave(keys: Keys) -> None:
    """The same key twice is done twice; of two contents for one id exactly one is."""
    same, id_ = key(), uuid4()
    rivals = [key(id_), key(id_)]
    outcomes = await keys.dump([same, *rivals, same], soon())
    assert (outcomes[0], outcomes[3]) == (Done(), Done())
    winner = outcomes[1:3].index(Done())
    assert outcomes[2 - winner] == CONFLICT
    assert await keys.load([id_], soon()) == [rivals[winner]]


async def test_an_erased_key_is_gone_and_never_returns(keys: Keys) -> None:
    """After an erase the id loads nothing and takes nothing, not even the same key again."""
    erased, kept = key(), key()
    await keys.dump([erased, kept], soon())
    assert await keys.erase([erased.key_store_uuid], soon()) == [Done()]
    assert await keys.load([erased.key_store_uuid, kept.key_store_uuid], soon()) == [NOT_FOUND, kept]
    assert await keys.dump([erased, kept], soon()) == [CONFLICT, Done()]
    assert await keys.load([erased.key_store_uuid], soon()) == [NOT_FOUND]


async def test_an_id_erased_before_it_came_never_comes(keys: Keys) -> None:
    """A dump that was delayed past its erase finds the tombstone."""
    late = key()
    assert await keys.erase([late.key_store_uuid] * 2, soon()) == [Done()] * 2
    assert await keys.erase([late.key_store_uuid], soon()) == [Done()]
    assert await keys.dump([late], soon()) == [CONFLICT]


async def test_overlapping_batches_do_not_deadlock(keys: Keys) -> None:
    """Dumps of the same new keys in opposite orders, side by side, all end; so do erases, and these win."""
    made = [key() for _ in range(5_000)]
    there, back = made, made[::-1]
    assert await asyncio.gather(*[keys.dump(batch, soon()) for batch in (there, back)]) == [[Done()] * 5_000] * 2
    orders = [[each.key_store_uuid for each in batch] for batch in (there, back, there)]
    await asyncio.gather(*[keys.erase(order, soon()) for order in orders], keys.dump(back, soon()))
    assert await keys.load(orders[0], soon()) == [NOT_FOUND] * 5_000


async def test_a_large_batch_is_one_round_trip_each(keys: Keys) -> None:
    """Ten thousand keys, the most that one request may carry, go in and come out."""
    made = [key() for _ in range(10_000)]
    assert await keys.dump(made, soon()) == [Done()] * 10_000
    assert await keys.load([each.key_store_uuid for each in made], soon()) == made


async def test_an_unknown_outcome_is_no_outcome(database_as: DatabaseAs) -> None:
    """When the connection breaks under a statement nothing is answered, and the next call has a new connection."""
    blocked = key()
    async with (
        Keys.open(database_as("svc.keystore", "keystore")) as table,
        connected(database_as, "svc.keystore", "keystore") as other,
    ):
        holding = other.transaction()
        await holding.start()
        await other.execute("INSERT INTO keys VALUES ($1, $2, $3)", blocked.key_store_uuid, blocked.key, blocked.iv)
        waiting = asyncio.create_task(table.dump([blocked], soon()))
        await _kill_whoever_waits(other)
        with pytest.raises(TransientError, match="database_unavailable"):
            await waiting
        await holding.rollback()
        assert await table.load([blocked.key_store_uuid], soon()) == [NOT_FOUND]
        assert await table.dump([blocked], soon()) == [Done()]


async def _kill_whoever_waits(connection: asyncpg.Connection) -> None:
    """End the session that waits for a lock of ours; a role may do that to its own sessions."""
    kill = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))
    """
    async with asyncio.timeout(10):
        while not await connection.fetch(kill):  # noqa: ASYNC110 - PostgreSQL sets no asyncio.Event
            await asyncio.sleep(0.01)


async def test_a_statement_does_not_outlive_its_deadline(keys: Keys, database_as: DatabaseAs) -> None:
    """A dump that waits for a lock past its deadline is cancelled at the server: it cannot happen afterwards."""
    late = key()
    async with connected(database_as, "svc.keystore", "keystore") as other:
        holding = other.transaction()
        await holding.start()
        await other.execute("INSERT INTO keys VALUES ($1, $2, $3)", late.key_store_uuid, late.key, late.iv)
        async with asyncio.timeout(10):
            with pytest.raises(TransientError):
                await keys.dump([late], time.time() + 0.1)
        await holding.rollback()
    assert await keys.load([late.key_store_uuid], soon()) == [NOT_FOUND]


async def test_another_schema_version_stops_the_service(database_as: DatabaseAs) -> None:
    """Code and schema that do not belong together never meet a request."""
    with pytest.raises(PermanentError, match="schema_version"):
        async with Database.open(database_as("svc.keystore", "keystore"), version=SCHEMA + 1):
            pass


async def test_commits_wait_for_the_disk(database_as: DatabaseAs) -> None:
    """Every connection of the pool commits synchronously, whatever the role or the server is set to."""
    async with Database.open(database_as("svc.keystore", "keystore"), version=SCHEMA) as database:
        for _ in range(6):
            ((setting,),) = await database.fetch(soon(), "SELECT current_setting('synchronous_commit')")
            assert setting == "on"


FORBIDDEN = [
    "DELETE FROM keys",
    "TRUNCATE keys",
    "DROP TABLE keys",
    "ALTER TABLE keys DROP CONSTRAINT keys_check",
    "ALTER TABLE keys DISABLE TRIGGER ALL",
    "ALTER TABLE keys DISABLE ROW LEVEL SECURITY",
    "DROP POLICY erase ON keys",
    "UPDATE keys SET key_store_uuid = gen_random_uuid()",
    "UPDATE keys SET created_at = now()",
    "INSERT INTO keys (key_store_uuid, key, iv, created_at) VALUES (gen_random_uuid(), 'x', 'y', now())",
    "UPDATE schema_version SET version = 2",
    "DELETE FROM schema_version",
    "CREATE TABLE mine (x integer)",
    "CREATE TEMP TABLE mine (x integer)",
    "CREATE SCHEMA mine",
    "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "SET session_replication_role = replica",
    "SET ROLE postgres",
    "COPY keys TO PROGRAM 'cat'",
    "COPY keys TO '/tmp/keys'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT rolpassword FROM pg_authid",
    "CREATE ROLE mine",
    'ALTER ROLE "svc.keystore" SUPERUSER',
]


@pytest.mark.parametrize("statement", FORBIDDEN)
async def test_a_stolen_role_can_do_nothing_else(database_as: DatabaseAs, statement: str) -> None:
    """The role reads, inserts and erases; the rest is refused by the database itself."""
    async with connected(database_as, "svc.keystore", "keystore") as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


async def test_a_stolen_role_can_erase_but_not_alter(keys: Keys, database_as: DatabaseAs) -> None:
    """Column grants would allow replacing a key or reviving an id; the row policies and constraints do not."""
    live, erased = key(), key()
    await keys.dump([live, erased], soon())
    await keys.erase([erased.key_store_uuid], soon())
    async with connected(database_as, "svc.keystore", "keystore") as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("UPDATE keys SET key = 'x' WHERE key_store_uuid = $1", live.key_store_uuid)
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute("UPDATE keys SET erased_at = now() WHERE key_store_uuid = $1", live.key_store_uuid)
        revive = "UPDATE keys SET key = $2, iv = $3, erased_at = NULL WHERE key_store_uuid = $1"
        assert await connection.execute(revive, erased.key_store_uuid, erased.key, erased.iv) == "UPDATE 0"
    assert await keys.load([live.key_store_uuid, erased.key_store_uuid], soon()) == [live, NOT_FOUND]


BAD_ROWS = {
    "empty key": (b"", bytes(24)),
    "long key": (bytes(2049), bytes(24)),
    "short iv": (b"x", bytes(23)),
    "no iv": (b"x", None),
    "no key": (None, bytes(24)),
    "neither, and not erased": (None, None),
}


@pytest.mark.parametrize("row", BAD_ROWS)
async def test_the_table_refuses_what_is_no_key(database_as: DatabaseAs, row: str) -> None:
    """Sizes are constraints of the table too, not only of the messages."""
    async with connected(database_as, "svc.keystore", "keystore") as connection:
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute("INSERT INTO keys VALUES ($1, $2, $3)", uuid4(), *BAD_ROWS[row])


@pytest.mark.parametrize(("role", "database"), [("svc.keystore", "mapstore"), ("svc.mapstore", "keystore")])
async def test_a_store_cannot_enter_the_other_ones_database(database_as: DatabaseAs, role: str, database: str) -> None:
    """The three stores have no connection to each other; PostgreSQL turns the role away at the door."""
    with pytest.raises(asyncpg.PostgresError):
        async with connected(database_as, role, database):
            pass
