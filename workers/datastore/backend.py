"""What a DataStore backend must do, whatever it keeps objects in. tests/stores holds every backend to it.

Whatever is answered is durable: on disk where we can see the disk, acknowledged by the server where we cannot. An
object and its tombstone share one name: an object never overwrites anything, a tombstone overwrites everything. So of a
dump and an erase that race, the erase has the last word.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from contracts.failures import FailureCode, PermanentError
from contracts.stores import (
    Begun,
    Cleaned,
    Data,
    Done,
    Failure,
    Listing,
    Loaded,
    Page,
    Part,
    Parts,
    Range,
    Receipt,
    Stale,
    Unwanted,
    Verdict,
)

Found = tuple[Loaded, bytes]  # the outcome of a range, and its bytes


CLEANED: Final = 250  # uploads, and files, that one cleaning takes away at most: seconds, on a slow server


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


class ObjectSweep(Protocol):
    """What a sweep asks of a backend. Objects are named by the id of their first entry; errors are as in `Backend`.

    Quarantine is a marker beside the object, whose age is the time since: nobody who loads looks at it.
    """

    async def page(self, listing: Listing) -> Page:
        """List objects, in order of their ids."""
        ...

    async def quarantine(self, verdict: Verdict) -> Done:
        """Mark an object, unless it is marked."""
        ...

    async def release(self, verdict: Verdict) -> Done:
        """Take an object's mark away."""
        ...

    async def purge(self, verdict: Verdict) -> Done:
        """Put a tombstone in an object's place. The mark goes first: a crash between the two only begins anew.

        Raises:
            VaultError: `conflict` if it has no mark as old as the verdict says.
        """
        ...

    async def clean(self, stale: Stale) -> Cleaned:
        """Take unfinished uploads and temporary files away, or count them."""
        ...


class SweepableBackend(Backend, Protocol):
    """A backend of the service: one that can be swept."""

    @property
    def sweep(self) -> ObjectSweep:
        """What sweeps it."""
        ...

    async def check(self) -> None:
        """Return if objects can be read and written, as far as can be told without doing it.

        Raises:
            VaultError: they cannot.
        """
        ...
