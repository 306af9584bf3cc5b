"""A second reader of Cobblestone-256, written from the standard alone (https://c2sp.org/chunked-encryption).

It shares nothing with `cryptography.cobblestone` but AES-256-GCM and HKDF-Expand, reads whole messages in memory, and
exists to show that what trivault stores is the standard's format and not merely what one library reads back.
"""

import hmac
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

SALT: Final = 24
COMMITMENT: Final = 32
HEADER: Final = SALT + COMMITMENT
CHUNK: Final = 16 * 1024  # bytes of plaintext
TAG: Final = 16
INFO: Final = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"


class BadMessageError(Exception):
    """The message does not open; the text says at which rule of the standard."""


def derive(key: bytes, salt: bytes, context: bytes) -> tuple[bytes, bytes, bytes]:
    """Key derivation: the AES key (32 bytes), the base nonce (12) and the commitment (32)."""
    told = HKDFExpand(hashes.SHA512(), 32 + 12 + COMMITMENT, INFO + salt + context).derive(key)
    return told[:32], told[32:44], told[44:]


def chunk_nonce(base: bytes, number: int) -> bytes:
    """AEAD usage: the base nonce XOR the chunk number, big-endian, as wide as the nonce."""
    return (int.from_bytes(base, "big") ^ number).to_bytes(12, "big")


def read(key: bytes, context: bytes, message: bytes) -> bytes:
    """Decrypt salt, commitment and chunks.

    Raises:
        BadMessageError: `header`, `commitment`, `truncated`.
        InvalidTag: a chunk was altered.
    """
    if len(message) < HEADER:
        raise BadMessageError("header")
    salt, commitment, chunks = message[:SALT], message[SALT:HEADER], message[HEADER:]
    aes_key, base, expected = derive(key, salt, context)
    if not hmac.compare_digest(commitment, expected):
        raise BadMessageError("commitment")
    last, left = divmod(len(chunks), CHUNK + TAG)
    if left < TAG:
        raise BadMessageError("truncated")
    aead = AESGCM(aes_key)
    starts = (number * (CHUNK + TAG) for number in range(last + 1))
    return b"".join(
        aead.decrypt(chunk_nonce(base, number), chunks[start : start + CHUNK + TAG], None)
        for number, start in enumerate(starts)
    )


def write(key: bytes, context: bytes, salt: bytes, plaintext: bytes) -> bytes:
    """Encrypt with a given salt, which only tests may choose."""
    aes_key, base, commitment = derive(key, salt, context)
    aead = AESGCM(aes_key)
    count = len(plaintext) // CHUNK + 1
    chunks = (
        aead.encrypt(chunk_nonce(base, number), plaintext[number * CHUNK : (number + 1) * CHUNK], None)
        for number in range(count)
    )
    return salt + commitment + b"".join(chunks)
