"""The bytes of an object: fixed vectors, and every way to damage a header."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.failures import FailureCode, VaultError
from contracts.limits import MAX_BLOB, PART, sealed_size
from contracts.stores import Data
from workers.datastore.format import (
    HEADER_SIZE,
    MAX_OBJECT,
    TOMBSTONE,
    check_large,
    check_size,
    header_of,
    header_size,
    parse_header,
    part_count,
    part_offset,
    part_size,
    without,
)

TAG = bytes(range(32))
GOOD = header_of([(TAG, 5)])
VECTOR = "5456443100000001" + TAG.hex() + "0000000003200000"  # magic, count, auth_tag, 52,428,800


def test_a_header_has_these_bytes() -> None:
    """The format is frozen: magic, count, tag and size, big-endian, 48 bytes."""
    assert header_of([(TAG, 52_428_800)]).hex() == VECTOR
    assert len(bytes.fromhex(VECTOR)) == HEADER_SIZE == 48
    assert TOMBSTONE.hex() == "5456443100000000"


def test_a_header_reads_back() -> None:
    """What was written is read, also from a longer piece of the object."""
    for front in (GOOD, GOOD + b"hello"):
        entry = parse_header(front, HEADER_SIZE + 5).entry(0)
        assert (entry.auth_tag, entry.begin, entry.size) == (TAG, HEADER_SIZE, 5)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=30), st.data())
def test_entries_of_a_pack_read_back(contents: list[bytes], data: st.DataObject) -> None:
    """Every entry is where its header says, also after others were erased; the object's length never changes."""
    tags = [bytes([at + 1]) * 32 for at in range(len(contents))]
    whole = header_of(zip(tags, map(len, contents), strict=True)) + b"".join(contents)
    erased = data.draw(st.sets(st.integers(0, len(contents) - 1)))
    left = without(whole, parse_header(whole, len(whole)), erased)
    assert len(left) == len(whole)
    header = parse_header(left, len(left))
    assert header.live() == set(range(len(contents))) - erased
    for at in header.live():
        entry = header.entry(at)
        assert (entry.auth_tag, left[entry.begin : entry.begin + entry.size]) == (tags[at], contents[at])
    for at in [*erased, len(contents)]:
        with pytest.raises(VaultError, match="not_found"):
            header.entry(at)


def test_entries_that_overlap_are_damage() -> None:
    """Ends never go back, and none lies beyond the last."""
    whole = bytearray(header_of([(TAG, 5), (TAG, 5)]) + bytes(10))
    whole[header_size(1) - 1] = 11
    header = parse_header(bytes(whole), len(whole))
    for at in (0, 1):
        with pytest.raises(VaultError, match="integrity_failed"):
            header.entry(at)


def _refused(front: bytes, stored: int) -> FailureCode:
    with pytest.raises(VaultError) as caught:
        parse_header(front, stored)
    return caught.value.code


def test_every_changed_byte_outside_the_tag_is_noticed() -> None:
    """Magic, count and size leave no bit free; the tag is the Cryptor's to check."""
    good = GOOD
    for at in [*range(8), *range(40, 48)]:
        bad = bytearray(good)
        bad[at] ^= 0x01
        assert _refused(bytes(bad), HEADER_SIZE + 5) is FailureCode.INTEGRITY_FAILED


def test_an_object_of_another_length_is_noticed() -> None:
    """Truncated and grown objects are damaged, however much of the header is left."""
    good = GOOD
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
        check_large(Data(data_store_uuid=UUID(int=0), auth_tag=TAG, size=0))
