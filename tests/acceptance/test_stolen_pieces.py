"""Promise 2, executed: of what a record needs, a thief takes every possible part, and reads it only with all of it.

The thief is given for nothing what is no secret: formats, suite, owner and external_uuid. What he lacks he guesses. He
works on what lies in the real stores and ignores every tag and commitment: those are there to protect others from him.
"""

import os
import secrets
from dataclasses import asdict, dataclass, replace
from itertools import combinations

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from contracts.lp import lp
from infra.local.stack import Stack
from tests import cobblestone
from tests.acceptance.test_canary import pieces
from tests.acceptance.test_interop import OBJECT_HEADER, stored_object
from trivault import Profile, Vault
from workers.cryptor.core.keys import KEK_ID, Keyring

SUITE = b"\x01"
BLOB = os.urandom(20_000)

# What lies where.
PLACES: dict[str, tuple[str, ...]] = {
    "KeyStore": ("key", "iv"),
    "DataStore": ("encrypted_data",),
    "MapStore": ("map_share",),
    "KEK": ("kek",),
}
THEFTS = [stolen for count in range(len(PLACES) + 1) for stolen in combinations(PLACES, count)]


def keystream(aes_key: bytes, nonce: bytes, data: bytes) -> bytes:
    """What AES-GCM decrypts to, whatever its tag says: counter mode from 2 on (SP 800-38D §7.2)."""
    return Cipher(AES(aes_key), CTR(nonce + b"\0\0\0\2")).decryptor().update(data)


def force(key: bytes, context: bytes, salt: bytes, chunks: bytes) -> bytes:
    """Decrypt a stream without its commitment and its tags."""
    aes_key, base, _ = cobblestone.derive(key, salt, context)
    step = cobblestone.CHUNK + cobblestone.TAG
    opened = [
        keystream(
            aes_key, cobblestone.chunk_nonce(base, start // step), chunks[start : start + step][: -cobblestone.TAG]
        )
        for start in range(0, len(chunks), step)
    ]
    return b"".join(opened)


@dataclass(frozen=True)
class Pieces:
    """Everything secret that a record is made of."""

    key: bytes
    iv: bytes
    encrypted_data: bytes
    map_share: bytes
    kek: bytes

    def force(self, external_uuid: bytes, owner: bytes) -> bytes:
        """Decrypt DEK and data, as docs/format.md §9 and §10 have them, come what may."""
        kek_id, salt, chunks = self.key[:KEK_ID], self.key[KEK_ID:][:24], self.key[KEK_ID + cobblestone.HEADER :]
        dek = force(self.kek, lp(b"trivault/kek/v1", SUITE, owner, kek_id, self.iv), salt, chunks)
        context = lp(b"trivault/data/v1", SUITE, external_uuid, owner, self.map_share)
        return force(dek, context, self.iv, self.encrypted_data)


@pytest.fixture(scope="module")
async def record(stack: Stack, vault: Vault, alice: Profile) -> tuple[bytes, Pieces]:
    """A record of Alice's: its external_uuid, and its pieces from under the stores and out of the keyring."""
    external_uuid = await vault.dump(BLOB)
    key, iv, map_share, _ = pieces(stack, external_uuid, alice.owner)
    kek = Keyring.from_file(stack.secrets.keyring).keks[key[:KEK_ID]]
    return external_uuid.bytes, Pieces(key, iv, stored_object(stack, external_uuid)[OBJECT_HEADER:], map_share, kek)


@pytest.mark.parametrize("stolen", THEFTS, ids=lambda stolen: "+".join(stolen) or "nothing")
async def test_only_all_four_together_read_a_record(
    record: tuple[bytes, Pieces], alice: Profile, stolen: tuple[str, ...]
) -> None:
    """Every subset of the three stores and the KEK."""
    external_uuid, whole = record
    lacking = [name for place, names in PLACES.items() if place not in stolen for name in names]
    loot = replace(whole, **{name: secrets.token_bytes(len(asdict(whole)[name])) for name in lacking})
    read = loot.force(external_uuid, alice.owner)
    if len(stolen) == len(PLACES):
        assert read == BLOB
    else:
        assert not any(read[at : at + 8] == BLOB[at : at + 8] for at in range(0, len(BLOB), 8))


def test_aad_alone_would_not_have_needed_the_map() -> None:
    """Why external_uuid is in the key derivation (docs/questions.md, question 3): who ignores the tag needs no AAD."""
    key, iv, external_uuid = os.urandom(32), os.urandom(12), os.urandom(16)
    sealed = AESGCM(key).encrypt(iv, BLOB, external_uuid)
    assert keystream(key, iv, sealed[: -cobblestone.TAG]) == BLOB
