"""The formats are frozen: what was written by the first version is read by this one, and written the same."""

import hashlib
import json
from typing import Any
from uuid import UUID

import pytest

from contracts.codec import encode, parse
from contracts.edge import Answer, Head, Op, Secrets
from contracts.envelope import split_envelope
from contracts.failures import PermanentError
from contracts.lp import lp, split_lp
from contracts.stores import Row
from messaging.link import Direction, LinkKeys, LinkSealError
from sealing.answers import answer_context, download_context, open_answer
from sealing.client import reply_key, request_tag, uuids_sha256
from sealing.keys import HpkeKey, verify_statement
from sealing.requests import digest, open_seal, payload_context, verify
from sealing.streams import open_sealed
from tests import cobblestone
from tests.vectors import generate
from workers.cryptor.core.format import DataDecryptor, data_context
from workers.cryptor.core.keys import Dek, Keyring
from workers.datastore.format import HEADER_SIZE, parse_header


def _read(name: str) -> Any:
    return json.loads((generate.DIRECTORY / f"{name}.json").read_text())


def _raw(text: str) -> bytes:
    return bytes.fromhex(text)


@pytest.mark.parametrize("name", sorted(set(generate.FILES) - {"requests"}))
def test_the_files_are_written_the_same_again(name: str) -> None:
    """Byte for byte: contexts, labels, tags, MACs, signatures and streams. Only HPKE seals are random."""
    assert (generate.DIRECTORY / f"{name}.json").read_text() == json.dumps(generate.FILES[name](), indent=1) + "\n"


def test_there_is_no_file_that_nobody_checks() -> None:
    """Every vector belongs to a generator."""
    assert {file.stem for file in generate.DIRECTORY.glob("*.json")} == set(generate.FILES)


def test_frozen_streams_open_and_damaged_ones_do_not() -> None:
    """§3, with the library and with the reader written from the standard."""
    told = _read("streams")
    key, context = _raw(told["key"]), _raw(told["context"])
    for case in told["valid"]:
        assert open_sealed(key, context, _raw(case["sealed"])).hex() == case["plaintext"]
        assert cobblestone.read(key, context, _raw(case["sealed"])).hex() == case["plaintext"]
    for case in told["invalid"]:
        with pytest.raises(PermanentError) as caught:
            open_sealed(key, context, _raw(case["sealed"]))
        assert caught.value.reason == case["reason"], case["name"]


def test_frozen_derivations_are_derived_again() -> None:
    """§1, §3, §6, §7, from the inputs in the file."""
    told = _read("derived")
    secret, job, owner = _raw(told["client_secret"]), UUID(told["job_id"]), _raw(told["client_id"])
    told_digest, external = _raw(told["request_digest"]), UUID(told["external_uuid"])
    for case in told["lp"]:
        assert lp(*map(_raw, case["fields"])).hex() == case["lp"]
        assert split_lp(_raw(case["lp"]), len(case["fields"])) == [*map(_raw, case["fields"])]
    tag = request_tag(secret, Op.DUMP, job, told["size"], hashlib.sha256(_raw(told["content"])).digest())
    assert tag.hex() == told["dump_request_tag"]
    assert request_tag(secret, Op.LOAD, job, 0, uuids_sha256([external])).hex() == told["load_request_tag"]
    assert reply_key(secret, job).hex() == told["reply_key"]
    assert payload_context(told_digest).hex() == told["payload_context"]
    assert answer_context(Op.DUMP, owner, job.bytes, tag, b"").hex() == told["dump_answer_context"]
    assert answer_context(Op.LOAD, b"", b"", b"", told_digest).hex() == told["load_answer_context"]
    assert download_context(told_digest, _raw(told["attempt"])).hex() == told["download_context"]


def test_frozen_statements_are_believed_or_refused() -> None:
    """§4, with the reason."""
    told = _read("statements")
    pins = (_raw(told["identity"]), UUID(told["vault_id"]), told["now"])
    key = HpkeKey.from_raw(_raw(told["hpke_private"]))
    assert (key.public.hex(), key.key_id.hex()) == (told["hpke_public"], told["key_id"])
    assert verify_statement(_raw(told["body"]), *pins).hpke_keys == [key.public]
    for case in told["invalid"]:
        with pytest.raises(PermanentError) as caught:
            verify_statement(_raw(case["body"]), *pins)
        assert caught.value.reason == case["reason"], case["name"]


