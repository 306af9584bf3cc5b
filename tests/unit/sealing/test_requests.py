"""Requests: what a gateway, a broker or another client might do to one, and that it is refused."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.codec import encode
from contracts.edge import Op, Secrets, Transfer
from contracts.envelope import MAX_HEAD, MAX_SEAL, Envelope, split_envelope
from contracts.failures import FailureCode, NotOursError, PermanentError
from contracts.lp import lp, split_lp
from sealing.keys import SUITE as HPKE
from sealing.keys import HpkeKey, generate_raw, public_key
from sealing.requests import (
    PAYLOAD_LABEL,
    REQUEST_LABEL,
    SEAL_LABEL,
    SealedRequest,
    build,
    digest,
    open_seal,
    payload_context,
    verify,
)
from tests.vectors.material import BLOB, SECRETS, SIGNING_KEY, VERIFY_KEY, fixed, fixed_uuid, head, hpke_key


@pytest.fixture(scope="module")
def request_of_alice() -> SealedRequest:
    """One dump."""
    return build(head(), SECRETS, hpke_key().public, SIGNING_KEY)


def _split(request: SealedRequest, payload: bytes = BLOB) -> Envelope:
    return split_envelope(request.prefix + payload)


def _changed(envelope: Envelope, **parts: bytes) -> Envelope:
    told = {"head": envelope.head, "seal": envelope.seal, "signature": envelope.signature} | parts
    return Envelope(told["head"], told["seal"], told["signature"], envelope.payload)


def test_a_request_is_verified_and_opened(request_of_alice: SealedRequest) -> None:
    """Head, secrets, payload and R arrive as they were sent, and the gateway can pass the prefix on unchanged."""
    envelope = _split(request_of_alice)
    assert verify(envelope, VERIFY_KEY) == head()
    assert open_seal(envelope, hpke_key()) == SECRETS
    assert bytes(envelope.payload) == BLOB
    assert digest(envelope.head, envelope.seal) == request_of_alice.digest
    assert envelope.prefix() == request_of_alice.prefix


def test_no_two_requests_are_alike() -> None:
    """The same dump twice: other seals, other digests, so nothing bound to one fits the other."""
    one, other = (build(head(), SECRETS, hpke_key().public, SIGNING_KEY) for _ in range(2))
    assert one.digest != other.digest
    assert payload_context(one.digest) != payload_context(other.digest)


def test_secrets_are_not_in_the_envelope(request_of_alice: SealedRequest) -> None:
    """Neither raw nor in hexadecimal."""
    for secret in (SECRETS.payload_key, SECRETS.reply_key):
        assert secret not in request_of_alice.prefix
        assert secret.hex().encode() not in request_of_alice.prefix


def _other_client(envelope: Envelope) -> Envelope:
    return _changed(envelope, head=encode(head(client_id=fixed("mallory", 16))))


def _later_expiry(envelope: Envelope) -> Envelope:
    return _changed(envelope, head=encode(head(expires_at=head().expires_at + 1)))


def _same_head_in_other_bytes(envelope: Envelope) -> Envelope:
    return _changed(envelope, head=envelope.head.replace(b'":', b'": '))


def _seal_of_another_request(envelope: Envelope) -> Envelope:
    other = split_envelope(build(head(), SECRETS, hpke_key().public, SIGNING_KEY).prefix)
    return _changed(envelope, seal=other.seal)


def _signature_of_another_request(envelope: Envelope) -> Envelope:
    other = split_envelope(build(head(), SECRETS, hpke_key().public, SIGNING_KEY).prefix)
    return _changed(envelope, signature=other.signature)


def _border_moved(envelope: Envelope) -> Envelope:
    """The same concatenation, cut elsewhere: without length prefixes this would verify."""
    return _changed(envelope, head=envelope.head + envelope.seal[:1], seal=envelope.seal[1:])


def _signed_without_label(envelope: Envelope) -> Envelope:
    return _changed(envelope, signature=SIGNING_KEY.sign(lp(envelope.head, envelope.seal)))


def _bit_of_signature(envelope: Envelope) -> Envelope:
    return _changed(envelope, signature=envelope.signature[:-1] + bytes([envelope.signature[-1] ^ 1]))


def _no_signature(envelope: Envelope) -> Envelope:
    return _changed(envelope, signature=bytes(64))


@pytest.mark.parametrize(
    "attack",
    [
        _other_client,
        _later_expiry,
        _same_head_in_other_bytes,
        _seal_of_another_request,
        _signature_of_another_request,
        _border_moved,
        _signed_without_label,
        _bit_of_signature,
        _no_signature,
    ],
)
def test_an_altered_request_is_unauthenticated(
    request_of_alice: SealedRequest, attack: Callable[[Envelope], Envelope]
) -> None:
    """Nothing in head, seal or signature can be changed by who does not hold the client's key."""
    with pytest.raises(PermanentError) as caught:
        verify(attack(_split(request_of_alice)), VERIFY_KEY)
    assert (caught.value.code, caught.value.reason) == (FailureCode.UNAUTHENTICATED, "wrong_signature")


def test_another_clients_key_verifies_nothing(request_of_alice: SealedRequest) -> None:
    """A request speaks for whom signed it, whatever its head says."""
    with pytest.raises(PermanentError, match="wrong_signature"):
        verify(_split(request_of_alice), Ed25519PrivateKey.generate().public_key().public_bytes_raw())


