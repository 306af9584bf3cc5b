"""Failure codes of the wire, and the exceptions that carry them, split by what to do.

A wire reply carries a code and never an exception's text. `PermanentError`: answer the client. `TransientError`: retry
with backoff, then answer. Anything else that is raised is a bug: dead-letter the message and raise the alarm.
"""

from enum import StrEnum
from typing import Final


class FailureCode(StrEnum):
    """Every way in which a request can end other than well."""

    INVALID_REQUEST = "invalid_request"
    UNAUTHENTICATED = "unauthenticated"
    NOT_FOUND = "not_found"
    BLOB_TOO_LARGE = "blob_too_large"
    CONFLICT = "conflict"
    EXPIRED = "expired"
    BUSY = "busy"
    QUOTA_EXCEEDED = "quota_exceeded"
    STORE_UNAVAILABLE = "store_unavailable"
    UPLOAD_LOST = "upload_lost"
    INTEGRITY_FAILED = "integrity_failed"
    INTERNAL = "internal"


# Codes that may be said without a seal, because they come before it is opened (or from the gateway, which cannot seal).
# The client takes them as a refusal that says nothing about a record.
UNSEALED: Final = frozenset(
    {
        FailureCode.INVALID_REQUEST,
        FailureCode.UNAUTHENTICATED,
        FailureCode.CONFLICT,
        FailureCode.BUSY,
        FailureCode.QUOTA_EXCEEDED,
        FailureCode.EXPIRED,
    }
)

ADVICE: Final[dict[FailureCode, str]] = {
    FailureCode.INVALID_REQUEST: "the vault refused the request as malformed; update the client",
    FailureCode.UNAUTHENTICATED: "the vault does not accept this client's identity; ask the operator to enrol it again",
    FailureCode.NOT_FOUND: "no such record belongs to this client; check the uuid",
    FailureCode.BLOB_TOO_LARGE: "the blob is larger than 52,428,800 bytes; split it",
    FailureCode.CONFLICT: "this job id was already used for other content; retry with a new job id",
    FailureCode.EXPIRED: "the request expired before it was done and left no record; send it again with a new job id",
    FailureCode.BUSY: "the vault is at its limit; try again in a moment",
    FailureCode.QUOTA_EXCEEDED: "too many jobs of this client are under way; wait for some to finish",
    FailureCode.STORE_UNAVAILABLE: "a store did not answer in time; nothing was kept, try again later",
    FailureCode.UPLOAD_LOST: "the upload did not arrive whole; nothing was kept, send it again with a new job id",
    FailureCode.INTEGRITY_FAILED: "a stored piece is missing or was altered; tell the operator, no data was returned",
    FailureCode.INTERNAL: "the vault failed to process the job; nothing was kept, tell the operator",
}


class VaultError(Exception):
    """An error with a failure code. `reason` is a fixed identifier for people and tests, never content.

    Attributes:
        code: what the wire says.
        reason: which check refused, as `lower_snake_case`; empty if the code says it all.
    """

    def __init__(self, code: FailureCode, reason: str = "") -> None:
        """Carry `code`, and `reason` where the code alone would leave one guessing."""
        super().__init__(f"{code}: {reason}" if reason else str(code))
        self.code = code
        self.reason = reason

    @property
    def advice(self) -> str:
        """What to do next, in one sentence."""
        return ADVICE[self.code]


class PermanentError(VaultError):
    """Doing the same again gives the same: answer the client."""


class TransientError(VaultError):
    """The outcome is unknown or a later try may succeed: retry the idempotent step, then answer."""


class NotOursError(PermanentError):
    """A message of an unknown type, version or shape."""

    def __init__(self, reason: str) -> None:
        """Refuse a message; `reason` names the check."""
        super().__init__(FailureCode.INVALID_REQUEST, reason)
