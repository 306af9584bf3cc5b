"""One behaviour suite for every DataStore backend, on every kind of store that we can run.

rclone's S3 server ignores `If-None-Match` and knows no second `complete`. moto's honours it for whole objects only,
takes parts under another key than the upload's, and answers those of an unknown upload with status 500. Where that
weakens a promise, the test says so.
"""

import asyncio
import hashlib
import os
import random
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest

from contracts.failures import FailureCode, VaultError
from contracts.limits import MIB, PACK_ITEMS, PART
from contracts.stores import Data, Done, Failure, Loaded, Part, Parts, Range, Unwanted, entry_uuid, object_uuid
from tests.stores.conftest import Store
from workers.datastore.backend import Backend
from workers.datastore.directory import DirectoryBackend
from workers.datastore.format import HEADER_SIZE, MAX_OBJECT, TOMBSTONE, header_of
from workers.datastore.s3 import S3Backend

NOISE = random.Random(7).randbytes(12 * MIB)  # noqa: S311 - test data


@dataclass(frozen=True)
class Blob:
    """What is to be one object."""

    id: UUID
    tag: bytes
    content: bytes

    @classmethod
    def of(cls, size: int) -> "Blob":
        """A fresh one of `size` bytes."""
        return cls(object_uuid(uuid4()), os.urandom(32), NOISE[:size])

    @property
    def data(self) -> Data:
        """What dumps or begins it."""
        return Data(data_store_uuid=self.id, auth_tag=self.tag, size=len(self.content))

    def part(self, upload_id: str, number: int) -> tuple[Part, memoryview]:
        """One of its parts, and the bytes."""
        content = self.content[(number - 1) * PART : number * PART]
        part = Part(
            data_store_uuid=self.id,
            upload_id=upload_id,
            auth_tag=self.tag,
            total=len(self.content),
            number=number,
            size=len(content),
            sha256=hashlib.sha256(content).digest(),
        )
        return part, memoryview(content)

    def parts(self, upload_id: str, receipts: list[str]) -> Parts:
        """What completes it."""
        return Parts(
            data_store_uuid=self.id,
            upload_id=upload_id,
            auth_tag=self.tag,
            total=len(self.content),
            receipts=receipts,
        )


async def dump(backend: Backend, blob: Blob) -> Done:
    """Dump it whole."""
    return await backend.dump([blob.data], memoryview(blob.content))


async def send(backend: Backend, blob: Blob, upload_id: str, numbers: list[int]) -> list[str]:
    """Send parts; their receipts in the order of `numbers`."""
    return [(await backend.part(*blob.part(upload_id, number))).receipt for number in numbers]


async def read(backend: Backend, id_: UUID, offset: int = 0, length: int = PART) -> tuple[Loaded, bytes]:
    """Load a range."""
    (found,) = await backend.load([Range(data_store_uuid=id_, offset=offset, length=length)])
    if isinstance(found, Failure):
        raise VaultError(found.code)
    return found


async def read_all(backend: Backend, blob: Blob) -> bytes:
    """Load all of an object's bytes, part by part."""
    return b"".join([(await read(backend, blob.id, at))[1] for at in range(0, max(len(blob.content), 1), PART)])


def refuses(code: FailureCode) -> pytest.RaisesExc[VaultError]:
    """The call fails with this code and no other."""
    return pytest.RaisesExc(VaultError, check=lambda error: error.code is code)


@pytest.fixture
def blob() -> Blob:
    """A small one."""
    return Blob.of(1000)


@pytest.fixture
def large() -> Blob:
    """A whole part and a rest."""
    return Blob.of(PART + 1000)


# --- whole objects --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1])
async def test_a_dumped_object_loads_byte_for_byte(backend: Backend, size: int) -> None:
    """Dump then load gives the same bytes, tag and total, at every boundary size."""
    blob = Blob.of(size)
    await dump(backend, blob)
    loaded, _ = await read(backend, blob.id)
    assert (loaded.auth_tag, loaded.total) == (blob.tag, size)
    assert await read_all(backend, blob) == blob.content


