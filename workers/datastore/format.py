"""The bytes of an object: a header, then encrypted data (docs/format.md §12).

object    = header ‖ encrypted_data
header    = magic "TVD1" ‖ u32be count ‖ count x (auth_tag, 32 bytes ‖ u64be size of its encrypted data)
tombstone = header with count 0 and nothing behind it: the id was erased and never returns

Objects have one entry today. The count leaves room for packs of several small ones, which this version refuses. This
module does no I/O, and cannot tell encrypted data from noise.
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

from contracts.failures import FailureCode, PermanentError
from contracts.limits import COBBLESTONE_HEADER, MAX_BLOB, PART, sealed_size
from contracts.stores import Part

MAGIC: Final = b"TVD1"
_HEADER: Final = struct.Struct(">4sI32sQ")  # magic, count = 1, auth_tag, size

HEADER_SIZE: Final = _HEADER.size  # bytes in front of the encrypted data: 48
TOMBSTONE: Final = MAGIC + bytes(4)

# The largest encrypted data that exists: of a blob of the largest size, its salt and commitment apart.
MAX_OBJECT: Final = sealed_size(MAX_BLOB) - COBBLESTONE_HEADER


@dataclass(frozen=True, slots=True)
class Header:
    """What an object says of the encrypted data behind it."""

    auth_tag: bytes  # 32 bytes
    size: int  # bytes of encrypted data

    def encode(self) -> bytes:
        """The header's 48 bytes."""
        return _HEADER.pack(MAGIC, 1, self.auth_tag, self.size)


def parse_header(front: bytes, stored: int) -> Header:
    """Read the header of an object of `stored` bytes that begins with `front`.

    Raises:
        PermanentError: `not_found` for a tombstone; `integrity_failed` if this is no object of ours or was cut short.
    """
    if front == TOMBSTONE and stored == len(TOMBSTONE):
        raise PermanentError(FailureCode.NOT_FOUND, "erased")
    if len(front) < HEADER_SIZE:
        raise PermanentError(FailureCode.INTEGRITY_FAILED, "object_truncated")
    magic, count, auth_tag, size = _HEADER.unpack_from(front)
    if magic != MAGIC or count != 1 or stored != HEADER_SIZE + size:
        raise PermanentError(FailureCode.INTEGRITY_FAILED, "object_header")
    return Header(auth_tag, size)


def part_size(total: int, number: int) -> int:
    """Bytes that part `number` (from 1) of `total` bytes must have; 0 if there is no such part."""
    return max(0, min(PART, total - (number - 1) * PART))


def part_offset(number: int) -> int:
    """Where part `number` (from 1) begins in the encrypted data."""
    return (number - 1) * PART


def part_count(total: int) -> int:
    """How many parts `total` bytes arrive in."""
    return -(-total // PART)


def check_size(size: int, *, smallest: int = 0) -> None:
    """Refuse an object that nobody would write.

    Raises:
        PermanentError: `blob_too_large`, or `invalid_request` below `smallest`.
    """
    if size > MAX_OBJECT:
        raise PermanentError(FailureCode.BLOB_TOO_LARGE, "object_size")
    if size < smallest:
        raise PermanentError(FailureCode.INVALID_REQUEST, "object_size")


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
