"""The vault as its users see it: dump, load, submit, status, wait.

Everything that decides whether an answer is true is checked on this side, by its seal. What the gateway says unsealed
is taken as a refusal, or as a hint where to send or fetch, never as a fact about a record.
"""

import asyncio
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Sequence,
)
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

import stamina
from stamina.instrumentation import set_on_retry_hooks

from contracts.codec import parse
from contracts.edge import Answer, ItemOutcome, JobStatus, Op, Request, State, Transfer
from contracts.failures import UNSEALED, FailureCode, NotOursError, PermanentError, TransientError
from contracts.lp import lp, take_lp
from contracts.sweep import SweepReport
from messaging.connection import Broker
from messaging.together import together
from sealing.streams import SealError, seal
from trivault import bulk
from trivault.bulk import WAYS, Exported, Forgetful, Ingested, Journal
from trivault.content import Content, Data, Progress
from trivault.items import Items
from trivault.profile import Profile
from trivault.sealer import EXPIRY_SECONDS, ClientSealer, Prepared
from trivault.session import ANSWER_SECONDS, Session, Update
from trivault.sinks import FileSink, MemorySink, Sink
from trivault.transfers import download, upload

set_on_retry_hooks([])  # its log lines would quote arguments

T = TypeVar("T")

FIRST_POLL_SECONDS: Final = 5.0  # of silence before a waiting client asks
LONGEST_POLL_SECONDS: Final = 30.0
TRIES: Final = 3  # for what may be sent again under the same job id, and for a load that got lost


@dataclass(frozen=True, slots=True)
class Status:
    """How a job is. `external_uuid` and a sealed `code` are the Cryptor's word; an unsealed code is a refusal."""

    job_id: UUID
    state: State
    external_uuid: UUID | None = None
    code: FailureCode | None = None
    reason: str = ""
    sealed: bool = False
    done: int = 0  # items
    total: int = 0
    outcomes: tuple[ItemOutcome, ...] = ()  # of a batch, one per item


