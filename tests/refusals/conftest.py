"""Wires and forgers; and after every module of this folder, the proof that it left nothing behind."""

import asyncio
import os
import time
from collections.abc import AsyncIterator

import pytest

from infra.local.stack import Stack
from tests.refusals.forge import Forger, Wire
from tests.refusals.leftovers import orphans
from trivault import Profile, Vault

SECONDS = 20  # for the last acks and deletions


@pytest.fixture
async def wire(alice: Profile) -> AsyncIterator[Wire]:
    """A bare channel as Alice, for one test."""
    async with Wire.open(alice.broker, alice.name) as opened:
        yield opened


@pytest.fixture
async def forger(alice: Profile, wire: Wire) -> Forger:
    """Requests of Alice."""
    return Forger(alice, await wire.directory())


@pytest.fixture(scope="module", autouse=True)
async def nothing_stays(stack: Stack, vault: Vault) -> AsyncIterator[None]:
    """No message, job, queue, key or object without a record is left; and Alice dumps and loads as ever."""
    before, queues = orphans(stack), _queues(stack)
    yield
    for blob in (os.urandom(1000), os.urandom(1_000_000)):
        assert await vault.load(await vault.dump(blob)) == blob
    deadline = time.monotonic() + SECONDS
    while left := _left(stack, before, queues):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.5)
    assert not left


def _left(stack: Stack, before: set[str], queues: dict[str, int]) -> dict[str, object]:
    """What should not be there any more, and was not there before."""
    now = _queues(stack)
    left = {
        "messages": {name: count for name, count in now.items() if count and count != queues.get(name)},
        # The download queue of a load that succeeded, and that its client never began to read, expires by itself.
        "uploads": [name for name in now if name.startswith("up.") and name not in queues],
        "jobs": stack.psql("gateway", "SELECT client, job_id, state FROM jobs WHERE due_at IS NOT NULL").split(),
        "orphans": orphans(stack) - before,
    }
    return {name: found for name, found in left.items() if found}


def _queues(stack: Stack) -> dict[str, int]:
    """Messages, unacknowledged ones included, by queue."""
    told = stack.rabbitmqctl("list_queues", "-p", "edge", "--no-table-headers", "name", "messages")
    return {name: int(count) for name, count in map(str.split, told.splitlines())}
