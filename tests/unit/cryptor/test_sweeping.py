"""A sweep against stores that change under it: what appears late is seen, and what is not answered is kept."""

import time
from collections.abc import Callable, Sequence
from typing import Any, cast
from uuid import UUID, uuid4

from prometheus_client import REGISTRY

from contracts.failures import FailureCode
from contracts.stores import (
    Cleaned,
    Counted,
    Done,
    Failure,
    Kind,
    Listing,
    Mark,
    Measure,
    Named,
    Old,
    Page,
    Reference,
    Stale,
    Verdict,
)
from contracts.sweep import Stop, SweepReport
from workers.cryptor.core.sweep import Policy
from workers.cryptor.stores import Stores, WithData
from workers.cryptor.sweeping import Sweep

POLICY = Policy(grace=10, retention=1000, threshold=0.01, floor=5)
UNAVAILABLE = Failure(code=FailureCode.STORE_UNAVAILABLE)
PAGE_IDS = 2  # of one page here


class Shelf:
    """What KeyStore or DataStore would hold: ids and how long they have been in quarantine."""

    def __init__(self, log: list[str], name: str) -> None:
        self.held: dict[UUID, int | None] = {}
        self.purged: set[UUID] = set()
        self._log = log
        self._name = name

    def add(self, *quarantined: int | None) -> list[UUID]:
        """Things that are past the grace."""
        ids = [uuid4() for _ in quarantined]
        self.held.update(zip(ids, quarantined, strict=True))
        return ids

    def page(self, listing: Listing) -> Page:
        """List it, in small pages."""
        self._log.append(f"list {self._name}")
        ids = sorted(id_ for id_ in self.held if id_ > listing.after)
        old = [Old(id=id_, quarantined=self.held[id_]) for id_ in ids[:PAGE_IDS]]
        return Page(held=len(old), old=old, last=old[-1].id if len(ids) > PAGE_IDS else None)

    def carry_out(self, verdict: Verdict) -> Done | Failure:
        """Do what a store would do."""
        self._log.append(f"{verdict.measure} {self._name}")
        if verdict.measure is not Measure.PURGE:
            self.held[verdict.id] = 0 if verdict.measure is Measure.QUARANTINE else None
        elif (self.held[verdict.id] or 0) < verdict.quarantined:
            return Failure(code=FailureCode.CONFLICT)
        else:
            self.purged.add(verdict.id)
        return Done()


class FakeStores:
    """Three stores in memory. `before` is called before each call, and may change them, or have it fail."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.keys, self.objects = Shelf(self.log, "keys"), Shelf(self.log, "objects")
        self.named: set[tuple[Kind, UUID]] = set()
        self.records = 100
        self.mark = 0
        self.stale: list[Stale] = []
        self.before: Callable[[str], bool] = lambda _: True

    def _names(self, reference: Reference) -> Named:
        self.log.append(f"names {reference.kind}")
        return Named(named=(reference.kind, reference.id) in self.named)

    def _mark(self, mark: Mark) -> Mark:
        self.mark = max(self.mark, mark.records)
        return Mark(records=self.mark)

    def _clean(self, stale: Stale) -> Cleaned:
        self.stale.append(stale)
        return Cleaned(uploads=1, files=2)

    def __getattr__(self, name: str) -> Any:
        """An operation, by its name in `Stores`."""
        calls: dict[str, Callable[[Any], Any]] = {
            "key_list": self.keys.page,
            "key_sweep": self.keys.carry_out,
            "key_mark": self._mark,
            "data_list": self.objects.page,
            "data_sweep": self.objects.carry_out,
            "data_clean": self._clean,
            "map_names": self._names,
            "map_count": lambda _: Counted(rows=self.records),
        }
        return FakeOperation(self, name, calls[name])


class FakeOperation:
    """One of their operations."""

    def __init__(self, stores: FakeStores, name: str, call: Callable[[Any], Any]) -> None:
        self._stores = stores
        self._name = name
        self._call = call

    async def each(self, items: Sequence[Any], deadline: float) -> list[Any]:
        """Answer for each item, or for none."""
        assert deadline >= time.time()
        answered = self._stores.before(self._name)
        told = [self._call(item) if answered else UNAVAILABLE for item in items]
        return [each if isinstance(each, Failure) else WithData(each) for each in told]


async def swept(stores: FakeStores, *, dry_run: bool = False, seconds: float = 60) -> SweepReport:
    """The report of one sweep of them."""
    deadline = time.time() + seconds
    return await Sweep(cast("Stores", stores), POLICY, dry_run=dry_run, seconds=1, deadline=deadline).run()


async def test_every_page_is_listed_before_its_ids_are_asked_about() -> None:
    """The other way round, a record made in between would have a key that nobody asked about."""
    stores = FakeStores()
    stores.keys.add(*[None] * 5)
    await swept(stores)
    steps = [step for step in stores.log if step.startswith(("list keys", "names key"))]
    assert steps == ["list keys", *["names key"] * 2, "list keys", *["names key"] * 2, "list keys", "names key"]


async def test_a_row_that_comes_while_its_key_is_listed_keeps_it() -> None:
    """A dump that stalled between key and row, and got there just now."""
    stores = FakeStores()
    (late,) = stores.keys.add(None)

    def commit(name: str) -> bool:
        if name == "map_names":
            stores.named.add((Kind.KEY, late))
        return True

    stores.before = commit
    report = await swept(stores)
    assert (report.stopped, report.keys.candidates, stores.keys.held) == (None, 0, {late: None})


async def test_a_row_that_comes_back_before_the_purge_keeps_what_it_names() -> None:
    """MapStore is asked once more, because a purge is final; the next sweep releases it."""
    stores = FakeStores()
    back, gone = stores.objects.add(5000, 5000)

    def restore(name: str) -> bool:
        if name == "key_mark" and "list objects" in stores.log:  # the last look at the map before anything is done
            stores.named.add((Kind.OBJECT, back))
        return True

    stores.before = restore
    report = await swept(stores)
    assert (report.stopped, report.objects.candidates, report.objects.purged) == (None, 2, 1)
    assert stores.objects.purged == {gone}


async def test_a_map_that_is_rolled_back_while_it_is_asked_stops_the_sweep() -> None:
    """Half of its answers were another map's."""
    stores = FakeStores()
    stores.keys.add(None, 5000)

    def roll_back(name: str) -> bool:
        stores.records -= name == "data_list"
        return True

    stores.before = roll_back
    report = await swept(stores)
    assert (report.stopped, report.records, report.mark) == (Stop.MAP_BELOW_MARK, 99, 100)
    assert {None, 5000} == set(stores.keys.held.values())
    assert not stores.keys.purged
    assert not stores.stale


