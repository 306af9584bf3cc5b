"""A second reader of HPKE with MLKEM768-X25519, written from RFC 9180 and the X-Wing draft alone (docs/format.md §4).

It shares nothing with `cryptography.hazmat.primitives.hpke` but the primitives, and exists to show that what clients
seal is the standard's format, and to name every value in between for who writes another implementation.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

CIPHERTEXT: Final = 1088  # bytes of ML-KEM-768
ENCAPSULATED: Final = CIPHERTEXT + 32
SUITE_ID: Final = b"HPKE" + bytes.fromhex("647a 0001 0002")
XWING_LABEL: Final = bytes.fromhex("5c2e2f2f5e5c")  # \.//^\ as the draft draws it


@dataclass(frozen=True, slots=True)
class Opened:
    """What a seal holds, and the values on the way to it."""

    mlkem_secret: bytes
    x25519_secret: bytes
    shared_secret: bytes
    key: bytes
    base_nonce: bytes
    plaintext: bytes


def expand_seed(seed: bytes) -> bytes:
    """X-Wing's own private key (32 bytes) as trivault stores it: d ‖ z ‖ X25519 private key."""
    return hashlib.shake_256(seed).digest(96)


def _extract(salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return HKDF.extract(hashes.SHA256(), salt or bytes(32), b"HPKE-v1" + SUITE_ID + label + ikm)


def _expand(secret: bytes, label: bytes, info: bytes, size: int) -> bytes:
    labelled = size.to_bytes(2, "big") + b"HPKE-v1" + SUITE_ID + label + info
    return HKDFExpand(hashes.SHA256(), size, labelled).derive(secret)


def key_schedule(shared_secret: bytes, info: bytes) -> tuple[bytes, bytes]:
    """Key and nonce of the one message (RFC 9180 §5.1, mode_base)."""
    context = b"\x00" + _extract(b"", b"psk_id_hash", b"") + _extract(b"", b"info_hash", info)
    secret = _extract(shared_secret, b"secret", b"")
    return _expand(secret, b"key", context, 32), _expand(secret, b"base_nonce", context, 12)


def open_seal(private: bytes, info: bytes, sealed: bytes) -> Opened:
    """Open a seal with the stored form of a private key.

    Raises:
        InvalidTag: it does not open.
    """
    mlkem, x25519 = MLKEM768PrivateKey.from_seed_bytes(private[:64]), X25519PrivateKey.from_private_bytes(private[64:])
    ciphertext, ephemeral = sealed[:CIPHERTEXT], sealed[CIPHERTEXT:ENCAPSULATED]
    first = mlkem.decapsulate(ciphertext)
    second = x25519.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    own = x25519.public_key().public_bytes_raw()
    shared = hashlib.sha3_256(first + second + ephemeral + own + XWING_LABEL).digest()
    key, nonce = key_schedule(shared, info)
    return Opened(first, second, shared, key, nonce, AESGCM(key).decrypt(nonce, sealed[ENCAPSULATED:], b""))
