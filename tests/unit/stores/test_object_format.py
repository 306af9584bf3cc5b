"""The bytes of an object: fixed vectors, and every way to damage a header."""

import pytest

from contracts.failures import FailureCode, VaultError
from contracts.limits import MAX_BLOB, PART, sealed_size
from workers.datastore.format import (
    HEADER_SIZE,
    MAX_OBJECT,
    TOMBSTONE,
    Header,
    check_size,
    parse_header,
    part_count,
    part_offset,
    part_size,
)

TAG = bytes(range(32))
VECTOR = "5456443100000001" + TAG.hex() + "0000000003200000"  # magic, count, auth_tag, 52,428,800


def test_a_header_has_these_bytes() -> None:
    """The format is frozen: magic, count, tag and size, big-endian, 48 bytes."""
    assert Header(TAG, 52_428_800).encode().hex() == VECTOR
    assert len(bytes.fromhex(VECTOR)) == HEADER_SIZE == 48
    assert TOMBSTONE.hex() == "5456443100000000"


def test_a_header_reads_back() -> None:
    """What was written is read, also from a longer piece of the object."""
    header = Header(TAG, 5)
    assert parse_header(header.encode(), HEADER_SIZE + 5) == header
    assert parse_header(header.encode() + b"hello", HEADER_SIZE + 5) == header


def _refused(front: bytes, stored: int) -> FailureCode:
    with pytest.raises(VaultError) as caught:
        parse_header(front, stored)
    return caught.value.code


def test_every_changed_byte_outside_the_tag_is_noticed() -> None:
    """Magic, count and size leave no bit free; the tag is the Cryptor's to check."""
    good = Header(TAG, 5).encode()
    for at in [*range(8), *range(40, 48)]:
        bad = bytearray(good)
        bad[at] ^= 0x01
        assert _refused(bytes(bad), HEADER_SIZE + 5) is FailureCode.INTEGRITY_FAILED


def test_an_object_of_another_length_is_noticed() -> None:
    """Truncated and grown objects are damaged, however much of the header is left."""
    good = Header(TAG, 5).encode()
    for stored in (0, HEADER_SIZE - 1, HEADER_SIZE, HEADER_SIZE + 4, HEADER_SIZE + 6):
        assert _refused(good[:stored], stored) is FailureCode.INTEGRITY_FAILED


def test_only_an_exact_tombstone_means_erased() -> None:
    """A tombstone is `not_found`; one with anything missing or added is damage."""
    assert _refused(TOMBSTONE, len(TOMBSTONE)) is FailureCode.NOT_FOUND
    assert _refused(TOMBSTONE, 9) is FailureCode.INTEGRITY_FAILED
    assert _refused(TOMBSTONE + b"\0", 9) is FailureCode.INTEGRITY_FAILED
    assert _refused(TOMBSTONE[:-1], 7) is FailureCode.INTEGRITY_FAILED


@pytest.mark.parametrize("total", [1, PART - 1, PART, PART + 1, 2 * PART, MAX_OBJECT])
def test_parts_tile_an_object(total: int) -> None:
    """Parts follow each other without gap or overlap, all but the last are whole, and there is none outside."""
    count = part_count(total)
    sizes = [part_size(total, number) for number in range(1, count + 1)]
    assert sum(sizes) == total
    assert set(sizes[:-1]) <= {PART}
    assert 1 <= sizes[-1] <= PART
    assert [part_offset(number) for number in range(1, count + 1)] == [sum(sizes[:at]) for at in range(count)]
    assert part_size(total, count + 1) == 0


def test_the_largest_blob_fits_and_one_byte_more_does_not() -> None:
    """The limit is that of the sealed blob: 52,428,800 bytes of plaintext."""
    check_size(sealed_size(MAX_BLOB) - 56)
    with pytest.raises(VaultError, match="blob_too_large"):
        check_size(sealed_size(MAX_BLOB) - 55)
    with pytest.raises(VaultError, match="invalid_request"):
        check_size(0, smallest=1)