async def test_whatever_is_not_answered_stops_the_sweep_where_it_is() -> None:
    """At every step in turn: nothing that was not asked about is touched, and the report tells what was."""
    for silent in ("map_count", "key_mark", "key_list", "data_list", "map_names", "key_sweep", "data_clean"):
        stores = FakeStores()
        (named,) = stores.keys.add(None)
        stores.named.add((Kind.KEY, named))
        stores.keys.add(None)
        stores.before = lambda name, silent=silent: name != silent  # type: ignore[misc]
        report = await swept(stores)
        assert report.stopped is Stop.STORE_UNAVAILABLE
        assert report.store == {"map": "mapstore", "key": "keystore", "data": "datastore"}[silent.split("_")[0]]
        assert stores.keys.held[named] is None
        assert report.keys.quarantined == list(stores.keys.held.values()).count(0)


async def test_no_time_left_stops_the_sweep() -> None:
    """Before it calls anybody."""
    stores = FakeStores()
    stores.keys.add(None)
    assert (await swept(stores, seconds=-1)).stopped is Stop.OUT_OF_TIME
    assert stores.log == []


async def test_what_a_store_will_not_purge_yet_is_not_counted() -> None:
    """Its clock decides; that is no failure."""
    stores = FakeStores()
    (young,) = stores.keys.add(5000)

    def released(name: str) -> bool:
        if name == "key_sweep":
            stores.keys.held[young] = 3  # another sweep released it, and a third one took it again
        return True

    stores.before = released
    report = await swept(stores)
    assert (report.stopped, report.keys.purged, stores.keys.purged) == (None, 0, set())


async def test_a_dry_run_asks_and_does_nothing() -> None:
    """It reports what it would have done, and raises no mark."""
    stores = FakeStores()
    stores.keys.add(None, 5000)
    (named,) = stores.objects.add(7)
    stores.named.add((Kind.OBJECT, named))
    report = await swept(stores, dry_run=True)
    assert (report.keys.quarantined, report.keys.purged, report.objects.released) == (1, 1, 1)
    assert stores.mark == 0
    assert [stale.remove for stale in stores.stale] == [False]
    assert not any(step.startswith(tuple(Measure)) for step in stores.log)


async def test_what_is_named_is_released_before_anything_is_purged() -> None:
    """Whatever stops a sweep half-way, the living came first."""
    stores = FakeStores()
    named, _ = stores.objects.add(5000, 5000)
    stores.named.add((Kind.OBJECT, named))
    stores.keys.add(5000)
    await swept(stores)
    done = [step for step in stores.log if step.startswith(("release", "purge"))]
    assert done == ["release objects", "purge keys", "purge objects"]


def counted() -> dict[str, float]:
    """What the metrics say of sweeps so far."""
    said = {}
    for outcome in ("done", Stop.MAP_BELOW_MARK):
        said[outcome] = REGISTRY.get_sample_value("trivault_sweeps_total", {"outcome": outcome}) or 0
    for count in ("seen", "candidates", "quarantined", "released", "purged"):
        said[count] = REGISTRY.get_sample_value("trivault_swept_total", {"kind": "keys", "count": count}) or 0
    return said


async def test_a_sweep_is_counted_and_a_dry_run_is_not() -> None:
    """By how it ended, and what it did."""
    stores = FakeStores()
    _, _, named = stores.keys.add(None, 5000, 100)
    stores.named.add((Kind.KEY, named))
    before = counted()
    await swept(stores, dry_run=True)
    assert counted() == before
    await swept(stores)
    stores.records = 1
    await swept(stores)
    moved = {name: value - before[name] for name, value in counted().items()}
    assert moved == dict.fromkeys(moved, 1) | {"seen": 3, "candidates": 2}
