"""docs/protocol.md §14: what its example shows is what the frozen vectors give."""

import hashlib
import hmac
import json
from typing import Any, Final

from contracts.envelope import split_envelope
from contracts.lp import lp
from docs.generate.__main__ import FOLDER
from tests import cobblestone
from tests.vectors.generate import DIRECTORY

PAGE: Final = FOLDER / "protocol.md"


def _read(name: str) -> Any:
    return json.loads((DIRECTORY / f"{name}.json").read_text())


def _example() -> dict[str, str]:
    """The lines `name = value` of the worked example."""
    _, _, example = PAGE.read_text().partition("## 14. Worked example")
    block = example.split("```")[1].partition("\n")[2]
    return dict(line.split(" = ") for line in block.splitlines())


def computed() -> dict[str, str]:
    """The same, from the vectors, with nothing of the product but LP and the envelope."""
    given, told, answered = _read("derived"), _read("requests"), _read("answers")["dump"]
    envelope = split_envelope(bytes.fromhex(told["request"]))
    secrets = json.loads(told["secrets"])
    secret, job = bytes.fromhex(given["client_secret"]), bytes.fromhex(given["job_id"].replace("-", ""))
    blob = bytes.fromhex(told["plaintext"])
    content = hashlib.sha256(blob).digest()
    tag_input = lp(b"trivault/tag/v1", b"dump", job, len(blob).to_bytes(8, "big"), content)
    tag = hmac.digest(secret, tag_input, "sha256")
    reply_input = lp(b"trivault/reply/v1", job)
    reply_key = hmac.digest(secret, reply_input, "sha256")
    info = lp(b"trivault/seal/v1", envelope.head)
    signed = lp(b"trivault/request/v1", envelope.head, envelope.seal)
    digest = hashlib.sha256(signed).digest()
    payload_context = lp(b"trivault/payload/v1", digest)
    stream = bytes(envelope.payload)
    aes_key, base_nonce, commitment = cobblestone.derive(
        bytes.fromhex(secrets["payload_key"]), stream[:24], payload_context
    )
    answer_context = lp(b"trivault/answer/v1", b"dump", bytes.fromhex(given["client_id"]), job, tag)
    opened = cobblestone.read(reply_key, answer_context, bytes.fromhex(answered["sealed"]))
    return {
        "blob": blob.hex(),
        "SHA-256(blob)": content.hex(),
        "client_secret": secret.hex(),
        "tag input": tag_input.hex(),
        "request_tag": tag.hex(),
        "reply input": reply_input.hex(),
        "reply_key": reply_key.hex(),
        "head": envelope.head.decode(),
        "secrets": told["secrets"],
        "info, length": str(len(info)),
        "SHA-256(info)": hashlib.sha256(info).hexdigest(),
        "seal, length": str(len(envelope.seal)),
        "SHA-256(seal)": hashlib.sha256(envelope.seal).hexdigest(),
        "signed, length": str(len(signed)),
        "R": digest.hex(),
        "signature": envelope.signature.hex(),
        "fingerprint": hashlib.sha256(envelope.prefix()).hexdigest(),
        "payload context": payload_context.hex(),
        "salt": stream[:24].hex(),
        "aes_key": aes_key.hex(),
        "base_nonce": base_nonce.hex(),
        "commitment": commitment.hex(),
        "chunk 0": stream[56:].hex(),
        "request, length": str(len(told["request"]) // 2),
        "answer context": answer_context.hex(),
        "sealed answer": answered["sealed"],
        "opened answer": opened.hex(),
        "told": opened[4:].decode(),
    }


def test_the_worked_example_is_what_the_vectors_give() -> None:
    """Line by line."""
    assert _example() == computed()
    assert _read("requests")["digest"] == computed()["R"]
