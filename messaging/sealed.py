"""Sealed messages on durable queues: published persistent, with confirms and `mandatory`; opened or dead-lettered.

The message id is bound into the seal as its correlation id. What does not open raises; the consumer dead-letters it.
All of them may wait equally long, so that the deadline in the seal also tells when a message was sent.
"""

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from contracts.codec import Meta, decode, encode
from contracts.failures import NotOursError
from contracts.limits import MAX_EXPIRY
from messaging import metrics
from messaging.consuming import Delivery
from messaging.link import Buffers, Direction, LinkKeys, LinkSealError
from messaging.publishing import Outgoing, Publisher

M = TypeVar("M", bound=Meta)

WAIT_SECONDS: Final = 2 * MAX_EXPIRY  # that a message may wait; how long a job may live is the ledger's affair


@dataclass(frozen=True, slots=True)
class SealedPublisher:
    """Publishes one direction of a link."""

    publisher: Publisher
    link: LinkKeys
    direction: Direction

    async def publish(self, exchange: str, routing_key: str, meta: Meta, body: Buffers) -> None:
        """Seal and publish; returns when the broker took responsibility.

        Args:
            exchange: where to.
            routing_key: by which key.
            meta: the message.
            body: its raw bytes, in pieces.

        Raises:
            TransientError: the outcome is unknown.
        """
        message_id = uuid.uuid4().hex
        deadline = time.time() + WAIT_SECONDS
        sealed = await self.link.seal(self.direction, meta.TYPE, message_id, deadline, encode(meta), body)
        message = Outgoing(type=meta.TYPE, body=sealed, message_id=message_id, persistent=True)
        await self.publisher.publish(exchange, routing_key, message)


async def open_sealed(
    link: LinkKeys, direction: Direction, delivery: Delivery, types: Iterable[type[M]]
) -> tuple[M, memoryview]:
    """Open a delivery of a durable queue: its meta and body.

    Raises:
        NotOursError: it does not open, came too late, or is of another type.
    """
    try:
        opened = await link.open(direction, delivery.kind, delivery.message.message_id or "", delivery.body)
    except LinkSealError:
        raise NotOursError("link_seal") from None
    left = opened.deadline - time.time()
    if left <= 0:
        raise NotOursError("late")
    meta = decode(types, delivery.kind, opened.meta, len(opened.body))
    metrics.observe(metrics.MESSAGE_WAIT, meta.TYPE, value=max(WAIT_SECONDS - left, 0))
    return meta, opened.body
