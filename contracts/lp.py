"""Length-prefixed fields: the one way in which trivault turns several byte strings into one.

LP(x) is the length of x as an unsigned 32-bit big-endian integer, followed by x (docs/format.md §1). Every context,
MAC input and signed string is a fixed number of LP fields that starts with its own label, so that no two of them can
collide. This module knows nothing of what the fields mean.
"""

from typing import Final

PREFIX: Final = 4  # bytes of length before each field


def lp(*fields: bytes) -> bytes:
    """Join fields, each behind its length (u32 big-endian)."""
    parts: list[bytes] = []
    for field in fields:
        parts += (len(field).to_bytes(PREFIX, "big"), field)
    return b"".join(parts)


def take_lp(data: bytes | memoryview, count: int) -> tuple[list[bytes], memoryview]:
    """Read `count` fields from the front of `data`; return them and what follows.

    Raises:
        ValueError: a length runs past the end.
    """
    view = memoryview(data)
    fields: list[bytes] = []
    for _ in range(count):
        size = int.from_bytes(view[:PREFIX], "big")
        if len(view) < PREFIX + size:
            raise ValueError("a length-prefixed field is truncated")
        fields.append(bytes(view[PREFIX : PREFIX + size]))
        view = view[PREFIX + size :]
    return fields, view


def split_lp(data: bytes | memoryview, count: int) -> list[bytes]:
    """Read exactly `count` fields and nothing else.

    Raises:
        ValueError: a field is truncated, or bytes are left over.
    """
    fields, rest = take_lp(data, count)
    if rest:
        raise ValueError("bytes are left after the last length-prefixed field")
    return fields
