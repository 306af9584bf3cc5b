"""Admission: what the gateway refuses before it writes anything. Pure: no broker, no database, no clock.

The gateway is not trusted with authority: signature and seal are checked by the Cryptor, whatever is let through here.
"""

import hashlib
from dataclasses import dataclass
from uuid import UUID

from contracts.codec import parse
from contracts.edge import SUITE, VERSION, Head, Op, Transfer
from contracts.envelope import split_envelope
from contracts.failures import FailureCode, PermanentError
from contracts.limits import CLOCK_SKEW, INLINE_MAX, MAX_BLOB, MAX_EXPIRY, sealed_size
from contracts.registry import Client, Registry

REPLY_TOKEN = "amq.rabbitmq.reply-to."  # noqa: S105 - the prefix of RabbitMQ's direct reply-to tokens


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may become a job."""

    client: Client
    head: Head
    fingerprint: bytes  # SHA-256 of the envelope without its payload

    @property
    def bulk(self) -> bool:
        """Which lane it takes: inline records are interactive, uploads, batches and sweeps are bulk."""
        return self.head.transfer is Transfer.UPLOAD or self.head.op.many or self.head.op is Op.SWEEP


def check_reply_to(reply_to: str | None) -> None:
    """Answers go to direct reply-to tokens only: the gateway may publish anywhere, its clients may not.

    Raises:
        PermanentError: `invalid_request`, `bad_reply_to`.
    """
    if reply_to is not None and not reply_to.startswith(REPLY_TOKEN):
        raise PermanentError(FailureCode.INVALID_REQUEST, "bad_reply_to")


def admit(body: bytes, user_id: str | None, registry: Registry, vault_id: UUID, now: float) -> Admitted:
    """Check everything that can be checked without keys.

    Args:
        body: the request message's body.
        user_id: who published it, as the broker validated.
        registry: who is enrolled.
        vault_id: which vault this is.
        now: unix time, seconds.

    Raises:
        PermanentError: with the code and the reason to answer.
    """
    client = registry.named(user_id)
    envelope = split_envelope(body)
    head = parse(Head, envelope.head)
    refusal = _identity(head, client, vault_id) or _time(head, now) or _shape(head, len(envelope.payload))
    if refusal is not None:
        raise refusal
    return Admitted(client, head, hashlib.sha256(envelope.prefix()).digest())


def _invalid(reason: str) -> PermanentError:
    return PermanentError(FailureCode.INVALID_REQUEST, reason)


def _identity(head: Head, client: Client, vault_id: UUID) -> PermanentError | None:
    if head.version != VERSION:
        return _invalid("unknown_version")
    if head.suite != SUITE:
        return _invalid("unknown_suite")
    if head.vault_id != vault_id:
        return _invalid("wrong_vault")
    if head.client_id != client.client_id:
        return PermanentError(FailureCode.UNAUTHENTICATED, "wrong_client")
    if head.op is Op.SWEEP and not client.operator:
        return PermanentError(FailureCode.UNAUTHENTICATED, "operators_only")
    return None


def _time(head: Head, now: float) -> PermanentError | None:
    if head.expires_at <= now:
        return PermanentError(FailureCode.EXPIRED)
    if head.expires_at > now + MAX_EXPIRY + CLOCK_SKEW:
        return _invalid("expiry_too_far")
    if head.issued_at > now + CLOCK_SKEW:
        return _invalid("issued_in_the_future")
    return None


def _shape(head: Head, payload: int) -> PermanentError | None:
    if head.items != 1 and not head.op.many:
        return _invalid("item_count")
    if head.size > MAX_BLOB:
        return _invalid("blob_too_large")
    if not head.op.dumps:
        fits = head.size == 0 and payload == 0 and head.transfer is Transfer.INLINE
    elif head.transfer is Transfer.INLINE:
        fits = head.size <= INLINE_MAX and payload == sealed_size(head.size)
    else:
        fits = payload == 0
    return None if fits else _invalid("payload_size")
