"""The codec: closed vocabularies, strict fields, and errors that quote nothing of what they refuse."""

import json
import re
import traceback
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import edge, stores
from contracts.codec import Meta, cut, decode, encode, parse
from contracts.edge import Answers, Head, JobStatus, KeysQuery, Refusal, Request, State, StatusQuery
from contracts.failures import FailureCode, NotOursError
from contracts.limits import MAX_BODY, MAX_META
from contracts.stores import REPLIES, Done, Failure, Key, KeyDump, KeyDumpReply, KeyLoadReply
from tests.vectors.material import JOB, head

CANARY = "canary-5e17"
METAS = [
    each
    for module in (edge, stores)
    for each in vars(module).values()
    if isinstance(each, type) and issubclass(each, Meta)
]
MESSAGES = [each for each in METAS if each is not Meta]
TYPES = (Request, StatusQuery, KeysQuery)


@pytest.mark.parametrize("model", MESSAGES, ids=lambda model: model.__name__)
def test_a_type_is_a_name_and_a_version(model: type[Meta]) -> None:
    """`<name>.v<n>`: a receiver of another version refuses instead of guessing."""
    assert re.fullmatch(r"[a-z_]+(\.[a-z_]+)?\.v[1-9][0-9]*", model.TYPE)


def test_no_two_messages_share_a_type() -> None:
    """A type names one model."""
    assert len({model.TYPE for model in MESSAGES}) == len(MESSAGES) > 20


def test_every_store_request_has_a_reply_of_its_own() -> None:
    """Requests and replies of `contracts.stores` are paired completely, and no reply serves two requests."""
    of_stores = {each for each in MESSAGES if each.__module__ == stores.__name__}
    assert set(REPLIES) | set(REPLIES.values()) == of_stores
    assert len(set(REPLIES.values())) == len(REPLIES)
    for request, reply in REPLIES.items():
        assert request.TYPE.replace(".v1", "_reply.v1") == reply.TYPE


def test_a_message_is_decoded_into_its_model() -> None:
    """By its type, among those that the receiver knows."""
    query = StatusQuery(job_ids=[JOB])
    assert decode(TYPES, "status.v1", encode(query), 0) == query
    assert decode(TYPES, "keys.v1", b"{}", 0) == KeysQuery()


@pytest.mark.parametrize("type_", [None, "", "status.v2", "status", "STATUS.V1", "answers.v1", CANARY])
def test_an_unknown_type_or_version_is_refused(type_: str | None) -> None:
    """Also a type that exists, but that this receiver does not take."""
    assert _refusal(type_, b"{}") == "unknown_type"


def _refusal(type_: str | None, meta: bytes, body_size: int = 0) -> str:
    with pytest.raises(NotOursError) as caught:
        decode(TYPES, type_, meta, body_size)
    _assert_quotes_nothing(caught.value)
    assert caught.value.code is FailureCode.INVALID_REQUEST
    return caught.value.reason


def _assert_quotes_nothing(error: NotOursError) -> None:
    """Not in str, repr, cause, or a formatted traceback with all that it shows of the context."""
    shown = "".join(traceback.format_exception(error))
    assert error.__cause__ is None
    assert CANARY not in f"{error} {error!r} {error.args} {shown}"
    assert CANARY.replace("-", "_") not in shown


MALFORMED: dict[str, tuple[bytes, str]] = {
    "no JSON": (CANARY.encode(), "malformed"),
    "empty": (b"", "malformed"),
    "no UTF-8": (b'{"job_ids":["\xff' + CANARY.encode() + b'"]}', "malformed"),
    "another shape": (b'["%b"]' % CANARY.encode(), "malformed"),
    "cut off": (b'{"job_ids":["%b' % CANARY.encode(), "malformed"),
    "trailing": (encode(StatusQuery(job_ids=[JOB])) + CANARY.encode(), "malformed"),
    "unknown field": (encode(StatusQuery(job_ids=[JOB]))[:-1] + b',"%b":1}' % CANARY.encode(), "unknown_field"),
    "missing field": (b"{}", "malformed_job_ids"),
    "no list": (b'{"job_ids":"%b"}' % CANARY.encode(), "malformed_job_ids"),
    "no uuid": (b'{"job_ids":["%b"]}' % CANARY.encode(), "malformed_job_ids"),
    "empty list": (b'{"job_ids":[]}', "malformed_job_ids"),
    "too many": (encode(StatusQuery.model_construct(job_ids=[JOB] * 101)), "malformed_job_ids"),
}


