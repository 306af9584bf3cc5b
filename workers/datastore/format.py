"""The bytes of an object: a header, then encrypted data (docs/format.md §12).

object    = header ‖ encrypted data of its entries, one after the other
header    = magic "TVD1" ‖ u32be count ‖ count x (auth_tag, 32 bytes ‖ u64be end of its encrypted data)
tombstone = header with count 0 and nothing behind it: the ids were erased and never return

`end` counts from the first byte behind the header. A large blob is an object with one entry; small ones of a batch
share an object (a pack). An erased entry of a pack keeps its place: its auth_tag and its data are zeros. This module
does no I/O, and cannot tell encrypted data from noise.
"""

import hashlib
import struct
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from contracts.failures import FailureCode, PermanentError
from contracts.limits import COBBLESTONE_HEADER, MAX_BLOB, PACK_ITEMS, PART, sealed_size
from contracts.stores import Data, Loaded, Part, Range, entry_number

MAGIC: Final = b"TVD1"
_FRONT: Final = struct.Struct(">4sI")  # magic, count
_ENTRY: Final = struct.Struct(">32sQ")  # auth_tag, end
_ERASED: Final = bytes(32)  # no commitment has this value

FRONT_SIZE: Final = _FRONT.size  # bytes that tell how long the header is
TOMBSTONE: Final = _FRONT.pack(MAGIC, 0)

# The largest encrypted data that exists: of a blob of the largest size, its salt and commitment apart.
MAX_OBJECT: Final = sealed_size(MAX_BLOB) - COBBLESTONE_HEADER


def header_size(count: int) -> int:
    """Bytes in front of the encrypted data of `count` entries: 48 for one."""
    return FRONT_SIZE + count * _ENTRY.size


HEADER_SIZE: Final = header_size(1)
MAX_HEADER: Final = header_size(PACK_ITEMS)


@dataclass(frozen=True, slots=True)
class Entry:
    """One blob's encrypted data in its object."""

    auth_tag: bytes  # 32 bytes
    begin: int  # in the object
    size: int  # bytes of encrypted data

    def cut(self, wanted: Range) -> tuple[int, int]:
        """Where in the object a range begins and ends, cut at the entry's end."""
        size = max(0, min(wanted.length, self.size - wanted.offset))
        begin = self.begin + (wanted.offset if size else 0)
        return begin, begin + size

    def loaded(self, size: int) -> Loaded:
        """The outcome of a range of which there were `size` bytes."""
        return Loaded(auth_tag=self.auth_tag, total=self.size, size=size)


def header_of(entries: Iterable[tuple[bytes, int]]) -> bytes:
    """The header of an object whose entries have these auth_tags and sizes."""
    told = list(entries)
    ends = accumulate(size for _, size in told)
    return _FRONT.pack(MAGIC, len(told)) + b"".join(
        _ENTRY.pack(tag, end) for (tag, _), end in zip(told, ends, strict=True)
    )


class Header:
    """What an object says of the encrypted data behind it."""

    def __init__(self, front: bytes | memoryview, count: int) -> None:
        """Read `front`, which begins with the whole header; `parse_header` makes one."""
        self._front = bytes(front[: header_size(count)])
        self.count = count

    def _end(self, number: int) -> int:
        """Where the data of the entries up to and including `number` ends, counted from the first one's beginning."""
        end: int = _ENTRY.unpack_from(self._front, header_size(number))[1] if number >= 0 else 0
        return end

    def entry(self, number: int) -> Entry:
        """One entry.

        Raises:
            PermanentError: `not_found` if there is none, or it was erased; `integrity_failed` if it overlaps.
        """
        if number >= self.count:
            raise PermanentError(FailureCode.NOT_FOUND, "no_such_entry")
        auth_tag, end = _ENTRY.unpack_from(self._front, header_size(number))
        begin = self._end(number - 1)
        if auth_tag == _ERASED:
            raise PermanentError(FailureCode.NOT_FOUND, "erased")
        if not begin <= end <= self._end(self.count - 1):
            raise PermanentError(FailureCode.INTEGRITY_FAILED, "object_header")
        return Entry(auth_tag, header_size(self.count) + begin, end - begin)

    @property
    def stored(self) -> int:
        """Bytes of the whole object."""
        return header_size(self.count) + self._end(self.count - 1)

    def live(self) -> set[int]:
        """The entries that are not erased."""
        tags = (_ENTRY.unpack_from(self._front, header_size(number))[0] for number in range(self.count))
        return {number for number, tag in enumerate(tags) if tag != _ERASED}


