"""Failures, limits, states and the registry: small promises that everybody builds on."""

from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import topology
from contracts.codec import encode, parse
from contracts.edge import Secrets, State
from contracts.failures import ADVICE, UNSEALED, FailureCode, NotOursError, PermanentError, TransientError, VaultError
from contracts.limits import (
    CLOCK_SKEW,
    COBBLESTONE_CHUNK,
    COBBLESTONE_HEADER,
    COBBLESTONE_TAG,
    MAX_BLOB,
    MAX_BODY,
    MAX_EXPIRY,
    PART,
    PIECE,
    pieces,
    sealed_size,
)
from contracts.registry import Client, Registry
from tests.vectors.material import EXTERNAL, OWNER, SECRETS, VERIFY_KEY, fixed


def test_every_code_comes_with_advice() -> None:
    """An error says what to do next, whatever it is."""
    assert set(ADVICE) == set(FailureCode)
    assert all(text.strip() and text == text.strip().rstrip(".") for text in ADVICE.values())


def test_only_refusals_may_be_said_unsealed() -> None:
    """Design §5.5: the list is closed; nothing in it says anything about a record."""
    agreed = "invalid_request unauthenticated conflict busy quota_exceeded expired"
    assert {str(code) for code in UNSEALED} == set(agreed.split())


def test_the_codes_are_those_of_the_design() -> None:
    """Design §8: clients of other languages know these names."""
    agreed = (
        "invalid_request unauthenticated not_found blob_too_large conflict expired busy quota_exceeded "
        "store_unavailable upload_lost integrity_failed internal"
    )
    assert [str(code) for code in FailureCode] == agreed.split()


def test_an_error_carries_code_reason_and_advice() -> None:
    """Its text is made of the two fixed names alone."""
    error = PermanentError(FailureCode.CONFLICT, "other_content")
    assert str(error) == "conflict: other_content"
    assert str(TransientError(FailureCode.BUSY)) == "busy"
    assert error.advice == ADVICE[FailureCode.CONFLICT]


def test_errors_are_split_by_what_to_do() -> None:
    """Nothing is both permanent and transient, and what is not ours is permanent."""
    assert not issubclass(PermanentError, TransientError)
    assert not issubclass(TransientError, PermanentError)
    assert issubclass(NotOursError, PermanentError)
    assert issubclass(PermanentError, VaultError)


def test_a_job_ends_once() -> None:
    """These states are terminal and no others."""
    assert {state for state in State if state.terminal} == {State.SUCCEEDED, State.FAILED, State.EXPIRED}


@pytest.mark.parametrize("chunks", [0, 1, 2, 64, 3200])
def test_an_exact_number_of_chunks_gains_an_empty_one(chunks: int) -> None:
    """The last chunk is always short: C2SP chunked-encryption, "Message chunking"."""
    plaintext = chunks * COBBLESTONE_CHUNK
    assert sealed_size(plaintext) == COBBLESTONE_HEADER + plaintext + (chunks + 1) * COBBLESTONE_TAG
    assert sealed_size(plaintext + 1) == sealed_size(plaintext) + 1


def test_a_stream_of_the_largest_blob_travels_in_this_many_messages() -> None:
    """Sealed it is a little more than 50 MiB: 51 pieces, of which the last is short."""
    assert pieces(MAX_BLOB) == 51
    assert pieces(0) == 1
    assert 50 * PIECE < sealed_size(MAX_BLOB) < 51 * PIECE


def test_a_part_fits_into_a_message() -> None:
    """With room for its meta and the seal."""
    assert sealed_size(PART) < MAX_BODY


ALICE = Client(name="alice", client_id=OWNER, verify_key=VERIFY_KEY)
BOB = Client(name="bob", client_id=fixed("bob", 16), verify_key=fixed("bob's key"), operator=True)


def test_clients_are_found_by_name_and_by_id() -> None:
    """The registry file, read back."""
    registry = parse(Registry, encode(Registry(clients=[ALICE, BOB])))
    assert registry.named("alice") == ALICE
    assert registry.owner(BOB.client_id) == BOB
    assert registry.owner(BOB.client_id).operator


def test_nobody_is_found_by_default() -> None:
    """No user id, an unknown name, an unknown owner: unauthenticated, each with its reason."""
    registry = Registry(clients=[ALICE])
    refusals: list[tuple[Callable[[], Client], str]] = [
        (lambda: registry.named(None), "missing_user_id"),
        (lambda: registry.named("bob"), "unknown_client"),
        (lambda: registry.named(""), "unknown_client"),
        (lambda: registry.owner(bytes(16)), "unknown_client"),
    ]
    for lookup, reason in refusals:
        with pytest.raises(PermanentError) as caught:
            lookup()
        assert (caught.value.code, caught.value.reason) == (FailureCode.UNAUTHENTICATED, reason)


@pytest.mark.parametrize("name", ["", "Alice", "svc.gateway", "1st", "a" * 33, "a*", "a.b", "alice\n", "älice"])
def test_a_name_that_is_unsafe_in_a_pattern_is_refused(name: str) -> None:
    """Names stand in routing keys and in the broker's regular expressions."""
    with pytest.raises(ValueError, match="name"):
        Client(name=name, client_id=OWNER, verify_key=VERIFY_KEY)


def test_secrets_do_not_show() -> None:
    """Neither keys nor uuids in the repr of what a client seals."""
    told = Secrets(payload_key=SECRETS.payload_key, reply_key=SECRETS.reply_key, external_uuids=(EXTERNAL,))
    shown = repr(told) + str(told)
    for secret in (told.payload_key, told.reply_key):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown
    assert str(EXTERNAL) not in shown


NOW: Final = 1_800_000_000


# What `gateway.admission` lets through.
@given(
    issued=st.integers(NOW - 2 * MAX_EXPIRY, NOW + CLOCK_SKEW),
    expires=st.integers(NOW + 1, NOW + MAX_EXPIRY + CLOCK_SKEW),
)
def test_an_upload_queue_outlives_every_job_that_is_admitted(issued: int, expires: int) -> None:
    """Whatever its client's clock says; but not by days."""
    kept = int(topology.upload_arguments(1, issued, expires)["x-expires"]) / 1000
    assert expires - NOW <= kept <= MAX_EXPIRY + CLOCK_SKEW
