"""Objects in S3. Durable means that the server acknowledged it; what the server does then is its operator's affair.

An object's key is the id of its first entry in hex. Objects are created with `If-None-Match: *`, so that a server that
honours it lets one writer win; before that we look, for servers that ignore it. An entry is taken out of an object with
`If-Match`, so that several workers may do it at once on such a server (docs/adr/0008). A tombstone of a whole object is
written after the upload was aborted: what completed just before is overwritten, what comes later fails.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, TypedDict
from uuid import UUID

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from contracts.failures import FailureCode, PermanentError, TransientError
from contracts.stores import (
    Begun,
    Data,
    Done,
    Failure,
    Part,
    Parts,
    Range,
    Receipt,
    Unwanted,
    entry_number,
    object_uuid,
)
from workers.datastore.backend import Found, MissingError
from workers.datastore.format import (
    HEADER_SIZE,
    TOMBSTONE,
    Entry,
    Header,
    check_entries,
    check_large,
    check_part,
    header_needed,
    header_of,
    parse_header,
    part_count,
    part_size,
    without,
)
from workers.datastore.s3_errors import RangeError, TakenError, s3_errors
from workers.datastore.s3_sweep import S3Sweep
from workers.datastore.settings import S3Settings

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef

# A range this near to an object's beginning is fetched together with the header: at 150 MB/s these bytes cost less than
# the second request that they save.
NEAR: Final = 128 * 1024
ERASE_TRIES: Final = 5  # each lost one means that another worker has erased an entry of the same object
WHY: Final = (  # a server that refuses a HEAD request sends no reason
    "no such bucket, or none for this key, or no server whose certificate `ca_file` signed; check `endpoint_url`, "
    "`bucket`, `ca_file` and the two key files"
)

# Debug lines of these show keys, signatures and bodies.
for _name in ("aiobotocore", "botocore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class Condition(TypedDict, total=False):
    """On which the server writes an object, or answers 412."""

    IfMatch: str  # an ETag: it is still this one
    IfNoneMatch: str  # `*`: there is none


class S3Backend:
    """A `Backend` in one bucket."""

    def __init__(self, client: "S3Client", bucket: str) -> None:
        """Use an open client; `S3Backend.open` makes one."""
        self._client = client
        self._bucket = bucket
        self._erasing = asyncio.Lock()

    @property
    def sweep(self) -> S3Sweep:
        """See `SweepableBackend`."""
        return S3Sweep(self._client, self._bucket, self._bury)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: S3Settings, *, connections: int) -> AsyncIterator["S3Backend"]:
        """Connect and see that the bucket is there.

        Raises:
            TransientError: the server or the bucket is not there, or does not accept our key; a note says where.
        """
        config = AioConfig(
            connect_timeout=5,
            read_timeout=30,  # seconds of silence, not of transfer
            max_pool_connections=connections,
            retries={"mode": "standard", "total_max_attempts": 3},
            signature_version="s3v4",
            # Hashing a part for its signature, or for a CRC, would block the event loop for milliseconds: TLS protects
            # the bytes on the way, and Cobblestone-256 shows every change afterwards.
            s3={"addressing_style": "path", "payload_signing_enabled": False},
            proxies={},  # none from the environment
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        client = get_session().create_client(
            "s3",
            endpoint_url=settings.endpoint_url,
            region_name=settings.region,
            aws_access_key_id=settings.access_key_file.read_text().strip(),
            aws_secret_access_key=settings.secret_key_file.read_text().strip(),
            verify=str(settings.ca_file),
            config=config,
        )
        async with client as connected:
            backend = cls(connected, settings.bucket)
            try:
                await backend.check()
            except TransientError as error:
                error.add_note(f"{settings.endpoint_url}/{settings.bucket}: {WHY}")
                raise
            yield backend

    async def check(self) -> None:
        """See `SweepableBackend.check`."""
        with s3_errors():
            await self._client.head_bucket(Bucket=self._bucket)

    async def dump(self, items: Sequence[Data], encrypted: memoryview) -> Done:
        """See `Backend.dump`."""
        check_entries(items)
        key = _key(items[0].data_store_uuid)
        content = b"".join((header_of((item.auth_tag, item.size) for item in items), encrypted))
        if await self._find(key, 1) is None:
            with suppress(TakenError), s3_errors():
                await self._client.put_object(Bucket=self._bucket, Key=key, Body=content, IfNoneMatch="*")
                return Done()
        if await self._find(key, len(content)) != (content, len(content)):
            raise PermanentError(FailureCode.CONFLICT, "object_exists")
        return Done()

    async def begin(self, item: Data) -> Begun:
        """See `Backend.begin`."""
        check_large(item)
        key = _key(item.data_store_uuid)
        if await self._find(key, 1) is not None:
            raise PermanentError(FailureCode.CONFLICT, "object_exists")
        with s3_errors():
            upload = await self._client.create_multipart_upload(Bucket=self._bucket, Key=key)
        return Begun(upload_id=upload["UploadId"])

    async def part(self, part: Part, encrypted: memoryview) -> Receipt:
        """See `Backend.part`."""
        body = await asyncio.to_thread(_part_body, part, encrypted)
        with s3_errors():
            stored = await self._client.upload_part(
                Bucket=self._bucket,
                Key=_key(part.data_store_uuid),
                UploadId=part.upload_id,
                PartNumber=part.number,
                Body=body,
            )
        return Receipt(receipt=stored["ETag"])

    async def complete(self, parts: Parts) -> Done:
        """See `Backend.complete`."""
        key = _key(parts.data_store_uuid)
        made = (header_of([(parts.auth_tag, parts.total)]), HEADER_SIZE + parts.total)
        found = await self._find(key, HEADER_SIZE)
        if found is None:
            try:
                await self._assemble(key, parts)
            except (MissingError, TakenError):  # somebody completed or erased it meanwhile, or it never was
                found = await self._find(key, HEADER_SIZE)
                if found is None:
                    raise MissingError from None
            else:
                return Done()
        if found != made:
            raise PermanentError(FailureCode.CONFLICT, "object_exists")
        return Done()

    async def _assemble(self, key: str, parts: Parts) -> None:
        """Compare the receipts with what the server holds, and have it make the object of exactly that."""
        with s3_errors():
            listed = await self._client.list_parts(Bucket=self._bucket, Key=key, UploadId=parts.upload_id)
        there = {part["PartNumber"]: (part["Size"], part["ETag"].strip('"')) for part in listed.get("Parts", [])}
        if listed.get("IsTruncated") or there != _expected(parts):
            raise PermanentError(FailureCode.UPLOAD_LOST, "parts_differ")
        chosen: list[CompletedPartTypeDef] = [
            {"PartNumber": number, "ETag": receipt} for number, receipt in enumerate(parts.receipts, start=1)
        ]
        with s3_errors():
            await self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=key,
                UploadId=parts.upload_id,
                MultipartUpload={"Parts": chosen},
                IfNoneMatch="*",
            )

    async def load(self, wanted: Sequence[Range]) -> list[Found | Failure]:
        """See `Backend.load`."""
        key = _key(wanted[0].data_store_uuid)
        front, stored, _ = await self._front(key, _reach(wanted))
        header = parse_header(front, stored)
        located = [_located(header, each) for each in wanted]
        far = [(begin, end) for entry, begin, end in located if entry and end > len(front)]
        at, data = 0, front
        if far:
            at, size = min(far)[0], max(end for _, end in far) - min(far)[0]
            data, _ = await self._find(key, size, at) or (b"", 0)
            if len(data) != size:
                raise TransientError(FailureCode.STORE_UNAVAILABLE, "object_changed")  # erased while we read it
        return [
            (entry.loaded(end - begin), front[begin:end] if end <= len(front) else data[begin - at : end - at])
            if entry
            else Failure(code=FailureCode.NOT_FOUND)
            for entry, begin, end in located
        ]

    async def erase(self, unwanted: Sequence[Unwanted]) -> Done:
        """See `Backend.erase`."""
        key = _key(unwanted[0].data_store_uuid)
        for upload_id in {each.upload_id for each in unwanted if each.upload_id is not None}:
            with suppress(MissingError), s3_errors():
                await self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)
        entries = {entry_number(each.data_store_uuid) for each in unwanted}
        async with self._erasing:  # one at a time in this process, for servers that ignore the condition
            for _ in range(ERASE_TRIES):
                left, condition = await self._left(key, entries)
                with suppress(TakenError), s3_errors():
                    await self._client.put_object(Bucket=self._bucket, Key=key, Body=left, **condition)
                    return Done()
        raise TransientError(FailureCode.STORE_UNAVAILABLE, "object_changed")

    async def _bury(self, key: str) -> None:
        """Put a tombstone in the place of a whole object."""
        async with self._erasing:
            with s3_errors():
                await self._client.put_object(Bucket=self._bucket, Key=key, Body=TOMBSTONE)

    async def _left(self, key: str, entries: set[int]) -> tuple[bytes, Condition]:
        """What an object becomes without some of its entries: itself with zeros in their place, or a tombstone.

        And on which condition it may be written: that nobody has changed the object since.
        """
        try:
            front, stored, etag = await self._front(key, NEAR)
            header = parse_header(front, stored)
        except MissingError:
            return TOMBSTONE, {"IfNoneMatch": "*"}
        except PermanentError:  # what cannot be read as an object has no entry that anybody could load
            return TOMBSTONE, {}
        if not header.live() - entries:
            return TOMBSTONE, {"IfMatch": etag}
        whole = front if len(front) == stored else (await self._front(key, stored))[0]
        return without(whole, header, header.live() & entries), {"IfMatch": etag}

    async def _front(self, key: str, count: int) -> tuple[bytes, int, str]:
        """At least `count` bytes of an object, from its beginning and with its whole header; its size, and its ETag.

        Raises:
            PermanentError: `not_found` or, if it is not an object of ours, `integrity_failed`.
        """
        found = await self._get(key, count)
        if found is None:
            raise MissingError
        front, stored, etag = found
        if len(front) < (needed := header_needed(front, stored)):
            front, stored = await self._find(key, needed) or (b"", 0)
        return front, stored, etag

    async def _find(self, key: str, count: int, offset: int = 0) -> tuple[bytes, int] | None:
        """`count` bytes of an object from `offset`, cut at its end, and its size; None if there is no object.

        Raises:
            TransientError: the server did not say.
        """
        found = await self._get(key, count, offset)
        return None if found is None else found[:2]

    async def _get(self, key: str, count: int, offset: int = 0) -> tuple[bytes, int, str] | None:
        """As `_find`, and the object's ETag."""
        try:
            with s3_errors():
                got = await self._client.get_object(
                    Bucket=self._bucket, Key=key, Range=f"bytes={offset}-{offset + count - 1}"
                )
                async with got["Body"] as body:
                    return await body.read(), int(got["ContentRange"].rpartition("/")[2]), got["ETag"]
        except MissingError:
            return None
        except RangeError:
            return b"", 0, ""