def test_a_head_is_not_parsed_before_it_is_verified() -> None:
    """Bytes that are no head are refused for their signature: the parser never sees them."""
    with pytest.raises(PermanentError, match="wrong_signature"):
        verify(split_envelope(lp(b"\xff not JSON", b"seal", bytes(64))), VERIFY_KEY)


def test_a_signed_head_that_is_malformed_is_refused() -> None:
    """A client may sign nonsense; it is still nonsense."""
    for nonsense in (b"{}", b"[]", encode(head()).replace(b'"items":1', b'"items":1,"admin":true')):
        signature = SIGNING_KEY.sign(lp(REQUEST_LABEL, nonsense, b"seal"))
        with pytest.raises(NotOursError):
            verify(split_envelope(lp(nonsense, b"seal", signature)), VERIFY_KEY)


def test_a_seal_opens_under_its_own_head_only() -> None:
    """A client that signs somebody else's seal under a head of its own does not get it opened."""
    stolen = split_envelope(build(head(), SECRETS, hpke_key().public, SIGNING_KEY).prefix)
    mine = encode(head(client_id=fixed("mallory", 16)))
    envelope = _changed(stolen, head=mine)
    with pytest.raises(PermanentError) as caught:
        open_seal(envelope, hpke_key())
    assert (caught.value.code, caught.value.reason) == (FailureCode.INVALID_REQUEST, "wrong_seal")


def test_a_seal_does_not_open_with_another_key(request_of_alice: SealedRequest) -> None:
    """Another Cryptor key, a newer one say, is refused with the same error."""
    with pytest.raises(PermanentError, match="wrong_seal"):
        open_seal(_split(request_of_alice), HpkeKey.from_raw(generate_raw()))


def test_a_damaged_seal_does_not_open(request_of_alice: SealedRequest) -> None:
    """Each part of it flipped (ML-KEM, X25519, AEAD, tag), cut anywhere, extended, or replaced by zeros."""
    envelope = _split(request_of_alice)
    seal = envelope.seal
    flipped = [seal[:at] + bytes([seal[at] ^ 1]) + seal[at + 1 :] for at in (0, 1087, 1088, 1119, 1120, len(seal) - 1)]
    cut = [seal[:length] for length in (0, 5, 1088, 1119, 1120, 1135, 1136, len(seal) - 1)]
    no_point = [seal[:1088] + bytes(32) + seal[1120:], bytes(len(seal))]  # X25519's point of low order
    for bad in [*flipped, *cut, *no_point, seal + b"\0"]:
        with pytest.raises(PermanentError, match="wrong_seal"):
            open_seal(_changed(envelope, seal=bad), hpke_key())


def test_sealed_nonsense_is_refused() -> None:
    """What a client seals is parsed as strictly as everything else, and refused without being quoted."""
    told = encode(head())
    for nonsense in (b"", b"{}", b'{"payload_key":"canary"}'):
        seal = HPKE.encrypt(nonsense, public_key(hpke_key().public), info=lp(SEAL_LABEL, told))
        with pytest.raises(NotOursError) as caught:
            open_seal(Envelope(told, seal, bytes(64), memoryview(b"")), hpke_key())
        assert "canary" not in str(caught.value)


def test_an_envelope_is_split_strictly(request_of_alice: SealedRequest) -> None:
    """Truncated anywhere within the three fields, it is refused; what follows them is the payload."""
    prefix = request_of_alice.prefix
    for length in (0, 3, 4, 100, len(prefix) - 65, len(prefix) - 1):
        with pytest.raises(NotOursError, match="malformed_envelope"):
            split_envelope(prefix[:length])
    assert bytes(split_envelope(prefix + b"trailing").payload) == b"trailing"


@pytest.mark.parametrize(
    ("head_size", "seal_size", "signature_size"),
    [(MAX_HEAD + 1, 10, 64), (10, MAX_SEAL + 1, 64), (10, 10, 63), (10, 10, 65), (10, 10, 0)],
)
def test_an_envelope_with_a_part_of_the_wrong_size_is_refused(
    head_size: int, seal_size: int, signature_size: int
) -> None:
    """Parts are bounded before anybody looks into them."""
    with pytest.raises(NotOursError, match="malformed_envelope"):
        split_envelope(lp(bytes(head_size), bytes(seal_size), bytes(signature_size)))


def test_the_largest_legal_parts_pass() -> None:
    """The bounds are inclusive."""
    envelope = split_envelope(lp(bytes(MAX_HEAD), bytes(MAX_SEAL), bytes(64)))
    assert (len(envelope.head), len(envelope.seal)) == (MAX_HEAD, MAX_SEAL)


def test_a_request_for_ten_thousand_records_fits() -> None:
    """`MAX_SEAL` holds what it was argued to hold."""
    every = tuple(fixed_uuid(f"record {number}") for number in range(10_000))
    secrets = Secrets(payload_key=bytes(32), reply_key=bytes(32), external_uuids=every)
    request = build(
        head(op=Op.LOAD, items=10_000, size=2**62, transfer=Transfer.UPLOAD), secrets, hpke_key().public, SIGNING_KEY
    )
    envelope = split_envelope(request.prefix)
    assert open_seal(envelope, hpke_key()).external_uuids == every
    assert len(envelope.head) < 1024


def test_labels_differ() -> None:
    """Nothing that is signed or derived for one purpose serves another, even with equal fields."""
    contexts = {lp(label, b"same") for label in (REQUEST_LABEL, SEAL_LABEL, PAYLOAD_LABEL)}
    assert len(contexts) == 3
    assert split_lp(payload_context(b"R"), 2) == [PAYLOAD_LABEL, b"R"]
