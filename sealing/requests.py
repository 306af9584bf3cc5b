"""Requests: a head that everybody may read, secrets sealed to the Cryptor, a signature over both (docs/format.md §5).

The signature is verified over the bytes as sent, before the head is parsed; the head is bound into the seal as its
`info`. `digest` (R) names one request for ever: payload, load answers and downloads are bound to it.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from contracts.codec import encode, parse
from contracts.edge import Head, Secrets
from contracts.envelope import Envelope
from contracts.failures import FailureCode, PermanentError
from contracts.lp import lp
from sealing.keys import SUITE, HpkeKey, public_key

REQUEST_LABEL: Final = b"trivault/request/v1"
SEAL_LABEL: Final = b"trivault/seal/v1"
PAYLOAD_LABEL: Final = b"trivault/payload/v1"


def _signed(head: bytes, seal: bytes) -> bytes:
    return lp(REQUEST_LABEL, head, seal)


def digest(head: bytes, seal: bytes) -> bytes:
    """R: SHA-256 of the signed bytes."""
    return hashlib.sha256(_signed(head, seal)).digest()


def payload_context(request_digest: bytes) -> bytes:
    """The context of a request's payload stream, under its `payload_key`."""
    return lp(PAYLOAD_LABEL, request_digest)


@dataclass(frozen=True, slots=True)
class SealedRequest:
    """A request ready to be sent: the envelope without its payload, and R."""

    prefix: bytes
    digest: bytes


def build(head: Head, secrets: Secrets, hpke_public: bytes, signing_key: Ed25519PrivateKey) -> SealedRequest:
    """Seal `secrets` to the Cryptor's raw HPKE public key and sign.

    Raises:
        ValueError: the public key is malformed.
    """
    told = encode(head)
    seal = SUITE.encrypt(encode(secrets), public_key(hpke_public), info=lp(SEAL_LABEL, told))
    signature = signing_key.sign(_signed(told, seal))
    return SealedRequest(lp(told, seal, signature), digest(told, seal))


def verify(envelope: Envelope, verify_key: bytes) -> Head:
    """Verify the client's signature, then parse the head.

    Args:
        envelope: as split from the message.
        verify_key: the client's Ed25519 public key, 32 raw bytes.

    Raises:
        PermanentError: `unauthenticated`, `wrong_signature`; or `invalid_request` for a signed head that is malformed.
    """
    try:
        Ed25519PublicKey.from_public_bytes(verify_key).verify(envelope.signature, _signed(envelope.head, envelope.seal))
    except InvalidSignature:
        raise PermanentError(FailureCode.UNAUTHENTICATED, "wrong_signature") from None
    return parse(Head, envelope.head)


def open_seal(envelope: Envelope, key: HpkeKey) -> Secrets:
    """Open the seal of a verified envelope.

    Raises:
        PermanentError: `invalid_request`, `wrong_seal`.
    """
    try:
        told = SUITE.decrypt(envelope.seal, key.private, info=lp(SEAL_LABEL, envelope.head))
    except (InvalidTag, ValueError):
        raise PermanentError(FailureCode.INVALID_REQUEST, "wrong_seal") from None
    return parse(Secrets, told)