class Vault:
    """A connection to a vault as one client."""

    def __init__(self, profile: Profile, broker: Broker, session: Session) -> None:
        """Speak over `session`; `Vault.open` makes one."""
        self._profile = profile
        self._broker = broker
        self._session = session
        self._sealer = ClientSealer(profile)
        self._trusting = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(cls, profile: Profile | Path | str) -> AsyncIterator["Vault"]:
        """Connect with a profile, or with the path of one.

        Raises:
            ProfileError: the profile cannot be used.
            TransientError: the vault cannot be reached.
        """
        told = profile if isinstance(profile, Profile) else Profile.read(profile)
        async with (
            Broker.open(told.broker, f"client {told.name}") as broker,
            Session.open(broker, told.name) as session,
        ):
            yield cls(told, broker, session)

    # --- records --------------------------------------------------------------------------------------------------

    async def dump(
        self, data: Data, *, job_id: UUID | None = None, sha256: bytes | None = None, progress: Progress | None = None
    ) -> UUID:
        """Keep a blob; return its external_uuid.

        Args:
            data: bytes, a path (also as `str`), or a seekable binary file; at most 52,428,800 bytes.
            job_id: the idempotency key. The same one with the same content is the same record, however often.
            sha256: what the content has to hash to, if the caller knows: else it is `content_changed`.
            progress: told how many bytes went, of how many.

        Raises:
            PermanentError: with a code. There is no record of this job; after an unsealed refusal, none of this
                request. TransientError: the outcome is not known yet; the same call with the same `job_id` finds it
                out.
        """
        with Content.of(data, progress) as content:
            return await self._renewing_trust(lambda: self._dump(content, job_id, sha256), once=job_id is not None)

    async def ingest_batch(self, blobs: Sequence[bytes], *, job_id: UUID | None = None) -> list[ItemOutcome]:
        """Keep many small blobs as one job; what became of each, in the same order.

        Args:
            blobs: 1 to 10,000, of at most 1 MiB each and 52,428,800 bytes with 4 bytes of framing per blob.
            job_id: the idempotency key. The same one with the same blobs gives the same records.

        Raises:
            PermanentError: the batch was refused; there is no record of this request.
            TransientError: the outcome is not known yet; the same call with the same `job_id` finds it out.
        """
        with Content.of(lp(*blobs)) as content:
            sha256 = await content.sha256()

            async def act() -> list[ItemOutcome]:
                prepared = self._sealer.dump(content.size, sha256, job_id, items=len(blobs))
                return (await self._converse(prepared, content))[0].outcomes

            return await self._renewing_trust(act, once=job_id is not None)

    async def load(self, external_uuid: UUID) -> bytes:
        """Return a blob, verified whole.

        Raises:
            PermanentError: `not_found`, `integrity_failed`, or a refusal.
            TransientError: try again later.
        """
        sink = MemorySink()
        await self.load_into(external_uuid, sink)
        return sink.value()

    async def load_into(self, external_uuid: UUID, sink: Sink) -> None:
        """Load a record into a sink. What that was given is verified when this returns, and not before.

        Raises:
            PermanentError: as `load`.
            TransientError: as `load`.
        """
        await self._load([external_uuid], sink)

    async def export_batch(self, external_uuids: Sequence[UUID]) -> list[tuple[ItemOutcome, bytes]]:
        """Load small records in one request: outcomes and blobs in order, of all or only of the first of them.

        As many as fit into 8 MiB are answered, at least one; ask again for the others. A record of more than 1 MiB is
        not loaded this way; its outcome is `blob_too_large`.

        Args:
            external_uuids: 1 to 10,000.

        Raises:
            PermanentError: refused.
            TransientError: try again later.
        """
        sink = MemorySink()
        await self._load(external_uuids, sink, Op.EXPORT)
        return _entries(sink.value(), external_uuids)

    def ingest(
        self, items: Items, *, ways: int = WAYS, journal: Journal | None = None
    ) -> AsyncGenerator[Ingested, None]:
        """Keep any number of blobs; tell what became of each, as soon as it is known and so not in order.

        Small ones travel together, many to a job; those above 1 MiB each as a job of its own. What cannot be read or
        kept is told with its code and reason, and the rest goes on. Memory is bounded by `ways` batches of 4 MiB.

        Args:
            items: any iterable or asynchronous iterable of bytes, paths (also as `str`), binary files or `Item`s.
            ways: batches under way at once.
            journal: notes what is sent and what became of it, so that another process can go on after this one.
        """
        return bulk.ingest(self, items, ways, journal or Forgetful())

    def export(
        self, external_uuids: Iterable[UUID] | AsyncIterable[UUID], *, ways: int = WAYS
    ) -> AsyncGenerator[Exported, None]:
        """Load any number of records; each as soon as it is there and verified, and so not in order.

        What cannot be loaded is told with its code. Memory is bounded by `ways` answers of 8 MiB, or one large record
        each.

        Raises:
            PermanentError: refused.
            TransientError: the vault does not answer, for more than a minute.
        """
        return bulk.export(self, external_uuids, ways)

    async def load_to(self, external_uuid: UUID, path: Path | str, *, progress: Progress | None = None) -> None:
        """Write a blob to a file, mode 0600, that appears under its name only when it is whole and verified.

        Raises:
            OSError: the file cannot be written.
            PermanentError: as `load`.
            TransientError: as `load`.
        """
        sink = FileSink(Path(path), progress)
        try:
            await self.load_into(external_uuid, sink)
            await sink.commit()
        finally:
            await sink.discard()

    async def sweep(self, *, dry_run: bool = False, job_id: UUID | None = None) -> SweepReport:
        """Collect keys, objects and uploads that no record names; what became of them. Only operators may.

        It stops by itself where something looks wrong: see `SweepReport.stopped`.

        Args:
            dry_run: change nothing; tell what would be done.
            job_id: the idempotency key. The same one is the same sweep.

        Raises:
            PermanentError: refused, `operators_only` above all.
            TransientError: the outcome is not known yet; the same call with the same `job_id` finds it out.
        """

        async def act() -> SweepReport:
            answer, _ = await self._converse(self._sealer.sweep(dry_run=dry_run, job_id=job_id))
            if answer.report is None:
                raise PermanentError(answer.outcomes[0].code or FailureCode.INTERNAL)
            return answer.report

        return await self._renewing_trust(act, once=job_id is not None)

    # --- jobs -----------------------------------------------------------------------------------------------------

    async def submit(self, data: Data, *, job_id: UUID | None = None, progress: Progress | None = None) -> UUID:
        """Hand a blob over and return its job id as soon as the vault answers for it; `wait` or `status` tell the rest.

        Raises:
            PermanentError: refused, or the upload was lost.
            TransientError: the outcome is not known; `status` tells.
        """
        with Content.of(data, progress) as content:
            return await self._renewing_trust(lambda: self._submit(content, job_id), once=job_id is not None)

    async def status(self, job_ids: Sequence[UUID]) -> list[Status]:
        """How jobs are, in the same order; answers to dumps are opened.

        Raises:
            TransientError: the gateway does not answer.
        """
        missing = dict.fromkeys(job_ids)
        found: dict[UUID, Status] = {}
        with self._session.updates(list(missing)) as updates:
            await together(*(self._session.ask(job_id) for job_id in missing))
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    while len(found) < len(missing):
                        status, sealed = await updates.get()
                        found[status.job_id] = self._status(status, sealed)
            except TimeoutError:
                raise TransientError(FailureCode.BUSY, "gateway_timeout") from None
        return [found[job_id] for job_id in job_ids]

    async def wait(self, job_id: UUID) -> UUID:
        """Wait for a dump that was submitted, by this process or another; its external_uuid.

        Raises:
            PermanentError: it failed, or the vault knows no such job.
            TransientError: as `settled`.
        """
        told = await self.settled(job_id)
        if told.state is State.UNKNOWN:
            raise PermanentError(FailureCode.NOT_FOUND, "unknown_job")
        if told.external_uuid is None:
            raise PermanentError(told.code or FailureCode.INTERNAL, told.reason)
        return told.external_uuid

    async def settled(self, job_id: UUID) -> Status:
        """Wait until a job of this or another process has its end, and tell how it ended; or that nobody knows it.

        Raises:
            TransientError: it is still under way when the longest a request may live is over.
        """
        with self._session.updates([job_id]) as updates:
            await self._session.ask(job_id)
            async for status, sealed in self._follow(job_id, updates):
                told = self._status(status, sealed)
                if told.state is State.UNKNOWN or told.sealed or told.code is not None:
                    return told
        raise TransientError(FailureCode.BUSY, "still_running")

    def _status(self, status: JobStatus, sealed: bytes) -> Status:
        told = Status(
            job_id=status.job_id, state=status.state, reason=status.reason, done=status.done, total=status.total
        )
        if sealed and status.op is not None and not status.op.reads and status.request_tag is not None:
            try:
                answer = self._sealer.open_dump_answer(status.op, status.job_id, status.request_tag, sealed)
            except SealError:
                return replace(told, code=FailureCode.INTEGRITY_FAILED, reason="answer")
            if status.op is Op.INGEST:
                return replace(told, outcomes=tuple(answer.outcomes), sealed=True)
            outcome = answer.outcomes[0]
            return replace(told, external_uuid=outcome.external_uuid, code=outcome.code, sealed=True)
        return replace(told, code=status.code if status.code in UNSEALED else None)

    # --- how ------------------------------------------------------------------------------------------------------

    async def _trust(self) -> None:
        """Have a key statement that the pinned identity signed and that has not expired."""
        async with self._trusting:
            if not self._sealer.trusting:
                async for attempt in stamina.retry_context(on=TransientError, attempts=TRIES, wait_initial=0.2):
                    with attempt:
                        self._sealer.trust(await self._session.key_directory())

    async def _renewing_trust(self, act: Callable[[], Awaitable[T]], *, once: bool) -> T:
        """Do it; if the Cryptor no longer knows the key that it was sealed to, once more with a new one."""
        await self._trust()
        try:
            return await act()
        except PermanentError as error:
            if error.reason != "unknown_key":
                raise
            self._sealer.distrust()
            if once:
                raise
        await self._trust()
        return await act()

    async def _dump(self, content: Content, job_id: UUID | None, sha256: bytes | None) -> UUID:
        prepared = self._sealer.dump(content.size, await content.sha256(sha256), job_id)
        answer, _ = await self._converse(prepared, content)
        external_uuid = answer.outcomes[0].external_uuid
        if external_uuid is None:
            raise PermanentError(answer.outcomes[0].code or FailureCode.INTERNAL)
        return external_uuid

    async def _submit(self, content: Content, job_id: UUID | None) -> UUID:
        prepared = self._sealer.dump(content.size, await content.sha256(), job_id)
        await self._converse(prepared, content, until_accepted=True)
        return prepared.job_id

    async def _load(self, external_uuids: Sequence[UUID], sink: Sink, op: Op = Op.LOAD) -> None:
        await self._trust()
        async for attempt in stamina.retry_context(on=TransientError, attempts=TRIES, wait_initial=0.2):
            with attempt:
                await sink.restart()
                await self._renewing_trust(lambda: self._load_once(external_uuids, sink, op), once=False)

    async def _load_once(self, external_uuids: Sequence[UUID], sink: Sink, op: Op) -> None:
        answer, _ = await self._converse(self._sealer.load(external_uuids, op), sink=sink)
        if answer.outcomes[0].code is not None:
            raise PermanentError(answer.outcomes[0].code)

    async def _converse(
        self,
        prepared: Prepared,
        content: Content | None = None,
        sink: Sink | None = None,
        *,
        until_accepted: bool = False,
    ) -> tuple[Answer, bytes]:
        """Send a request, its payload or its result on the way, and return its answer.

        Raises:
            PermanentError: refused.
            TransientError: the outcome is unknown.
        """
        body = prepared.prefix
        if content is not None and prepared.head.transfer is Transfer.INLINE:
            whole = b"".join([piece async for piece in content.pieces()])
            body += seal(prepared.secrets.payload_key, prepared.payload_context, whole)
        notify = until_accepted or sink is not None or prepared.head.transfer is Transfer.UPLOAD
        transfer: asyncio.Task[None] | None = None
        with self._session.updates([prepared.job_id]) as updates:
            await self._send(Request(notify=notify), body, prepared.job_id)
            try:
                async for status, sealed in self._follow(prepared.job_id, updates):
                    if (ended := _ended(prepared, status, sealed)) is not None:
                        if sink is not None and ended[0].outcomes[0].code is None:
                            if transfer is None and (way := self._way(prepared, status, None, sink)) is not None:
                                transfer = asyncio.create_task(way)
                            await _received(transfer, *ended, sink)
                        return ended
                    if transfer is None and (way := self._way(prepared, status, content, sink)) is not None:
                        transfer = asyncio.create_task(way)
                    if until_accepted and status.state is not State.UNKNOWN:
                        if transfer is not None:
                            await transfer
                        return Answer(outcomes=[ItemOutcome()]), b""
            finally:
                await _cancelled(transfer)
        raise TransientError(FailureCode.BUSY, "still_running")

    def _way(
        self, prepared: Prepared, status: JobStatus, content: Content | None, sink: Sink | None
    ) -> Coroutine[None, None, None] | None:
        """How the payload or the result travels, once the vault has said where.

        The job may be somebody's earlier request under the same id: our payload would not fit its keys.
        """
        if content is not None and status.upload is not None and status.request == prepared.fingerprint:
            return upload(self._broker.publishing, self._profile.name, prepared, content, status.upload)
        if sink is not None and status.download is not None:
            return download(self._broker.consuming, prepared, status.download, sink)
        return None

    async def _send(self, request: Request, body: bytes, job_id: UUID) -> None:
        """Publish a request; its job id makes it safe to repeat."""
        async for attempt in stamina.retry_context(on=TransientError, attempts=TRIES, wait_initial=0.2):
            with attempt:
                await self._session.send(request, body, job_id.hex)

    async def _follow(self, job_id: UUID, updates: asyncio.Queue[Update]) -> AsyncIterator[Update]:
        """Updates as they come; after a silence, ask, and ask less and less often."""
        end = time.monotonic() + EXPIRY_SECONDS + LONGEST_POLL_SECONDS
        pause = FIRST_POLL_SECONDS
        while time.monotonic() < end:
            try:
                async with asyncio.timeout(pause):
                    update = await updates.get()
            except TimeoutError:
                pause = min(2 * pause, LONGEST_POLL_SECONDS)
                with suppress(TransientError):  # asked again after the next silence
                    await self._session.ask(job_id)
            else:
                yield update


