"""What the stores hold is the standard's format: another implementation reads it, given the DEK and the context."""

import os
import uuid

import pytest

from contracts.lp import lp
from infra.local.stack import Stack
from tests import cobblestone
from tests.acceptance.test_canary import data_id, pieces
from trivault import Profile, Vault

OBJECT_HEADER = 4 + 4 + 32 + 8  # magic, entry count, auth_tag, length (docs/format.md §12)


@pytest.mark.parametrize("size", [0, 16_384, 100_000, 6_000_000])
async def test_an_independent_implementation_reads_a_stored_record(
    stack: Stack, vault: Vault, alice: Profile, size: int
) -> None:
    """Salt ‖ auth_tag ‖ encrypted_data from the real stores, inline, whole and in parts."""
    blob = os.urandom(size)
    external_uuid = await vault.dump(blob)
    _, iv, share, dek = pieces(stack, external_uuid, alice.owner)
    stored = stored_object(stack, external_uuid)
    auth_tag, encrypted_data = stored[8:40], stored[OBJECT_HEADER:]
    context = lp(b"trivault/data/v1", b"\x01", external_uuid.bytes, alice.owner, share)
    assert cobblestone.read(dek, context, iv + auth_tag + encrypted_data) == blob


async def test_three_of_the_four_pieces_yield_nothing(stack: Stack, vault: Vault, alice: Profile) -> None:
    """Without the map row's share there is no context, and the commitment refuses every guess."""
    external_uuid = await vault.dump(b"a record")
    _, iv, _, dek = pieces(stack, external_uuid, alice.owner)
    stored = stored_object(stack, external_uuid)
    context = lp(b"trivault/data/v1", b"\x01", external_uuid.bytes, alice.owner, os.urandom(32))
    with pytest.raises(cobblestone.BadMessageError, match="commitment"):
        cobblestone.read(dek, context, iv + stored[8:40] + stored[OBJECT_HEADER:])


def stored_object(stack: Stack, external_uuid: uuid.UUID) -> bytes:
    """A record's object, from under the DataStore."""
    (path,) = stack.layout.objects.rglob(data_id(stack, external_uuid).hex)
    return path.read_bytes()
