"""Races of design §5.4 over the sans-io core: whatever the network and the processes do, rule 1 to 3 hold."""

from dataclasses import dataclass, field
from itertools import count
from uuid import UUID

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, consumes, invariant, multiple, rule

from contracts.failures import FailureCode
from contracts.stores import Row, RowState
from workers.cryptor.core.fanout import TRANSITIONS, Fanout, Ids, Seen, Step

OWNER = bytes(16)
JOB = UUID(int=7)
TAG, OTHER_TAG = b"t" * 32, b"o" * 32


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


@dataclass(eq=False)
class Attempt:
    """A Cryptor at work on the job, as the model sees it."""

    fanout: Fanout
    tag: bytes
    stored: int = 0  # how many of its two writes it has heard of
    heard: Row | None = None  # the last winner that reached it
    deadline_passed: bool = False  # its commits are refused from now on


@dataclass(eq=False)
class Message:
    """A request on its way to a store; it may be delivered late, twice, or never."""

    kind: Step
    attempt: Attempt


@dataclass
class World:
    """The three stores."""

    row: Row | None = None
    pieces: dict[UUID, str] = field(default_factory=dict)

    def write(self, piece: UUID) -> None:
        """Insert, unless a tombstone forbids it."""
        self.pieces.setdefault(piece, "live")

    def settle(self, row: Row) -> Row:
        """First row wins."""
        if self.row is None:
            self.row = row
        return self.row


class Races(RuleBasedStateMachine):
    """Any number of attempts at one item, over a network that loses, delays, repeats and reorders."""

    attempts: Bundle[Attempt] = Bundle("attempts")
    messages: Bundle[Message] = Bundle("messages")

    def __init__(self) -> None:
        """Begin with empty stores."""
        super().__init__()
        self.world = World()
        self.numbers = count(1)
        self.told: list[Fanout] = []

    @rule(target=attempts, tag=st.sampled_from([TAG, TAG, TAG, OTHER_TAG]))
    def begin(self, tag: bytes) -> Attempt:
        """A Cryptor takes the job (again)."""
        return Attempt(Fanout(tag, draw(next(self.numbers))), tag)

    @rule(target=attempts)
    def begin_abort(self) -> Attempt:
        """The gateway wants the job settled."""
        return Attempt(Fanout(TAG, None, FailureCode.EXPIRED), TAG)

    @rule(target=messages, attempt=attempts)
    def send(self, attempt: Attempt) -> Message | MultipleResults[Message]:
        """The attempt sends what its step is about; a repetition is another message."""
        if attempt.fanout.step is Step.DONE:
            return multiple()
        return Message(attempt.fanout.step, attempt)

    @rule(attempt=attempts)
    def proceed(self, attempt: Attempt) -> None:
        """A step goes as it should: sent, delivered, answered."""
        self._deliver(Message(attempt.fanout.step, attempt), answered=True)

    @rule(message=messages, answered=st.booleans())
    def deliver(self, message: Message, answered: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
        """A message arrives, now or long after its attempt went on; its reply may be lost."""
        self._deliver(message, answered=answered)

    def _deliver(self, message: Message, *, answered: bool) -> None:
        attempt, ids = message.attempt, message.attempt.fanout.ids
        waiting = answered and attempt.fanout.step is message.kind
        if message.kind is Step.STORE and ids is not None:
            self.world.write(ids.key_store_uuid)
            self.world.write(ids.data_store_uuid)
            if waiting:
                attempt.fanout.see(Seen.STORED)
        elif message.kind is Step.COMMIT and ids is not None:
            if attempt.deadline_passed and self.world.row is None:
                if waiting:
                    attempt.fanout.see(Seen.TOO_LATE)
                return
            self._hear(attempt, self.world.settle(live_row(ids, attempt.tag)), waiting=waiting)
        elif message.kind is Step.ABORT:
            self._hear(attempt, self.world.settle(aborted_row(attempt.tag)), waiting=waiting)
        elif message.kind is Step.ERASE and ids is not None:
            self.world.pieces[ids.key_store_uuid] = self.world.pieces[ids.data_store_uuid] = "erased"
            if waiting:
                attempt.fanout.see(Seen.ERASED)

    def _hear(self, attempt: Attempt, row: Row, *, waiting: bool) -> None:
        if waiting:
            attempt.fanout.won_by(row)

    @rule(attempt=attempts)
    def time_out(self, attempt: Attempt) -> None:
        """The attempt gives up waiting for its step."""
        if attempt.fanout.step is Step.STORE:
            attempt.fanout.failed(FailureCode.STORE_UNAVAILABLE)
        elif attempt.fanout.step is Step.COMMIT:
            attempt.deadline_passed = True
            attempt.fanout.failed(FailureCode.STORE_UNAVAILABLE)
        elif attempt.fanout.step is Step.ABORT:
            attempt.fanout.see(Seen.UNKNOWN)

    @rule(attempt=consumes(attempts))
    def crash(self, attempt: Attempt) -> None:
        """The Cryptor dies: it says nothing any more; its messages may still arrive."""

    @rule(attempt=attempts)
    def answer(self, attempt: Attempt) -> None:
        """A finished attempt tells the client."""
        if attempt.fanout.step is Step.DONE:
            self.told.append(attempt.fanout)

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
        """Rule 2, and that success means a record."""
        for fanout in self.told:
            row = self.world.row
            assert row is not None
            if fanout.code is None:
                assert row.state is RowState.LIVE
                assert fanout.external_uuid == row.external_uuid
            elif fanout.code is FailureCode.CONFLICT:
                assert row.request_tag != fanout.request_tag
            else:
                assert row.state is RowState.ABORTED


Races.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestRaces = Races.TestCase


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


def test_a_duplicate_is_answered_with_the_first_record() -> None:
    """The loser of a race erases its own and says what the winner got."""
    winner, loser = draw(1), Fanout(TAG, draw(2))
    loser.see(Seen.STORED)
    loser.won_by(live_row(winner))
    assert loser.step is Step.ERASE
    loser.see(Seen.ERASED)
    assert (loser.external_uuid, loser.code) == (winner.external_uuid, None)


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
