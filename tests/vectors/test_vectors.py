"""The formats are frozen: what was written by the first version is read by this one, and written the same."""

import hashlib
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from cryptography.exceptions import InvalidTag

from contracts.codec import Meta, cut, decode, encode, parse
from contracts.edge import (
    Answer,
    Answers,
    Download,
    Head,
    KeyDirectory,
    KeysQuery,
    Op,
    Refusal,
    Request,
    Secrets,
    StatusQuery,
    Upload,
)
from contracts.envelope import split_envelope
from contracts.failures import PermanentError
from contracts.lp import lp, split_lp
from contracts.stores import Row
from messaging.link import Direction, LinkKeys, LinkSealError
from sealing.answers import answer_context, download_context, open_answer
from sealing.client import reply_key, request_tag, sweep_sha256, uuids_sha256
from sealing.keys import SUITE, HpkeKey, verify_statement
from sealing.requests import digest, open_seal, payload_context, verify
from sealing.streams import Recutter, open_sealed
from tests import cobblestone
from tests.hpke import expand_seed
from tests.vectors import conversation, generate
from workers.cryptor.core.format import DataDecryptor, data_context
from workers.cryptor.core.keys import Dek, Keyring
from workers.datastore.format import HEADER_SIZE, parse_header


def _read(name: str) -> Any:
    return json.loads((generate.DIRECTORY / f"{name}.json").read_text())


def _raw(text: str) -> bytes:
    return bytes.fromhex(text)


@pytest.mark.parametrize("name", sorted(set(generate.FILES) - {"requests", "hpke"}))
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


def test_frozen_hpke_seals_open_step_by_step() -> None:
    """§4, with the library, and with the reader written from the standards, which names every value in between."""
    told = _read("hpke")
    private = expand_seed(_raw(told["xwing_seed"]))
    key = HpkeKey.from_raw(private)
    assert (private.hex(), key.public.hex(), key.key_id.hex()) == (told["private"], told["public"], told["key_id"])
    for case in told["valid"]:
        info, sealed = _raw(case["info"]), _raw(case["sealed"])
        assert SUITE.decrypt(sealed, key.private, info=info).hex() == case["plaintext"]
        assert conversation.hpke_case(private, info, sealed) == case
    info = _raw(told["valid"][0]["info"])
    for case in told["invalid"]:
        with pytest.raises((InvalidTag, ValueError)):
            SUITE.decrypt(_raw(case["sealed"]), key.private, info=info)


@pytest.mark.parametrize("at", range(6))
def test_frozen_operations_are_derived_and_answered(at: int) -> None:
    """§5 to §7, from the inputs in the file, with another reader of streams."""
    told = _read("operations")
    case, secret = told["operations"][at], _raw(told["client_secret"])
    head, secrets = parse(Head, case["head"].encode()), parse(Secrets, case["secrets"].encode())
    op, job_id = Op(case["op"]), UUID(case["job_id"])
    content = hashlib.sha256(_raw(case["content"])).digest()
    assert content.hex() == case["content_sha256"]
    if op.reads:
        assert uuids_sha256(secrets.external_uuids) == content
    elif op is Op.SWEEP:
        assert sweep_sha256(dry_run=secrets.dry_run) == content
    else:
        assert case["content"] == case["payload"]
    if not op.reads:
        assert reply_key(secret, job_id) == secrets.reply_key
    tag = request_tag(secret, op, job_id, head.size, content)
    assert (tag.hex(), head.size) == (case["request_tag"], len(case["payload"]) // 2)
    assert (head.op, head.job_id, head.request_tag) == (op, job_id, tag)
    context = answer_context(op, _raw(told["client_id"]), job_id.bytes, tag, _raw(told["request_digest"]))
    assert (context.hex(), secrets.reply_key.hex()) == (case["answer_context"], case["reply_key"])
    sealed = _raw(case["sealed_answer"])
    answer, result = open_answer(secrets.reply_key, context, sealed)
    assert (answer, result.hex()) == (parse(Answer, case["answer"].encode()), case["result"])
    opened = cobblestone.read(secrets.reply_key, context, sealed)
    assert opened == lp(case["answer"].encode()) + _raw(case["result"])


@pytest.mark.parametrize(("way", "context"), [("upload", payload_context), ("download", download_context)])
def test_frozen_pieces_are_cut_from_one_stream(way: str, context: Callable[..., bytes]) -> None:
    """§3: lengths and hashes of every piece, and of the whole."""
    told = _read("transfers")
    case, plaintext = told[way], bytes(at % 251 for at in range(told["plaintext_size"]))
    bound = [_raw(told["request_digest"]), _raw(told["attempt"])][: 1 if way == "upload" else 2]
    assert context(*bound).hex() == case["context"]
    assert hashlib.sha256(plaintext).hexdigest() == told["plaintext_sha256"]
    stream = cobblestone.write(_raw(case["key"]), _raw(case["context"]), _raw(case["salt"]), plaintext)
    assert (len(stream), hashlib.sha256(stream).hexdigest()) == (case["sealed_size"], case["sealed_sha256"])
    assert open_sealed(_raw(case["key"]), _raw(case["context"]), stream) == plaintext
    cuts = [*Recutter(1_048_576).feed(stream), stream[len(stream) // 1_048_576 * 1_048_576 :]]
    assert [{"size": len(cut), "sha256": hashlib.sha256(cut).hexdigest()} for cut in cuts] == case["pieces"]


def test_frozen_messages_are_the_codecs() -> None:
    """docs/protocol.md: types and metas as they stand in the header, bodies as long as the metas say."""
    told = _read("messages")
    types = (KeysQuery, Request, StatusQuery, Upload, KeyDirectory, Answers, Refusal, Download)
    seen = set()
    for case in told["to_gateway"] + told["to_client"]:
        meta: Meta = decode(types, case["type"], case["meta"].encode(), len(case["body"]) // 2)
        seen.add(type(meta))
        assert encode(meta).decode() == case["meta"]
        if isinstance(meta, Answers):
            assert cut(_raw(case["body"]), (status.size for status in meta.jobs))
    assert seen == set(types)
