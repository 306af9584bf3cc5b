"""The Cryptor's handlers.

Jobs in, events out. One job message is acked when every job in it has its end, or never will here.

A job that could not be brought to an end (MapStore out of reach, an upload to be read again) stays `running`: the
ledger hands it out again. Failures that come before the seal is opened can only be said unsealed; all others are
sealed.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from contracts import topology
from contracts.codec import cut
from contracts.edge import Answer, Download, Event, Events, ItemOutcome, Job, Jobs, Op, State, Transfer
from contracts.failures import UNSEALED, FailureCode, PermanentError, TransientError
from contracts.limits import INLINE_MAX, MIB, PIECE, pieces
from messaging import metrics
from messaging.coalescing import Coalescer
from messaging.connection import Connection
from messaging.consuming import Delivery
from messaging.link import Direction
from messaging.logs import follow, log
from messaging.publishing import Outgoing, Publisher, outgoing
from messaging.queues import JobQueues
from messaging.sealed import SealedPublisher, open_sealed
from messaging.together import together
from sealing.answers import download_context, seal_answer
from sealing.streams import Recutter, Sealer
from workers.cryptor.budget import ByteBudget
from workers.cryptor.core.keys import draw_attempt
from workers.cryptor.dumping import Dumper
from workers.cryptor.exporting import Exporter
from workers.cryptor.ingesting import Ingester
from workers.cryptor.loading import Loader
from workers.cryptor.payloads import UploadStream, inline
from workers.cryptor.requests import Opened, Requests
from workers.cryptor.settings import Settings
from workers.cryptor.stores import Stores
from workers.cryptor.sweeping import Sweep

PROGRESS_SECONDS: Final = 1.0  # between two events of one batch: each is a message and a write to the ledger
LOAD_BYTES: Final = 32 * MIB  # of the budget that a large load holds: parts and pieces under way, whatever its size

Reported = tuple[Event, bytes]


@dataclass(frozen=True, slots=True)
class End:
    """How a job ended, for logs and metrics."""

    state: State
    answer: Answer

    @property
    def code(self) -> FailureCode | None:
        """Why it failed, if it did: the code of its first item."""
        return None if self.state is State.SUCCEEDED else self.answer.outcomes[0].code


class Desk:
    """Everything a Cryptor does with a job."""

    def __init__(
        self,
        *,
        settings: Settings,
        requests: Requests,
        dumper: Dumper,
        ingester: Ingester,
        loader: Loader,
        exporter: Exporter,
        stores: Stores,
        events: SealedPublisher,
        downloads: Publisher,
        queues: JobQueues,
        uploads: Connection,
    ) -> None:
        """Work with what `workers.cryptor.__main__` opened."""
        self._settings = settings
        self._requests = requests
        self._dumper = dumper
        self._ingester = ingester
        self._loader = loader
        self._exporter = exporter
        self._stores = stores
        self._events = events
        self._downloads = downloads
        self._queues = queues
        self._uploads = uploads
        self._budget = budget = ByteBudget(settings.bulk_bytes)
        metrics.BUDGET_BYTES.labels("free").set_function(lambda: budget.free)
        metrics.BUDGET_BYTES.labels("held").set_function(lambda: budget.held)
        self._slots: defaultdict[bytes, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(settings.client_bulk_jobs)
        )
        self._ops: dict[Op, Callable[[Job, Opened], Awaitable[End | None]]] = {
            Op.DUMP: self._dump,
            Op.INGEST: self._dump,
            Op.LOAD: self._load,
            Op.EXPORT: self._export,
            Op.SWEEP: self._sweep,
        }
        self._report: Coalescer[Reported, None] = Coalescer(
            self._publish, max_items=64, max_bytes=MIB, size=lambda reported: len(reported[1])
        )

    async def handle(self, delivery: Delivery) -> None:
        """Do the jobs of one message, side by side; ack."""
        message, body = await open_sealed(self._events.link, Direction.JOB, delivery, (Jobs,))
        requests = cut(body, (job.size for job in message.jobs))
        await together(*(self._settle(job, request) for job, request in zip(message.jobs, requests, strict=True)))
        await delivery.ack()

    async def _settle(self, job: Job, request: memoryview) -> None:
        """Bring one job to its end, and report it."""
        follow(job.job_id)
        taken = time.perf_counter()
        try:
            opened = self._requests.open(job, request)
        except PermanentError as error:
            log.warning("a request was refused", action="job.refused", code=error.code, reason=error.reason)
            code = error.code if error.code in UNSEALED else FailureCode.INVALID_REQUEST
            await self._report.call((_event(job, State.FAILED, code=code, reason=error.reason), b""))
            return
        outcome = "unsettled"
        try:
            end = await self._do(job, opened)
        except TransientError as error:
            log.warning("a job stays as it is", action="job.unsettled", op=opened.head.op, reason=error.reason)
        else:
            outcome = (end.code or end.state) if end else "moved"
            if end:
                _tell(job, opened, end, time.perf_counter() - taken)
        metrics.observe(metrics.ATTEMPT_SECONDS, opened.head.op, outcome, value=time.perf_counter() - taken)

    async def _do(self, job: Job, opened: Opened) -> End | None:
        """Do what the request asks; how it ended, if it did and not only moved to the bulk lane.

        Raises:
            TransientError: it is as it was, and another attempt settles it.
        """
        expired = opened.head.expires_at <= time.time()
        abort = job.abort or (FailureCode.EXPIRED if expired else None)
        try:
            if abort is not None:
                return await self._abort(job, opened, abort)
            return await self._ops[opened.head.op](job, opened)
        except PermanentError as error:
            return await self._abort(job, opened, error.code)
        except TransientError:
            raise
        except Exception:  # noqa: BLE001 - a bug: the job must still have an end, and a true one
            log.exception("a job failed", action="job.failed")
            return await self._abort(job, opened, FailureCode.INTERNAL)

    async def _abort(self, job: Job, opened: Opened, code: FailureCode) -> End:
        """Settle a job as failed; what is a record already stays one."""
        outcomes = [ItemOutcome(code=code)]
        if opened.head.op.dumps:
            outcomes = await self._dumper.abort(opened, code, range(opened.head.items))
        return await self._answer(job, opened, outcomes)

    # --- dump -----------------------------------------------------------------------------------------------------

    async def _dump(self, job: Job, opened: Opened) -> End:
        if opened.head.transfer is Transfer.INLINE:
            deadline = time.time() + self._settings.attempt_seconds
            return await self._answer(job, opened, await self._records(job, opened, inline(opened), deadline))
        if job.upload is None:
            raise PermanentError(FailureCode.UPLOAD_LOST, "no_queue")
        async with self._slots[opened.owner], self._budget.hold(opened.head.size):
            deadline = time.time() + self._settings.bulk_attempt_seconds
            async with UploadStream.open(
                opened, self._uploads, job.upload, idle_seconds=self._settings.idle_seconds, deadline=deadline
            ) as upload:
                end = await self._answer(job, opened, await self._records(job, opened, upload.plaintext(), deadline))
                await upload.settle()
                return end

    async def _records(
        self, job: Job, opened: Opened, plaintext: AsyncIterator[bytes], deadline: float
    ) -> list[ItemOutcome]:
        """Make a record of the payload, or of every blob in it."""
        if opened.head.op is Op.DUMP:
            return [await self._dumper.dump(opened, plaintext, deadline)]
        told = time.monotonic()

        async def progress(done: int) -> None:
            nonlocal told
            if time.monotonic() - told >= PROGRESS_SECONDS:
                told = time.monotonic()
                await self._report.call((_event(job, State.RUNNING, done=done, total=opened.head.items), b""))

        return await self._ingester.ingest(opened, plaintext, deadline, progress)

    # --- load, export ---------------------------------------------------------------------------------------------

    async def _load(self, job: Job, opened: Opened) -> End | None:
        found = await self._loader.find(opened, time.time() + self._settings.attempt_seconds)
        if not found.large:
            blob = await self._loader.whole(found, time.time() + self._settings.attempt_seconds)
            return await self._answer(job, opened, [ItemOutcome(external_uuid=found.ids.external_uuid)], blob)
        if not job.bulk:
            await self._report.call((_event(job, State.ACCEPTED, bulk=True), b""))
            return None
        async with self._slots[opened.owner], self._budget.hold(LOAD_BYTES):
            record = self._loader.pieces(found, time.time() + self._settings.bulk_attempt_seconds)
            size = await self._stream(job, opened, found.size, record)
            outcome = ItemOutcome(external_uuid=found.ids.external_uuid)
            answer = Answer(outcomes=[outcome], size=size)
            return await self._seal(job, opened, answer, download=_queue(job, opened))

    async def _export(self, job: Job, opened: Opened) -> End:
        """Answer with the records; an export has succeeded if it says of each of them what became of it."""
        async with self._slots[opened.owner], self._budget.hold(LOAD_BYTES):
            deadline = time.time() + self._settings.bulk_attempt_seconds
            selection = await self._exporter.select(opened, deadline)
            result = self._exporter.result(selection, deadline)
            if selection.most <= INLINE_MAX:
                whole = b"".join([piece async for piece in result])
                return await self._seal(job, opened, Answer(outcomes=[ItemOutcome()], size=len(whole)), whole)
            size = await self._stream(job, opened, selection.most, result)
            answer = Answer(outcomes=[ItemOutcome()], size=size)
            return await self._seal(job, opened, answer, download=_queue(job, opened))

    async def _stream(self, job: Job, opened: Opened, most: int, result: AsyncIterator[bytes]) -> int:
        """Send a result of at most `most` bytes to a queue that holds all of it, so that no client is waited for.

        Returns how many bytes it had.
        """
        size = 0

        async def counted() -> AsyncIterator[bytes]:
            nonlocal size
            async for piece in result:
                size += len(piece)
                yield piece

        queue = _queue(job, opened)
        await self._queues.declare(queue, topology.DOWNLOADS, topology.download_arguments(most), auto_delete=True)
        attempt = draw_attempt()
        sealed = self._sealed(opened, attempt, counted())
        sending = self._downloads.publish_stream(
            topology.DOWNLOADS, queue, _downloads(job, attempt, pieces(most), sealed)
        )
        running = self._report.call((_event(job, State.RUNNING, download=queue), b""))
        try:
            await together(running, sending)
        except TransientError:
            raise  # the next attempt goes on with the queue
        except Exception:  # the job has its end, and the queue no reader who would take it away
            with suppress(TransientError):  # then it expires
                await self._queues.delete(queue)
            raise
        return size

    async def _sealed(self, opened: Opened, attempt: bytes, result: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """A result, sealed to the client, in messages of 1 MiB."""
        sealer = Sealer(opened.secrets.reply_key, download_context(opened.digest, attempt))
        recutter = Recutter(PIECE)
        async for piece in result:
            for message in recutter.feed(sealer.update(piece)):
                yield message
        for message in recutter.feed(sealer.finish()):
            yield message
        if rest := recutter.rest():
            yield rest

    # --- sweep ----------------------------------------------------------------------------------------------------

    async def _sweep(self, job: Job, opened: Opened) -> End:
        """Collect what no record names, and say all the while that somebody is at it."""
        sweep = Sweep(
            self._stores,
            self._settings.sweep.policy,
            dry_run=opened.secrets.dry_run,
            seconds=self._settings.store_seconds,
            deadline=time.time() + self._settings.bulk_attempt_seconds,
        )
        telling = asyncio.create_task(self._keep_telling(job, sweep))
        try:
            report = await sweep.run()
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        return await self._seal(job, opened, Answer(outcomes=[ItemOutcome()], report=report))

    async def _keep_telling(self, job: Job, sweep: Sweep) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            with suppress(TransientError):  # the next one says more
                await self._report.call((_event(job, State.RUNNING, done=sweep.seen, total=sweep.expected), b""))

    # --- events ---------------------------------------------------------------------------------------------------

    async def _answer(self, job: Job, opened: Opened, outcomes: list[ItemOutcome], blob: bytes = b"") -> End:
        """Report the end of a job: it failed if every item did."""
        codes = {outcome.code for outcome in outcomes}
        state = State.SUCCEEDED if None in codes else State.EXPIRED if codes == {FailureCode.EXPIRED} else State.FAILED
        return await self._seal(job, opened, Answer(outcomes=outcomes, size=len(blob)), blob, state=state)

    async def _seal(
        self,
        job: Job,
        opened: Opened,
        answer: Answer,
        blob: bytes = b"",
        *,
        state: State = State.SUCCEEDED,
        download: str | None = None,
    ) -> End:
        """Report an end. It names the download once more: of what it hears at once, the gateway tells the last."""
        sealed = seal_answer(opened.secrets.reply_key, opened.answer_context, answer, blob)
        items = opened.head.items
        await self._report.call((_event(job, state, done=items, total=items, download=download), sealed))
        return End(state, answer)

    async def _publish(self, reported: Sequence[Reported]) -> list[None]:
        events = Events(events=[event.model_copy(update={"size": len(answer)}) for event, answer in reported])
        body = [answer for _, answer in reported]
        metrics.observe(metrics.MESSAGE_ITEMS, Events.TYPE, value=len(reported))
        await self._events.publish(topology.EVENTS, topology.EVENT_KEY, events, body)
        return [None] * len(reported)


def _tell(job: Job, opened: Opened, end: End, seconds: float) -> None:
    """Count and log the end of a job."""
    op, answer = opened.head.op, end.answer
    if op in {Op.DUMP, Op.LOAD, Op.INGEST}:  # an export counts its records where it reads them
        metrics.count_outcomes(metrics.RECORDS, op, codes=[outcome.code for outcome in answer.outcomes])
    if end.code is None:
        metrics.count(metrics.RECORD_BYTES, op, by=opened.head.size + answer.size)  # of which one is 0
    log.info(
        "a job ended",
        action="job.ended",
        op=op,
        state=end.state,
        code=end.code,
        attempt=job.attempt,
        items=opened.head.items,
        seconds=round(seconds, 3),
        bytes_in=opened.head.size,
        bytes_out=answer.size,
    )


def _queue(job: Job, opened: Opened) -> str:
    """Where a large result of a job goes."""
    return topology.download_queue(opened.client.name, str(job.job_id))


def _event(
    job: Job,
    state: State,
    *,
    code: FailureCode | None = None,
    reason: str = "",
    done: int = 0,
    total: int = 1,
    download: str | None = None,
    bulk: bool = False,
) -> Event:
    return Event(
        client_id=job.client_id,
        job_id=job.job_id,
        state=state,
        code=code,
        reason=reason,
        done=done,
        total=total,
        download=download,
        bulk=bulk,
    )


async def _downloads(job: Job, attempt: bytes, most: int, sealed: AsyncIterator[bytes]) -> AsyncIterator[Outgoing]:
    """Messages of one download. How many there are is known for certain when the last one comes."""
    number, last = 0, await anext(sealed)
    async for body in sealed:
        yield outgoing(Download(job_id=job.job_id, attempt=attempt, number=number, pieces=most), last)
        number, last = number + 1, body
    yield outgoing(Download(job_id=job.job_id, attempt=attempt, number=number, pieces=number + 1), last)
