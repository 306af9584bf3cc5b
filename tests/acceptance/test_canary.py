"""Promise 1 and 2: plaintext and data keys are nowhere but in the client's and the Cryptor's memory.

A record of random bytes is dumped and loaded; then everything that the stores, the gateway and the broker wrote (data
files, write-ahead logs, logs, dead letters) is searched for it, and for its DEK, raw, hex and base64. The same search
finds what must be there, and what a test plants: it could not miss the canary if it were there.
"""

import base64
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local.stack import Stack
from trivault import Profile, Vault
from workers.cryptor.core.keys import Keyring

WINDOW = 32  # bytes of a secret that count as a find; less would be chance, more could straddle a page
CHUNK = 1 << 24


def needles(secret: bytes) -> list[bytes]:
    """How 32 bytes may appear, or the middle of something longer."""
    at = (len(secret) - WINDOW) // 2
    piece = secret[at : at + WINDOW]
    # base64 aligns to three bytes: drop what depends on the neighbours, in each of the three alignments.
    encoded = [base64.b64encode(bytes(shift) + piece)[4:-4] for shift in range(3)]
    return [piece, piece.hex().encode(), piece.hex().upper().encode(), *encoded]


def written(stack: Stack) -> Iterator[Path]:
    """Every file below the stack's folders, but for what belongs to the client and the Cryptor's keyring."""
    for folder in (stack.layout.root, stack.layout.runtime):
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_relative_to(stack.layout.root / "clients"):
                yield path


def search(stack: Stack, *secrets: bytes) -> list[Path]:
    """Files that contain any of the secrets in any form."""
    wanted = [needle for secret in secrets for needle in needles(secret)]
    return [path for path in written(stack) if contains(path, wanted)]


def contains(path: Path, wanted: list[bytes]) -> bool:
    """Whether a file contains any of these, read in overlapping chunks."""
    overlap = max(map(len, wanted))
    tail = b""
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                if any(needle in tail + chunk for needle in wanted):
                    return True
                tail = chunk[-overlap:]
    except FileNotFoundError:  # the broker deletes segments as we go
        return False
    return False


@pytest.mark.parametrize("size", [4_000, 700_000])
async def test_neither_record_nor_key_is_written_anywhere(stack: Stack, newcomer: Profile, size: int) -> None:
    """A canary goes through the vault and leaves no trace, while its ciphertext is found."""
    canary = os.urandom(size)
    async with Vault.open(newcomer) as vault:
        external_uuid = await vault.dump(canary)
        assert await vault.load(external_uuid) == canary
    key, iv, share, dek = pieces(stack, external_uuid, newcomer.owner)
    flush(stack)
    assert search(stack, canary, dek) == []
    # The search works: what the stores must hold is found, where it must be and in more than one form.
    assert any(path.is_relative_to(stack.layout.postgres) for path in search(stack, key))
    assert any(path.is_relative_to(stack.layout.postgres) for path in search(stack, share))
    (stored,) = stack.layout.objects.rglob(f"{data_id(stack, external_uuid).hex}*")
    assert stored in search(stack, stored.read_bytes())
    assert len(iv) == 24


@pytest.mark.parametrize(
    "encode", [bytes, lambda raw: raw.hex().encode(), base64.b64encode], ids=["raw", "hex", "base64"]
)
async def test_the_search_finds_a_planted_canary(stack: Stack, encode: object) -> None:
    """In a log file, in any form, at any alignment."""
    canary = os.urandom(4_001)
    for shift in range(3):
        planted = stack.layout.logs / f"planted-{shift}.log"
        planted.write_bytes(b'{"message": "' + b"x" * shift + encode(canary[shift:]) + b'"}\n')  # type: ignore[operator]  # one of three functions
        try:
            assert search(stack, canary) == [planted]
        finally:
            planted.unlink()


def flush(stack: Stack) -> None:
    """Have PostgreSQL write what it holds in memory; the broker's queues are empty by now, their logs are not."""
    for name in ("gateway", "keystore", "mapstore"):
        stack.psql(name, "CHECKPOINT")


def data_id(stack: Stack, external_uuid: uuid.UUID) -> uuid.UUID:
    """A record's data_store_uuid, from under MapStore."""
    query = f"SELECT data_store_uuid FROM map WHERE external_uuid = '{external_uuid}'"  # noqa: S608 - our own uuid
    return uuid.UUID(stack.psql("mapstore", query))


def pieces(stack: Stack, external_uuid: uuid.UUID, owner: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Wrapped key, iv, map_share and DEK of a record, from under the stores and through the keyring."""
    query = f"SELECT key_store_uuid, map_share FROM map WHERE external_uuid = '{external_uuid}'"  # noqa: S608 - our own uuid
    key_id, share = stack.psql("mapstore", query).split("|")
    row = stack.psql("keystore", f"SELECT key, iv FROM keys WHERE key_store_uuid = '{key_id}'")  # noqa: S608 - our own uuid
    key, iv = (bytes.fromhex(column.removeprefix("\\x")) for column in row.split("|"))
    keyring = Keyring.from_file(stack.secrets.of("cryptor") / "keyring.json")
    dek = keyring.unwrap(key, owner, iv).secret
    return key, iv, bytes.fromhex(share.removeprefix("\\x")), dek
