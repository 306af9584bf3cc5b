"""kill -9 of anything while dumps are under way: accepted means durable (promise 4)."""

import pytest

from infra.local.stack import Stack
from tests.faults.crowd import at_work
from tests.faults.harm import kill, kill_broker, kill_postgres
from trivault import Vault


@pytest.mark.parametrize("service", ["gateway", "cryptor", "keystore", "datastore", "mapstore"])
async def test_dumps_outlive_a_killed_service(stack: Stack, vault: Vault, service: str) -> None:
    """Each dump ends as a record that loads, or as a failure without a record."""
    async with at_work(vault) as crowd:
        await kill(stack, service)
    await crowd.check(stack, vault)


async def test_dumps_outlive_a_killed_broker(stack: Stack, vault: Vault) -> None:
    """The node comes back, and everybody finds it again by themselves."""
    async with at_work(vault) as crowd:
        await kill_broker(stack)
    await crowd.check(stack, vault)


async def test_dumps_outlive_a_killed_database(stack: Stack, vault: Vault) -> None:
    """PostgreSQL recovers, and ledger and stores find it again by themselves."""
    async with at_work(vault) as crowd:
        await kill_postgres(stack)
    await crowd.check(stack, vault)
