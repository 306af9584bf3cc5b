"""A sweep's requests to the backend: item by item, a few at a time, so that dumps and loads hardly notice."""

import asyncio
from functools import partial
from typing import Final

from contracts.codec import Meta, cut
from contracts.stores import (
    DataClean,
    DataCleanReply,
    DataList,
    DataListReply,
    DataSweep,
    DataSweepReply,
    Done,
    Failure,
    Measure,
    Verdict,
)
from messaging.link import Buffers
from messaging.rpc import Handler
from workers.datastore.backend import ObjectSweep
from workers.datastore.handlers import outcome_of

WAYS: Final = 4  # objects under way at a time


class SweepHandlers:
    """What the DataStore answers to a sweep. Its requests have no body."""

    def __init__(self, sweep: ObjectSweep) -> None:
        """Answer from a backend."""
        self._sweep = sweep
        self._measures = {
            Measure.QUARANTINE: sweep.quarantine,
            Measure.RELEASE: sweep.release,
            Measure.PURGE: sweep.purge,
        }
        self._slots = asyncio.Semaphore(WAYS)

    def routes(self) -> dict[type[Meta], Handler]:
        """Which handler answers which request."""
        return {DataList: self.page, DataSweep: self.sweep, DataClean: self.clean}

    async def page(self, request: DataList, body: memoryview, deadline: float) -> tuple[Meta, Buffers]:
        """List objects."""
        cut(body, [])
        outcomes = [await outcome_of(partial(self._sweep.page, each), deadline) for each in request.items]
        return DataListReply(outcomes=outcomes), ()

    async def sweep(self, request: DataSweep, body: memoryview, deadline: float) -> tuple[Meta, Buffers]:
        """Quarantine, release or purge objects."""
        cut(body, [])

        async def carry_out(verdict: Verdict) -> Failure | Done:
            async with self._slots:
                return await outcome_of(partial(self._measures[verdict.measure], verdict), deadline)

        async with asyncio.TaskGroup() as tasks:
            done = [tasks.create_task(carry_out(verdict)) for verdict in request.items]
        return DataSweepReply(outcomes=[each.result() for each in done]), ()

    async def clean(self, request: DataClean, body: memoryview, deadline: float) -> tuple[Meta, Buffers]:
        """Collect what dead attempts left unfinished."""
        cut(body, [])
        outcomes = [await outcome_of(partial(self._sweep.clean, each), deadline) for each in request.items]
        return DataCleanReply(outcomes=outcomes), ()
