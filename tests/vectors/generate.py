"""Writes the frozen vectors: `python -m tests.vectors.generate`, by hand and once per format version.

Streams are written by `tests.cobblestone`, with salts that follow from a name: all vectors but the HPKE seals come out
the same each time. docs/format.md §13 describes the files for readers in other languages.
"""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from contracts.codec import encode
from contracts.edge import SUITE, Answer, ItemOutcome, Op
from contracts.limits import COBBLESTONE_HEADER
from contracts.lp import lp
from contracts.stores import Row
from messaging.link import LABEL as LINK_LABEL
from messaging.link import Direction
from sealing.answers import answer_context, download_context
from sealing.client import reply_key, request_tag, uuids_sha256
from sealing.keys import sign_statement
from sealing.requests import build, payload_context
from tests import cobblestone
from tests.vectors import conversation
from tests.vectors import material as given
from workers.cryptor.core.format import data_context
from workers.cryptor.core.keys import KEK_LABEL
from workers.datastore.format import header_of

DIRECTORY: Final = Path(__file__).parent
Document = dict[str, Any]


def streams() -> Document:
    """§3: streams of every length at which something changes, and what is no stream."""
    key, context = given.fixed("stream key"), b"a context"
    valid = [
        {"plaintext": plaintext.hex(), "sealed": given.stream(key, context, plaintext, f"stream {size}").hex()}
        for size in (0, 1, 16_383, 16_384, 16_385)
        for plaintext in [given.fixed(f"stream {size}", size)]
    ]
    short = given.stream(key, context, given.BLOB, "short stream")
    long = given.stream(key, context, given.fixed("two chunks", 16_384), "two chunks")
    damaged = {
        "salt": given.flip(short, 0),
        "commitment": given.flip(short, cobblestone.SALT),
        "body": given.flip(short, COBBLESTONE_HEADER),
        "tag": given.flip(short, -1),
        "cut within the header": short[:55],
        "cut behind the header": short[:56],
        "cut within a tag": short[:-1],
        "cut at a chunk's border": long[:-16],
        "extended": short + b"\0",
        "empty": b"",
        "another context": given.stream(key, b"another context", given.BLOB, "another context"),
        "another key": given.stream(given.fixed("another key"), context, given.BLOB, "another key"),
    }
    invalid = [{"name": name, "sealed": sealed.hex(), "reason": "seal"} for name, sealed in damaged.items()]
    return {"key": key.hex(), "context": context.hex(), "valid": valid, "invalid": invalid}


def derived() -> Document:
    """§1, §3, §6, §7: what follows from its inputs alone."""
    digest, attempt = given.fixed("request digest"), given.fixed("attempt", 16)
    dump = answer_context(Op.DUMP, given.OWNER, given.JOB.bytes, given.TAG, b"")
    return {
        "lp": [
            {"fields": [each.hex() for each in fields], "lp": lp(*fields).hex()}
            for fields in ((), (b"",), (b"a", b"b"), (b"ab", b""), (bytes(300),))
        ],
        "client_secret": given.CLIENT_SECRET.hex(),
        "client_id": given.OWNER.hex(),
        "job_id": str(given.JOB),
        "size": len(given.BLOB),
        "content": given.BLOB.hex(),
        "external_uuid": str(given.EXTERNAL),
        "request_digest": digest.hex(),
        "attempt": attempt.hex(),
        "dump_request_tag": given.TAG.hex(),
        "load_request_tag": request_tag(
            given.CLIENT_SECRET, Op.LOAD, given.JOB, 0, uuids_sha256([given.EXTERNAL])
        ).hex(),
        "reply_key": reply_key(given.CLIENT_SECRET, given.JOB).hex(),
        "payload_context": payload_context(digest).hex(),
        "dump_answer_context": dump.hex(),
        "load_answer_context": answer_context(Op.LOAD, b"", b"", b"", digest).hex(),
        "download_context": download_context(digest, attempt).hex(),
    }


def statements() -> Document:
    """§4: HPKE keys, and statements of them."""
    body = sign_statement(given.statement(), given.IDENTITY)
    other = sign_statement(given.statement(vault_id=given.fixed_uuid("another vault")), given.IDENTITY)
    old = sign_statement(given.statement(expires_at=given.NOW), given.IDENTITY)
    forged = sign_statement(given.statement(), given.SIGNING_KEY)
    damaged = [
        ("another identity", forged, "key_statement_forged"),
        ("statement", given.flip(body, 40), "key_statement_forged"),
        ("signature", given.flip(body, -1), "key_statement_forged"),
        ("extended", body + b"\0", "key_statement_forged"),
        ("cut", body[:-1], "key_statement_forged"),
        ("another vault", other, "key_statement_of_another_vault"),
        ("expired", old, "key_statement_expired"),
    ]
    return {
        "vault_id": str(given.VAULT),
        "identity": given.IDENTITY_PUBLIC.hex(),
        "now": given.NOW,
        "hpke_private": given.HPKE_RAW.hex(),
        "hpke_public": given.hpke_key().public.hex(),
        "key_id": given.hpke_key().key_id.hex(),
        "body": body.hex(),
        "invalid": [{"name": name, "body": bad.hex(), "reason": reason} for name, bad, reason in damaged],
    }


