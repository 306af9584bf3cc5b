"""Length-prefixed fields: one reading for every byte string, and no two lists with one writing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.lp import lp, split_lp, take_lp

fields = st.lists(st.binary(max_size=300), max_size=6)


def test_a_field_has_these_bytes() -> None:
    """u32 big-endian, then the field."""
    assert lp(b"ab", b"") == bytes.fromhex("00000002 6162 00000000")
    assert lp() == b""


@given(fields)
def test_fields_are_read_back(every: list[bytes]) -> None:
    """Empty ones too, from bytes and from a view."""
    assert split_lp(lp(*every), len(every)) == every
    assert split_lp(memoryview(lp(*every)), len(every)) == every


@given(fields, st.binary(max_size=20))
def test_what_follows_is_returned(every: list[bytes], rest: bytes) -> None:
    """`take_lp` reads from the front and hands back the rest, uncopied."""
    taken, left = take_lp(lp(*every) + rest, len(every))
    assert (taken, bytes(left)) == (every, rest)


@given(fields, fields)
def test_different_fields_never_have_the_same_bytes(one: list[bytes], other: list[bytes]) -> None:
    """Injective for lists of any two lengths; contexts therefore cannot collide."""
    assert (lp(*one) == lp(*other)) == (one == other)


@given(st.lists(st.binary(max_size=20), min_size=2, max_size=4))
def test_a_border_cannot_be_moved(every: list[bytes]) -> None:
    """Neighbours with the same concatenation differ."""
    moved = [every[0] + every[1], b"", *every[2:]]
    assert (lp(*moved) == lp(*every)) == (moved == every)


@given(fields.filter(bool), st.integers(min_value=1))
def test_truncated_fields_are_refused(every: list[bytes], missing: int) -> None:
    """Cut by any number of bytes."""
    written = lp(*every)
    with pytest.raises(ValueError, match="truncated"):
        take_lp(written[: -(missing % len(written) or len(written))], len(every))


def test_a_length_beyond_the_end_is_refused() -> None:
    """Four gibibytes announced, nothing there: no allocation, no hang."""
    with pytest.raises(ValueError, match="truncated"):
        take_lp(b"\xff\xff\xff\xff", 1)


def test_left_over_bytes_are_refused() -> None:
    """Exactly the fields, or nothing."""
    with pytest.raises(ValueError, match="left"):
        split_lp(lp(b"a") + b"\0", 1)
    with pytest.raises(ValueError, match="left"):
        split_lp(lp(b"a", b"b"), 1)
