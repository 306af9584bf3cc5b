"""Races of design §5.4 over the sans-io core: whatever the network and the processes do, rule 1 to 3 hold."""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from contracts.failures import FailureCode
from contracts.stores import Row, RowState
from workers.cryptor.core.fanout import TRANSITIONS, Fanout, Ids, Seen, Step

OWNER = bytes(16)
JOB = UUID(int=7)
TAG, OTHER_TAG = b"t" * 32, b"o" * 32
ATTEMPTS = 4  # at once: more of them meet one another less often


def live_row(ids: Ids, tag: bytes = TAG) -> Row:
    """The row that an attempt with `ids` commits."""
    return Row(
        owner=OWNER,
        job_id=JOB,
        item=0,
        state=RowState.LIVE,
        external_uuid=ids.external_uuid,
        data_store_uuid=ids.data_store_uuid,
        key_store_uuid=ids.key_store_uuid,
        map_share=bytes(32),
        request_tag=tag,
        size=0,
        suite=1,
        mac_key=1,
        mac=bytes(32),
    )


def aborted_row(tag: bytes = TAG) -> Row:
    """The row that settles the item as never."""
    return Row(
        owner=OWNER,
        job_id=JOB,
        item=0,
        state=RowState.ABORTED,
        request_tag=tag,
        size=0,
        suite=1,
        mac_key=1,
        mac=bytes(32),
    )


def draw(number: int) -> Ids:
    """Ids that no other attempt has."""
    return Ids(UUID(int=3 * number + 1), UUID(int=3 * number + 2), UUID(int=3 * number + 3))


class Kind(Enum):
    """What a message asks of a store."""

    KEY = auto()
    OBJECT = auto()
    COMMIT = auto()
    ABORT = auto()
    ERASE = auto()


KINDS: Final = {
    Step.STORE: (Kind.KEY, Kind.OBJECT),
    Step.COMMIT: (Kind.COMMIT,),
    Step.ABORT: (Kind.ABORT,),
    Step.ERASE: (Kind.ERASE,),
    Step.DONE: (),
}


@dataclass(eq=False)
class Attempt:
    """A Cryptor at work on the job, as the model sees it."""

    fanout: Fanout
    stored: set[Kind] = field(default_factory=set)  # the writes whose reply it has heard
    crashed: bool = False
    deadline_passed: bool = False  # its commits are refused from now on
    gave_up: bool = False  # it left its pieces to the sweep

    @property
    def ids(self) -> Ids:
        """What it drew."""
        assert self.fanout.ids is not None
        return self.fanout.ids


@dataclass(eq=False)
class Message:
    """A request on its way to a store; it may be delivered late, twice, or never."""

    kind: Kind
    attempt: Attempt


@dataclass(eq=False)
class Reply:
    """What a store said; it may be heard late, twice, or never."""

    message: Message
    row: Row | None  # the winner, if that was asked for


class Fate(Enum):
    """What becomes of a reply."""

    INTACT = auto()
    ALTERED = auto()  # the MAC of its row does not verify
    LOST = auto()


@dataclass
class World:
    """The three stores."""

    row: Row | None = None
    pieces: dict[UUID, str] = field(default_factory=dict)

    def write(self, piece: UUID) -> None:
        """Insert, unless a tombstone forbids it."""
        self.pieces.setdefault(piece, "live")

    def erase(self, *pieces: UUID) -> None:
        """Leave tombstones."""
        self.pieces |= dict.fromkeys(pieces, "erased")

    def settle(self, row: Row, *, late: bool) -> Row | None:
        """First row wins; a late commit is refused."""
        if self.row is None and not (late and row.state is RowState.LIVE):
            self.row = row
        return self.row


