"""The MapStore's table on the real PostgreSQL: one winner per item, told to everybody, and nothing after a deadline."""

import asyncio
import os
import random
import time
from collections import Counter
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from contracts.failures import FailureCode, TransientError
from contracts.limits import MAX_BLOB
from contracts.stores import Failure, Row, RowState
from tests.fix_stack import DatabaseAs
from tests.stores.test_keystore import connected, soon
from workers.mapstore.repository import Map

CONFLICT = Failure(code=FailureCode.CONFLICT)
EXPIRED = Failure(code=FailureCode.EXPIRED)
INVALID = Failure(code=FailureCode.INVALID_REQUEST)
NOT_FOUND = Failure(code=FailureCode.NOT_FOUND)

Item = tuple[bytes, UUID, int]


def item() -> Item:
    """An item that nobody settled."""
    return os.urandom(16), uuid4(), 0


def live(key: Item, **changes: Any) -> Row:
    """A commit of an item by an attempt of its own."""
    fields: dict[str, Any] = {
        "owner": key[0],
        "job_id": key[1],
        "item": key[2],
        "state": RowState.LIVE,
        "external_uuid": uuid4(),
        "data_store_uuid": uuid4(),
        "key_store_uuid": uuid4(),
        "map_share": os.urandom(32),
        "request_tag": os.urandom(32),
        "size": MAX_BLOB,
        "suite": 255,
        "mac_key": 1,
        "mac": os.urandom(32),
    }
    return Row(**fields | changes)


def aborted(key: Item) -> Row:
    """An abort of an item."""
    nothing = dict.fromkeys(("external_uuid", "data_store_uuid", "key_store_uuid", "map_share"))
    return live(key, state=RowState.ABORTED, **nothing)


def external(row: Row) -> UUID:
    """The external_uuid of a live row."""
    assert row.external_uuid is not None
    return row.external_uuid


async def test_a_committed_row_loads_unchanged(records: Map) -> None:
    """Every field comes back as it went in: the Cryptor's MAC covers all of them."""
    rows = [live(item()) for _ in range(5)]
    assert await records.settle(rows, soon()) == rows
    wanted = [external(rows[2]), uuid4(), external(rows[0]), external(rows[2])]
    assert await records.load(wanted, soon()) == [rows[2], NOT_FOUND, rows[0], rows[2]]


async def test_settling_again_tells_the_same_winner(records: Map) -> None:
    """A repeated commit, a rival's commit and an abort of a committed item all hear of the row that won."""
    key = item()
    first = live(key)
    assert await records.settle([first], soon()) == [first]
    assert await records.settle([first, live(key), aborted(key)], soon()) == [first, first, first]


async def test_an_aborted_item_never_becomes_a_record(records: Map) -> None:
    """After an abort every commit of the item is told so, and its external_uuid stays unknown."""
    key = item()
    abort = aborted(key)
    assert await records.settle([abort], soon()) == [abort]
    late = live(key)
    assert await records.settle([late, aborted(key)], soon()) == [abort, abort]
    assert await records.load([external(late)], soon()) == [NOT_FOUND]


async def test_duplicates_inside_one_request_behave(records: Map) -> None:
    """Two rows of one item in the same request have one winner, the first, and both are told."""
    key, other = item(), live(item())
    first = live(key)
    assert await records.settle([first, other, live(key), first], soon()) == [first, other, first, first]


async def test_an_external_uuid_belongs_to_one_item(records: Map) -> None:
    """A second item that claims an external_uuid conflicts, in the same request or later, and its neighbours do not."""
    first, neighbour = live(item()), live(item())
    thief = live(item(), external_uuid=first.external_uuid)
    await records.settle([first], soon())
    assert await records.settle([thief, neighbour], soon()) == [CONFLICT, neighbour]
    assert await records.load([external(first)], soon()) == [first]
    twins = [live((bytes(16), uuid4(), n)) for n in range(2)]
    twins[1] = twins[1].model_copy(update={"external_uuid": twins[0].external_uuid})
    outcomes = await records.settle(twins, soon())
    assert outcomes.count(CONFLICT) == 1
    assert [outcome for outcome in outcomes if outcome != CONFLICT] == await records.load([external(twins[0])], soon())


async def test_a_commit_past_its_deadline_is_refused_by_the_database(records: Map) -> None:
    """A commit that comes too late leaves nothing; an abort may come late, and a winner is told even then."""
    keys = [item(), item(), item()]
    winner = live(keys[2])
    await records.settle([winner], soon())
    abort, late = aborted(keys[1]), live(keys[0])
    outcomes = await records.settle([late, abort, live(keys[2])], time.time() - 0.1)
    assert outcomes == [EXPIRED, abort, winner]
    assert await records.load([external(late)], soon()) == [NOT_FOUND]
    assert await records.settle([aborted(keys[0])], soon()) != [late]


