"""Requests as a broken or hostile client would send them: sealed by the product's own code, then spoilt in one place.

`Forger` builds them, `Wire` publishes them raw and tells what the SDK would raise. Neither checks what it sends.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final
from uuid import UUID, uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts import topology
from contracts.codec import Meta, encode
from contracts.edge import Answer, JobStatus, KeysQuery, Request, State, StatusQuery, Transfer
from contracts.envelope import split_envelope
from contracts.failures import FailureCode, PermanentError
from contracts.lp import lp
from messaging.consuming import Delivery
from messaging.publishing import META
from messaging.replies import REPLY_TO
from messaging.settings import BrokerSettings
from sealing.keys import SUITE, public_key
from sealing.requests import REQUEST_LABEL, SEAL_LABEL, digest
from sealing.streams import seal
from trivault import Profile
from trivault.sealer import ClientSealer, Prepared
from trivault.session import Session
from trivault.vault import _ended

SECONDS: Final = 30  # for an answer
REQUEST: Final = encode(Request())
NOTIFYING: Final = encode(Request(notify=True))

Changes = Mapping[str, object]


@contextmanager
def refusing(code: FailureCode, reason: str = "") -> Iterator[None]:
    """Expect a `PermanentError` of exactly this code and reason, with advice that says what to do."""
    with pytest.raises(PermanentError) as caught:
        yield
    assert (caught.value.code, caught.value.reason) == (code, reason)
    assert caught.value.advice


@dataclass(frozen=True, slots=True)
class Forged:
    """A request to publish, and what its answer would be opened with."""

    prepared: Prepared
    payload: bytes = b""

    @property
    def body(self) -> bytes:
        """The message's body."""
        return self.prepared.prefix + self.payload

    @property
    def job_id(self) -> UUID:
        """Which job it claims to be."""
        return self.prepared.job_id

    def with_prefix(self, spoil: Callable[[bytes], bytes]) -> "Forged":
        """Spoil the envelope after it was signed."""
        return replace(self, prepared=replace(self.prepared, prefix=spoil(self.prepared.prefix)))


class Forger:
    """Builds requests of one client."""

    def __init__(self, profile: Profile, directory: bytes) -> None:
        """Sign as `profile`; seal to the newest key of `directory`."""
        self.sealer = ClientSealer(profile)
        self.sealer.trust(directory)
        self._profile = profile

    def dump(self, blob: bytes, *, job_id: UUID | None = None, **spoilt: Any) -> Forged:
        """A dump of `blob`, its payload with it if the blob is small."""
        prepared = self.spoil(self.sealer.dump(len(blob), sha256(blob).digest(), job_id), **spoilt)
        if prepared.head.transfer is Transfer.UPLOAD:
            return Forged(prepared)
        return Forged(prepared, seal(prepared.secrets.payload_key, prepared.payload_context, blob))

    def load(self, *external_uuids: UUID, **spoilt: Any) -> Forged:
        """A load."""
        return Forged(self.spoil(self.sealer.load(external_uuids), **spoilt))

    def spoil(
        self,
        prepared: Prepared,
        *,
        head: Changes | None = None,
        without: str = "",
        secrets: Changes | None = None,
        told: bytes | None = None,
        hpke_public: bytes | None = None,
        signing_key: Ed25519PrivateKey | None = None,
    ) -> Prepared:
        """Seal and sign once more, as the product does, with one thing changed.

        Args:
            prepared: an honest request.
            head: fields of the head to set, as JSON has them.
            without: a field of the head to leave out.
            secrets: fields under the seal to set, as JSON has them.
            told: the bytes of the head, whatever they are.
            hpke_public: another Cryptor's key to seal to; the head still names the right one.
            signing_key: another client's key to sign with.
        """
        if told is None:
            fields = json.loads(encode(prepared.head)) | dict(head or {})
            fields.pop(without, None)
            told = json.dumps(fields, separators=(",", ":")).encode()
        hidden = json.dumps(json.loads(encode(prepared.secrets)) | dict(secrets or {})).encode()
        sealed = SUITE.encrypt(hidden, public_key(hpke_public or self.hpke_public), info=lp(SEAL_LABEL, told))
        key = signing_key or Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self._profile.signing_key))
        signature = key.sign(lp(REQUEST_LABEL, told, sealed))
        return replace(prepared, prefix=lp(told, sealed, signature), digest=digest(told, sealed))

    @property
    def hpke_public(self) -> bytes:
        """The Cryptor's key."""
        statement = self.sealer._statement
        assert statement is not None
        return statement.hpke_keys[0]


