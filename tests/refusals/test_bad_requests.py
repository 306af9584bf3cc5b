"""Requests that are malformed, forged, late, or somebody else's: each refused with its code and its reason."""

import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contracts.edge import Answer, State
from contracts.envelope import MAX_HEAD, split_envelope
from contracts.failures import FailureCode
from contracts.limits import CLOCK_SKEW, MAX_BLOB, MAX_EXPIRY
from contracts.lp import lp
from infra.files import write_json
from infra.local.stack import Stack
from sealing.keys import HpkeKey, generate_raw
from sealing.requests import payload_context
from sealing.streams import seal
from tests.refusals.forge import REQUEST, Changes, Forged, Forger, Wire, flip_part, flipped, refusing
from tests.refusals.leftovers import forget, sql
from trivault import Profile, Vault

BLOB = b"a record that must not come to be"


async def kept(wire: Wire, forged: Forged) -> UUID:
    """The external_uuid of a request that is not to be refused."""
    answer, _ = await wire.request(forged)
    external_uuid = answer.outcomes[0].external_uuid
    assert external_uuid is not None
    return external_uuid


def records(stack: Stack, job_id: UUID) -> int:
    """How many records a job has."""
    return int(stack.psql("mapstore", sql("SELECT count(*) FROM map WHERE job_id = '{}' AND state = 'live'", job_id)))


def jobs(stack: Stack, job_id: UUID) -> int:
    """How often the ledger has a job."""
    return int(stack.psql("gateway", sql("SELECT count(*) FROM jobs WHERE job_id = '{}'", job_id)))


async def test_a_forged_request_that_is_not_spoilt_is_kept(wire: Wire, forger: Forger, vault: Vault) -> None:
    """The control: whatever is refused below is refused for the one thing that is wrong with it."""
    assert await vault.load(await kept(wire, forger.dump(BLOB))) == BLOB


# --- the head ---------------------------------------------------------------------------------------------------------

MALFORMED = {
    "size-negative": ({"size": -1}, "malformed_size"),
    "size-as-text": ({"size": str(len(BLOB))}, "malformed_size"),
    "size-fractional": ({"size": len(BLOB) + 0.5}, "malformed_size"),
    "size-beyond-64-bits": ({"size": 2**63}, "malformed_size"),
    "op-unknown": ({"op": "erase_everything"}, "malformed_op"),
    "transfer-unknown": ({"transfer": "pigeon"}, "malformed_transfer"),
    "job-id-no-uuid": ({"job_id": "not-a-uuid"}, "malformed_job_id"),
    "client-id-short": ({"client_id": "00"}, "malformed_client_id"),
    "key-id-short": ({"key_id": "00"}, "malformed_key_id"),
    "tag-absent": ({"request_tag": None}, "malformed_request_tag"),
    "items-none": ({"items": 0}, "malformed_items"),
    "items-too-many": ({"items": 10_001}, "malformed_items"),
    "expiry-negative": ({"expires_at": -1}, "malformed_expires_at"),
    "version-as-text": ({"version": "1"}, "malformed_version"),
    "field-unknown": ({"operator": True}, "unknown_field"),
}


