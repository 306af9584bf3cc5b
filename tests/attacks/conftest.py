"""Mallory, and what nobody without keys may ever change."""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from infra.local.stack import Stack
from tests.attacks.mallory import Mallory
from tests.fix_stack import BrokerAs
from trivault import Vault


@pytest.fixture(scope="module")
async def mallory(stack: Stack, broker_as: BrokerAs) -> AsyncIterator[Mallory]:
    """The owner of the broker."""
    async with Mallory.open(stack, broker_as) as owner:
        yield owner


def kept(stack: Stack) -> set[str]:
    """Every record's three pieces, as they are; not those of attempts that lost, which are being cleared up."""
    named = stack.psql("mapstore", "SELECT key_store_uuid, data_store_uuid FROM map WHERE state = 'live'")
    ids = set(named.replace("|", "\n").splitlines())
    rows = stack.psql("mapstore", "SELECT m::text FROM map m").splitlines()
    keys = [key for key in stack.psql("keystore", "SELECT k::text FROM keys k").splitlines() if key[1:37] in ids]
    objects = [
        f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        for path in (stack.layout.objects / "objects").glob("*/*")
        if str(UUID(path.name)) in ids
    ]
    return {*rows, *keys, *objects}


@pytest.fixture(autouse=True)
async def nothing_kept_changes(stack: Stack, vault: Vault) -> AsyncIterator[None]:
    """What was stored before an attack is there after it, byte for byte; and the vault works as ever."""
    small, large = os.urandom(1000), os.urandom(400_000)
    treasures = {await vault.dump(small): small, await vault.dump(large): large}
    before = kept(stack)
    yield
    assert before <= kept(stack)
    for external_uuid, blob in treasures.items():
        assert await vault.load(external_uuid) == blob
    again = os.urandom(300_000)
    assert await vault.load(await vault.dump(again)) == again
    deadline = time.monotonic() + 30
    while stack.psql("gateway", "SELECT job_id FROM jobs WHERE due_at IS NOT NULL"):  # no job is stuck
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)
