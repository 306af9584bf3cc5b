"""docs/protocol.md and docs/format.md say what the contracts say; the worked example is what the vectors give."""

import hashlib
import hmac
import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from contracts.edge import MAX_STATUSES, Head, JobStatus, Op, Secrets
from contracts.envelope import MAX_HEAD, MAX_SEAL, split_envelope
from contracts.failures import UNSEALED, FailureCode
from contracts.limits import (
    CLOCK_SKEW,
    EXPORT_MAX,
    INLINE_MAX,
    ITEM_MAX,
    MAX_BLOB,
    MAX_EXPIRY,
    MAX_ITEMS,
    MAX_META_HEADER,
    PIECE,
    pieces,
)
from contracts.lp import lp
from docs.generate.__main__ import FOLDER
from docs.generate.asyncapi import BODIES
from tests import cobblestone
from tests.vectors.generate import DIRECTORY
from trivault import Profile

PAGE: Final = FOLDER / "protocol.md"
FORMAT: Final = FOLDER / "format.md"


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


def _rows(page: Path, section: str) -> list[list[str]]:
    """The tables of one section, row by row, without their headings."""
    _, _, rest = page.read_text().partition(f"\n## {section}")
    lines = rest.partition("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    assert rows, section
    return rows


def _names(page: Path, section: str) -> set[str]:
    return {name for row in _rows(page, section) for name in re.findall(r"`([a-z_0-9.]+)`", row[0])}


@pytest.mark.parametrize(
    ("page", "section", "wanted"),
    [
        (PAGE, "1. The profile", set(Profile.model_fields)),
        (PAGE, "4. All messages", {meta.TYPE for meta in BODIES}),
        (PAGE, "10. Failure codes", set(FailureCode)),
        (FORMAT, "5. Requests", {*Head.model_fields, *Secrets.model_fields}),
        (FORMAT, "7. Answers and downloads", set(Op)),
    ],
)
def test_tables_name_everything_that_there_is(page: Path, section: str, wanted: set[str]) -> None:
    """No field, message or code that a client could meet is left out, and none is invented."""
    assert _names(page, section) == wanted


def test_the_table_of_statuses_names_every_field() -> None:
    """Its section has a second table, of cases."""
    told = {name for row in _rows(PAGE, "5. Answers") if len(row) == 3 for name in re.findall(r"`(\w+)`", row[0])}
    assert told == set(JobStatus.model_fields)


def test_the_table_of_codes_says_which_come_unsealed() -> None:
    """Whatever may come as a refusal, and nothing else."""
    refusals = {code for code, comes, *_ in _rows(PAGE, "10. Failure codes") if "refusal" in comes}
    assert refusals == {f"`{code}`" for code in UNSEALED}


def test_the_table_of_limits_is_the_contracts() -> None:
    """Every number of it."""
    _, _, rest = PAGE.read_text().partition("\n## 12. Limits")
    told = {int(number.replace(",", "")) for number in re.findall(r"\b\d[\d,]*\b", rest.partition("\n## ")[0])}
    assert told == {
        MAX_BLOB,
        INLINE_MAX,
        ITEM_MAX,
        EXPORT_MAX,
        MAX_ITEMS,
        PIECE,
        pieces(MAX_BLOB),
        MAX_META_HEADER,
        MAX_HEAD,
        MAX_SEAL,
        MAX_STATUSES,
        MAX_EXPIRY // 3600,
        CLOCK_SKEW,
    }
