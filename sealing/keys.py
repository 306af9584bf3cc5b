"""HPKE keys of the Cryptor: MLKEM768-X25519 (X-Wing), and the statement by which clients come to trust them.

A public key is the ML-KEM-768 key (1,184 bytes) followed by the X25519 key (32 bytes); a private key is stored as the
ML-KEM seed (64 bytes) followed by the X25519 key (32 bytes) (docs/format.md §4). Where keys are kept is the caller's
affair.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey, Suite

from contracts.codec import encode, parse
from contracts.edge import KeyStatement
from contracts.failures import FailureCode, NotOursError, PermanentError
from contracts.lp import lp, split_lp

SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
KEYS_LABEL: Final = b"trivault/keys/v1"

MLKEM_SEED: Final = 64  # bytes
MLKEM_PUBLIC: Final = 1184  # bytes
X25519_SIZE: Final = 32  # bytes


@dataclass(frozen=True, slots=True, repr=False)
class HpkeKey:
    """A private key of the Cryptor, with its raw public key and its id."""

    private: MLKEM768X25519PrivateKey
    public: bytes

    @property
    def key_id(self) -> bytes:
        """SHA-256 of the public key: how a request names it."""
        return key_id(self.public)

    @classmethod
    def from_raw(cls, raw: bytes) -> "HpkeKey":
        """Load from the 96 bytes of its stored form.

        Raises:
            ValueError: another length.
        """
        if len(raw) != MLKEM_SEED + X25519_SIZE:
            raise ValueError("an HPKE private key has 96 bytes")
        mlkem = MLKEM768PrivateKey.from_seed_bytes(raw[:MLKEM_SEED])
        x25519 = X25519PrivateKey.from_private_bytes(raw[MLKEM_SEED:])
        public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        return cls(MLKEM768X25519PrivateKey(mlkem, x25519), public)


def generate_raw() -> bytes:
    """Draw a new private key, in its stored form."""
    return MLKEM768PrivateKey.generate().private_bytes_raw() + X25519PrivateKey.generate().private_bytes_raw()


def key_id(public: bytes) -> bytes:
    """SHA-256 of a raw public key."""
    return hashlib.sha256(public).digest()


@lru_cache(maxsize=8)  # one in use, and those before it; reading one costs a fifth of a seal
def public_key(raw: bytes) -> MLKEM768X25519PublicKey:
    """Load a raw public key.

    Raises:
        ValueError: it is not one.
    """
    mlkem = MLKEM768PublicKey.from_public_bytes(raw[:MLKEM_PUBLIC])
    return MLKEM768X25519PublicKey(mlkem, X25519PublicKey.from_public_bytes(raw[MLKEM_PUBLIC:]))


def sign_statement(statement: KeyStatement, identity: Ed25519PrivateKey) -> bytes:
    """LP(statement) LP(signature), as the gateway serves it."""
    told = encode(statement)
    return lp(told, identity.sign(lp(KEYS_LABEL, told)))


def verify_statement(body: bytes, identity: bytes, vault_id: UUID, now: float) -> KeyStatement:
    """Check a key statement against the pinned identity (32 raw bytes), before anything in it is parsed.

    Raises:
        PermanentError: `unauthenticated`, with the reason.
    """
    try:
        told, signature = split_lp(body, 2)
        Ed25519PublicKey.from_public_bytes(identity).verify(signature, lp(KEYS_LABEL, told))
        statement = parse(KeyStatement, told)
    except (ValueError, InvalidSignature, NotOursError):
        raise PermanentError(FailureCode.UNAUTHENTICATED, "key_statement_forged") from None
    if statement.vault_id != vault_id:
        raise PermanentError(FailureCode.UNAUTHENTICATED, "key_statement_of_another_vault")
    if statement.expires_at <= now:
        raise PermanentError(FailureCode.UNAUTHENTICATED, "key_statement_expired")
    return statement