def header_needed(front: bytes | memoryview, stored: int) -> int:
    """How many bytes the header of an object of `stored` bytes takes, which begins with `front`.

    Raises:
        PermanentError: `not_found` for a tombstone; `integrity_failed` if this is no object of ours.
    """
    if front[: len(TOMBSTONE)] == TOMBSTONE and stored == len(TOMBSTONE):
        raise PermanentError(FailureCode.NOT_FOUND, "erased")
    if len(front) < FRONT_SIZE:
        raise PermanentError(FailureCode.INTEGRITY_FAILED, "object_truncated")
    magic, count = _FRONT.unpack_from(front)
    if magic != MAGIC or not 1 <= count <= PACK_ITEMS:
        raise PermanentError(FailureCode.INTEGRITY_FAILED, "object_header")
    return header_size(count)


def parse_header(front: bytes | memoryview, stored: int) -> Header:
    """Read the header of an object of `stored` bytes, of which `front` is the beginning, header included.

    Raises:
        PermanentError: `not_found` for a tombstone; `integrity_failed` if this is no object of ours or was cut short.
    """
    size = header_needed(front, stored)
    if len(front) < size:
        raise PermanentError(FailureCode.INTEGRITY_FAILED, "object_truncated")
    header = Header(front, (size - FRONT_SIZE) // _ENTRY.size)
    if stored != header.stored:
        raise PermanentError(FailureCode.INTEGRITY_FAILED, "object_header")
    return header


def without(whole: bytes, header: Header, erased: Collection[int]) -> bytes:
    """An object with some of its live entries erased: zeros in their place, the others where they were."""
    content = bytearray(whole)
    for number in erased:
        entry = header.entry(number)
        content[header_size(number) : header_size(number) + len(_ERASED)] = _ERASED
        content[entry.begin : entry.begin + entry.size] = bytes(entry.size)
    return bytes(content)


def part_size(total: int, number: int) -> int:
    """Bytes that part `number` (from 1) of `total` bytes must have; 0 if there is no such part."""
    return max(0, min(PART, total - (number - 1) * PART))


def part_offset(number: int) -> int:
    """Where part `number` (from 1) begins in the encrypted data."""
    return (number - 1) * PART


def part_count(total: int) -> int:
    """How many parts `total` bytes arrive in."""
    return -(-total // PART)


def check_entries(items: Sequence[Data]) -> None:
    """Refuse an object that nobody would write.

    Raises:
        PermanentError: `blob_too_large`, or `invalid_request` unless its entries are numbered from 0.
    """
    if len(items) > PACK_ITEMS or [entry_number(item.data_store_uuid) for item in items] != list(range(len(items))):
        raise PermanentError(FailureCode.INVALID_REQUEST, "entry_numbers")
    check_size(sum(item.size for item in items))


def check_large(item: Data) -> None:
    """Refuse to begin an object that cannot arrive in parts.

    Raises:
        PermanentError: `blob_too_large`, or `invalid_request` if it is empty or an entry among others.
    """
    check_entries([item])
    if item.size == 0:
        raise PermanentError(FailureCode.INVALID_REQUEST, "object_size")


def check_size(size: int) -> None:
    """Refuse more data than a blob can have.

    Raises:
        PermanentError: `blob_too_large`.
    """
    if size > MAX_OBJECT:
        raise PermanentError(FailureCode.BLOB_TOO_LARGE, "object_size")


def check_part(part: Part, encrypted: memoryview) -> None:
    """Refuse a part that is not where it says, or not what was sent. Takes 3 ms: not on the event loop.

    Raises:
        PermanentError: `blob_too_large`, `invalid_request` (`part_size`) or `integrity_failed` (`part_sha256`).
    """
    check_size(part.total)
    if part.size != part_size(part.total, part.number):
        raise PermanentError(FailureCode.INVALID_REQUEST, "part_size")
    if hashlib.sha256(encrypted).digest() != part.sha256:
        raise PermanentError(FailureCode.INTEGRITY_FAILED, "part_sha256")
