"""Answers and downloads: which key and which context open which, and that no other does."""

import pytest

from contracts.codec import encode
from contracts.edge import Answer, ItemOutcome, Op
from contracts.failures import FailureCode, NotOursError
from contracts.limits import INLINE_MAX
from contracts.lp import lp
from sealing.answers import answer_context, download_context, head_context, open_answer, seal_answer
from sealing.client import reply_key, request_tag, uuids_sha256
from sealing.streams import SealError, seal
from tests.vectors.material import BLOB, BLOB_SHA256, CLIENT_SECRET, EXTERNAL, JOB, OWNER, TAG, fixed, fixed_uuid, head

R = fixed("request digest")
KEY = reply_key(CLIENT_SECRET, JOB)
CONTEXT = answer_context(Op.DUMP, OWNER, JOB.bytes, TAG, R)
ANSWER = Answer(outcomes=[ItemOutcome(external_uuid=EXTERNAL)])
OTHER_JOB = fixed_uuid("other job")


def test_a_dumps_answer_opens_after_a_restart() -> None:
    """Job id and tag are enough: key and context are derived again, and R, which is lost, plays no part."""
    sealed = seal_answer(KEY, head_context(head(), R), ANSWER)
    again = answer_context(Op.DUMP, OWNER, JOB.bytes, TAG, b"")
    assert open_answer(reply_key(CLIENT_SECRET, JOB), again, sealed) == (ANSWER, b"")


def test_a_loads_answer_is_bound_to_its_request() -> None:
    """The same record asked for again is another request: an old answer to it does not open."""
    load = head(op=Op.LOAD, size=0)
    sealed = seal_answer(KEY, head_context(load, R), Answer(outcomes=[ItemOutcome()], size=len(BLOB)), BLOB)
    assert open_answer(KEY, head_context(load, R), sealed)[1] == BLOB
    with pytest.raises(SealError):
        open_answer(KEY, head_context(load, fixed("another request")), sealed)


@pytest.mark.parametrize(
    "context",
    [
        answer_context(Op.DUMP, OWNER, OTHER_JOB.bytes, TAG, R),
        answer_context(Op.DUMP, fixed("other client", 16), JOB.bytes, TAG, R),
        answer_context(Op.DUMP, OWNER, JOB.bytes, fixed("other tag"), R),
        answer_context(Op.LOAD, OWNER, JOB.bytes, TAG, R),
        download_context(R, fixed("attempt", 16)),
        b"",
    ],
)
def test_an_answer_does_not_open_as_anothers(context: bytes) -> None:
    """Job, client, tag, operation and kind: each one counts, under one and the same key."""
    with pytest.raises(SealError):
        open_answer(KEY, context, seal_answer(KEY, CONTEXT, ANSWER))


def test_an_answer_does_not_open_with_another_jobs_key() -> None:
    """Nor does the gateway's swapping the answers of two jobs of one client go unnoticed."""
    with pytest.raises(SealError):
        open_answer(reply_key(CLIENT_SECRET, OTHER_JOB), CONTEXT, seal_answer(KEY, CONTEXT, ANSWER))


def test_a_blob_of_the_largest_inline_size_travels_with_its_answer() -> None:
    """256 KiB and what is said of it fit into one step."""
    blob = bytes(INLINE_MAX)
    answer = Answer(outcomes=[ItemOutcome()], size=INLINE_MAX)
    assert open_answer(KEY, CONTEXT, seal_answer(KEY, CONTEXT, answer, memoryview(blob))) == (answer, blob)


def test_an_answer_about_ten_thousand_items_fits() -> None:
    """The longest list that a request may ask for is sealed in one step."""
    outcomes = [ItemOutcome(external_uuid=EXTERNAL, code=FailureCode.STORE_UNAVAILABLE)] * 10_000
    answer = Answer(outcomes=outcomes)
    assert open_answer(KEY, CONTEXT, seal_answer(KEY, CONTEXT, answer))[0] == answer


def test_what_is_sealed_but_no_answer_is_refused() -> None:
    """A stream under the right key and context that holds something else."""
    for told in (b"", b"\0\0\0\x09short"):
        with pytest.raises(SealError):
            open_answer(KEY, CONTEXT, seal(KEY, CONTEXT, told))
    for told in (b"{}", b'{"outcomes":[]}', encode(ANSWER)[:-1]):
        with pytest.raises(NotOursError):
            open_answer(KEY, CONTEXT, seal(KEY, CONTEXT, lp(told)))


def test_a_download_is_bound_to_request_and_attempt() -> None:
    """Pieces of two attempts at one load, or of two loads, cannot be mixed."""
    attempt = fixed("attempt", 16)
    contexts = {
        download_context(R, attempt),
        download_context(R, fixed("another attempt", 16)),
        download_context(fixed("another request"), attempt),
    }
    assert len(contexts) == 3


def test_the_tag_names_everything_that_is_asked_for() -> None:
    """Operation, job, size, content and secret: another one is another tag, so the ledger sees a conflict."""
    size = len(BLOB)
    tags = {
        TAG,
        request_tag(fixed("other secret"), Op.DUMP, JOB, size, BLOB_SHA256),
        request_tag(CLIENT_SECRET, Op.LOAD, JOB, size, BLOB_SHA256),
        request_tag(CLIENT_SECRET, Op.DUMP, OTHER_JOB, size, BLOB_SHA256),
        request_tag(CLIENT_SECRET, Op.DUMP, JOB, size + 1, BLOB_SHA256),
        request_tag(CLIENT_SECRET, Op.DUMP, JOB, size, fixed("other content")),
    }
    assert len(tags) == 6


def test_tag_and_reply_key_are_unrelated() -> None:
    """The gateway sees the tag; what answers are sealed under does not follow from it."""
    assert len({TAG, KEY, reply_key(CLIENT_SECRET, OTHER_JOB), reply_key(fixed("other secret"), JOB)}) == 4


def test_the_order_of_uuids_counts() -> None:
    """A request for the same records in another order is another request."""
    one, other = fixed_uuid("one"), fixed_uuid("other")
    assert uuids_sha256([one, other]) != uuids_sha256([other, one])
