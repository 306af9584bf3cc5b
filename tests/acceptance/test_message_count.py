"""How many broker messages a record costs, counted by the broker's own firehose."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from bench.counting import Tap, counting
from contracts import topology
from infra.local.stack import Stack
from trivault import Vault

IDLE_MESSAGES = 10
IN_FLIGHT = 32
BLOB = os.urandom(1024)


@pytest.fixture
async def tap(stack: Stack, vault: Vault) -> AsyncIterator[Tap]:
    """Counts publishes on every vhost, after the vault has fetched what a first dump fetches."""
    await vault.dump(BLOB)
    async with counting(stack) as counted:
        await counted.taken()
        yield counted


async def test_an_idle_dump_takes_ten_messages(vault: Vault, tap: Tap) -> None:
    """Request, job, three store calls and their replies, event, answer; nobody is told `accepted` who did not ask."""
    await vault.dump(BLOB)
    counts = await tap.taken()
    assert counts.total() <= IDLE_MESSAGES, counts
    # One request to each store was seen: the firehose does count.
    assert [counts[store, topology.REQUESTS] for store in topology.STORES] == [1, 1, 1]


async def test_many_dumps_at_once_share_messages(vault: Vault, tap: Tap) -> None:
    """Under load a record takes fewer messages than alone, by half at least."""
    count = 4 * IN_FLIGHT
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def dump() -> None:
        async with slots:
            await vault.dump(BLOB)

    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(dump())
    counts = await tap.taken()
    assert counts[topology.EDGE, topology.REQUESTS] == count  # a client's own requests are never merged
    assert counts.total() / count < IDLE_MESSAGES / 2, counts
