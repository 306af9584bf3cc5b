"""Clients at work while something breaks, and what has to be true of their dumps afterwards."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid4

from contracts.failures import FailureCode, PermanentError, TransientError
from contracts.limits import MIB
from infra.local.stack import Stack
from tests.faults import pieces
from tests.faults.polling import SECONDS, until
from trivault import Vault

SIZES: Final = (100, 3_000, 200_000, 3 * MIB // 2)  # one task for each: three inline, one upload


@dataclass
class Told:
    """One dump and what its client was told."""

    job_id: UUID
    blob: bytes = field(repr=False)
    external_uuid: UUID | None = None
    code: FailureCode | None = None


@dataclass
class Crowd:
    """Dumps that have ended."""

    told: list[Told] = field(default_factory=list)

    @property
    def kept(self) -> int:
        """How many became records."""
        return sum(each.external_uuid is not None for each in self.told)

    async def check(self, stack: Stack, vault: Vault) -> None:
        """Promise 4, for each of them: told a uuid, it loads; told a failure, there is no record and never will be."""
        await pieces.all_over(stack)
        for each in self.told:
            rows = await pieces.records(stack, each.job_id)
            if each.external_uuid is None:
                assert [state for state, _ in rows] in ([], ["aborted"]), each
            else:
                assert rows == [("live", each.external_uuid)], each
                assert await vault.load(each.external_uuid) == each.blob, each


async def _dump(vault: Vault, size: int) -> Told:
    told = Told(uuid4(), os.urandom(size))
    async with asyncio.timeout(SECONDS):
        while told.external_uuid is None and told.code is None:
            try:
                told.external_uuid = await vault.dump(told.blob, job_id=told.job_id)
            except TransientError:  # not known yet; the same call finds it out
                await asyncio.sleep(0.1)
            except PermanentError as error:
                told.code = error.code
    return told


@asynccontextmanager
async def at_work(vault: Vault) -> AsyncIterator[Crowd]:
    """Dumps of every size without a pause, while the context is open, and some more after it."""
    crowd, stop = Crowd(), asyncio.Event()

    async def work(size: int) -> None:
        while not stop.is_set():
            crowd.told.append(await _dump(vault, size))
        crowd.told.append(await _dump(vault, size))

    async def busy() -> bool:
        return crowd.kept >= len(SIZES)

    async with asyncio.TaskGroup() as tasks:
        for size in SIZES:
            tasks.create_task(work(size))
        await until(busy, "nothing was dumped before the fault", every=0.01)
        yield crowd
        stop.set()
