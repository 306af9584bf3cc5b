"""Fixed keys, ids and times. Worthless outside of tests: every byte follows from the name beside it."""

import hashlib
from functools import cache
from typing import Any, Final
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.edge import SUITE, VERSION, Head, KeyStatement, Op, Secrets, Transfer
from contracts.stores import Row, RowState
from messaging.link import LinkKeys
from sealing.client import reply_key, request_tag
from sealing.keys import HpkeKey
from tests import cobblestone
from workers.cryptor.core.keys import Dek, Keyring

NOW: Final = 1_800_000_000  # unix time, seconds
BLOB: Final = b"penicillin: severe allergy"
BLOB_SHA256: Final = hashlib.sha256(BLOB).digest()


def fixed(name: str, size: int = 32) -> bytes:
    """`size` bytes that follow from a name."""
    return hashlib.shake_256(name.encode()).digest(size)


def fixed_uuid(name: str) -> UUID:
    """A UUIDv4 that follows from a name."""
    return UUID(bytes=fixed(name, 16), version=4)


def stream(key: bytes, context: bytes, plaintext: bytes, salt: str) -> bytes:
    """A sealed stream whose salt follows from a name."""
    return cobblestone.write(key, context, fixed(f"salt of {salt}", cobblestone.SALT), plaintext)


def flip(data: bytes, at: int) -> bytes:
    """The same bytes but for one bit of byte `at`."""
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


OWNER: Final = fixed("client id", 16)
JOB: Final = fixed_uuid("job")
VAULT: Final = fixed_uuid("vault")
CLIENT_SECRET: Final = fixed("client secret")
SIGNING_KEY: Final = Ed25519PrivateKey.from_private_bytes(fixed("client signing key"))
VERIFY_KEY: Final = SIGNING_KEY.public_key().public_bytes_raw()
IDENTITY: Final = Ed25519PrivateKey.from_private_bytes(fixed("vault identity"))
IDENTITY_PUBLIC: Final = IDENTITY.public_key().public_bytes_raw()
TAG: Final = request_tag(CLIENT_SECRET, Op.DUMP, JOB, len(BLOB), BLOB_SHA256)
HPKE_RAW: Final = fixed("hpke key", 96)
DEK: Final = Dek(fixed("dek"))
MAP_SHARE: Final = fixed("map share")
EXTERNAL: Final = fixed_uuid("external")
KEYRING: Final = Keyring(
    fixed("kek 2 id", 4),
    {fixed("kek 1 id", 4): fixed("kek 1"), fixed("kek 2 id", 4): fixed("kek 2")},
    2,
    {1: fixed("map mac key 1"), 2: fixed("map mac key 2")},
)
LINK: Final = LinkKeys("cryptor-keystore", 2, {1: fixed("link key 1"), 2: fixed("link key 2")})
SECRETS: Final = Secrets(payload_key=fixed("payload key"), reply_key=reply_key(CLIENT_SECRET, JOB))


@cache
def hpke_key() -> HpkeKey:
    """The Cryptor's HPKE key."""
    return HpkeKey.from_raw(HPKE_RAW)


def head(**changed: Any) -> Head:
    """The head of a dump of `BLOB`, with some fields changed."""
    told: dict[str, Any] = {
        "version": VERSION,
        "suite": SUITE,
        "vault_id": VAULT,
        "op": Op.DUMP,
        "client_id": OWNER,
        "job_id": JOB,
        "size": len(BLOB),
        "items": 1,
        "transfer": Transfer.INLINE,
        "key_id": hpke_key().key_id,
        "issued_at": NOW,
        "expires_at": NOW + 3600,
        "request_tag": TAG,
    }
    return Head(**(told | changed))


def statement(**changed: Any) -> KeyStatement:
    """A statement of the vault's HPKE key, with some fields changed."""
    told: dict[str, Any] = {
        "vault_id": VAULT,
        "hpke_keys": [hpke_key().public],
        "issued_at": NOW,
        "expires_at": NOW + 86_400,
    }
    return KeyStatement(**(told | changed))


def live_row() -> Row:
    """A MapStore row of a record; its MAC is still to be computed."""
    return Row(
        owner=OWNER,
        job_id=JOB,
        item=0,
        state=RowState.LIVE,
        external_uuid=EXTERNAL,
        data_store_uuid=fixed_uuid("data store"),
        key_store_uuid=fixed_uuid("key store"),
        map_share=MAP_SHARE,
        request_tag=TAG,
        size=len(BLOB),
        suite=SUITE,
        mac_key=1,
        mac=bytes(32),
    )


def aborted_row() -> Row:
    """A MapStore row of an item that never became a record; its MAC is still to be computed."""
    return Row(
        owner=OWNER,
        job_id=JOB,
        item=0,
        state=RowState.ABORTED,
        request_tag=TAG,
        size=0,
        suite=SUITE,
        mac_key=1,
        mac=bytes(32),
    )
