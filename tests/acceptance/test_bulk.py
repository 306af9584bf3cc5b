"""Any number of records through the SDK: what comes back is what went in, and nobody's failure is another's."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from io import BytesIO
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from contracts.edge import Op
from contracts.failures import FailureCode
from contracts.limits import EXPORT_MAX, ITEM_MAX, MAX_BLOB
from infra.local.stack import Stack
from trivault import Batch, Exported, Ingested, Item, PermanentError, Profile, Vault
from trivault.items import BATCH_ITEMS, Items


async def ingested(vault: Vault, items: Items) -> dict[int, Ingested]:
    """What became of every item, by its place."""
    return {outcome.index: outcome async for outcome in vault.ingest(items)}


async def exported(vault: Vault, ids: list[UUID]) -> dict[UUID, Exported]:
    """What came back, by its id."""
    return {each.external_uuid: each async for each in vault.export(ids)}


def ids_of(outcomes: dict[int, Ingested]) -> list[UUID]:
    """Of items all of which became records, in their order."""
    told = [outcomes[at] for at in range(len(outcomes))]
    assert all(outcome.code is None for outcome in told)
    return [outcome.external_uuid for outcome in told if outcome.external_uuid is not None]


async def test_five_thousand_records_come_back_as_they_went(vault: Vault) -> None:
    """Each is a record of its own, told with its hash, and the export finds all of them."""
    blobs = [random.randbytes(1024) for _ in range(5_000)]  # noqa: S311 - test data
    outcomes = await ingested(vault, blobs)
    ids = ids_of(outcomes)
    assert len(set(ids)) == len(blobs)
    assert len({outcome.job_id for outcome in outcomes.values()}) == len(blobs) / BATCH_ITEMS + 0.5
    found = await exported(vault, ids)
    assert [found[external_uuid].data for external_uuid in ids] == blobs


@pytest.mark.parametrize("size", [0, 1, ITEM_MAX, ITEM_MAX + 1, 3 * ITEM_MAX])
async def test_bytes_paths_and_readers_are_the_same_to_it(vault: Vault, tmp_path: Path, size: int) -> None:
    """In an asynchronous iterable, below and above the size that travels in a batch."""
    blob = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(blob)

    async def items() -> AsyncIterator[Item | bytes | Path | str | BytesIO]:
        for each in (blob, path, str(path), BytesIO(blob), Item("a name", blob)):
            yield each
            await asyncio.sleep(0)

    outcomes = await ingested(vault, items())
    ids = ids_of(outcomes)
    assert [outcomes[at].name for at in range(5)] == ["", str(path), str(path), "", "a name"]
    found = await exported(vault, ids)
    assert [found[external_uuid].data for external_uuid in ids] == [blob] * 5


async def test_what_cannot_be_kept_is_told_by_name_and_the_rest_is_kept(vault: Vault, tmp_path: Path) -> None:
    """Too large, vanished, a directory, a device: none of them costs its neighbours anything."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(MAX_BLOB + 1)
    items: list[Item | bytes | Path] = [
        b"before",
        large,
        tmp_path / "gone",
        b"",
        tmp_path,
        Path("/dev/null"),
        Item("too", bytes(MAX_BLOB + 1)),
    ]
    items.append(b"after")
    outcomes = await ingested(vault, items)
    told = {outcome.name: (str(outcome.code), outcome.reason) for outcome in outcomes.values() if outcome.name}
    assert told == {
        str(large): ("blob_too_large", ""),
        str(tmp_path / "gone"): ("invalid_request", "vanished"),
        str(tmp_path): ("invalid_request", "directory"),
        "/dev/null": ("invalid_request", "not_a_file"),
        "too": ("blob_too_large", ""),
    }
    kept = [outcomes[at].external_uuid for at in (0, 3, 7)]
    found = await exported(vault, [external_uuid for external_uuid in kept if external_uuid is not None])
    assert [each.data for each in found.values()] == [b"before", b"", b"after"]


