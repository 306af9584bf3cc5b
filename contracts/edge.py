"""Messages on the `edge` vhost: between clients, gateway and Cryptor, and what travels sealed inside them.

The gateway sees heads, states and sizes. `Secrets` and `Answer` exist only between a client and the Cryptor.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Final
from uuid import UUID

from pydantic import Field

from contracts.codec import Bytes16, Bytes32, Meta, Model, Size
from contracts.failures import FailureCode
from contracts.limits import MAX_ITEMS
from contracts.sweep import SweepReport

VERSION: Final = 1
MAX_STATUSES: Final = 100  # of one message: their meta stays far below one AMQP frame
SUITE: Final = 1  # HPKE MLKEM768-X25519, Ed25519, Cobblestone-256; 2 is reserved for client-held keys

Second = Annotated[int, Field(ge=0, lt=2**40)]  # unix time
Reason = Annotated[str, Field(pattern=r"^[a-z_0-9]{0,60}$")]


class Op(StrEnum):
    """What a request asks for."""

    DUMP = "dump"
    LOAD = "load"
    INGEST = "ingest"  # many small blobs at once; the payload is LP(blob) LP(blob) ...
    EXPORT = "export"  # many small records at once; the result is LP(outcome) LP(blob) LP(outcome) LP(blob) ...
    SWEEP = "sweep"  # collect what no record names; operators only

    @property
    def many(self) -> bool:
        """Whether a request may have more than one item."""
        return self in {Op.INGEST, Op.EXPORT}

    @property
    def dumps(self) -> bool:
        """Whether a request brings content, which becomes records."""
        return self in {Op.DUMP, Op.INGEST}

    @property
    def reads(self) -> bool:
        """Whether a request names records. It is answered to the process that asked, and to no other."""
        return self in {Op.LOAD, Op.EXPORT}


class Transfer(StrEnum):
    """Where the payload is: in the request's own body, or behind it on the upload queue."""

    INLINE = "inline"
    UPLOAD = "upload"


class State(StrEnum):
    """A job's states: accepted -> running -> succeeded | failed | expired."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"
    UNKNOWN = "unknown"  # only in answers: the ledger has no such job of this client

    @property
    def terminal(self) -> bool:
        """Whether a job in this state will never change again."""
        return self in {State.SUCCEEDED, State.FAILED, State.EXPIRED}


class Head(Model):
    """What the gateway may know of a request, signed by the client and bound into the seal.

    `version` and `suite` are plain numbers here, so that a newer client is told `unknown_version` and not `malformed`.
    """

    version: int
    suite: int
    vault_id: UUID
    op: Op
    client_id: Bytes16
    job_id: UUID  # the idempotency key
    size: Size  # bytes of payload that follow, before its seal; 0 unless the op dumps
    items: Annotated[int, Field(ge=1, le=MAX_ITEMS)]
    transfer: Transfer
    key_id: Bytes32  # SHA-256 of the Cryptor's HPKE public key
    issued_at: Second
    expires_at: Second
    request_tag: Bytes32  # HMAC of the content under the client's own secret


class Secrets(Model):
    """What the client seals to the Cryptor."""

    payload_key: Annotated[Bytes32, Field(repr=False)]
    reply_key: Annotated[Bytes32, Field(repr=False)]
    external_uuids: Annotated[tuple[UUID, ...], Field(max_length=MAX_ITEMS, repr=False)] = ()
    dry_run: bool = False  # of a sweep: change nothing


class ItemOutcome(Model):
    """One item's result: its external_uuid, or why there is none."""

    external_uuid: UUID | None = None
    code: FailureCode | None = None


class Answer(Model):
    """What the Cryptor seals to the client. The small result of a load or an export follows it as raw bytes."""

    outcomes: Annotated[list[ItemOutcome], Field(min_length=1, max_length=MAX_ITEMS)]  # an export's stand in its result
    size: Size = 0  # bytes of the result, wherever it is
    report: SweepReport | None = None  # of a sweep


class KeyStatement(Model):
    """The Cryptor's HPKE public keys, newest first, signed by the vault's identity."""

    vault_id: UUID
    hpke_keys: Annotated[list[Annotated[bytes, Field(min_length=1216, max_length=1216)]], Field(min_length=1)]
    issued_at: Second
    expires_at: Second


