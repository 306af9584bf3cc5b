"""Vectors of a client's whole conversation: HPKE step by step, every operation, pieces, AMQP messages (§13).

They are for readers in other languages, who have docs/protocol.md and docs/format.md and none of this code.
"""

import hashlib
from typing import Any, Final

from contracts.codec import Meta, encode
from contracts.edge import (
    Answer,
    Answers,
    Download,
    Head,
    ItemOutcome,
    JobStatus,
    KeyDirectory,
    KeysQuery,
    Op,
    Refusal,
    Request,
    Secrets,
    State,
    StatusQuery,
    Transfer,
    Upload,
)
from contracts.failures import FailureCode
from contracts.limits import PIECE, pieces, sealed_size
from contracts.lp import lp
from contracts.sweep import SweepReport, Swept
from contracts.topology import download_queue, upload_queue
from sealing.answers import answer_context, download_context
from sealing.client import reply_key, request_tag
from sealing.keys import SUITE, HpkeKey, public_key
from sealing.requests import SEAL_LABEL, payload_context
from tests import hpke as second
from tests.vectors import material as given

Document = dict[str, Any]

CLIENT: Final = "alice"
DIGEST: Final = given.fixed("request digest")
ATTEMPT: Final = given.fixed("attempt", 16)
LARGE: Final = 2_100_000  # bytes: three pieces
OTHERS: Final = [given.EXTERNAL, given.fixed_uuid("another external")]
BLOBS: Final = [given.BLOB, b"", b"no known allergies"]


def hpke_case(private: bytes, info: bytes, sealed: bytes) -> Document:
    """One seal, with every value on the way to its plaintext."""
    opened = second.open_seal(private, info, sealed)
    return {
        "info": info.hex(),
        "sealed": sealed.hex(),
        "mlkem_secret": opened.mlkem_secret.hex(),
        "x25519_secret": opened.x25519_secret.hex(),
        "shared_secret": opened.shared_secret.hex(),
        "key": opened.key.hex(),
        "base_nonce": opened.base_nonce.hex(),
        "plaintext": opened.plaintext.hex(),
    }


def hpke() -> Document:
    """§4: seals under a key that has X-Wing's own seed as well. The seals are random."""
    seed = given.fixed("x-wing seed")
    private = second.expand_seed(seed)
    key = HpkeKey.from_raw(private)
    infos = {lp(SEAL_LABEL, b"{}"): b"secrets", lp(SEAL_LABEL, encode(given.head())): encode(given.SECRETS)}
    sealed = {info: SUITE.encrypt(told, public_key(key.public), info=info) for info, told in infos.items()}
    one = sealed[lp(SEAL_LABEL, b"{}")]
    damaged = {
        "ML-KEM ciphertext": given.flip(one, 0),
        "ephemeral key": given.flip(one, second.CIPHERTEXT),
        "AEAD ciphertext": given.flip(one, second.ENCAPSULATED),
        "tag": given.flip(one, -1),
        "cut": one[:-1],
        "an all-zero ephemeral key": one[: second.CIPHERTEXT] + bytes(32) + one[second.ENCAPSULATED :],
    }
    return {
        "xwing_seed": seed.hex(),
        "private": private.hex(),
        "public": key.public.hex(),
        "key_id": key.key_id.hex(),
        "valid": [hpke_case(private, info, each) for info, each in sealed.items()],
        "invalid": [{"name": name, "sealed": bad.hex(), "reason": "seal"} for name, bad in damaged.items()],
    }


def _request(op: Op, payload: bytes, answer: Answer, result: bytes = b"", **told: Any) -> Document:
    """What a client computes for one operation, and the answer that it opens in the end."""
    uuids, dry_run = told.get("external_uuids", ()), told.get("dry_run", False)
    job_id = given.fixed_uuid(f"{op} job")
    content = b"".join(each.bytes for each in uuids) if op.reads else bytes([dry_run]) if op is Op.SWEEP else payload
    sha256 = hashlib.sha256(content).digest()
    tag = request_tag(given.CLIENT_SECRET, op, job_id, len(payload), sha256)
    secrets = Secrets(
        payload_key=given.fixed(f"{op} payload key"),
        reply_key=given.fixed(f"{op} reply key") if op.reads else reply_key(given.CLIENT_SECRET, job_id),
        external_uuids=uuids,
        dry_run=dry_run,
    )
    items = len(answer.outcomes) if op is Op.INGEST else len(uuids) or 1
    head = given.head(op=op, job_id=job_id, size=len(payload), items=items, request_tag=tag)
    context = answer_context(op, given.OWNER, job_id.bytes, tag, DIGEST)
    opened = lp(encode(answer)) + result
    return {
        "op": op,
        "job_id": str(job_id),
        "content": content.hex(),
        "content_sha256": sha256.hex(),
        "request_tag": tag.hex(),
        "head": encode(head).decode(),
        "secrets": encode(secrets).decode(),
        "payload": payload.hex(),
        "reply_key": secrets.reply_key.hex(),
        "answer_context": context.hex(),
        "answer": encode(answer).decode(),
        "result": result.hex(),
        "sealed_answer": given.stream(secrets.reply_key, context, opened, f"{op} answer").hex(),
    }