def requests() -> Document:
    """§5: one whole request, and what a gateway or a broker might make of it. The seal is random."""
    head = given.head()
    request = build(head, given.SECRETS, given.hpke_key().public, given.SIGNING_KEY)
    payload = given.stream(given.SECRETS.payload_key, payload_context(request.digest), given.BLOB, "payload")
    other = build(head, given.SECRETS, given.hpke_key().public, given.SIGNING_KEY)
    prefix, told = request.prefix, len(encode(head))
    resigned = build(given.head(expires_at=given.NOW + 7200), given.SECRETS, given.hpke_key().public, given.SIGNING_KEY)
    sealed_elsewhere = resigned.prefix[: 4 + len(encode(given.head(expires_at=given.NOW + 7200)))]
    seal = prefix[4 + told + 4 : -68]
    elsewhere = lp(sealed_elsewhere[4:], seal)
    signature = given.SIGNING_KEY.sign(lp(b"trivault/request/v1", sealed_elsewhere[4:], seal))
    damaged = [
        ("head", given.flip(prefix, 10), "wrong_signature"),
        ("seal", given.flip(prefix, 4 + told + 4), "wrong_signature"),
        ("signature", given.flip(prefix, -1), "wrong_signature"),
        ("signature of another request", prefix[:-64] + other.prefix[-64:], "wrong_signature"),
        ("seal under another head, signed", elsewhere + lp(signature), "wrong_seal"),
        ("cut", prefix[:-1], "malformed_envelope"),
        ("a short signature", prefix[:-68] + lp(bytes(63)), "malformed_envelope"),
        ("empty", b"", "malformed_envelope"),
    ]
    return {
        "verify_key": given.VERIFY_KEY.hex(),
        "signing_key": given.SIGNING_KEY.private_bytes_raw().hex(),
        "hpke_private": given.HPKE_RAW.hex(),
        "head": encode(head).decode(),
        "secrets": encode(given.SECRETS).decode(),
        "request": (prefix + payload).hex(),
        "digest": request.digest.hex(),
        "fingerprint": hashlib.sha256(prefix).hexdigest(),
        "plaintext": given.BLOB.hex(),
        "invalid": [{"name": name, "request": bad.hex(), "reason": reason} for name, bad, reason in damaged],
    }


def answers() -> Document:
    """§7: the answers to a dump and to a load, and answers to something else."""
    key, digest = reply_key(given.CLIENT_SECRET, given.JOB), given.fixed("request digest")
    dump = answer_context(Op.DUMP, given.OWNER, given.JOB.bytes, given.TAG, b"")
    load = answer_context(Op.LOAD, b"", b"", b"", digest)
    kept = encode(Answer(outcomes=[ItemOutcome(external_uuid=given.EXTERNAL)]))
    found = encode(Answer(outcomes=[ItemOutcome(external_uuid=given.EXTERNAL)], size=len(given.BLOB)))
    other = answer_context(Op.DUMP, given.OWNER, given.fixed_uuid("other job").bytes, given.TAG, b"")
    good = given.stream(key, dump, lp(kept), "dump answer")
    damaged = {
        "another job": given.stream(key, other, lp(kept), "other answer"),
        "bit": given.flip(good, 60),
        "cut": good[:-1],
    }
    return {
        "reply_key": key.hex(),
        "dump": {"context": dump.hex(), "answer": kept.decode(), "blob": "", "sealed": good.hex()},
        "load": {
            "context": load.hex(),
            "answer": found.decode(),
            "blob": given.BLOB.hex(),
            "sealed": given.stream(key, load, lp(found) + given.BLOB, "load answer").hex(),
        },
        "invalid_dump": [{"name": name, "sealed": bad.hex(), "reason": "seal"} for name, bad in damaged.items()],
    }