# --- client -> gateway ----------------------------------------------------------------------------------------------


class Request(Meta):
    """A sealed request; the body is LP(head) LP(seal) LP(signature) and the inline payload, if any."""

    TYPE: ClassVar = "request.v1"
    notify: bool = False  # answer `accepted` and `running` too, not only the end


class StatusQuery(Meta):
    """How are these jobs? Only the client's own are known."""

    TYPE: ClassVar = "status.v1"
    job_ids: Annotated[list[UUID], Field(min_length=1, max_length=MAX_STATUSES)]


class KeysQuery(Meta):
    """Ask for the key directory; answered by `KeyDirectory`."""

    TYPE: ClassVar = "keys.v1"


class Upload(Meta):
    """One piece of a sealed payload stream."""

    TYPE: ClassVar = "upload.v1"
    job_id: UUID
    number: Size  # from 0


# --- gateway -> client ----------------------------------------------------------------------------------------------


class JobStatus(Model):
    """One job as the ledger has it. Its sealed answer, if any, is the next `size` bytes of the body."""

    job_id: UUID
    state: State
    code: FailureCode | None = None  # only for an end that could not be sealed
    reason: Reason = ""
    done: Size = 0  # items so far
    total: Size = 0  # items in all
    upload: str | None = None  # where the payload goes
    download: str | None = None  # where a large load comes from
    op: Op | None = None  # with the tag: what a client that has forgotten the job needs to open its answer
    request_tag: Bytes32 | None = None
    request: Bytes32 | None = None  # SHA-256 of the envelope that became the job, without its payload
    size: Size = 0


class Answers(Meta):
    """Statuses, asked for or owed; the body holds their sealed answers in the same order."""

    TYPE: ClassVar = "answers.v1"
    jobs: Annotated[list[JobStatus], Field(min_length=1, max_length=MAX_STATUSES)]


class Refusal(Meta):
    """A message that did not become a job; the correlation id says which."""

    TYPE: ClassVar = "refusal.v1"
    code: FailureCode
    reason: Reason = ""


class KeyDirectory(Meta):
    """The body is LP(KeyStatement) LP(signature); clients check it against their pin."""

    TYPE: ClassVar = "key_directory.v1"


# --- gateway <-> Cryptor, under link seal ---------------------------------------------------------------------------


class Job(Model):
    """One job to do; its sealed request is the next `size` bytes of the body."""

    client: str
    client_id: Bytes16
    job_id: UUID
    attempt: Annotated[int, Field(ge=1)]
    upload: str | None = None
    abort: FailureCode | None = None  # do not do it: settle it as failed with this code
    bulk: bool = False  # whether the lane it came by may take a large result
    size: Size


class Jobs(Meta):
    """Jobs of one lane."""

    TYPE: ClassVar = "jobs.v1"
    jobs: Annotated[list[Job], Field(min_length=1, max_length=1_000)]


class Event(Model):
    """Something that happened to a job; its sealed answer, if any, is the next `size` bytes of the body."""

    client_id: Bytes16
    job_id: UUID
    state: State
    code: FailureCode | None = None
    reason: Reason = ""
    done: Size = 0
    total: Size = 0
    download: str | None = None
    bulk: bool = False  # with `accepted`: hand it out again, by the bulk lane
    size: Size = 0


class Events(Meta):
    """Events of several jobs."""

    TYPE: ClassVar = "events.v1"
    events: Annotated[list[Event], Field(min_length=1, max_length=1_000)]


class Directory(Meta):
    """The Cryptor's current key statement, for the gateway to serve; body as in `KeyDirectory`."""

    TYPE: ClassVar = "directory.v1"
    issued_at: Second


# --- Cryptor -> client ----------------------------------------------------------------------------------------------


class Download(Meta):
    """One piece of a sealed result stream. `attempt` is random; a new one starts the result over."""

    TYPE: ClassVar = "download.v1"
    job_id: UUID
    attempt: Bytes16
    number: Size  # from 0
    pieces: Annotated[int, Field(ge=1)]  # of this attempt, at most; exact in the last. The stream has to prove it
