"""A sweep of a bucket: lists objects by key, marks them with empty objects, and takes leftovers away.

A mark is `quarantine/<object>`; when it was last modified is when the object went into quarantine. Ages are by the
server's clock: what it says of an object against the date of its answer. Nothing here reads an object.
"""

import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from contracts.failures import FailureCode, PermanentError, TransientError
from contracts.stores import Cleaned, Done, Listing, Old, Page, Stale, Verdict
from workers.datastore.backend import CLEANED, MissingError
from workers.datastore.format import TOMBSTONE
from workers.datastore.s3_errors import s3_errors

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

QUARANTINE: Final = "quarantine/"

_KEY: Final = re.compile(r"[0-9a-f]{32}")

Bury = Callable[[str], Awaitable[None]]  # puts a tombstone in the place of an object
Sizes = dict[str, tuple[int, int]]  # key -> bytes, and seconds since it was last modified


class S3Sweep:
    """An `ObjectSweep` of one bucket."""

    def __init__(self, client: "S3Client", bucket: str, bury: Bury) -> None:
        """Sweep the bucket of a backend, which lends its client and its way to erase."""
        self._client = client
        self._bucket = bucket
        self._bury = bury

    async def page(self, listing: Listing) -> Page:
        """See `ObjectSweep.page`."""
        found, more = await self._list("", listing.after.hex, listing.limit)
        names = sorted(filter(_KEY.fullmatch, found))
        held = [name for name in names if found[name][0] != len(TOMBSTONE)]
        old = [name for name in held if found[name][1] > listing.older_than]
        marks = await self._marks(listing.after.hex, old[-1]) if old else {}
        return Page(
            held=len(held),
            old=[Old(id=UUID(name), quarantined=marks.get(name)) for name in old],
            last=UUID(names[-1]) if more and names else None,
        )

    async def quarantine(self, verdict: Verdict) -> Done:
        """See `ObjectSweep.quarantine`."""
        mark = QUARANTINE + verdict.id.hex
        if await self._age(mark) is None and await self._is_object(verdict.id):
            with s3_errors():
                await self._client.put_object(Bucket=self._bucket, Key=mark, Body=b"")
        return Done()

    async def release(self, verdict: Verdict) -> Done:
        """See `ObjectSweep.release`."""
        with s3_errors():
            await self._client.delete_object(Bucket=self._bucket, Key=QUARANTINE + verdict.id.hex)
        return Done()

    async def purge(self, verdict: Verdict) -> Done:
        """See `ObjectSweep.purge`."""
        age = await self._age(QUARANTINE + verdict.id.hex)
        if age is None or age < verdict.quarantined:
            if await self._is_object(verdict.id):
                raise PermanentError(FailureCode.CONFLICT, "not_quarantined")
            return Done()
        await self.release(verdict)
        await self._bury(verdict.id.hex)
        return Done()

    async def clean(self, stale: Stale) -> Cleaned:
        """See `ObjectSweep.clean`. A bucket has no temporary files."""
        try:
            with s3_errors():
                told = await self._client.list_multipart_uploads(Bucket=self._bucket, MaxUploads=CLEANED)
        except MissingError:  # rclone's way to say that there are none
            return Cleaned(uploads=0, files=0)
        now = _now(told)
        old = [each for each in told.get("Uploads", []) if _seconds(now, each["Initiated"]) > stale.older_than]
        for upload in old if stale.remove else []:
            try:
                with s3_errors():
                    await self._client.abort_multipart_upload(
                        Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )
            except MissingError:
                continue  # somebody finished it meanwhile
        return Cleaned(uploads=len(old), files=0, more=bool(told.get("IsTruncated")) and bool(old))

    async def _list(self, prefix: str, after: str, limit: int) -> tuple[Sizes, bool]:
        """Objects whose keys begin with `prefix`, without what lies in folders below, and whether there are more."""
        with s3_errors():
            told = await self._client.list_objects_v2(
                Bucket=self._bucket, Prefix=prefix, StartAfter=prefix + after, MaxKeys=limit, Delimiter="/"
            )
        now = _now(told)
        found = {
            each["Key"].removeprefix(prefix): (each["Size"], _seconds(now, each["LastModified"]))
            for each in told.get("Contents", [])
        }
        return found, told["IsTruncated"]

    async def _marks(self, after: str, last: str) -> dict[str, int]:
        """Ages of the marks between two objects, the second one's included."""
        marks: dict[str, int] = {}
        more = True
        while more and after < last:
            found, more = await self._list(QUARANTINE, after, 1000)
            marks.update((name, age) for name, (_, age) in found.items())
            after = max(found, default=last)
        return marks

    async def _age(self, key: str) -> int | None:
        """Seconds since an object was last modified; None if there is none."""
        found = await self._head(key)
        return found[1] if found else None

    async def _is_object(self, object_: UUID) -> bool:
        found = await self._head(object_.hex)
        return found is not None and found[0] != len(TOMBSTONE)

    async def _head(self, key: str) -> tuple[int, int] | None:
        """Bytes and age of an object. A listing, because a bare HEAD cannot tell a lost object from a lost bucket."""
        with s3_errors():
            told = await self._client.list_objects_v2(Bucket=self._bucket, Prefix=key, MaxKeys=1)
        for each in told.get("Contents", []):
            if each["Key"] == key:
                return each["Size"], _seconds(_now(told), each["LastModified"])
        return None


def _now(told: Any) -> datetime:
    """When the server answered, by its own clock.

    Raises:
        TransientError: it does not say; no age can be told.
    """
    date = told["ResponseMetadata"]["HTTPHeaders"].get("date")
    if date is None:
        raise TransientError(FailureCode.STORE_UNAVAILABLE, "s3_no_date")
    return parsedate_to_datetime(date)


def _seconds(now: datetime, then: datetime) -> int:
    return max(0, int((now - then).total_seconds()))
