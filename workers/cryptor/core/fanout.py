"""How one dump attempt goes, as a table: no broker, no clock, no event loop.

An attempt writes a key and an object under ids that only it has drawn, then puts a row under (owner, job_id, item) into
MapStore. That row is the commit: the first one under its key wins, whoever put it there, and every later caller is told
the winner. Three rules follow, and everything in this module serves them.

1. An attempt has lost only if the winning row is not its own. Then, and only then, are its key and object erased. A
   time-out says nothing: the row may be there.
2. Nobody is told `failed` before an `aborted` row has won, because until then a commit under way may still succeed.
3. A row whose MAC does not verify is believed in neither direction: nothing is erased, and the answer is
   `integrity_failed`.

The driver performs one `Step` at a time and reports one `Seen`. A step whose outcome is unknown it repeats by itself,
for as long as the attempt may live. A commit that may live no longer is then reported as `TOO_LATE`; an abort is not
reported at all: the item stays unsettled, and the job's next attempt settles it.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final
from uuid import UUID

from contracts.failures import FailureCode
from contracts.stores import Row, RowState


class Step(Enum):
    """What the driver has to do next."""

    STORE = auto()  # key and data, side by side
    COMMIT = auto()  # settle MapStore's row as live
    ABORT = auto()  # settle MapStore's row as aborted
    ERASE = auto()  # our own key and object
    DONE = auto()  # nothing: `Fanout.outcome` stands


class Seen(Enum):
    """What came of it."""

    STORED = auto()
    NOT_STORED = auto()  # a store refused, or did not answer in time
    MINE = auto()  # the winning row is ours, live
    LOST = auto()  # the winning row is another attempt's, or aborted
    DOUBTFUL = auto()  # there is a winning row, but its MAC does not verify
    TOO_LATE = auto()  # MapStore refuses the commit, or did not answer while it could be sent
    ERASED = auto()  # or given up on: the sweep collects what is left


TRANSITIONS: Final[dict[tuple[Step, Seen], Step]] = {
    (Step.STORE, Seen.STORED): Step.COMMIT,
    (Step.STORE, Seen.NOT_STORED): Step.ABORT,
    (Step.COMMIT, Seen.MINE): Step.DONE,
    (Step.COMMIT, Seen.LOST): Step.ERASE,
    (Step.COMMIT, Seen.DOUBTFUL): Step.DONE,
    (Step.COMMIT, Seen.TOO_LATE): Step.ABORT,
    (Step.ABORT, Seen.MINE): Step.DONE,  # a commit whose reply was lost
    (Step.ABORT, Seen.LOST): Step.ERASE,
    (Step.ABORT, Seen.DOUBTFUL): Step.DONE,
    (Step.ERASE, Seen.ERASED): Step.DONE,
}


@dataclass(frozen=True, slots=True)
class Ids:
    """What one attempt drew for one item."""

    external_uuid: UUID
    data_store_uuid: UUID
    key_store_uuid: UUID

    def own(self, row: Row) -> bool:
        """Whether a winning row is this attempt's own commit."""
        return row.state is RowState.LIVE and self == Ids.of(row)

    @classmethod
    def of(cls, row: Row) -> "Ids | None":
        """The ids of a row, if it has all of them."""
        if row.external_uuid is None or row.data_store_uuid is None or row.key_store_uuid is None:
            return None
        return cls(row.external_uuid, row.data_store_uuid, row.key_store_uuid)


@dataclass(slots=True)
class Fanout:
    """One attempt at one item."""

    request_tag: bytes
    ids: Ids | None  # None: nothing is stored, the item is only to be settled as aborted
    failure: FailureCode = FailureCode.INTERNAL  # what to say if it has to be aborted
    step: Step = field(init=False)
    external_uuid: UUID | None = field(init=False, default=None)
    code: FailureCode | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Begin by storing, if there is something to store."""
        self.step = Step.STORE if self.ids is not None else Step.ABORT

    def failed(self, code: FailureCode) -> None:
        """Note why the attempt cannot go on; said only once `aborted` has won.

        Raises:
            KeyError: it was past storing and committing already.
        """
        self.failure = code
        self.see(Seen.NOT_STORED if self.step is Step.STORE else Seen.TOO_LATE)

    def won_by(self, row: Row) -> None:
        """Take the winning row, its MAC verified.

        Raises:
            KeyError: no row was asked for.
        """
        if row.state is RowState.ABORTED:
            self.code = self.failure
        elif row.request_tag != self.request_tag:
            self.code = FailureCode.CONFLICT  # the job id was used for other content
        else:
            self.external_uuid = row.external_uuid
        self.see(Seen.MINE if self.ids is not None and self.ids.own(row) else Seen.LOST)

    def doubt(self) -> None:
        """Take a winning row whose MAC does not verify."""
        self.code = FailureCode.INTEGRITY_FAILED
        self.see(Seen.DOUBTFUL)

    def see(self, seen: Seen) -> None:
        """Go on.

        Raises:
            KeyError: the driver reported what the current step cannot bring: a bug.
        """
        following = TRANSITIONS[self.step, seen]
        # An attempt that stored nothing has nothing to erase.
        self.step = Step.DONE if following is Step.ERASE and self.ids is None else following
