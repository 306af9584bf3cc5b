"""A sweep: lists what KeyStore and DataStore hold, asks MapStore about what is old, then collects what nobody names.

Candidates are listed first and asked about afterwards, never the other way round: a row that appears in between is
seen. Whatever is not answered stops it. All steps may be repeated, and two sweeps at once do no more than one: a mark
once set stays, and a purge is done by the store only if the mark is old enough by then. What is decided is
`workers.cryptor.core.sweep`'s affair.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar
from uuid import UUID

from contracts import topology
from contracts.codec import Model
from contracts.failures import FailureCode
from contracts.limits import PAGE
from contracts.stores import (
    Cleaned,
    Done,
    Failure,
    Kind,
    Listing,
    Mark,
    Measure,
    Old,
    Page,
    Reference,
    RowState,
    Stale,
    Verdict,
)
from contracts.sweep import Stop, SweepReport, Swept
from messaging import metrics
from messaging.logs import log
from workers.cryptor.core.sweep import Census, Policy, doubt, excess
from workers.cryptor.stores import Operation, Stores, WithData

GROUP: Final = 250  # verdicts in one message: with a file system or server in between, some seconds' work
PATIENCE: Final = 3  # times the seconds of one call that a store may be silent before the sweep stops

# Releasing first: what is named must not be waiting while others are purged.
ORDER: Final = (Measure.RELEASE, Measure.QUARANTINE, Measure.PURGE)

Item = TypeVar("Item", bound=Model | RowState)
Outcome = TypeVar("Outcome", bound=Model)


class StoppedError(Exception):
    """The sweep must not go on."""

    def __init__(self, stop: Stop, store: str = "") -> None:
        """Stop for this reason, because of this store."""
        super().__init__(stop)
        self.stop = stop
        self.store = store


@dataclass(slots=True)
class _Shelf:
    """Keys in the KeyStore or objects in the DataStore: how to list them, to change them, to ask about them."""

    store: str
    kind: Kind
    list: Operation[Listing, Page]
    carry_out: Operation[Verdict, Done]
    census: Census
    done: dict[Measure, int] = field(default_factory=lambda: dict.fromkeys(Measure, 0))

    def swept(self) -> Swept:
        """What became of what it holds."""
        return Swept(
            seen=self.census.held,
            candidates=self.census.candidates,
            quarantined=self.done[Measure.QUARANTINE],
            released=self.done[Measure.RELEASE],
            purged=self.done[Measure.PURGE],
        )


class Sweep:
    """One sweep; `run` it once. `seen` and `expected` tell meanwhile how far it is."""

    def __init__(self, stores: Stores, policy: Policy, *, dry_run: bool, seconds: float, deadline: float) -> None:
        """Sweep `stores`.

        Args:
            stores: all three.
            policy: how careful to be.
            dry_run: change nothing, and report what would have been done.
            seconds: of one store call.
            deadline: unix time, seconds; then it stops where it is.
        """
        self._stores = stores
        self._policy = policy
        self._dry_run = dry_run
        self._seconds = seconds
        self._deadline = deadline
        self._records = self._mark = 0
        self._cleaned = Cleaned(uploads=0, files=0)
        self._shelves = (
            _Shelf(topology.KEYSTORE, Kind.KEY, stores.key_list, stores.key_sweep, Census(policy)),
            _Shelf(topology.DATASTORE, Kind.OBJECT, stores.data_list, stores.data_sweep, Census(policy)),
        )

    @property
    def seen(self) -> int:
        """Keys and objects listed so far."""
        return sum(shelf.census.held for shelf in self._shelves)

    @property
    def expected(self) -> int:
        """About how many there are; packs hold several records, leftovers none."""
        return max(self.seen, 2 * self._records)

    async def run(self) -> SweepReport:
        """Do it; never raises for what a store does: the report says where and why it stopped."""
        try:
            await self._run()
        except StoppedError as stopped:
            log.warning("a sweep stopped", action="sweep.stopped", reason=stopped.stop, store=stopped.store)
            return self._counted(self._report(stopped.stop, stopped.store))
        report = self._counted(self._report())
        log.info("swept", action="sweep.done", **report.model_dump(mode="json"))
        return report

    def _counted(self, report: SweepReport) -> SweepReport:
        if not report.dry_run:
            metrics.count(metrics.SWEEPS, report.stopped or "done")
            for kind, swept in (("keys", report.keys), ("objects", report.objects)):
                for name, count in swept:
                    metrics.count(metrics.SWEPT, kind, name, by=count)
        return report

    async def _run(self) -> None:
        await self._believe_the_map()
        for shelf in self._shelves:
            await self._survey(shelf)
        if stop := excess(shelf.census for shelf in self._shelves):
            raise StoppedError(stop, next(shelf.store for shelf in self._shelves if shelf.census.too_many))
        await self._believe_the_map()  # it may have been emptied, or rolled back, while we listed
        for measure in ORDER:
            for shelf in self._shelves:
                await self._carry_out(shelf, measure)
        stale = Stale(older_than=self._policy.grace, remove=not self._dry_run)
        (self._cleaned,) = await self._ask(topology.DATASTORE, self._stores.data_clean, [stale])

    async def _believe_the_map(self) -> None:
        """Stop unless MapStore holds as many records as it ever did. A dry run does not raise the mark."""
        (live,) = await self._ask(topology.MAPSTORE, self._stores.map_count, [RowState.LIVE])
        self._records = live.rows
        mark = Mark(records=0 if self._dry_run else self._records)
        self._mark = (await self._ask(topology.KEYSTORE, self._stores.key_mark, [mark]))[0].records
        if stop := doubt(self._records, self._mark):
            raise StoppedError(stop, topology.MAPSTORE)

    async def _survey(self, shelf: _Shelf) -> None:
        """List all that a store holds, and have MapStore say of all that is old whether it is named."""
        after: UUID | None = UUID(int=0)
        while after is not None:
            listing = Listing(after=after, limit=PAGE, older_than=self._policy.grace)
            (page,) = await self._ask(shelf.store, shelf.list, [listing])
            shelf.census.count(page.held, page.old, await self._named(shelf.kind, page.old))
            after = page.last

    async def _named(self, kind: Kind, some: Sequence[Old | Verdict]) -> list[bool]:
        if not some:
            return []
        references = [Reference(kind=kind, id=each.id) for each in some]
        return [each.named for each in await self._ask(topology.MAPSTORE, self._stores.map_names, references)]

    async def _carry_out(self, shelf: _Shelf, measure: Measure) -> None:
        """Carry out all verdicts of one kind; of a purge, which is final, only those that MapStore still confirms."""
        for group in _groups(shelf.census.verdicts[measure]):
            verdicts: Sequence[Verdict] = group
            if measure is Measure.PURGE:
                named = await self._named(shelf.kind, group)
                verdicts = [verdict for verdict, is_named in zip(group, named, strict=True) if not is_named]
            if not self._dry_run and verdicts:
                outcomes = await self._outcomes(shelf.store, shelf.carry_out, verdicts)
                shelf.done[measure] += sum(not isinstance(outcome, Failure) for outcome in outcomes)
                _insist(shelf.store, [each for each in outcomes if not _declined(each)])
            else:
                shelf.done[measure] += len(verdicts)

    async def _ask(self, store: str, operation: Operation[Item, Outcome], items: Sequence[Item]) -> list[Outcome]:
        """All outcomes, none of which may be a failure."""
        return _insist(store, await self._outcomes(store, operation, items))

    async def _outcomes(
        self, store: str, operation: Operation[Item, Outcome], items: Sequence[Item]
    ) -> list[WithData[Outcome] | Failure]:
        """The outcomes of one call, which is repeated for a while if it is not answered."""
        now = time.time()
        if now >= self._deadline:
            raise StoppedError(Stop.OUT_OF_TIME, store)
        return await operation.each(items, min(self._deadline, now + PATIENCE * self._seconds))

    def _report(self, stop: Stop | None = None, store: str = "") -> SweepReport:
        keys, objects = (shelf.swept() for shelf in self._shelves)
        return SweepReport(
            dry_run=self._dry_run,
            records=self._records,
            mark=self._mark,
            keys=keys,
            objects=objects,
            uploads=self._cleaned.uploads,
            files=self._cleaned.files,
            stopped=stop,
            store=store,
            more=self._cleaned.more or any(shelf.census.more for shelf in self._shelves),
        )


def _insist(store: str, outcomes: Sequence[WithData[Outcome] | Failure]) -> list[Outcome]:
    """The outcomes without their failures, of which there must be none.

    Raises:
        StoppedError: a store did not answer for an item, or refused it.
    """
    told = [outcome.item for outcome in outcomes if not isinstance(outcome, Failure)]
    if len(told) != len(outcomes):
        raise StoppedError(Stop.STORE_UNAVAILABLE, store)
    return told


def _declined(outcome: WithData[Done] | Failure) -> bool:
    """Whether the store kept something that was not in quarantine for so long, by its own clock: it is right."""
    return isinstance(outcome, Failure) and outcome.code is FailureCode.CONFLICT


def _groups(verdicts: Sequence[Verdict]) -> Iterator[Sequence[Verdict]]:
    return (verdicts[at : at + GROUP] for at in range(0, len(verdicts), GROUP))