@pytest.mark.parametrize(("meta", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_meta_is_refused_without_being_quoted(meta: bytes, reason: str) -> None:
    """The reason names our field and never the sender's bytes."""
    assert _refusal("status.v1", meta) == reason


def test_an_oversize_message_is_refused_before_it_is_parsed() -> None:
    """Meta and body each have a bound, which is inclusive."""
    assert _refusal("keys.v1", b" " * (MAX_META + 1)) == "oversize_meta"
    assert _refusal("keys.v1", b"{}", MAX_BODY + 1) == "oversize_body"
    assert decode(TYPES, "keys.v1", b"{}" + b" " * (MAX_META - 2), MAX_BODY) == KeysQuery()


def _head(**changed: Any) -> bytes:
    return json.dumps(json.loads(encode(head())) | changed).encode()


LOOSE: dict[str, dict[str, Any]] = {
    "a number as text": {"size": "26"},
    "a number with a fraction": {"size": 26.5},
    "a truth value for a number": {"size": True},
    "negative": {"size": -1},
    "beyond 63 bits": {"size": 2**63},
    "no items": {"items": 0},
    "too many items": {"items": 10_001},
    "another operation": {"op": "format"},
    "a name for a value": {"transfer": "INLINE"},
    "a short id": {"client_id": "00" * 15},
    "a long id": {"client_id": "00" * 17},
    "no hexadecimal": {"key_id": "zz" * 32},
    "no time": {"expires_at": None},
    "a time beyond all": {"expires_at": 2**40},
}


@pytest.mark.parametrize("changed", LOOSE.values(), ids=LOOSE)
def test_nothing_is_coerced(changed: dict[str, Any]) -> None:
    """A field has its type, its range and its length, or the head is malformed, and the field is named."""
    (field,) = changed
    with pytest.raises(NotOursError, match=f"malformed_{field}"):
        parse(Head, _head(**changed))


def test_a_newer_version_is_parsed_so_that_it_can_be_named() -> None:
    """`unknown_version` is said by who knows the versions; the parser lets the number pass."""
    assert parse(Head, _head(version=99)).version == 99


def test_a_head_is_read_back() -> None:
    """JSON and back, the same value; compact, without blanks."""
    assert parse(Head, encode(head())) == head()
    assert b" " not in encode(head())


def test_fields_at_their_default_are_left_out() -> None:
    """What says nothing takes no space, and is read back all the same."""
    assert encode(Request()) == b"{}"
    assert encode(Refusal(code=FailureCode.BUSY)) == b'{"code":"busy"}'
    status = JobStatus(job_id=JOB, state=State.RUNNING)
    assert parse(Answers, encode(Answers(jobs=[status]))).jobs == [status]


def test_outcomes_of_one_list_keep_their_kinds_and_their_order() -> None:
    """A failure between results is neither dropped nor taken for one of them."""
    key = Key(key_store_uuid=UUID(int=1), key=b"wrapped", iv=bytes(24))
    loaded = KeyLoadReply(outcomes=[key, Failure(code=FailureCode.NOT_FOUND), key])
    assert parse(KeyLoadReply, encode(loaded)) == loaded
    dumped = KeyDumpReply(outcomes=[Done(), Failure(code=FailureCode.CONFLICT)])
    assert parse(KeyDumpReply, encode(dumped)) == dumped


@pytest.mark.parametrize("outcome", [{}, {"code": "fine"}, {"code": "busy", "note": 1}, None])
def test_an_outcome_that_is_neither_result_nor_failure_is_refused(outcome: Any) -> None:
    """An empty outcome is not a key, and an unknown code is no code."""
    with pytest.raises(NotOursError, match=r"malformed_outcomes|unknown_field"):
        parse(KeyLoadReply, json.dumps({"outcomes": [outcome]}).encode())


def test_a_wrapped_key_does_not_show_in_a_repr() -> None:
    """Whatever a log might print of a request."""
    wrapped = b"wrapped-" + CANARY.encode()
    shown = repr(KeyDump(items=[Key(key_store_uuid=JOB, key=wrapped, iv=bytes(24))]))
    assert CANARY not in shown
    assert wrapped.hex() not in shown


@given(st.lists(st.binary(max_size=50), max_size=8))
def test_a_body_is_cut_as_it_was_joined(parts: list[bytes]) -> None:
    """Sizes from the meta, bytes from the body."""
    assert [bytes(each) for each in cut(b"".join(parts), map(len, parts))] == parts


@pytest.mark.parametrize("sizes", [[], [9], [11], [5, 4], [5, 6], [10, 1], [2**62]])
def test_sizes_that_do_not_cover_the_body_are_refused(sizes: list[int]) -> None:
    """Nothing may be left over, nothing may lack."""
    with pytest.raises(NotOursError, match="body_size"):
        cut(bytes(10), sizes)