def links() -> Document:
    """§8: a sealed unit, and units that were meant for something else."""
    link, type_, call, meta, body = given.LINK, "keystore.load.v1", "a5e1", b'{"items":[]}', b"body"
    plain = (given.NOW * 1000).to_bytes(8, "big") + lp(meta) + body

    def unit(*, epoch: int = 2, **changed: str) -> bytes:
        told = {"link": link.link, "direction": str(Direction.REQUEST), "type": type_, "call": call} | changed
        way = (told[name].encode() for name in ("direction", "type", "call"))
        number = epoch.to_bytes(4, "big")
        context = lp(LINK_LABEL, told["link"].encode(), number, *way)
        return number + given.stream(link.epochs[epoch], context, plain, f"link {epoch} {sorted(changed.items())}")

    damaged = {
        "another link": unit(link="cryptor-mapstore"),
        "another direction": unit(direction="reply"),
        "another type": unit(type="keystore.erase.v1"),
        "another call": unit(call="a5e2"),
        "another epoch in front": bytes([0, 0, 0, 1]) + unit()[4:],
        "an unknown epoch in front": bytes([0, 0, 0, 3]) + unit()[4:],
        "bit": given.flip(unit(), 70),
        "cut": unit()[:-1],
        "empty": b"",
    }
    return {
        "link": link.link,
        "epochs": {str(epoch): key.hex() for epoch, key in link.epochs.items()},
        "direction": str(Direction.REQUEST),
        "type": type_,
        "correlation_id": call,
        "deadline": given.NOW,
        "meta": meta.decode(),
        "body": body.hex(),
        "valid": [unit(epoch=2).hex(), unit(epoch=1).hex()],
        "invalid": [{"name": name, "sealed": bad.hex(), "reason": "link_seal"} for name, bad in damaged.items()],
    }


def records() -> Document:
    """§9 to §12: one record as the three stores hold it, and rows that were tampered with."""
    context = data_context(given.EXTERNAL, given.OWNER, given.MAP_SHARE)
    record = given.stream(given.DEK.secret, context, given.BLOB, "record")
    iv, auth_tag, encrypted = record[:24], record[24:56], record[56:]
    kek_id = given.KEYRING.current
    kek_context = lp(KEK_LABEL, SUITE.to_bytes(1, "big"), given.OWNER, kek_id, iv)
    wrapped = kek_id + given.stream(given.KEYRING.keks[kek_id], kek_context, given.DEK.secret, "wrap")
    live, aborted = given.KEYRING.sign_row(given.live_row()), given.KEYRING.sign_row(given.aborted_row())
    unknown = live.model_copy(update={"mac_key": 3})
    larger = live.model_copy(update={"size": live.size + 1})
    return {
        "keks": {number.hex(): kek.hex() for number, kek in given.KEYRING.keks.items()},
        "map_mac_keys": {str(number): key.hex() for number, key in given.KEYRING.map_mac_keys.items()},
        "owner": given.OWNER.hex(),
        "external_uuid": str(given.EXTERNAL),
        "map_share": given.MAP_SHARE.hex(),
        "dek": given.DEK.secret.hex(),
        "plaintext": given.BLOB.hex(),
        "data_context": context.hex(),
        "kek_context": kek_context.hex(),
        "iv": iv.hex(),
        "auth_tag": auth_tag.hex(),
        "encrypted_data": encrypted.hex(),
        "key": wrapped.hex(),
        "object": (header_of([(auth_tag, len(encrypted))]) + encrypted).hex(),
        "rows": [_row(live), _row(aborted)],
        "invalid_keys": [
            {"name": "unknown kek", "key": given.flip(wrapped, 3).hex(), "reason": "unknown_kek"},
            {"name": "another kek", "key": (given.fixed("kek 1 id", 4) + wrapped[4:]).hex(), "reason": "seal"},
            {"name": "bit", "key": given.flip(wrapped, 70).hex(), "reason": "seal"},
        ],
        "invalid_rows": [
            {"name": "unknown mac key", "row": _row(unknown), "reason": "unknown_mac_key"},
            {"name": "size", "row": _row(larger), "reason": "map_row"},
        ],
    }


def _row(row: Row) -> Any:
    return json.loads(encode(row))


FILES: Final[dict[str, Callable[[], Document]]] = {
    each.__name__: each
    for each in (
        streams,
        derived,
        statements,
        requests,
        answers,
        links,
        records,
        conversation.hpke,
        conversation.operations,
        conversation.transfers,
        conversation.messages,
    )
}


def main() -> None:
    """Write the files that are not there yet: what is frozen is never written again."""
    for name, make in FILES.items():
        file = DIRECTORY / f"{name}.json"
        if not file.exists():
            file.write_text(json.dumps(make(), indent=1) + "\n")
            sys.stdout.write(f"{file.name}\n")


if __name__ == "__main__":
    main()