async def test_dumping_again_is_done_too(store: Store, backend: Backend, blob: Blob) -> None:
    """A repeated dump is answered like the first, by any worker."""
    await dump(backend, blob)
    async with store.open() as other:
        assert await dump(other, blob) == Done()
    assert await read_all(backend, blob) == blob.content


@pytest.mark.parametrize("change", ["content", "tag", "size"])
async def test_other_content_under_the_same_id_conflicts(backend: Backend, blob: Blob, change: str) -> None:
    """An object is never replaced by another one, whatever differs."""
    await dump(backend, blob)
    other = {
        "content": Blob(blob.id, blob.tag, bytes(1000)),
        "tag": Blob(blob.id, b"\1" * 32, blob.content),
        "size": Blob(blob.id, blob.tag, blob.content[:-1]),
    }[change]
    with refuses(FailureCode.CONFLICT):
        await dump(backend, other)
    assert await read_all(backend, blob) == blob.content


async def test_of_two_dumps_that_race_one_wins(store: Store, backend: Backend) -> None:
    """Two contents for one id at the same time: one is done, the other conflicts, and the winner is what loads.

    rclone ignores `If-None-Match: *`, so there the last one wins; still one of the two is stored whole.
    """
    id_ = object_uuid(uuid4())
    rivals = [Blob(id_, bytes([n + 1]) * 32, bytes([n]) * 1000) for n in range(2)]
    async with store.open() as other:
        outcomes = await asyncio.gather(dump(backend, rivals[0]), dump(other, rivals[1]), return_exceptions=True)
    loaded, content = await read(backend, id_)
    winner = rivals[content[0]]
    assert (loaded.auth_tag, content) == (winner.tag, winner.content)
    if store.name != "rclone":
        assert outcomes[content[0]] == Done()
        assert isinstance(loser := outcomes[1 - content[0]], VaultError)
        assert loser.code is FailureCode.CONFLICT


async def test_an_object_larger_than_any_blob_is_refused(backend: Backend, blob: Blob) -> None:
    """A size beyond the largest sealed blob is refused before anything is written."""
    too_large = blob.data.model_copy(update={"size": MAX_OBJECT + 1})
    with refuses(FailureCode.BLOB_TOO_LARGE):
        await backend.begin(too_large)
    with refuses(FailureCode.NOT_FOUND):
        await read(backend, blob.id)


# --- ranges ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 1), (0, 1000), (0, PART), (1, 998), (999, 1), (999, 2), (1000, 1), (1001, 1), (10**12, PART)],
)
async def test_a_range_is_cut_at_the_end(backend: Backend, blob: Blob, offset: int, length: int) -> None:
    """A range gives what exists of it; one that begins at or past the end gives nothing, and no error."""
    await dump(backend, blob)
    loaded, data = await read(backend, blob.id, offset, length)
    assert data == blob.content[offset : offset + length]
    assert (loaded.size, loaded.total, loaded.auth_tag) == (len(data), 1000, blob.tag)


@pytest.mark.parametrize("offset", [128 * 1024 - 1, 128 * 1024, 128 * 1024 + 1, 3 * MIB - 1, 3 * MIB])
async def test_a_range_far_into_an_object_is_read_there(backend: Backend, offset: int) -> None:
    """Ranges near the beginning and far from it (one request or two, in S3) give the same bytes."""
    blob = Blob.of(3 * MIB)
    await dump(backend, blob)
    _, data = await read(backend, blob.id, offset, 100)
    assert data == blob.content[offset : offset + 100]


async def test_an_unknown_id_is_not_found(backend: Backend) -> None:
    """What was never dumped does not load."""
    with refuses(FailureCode.NOT_FOUND):
        await read(backend, uuid4())