async def test_a_large_file_that_changes_before_it_is_sent_is_not_kept(vault: Vault, tmp_path: Path) -> None:
    """What would be kept is not what was hashed."""
    path = tmp_path / "file"
    path.write_bytes(bytes(ITEM_MAX + 1))

    class Meddler:
        """Changes the file between reading and sending."""

        def sent_as(self, _: str) -> None:
            """Nothing."""

        async def sending(self, _: Batch) -> None:
            """Change it."""
            path.write_bytes(b"1" * (ITEM_MAX + 1))

        async def settled(self, _: Sequence[Ingested]) -> None:
            """Nothing."""

    (outcome,) = [each async for each in vault.ingest([path], journal=Meddler())]
    assert (outcome.code, outcome.reason) == (FailureCode.INVALID_REQUEST, "content_changed")


async def test_items_are_taken_only_as_fast_as_they_are_kept(vault: Vault) -> None:
    """An endless iterable is no danger, and closing early leaves nothing behind."""
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield bytes(100_000)

    async with aclosing(vault.ingest(endless(), ways=2)) as outcomes:
        async for _ in outcomes:
            break
        await asyncio.sleep(0.5)  # time to run away, if it did
    assert taken < 8 * (4 * 1024 * 1024 / 100_000)


async def test_an_export_larger_than_one_answer_takes_several(vault: Vault) -> None:
    """Each answer is bounded, the caller sees one sequence."""
    blobs = [os.urandom(ITEM_MAX) for _ in range(2 * EXPORT_MAX // ITEM_MAX + 1)]
    ids = ids_of(await ingested(vault, blobs))
    assert len(await vault.export_batch(ids)) == EXPORT_MAX // ITEM_MAX
    found = await exported(vault, ids)
    assert [found[external_uuid].data for external_uuid in ids] == blobs


async def test_somebody_elses_and_unknown_records_are_not_found_beside_ones_own(
    vault: Vault, newcomer: Profile
) -> None:
    """An export says so of each, in its place."""
    async with Vault.open(newcomer) as other:
        theirs = await other.dump(b"theirs")
    mine = await vault.dump(b"mine")
    told = [(outcome.code, blob) for outcome, blob in await vault.export_batch([theirs, mine, uuid4(), mine])]
    missing = (FailureCode.NOT_FOUND, b"")
    assert told == [missing, (None, b"mine"), missing, (None, b"mine")]


async def test_a_damaged_record_does_not_hide_its_neighbours_in_the_pack(vault: Vault, stack: Stack) -> None:
    """Its key is gone: `integrity_failed` for it alone."""
    blobs = [os.urandom(1000) for _ in range(300)]
    ids = ids_of(await ingested(vault, blobs))
    key = stack.psql("mapstore", f"SELECT key_store_uuid FROM map WHERE external_uuid = '{ids[7]}'").strip()  # noqa: S608 - our own uuid
    stack.psql("keystore", f"DELETE FROM keys WHERE key_store_uuid = '{key}'")  # noqa: S608 - our own uuid
    found = await exported(vault, ids)
    assert found[ids[7]].code is FailureCode.INTEGRITY_FAILED
    assert [found[each].data for at, each in enumerate(ids) if at != 7] == [b for at, b in enumerate(blobs) if at != 7]


async def test_a_killed_cryptor_does_not_end_an_export(vault: Vault, stack: Stack) -> None:
    """Another one starts the result over; what comes is still every record once."""
    blobs = [random.randbytes(2000) for _ in range(4_000)]  # noqa: S311 - test data
    ids = ids_of(await ingested(vault, blobs))
    exporting = asyncio.create_task(exported(vault, ids))
    await asyncio.sleep(0.3)  # somewhere in the middle; wherever it is must do
    await asyncio.to_thread(stack.kill, "cryptor")
    async with asyncio.timeout(120):
        found = await exporting
    assert [found[each].data for each in ids] == blobs


@pytest.mark.parametrize("count", [0, 10_001])
async def test_an_export_of_nothing_or_of_too_much_is_refused_before_it_is_sent(vault: Vault, count: int) -> None:
    """Bounded by the head itself."""
    with pytest.raises((PermanentError, ValueError)):
        await vault.export_batch([uuid4()] * count)
    assert Op.EXPORT.many
