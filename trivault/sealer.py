"""The client's half of the envelope: sealing requests to the Cryptor, and deciding whether an answer is its own.

Keys come from the profile; the Cryptor's HPKE key from a statement that the pinned identity signed.
"""

import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid4

from contracts.edge import SUITE, VERSION, Answer, Head, KeyStatement, Op, Secrets, Transfer
from contracts.limits import INLINE_MAX
from sealing import client
from sealing.answers import answer_context, open_answer
from sealing.keys import key_id, verify_statement
from sealing.requests import build, payload_context
from sealing.streams import KEY_SIZE, SealError
from trivault.profile import Profile

EXPIRY_SECONDS: Final = 3600  # of a request


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that is ready to go, and what its answer will be opened with."""

    head: Head
    prefix: bytes = field(repr=False)  # the envelope without its payload
    digest: bytes
    secrets: Secrets = field(repr=False)

    @property
    def job_id(self) -> UUID:
        """Which job it is."""
        return self.head.job_id

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the envelope without its payload: how the ledger tells this request from another of the job."""
        return hashlib.sha256(self.prefix).digest()

    @property
    def payload_context(self) -> bytes:
        """The context of its payload stream."""
        return payload_context(self.digest)

    def open_answer(self, sealed: bytes) -> tuple[Answer, bytes]:
        """Open the answer to this request.

        Raises:
            SealError: it is not.
        """
        head = self.head
        context = answer_context(head.op, head.client_id, head.job_id.bytes, head.request_tag, self.digest)
        return open_answer(self.secrets.reply_key, context, sealed)


class ClientSealer:
    """Seals for one profile."""

    def __init__(self, profile: Profile) -> None:
        """Sign and derive with the profile's secrets."""
        self._profile = profile
        self._signing_key = client.signing_key(bytes.fromhex(profile.signing_key))
        self._secret = bytes.fromhex(profile.client_secret)
        self._statement: KeyStatement | None = None

    def trust(self, directory: bytes) -> None:
        """Take a key statement, if the pinned identity signed it.

        Raises:
            PermanentError: `unauthenticated`.
        """
        identity = bytes.fromhex(self._profile.vault_identity)
        self._statement = verify_statement(directory, identity, self._profile.vault_id, time.time())

    @property
    def trusting(self) -> bool:
        """Whether there is a statement that has not expired."""
        return self._statement is not None and self._statement.expires_at > time.time()

    def distrust(self) -> None:
        """Forget the statement: the Cryptor does not know its key any more."""
        self._statement = None

    def dump(self, size: int, content_sha256: bytes, job_id: UUID | None = None, *, items: int = 0) -> Prepared:
        """A request to keep `size` bytes with this hash: one blob, or a batch of `items`.

        Its `reply_key` can be derived again after a restart.
        """
        job_id = job_id or uuid4()
        told = Secrets(payload_key=secrets.token_bytes(KEY_SIZE), reply_key=client.reply_key(self._secret, job_id))
        return self._prepare(Op.INGEST if items else Op.DUMP, job_id, size, content_sha256, told, items=items or 1)

    def load(self, external_uuids: Sequence[UUID], op: Op = Op.LOAD) -> Prepared:
        """A request for one record, or an export of several. Its `reply_key` exists in this process only."""
        told = Secrets(
            payload_key=secrets.token_bytes(KEY_SIZE),
            reply_key=secrets.token_bytes(KEY_SIZE),
            external_uuids=tuple(external_uuids),
        )
        return self._prepare(op, uuid4(), 0, client.uuids_sha256(external_uuids), told, items=len(external_uuids))

    def sweep(self, *, dry_run: bool, job_id: UUID | None = None) -> Prepared:
        """A request to collect what no record names. Its `reply_key` can be derived again after a restart."""
        job_id = job_id or uuid4()
        told = Secrets(
            payload_key=secrets.token_bytes(KEY_SIZE),
            reply_key=client.reply_key(self._secret, job_id),
            dry_run=dry_run,
        )
        return self._prepare(Op.SWEEP, job_id, 0, client.sweep_sha256(dry_run=dry_run), told)

    def _prepare(
        self, op: Op, job_id: UUID, size: int, content_sha256: bytes, told: Secrets, *, items: int = 1
    ) -> Prepared:
        if self._statement is None:
            raise RuntimeError("no key statement yet")
        hpke_key = self._statement.hpke_keys[0]
        now = int(time.time())
        head = Head(
            version=VERSION,
            suite=SUITE,
            vault_id=self._profile.vault_id,
            op=op,
            client_id=self._profile.owner,
            job_id=job_id,
            size=size,
            items=items,
            transfer=Transfer.INLINE if size <= INLINE_MAX else Transfer.UPLOAD,
            key_id=key_id(hpke_key),
            issued_at=now,
            expires_at=now + EXPIRY_SECONDS,
            request_tag=client.request_tag(self._secret, op, job_id, size, content_sha256),
        )
        sealed = build(head, told, hpke_key, self._signing_key)
        return Prepared(head, sealed.prefix, sealed.digest, told)

    def open_dump_answer(self, op: Op, job_id: UUID, request_tag: bytes, sealed: bytes) -> Answer:
        """Open the answer to a dump, or to a batch, of which only the job id is remembered.

        Raises:
            SealError: it is not.
        """
        context = answer_context(op, self._profile.owner, job_id.bytes, request_tag, b"")
        answer, rest = open_answer(client.reply_key(self._secret, job_id), context, sealed)
        if rest:
            raise SealError
        return answer