def _key(data_store_uuid: UUID) -> str:
    return object_uuid(data_store_uuid).hex


def _reach(wanted: Sequence[Range]) -> int:
    """How much of an object's beginning to fetch first: often all that is needed, seldom much more."""
    alone = len(wanted) == 1 and entry_number(wanted[0].data_store_uuid) == 0
    if not alone:
        return NEAR
    return HEADER_SIZE + (wanted[0].offset + wanted[0].length if wanted[0].offset <= NEAR else 0)


def _located(header: Header, wanted: Range) -> tuple[Entry | None, int, int]:
    """A range's entry, and where in the object it begins and ends; no entry if there is none.

    Raises:
        PermanentError: `integrity_failed`.
    """
    try:
        entry = header.entry(entry_number(wanted.data_store_uuid))
    except PermanentError as error:
        if error.code is not FailureCode.NOT_FOUND:
            raise
        return None, 0, 0
    return entry, *entry.cut(wanted)


def _part_body(part: Part, encrypted: memoryview) -> bytes:
    """The bytes that the server gets: part 1 carries the object's header in front."""
    check_part(part, encrypted)
    front = header_of([(part.auth_tag, part.total)]) if part.number == 1 else b""
    return b"".join((front, encrypted))


def _expected(parts: Parts) -> dict[int, tuple[int, str]]:
    """Size and ETag by number of the parts that must be there, as `_part_body` and the receipts have it."""
    sizes = {number: part_size(parts.total, number) for number in range(1, part_count(parts.total) + 1)}
    sizes[1] = sizes.get(1, 0) + HEADER_SIZE
    receipts = dict(enumerate(parts.receipts, start=1))
    return {number: (sizes.get(number, 0), receipts.get(number, "").strip('"')) for number in sizes | receipts}
