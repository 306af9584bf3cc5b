"""The gateway's handlers: requests in, jobs out; events in, answers out.

Commit, then ack: a request is acked once it is in the ledger, an event once it is recorded. Whatever is lost after that
is repeated from the ledger. Answers are sealed by the Cryptor; what the gateway itself says is a state or a refusal.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from contracts import topology
from contracts.codec import cut
from contracts.edge import (
    Answers,
    Directory,
    Event,
    Events,
    Job,
    Jobs,
    JobStatus,
    KeyDirectory,
    KeysQuery,
    Refusal,
    Request,
    StatusQuery,
    Transfer,
)
from contracts.failures import FailureCode, PermanentError, TransientError
from contracts.limits import MIB
from contracts.registry import Client, Registry
from gateway.admission import admit, check_reply_to
from gateway.ledger import Handout, Ledger, NewJob, Settled
from messaging import metrics
from messaging.coalescing import Coalescer
from messaging.consuming import Delivery
from messaging.link import Direction
from messaging.logs import follow, log
from messaging.publishing import DEFAULT_EXCHANGE, Publisher, outgoing
from messaging.queues import JobQueues
from messaging.sealed import SealedPublisher, open_sealed
from messaging.together import together

EVENT_TYPES: Final[tuple[type[Events] | type[Directory], ...]] = (Events, Directory)
BATCH_BYTES: Final = MIB  # of one coalesced message
BATCH_ITEMS: Final = 64
BULK_WAYS: Final = 8  # bulk jobs on their way to the broker at once
HANDOUTS: Final = 64  # jobs taken from the ledger at once
HANDOUT_SECONDS: Final = 1.0  # between looks at what is due

Owed = tuple[str, JobStatus, bytes]  # reply token, status, sealed answer


class Desk:
    """Everything the gateway does with a message."""

    def __init__(
        self,
        *,
        vault_id: UUID,
        registry: Callable[[], Registry],
        ledger: Ledger,
        uploads: JobQueues,
        jobs: SealedPublisher,
        answers: Publisher,
    ) -> None:
        """Work with what `gateway.__main__` opened: `jobs` with confirms, `answers` without."""
        self._vault_id = vault_id
        self._registry = registry
        self._ledger = ledger
        self._uploads = uploads
        self._jobs = jobs
        self._answers = answers
        self._wake = asyncio.Event()
        self._admit = Coalescer(
            ledger.admit, max_items=BATCH_ITEMS, max_bytes=4 * MIB, size=lambda job: len(job.request)
        )
        self._settle = Coalescer(self._settle_all, max_items=BATCH_ITEMS, max_bytes=4 * MIB)
        self._lanes = {bulk: self._lane(bulk=bulk) for bulk in (False, True)}
        self._owed = Coalescer(self._pay, max_items=BATCH_ITEMS, max_bytes=BATCH_BYTES, size=lambda owed: len(owed[2]))

    # --- from clients ---------------------------------------------------------------------------------------------

    async def receive(self, delivery: Delivery) -> None:
        """Handle one message from the clients' queue: refuse it, or do what it asks."""
        try:
            check_reply_to(delivery.reply_to)
            client = self._registry().named(delivery.user_id)
            message = delivery.decode((Request, StatusQuery, KeysQuery))
            if isinstance(message, Request):
                await self._request(delivery, message)
            elif isinstance(message, StatusQuery):
                await self._status(delivery, client, message)
            else:
                await self._keys(delivery)
        except PermanentError as error:
            await self._refuse(delivery, error)
        await delivery.ack()

    async def _request(self, delivery: Delivery, message: Request) -> None:
        admitted = admit(delivery.body, delivery.user_id, self._registry(), self._vault_id, time.time())
        follow(admitted.head.job_id)
        upload = None
        if admitted.head.transfer is Transfer.UPLOAD:
            upload = topology.upload_queue(admitted.client.name, str(admitted.head.job_id))
        job = NewJob(admitted, delivery.body, upload, notify=message.notify, reply_to=delivery.reply_to)
        standing = await self._admit.call(job)
        if isinstance(standing, PermanentError):
            raise standing
        # The very same request again may mean that a gateway died before it had declared the queue.
        if (
            upload is not None
            and standing.status.request == admitted.fingerprint
            and not standing.status.state.terminal
        ):
            head = admitted.head
            arguments = topology.upload_arguments(head.size, head.issued_at, head.expires_at)
            await self._uploads.declare(upload, topology.UPLOADS, arguments)
        if not standing.new:
            await self._owe(delivery.reply_to, standing.status, standing.answer)
            return
        log.debug("a job was accepted", action="job.accepted", op=admitted.head.op, bytes_in=admitted.head.size)
        accepted_to = delivery.reply_to if message.notify else None
        await together(self._owe(accepted_to, standing.status), self._hand_out(_first(job)))

    async def _status(self, delivery: Delivery, client: Client, query: StatusQuery) -> None:
        for status, answer in await self._ledger.statuses(client.client_id, query.job_ids):
            await self._owe(delivery.reply_to, status, answer)

    async def _keys(self, delivery: Delivery) -> None:
        statement = await self._ledger.directory()
        if statement is None:
            raise PermanentError(FailureCode.BUSY, "no_cryptor_yet")
        await self._reply(delivery, KeyDirectory(), statement)

    async def _refuse(self, delivery: Delivery, error: PermanentError) -> None:
        log.info("refused", action="request.refused", code=error.code, reason=error.reason)
        if error.reason != "bad_reply_to":
            await self._reply(delivery, Refusal(code=error.code, reason=error.reason))

    async def _reply(self, delivery: Delivery, meta: Refusal | KeyDirectory, body: bytes = b"") -> None:
        if delivery.reply_to is not None:
            message = outgoing(meta, body, correlation_id=delivery.correlation_id)
            await self._answers.publish(DEFAULT_EXCHANGE, delivery.reply_to, message, mandatory=False)

    # --- to clients -----------------------------------------------------------------------------------------------

    async def _owe(self, reply_to: str | None, status: JobStatus, answer: bytes = b"") -> None:
        """Tell whoever waits; nobody, or nobody any more, is well too: they poll."""
        if reply_to is not None:
            try:
                await self._owed.call((reply_to, status, answer))
            except TransientError as error:
                log.warning("an answer was not delivered", action="answer.undelivered", reason=error.reason)

    async def _pay(self, owed: Sequence[Owed]) -> list[None]:
        by_token: dict[str, list[Owed]] = {}
        for each in owed:
            by_token.setdefault(each[0], []).append(each)
        for reply_to, mine in by_token.items():
            meta = Answers(jobs=[status.model_copy(update={"size": len(answer)}) for _, status, answer in mine])
            message = outgoing(meta, b"".join(answer for *_, answer in mine))
            await self._answers.publish(DEFAULT_EXCHANGE, reply_to, message, mandatory=False)
        return [None] * len(owed)

    # --- to Cryptors ----------------------------------------------------------------------------------------------

    def _lane(self, *, bulk: bool) -> Coalescer[Handout, None]:
        key = topology.LANE_BULK if bulk else topology.LANE_INTERACTIVE

        async def send(handouts: Sequence[Handout]) -> list[None]:
            jobs = Jobs(jobs=[_job(handout) for handout in handouts])
            body = [handout.request for handout in handouts]
            metrics.observe(metrics.MESSAGE_ITEMS, Jobs.TYPE, value=len(handouts))
            await self._jobs.publish(topology.JOBS, key, jobs, body)
            return [None] * len(handouts)

        # A bulk job travels alone: it is settled alone, and no other waits for it.
        items, ways = (1, BULK_WAYS) if bulk else (BATCH_ITEMS, 1)
        return Coalescer(send, max_items=items, max_bytes=BATCH_BYTES, size=lambda each: len(each.request), ways=ways)

    async def _hand_out(self, handout: Handout) -> None:
        try:
            await self._lanes[handout.bulk].call(handout)
        except TransientError as error:  # the ledger hands it out again
            log.warning("a job was not handed out", action="job.not_handed_out", **_named(handout), reason=error.reason)

    async def keep_handing_out(self) -> None:
        """Publish again, for ever, what the ledger says is due."""
        while True:
            try:
                while handouts := await self._ledger.due(HANDOUTS):
                    for handout in handouts:
                        if handout.moved:
                            log.debug("a job goes to the bulk lane", action="job.moved", **_named(handout))
                        else:
                            log.warning("a job is handed out again", action="job.handed_out_again", **_named(handout))
                    await together(*map(self._hand_out, handouts))
            except TransientError as error:
                log.warning("the ledger is out of reach", action="ledger.unreachable", reason=error.reason)
            self._wake.clear()
            try:
                async with asyncio.timeout(HANDOUT_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                continue

    # --- from Cryptors --------------------------------------------------------------------------------------------

    async def record(self, delivery: Delivery) -> None:
        """Handle one message from the Cryptors: record it, ack, answer who waits."""
        message, body = await open_sealed(self._jobs.link, Direction.EVENT, delivery, EVENT_TYPES)
        if isinstance(message, Directory):
            await self._ledger.keep_directory(message.issued_at, bytes(body))
            await delivery.ack()
            return
        answers = map(bytes, cut(body, (event.size for event in message.events)))
        changes = await together(*(self._settle.call(each) for each in zip(message.events, answers, strict=True)))
        await delivery.ack()
        await together(*(self._tell(settled) for settled in changes if settled is not None))

    async def _settle_all(self, events: Sequence[tuple[Event, bytes]]) -> list[Settled | None]:
        changed = {(each.event.client_id, each.event.job_id): each for each in await self._ledger.settle(events)}
        # A job's change is told once, by the event that made it.
        return [
            each if (each := changed.get((event.client_id, event.job_id))) and each.event is event else None
            for event, _ in events
        ]

    async def _tell(self, settled: Settled) -> None:
        event = settled.event
        follow(event.job_id)
        if event.state.terminal:
            metrics.observe(metrics.JOB_SECONDS, settled.op, event.code or event.state, value=settled.seconds)
            log.info(
                "a job ended",
                action="job.ended",
                op=settled.op,
                state=event.state,
                code=event.code,
                reason=event.reason or None,
                seconds=round(settled.seconds, 3),
                bytes_in=settled.size,
                bytes_out=len(settled.answer),
            )
        if event.bulk:
            self._wake.set()
        if event.state.terminal and settled.upload is not None:
            await self._uploads.delete(settled.upload)
        if event.state.terminal or settled.notify:
            # As a poll would tell it: whoever waits may be another process than the one that asked.
            status = JobStatus(**event.model_dump(include=_TOLD), op=settled.op, request_tag=settled.request_tag)
            await self._owe(settled.reply_to, status, settled.answer)


_TOLD: Final = {"job_id", "state", "code", "reason", "done", "total", "download"}


def _named(handout: Handout) -> dict[str, object]:
    """What a log line says of a hand-out."""
    return {"job_id": str(handout.job_id), "attempt": handout.attempt, "code": handout.abort}


def _first(job: NewJob) -> Handout:
    head = job.admitted.head
    return Handout(
        client=job.admitted.client.name,
        client_id=head.client_id,
        job_id=head.job_id,
        attempt=1,
        upload=job.upload,
        abort=None,
        bulk=job.admitted.bulk,
        request=job.request,
    )


def _job(handout: Handout) -> Job:
    return Job(
        client=handout.client,
        client_id=handout.client_id,
        job_id=handout.job_id,
        attempt=handout.attempt,
        upload=handout.upload,
        abort=handout.abort,
        bulk=handout.bulk,
        size=len(handout.request),
    )
