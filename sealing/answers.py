"""Answers: LP(JSON of `Answer`), then a small result, sealed under the request's `reply_key` (docs/format.md §7).

The answer to a dump is bound to the job, because a restarted client no longer has R; a load's is bound to R. A large
result travels as a stream of its own, bound to R and to the attempt that sent it.
"""

from typing import Final

from contracts.codec import encode, parse
from contracts.edge import Answer, Head, Op
from contracts.lp import lp, take_lp
from sealing.streams import Buffer, SealError, open_sealed, seal

ANSWER_LABEL: Final = b"trivault/answer/v1"
LOAD_ANSWER_LABEL: Final = b"trivault/load-answer/v1"
DOWNLOAD_LABEL: Final = b"trivault/download/v1"


def answer_context(op: Op, client_id: bytes, job_id: bytes, request_tag: bytes, request_digest: bytes) -> bytes:
    """The context of an answer; `request_digest` counts for what reads only, the job's fields for all others."""
    if op.reads:
        return lp(LOAD_ANSWER_LABEL, op.encode(), request_digest)
    return lp(ANSWER_LABEL, op.encode(), client_id, job_id, request_tag)


def head_context(head: Head, request_digest: bytes) -> bytes:
    """The context of the answer to the request with this head."""
    return answer_context(head.op, head.client_id, head.job_id.bytes, head.request_tag, request_digest)


def download_context(request_digest: bytes, attempt: bytes) -> bytes:
    """The context of one attempt's download stream."""
    return lp(DOWNLOAD_LABEL, request_digest, attempt)


def seal_answer(reply_key: bytes, context: bytes, answer: Answer, blob: Buffer = b"") -> bytes:
    """Seal an answer, and a blob of at most 256 KiB with it."""
    return seal(reply_key, context, lp(encode(answer)) + blob)


def open_answer(reply_key: bytes, context: bytes, sealed: Buffer) -> tuple[Answer, bytes]:
    """Open an answer: what it says, and the blob.

    Raises:
        SealError: it is not the Cryptor's answer to this request.
    """
    opened = open_sealed(reply_key, context, sealed)
    try:
        (told,), blob = take_lp(opened, 1)
    except ValueError:
        raise SealError from None
    return parse(Answer, told), bytes(blob)
