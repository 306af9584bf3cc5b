"""What a DataStore backend must do, whatever it keeps objects in. tests/stores holds every backend to it.

Whatever is answered is durable: on disk where we can see the disk, acknowledged by the server where we cannot. An
object and its tombstone share one name: an object never overwrites anything, a tombstone overwrites everything. So of a
dump and an erase that race, the erase has the last word.
"""

from collections.abc import Sequence
from typing import Protocol

from contracts.failures import FailureCode, PermanentError
from contracts.stores import Begun, Data, Done, Failure, Loaded, Part, Parts, Range, Receipt, Unwanted

Found = tuple[Loaded, bytes]  # the outcome of a range, and its bytes


class MissingError(PermanentError):
    """There is no such object, or no such upload."""

    def __init__(self) -> None:
        """Say `not_found`."""
        super().__init__(FailureCode.NOT_FOUND, "missing")


class Backend(Protocol):
    """Objects by data_store_uuid. Methods are idempotent; they raise `VaultError`, whose code is the items' outcome.

    Where a method takes several items, all of them are entries of one object, which is written or read once.

    `store_unavailable` (a `TransientError`) may come from any of them; the outcome is then unknown.
    """

    async def dump(self, items: Sequence[Data], encrypted: memoryview) -> Done:
        """Write a whole object: its entries from the first to the last, and their data glued together.

        Raises:
            VaultError: `conflict` if the id has other content or was erased; `blob_too_large`; `invalid_request` if
                these are not the entries of one object.
        """
        ...

    async def begin(self, item: Data) -> Begun:
        """Begin an object that arrives in parts; every call begins another upload.

        Raises:
            VaultError: `conflict` if the id has an object or was erased; `blob_too_large`; `invalid_request` if empty.
        """
        ...

    async def part(self, part: Part, encrypted: memoryview) -> Receipt:
        """Store one part; a repeated one replaces itself.

        Raises:
            VaultError: `invalid_request` for a size that does not belong to the number; `integrity_failed` if the bytes
                do not match the SHA-256; `not_found` for an unknown upload.
        """
        ...

    async def complete(self, parts: Parts) -> Done:
        """Make the object, if exactly the parts that the receipts name are there.

        Raises:
            VaultError: `upload_lost` if they are not; `not_found` for an unknown upload of an id without object;
                `conflict` if the id has other content or was erased.
        """
        ...

    async def load(self, wanted: Sequence[Range]) -> list[Found | Failure]:
        """Read ranges, each cut at its entry's end; none of it (size 0) beyond. Erased entries are `not_found`.

        Raises:
            VaultError: `not_found` for an object that never was or is erased; `integrity_failed` for a damaged one.
        """
        ...

    async def erase(self, unwanted: Sequence[Unwanted]) -> Done:
        """Take entries out of their object, the others stay; drop its unfinished upload.

        A tombstone stands where an object of which nothing is left was, or would have been.
        """
        ...
