"""Many records: several batches under way, every item with its outcome, memory bounded by what is under way.

What one batch is, and how it travels, is the vault's affair; what a file is, `trivault.items`'s.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar
from uuid import UUID

import stamina

from contracts.failures import FailureCode, PermanentError, TransientError, VaultError
from messaging.together import together
from trivault.items import Batch, Items, Remnant, Sent, Unread, batches

if TYPE_CHECKING:
    from trivault.vault import Vault

WAYS: Final = 3  # batches under way at once
PATIENCE_SECONDS: Final = 60.0  # for a vault that does not answer, or is at its limit
EXPORT_ITEMS: Final = 2_000  # uuids of one request
PASSING: Final = {FailureCode.BUSY, FailureCode.QUOTA_EXCEEDED}  # refusals that a later try may not meet

T = TypeVar("T")

LOST: Final = {FailureCode.UPLOAD_LOST, FailureCode.STORE_UNAVAILABLE}  # sealed: there is no record; try a new job
ROUNDS: Final = 3  # jobs that an item may be sent in
PAUSE_SECONDS: Final = 2.0  # before the next job


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of one item: a record, or a code; or, if the vault did not say, neither for certain."""

    index: int  # among all items, from 0
    name: str
    size: int = 0
    sha256: bytes = b""
    external_uuid: UUID | None = None
    code: FailureCode | None = None
    reason: str = ""
    job_id: UUID | None = None  # none if it was not sent
    unknown: bool = False  # it may be a record, or become one: the same batch under the same `job_id` finds out


@dataclass(frozen=True, slots=True)
class Exported:
    """One record, or why it could not be loaded."""

    external_uuid: UUID
    data: bytes = field(default=b"", repr=False)
    code: FailureCode | None = None


class Journal(Protocol):
    """What a caller notes of an ingestion, so that another process can go on with it. It is written ahead."""

    def sent_as(self, name: str) -> Sent | None:
        """Where an item was sent by a process before this one, if it is not known what became of it."""

    async def sending(self, batch: Batch) -> None:
        """Note a batch, durably: it is about to be sent."""

    async def settled(self, outcomes: Sequence[Ingested]) -> None:
        """Note outcomes. Those that are `unknown` are not."""


class Forgetful:
    """The journal of those who keep none."""

    def sent_as(self, name: str) -> Sent | None:  # noqa: ARG002 - see `Journal`
        """Nothing is known."""
        return None

    async def sending(self, batch: Batch) -> None:
        """Nothing is noted."""

    async def settled(self, outcomes: Sequence[Ingested]) -> None:
        """Nothing is noted."""


async def ingest(vault: "Vault", items: Items, ways: int, journal: Journal) -> AsyncGenerator[Ingested, None]:
    """See `Vault.ingest`."""

    async def one(read: Batch | Remnant | Unread) -> AsyncIterator[list[Ingested]]:
        batch = read
        if not isinstance(batch, Batch):
            told, batch = await _asked_for(vault, batch)
            await journal.settled(told)
            yield told
        for left in reversed(range(ROUNDS)):
            if not batch.members:
                return
            await journal.sending(batch)
            told = await _send(vault, batch)
            await journal.settled(told)
            again = [at for at, outcome in enumerate(told) if left and outcome.code in LOST]
            yield [outcome for at, outcome in enumerate(told) if at not in set(again)]
            batch = Batch([batch.members[at] for at in again])
            if again:
                await asyncio.sleep(PAUSE_SECONDS)

    async with aclosing(merged((one(read) async for read in batches(items, journal.sent_as)), ways)) as told:
        async for outcomes in told:
            for outcome in outcomes:
                yield outcome


async def _asked_for(vault: "Vault", read: Remnant | Unread) -> tuple[list[Ingested], Batch]:
    """What became of something that need not be sent; and a batch of what has to be sent after all."""
    if isinstance(read, Unread):
        return [Ingested(read.index, read.name, code=read.code, reason=read.reason)], Batch([])
    before = Batch(list(read.members.values()), read.job_id)
    try:
        outcomes = (await _patiently(partial(vault.settled, read.job_id))).outcomes
    except VaultError as error:
        return [_told(before, at, code=error.code, reason=error.reason, unknown=True) for at in _all(before)], Batch([])
    told = [outcomes[item].external_uuid if outcomes else None for item in read.members]
    kept = [_told(before, at, external_uuid) for at, external_uuid in enumerate(told) if external_uuid is not None]
    return kept, Batch([before.members[at] for at in _all(before) if told[at] is None])