@pytest.mark.parametrize(("head", "reason"), MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_head_is_refused(
    wire: Wire, forger: Forger, stack: Stack, head: Changes, reason: str
) -> None:
    """One field is not what it must be; the reason names it, and the ledger never hears of the job."""
    forged = forger.dump(BLOB, head=head)
    with refusing(FailureCode.INVALID_REQUEST, reason):
        await wire.request(forged)
    assert jobs(stack, forged.job_id) == 0


@pytest.mark.parametrize("field", ["version", "client_id", "job_id", "expires_at", "request_tag"])
async def test_a_head_without_a_field_is_refused(wire: Wire, forger: Forger, field: str) -> None:
    """No field has a default that a client could fall back to."""
    with refusing(FailureCode.INVALID_REQUEST, f"malformed_{field}"):
        await wire.request(forger.dump(BLOB, without=field))


HEADS = {
    "empty": (b"", "malformed"),
    "no-json": (b"\x00\xff head", "malformed"),
    "json-of-another-shape": (b"[1]", "malformed"),
    "oversize": (b" " * (MAX_HEAD + 1), "malformed_envelope"),
}


@pytest.mark.parametrize(("told", "reason"), HEADS.values(), ids=HEADS)
async def test_a_head_that_is_none_is_refused(wire: Wire, forger: Forger, told: bytes, reason: str) -> None:
    """Sealed and signed as it should be, but no head."""
    with refusing(FailureCode.INVALID_REQUEST, reason):
        await wire.request(forger.dump(BLOB, told=told))


HOUR = 3600
UNACCEPTABLE: dict[str, tuple[Callable[[], Changes], tuple[FailureCode, str]]] = {
    "unknown-version": (lambda: {"version": 2}, (FailureCode.INVALID_REQUEST, "unknown_version")),
    "unknown-suite": (lambda: {"suite": 2}, (FailureCode.INVALID_REQUEST, "unknown_suite")),
    "another-vault": (lambda: {"vault_id": str(uuid4())}, (FailureCode.INVALID_REQUEST, "wrong_vault")),
    "unknown-client-id": (lambda: {"client_id": secrets.token_hex(16)}, (FailureCode.UNAUTHENTICATED, "wrong_client")),
    "expired": (lambda: {"expires_at": int(time.time()) - 1}, (FailureCode.EXPIRED, "")),
    "expiry-too-far": (
        lambda: {"expires_at": int(time.time()) + MAX_EXPIRY + CLOCK_SKEW + HOUR},
        (FailureCode.INVALID_REQUEST, "expiry_too_far"),
    ),
    "issued-in-the-future": (
        lambda: {"issued_at": int(time.time()) + CLOCK_SKEW + HOUR},
        (FailureCode.INVALID_REQUEST, "issued_in_the_future"),
    ),
    "several-items": (lambda: {"items": 2}, (FailureCode.INVALID_REQUEST, "item_count")),
    "one-byte-too-large": (lambda: {"size": MAX_BLOB + 1}, (FailureCode.INVALID_REQUEST, "blob_too_large")),
    "another-size": (lambda: {"size": len(BLOB) + 1}, (FailureCode.INVALID_REQUEST, "payload_size")),
    "upload-with-a-payload": (lambda: {"transfer": "upload"}, (FailureCode.INVALID_REQUEST, "payload_size")),
    "load-with-a-payload": (lambda: {"op": "load"}, (FailureCode.INVALID_REQUEST, "payload_size")),
}


@pytest.mark.parametrize(("head", "refusal"), UNACCEPTABLE.values(), ids=UNACCEPTABLE)
async def test_a_head_that_this_vault_does_not_accept_is_refused(
    wire: Wire, forger: Forger, stack: Stack, head: Callable[[], Changes], refusal: tuple[FailureCode, str]
) -> None:
    """Well formed, sealed and signed, and still not acceptable; the ledger never hears of it."""
    forged = forger.dump(BLOB, head=head())
    with refusing(*refusal):
        await wire.request(forged)
    assert jobs(stack, forged.job_id) == 0


ENVELOPES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "cut-in-the-signature": lambda prefix: prefix[:-1],
    "cut-in-the-seal": lambda prefix: prefix[: len(prefix) // 2],
    "length-beyond-the-end": lambda prefix: b"\xff\xff\xff\xff" + prefix[4:],
    "short-signature": lambda prefix: lp(*_parts(prefix)[:2], _parts(prefix)[2][:-1]),
}


def _parts(prefix: bytes) -> tuple[bytes, bytes, bytes]:
    envelope = split_envelope(prefix)
    return envelope.head, envelope.seal, envelope.signature


@pytest.mark.parametrize("spoil", ENVELOPES.values(), ids=ENVELOPES)
async def test_a_broken_envelope_is_refused(wire: Wire, forger: Forger, spoil: Callable[[bytes], bytes]) -> None:
    """Fields that do not add up."""
    with refusing(FailureCode.INVALID_REQUEST, "malformed_envelope"):
        await wire.request(forger.load(uuid4()).with_prefix(spoil))


# --- who speaks -------------------------------------------------------------------------------------------------------


async def test_a_request_without_user_id_is_refused(wire: Wire, forger: Forger) -> None:
    """The broker vouches only for a user_id that is there."""
    with refusing(FailureCode.UNAUTHENTICATED, "missing_user_id"):
        await wire.request(forger.dump(BLOB), user_id=None)


async def test_a_request_of_another_client_is_refused(wire: Wire, bob: Profile) -> None:
    """Bob's request, recorded and published by Alice, is Bob's no more: it is nobody's."""
    async with Wire.open(bob.broker, bob.name) as his:
        forged = Forger(bob, await his.directory()).dump(BLOB)
    with refusing(FailureCode.UNAUTHENTICATED, "wrong_client"):
        await wire.request(forged)


@contextmanager
def struck_off(registry: Path, name: str) -> Iterator[None]:
    """One copy of the registry without a client."""
    told = json.loads(registry.read_text())
    rest = [client for client in told["clients"] if client["name"] != name]
    assert len(rest) == len(told["clients"]) - 1
    write_json(registry, {"clients": rest})
    try:
        yield
    finally:
        write_json(registry, told)


@pytest.mark.parametrize("service", ["gateway", "cryptor"])
async def test_an_unknown_client_is_refused(stack: Stack, newcomer: Profile, service: str) -> None:
    """Gateway and Cryptor look into registries of their own: to be known to one of them is not enough."""
    registry = stack.secrets.registries[["gateway", "cryptor"].index(service)]
    async with Wire.open(newcomer.broker, newcomer.name) as wire:
        forged = (forger := Forger(newcomer, await wire.directory())).dump(BLOB)
        with struck_off(registry, newcomer.name), refusing(FailureCode.UNAUTHENTICATED, "unknown_client"):
            await wire.request(forged)
        assert records(stack, forged.job_id) == 0
        await kept(wire, forger.dump(BLOB))


# --- signature and seal -----------------------------------------------------------------------------------------------


async def test_a_wrong_signature_is_refused(wire: Wire, forger: Forger, stack: Stack) -> None:
    """Somebody who has Alice's certificate, but not her signing key, gets nothing kept."""
    forged = forger.dump(BLOB, signing_key=Ed25519PrivateKey.generate())
    with refusing(FailureCode.UNAUTHENTICATED, "wrong_signature"):
        await wire.request(forged)
    assert records(stack, forged.job_id) == 0


@pytest.mark.parametrize("part", [0, 1, 2], ids=["head", "seal", "signature"])
async def test_a_flipped_bit_in_the_envelope_is_refused(wire: Wire, forger: Forger, vault: Vault, part: int) -> None:
    """A gateway or broker that alters a request is found out, for loads as for dumps."""
    external_uuid = await vault.dump(BLOB)
    for forged in (forger.dump(BLOB), forger.load(external_uuid)):
        with refusing(FailureCode.UNAUTHENTICATED, "wrong_signature"):
            await wire.request(forged.with_prefix(flip_part(part)))


async def test_a_request_that_names_an_unknown_key_is_refused(wire: Wire, forger: Forger) -> None:
    """Sealed, as it says, to a key that no Cryptor here has: the SDK fetches the directory again when it hears this."""
    with refusing(FailureCode.INVALID_REQUEST, "unknown_key"):
        await wire.request(forger.dump(BLOB, head={"key_id": secrets.token_hex(32)}))


async def test_a_seal_for_another_cryptor_is_refused(wire: Wire, forger: Forger) -> None:
    """The head names our Cryptor's key, but the seal was made for another one's."""
    other = HpkeKey.from_raw(generate_raw())
    with refusing(FailureCode.INVALID_REQUEST, "wrong_seal"):
        await wire.request(forger.dump(BLOB, hpke_public=other.public))


SEALED = {
    "payload-key-short": ({"payload_key": "00"}, "malformed_payload_key"),
    "reply-key-absent": ({"reply_key": None}, "malformed_reply_key"),
    "uuid-malformed": ({"external_uuids": ["../../etc/passwd"]}, "malformed_external_uuids"),
    "uuid-too-long": ({"external_uuids": [str(uuid4()) + "0"]}, "malformed_external_uuids"),
    "uuid-a-number": ({"external_uuids": [7]}, "malformed_external_uuids"),
    "field-unknown": ({"note": "hello"}, "unknown_field"),
    "uuids-none": ({"external_uuids": []}, "item_count"),
    "uuids-several": ({"external_uuids": [str(uuid4()), str(uuid4())]}, "item_count"),
}


@pytest.mark.parametrize(("hidden", "reason"), SEALED.values(), ids=SEALED)
async def test_bad_content_under_the_seal_is_refused(wire: Wire, forger: Forger, hidden: Changes, reason: str) -> None:
    """What the gateway cannot see, the Cryptor refuses: a malformed uuid is no unknown uuid."""
    with refusing(FailureCode.INVALID_REQUEST, reason):
        await wire.request(forger.load(uuid4(), secrets=hidden))


# --- inline payloads --------------------------------------------------------------------------------------------------

PAYLOADS: dict[str, Callable[[Forged], bytes]] = {
    "first-byte": lambda forged: flipped(forged.payload, 0),
    "commitment": lambda forged: flipped(forged.payload, 30),
    "last-byte": lambda forged: flipped(forged.payload, -1),
    "another-key": lambda forged: seal(bytes(32), forged.prepared.payload_context, BLOB),
    "another-request": lambda forged: seal(
        forged.prepared.secrets.payload_key, payload_context(sha256(b"another").digest()), BLOB
    ),
}


@pytest.mark.parametrize("spoil", PAYLOADS.values(), ids=PAYLOADS)
async def test_a_payload_that_does_not_open_is_lost(
    wire: Wire, forger: Forger, stack: Stack, spoil: Callable[[Forged], bytes]
) -> None:
    """The request is Alice's, the payload is not: the Cryptor says so under seal, and there is no record."""
    forged = forger.dump(BLOB)
    with refusing(FailureCode.UPLOAD_LOST):
        await wire.request(Forged(forged.prepared, spoil(forged)))
    assert records(stack, forged.job_id) == 0


@pytest.mark.parametrize("size", [len(BLOB) - 1, len(BLOB) + 1], ids=["shorter", "longer"])
async def test_a_payload_of_another_length_is_refused(wire: Wire, forger: Forger, size: int) -> None:
    """Cut or padded on its way: the gateway need not read it to know."""
    forged = forger.dump(BLOB)
    with refusing(FailureCode.INVALID_REQUEST, "payload_size"):
        await wire.request(
            Forged(forged.prepared, (forged.payload + bytes(1))[: size - len(BLOB) + len(forged.payload)])
        )


# --- again ------------------------------------------------------------------------------------------------------------


async def test_a_replayed_dump_is_the_same_record(wire: Wire, forger: Forger, stack: Stack) -> None:
    """Published three times, the last time when the ledger has forgotten it: one record, one uuid."""
    forged = forger.dump(os.urandom(100))
    first = await kept(wire, forged)
    assert await kept(wire, forged) == first
    forget(stack, forged.job_id)
    assert await kept(wire, forged) == first
    assert records(stack, forged.job_id) == 1


async def test_a_dump_that_is_replayed_after_its_expiry_is_refused(wire: Wire, forger: Forger, stack: Stack) -> None:
    """A recording is worth nothing once the request it recorded has expired."""
    forged = forger.dump(BLOB, head={"expires_at": int(time.time()) + 2})
    await kept(wire, forged)
    forget(stack, forged.job_id)
    while time.time() < forged.prepared.head.issued_at + 3:
        await wire.state(forged.job_id)
    with refusing(FailureCode.EXPIRED):
        await wire.request(forged)
    assert records(stack, forged.job_id) == 1


async def test_a_replayed_load_gives_nothing_away(wire: Wire, forger: Forger, vault: Vault) -> None:
    """Its answer was told once; whoever replays the request hears that it is over, and no more."""
    forged = forger.load(await vault.dump(BLOB))
    assert (await wire.request(forged))[1] == BLOB
    await wire.send(forged)
    status, sealed = await wire.update(forged.job_id)
    assert (status.state, sealed) == (State.SUCCEEDED, b"")


async def test_a_failed_request_fails_again(wire: Wire, forger: Forger, stack: Stack) -> None:
    """A job that ended in a failure does not become a record when it is sent again, whole this time."""
    forged = forger.dump(BLOB)
    with refusing(FailureCode.UPLOAD_LOST):
        await wire.request(Forged(forged.prepared, flipped(forged.payload, -1)))
    for _ in range(2):
        with refusing(FailureCode.UPLOAD_LOST):
            await wire.request(forged)
    assert records(stack, forged.job_id) == 0


async def test_the_same_job_and_content_twice_is_one_record(vault: Vault, stack: Stack) -> None:
    """The job id is the idempotency key, for a repetition as for two at once."""
    job_id, blob = uuid4(), os.urandom(2000)
    first = await vault.dump(blob, job_id=job_id)
    assert await vault.dump(blob, job_id=job_id) == first
    assert records(stack, job_id) == 1
    assert await vault.load(first) == blob


async def test_the_same_job_with_other_content_is_a_conflict(vault: Vault, stack: Stack) -> None:
    """In the ledger, and, when that has forgotten the job, in MapStore; the record stays what it was."""
    job_id = uuid4()
    external_uuid = await vault.dump(BLOB, job_id=job_id)
    with refusing(FailureCode.CONFLICT):
        await vault.dump(BLOB + b"!", job_id=job_id)
    forget(stack, job_id)
    with refusing(FailureCode.CONFLICT):
        await vault.dump(BLOB + b"!", job_id=job_id)
    assert await vault.load(external_uuid) == BLOB
    assert records(stack, job_id) == 1


# --- records that are not there, or not ours --------------------------------------------------------------------------


async def outcome(wire: Wire, forged: Forged) -> tuple[Answer, int]:
    """What the sealed answer says, and how many bytes it has."""
    await wire.send(forged)
    while True:
        status, sealed = await wire.update(forged.job_id)
        if status.state.terminal:
            assert status.model_copy(update={"job_id": UUID(int=0)}) == status.model_copy(
                update={"job_id": UUID(int=0), "code": None, "reason": ""}
            )
            return forged.prepared.open_answer(sealed)[0], len(sealed)


async def test_somebody_elses_record_cannot_be_told_from_none(wire: Wire, forger: Forger, bob: Profile) -> None:
    """Code, reason and the very length of the answer are the same: a uuid that leaked says not even that it exists."""
    async with Vault.open(bob) as his:
        theirs = await his.dump(BLOB)
        assert await his.load(theirs) == BLOB
    unknown = await outcome(wire, forger.load(uuid4()))
    assert await outcome(wire, forger.load(theirs)) == unknown
    assert unknown[0].outcomes[0].code is FailureCode.NOT_FOUND


async def test_the_sdk_says_not_found_for_both(vault: Vault, bob: Profile) -> None:
    """As users see it."""
    async with Vault.open(bob) as his:
        theirs = await his.dump(BLOB)
    for external_uuid in (theirs, uuid4(), UUID(int=0), UUID(int=2**128 - 1)):
        with refusing(FailureCode.NOT_FOUND):
            await vault.load(external_uuid)


async def test_somebody_elses_job_is_unknown(wire: Wire, vault: Vault, bob: Profile) -> None:
    """A job id says nothing to another client."""
    job_id = await vault.submit(BLOB)
    await vault.wait(job_id)
    async with Wire.open(bob.broker, bob.name) as his:
        assert await his.state(job_id) is State.UNKNOWN
    assert await wire.state(job_id) is State.SUCCEEDED


# --- reply_to ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "queue", ["dead.letters", "cryptor.interactive", "down.alice.x", "AMQ.rabbitmq.reply-to.x", " "]
)
async def test_a_reply_to_that_names_a_queue_is_refused(wire: Wire, forger: Forger, stack: Stack, queue: str) -> None:
    """The gateway may publish where its clients may not: it answers reply tokens only, and does nothing else either."""
    log = stack.layout.logs / "gateway.log"
    before, letters = log.read_text().count('"bad_reply_to"'), await wire.ready("dead.letters")
    forged = forger.dump(BLOB)
    await wire.send(forged, reply_to=queue, meta=REQUEST)
    assert await wire.state(forged.job_id) is State.UNKNOWN
    assert log.read_text().count('"bad_reply_to"') == before + 1
    assert await wire.ready("dead.letters") == letters
    assert jobs(stack, forged.job_id) == 0


async def test_a_reply_token_that_nobody_holds_harms_nobody(wire: Wire, forger: Forger) -> None:
    """It looks like a token and is none: the job is done, and its client polls."""
    forged = forger.dump(BLOB)
    await wire.send(forged, reply_to="amq.rabbitmq.reply-to.nobody.at.all")
    while await wire.state(forged.job_id) is not State.SUCCEEDED:
        continue
    await kept(wire, forged)