def _ended(prepared: Prepared, status: JobStatus, sealed: bytes) -> tuple[Answer, bytes] | None:
    """The answer, if this is the end; None if it is not, or not to be believed.

    Raises:
        PermanentError: an unsealed refusal.
        TransientError: a load ended, but its answer went elsewhere.
    """
    if not status.state.terminal:
        return None
    if sealed:
        with suppress(SealError):
            return prepared.open_answer(sealed)
        return None
    if status.state is not State.SUCCEEDED and status.code in UNSEALED:
        raise PermanentError(status.code or FailureCode.INTERNAL, status.reason)
    if status.state is State.SUCCEEDED and prepared.head.op.reads:
        raise TransientError(FailureCode.BUSY, "answer_lost")
    return None


def _entries(result: bytes, external_uuids: Sequence[UUID]) -> list[tuple[ItemOutcome, bytes]]:
    """An export's result, taken apart.

    Raises:
        PermanentError: `integrity_failed`: it is not what was asked for.
    """
    entries: list[tuple[ItemOutcome, bytes]] = []
    rest = memoryview(result)
    try:
        while rest:
            (told, blob), rest = take_lp(rest, 2)
            entries.append((parse(ItemOutcome, told), blob))
    except (ValueError, NotOursError):
        raise PermanentError(FailureCode.INTEGRITY_FAILED, "export") from None
    asked = list(external_uuids[: len(entries)])
    if not entries or [outcome.external_uuid for outcome, _ in entries] != asked:
        raise PermanentError(FailureCode.INTEGRITY_FAILED, "export")
    return entries


async def _received(transfer: asyncio.Task[None] | None, answer: Answer, blob: bytes, sink: Sink) -> None:
    """Have the whole result in the sink.

    Raises:
        TransientError: it is elsewhere, and nobody has told us where.
    """
    if transfer is not None:
        await transfer
    elif len(blob) == answer.size:
        await sink.write(blob)
    else:
        raise TransientError(FailureCode.BUSY, "answer_lost")


async def _cancelled(task: asyncio.Task[None] | None) -> None:
    """Stop what is still on its way, and do not mind how it ends."""
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