async def _send(vault: "Vault", batch: Batch) -> list[Ingested]:
    """Send a batch, again and again under its job id while there is hope, and tell what became of its items."""
    try:
        return await _patiently(partial(_send_once, vault, batch))
    except VaultError as error:
        unknown = isinstance(error, TransientError)
        return [_told(batch, at, code=error.code, reason=error.reason, unknown=unknown) for at in _all(batch)]
    except OSError:  # a large file is read again when it is sent
        return [_told(batch, at, code=FailureCode.INVALID_REQUEST, reason="vanished") for at in _all(batch)]


async def _send_once(vault: "Vault", batch: Batch) -> list[Ingested]:
    first = batch.members[0]
    if first.large:
        external_uuid = await vault.dump(first.data, job_id=batch.job_id, sha256=first.sha256)
        return [_told(batch, 0, external_uuid)]
    blobs = [member.data for member in batch.members if not isinstance(member.data, Path)]
    outcomes = await vault.ingest_batch(blobs, job_id=batch.job_id)
    return [_told(batch, at, outcome.external_uuid, outcome.code) for at, outcome in enumerate(outcomes)]


def _all(batch: Batch) -> range:
    return range(len(batch.members))


def _told(
    batch: Batch,
    at: int,
    external_uuid: UUID | None = None,
    code: FailureCode | None = None,
    reason: str = "",
    *,
    unknown: bool = False,
) -> Ingested:
    member = batch.members[at]
    return Ingested(
        index=member.index,
        name=member.name,
        size=member.size,
        sha256=member.sha256,
        external_uuid=external_uuid,
        code=code,
        reason=reason,
        job_id=batch.job_id,
        unknown=unknown,
    )


async def export(
    vault: "Vault", external_uuids: Iterable[UUID] | AsyncIterable[UUID], ways: int
) -> AsyncGenerator[Exported, None]:
    """See `Vault.export`."""

    async def one(asked: list[UUID]) -> AsyncIterator[list[Exported]]:
        while asked:
            entries = await _patiently(partial(vault.export_batch, asked))
            found = [Exported(uuid, blob, outcome.code) for uuid, (outcome, blob) in zip(asked, entries, strict=False)]
            yield [each for each in found if each.code is not FailureCode.BLOB_TOO_LARGE]
            for each in found:
                if each.code is FailureCode.BLOB_TOO_LARGE:
                    yield [await _large(vault, each.external_uuid)]
            asked = asked[len(found) :]

    async with aclosing(merged((one(asked) async for asked in _asked(external_uuids)), ways)) as told:
        async for found in told:
            for each in found:
                yield each


async def _asked(external_uuids: Iterable[UUID] | AsyncIterable[UUID]) -> AsyncIterator[list[UUID]]:
    asked: list[UUID] = []
    async for external_uuid in _every(external_uuids):
        asked.append(external_uuid)
        if len(asked) == EXPORT_ITEMS:
            yield asked
            asked = []
    if asked:
        yield asked


async def _every(things: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(things, AsyncIterable):
        async for thing in things:
            yield thing
    else:
        for thing in things:
            yield thing


async def _large(vault: "Vault", external_uuid: UUID) -> Exported:
    try:
        return Exported(external_uuid, await vault.load(external_uuid))
    except PermanentError as error:
        return Exported(external_uuid, code=error.code)


def _hopeful(error: Exception) -> bool:
    return isinstance(error, TransientError) or (isinstance(error, PermanentError) and error.code in PASSING)


async def _patiently(act: Callable[[], Awaitable[T]]) -> T:
    """Do it again while it may help, less and less often."""
    again = stamina.AsyncRetryingCaller(attempts=None, timeout=PATIENCE_SECONDS, wait_initial=0.5, wait_max=10.0)
    return await again(_hopeful, act)


async def merged(sources: AsyncIterator[AsyncIterator[T]], ways: int) -> AsyncGenerator[T, None]:
    """What the sources yield, in the order in which it comes; `ways` of them run at once, none far ahead of the reader.

    Whoever does not read to the end closes it (`aclosing`): what is under way is cancelled then.
    """
    ready: asyncio.Queue[T | None] = asyncio.Queue()  # bounded by `room`
    room, slots = asyncio.Semaphore(ways), asyncio.Semaphore(ways)

    async def drain(source: AsyncIterator[T]) -> None:
        try:
            async for each in source:
                await room.acquire()
                ready.put_nowait(each)
        finally:
            slots.release()

    async def feed() -> None:
        async with asyncio.TaskGroup() as group:
            await slots.acquire()
            async for source in sources:
                group.create_task(drain(source))
                await slots.acquire()

    feeding = asyncio.create_task(together(feed()))
    feeding.add_done_callback(lambda _: ready.put_nowait(None))
    try:
        while (each := await ready.get()) is not None:
            room.release()
            yield each
        await feeding
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