# --- parts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, PART - 1, PART, PART + 1, 2 * PART, 12 * MIB])
async def test_an_object_in_parts_loads_byte_for_byte(backend: Backend, size: int) -> None:
    """Parts of exactly `PART` bytes and a rest become one object, header and all."""
    blob = Blob.of(size)
    upload_id = (await backend.begin(blob.data)).upload_id
    receipts = await send(backend, blob, upload_id, list(range(1, -(-size // PART) + 1)))
    with refuses(FailureCode.NOT_FOUND):
        await read(backend, blob.id)  # not before it is complete
    assert await backend.complete(blob.parts(upload_id, receipts)) == Done()
    assert (await read(backend, blob.id))[0] == Loaded(auth_tag=blob.tag, total=size, size=min(size, PART))
    assert await read_all(backend, blob) == blob.content


async def test_parts_arrive_in_any_order_and_repeatedly(store: Store, backend: Backend) -> None:
    """Parts may come backwards, twice, side by side and through different workers."""
    large = Blob.of(12 * MIB)
    upload_id = (await backend.begin(large.data)).upload_id
    async with store.open() as other:
        third, second = await asyncio.gather(
            backend.part(*large.part(upload_id, 3)), other.part(*large.part(upload_id, 2))
        )
        await send(other, large, upload_id, [3])
        (first,) = await send(backend, large, upload_id, [1])
        await other.complete(large.parts(upload_id, [first, second.receipt, third.receipt]))
    assert await read_all(backend, large) == large.content


async def test_an_upload_survives_its_worker(store: Store, large: Blob) -> None:
    """A worker that dies between parts and `complete` is replaced by another one, which knows all that was stored."""
    async with store.open() as first:
        upload_id = (await first.begin(large.data)).upload_id
        receipts = await send(first, large, upload_id, [1])
    async with store.open() as second:
        receipts += await send(second, large, upload_id, [2])
        await second.complete(large.parts(upload_id, receipts))
        assert await read_all(second, large) == large.content


async def test_completing_again_is_done_too(store: Store, backend: Backend, large: Blob) -> None:
    """A repeated `complete` is answered like the first, even where the server no longer knows the upload (rclone)."""
    upload_id = (await backend.begin(large.data)).upload_id
    complete = large.parts(upload_id, await send(backend, large, upload_id, [1, 2]))
    await backend.complete(complete)
    async with store.open() as other:
        assert await other.complete(complete) == Done()
        assert await asyncio.gather(*[other.complete(complete) for _ in range(4)]) == [Done()] * 4
    assert await read_all(backend, large) == large.content


async def test_two_completes_at_the_same_time_are_both_done(store: Store, backend: Backend, large: Blob) -> None:
    """Whoever comes second finds the object and is told so."""
    upload_id = (await backend.begin(large.data)).upload_id
    complete = large.parts(upload_id, await send(backend, large, upload_id, [1, 2]))
    async with store.open() as other:
        outcomes = await asyncio.gather(backend.complete(complete), other.complete(complete))
        assert set(outcomes) == {Done()}
    assert await read_all(backend, large) == large.content


@pytest.mark.parametrize("sent", [[], [1], [2]])
async def test_a_missing_part_is_noticed(backend: Backend, large: Blob, sent: list[int]) -> None:
    """`complete` compares with what is there, not with what it is told."""
    upload_id = (await backend.begin(large.data)).upload_id
    receipts = dict(zip(sent, await send(backend, large, upload_id, sent), strict=True))
    invented = hashlib.sha256(b"never sent").hexdigest()
    with refuses(FailureCode.UPLOAD_LOST):
        await backend.complete(large.parts(upload_id, [receipts.get(number, invented) for number in (1, 2)]))
    with refuses(FailureCode.NOT_FOUND):
        await read(backend, large.id)


@pytest.mark.parametrize("receipts", [[0], [0, 1, 1], [1, 0], [0, 0]])
async def test_wrong_receipts_are_noticed(backend: Backend, large: Blob, receipts: list[int]) -> None:
    """Too few, too many or exchanged receipts make no object, and the upload can still be completed as it should be."""
    upload_id = (await backend.begin(large.data)).upload_id
    right = await send(backend, large, upload_id, [1, 2])
    with refuses(FailureCode.UPLOAD_LOST):
        await backend.complete(large.parts(upload_id, [right[index] for index in receipts]))
    await backend.complete(large.parts(upload_id, right))
    assert await read_all(backend, large) == large.content


async def test_a_part_that_is_not_what_was_sent_is_not_stored(backend: Backend, large: Blob) -> None:
    """One flipped bit on the way is found by the SHA-256, before the part replaces anything."""
    upload_id = (await backend.begin(large.data)).upload_id
    receipts = await send(backend, large, upload_id, [1, 2])
    part, content = large.part(upload_id, 2)
    altered = bytearray(content)
    altered[77] ^= 1
    with refuses(FailureCode.INTEGRITY_FAILED):
        await backend.part(part, memoryview(altered))
    await backend.complete(large.parts(upload_id, receipts))
    assert await read_all(backend, large) == large.content


@pytest.mark.parametrize(("number", "size"), [(1, 999), (1, PART - 1), (2, PART), (2, 999), (3, 1000)])
async def test_a_part_of_the_wrong_size_is_refused(backend: Backend, large: Blob, number: int, size: int) -> None:
    """Every part but the last is whole, the last is the rest, and there is none behind it."""
    upload_id = (await backend.begin(large.data)).upload_id
    part, _ = large.part(upload_id, 1)
    content = NOISE[:size]
    wrong = part.model_copy(update={"number": number, "size": size, "sha256": hashlib.sha256(content).digest()})
    with refuses(FailureCode.INVALID_REQUEST):
        await backend.part(wrong, memoryview(content))


async def test_an_empty_object_cannot_arrive_in_parts(backend: Backend) -> None:
    """There is no part of no bytes; an empty object is dumped whole."""
    with refuses(FailureCode.INVALID_REQUEST):
        await backend.begin(Blob.of(0).data)


async def test_an_upload_belongs_to_its_id(store: Store, backend: Backend, large: Blob) -> None:
    """One object's upload id opens nothing under another data_store_uuid (moto does not look)."""
    upload_id = (await backend.begin(large.data)).upload_id
    receipts = await send(backend, large, upload_id, [1, 2])
    other = Blob(object_uuid(uuid4()), large.tag, large.content)
    if store.name != "moto":
        with refuses(FailureCode.NOT_FOUND):
            await backend.part(*other.part(upload_id, 1))
        with refuses(FailureCode.NOT_FOUND):
            await backend.complete(other.parts(upload_id, receipts))
    await backend.complete(large.parts(upload_id, receipts))
    assert await read_all(backend, large) == large.content


INVENTED = [
    "0" * 32,
    "A" * 32,
    "../../objects/00/x",
    "/etc/passwd",
    "..",
    ".",
    "0" * 31 + "/",
    "0" * 32 + "\n",
    "*",
    "%00",
    "x" * 1024,
]


@pytest.mark.parametrize("upload_id", INVENTED)
async def test_an_upload_id_that_we_did_not_make_leads_nowhere(
    store: Store, backend: Backend, blob: Blob, upload_id: str
) -> None:
    """Invented upload ids, path traversal among them, are unknown uploads: for parts, completion and erasure alike."""
    if store.name != "moto":
        with refuses(FailureCode.NOT_FOUND):
            await backend.part(*blob.part(upload_id, 1))
    with refuses(FailureCode.NOT_FOUND):
        await backend.complete(blob.parts(upload_id, ["0" * 64]))
    assert await backend.erase([Unwanted(data_store_uuid=blob.id, upload_id=upload_id)]) == Done()


async def test_parts_never_replace_an_object(backend: Backend, large: Blob) -> None:
    """An id that has an object begins no upload, and one that was begun before cannot be completed over it."""
    upload_id = (await backend.begin(large.data)).upload_id
    receipts = await send(backend, large, upload_id, [1, 2])
    small = Blob(large.id, b"\1" * 32, b"was here first")
    await dump(backend, small)
    with refuses(FailureCode.CONFLICT):
        await backend.begin(large.data)
    with refuses(FailureCode.CONFLICT):
        await backend.complete(large.parts(upload_id, receipts))
    assert await read_all(backend, small) == small.content


# --- erasure --------------------------------------------------------------------------------------------------------


async def test_an_erased_object_is_gone_and_never_returns(store: Store, backend: Backend, blob: Blob) -> None:
    """After an erase the id loads nothing and takes nothing, whoever tries; erasing again is done too."""
    await dump(backend, blob)
    unwanted = Unwanted(data_store_uuid=blob.id)
    assert await backend.erase([unwanted]) == Done()
    async with store.open() as other:
        with refuses(FailureCode.NOT_FOUND):
            await read(other, blob.id)
        with refuses(FailureCode.CONFLICT):
            await dump(other, blob)
        with refuses(FailureCode.CONFLICT):
            await other.begin(blob.data)
        assert await other.erase([unwanted]) == Done()
        with refuses(FailureCode.NOT_FOUND):
            await read(other, blob.id, 10**12)


async def test_an_id_erased_before_it_came_never_comes(backend: Backend, blob: Blob) -> None:
    """A dump that was delayed past its erase finds the tombstone."""
    assert await backend.erase([Unwanted(data_store_uuid=blob.id)]) == Done()
    with refuses(FailureCode.CONFLICT):
        await dump(backend, blob)


async def test_erasing_ends_an_unfinished_upload(store: Store, backend: Backend, large: Blob) -> None:
    """After an erase that names the upload, parts find no upload and `complete` finds the tombstone."""
    upload_id = (await backend.begin(large.data)).upload_id
    receipts = await send(backend, large, upload_id, [1, 2])
    assert await backend.erase([Unwanted(data_store_uuid=large.id, upload_id=upload_id)]) == Done()
    with refuses(FailureCode.STORE_UNAVAILABLE if store.name == "moto" else FailureCode.NOT_FOUND):
        await backend.part(*large.part(upload_id, 1))
    with refuses(FailureCode.CONFLICT):
        await backend.complete(large.parts(upload_id, receipts))
    with refuses(FailureCode.NOT_FOUND):
        await read(backend, large.id)
    assert await backend.erase([Unwanted(data_store_uuid=large.id, upload_id=upload_id)]) == Done()


async def test_an_upload_that_the_erase_did_not_know_cannot_be_completed(backend: Backend, large: Blob) -> None:
    """The tombstone alone is enough to keep an object from appearing."""
    upload_id = (await backend.begin(large.data)).upload_id
    receipts = await send(backend, large, upload_id, [1, 2])
    await backend.erase([Unwanted(data_store_uuid=large.id)])
    with refuses(FailureCode.CONFLICT):
        await backend.complete(large.parts(upload_id, receipts))
    with refuses(FailureCode.NOT_FOUND):
        await read(backend, large.id)


async def test_an_erase_that_races_with_a_dump_has_the_last_word(store: Store, backend: Backend) -> None:
    """Whichever comes first, nothing is left to load.

    rclone ignores `If-None-Match: *`: a dump that looked before the erase may write after it, so it proves little.
    """
    blobs = [Blob.of(100) for _ in range(10)]
    async with store.open() as other:
        await asyncio.gather(
            *[dump(backend, blob) for blob in blobs],
            *[other.erase([Unwanted(data_store_uuid=blob.id)]) for blob in blobs],
            return_exceptions=True,
        )
    for blob in blobs if store.name != "rclone" else []:
        with refuses(FailureCode.NOT_FOUND):
            await read(backend, blob.id)


# --- packs ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pack:
    """Small blobs that are to share an object."""

    blobs: list[Blob]

    @classmethod
    def of(cls, *sizes: int) -> "Pack":
        """A fresh one."""
        id_ = object_uuid(uuid4())
        return cls([Blob(entry_uuid(id_, at), os.urandom(32), os.urandom(size)) for at, size in enumerate(sizes)])

    async def dump(self, backend: Backend) -> Done:
        """Write it."""
        content = b"".join(blob.content for blob in self.blobs)
        return await backend.dump([blob.data for blob in self.blobs], memoryview(content))

    async def readable(self, backend: Backend) -> list[int]:
        """Which entries load, with their own bytes, all at once and each by itself."""
        ranges = [Range(data_store_uuid=blob.id, offset=0, length=PART) for blob in self.blobs]
        found = await backend.load(ranges)
        there = []
        for at, (blob, told) in enumerate(zip(self.blobs, found, strict=True)):
            (alone,) = await backend.load([ranges[at]])
            assert alone == told
            if isinstance(told, Failure):
                assert told.code is FailureCode.NOT_FOUND
                continue
            size = len(blob.content)
            assert told == (Loaded(auth_tag=blob.tag, total=size, size=size), blob.content)
            there.append(at)
        return there

    def unwanted(self, *entries: int) -> list[Unwanted]:
        """What erases some of it."""
        return [Unwanted(data_store_uuid=self.blobs[at].id) for at in entries]


@pytest.fixture
def pack() -> Pack:
    """Entries small and large, an empty one among them, and one that is far from the beginning."""
    return Pack.of(1000, 0, 200_000, 17, 1)


async def test_entries_of_a_pack_load_like_objects(backend: Backend, pack: Pack) -> None:
    """Each has its own tag, size and ranges; there is none behind the last."""
    await pack.dump(backend)
    assert await pack.readable(backend) == [0, 1, 2, 3, 4]
    _, data = await read(backend, pack.blobs[2].id, 199_990, 100)
    assert data == pack.blobs[2].content[199_990:]
    with refuses(FailureCode.NOT_FOUND):
        await read(backend, entry_uuid(pack.blobs[0].id, 5))


async def test_a_full_pack_is_one_object(backend: Backend) -> None:
    """A thousand entries; one more is refused."""
    full = Pack.of(*[100] * PACK_ITEMS)
    await full.dump(backend)
    assert (await read(backend, full.blobs[-1].id))[1] == full.blobs[-1].content
    with refuses(FailureCode.INVALID_REQUEST):
        await Pack.of(*[1] * (PACK_ITEMS + 1)).dump(backend)


async def test_a_pack_is_idempotent_as_a_whole(backend: Backend, pack: Pack) -> None:
    """The same again is done; one entry that differs, or is missing, is a conflict."""
    await pack.dump(backend)
    assert await pack.dump(backend) == Done()
    with refuses(FailureCode.CONFLICT):
        await Pack(pack.blobs[:-1]).dump(backend)
    with refuses(FailureCode.CONFLICT):
        await Pack([*pack.blobs[:-1], Blob(pack.blobs[4].id, pack.blobs[4].tag, b"other")]).dump(backend)


async def test_a_pack_that_does_not_begin_at_its_first_entry_is_refused(backend: Backend, pack: Pack) -> None:
    """Neither out of order, nor with a gap, nor from the middle."""
    first, second, third, *_ = pack.blobs
    for wrong in ([second], [second, first], [first, third], [first, first]):
        with refuses(FailureCode.INVALID_REQUEST):
            await Pack(wrong).dump(backend)


async def test_erasing_an_entry_leaves_its_neighbours(store: Store, backend: Backend, pack: Pack) -> None:
    """The others load as before, and the erased bytes are gone from the object."""
    await pack.dump(backend)
    assert await backend.erase(pack.unwanted(2)) == Done()
    assert await pack.readable(backend) == [0, 1, 3, 4]
    assert pack.blobs[2].content[:1000] not in await stored(backend, pack.blobs[0].id)
    async with store.open() as other:
        assert await other.erase(pack.unwanted(2, 4)) == Done()
        assert await pack.readable(other) == [0, 1, 3]
    with refuses(FailureCode.CONFLICT):
        await pack.dump(backend)


async def test_a_pack_of_which_nothing_is_left_is_a_tombstone(backend: Backend, pack: Pack) -> None:
    """However it came to that."""
    await pack.dump(backend)
    for entry in (1, 0, 4, 2, 3):
        await backend.erase(pack.unwanted(entry))
    assert await stored(backend, pack.blobs[0].id) == TOMBSTONE
    with refuses(FailureCode.NOT_FOUND):
        await read(backend, pack.blobs[0].id)


async def test_entries_erased_at_the_same_time_are_all_gone(store: Store, backend: Backend) -> None:
    """Ten callers, each with an entry of its own; in a directory also from several workers."""
    pack = Pack.of(*[500] * 20)
    await pack.dump(backend)
    async with store.open() as other:
        second = other if store.name == "directory" else backend
        erasing = [(backend, second)[entry % 2].erase(pack.unwanted(entry)) for entry in range(10)]
        await asyncio.gather(*erasing)
    assert await pack.readable(backend) == list(range(10, 20))


async def stored(backend: Backend, id_: UUID) -> bytes:
    """An object's bytes as a thief would find them."""
    if isinstance(backend, S3Backend):
        got = await backend._client.get_object(Bucket=backend._bucket, Key=object_uuid(id_).hex)
        async with got["Body"] as body:
            return await body.read()
    assert isinstance(backend, DirectoryBackend)
    return backend._object(id_).read_bytes()


# --- damage ---------------------------------------------------------------------------------------------------------


async def overwrite(backend: Backend, id_: UUID, content: bytes) -> None:
    """Put bytes where an object is, as a thief or a broken disk would."""
    if isinstance(backend, S3Backend):
        await backend._client.put_object(Bucket=backend._bucket, Key=object_uuid(id_).hex, Body=content)
    elif isinstance(backend, DirectoryBackend):
        backend._object(id_).write_bytes(content)


def _damages() -> dict[str, bytes]:
    whole = header_of([(b"\1" * 32, 1000)]) + NOISE[:1000]
    return {
        "empty": b"",
        "one byte": whole[:1],
        "header cut": whole[: HEADER_SIZE - 1],
        "data cut": whole[:-1],
        "data missing": whole[:HEADER_SIZE],
        "data grown": whole + b"\0",
        "other magic": b"TVD2" + whole[4:],
        "no entries but data": whole[:4] + bytes(4) + whole[8:],
        "two entries": whole[:4] + (2).to_bytes(4, "big") + whole[8:],
        "tombstone grown": TOMBSTONE + b"\0",
        "tombstone cut": TOMBSTONE[:-1],
        "size changed": whole[:40] + (999).to_bytes(8, "big") + whole[48:],
        "huge size": whole[:40] + b"\xff" * 8 + whole[48:],
    }


@pytest.mark.parametrize("damage", _damages())
async def test_a_damaged_object_is_an_error_and_never_data(backend: Backend, blob: Blob, damage: str) -> None:
    """Whatever was done to header or length, every load says `integrity_failed`, and a dump does not repair it."""
    await dump(backend, blob)
    await overwrite(backend, blob.id, _damages()[damage])
    for offset in (0, 200 * 1024):
        with refuses(FailureCode.INTEGRITY_FAILED):
            await read(backend, blob.id, offset)
    with refuses(FailureCode.CONFLICT):
        await dump(backend, blob)
