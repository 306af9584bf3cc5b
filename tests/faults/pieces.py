"""What the ledger and the stores hold, read from under them."""

import asyncio
from uuid import UUID

from contracts.stores import object_uuid
from infra.local.stack import Stack
from tests.faults.polling import until
from workers.datastore.format import TOMBSTONE


async def ask(stack: Stack, database: str, query: str) -> list[list[str]]:
    """Rows of one database, as text."""
    return [row.split("|") for row in (await asyncio.to_thread(stack.psql, database, query)).splitlines()]


async def held(stack: Stack) -> set[UUID]:
    """Ids of all keys and objects that are not erased."""
    keys = await ask(stack, "keystore", "SELECT key_store_uuid FROM keys WHERE erased_at IS NULL")
    objects = (stack.layout.objects / "objects").glob("*/*")
    return {UUID(key) for (key,) in keys} | {
        UUID(path.name) for path in objects if path.stat().st_size != len(TOMBSTONE)
    }


async def named(stack: Stack) -> set[UUID]:
    """Ids of the key and the object of every live record."""
    rows = await ask(stack, "mapstore", "SELECT key_store_uuid, data_store_uuid FROM map WHERE state = 'live'")
    return {piece for key, data in rows for piece in (UUID(key), object_uuid(UUID(data)))}


async def missing(stack: Stack) -> set[UUID]:
    """Keys and objects that a live record needs and that are not there: rule 1 says that there are none, ever.

    The map is read first: a record has its pieces before it has its row.
    """
    needed = await named(stack)
    return needed - await held(stack)


async def orphans(stack: Stack) -> set[UUID]:
    """Keys and objects that no record names."""
    there = await held(stack)
    return there - await named(stack)


async def records(stack: Stack, job_id: UUID) -> list[tuple[str, UUID | None]]:
    """State and external_uuid of every row of a job."""
    rows = await ask(stack, "mapstore", f"SELECT state, external_uuid FROM map WHERE job_id = '{job_id}'")  # noqa: S608 - our own uuid
    return [(state, UUID(external_uuid) if external_uuid else None) for state, external_uuid in rows]


async def live(stack: Stack, job_id: UUID) -> UUID:
    """The external_uuid of a job, as soon as its row is committed."""

    async def committed() -> list[UUID]:
        return [uuid for state, uuid in await records(stack, job_id) if state == "live" and uuid is not None]

    (external_uuid,) = await until(committed, f"{job_id} never became a record")
    return external_uuid


async def all_over(stack: Stack) -> None:
    """Wait until every job that was ever accepted has its end."""

    async def over() -> bool:
        return not await ask(stack, "gateway", "SELECT job_id FROM jobs WHERE due_at IS NOT NULL")

    await until(over, "an accepted job has no end", every=0.2)