def _open_request(told: Any, request: bytes) -> tuple[Head, Secrets, bytes, bytes]:
    envelope = split_envelope(request)
    head = verify(envelope, _raw(told["verify_key"]))
    secrets = open_seal(envelope, HpkeKey.from_raw(_raw(told["hpke_private"])))
    named = digest(envelope.head, envelope.seal)
    return head, secrets, named, open_sealed(secrets.payload_key, payload_context(named), envelope.payload)


def test_frozen_requests_open_or_are_refused() -> None:
    """§5: signature, head, seal, R and payload; and what a gateway might make of them."""
    told = _read("requests")
    head, secrets, named, plaintext = _open_request(told, _raw(told["request"]))
    assert encode(head).decode() == told["head"]
    assert encode(secrets).decode() == told["secrets"]
    assert (named.hex(), plaintext.hex()) == (told["digest"], told["plaintext"])
    prefix = split_envelope(_raw(told["request"])).prefix()
    assert hashlib.sha256(prefix).hexdigest() == told["fingerprint"]
    for case in told["invalid"]:
        with pytest.raises(PermanentError) as caught:
            _open_request(told, _raw(case["request"]))
        assert caught.value.reason == case["reason"], case["name"]


def test_frozen_answers_open_as_what_they_answer() -> None:
    """§7."""
    told = _read("answers")
    key = _raw(told["reply_key"])
    for kind in ("dump", "load"):
        case = told[kind]
        answer, blob = open_answer(key, _raw(case["context"]), _raw(case["sealed"]))
        assert (answer, blob.hex()) == (parse(Answer, case["answer"].encode()), case["blob"])
    for case in told["invalid_dump"]:
        with pytest.raises(PermanentError) as caught:
            open_answer(key, _raw(told["dump"]["context"]), _raw(case["sealed"]))
        assert caught.value.reason == case["reason"], case["name"]


async def test_frozen_link_units_open_for_their_call_alone() -> None:
    """§8."""
    told = _read("links")
    link = LinkKeys(told["link"], 2, {int(epoch): _raw(key) for epoch, key in told["epochs"].items()})
    call = (Direction(told["direction"]), told["type"], told["correlation_id"])
    for sealed in told["valid"]:
        opened = await link.open(*call, _raw(sealed))
        assert (opened.deadline, opened.meta.decode(), opened.body.hex()) == (
            told["deadline"],
            told["meta"],
            told["body"],
        )
    for case in told["invalid"]:
        assert case["reason"] == "link_seal"
        with pytest.raises(LinkSealError):
            await link.open(*call, _raw(case["sealed"]))


def _keyring(told: Any) -> Keyring:
    keks = {_raw(kek_id): _raw(kek) for kek_id, kek in told["keks"].items()}
    macs = {int(number): _raw(key) for number, key in told["map_mac_keys"].items()}
    return Keyring(next(iter(keks)), keks, next(iter(macs)), macs)


def test_a_frozen_record_is_read_from_its_three_stores() -> None:
    """§9, §10, §12: KEK and KeyStore row give the DEK; with the MapStore row's share it opens the object."""
    told = _read("records")
    owner, iv = _raw(told["owner"]), _raw(told["iv"])
    dek = _keyring(told).unwrap(_raw(told["key"]), owner, iv)
    assert dek == Dek(_raw(told["dek"]))
    context = data_context(UUID(told["external_uuid"]), owner, _raw(told["map_share"]))
    assert context.hex() == told["data_context"]
    stored = _raw(told["object"])
    header = parse_header(stored[:HEADER_SIZE], len(stored)).entry(0)
    assert header.auth_tag.hex() == told["auth_tag"]
    assert stored[HEADER_SIZE:].hex() == told["encrypted_data"]
    record = DataDecryptor(dek, context, iv, header.auth_tag)
    assert (record.update(stored[HEADER_SIZE:]) + record.finish()).hex() == told["plaintext"]
    for case in told["invalid_keys"]:
        with pytest.raises(PermanentError) as caught:
            _keyring(told).unwrap(_raw(case["key"]), owner, iv)
        assert caught.value.reason == case["reason"], case["name"]


def test_frozen_rows_verify_and_altered_ones_do_not() -> None:
    """§11."""
    told = _read("records")
    for row in told["rows"]:
        _keyring(told).verify_row(parse(Row, json.dumps(row).encode()))
    for case in told["invalid_rows"]:
        with pytest.raises(PermanentError) as caught:
            _keyring(told).verify_row(parse(Row, json.dumps(case["row"]).encode()))
        assert caught.value.reason == case["reason"], case["name"]
