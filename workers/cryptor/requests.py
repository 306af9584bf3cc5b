"""From a job message to a request that may be believed: signature first, then head, then seal.

The gateway that handed the job out is not trusted with authority: everything it checked is checked again here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from contracts.edge import SUITE, VERSION, Head, Job, Op, Secrets
from contracts.envelope import split_envelope
from contracts.failures import FailureCode, PermanentError
from contracts.limits import MAX_BLOB
from contracts.registry import Client, Registry
from sealing.answers import head_context
from sealing.requests import digest, open_seal, payload_context, verify
from workers.cryptor.hpke_keys import HpkeKeys


@dataclass(frozen=True, slots=True)
class Opened:
    """A request whose signature and seal were verified."""

    client: Client
    head: Head
    secrets: Secrets = field(repr=False)
    digest: bytes  # R: SHA-256 of the signed bytes
    payload: memoryview = field(repr=False)

    @property
    def owner(self) -> bytes:
        """Who owns the records it makes, and may load."""
        return self.client.client_id

    @property
    def payload_context(self) -> bytes:
        """The context of its payload stream."""
        return payload_context(self.digest)

    @property
    def answer_context(self) -> bytes:
        """The context of its answer."""
        return head_context(self.head, self.digest)


class Requests:
    """Opens requests."""

    def __init__(self, vault_id: UUID, registry: Callable[[], Registry], keys: HpkeKeys) -> None:
        """Believe clients of `registry`, for this vault, sealed to one of `keys`."""
        self._vault_id = vault_id
        self._registry = registry
        self._keys = keys

    def open(self, job: Job, body: memoryview) -> Opened:
        """Open one job's request.

        Raises:
            PermanentError: `unauthenticated` or `invalid_request`, with the reason; nothing of it may be done.
        """
        envelope = split_envelope(body)
        client = self._registry().owner(job.client_id)
        head = verify(envelope, client.verify_key)
        self._check(head, job)
        if head.op is Op.SWEEP and not client.operator:
            raise PermanentError(FailureCode.UNAUTHENTICATED, "operators_only")
        secrets = open_seal(envelope, self._keys.named(head.key_id))
        if len(secrets.external_uuids) != (head.items if head.op.reads else 0):
            raise PermanentError(FailureCode.INVALID_REQUEST, "item_count")
        return Opened(client, head, secrets, digest(envelope.head, envelope.seal), envelope.payload)

    def _check(self, head: Head, job: Job) -> None:
        checks = {
            "unknown_version": head.version == VERSION,
            "unknown_suite": head.suite == SUITE,
            "wrong_vault": head.vault_id == self._vault_id,
            "wrong_client": head.client_id == job.client_id,
            "wrong_job": head.job_id == job.job_id,
            "item_count": head.items == 1 or head.op.many,
            "blob_too_large": head.size <= MAX_BLOB,
        }
        for reason, holds in checks.items():
            if not holds:
                raise PermanentError(FailureCode.INVALID_REQUEST, reason)
