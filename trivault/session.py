"""A client's conversation with the gateway: requests and queries out, statuses in.

Statuses arrive when something happens and when they are asked for; both take the same way, to whoever waits for that
job. Whether a status is to be believed is decided elsewhere, by its seal.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final
from uuid import UUID, uuid4

from contracts import topology
from contracts.codec import Meta, cut
from contracts.edge import Answers, JobStatus, KeyDirectory, KeysQuery, Refusal, State, StatusQuery
from contracts.failures import FailureCode, NotOursError, PermanentError, TransientError
from messaging.coalescing import Coalescer
from messaging.connection import Broker
from messaging.consuming import Delivery
from messaging.publishing import outgoing
from messaging.replies import REPLY_TO, ReplyChannel

ANSWER_SECONDS: Final = 20  # for the gateway to say something
UPDATES: Final = 32  # statuses of one job that may wait to be read; a newer one replaces the oldest

Update = tuple[JobStatus, bytes]


class Session:
    """One client's reply channel."""

    def __init__(self, user: str) -> None:
        """Speak as `user`; `Session.open` makes one."""
        self._user = user
        self._channel: ReplyChannel | None = None
        self._waiting: dict[UUID, set[asyncio.Queue[Update]]] = {}
        self._replies: dict[str, asyncio.Future[bytes]] = {}
        self._queries: Coalescer[UUID, None] = Coalescer(self._query, max_items=100, max_bytes=1)

    @classmethod
    @asynccontextmanager
    async def open(cls, broker: Broker, user: str) -> AsyncIterator["Session"]:
        """Open the reply channel."""
        session = cls(user)
        async with ReplyChannel.open(
            broker.publishing, session._receive, lost=session._lost, confirms=True
        ) as session._channel:
            yield session

    # --- in -------------------------------------------------------------------------------------------------------

    def _receive(self, delivery: Delivery) -> None:
        try:
            message = delivery.decode((Answers, Refusal, KeyDirectory))
            if isinstance(message, Answers):
                bodies = cut(delivery.body, (status.size for status in message.jobs))
                for status, body in zip(message.jobs, bodies, strict=True):
                    self._update(status, bytes(body))
            elif isinstance(message, Refusal):
                self._refused(delivery.correlation_id, message)
            else:
                self._settle(delivery.correlation_id, delivery.body)
        except NotOursError:
            return  # nobody asked for it

    def _refused(self, correlation_id: str, refusal: Refusal) -> None:
        """A refused request is a job that failed; anything else that is refused is a reply that does not come."""
        try:
            job_id = UUID(correlation_id)
        except ValueError:
            return
        failed = JobStatus(job_id=job_id, state=State.FAILED, code=refusal.code, reason=refusal.reason)
        self._update(failed, b"")
        self._settle(correlation_id, PermanentError(refusal.code, refusal.reason))

    def _update(self, status: JobStatus, body: bytes) -> None:
        for updates in self._waiting.get(status.job_id, ()):
            if updates.full():
                updates.get_nowait()
            updates.put_nowait((status, body))

    def _settle(self, correlation_id: str, result: bytes | Exception) -> None:
        future = self._replies.get(correlation_id)
        if future is None or future.done():
            return
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)

    def _lost(self) -> None:
        for future in self._replies.values():
            if not future.done():
                future.set_exception(TransientError(FailureCode.BUSY, "connection_lost"))

    # --- out ------------------------------------------------------------------------------------------------------

    async def _send(self, meta: Meta, body: bytes, correlation_id: str) -> None:
        if self._channel is None:
            raise RuntimeError("Session.open was not entered")
        message = outgoing(
            meta, body, correlation_id=correlation_id, reply_to=REPLY_TO, user_id=self._user, persistent=True
        )
        await self._channel.publish(topology.REQUESTS, "", message)

    @contextmanager
    def updates(self, job_ids: Sequence[UUID]) -> Iterator[asyncio.Queue[Update]]:
        """Collect statuses of these jobs while the context is open."""
        queue: asyncio.Queue[Update] = asyncio.Queue(maxsize=max(UPDATES, 2 * len(job_ids)))
        for job_id in job_ids:
            self._waiting.setdefault(job_id, set()).add(queue)
        try:
            yield queue
        finally:
            for job_id in job_ids:
                waiting = self._waiting[job_id]
                waiting.discard(queue)
                if not waiting:
                    del self._waiting[job_id]

    @contextmanager
    def reply(self, correlation_id: str) -> Iterator[asyncio.Future[bytes]]:
        """A future for the one reply, or refusal, to a message."""
        future = self._replies[correlation_id] = asyncio.get_running_loop().create_future()
        try:
            yield future
        finally:
            del self._replies[correlation_id]
            future.cancel()

    async def send(self, request: Meta, body: bytes, correlation_id: str) -> None:
        """Publish a request.

        Raises:
            TransientError: its outcome is unknown, or the vault is full (`queue_full`).
        """
        await self._send(request, body, correlation_id)

    async def ask(self, job_id: UUID) -> None:
        """Ask how a job is; the answer comes as an update. Questions asked together travel together."""
        await self._queries.call(job_id)

    async def _query(self, job_ids: Sequence[UUID]) -> list[None]:
        await self._send(StatusQuery(job_ids=list(dict.fromkeys(job_ids))), b"", uuid4().hex)
        return [None] * len(job_ids)

    async def key_directory(self) -> bytes:
        """The gateway's copy of the key statement, not believed yet.

        Raises:
            PermanentError: refused.
            TransientError: no answer.
        """
        correlation_id = uuid4().hex
        with self.reply(correlation_id) as future:
            await self._send(KeysQuery(), b"", correlation_id)
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await future
            except TimeoutError:
                raise TransientError(FailureCode.BUSY, "gateway_timeout") from None