async def test_a_commit_that_waits_past_its_deadline_does_not_happen(records: Map, database_as: DatabaseAs) -> None:
    """A commit stuck behind another transaction is cancelled at the server, not done when the way is free again."""
    late = live(item())
    async with connected(database_as, "svc.mapstore", "mapstore") as other:
        holding = other.transaction()
        await holding.start()
        await other.execute(
            "INSERT INTO map (owner, job_id, item, state, request_tag, size, suite, mac_key, mac)"
            " VALUES ($1, $2, 0, 'aborted', $3, 0, 1, 1, $3)",
            late.owner,
            late.job_id,
            bytes(32),
        )
        async with asyncio.timeout(10):
            with pytest.raises(TransientError):
                await records.settle([late], time.time() + 0.1)
        await holding.rollback()
    assert await records.load([external(late)], soon()) == [NOT_FOUND]


async def test_of_many_rivals_one_wins_and_everybody_is_told_the_same(database_as: DatabaseAs) -> None:
    """Commits and aborts of the same items race through two workers: each item has one winner, the same for all."""
    items = [item() for _ in range(20)]
    settings = database_as("svc.mapstore", "mapstore")
    async with Map.open(settings) as one, Map.open(settings) as two, asyncio.timeout(30):
        calls = []
        for attempt in range(20):
            rows = [aborted(key) if attempt % 5 == 4 else live(key) for key in items]
            random.shuffle(rows)
            calls.append((one, two)[attempt % 2].settle(rows, soon()))
        told = [outcome for outcomes in await asyncio.gather(*calls) for outcome in outcomes]
        winners = {(row.owner, row.job_id, row.item): row for row in told if isinstance(row, Row)}
        assert Counter(told) == Counter({winners[key]: 20 for key in items})
        won = [row for row in winners.values() if row.state is RowState.LIVE]
        assert await two.load([external(row) for row in won], soon()) == won


async def test_overlapping_batches_do_not_deadlock(records: Map) -> None:
    """Two attempts settle the same new items in opposite orders: both end, and are told the same."""
    owner, job_id = os.urandom(16), uuid4()
    keys: list[Item] = [(owner, job_id, number) for number in range(5_000)]
    there, back = [live(key) for key in keys], [live(key) for key in reversed(keys)]
    told, also = await asyncio.gather(records.settle(there, soon()), records.settle(back, soon()))
    assert told == also[::-1]


async def test_a_commit_and_an_abort_that_race_agree(records: Map) -> None:
    """Whichever is first, both are told the same row, and the record exists exactly if the commit won."""
    for _ in range(30):
        key = item()
        commit = live(key)
        (told,), (also,) = await asyncio.gather(
            records.settle([commit], soon()), records.settle([aborted(key)], soon())
        )
        assert told == also
        assert await records.load([external(commit)], soon()) == [told if told == commit else NOT_FOUND]


BAD: dict[str, dict[str, Any]] = {
    "live without a share": {"map_share": None},
    "live without an id": {"key_store_uuid": None},
    "aborted with ids": {"state": RowState.ABORTED},
    "larger than a blob": {"size": MAX_BLOB + 1},
    "MAC key beyond the column": {"mac_key": 2**31},
}


@pytest.mark.parametrize("name", BAD)
async def test_an_unsound_row_does_not_fail_its_neighbours(records: Map, name: str) -> None:
    """A row that the table would refuse is refused alone; the others of the request are settled."""
    before, after = live(item()), aborted(item())
    assert await records.settle([before, live(item(), **BAD[name]), after], soon()) == [before, INVALID, after]


async def test_ten_thousand_rows_are_settled_at_once(records: Map) -> None:
    """The most that one request may carry goes in, in one statement."""
    owner, job_id = os.urandom(16), uuid4()
    rows = [live((owner, job_id, number)) for number in range(10_000)]
    assert await records.settle(rows, soon()) == rows
    assert await records.settle(rows, soon()) == rows


FORBIDDEN = [
    "UPDATE map SET state = 'aborted'",
    "UPDATE map SET size = 0",
    "DELETE FROM map",
    "TRUNCATE map",
    "DROP TABLE map",
    "ALTER TABLE map DROP CONSTRAINT map_pkey",
    "DROP INDEX map_external_uuid_key",
    "INSERT INTO map (owner, created_at) VALUES ('x', now())",
    "DELETE FROM schema_version",
    "CREATE TABLE mine (x integer)",
    "CREATE TEMP TABLE mine (x integer)",
    "SET session_replication_role = replica",
    "COPY map TO PROGRAM 'cat'",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
async def test_a_stolen_role_can_do_nothing_else(database_as: DatabaseAs, statement: str) -> None:
    """The role reads and inserts; a row that is settled stays as it is."""
    async with connected(database_as, "svc.mapstore", "mapstore") as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


async def test_the_table_itself_keeps_commits_and_aborts_apart(database_as: DatabaseAs) -> None:
    """A live row without ids and an aborted one with ids are refused by a constraint, whoever inserts them."""
    insert = (
        "INSERT INTO map (owner, job_id, item, state, data_store_uuid, request_tag, size, suite, mac_key, mac)"
        " VALUES ($1, $2, 0, $3, $4, $5, 0, 1, 1, $5)"
    )
    async with connected(database_as, "svc.mapstore", "mapstore") as connection:
        for state, id_ in (("live", uuid4()), ("live", None), ("aborted", uuid4()), ("other", None)):
            with pytest.raises(asyncpg.CheckViolationError):
                await connection.execute(insert, os.urandom(16), uuid4(), state, id_, bytes(32))