def operations() -> Document:
    """§5 to §7: every operation, from its inputs to its answer. R is given, for it depends on a random seal."""
    found = ItemOutcome(external_uuid=OTHERS[0])
    missing = ItemOutcome(external_uuid=OTHERS[1], code=FailureCode.NOT_FOUND)
    kept = [ItemOutcome(external_uuid=given.fixed_uuid(f"blob {at}")) for at in range(2)]
    exported = lp(encode(found), given.BLOB, encode(missing), b"")
    report = SweepReport(dry_run=True, records=2, mark=2, keys=Swept(seen=3, candidates=1, quarantined=1))
    return {
        "client_secret": given.CLIENT_SECRET.hex(),
        "client_id": given.OWNER.hex(),
        "request_digest": DIGEST.hex(),
        "operations": [
            _request(Op.DUMP, given.BLOB, Answer(outcomes=[found])),
            _request(Op.DUMP, b"", Answer(outcomes=[ItemOutcome(code=FailureCode.STORE_UNAVAILABLE)])),
            _request(
                Op.LOAD, b"", Answer(outcomes=[found], size=len(given.BLOB)), given.BLOB, external_uuids=(OTHERS[0],)
            ),
            _request(Op.INGEST, lp(*BLOBS), Answer(outcomes=[*kept, ItemOutcome(code=FailureCode.STORE_UNAVAILABLE)])),
            _request(
                Op.EXPORT,
                b"",
                Answer(outcomes=[ItemOutcome()], size=len(exported)),
                exported,
                external_uuids=tuple(OTHERS),
            ),
            _request(Op.SWEEP, b"", Answer(outcomes=[ItemOutcome()], report=report), dry_run=True),
        ],
    }


def _pieces(key: bytes, context: bytes, salt: str) -> Document:
    """A long stream, told by the lengths and hashes of its pieces."""
    stream = given.stream(key, context, large(), salt)
    cuts = [stream[at : at + PIECE] for at in range(0, len(stream), PIECE)]
    if (len(stream), len(cuts)) != (sealed_size(LARGE), pieces(LARGE)):
        raise RuntimeError("the sizes that the limits promise are not the stream's")
    return {
        "key": key.hex(),
        "context": context.hex(),
        "salt": stream[:24].hex(),
        "sealed_size": len(stream),
        "sealed_sha256": hashlib.sha256(stream).hexdigest(),
        "pieces": [{"size": len(cut), "sha256": hashlib.sha256(cut).hexdigest()} for cut in cuts],
    }


def large() -> bytes:
    """The plaintext: byte number i is i mod 251."""
    return (bytes(range(251)) * (LARGE // 251 + 1))[:LARGE]


def transfers() -> Document:
    """§3, §5, §7: streams that travel in pieces."""
    return {
        "plaintext_size": LARGE,
        "plaintext_sha256": hashlib.sha256(large()).hexdigest(),
        "request_digest": DIGEST.hex(),
        "attempt": ATTEMPT.hex(),
        "upload": _pieces(given.SECRETS.payload_key, payload_context(DIGEST), "upload"),
        "download": _pieces(given.SECRETS.reply_key, download_context(DIGEST, ATTEMPT), "download"),
    }


def _message(meta: Meta, body: bytes = b"", correlation_id: str = "") -> Document:
    told = {"type": meta.TYPE, "meta": encode(meta).decode(), "body": body.hex()}
    return told | ({"correlation_id": correlation_id} if correlation_id else {})


def messages() -> Document:
    """docs/protocol.md §4: what each message looks like to AMQP. Bodies that stand for sealed ones are not opened."""
    job, other = given.JOB, given.fixed_uuid("other job")
    up, down = upload_queue(CLIENT, str(job)), download_queue(CLIENT, str(job))
    head: Head = given.head(transfer=Transfer.UPLOAD)
    ended: Document = {"total": 1, "done": 1, "op": Op.DUMP, "request_tag": given.TAG}
    sealed = [b"sealed answer", b"another sealed answer"]
    waiting = JobStatus(job_id=job, state=State.ACCEPTED, total=1, upload=up, request=DIGEST)
    running = JobStatus(job_id=job, state=State.RUNNING, total=1, download=down, op=Op.LOAD, request_tag=given.TAG)
    refused = JobStatus(job_id=job, state=State.FAILED, code=FailureCode.UNAUTHENTICATED, reason="wrong_signature")
    jobs = [
        JobStatus(job_id=job, state=State.SUCCEEDED, size=len(sealed[0]), **ended),
        JobStatus(job_id=given.fixed_uuid("unknown job"), state=State.UNKNOWN),
        JobStatus(job_id=other, state=State.FAILED, size=len(sealed[1]), **ended),
    ]
    return {
        "client": CLIENT,
        "to_gateway": [
            _message(KeysQuery(), correlation_id="5d2c"),
            _message(Request(), correlation_id=head.job_id.hex),
            _message(Request(notify=True), correlation_id=head.job_id.hex),
            _message(StatusQuery(job_ids=[job, other]), correlation_id="5d2d"),
            _message(Upload(job_id=job, number=0), b"piece"),
        ],
        "to_client": [
            _message(KeyDirectory(), b"key statement", correlation_id="5d2c"),
            _message(Answers(jobs=[waiting])),
            _message(Answers(jobs=[running])),
            _message(Answers(jobs=jobs), b"".join(sealed)),
            _message(Answers(jobs=[refused])),
            _message(Refusal(code=FailureCode.QUOTA_EXCEEDED), correlation_id=head.job_id.hex),
            _message(Refusal(code=FailureCode.INVALID_REQUEST, reason="payload_size"), correlation_id=head.job_id.hex),
            _message(Download(job_id=job, attempt=ATTEMPT, number=0, pieces=3), b"piece"),
        ],
    }
