"""What the gateway refuses before it writes anything: one wrong thing at a time."""

import time
from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts.codec import encode
from contracts.edge import Head, Op, Transfer
from contracts.failures import FailureCode, VaultError
from contracts.limits import INLINE_MAX, MAX_BLOB, MAX_EXPIRY, sealed_size
from contracts.lp import lp
from contracts.registry import Client, Registry
from gateway.admission import admit, check_reply_to

VAULT = uuid4()
ALICE = Client(name="alice", client_id=b"a" * 16, verify_key=bytes(32))
OPERATOR = Client(name="oscar", client_id=b"o" * 16, verify_key=bytes(32), operator=True)
BOB = Client(name="bob", client_id=b"b" * 16, verify_key=bytes(32))
REGISTRY = Registry(clients=[ALICE, BOB, OPERATOR])
NOW = int(time.time())


def body(payload: int | None = None, **changes: Any) -> bytes:
    """A well-formed inline dump of 100 bytes by Alice, but for `changes`."""
    fields: dict[str, Any] = {
        "version": 1,
        "suite": 1,
        "vault_id": VAULT,
        "op": Op.DUMP,
        "client_id": ALICE.client_id,
        "job_id": uuid4(),
        "size": 100,
        "items": 1,
        "transfer": Transfer.INLINE,
        "key_id": bytes(32),
        "issued_at": NOW,
        "expires_at": NOW + 60,
        "request_tag": bytes(32),
    } | changes
    head = Head.model_construct(**fields)
    return lp(encode(head), b"seal", bytes(64)) + bytes(sealed_size(fields["size"]) if payload is None else payload)


def refusal(sent: bytes, user: str | None = "alice") -> tuple[FailureCode, str]:
    """Code and reason of what must be refused."""
    with pytest.raises(VaultError) as caught:
        admit(sent, user, REGISTRY, VAULT, NOW)
    return caught.value.code, caught.value.reason


def test_a_well_formed_request_is_admitted() -> None:
    """Inline dumps are interactive, uploads are bulk, loads carry nothing."""
    assert not admit(body(), "alice", REGISTRY, VAULT, NOW).bulk
    assert admit(body(0, size=INLINE_MAX + 1, transfer=Transfer.UPLOAD), "alice", REGISTRY, VAULT, NOW).bulk
    assert admit(body(0, op=Op.LOAD, size=0), "alice", REGISTRY, VAULT, NOW).client == ALICE


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"version": 2}, FailureCode.INVALID_REQUEST, "unknown_version"),
        ({"suite": 2}, FailureCode.INVALID_REQUEST, "unknown_suite"),
        ({"vault_id": UUID(int=1)}, FailureCode.INVALID_REQUEST, "wrong_vault"),
        ({"client_id": BOB.client_id}, FailureCode.UNAUTHENTICATED, "wrong_client"),
        ({"expires_at": NOW}, FailureCode.EXPIRED, ""),
        ({"expires_at": NOW + MAX_EXPIRY + 600}, FailureCode.INVALID_REQUEST, "expiry_too_far"),
        ({"issued_at": NOW + 600}, FailureCode.INVALID_REQUEST, "issued_in_the_future"),
        ({"items": 2}, FailureCode.INVALID_REQUEST, "item_count"),
        (
            {"size": MAX_BLOB + 1, "transfer": Transfer.UPLOAD, "payload": 0},
            FailureCode.INVALID_REQUEST,
            "blob_too_large",
        ),
        ({"payload": sealed_size(100) - 1}, FailureCode.INVALID_REQUEST, "payload_size"),
        ({"payload": sealed_size(100) + 1}, FailureCode.INVALID_REQUEST, "payload_size"),
        ({"size": INLINE_MAX + 1}, FailureCode.INVALID_REQUEST, "payload_size"),
        ({"transfer": Transfer.UPLOAD, "payload": 1}, FailureCode.INVALID_REQUEST, "payload_size"),
        ({"op": Op.LOAD}, FailureCode.INVALID_REQUEST, "payload_size"),
        ({"op": Op.LOAD, "size": 0, "payload": 1}, FailureCode.INVALID_REQUEST, "payload_size"),
        ({"op": Op.SWEEP, "size": 0, "payload": 0}, FailureCode.UNAUTHENTICATED, "operators_only"),
        ({"request_tag": bytes(31)}, FailureCode.INVALID_REQUEST, "malformed_request_tag"),
        ({"size": -1, "payload": 0}, FailureCode.INVALID_REQUEST, "malformed_size"),
    ],
)
def test_one_wrong_thing_is_refused_by_name(changes: dict[str, Any], code: FailureCode, reason: str) -> None:
    """The code says what to do, the reason which check it was."""
    assert refusal(body(**changes)) == (code, reason)


def test_a_sweep_is_an_operators_bulk_job_and_carries_nothing() -> None:
    """It takes long, and no interactive job waits behind it."""
    fields: dict[str, Any] = {"op": Op.SWEEP, "client_id": OPERATOR.client_id, "size": 0}
    assert admit(body(0, **fields), "oscar", REGISTRY, VAULT, NOW).bulk
    assert refusal(body(1, **fields), "oscar") == (FailureCode.INVALID_REQUEST, "payload_size")
    assert refusal(body(**fields | {"size": 100}), "oscar") == (FailureCode.INVALID_REQUEST, "payload_size")
    assert refusal(body(0, **fields | {"items": 2}), "oscar") == (FailureCode.INVALID_REQUEST, "item_count")


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "malformed_envelope"),
        (b"\xff" * 100, "malformed_envelope"),
        (lp(b"{}", b"", bytes(63)), "malformed_envelope"),
        (lp(b"{" * 5000, b"", bytes(64)), "malformed_envelope"),
        (lp(b"no json", b"", bytes(64)), "malformed"),
    ],
)
def test_what_is_no_request_is_malformed(sent: bytes, reason: str) -> None:
    """Truncated, oversize, or not JSON."""
    assert refusal(sent) == (FailureCode.INVALID_REQUEST, reason)


@pytest.mark.parametrize(("user", "reason"), [(None, "missing_user_id"), ("mallory", "unknown_client")])
def test_who_the_broker_does_not_vouch_for_is_refused(user: str | None, reason: str) -> None:
    """Before anything of the message is looked at."""
    assert refusal(b"", user) == (FailureCode.UNAUTHENTICATED, reason)


@pytest.mark.parametrize("reply_to", ["", "gateway.requests", "amq.rabbitmq.reply-to", "down.alice.x"])
def test_only_direct_reply_tokens_are_answered(reply_to: str) -> None:
    """The gateway may publish anywhere: it is no deputy for who may not."""
    with pytest.raises(VaultError, match="bad_reply_to"):
        check_reply_to(reply_to)


def test_a_token_or_nothing_is_fine() -> None:
    """Who does not want an answer polls."""
    check_reply_to(None)
    check_reply_to("amq.rabbitmq.reply-to.g1h2AA5yZXBseUA")
