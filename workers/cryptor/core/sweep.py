"""What a sweep decides: which keys and objects are candidates, what becomes of each, and when it must stop.

It does no I/O and has no clock: stores say how old things are, MapStore says what its rows name. The rule behind every
decision is that nothing live is ever collected: when in doubt, keep.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from contracts.stores import Measure, Old, Verdict
from contracts.sweep import Stop

# Verdicts of one kind that one sweep carries out in one store: 16 MB of ids. What is beyond it is left to the next.
MOST: Final = 100_000


@dataclass(frozen=True, slots=True)
class Policy:
    """How careful to be."""

    grace: int  # seconds below which nothing is looked at: longer than an attempt can take from its key to its row
    retention: int  # seconds in quarantine before a purge: longer than the oldest MapStore backup is restorable
    threshold: float  # of what a store holds; more candidates than this look like a fault, not like leftovers
    floor: int  # so many are always fine, however little the store holds


def judge(old: Old, *, named: bool, retention: int) -> Measure | None:
    """What becomes of a key or an object that is past the grace; None if it stays as it is."""
    if named:
        return None if old.quarantined is None else Measure.RELEASE
    if old.quarantined is None:
        return Measure.QUARANTINE
    return Measure.PURGE if old.quarantined >= retention else None


@dataclass(slots=True)
class Census:
    """What one store holds, as far as it was listed, and what is to be done about it."""

    policy: Policy
    most: int = MOST
    held: int = 0
    candidates: int = 0  # named by no row; those in quarantine included
    more: bool = False  # there was more to do than one sweep does
    verdicts: defaultdict[Measure, list[Verdict]] = field(default_factory=lambda: defaultdict(list))

    def count(self, held: int, old: Sequence[Old], named: Iterable[bool]) -> None:
        """Take in one page: what it holds, and for each old one whether a row names it."""
        self.held += held
        for each, is_named in zip(old, named, strict=True):
            self.candidates += not is_named
            measure = judge(each, named=is_named, retention=self.policy.retention)
            if measure is not None:
                self._note(each.id, measure)

    def _note(self, id_: UUID, measure: Measure) -> None:
        noted = self.verdicts[measure]
        if len(noted) == self.most:
            self.more = True
        else:
            overdue = self.policy.retention if measure is Measure.PURGE else 0
            noted.append(Verdict(id=id_, measure=measure, quarantined=overdue))

    @property
    def too_many(self) -> bool:
        """Whether there are more candidates than dead attempts leave behind."""
        return self.candidates > max(self.policy.floor, self.policy.threshold * self.held)


def doubt(records: int, mark: int) -> Stop | None:
    """Why MapStore's word is not enough to collect anything, if it is not.

    Args:
        records: how many it holds now.
        mark: the most it was ever seen to hold.
    """
    if records < mark:
        return Stop.MAP_BELOW_MARK
    return None if records else Stop.MAP_EMPTY


def excess(censuses: Iterable[Census]) -> Stop | None:
    """Why there is too much to collect, if there is."""
    return Stop.TOO_MANY_CANDIDATES if any(census.too_many for census in censuses) else None