class Races(RuleBasedStateMachine):
    """Any number of attempts at one item, over a network that loses, delays, repeats and reorders."""

    attempts: Bundle[Attempt] = Bundle("attempts")
    messages: Bundle[Message] = Bundle("messages")
    replies: Bundle[Reply] = Bundle("replies")

    def __init__(self) -> None:
        """Begin with empty stores."""
        super().__init__()
        self.world = World()
        self.begun: list[Attempt] = []
        self.alive = 0

    # --- Cryptors -------------------------------------------------------------------------------------------------

    @initialize(target=attempts)
    def begin_and_store(self) -> Attempt:
        """A Cryptor takes the job and stores key and object: the races are about what follows."""
        attempt = self.take(Fanout(TAG, draw(len(self.begun) + 1)))
        self.proceed(attempt, [Fate.INTACT])
        return attempt

    @precondition(lambda self: self.alive < ATTEMPTS)
    @rule(target=attempts, tag=st.sampled_from([TAG, TAG, TAG, OTHER_TAG]))
    def begin(self, tag: bytes) -> Attempt:
        """A Cryptor takes the job: a second one beside the first, or the next after a crash."""
        return self.take(Fanout(tag, draw(len(self.begun) + 1)))

    @precondition(lambda self: self.alive < ATTEMPTS)
    @rule(target=attempts)
    def begin_abort(self) -> Attempt:
        """The gateway wants the job settled."""
        return self.take(Fanout(TAG, None, FailureCode.EXPIRED))

    def take(self, fanout: Fanout) -> Attempt:
        """Note an attempt."""
        self.begun.append(Attempt(fanout))
        self.alive += 1
        return self.begun[-1]

    @rule(attempt=attempts, fates=st.lists(st.sampled_from(Fate), min_size=1, max_size=4))
    def proceed(self, attempt: Attempt, fates: list[Fate]) -> None:
        """Steps are sent and delivered at once, one after the other."""
        for fate in fates:
            replies = [self.deliver(Message(kind, attempt)) for kind in KINDS[attempt.fanout.step]]
            if fate is Fate.LOST:
                self.time_out(attempt, over=True)
            else:
                for reply in replies:
                    self.hear(reply, fate)

    @rule(attempt=attempts, over=st.booleans())
    def time_out(self, attempt: Attempt, over: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
        """The attempt gives up waiting for its step, unless it only sends it again.

        Its deadline may be over, and then its commits come too late.
        """
        fanout = attempt.fanout
        attempt.deadline_passed |= over
        if fanout.step is Step.STORE or (fanout.step is Step.COMMIT and attempt.deadline_passed):
            fanout.failed(FailureCode.STORE_UNAVAILABLE)
        elif fanout.step is Step.ERASE:
            attempt.gave_up = True
            fanout.see(Seen.ERASED)

    @rule(attempt=consumes(attempts))
    def crash(self, attempt: Attempt) -> None:
        """The Cryptor dies: it says nothing any more; its messages may still arrive, and their replies go nowhere."""
        self.alive -= 1
        attempt.crashed = True

    # --- network and stores ---------------------------------------------------------------------------------------

    @rule(target=messages, attempt=attempts)
    def send(self, attempt: Attempt) -> MultipleResults[Message]:
        """The attempt sends what its step is about; a repetition is another message."""
        return multiple(*(Message(kind, attempt) for kind in KINDS[attempt.fanout.step]))

    @rule(target=replies, message=messages)
    def deliver(self, message: Message) -> Reply:
        """A message arrives, now or long after its attempt went on."""
        attempt, ids, row = message.attempt, message.attempt.fanout.ids, None
        if message.kind is Kind.ABORT:
            row = self.world.settle(aborted_row(attempt.fanout.request_tag), late=attempt.deadline_passed)
        elif ids is not None and message.kind is Kind.COMMIT:
            row = self.world.settle(live_row(ids, attempt.fanout.request_tag), late=attempt.deadline_passed)
        elif ids is not None and message.kind is Kind.ERASE:
            self.world.erase(ids.key_store_uuid, ids.data_store_uuid)
        elif ids is not None:
            self.world.write(ids.key_store_uuid if message.kind is Kind.KEY else ids.data_store_uuid)
        return Reply(message, row)

    @rule(reply=replies, fate=st.sampled_from([Fate.INTACT, Fate.ALTERED]))
    def hear(self, reply: Reply, fate: Fate) -> None:
        """A reply arrives, its row as it was put or not; one to a step that is over is not heard."""
        attempt, kind = reply.message.attempt, reply.message.kind
        if attempt.crashed or kind not in KINDS[attempt.fanout.step]:
            return
        if attempt.fanout.step is Step.STORE:
            attempt.stored.add(kind)
            if len(attempt.stored) == 2:
                attempt.fanout.see(Seen.STORED)
        elif kind is Kind.ERASE:
            attempt.fanout.see(Seen.ERASED)
        elif reply.row is None:
            attempt.fanout.failed(FailureCode.STORE_UNAVAILABLE)
        elif fate is Fate.INTACT:
            attempt.fanout.won_by(reply.row)
        else:
            attempt.fanout.doubt()

    # --- what never happens ---------------------------------------------------------------------------------------

    @invariant()
    def a_live_record_keeps_its_key_and_object(self) -> None:
        """Rule 1."""
        row = self.world.row
        if row is not None and row.state is RowState.LIVE:
            assert row.key_store_uuid is not None
            assert row.data_store_uuid is not None
            assert self.world.pieces[row.key_store_uuid] == "live"
            assert self.world.pieces[row.data_store_uuid] == "live"

    @invariant()
    def what_was_told_is_true_for_ever(self) -> None:
        """Rule 2, and that success means a record. A row that cannot be believed allows no statement about it."""
        for fanout in (each.fanout for each in self.begun if each.fanout.step is Step.DONE):
            row = self.world.row
            assert row is not None
            if fanout.code is None:
                assert row.state is RowState.LIVE
                assert (fanout.external_uuid, fanout.request_tag) == (row.external_uuid, row.request_tag)
            elif fanout.code is FailureCode.CONFLICT:
                assert row.request_tag != fanout.request_tag
            elif fanout.code is not FailureCode.INTEGRITY_FAILED:
                assert row.state is RowState.ABORTED

    @invariant()
    def who_lost_leaves_nothing(self) -> None:
        """Promise 6: unless it may have won, or could not reach the stores; then the sweep decides."""
        for attempt in self.begun:
            ids, code = attempt.fanout.ids, attempt.fanout.code
            over = attempt.fanout.step is Step.DONE and not attempt.gave_up and code is not FailureCode.INTEGRITY_FAILED
            if over and ids is not None and (self.world.row is None or not ids.own(self.world.row)):
                assert self.world.pieces[ids.key_store_uuid] == "erased"
                assert self.world.pieces[ids.data_store_uuid] == "erased"


Races.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestRaces = Races.TestCase


@dataclass
class Race:
    """Two attempts at one job whose stores are done, in the machine's world; what happens is told by hand."""

    machine: Races = field(default_factory=Races)

    def __post_init__(self) -> None:
        """Let both store."""
        self.first, self.second = (self.machine.take(Fanout(TAG, draw(number))) for number in (1, 2))
        self.abort = self.machine.take(Fanout(TAG, None, FailureCode.EXPIRED))
        for attempt in (self.first, self.second):
            self.machine.proceed(attempt, [Fate.INTACT])

    def goes(self, attempt: Attempt, *fates: Fate) -> tuple[Step, UUID | None, FailureCode | None]:
        """Let an attempt go on, step by step; where it stands then."""
        self.machine.proceed(attempt, list(fates))
        self.machine.a_live_record_keeps_its_key_and_object()
        self.machine.what_was_told_is_true_for_ever()
        self.machine.who_lost_leaves_nothing()
        return attempt.fanout.step, attempt.fanout.external_uuid, attempt.fanout.code


def test_a_lost_commit_reply() -> None:
    """The commit arrived, its reply did not, and time is over: the abort finds the attempt's own row."""
    race = Race()
    assert race.goes(race.first, Fate.LOST) == (Step.ABORT, None, None)
    assert race.goes(race.first, Fate.INTACT) == (Step.DONE, race.first.ids.external_uuid, None)


def test_two_cryptors_on_one_job() -> None:
    """The first row wins; the second attempt erases its own pieces and answers with the first one's record."""
    race = Race()
    assert race.goes(race.first, Fate.INTACT) == (Step.DONE, race.first.ids.external_uuid, None)
    assert race.goes(race.second, Fate.INTACT) == (Step.ERASE, race.first.ids.external_uuid, None)
    assert race.goes(race.second, Fate.INTACT) == (Step.DONE, race.first.ids.external_uuid, None)


def test_an_abort_before_the_commit() -> None:
    """What was answered as failed never becomes a record: the commit that comes after it erases its own."""
    race = Race()
    assert race.goes(race.abort, Fate.INTACT) == (Step.DONE, None, FailureCode.EXPIRED)
    assert race.goes(race.first, Fate.INTACT, Fate.INTACT) == (Step.DONE, None, FailureCode.INTERNAL)


def test_an_abort_after_the_commit() -> None:
    """What is a record is never answered as failed, whoever wants it aborted."""
    race = Race()
    assert race.goes(race.first, Fate.INTACT) == (Step.DONE, race.first.ids.external_uuid, None)
    assert race.goes(race.abort, Fate.INTACT) == (Step.DONE, race.first.ids.external_uuid, None)


def test_a_redelivery_after_the_commit() -> None:
    """The Cryptor died between commit and ack: who does the job again answers with the record that is there."""
    race = Race()
    race.machine.deliver(Message(Kind.COMMIT, race.first))
    race.machine.crash(race.first)
    assert race.goes(race.second, Fate.INTACT, Fate.INTACT) == (Step.DONE, race.first.ids.external_uuid, None)


def test_an_unverifiable_winner_erases_nothing() -> None:
    """Rule 3: a row that may have been altered is a reason neither to erase nor to believe."""
    for step in (Step.COMMIT, Step.ABORT):
        fanout = Fanout(TAG, draw(1))
        fanout.see(Seen.STORED)
        if step is Step.ABORT:
            fanout.see(Seen.TOO_LATE)
        assert fanout.step is step
        fanout.doubt()
        assert (fanout.step, fanout.code, fanout.external_uuid) == (Step.DONE, FailureCode.INTEGRITY_FAILED, None)


def test_a_time_out_alone_never_leads_to_erasing() -> None:
    """Rule 1 in the table itself: only `LOST` leads to `ERASE`."""
    assert {seen for (_, seen), following in TRANSITIONS.items() if following is Step.ERASE} == {Seen.LOST}


def test_other_content_under_the_same_job_is_a_conflict() -> None:
    """The request tag decides what the same job is."""
    fanout = Fanout(OTHER_TAG, draw(2))
    fanout.see(Seen.STORED)
    fanout.won_by(live_row(draw(1)))
    assert fanout.code is FailureCode.CONFLICT
    assert fanout.external_uuid is None


@pytest.mark.parametrize("seen", [Seen.MINE, Seen.ERASED, Seen.LOST])
def test_an_answer_to_another_question_is_a_bug(seen: Seen) -> None:
    """The table is closed: what a step cannot bring raises."""
    with pytest.raises(KeyError):
        Fanout(TAG, draw(1)).see(seen)