def flipped(data: bytes, at: int) -> bytes:
    """The same bytes but for one bit."""
    spoilt = bytearray(data)
    spoilt[at] ^= 1
    return bytes(spoilt)


def flip_part(part: int) -> Callable[[bytes], bytes]:
    """Flip a bit in the middle of the head (0), the seal (1) or the signature (2) of a finished envelope."""

    def spoil(prefix: bytes) -> bytes:
        envelope = split_envelope(prefix)
        parts = [envelope.head, envelope.seal, envelope.signature]
        # A digit of the head stays a digit, so that it is the signature that refuses it, not the parser.
        at = parts[0].index(b'"issued_at":') + len(b'"issued_at":1') if part == 0 else len(parts[part]) // 2
        parts[part] = flipped(parts[part], at)
        return lp(*parts)

    return spoil


class Wire:
    """A client's channel, without the client: publishes anything, collects everything."""

    def __init__(self, name: str, channel: AbstractChannel) -> None:
        """Publish on `channel` as `name`; `Wire.open` makes one."""
        self.name = name
        self.channel = channel
        self._told: asyncio.Queue[Delivery] = asyncio.Queue()

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: BrokerSettings, name: str) -> AsyncIterator["Wire"]:
        """Connect with `settings`; nothing is repaired when it breaks."""
        connection = await aio_pika.connect(
            f"{settings.url}?auth=external", ssl_context=settings.ssl_context(), timeout=SECONDS
        )
        async with connection:
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            wire = cls(name, channel)
            replies = await channel.get_queue(REPLY_TO, ensure=False)
            await replies.consume(wire._deliver, no_ack=True)
            yield wire

    async def _deliver(self, message: AbstractIncomingMessage) -> None:
        self._told.put_nowait(Delivery(message))

    async def publish(
        self,
        body: bytes = b"",
        *,
        kind: str | None = Request.TYPE,
        meta: bytes | None = REQUEST,
        exchange: str = topology.REQUESTS,
        routing_key: str = "",
        **properties: Any,
    ) -> None:
        """Publish one message as told; `user_id` and `reply_to` are right unless given."""
        message = aio_pika.Message(
            body,
            type=kind,
            headers={} if meta is None else {META: meta.decode()},
            message_id=uuid4().hex,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            **({"user_id": self.name, "reply_to": REPLY_TO} | properties),
        )
        target = await self.channel.get_exchange(exchange, ensure=False)
        async with asyncio.timeout(SECONDS):
            await target.publish(message, routing_key)

    async def send(self, forged: Forged, **message: Any) -> None:
        """Publish a request."""
        await self.publish(forged.body, **({"correlation_id": forged.job_id.hex} | message))

    async def request(self, forged: Forged, **message: Any) -> tuple[Answer, bytes]:
        """Publish a request; its end, as `end`."""
        await self.send(forged, **message)
        return await self.end(forged)

    async def end(self, forged: Forged) -> tuple[Answer, bytes]:
        """The end of a request as the SDK takes it.

        Raises:
            PermanentError: what the SDK would raise.
        """
        while True:
            ended = _ended(forged.prepared, *await self.update(forged.job_id))
            if ended is not None:
                if code := ended[0].outcomes[0].code:
                    raise PermanentError(code)
                return ended

    async def update(self, job_id: UUID) -> tuple[JobStatus, bytes]:
        """The next thing that the SDK would hear of a job."""
        session = Session(self.name)
        with session.updates([job_id]) as updates:
            while updates.empty():
                session._receive(await self.next())
            return updates.get_nowait()

    async def next(self) -> Delivery:
        """The next message that comes back."""
        async with asyncio.timeout(SECONDS):
            return await self._told.get()

    async def ask(self, meta: Meta) -> Delivery:
        """Publish a query; its answer."""
        await self.publish(kind=meta.TYPE, meta=encode(meta), correlation_id=uuid4().hex)
        return await self.next()

    async def directory(self) -> bytes:
        """The key directory."""
        return (await self.ask(KeysQuery())).body

    async def state(self, job_id: UUID) -> State:
        """What the ledger says of a job."""
        meta = StatusQuery(job_ids=[job_id])
        await self.publish(kind=meta.TYPE, meta=encode(meta), correlation_id=uuid4().hex)
        return (await self.update(job_id))[0].state

    async def ready(self, queue: str) -> int:
        """How many messages wait in a queue."""
        return (await self.channel.declare_queue(queue, passive=True)).declaration_result.message_count or 0
