"""HPKE keys and the statement by which clients come to trust them."""

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from contracts.codec import encode
from contracts.failures import FailureCode, PermanentError
from contracts.lp import lp, split_lp
from sealing.keys import KEYS_LABEL, SUITE, HpkeKey, generate_raw, key_id, public_key, sign_statement, verify_statement
from tests.vectors.material import (
    HPKE_RAW,
    IDENTITY,
    IDENTITY_PUBLIC,
    NOW,
    VAULT,
    fixed,
    fixed_uuid,
    hpke_key,
    statement,
)

BODY = sign_statement(statement(), IDENTITY)


def test_a_stored_key_is_read_back_as_the_same_key() -> None:
    """96 bytes in, 1,216 bytes of public key out, named by their SHA-256."""
    raw = generate_raw()
    one, other = HpkeKey.from_raw(raw), HpkeKey.from_raw(raw)
    assert one.public == other.public
    assert (len(raw), len(one.public)) == (96, 1216)
    assert one.key_id == key_id(one.public) == hashlib.sha256(one.public).digest()


@pytest.mark.parametrize("length", [0, 64, 95, 97])
def test_a_stored_key_of_another_length_is_refused(length: int) -> None:
    """A cut file is not a shorter key."""
    with pytest.raises(ValueError, match="96 bytes"):
        HpkeKey.from_raw(bytes(length))


def test_a_malformed_public_key_is_refused() -> None:
    """Too short, too long, or with ML-KEM coefficients out of range."""
    good = hpke_key().public
    for bad in (b"", good[:-1], good + b"\0", b"\xff" * 1184 + good[1184:]):
        with pytest.raises(ValueError, match=r".+"):
            public_key(bad)


def test_a_key_says_nothing_of_itself() -> None:
    """Neither seed nor scalar in its repr."""
    shown = repr(hpke_key())
    assert HPKE_RAW[:8].hex() not in shown
    assert repr(HPKE_RAW[:8])[2:-1] not in shown


def _labelled(prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """RFC 9180 §4, LabeledExpand with HKDF-SHA256; one block is enough here."""
    told = length.to_bytes(2, "big") + b"HPKE-v1" + _SUITE_ID + label + info
    return hmac.digest(prk, told + b"\x01", "sha256")[:length]


def _extracted(salt: bytes, label: bytes, ikm: bytes) -> bytes:
    """RFC 9180 §4, LabeledExtract with HKDF-SHA256."""
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + _SUITE_ID + label + ikm, "sha256")


_SUITE_ID = b"HPKE" + bytes.fromhex("647a 0001 0002")  # MLKEM768-X25519, HKDF-SHA256, AES-256-GCM


def test_another_implementation_of_the_standard_opens_a_seal() -> None:
    """X-Wing and RFC 9180 in base mode, written out from their texts (docs/format.md §4)."""
    seal = SUITE.encrypt(b"secrets", public_key(hpke_key().public), info=b"some info")
    mlkem, x25519 = (
        MLKEM768PrivateKey.from_seed_bytes(HPKE_RAW[:64]),
        X25519PrivateKey.from_private_bytes(HPKE_RAW[64:]),
    )
    first, point, body = seal[:1088], seal[1088:1120], seal[1120:]
    agreed = mlkem.decapsulate(first) + x25519.exchange(X25519PublicKey.from_public_bytes(point))
    public = x25519.public_key().public_bytes_raw()
    shared = hashlib.sha3_256(agreed + point + public + rb"\.//^" + b"\\").digest()
    schedule = b"\x00" + _extracted(b"", b"psk_id_hash", b"") + _extracted(b"", b"info_hash", b"some info")
    secret = _extracted(shared, b"secret", b"")
    key, nonce = _labelled(secret, b"key", schedule, 32), _labelled(secret, b"base_nonce", schedule, 12)
    assert AESGCM(key).decrypt(nonce, body, b"") == b"secrets"


def test_a_statement_is_believed() -> None:
    """Signed by the pinned identity, of this vault, in time."""
    assert verify_statement(BODY, IDENTITY_PUBLIC, VAULT, NOW) == statement()


def _refused(body: bytes, now: float = NOW) -> str:
    with pytest.raises(PermanentError) as caught:
        verify_statement(body, IDENTITY_PUBLIC, VAULT, now)
    assert caught.value.code is FailureCode.UNAUTHENTICATED
    return caught.value.reason


def test_a_statement_that_another_identity_signed_is_forged() -> None:
    """A gateway that offers a key of its own."""
    mallory = Ed25519PrivateKey.generate()
    assert _refused(sign_statement(statement(), mallory)) == "key_statement_forged"


def test_a_statement_with_its_key_replaced_is_forged() -> None:
    """The signature of one statement does not serve another."""
    told, signature = split_lp(BODY, 2)
    mine = encode(statement(hpke_keys=[HpkeKey.from_raw(generate_raw()).public]))
    assert _refused(lp(mine, signature)) == "key_statement_forged"
    assert _refused(lp(told, signature[:-1] + bytes([signature[-1] ^ 1]))) == "key_statement_forged"


def test_a_statement_in_another_shape_is_forged() -> None:
    """Truncated, extended, empty, unlabelled, or properly signed nonsense."""
    told, signature = split_lp(BODY, 2)
    unlabelled = lp(told, IDENTITY.sign(told))
    nonsense = [lp(each, IDENTITY.sign(lp(KEYS_LABEL, each))) for each in (b"", b"{}", told[:-1])]
    short = lp(told, signature[:-1])
    for body in [b"", BODY[:-1], BODY + b"\0", BODY[:7], unlabelled, short, *nonsense]:
        assert _refused(body) == "key_statement_forged"


def test_a_statement_of_another_vault_is_refused() -> None:
    """One identity may sign for several vaults; a client is enrolled with one."""
    body = sign_statement(statement(vault_id=fixed_uuid("another vault")), IDENTITY)
    assert _refused(body) == "key_statement_of_another_vault"


def test_an_expired_statement_is_refused() -> None:
    """To the second: a replayed old statement would name a key that may have been stolen since."""
    expires = statement().expires_at
    assert verify_statement(BODY, IDENTITY_PUBLIC, VAULT, expires - 0.001) == statement()
    assert _refused(BODY, expires) == "key_statement_expired"


def test_a_statement_without_a_key_or_with_a_short_one_cannot_be_made() -> None:
    """The model refuses what no client could use."""
    for keys in ([], [fixed("short", 1215)]):
        with pytest.raises(ValueError, match="hpke_keys"):
            statement(hpke_keys=keys)
