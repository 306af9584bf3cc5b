"""Between clients, gateway and Cryptor: requests, jobs, events, uploads, downloads and answers."""

import asyncio
import base64
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import pytest

from contracts import topology
from contracts.codec import encode
from contracts.edge import Answers, Download, JobStatus, State
from contracts.failures import FailureCode
from contracts.limits import pieces
from infra.local.stack import Stack
from messaging.publishing import META
from tests.attacks.mallory import Act, First, Mallory, Message, Swapping, altering, doubling, dropping, passing
from tests.faults.polling import until
from tests.refusals.leftovers import orphans
from trivault import Profile, TransientError, Vault, VaultError
from trivault import transfers as transfers_module
from trivault import vault as vault_module

BLOB = os.urandom(2000)
LARGE = os.urandom(2_500_000)  # three pieces

REQUESTS: Final = (topology.EDGE, topology.REQUESTS, topology.GATEWAY_REQUESTS, "")
JOBS: Final = (topology.EDGE, topology.JOBS, topology.CRYPTOR_INTERACTIVE, topology.LANE_INTERACTIVE)
EVENTS: Final = (topology.EDGE, topology.EVENTS, topology.GATEWAY_EVENTS, topology.EVENT_KEY)


def records(stack: Stack) -> int:
    """Rows of the MapStore."""
    return int(stack.psql("mapstore", "SELECT count(*) FROM map WHERE state = 'live'"))


# --- requests -------------------------------------------------------------------------------------------------------


async def test_a_replayed_request_makes_no_second_record(mallory: Mallory, vault: Vault, stack: Stack) -> None:
    """Published again in the client's name, also after the ledger has forgotten the job."""
    mallory.seen.clear()
    async with mallory.between(*REQUESTS):
        assert await vault.load(await vault.dump(BLOB)) == BLOB
    before = records(stack)
    for _ in range(2):
        for message in mallory.seen:
            await mallory.publish(topology.EDGE, topology.GATEWAY_REQUESTS, message)
        assert await vault.load(await vault.dump(BLOB)) == BLOB  # they have had their turn
        stack.psql("gateway", "DELETE FROM jobs WHERE due_at IS NULL")
    assert records(stack) == before + 2


@pytest.mark.parametrize("at", [10, 300, 1000, -1], ids=["head", "seal", "seal too", "payload"])
async def test_an_altered_request_is_refused(mallory: Mallory, vault: Vault, stack: Stack, at: int) -> None:
    """Whatever is changed, it is no record, and the client hears of it."""
    before = records(stack)
    async with mallory.between(*REQUESTS, lambda message: [message.altered(at)]):
        with pytest.raises(VaultError):
            async with asyncio.timeout(40):
                await vault.dump(BLOB)
    assert records(stack) == before


async def test_a_request_in_another_clients_name_is_refused(mallory: Mallory, vault: Vault, bob: Profile) -> None:
    """The name only routes: the signature must be that of the client whose name it bears."""
    async with mallory.between(*REQUESTS, lambda message: [message.having(user_id=bob.name)]):
        with pytest.raises(VaultError) as caught:
            await vault.dump(BLOB)
    assert caught.value.code is FailureCode.UNAUTHENTICATED


# --- jobs and events ------------------------------------------------------------------------------------------------

ACTS: Final[dict[str, Callable[[], Act]]] = {
    "altered": lambda: First(altering),
    "dropped": lambda: First(dropping),
    "doubled": lambda: doubling,
    "invented": lambda: lambda message: [Message(os.urandom(300), message.properties), message],
    "unsealed": lambda: lambda message: [Message(b"{}", message.properties | {"headers": {META: "{}"}}), message],
    "relabelled": lambda: First(lambda message: [message.having(message_id="other")]),
}


@pytest.mark.parametrize("link", [JOBS, EVENTS], ids=["jobs", "events"])
@pytest.mark.parametrize("name", ACTS)
async def test_jobs_and_events_are_sealed(
    mallory: Mallory, vault: Vault, stack: Stack, link: tuple[str, str, str, str], name: str
) -> None:
    """What does not open is a dead letter; the ledger hands the job out again, and it becomes one record."""
    before = records(stack)
    async with mallory.between(*link, ACTS[name]()):
        external_uuid = await vault.dump(BLOB)
        assert await vault.load(external_uuid) == BLOB
    assert records(stack) == before + 1


async def test_old_jobs_and_events_change_nothing(mallory: Mallory, vault: Vault, stack: Stack) -> None:
    """All of them once more: no record is made twice, no ended job changes."""
    mallory.seen.clear()
    async with mallory.between(*JOBS), mallory.between(*EVENTS):
        job = await vault.submit(BLOB)
        external_uuid = await vault.wait(job)
    before = records(stack)
    jobs = [each for each in mallory.seen if each.properties["type"].startswith("jobs")]
    events = [each for each in mallory.seen if not each.properties["type"].startswith("jobs")]
    for lane in (topology.CRYPTOR_INTERACTIVE, topology.CRYPTOR_BULK):
        for message in [*jobs, *events]:
            await mallory.publish(topology.EDGE, lane, message)
    for message in [*events, *jobs]:
        await mallory.publish(topology.EDGE, topology.GATEWAY_EVENTS, message)
    assert await vault.load(await vault.dump(LARGE)) == LARGE  # both lanes have had their turn
    assert await vault.wait(job) == external_uuid
    assert records(stack) == before + 1


async def test_events_of_two_jobs_exchanged_mislead_nobody(mallory: Mallory, vault: Vault) -> None:
    """An event names its job under the seal."""
    async with mallory.between(*EVENTS, First(Swapping(), 2)):
        blobs = [os.urandom(1000) for _ in range(4)]
        uuids = await asyncio.gather(*map(vault.dump, blobs))
        assert await asyncio.gather(*map(vault.load, uuids)) == blobs


# --- answers --------------------------------------------------------------------------------------------------------


def answer(request: Message, **told: Any) -> Message:
    """What the gateway would say of a request's job."""
    meta = encode(Answers(jobs=[JobStatus(job_id=request.properties["correlation_id"], **told)]))
    return Message(told.get("sealed", b""), {"type": Answers.TYPE, "headers": {META: meta.decode()}})


@pytest.mark.parametrize(
    "told",
    [
        {"state": State.SUCCEEDED},
        {"state": State.FAILED, "code": FailureCode.NOT_FOUND},
        {"state": State.FAILED, "code": FailureCode.INTEGRITY_FAILED},
        {"state": State.FAILED, "code": FailureCode.UPLOAD_LOST},
        {"state": State.FAILED},
        {"state": State.EXPIRED},
    ],
    ids=str,
)
async def test_an_end_that_the_cryptor_did_not_seal_is_no_end(
    mallory: Mallory, vault: Vault, told: dict[str, Any]
) -> None:
    """The client goes on waiting for the true one."""

    async def forge(request: Message) -> None:
        known = request.having(correlation_id=UUID(request.properties["correlation_id"]))
        await mallory.publish(topology.EDGE, request.properties["reply_to"], answer(known, **told))

    tasks: list[asyncio.Task[None]] = []

    def act(request: Message) -> Sequence[Message]:
        if request.properties["type"] == "request.v1":
            tasks.append(asyncio.create_task(forge(request)))
        return [request]

    async with mallory.between(*REQUESTS, act):
        external_uuid = await vault.dump(BLOB)
        if told != {"state": State.SUCCEEDED}:  # to a load that says: your answer went elsewhere, ask again
            assert await vault.load(external_uuid) == BLOB
    await asyncio.gather(*tasks)
    assert tasks
    assert await vault.load(external_uuid) == BLOB


# --- uploads --------------------------------------------------------------------------------------------------------

# Whether a record comes of it. None: perhaps, for the queue has room for the declared bytes and some, not for twice as
# many.
UPLOADS: Final[dict[str, tuple[Callable[[], Act], bool | None]]] = {
    "as sent": (lambda: passing, True),
    "altered": (lambda: First(altering), False),
    "dropped": (lambda: First(dropping), False),
    "reordered": (Swapping, False),
    "invented": (lambda: First(lambda piece: [Message(os.urandom(100), piece.properties), piece]), False),
    "anonymous": (lambda: First(lambda piece: [piece.having(user_id=None)]), False),
    "doubled": (lambda: doubling, None),
    "bob's beside it": (lambda: First(lambda piece: [piece.having(user_id="bob"), piece]), True),
}


@pytest.mark.parametrize("name", UPLOADS)
async def test_an_upload_is_stored_as_it_was_sent_or_lost(
    mallory: Mallory, vault: Vault, stack: Stack, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A record of the right bytes; or `upload_lost`, and no row, key or object is left of it."""
    make, whole = UPLOADS[name]
    real = transfers_module.upload

    async def upload(connection: Any, user: str, prepared: Any, content: Any, queue: str) -> None:
        assert queue == topology.upload_queue(user, str(prepared.job_id))
        mallory.seen.clear()
        async with mallory.between(topology.EDGE, topology.UPLOADS, queue, queue, make()):
            await real(connection, user, prepared, content, queue)
            await mallory.has_seen(pieces(len(LARGE)))

    monkeypatch.setattr(vault_module, "upload", upload)
    before, left = records(stack), orphans(stack)
    external_uuid, code = None, None
    try:
        external_uuid = await vault.dump(LARGE)
    except VaultError as error:
        code = error.code
    if external_uuid is None:
        assert not whole
        assert code is FailureCode.UPLOAD_LOST
        assert records(stack) == before
    else:
        assert whole is not False
        assert await vault.load(external_uuid) == LARGE
        assert records(stack) == before + 1
    await until(lambda: _nothing_new(stack, left), "something is left of an upload")


async def _nothing_new(stack: Stack, left: set[str]) -> bool:
    """Whether there are no keys and objects without a record but those that were there before."""
    return orphans(stack) <= left


# --- downloads ------------------------------------------------------------------------------------------------------


def _renumbered(taken: list[Message], order: Sequence[int]) -> list[Message]:
    """Other bodies under the numbers of the pieces."""
    return [replace(taken[at], body=taken[from_].body) for at, from_ in enumerate(order)]


def _attempt(taken: list[Message], attempt: bytes) -> list[Message]:
    """The same pieces as another attempt."""
    metas = [Download.model_validate_json(each.properties["headers"][META]) for each in taken]
    return [
        each.having(headers={META: encode(meta.model_copy(update={"attempt": attempt})).decode()})
        for each, meta in zip(taken, metas, strict=True)
    ]


DOWNLOADS: Final[dict[str, tuple[Callable[[list[Message]], list[Message]], bool]]] = {
    "as sent": (lambda taken: taken, True),
    "doubled": (lambda taken: [each for each in taken for _ in range(2)], True),
    "followed by another attempt": (lambda taken: [*taken, *_attempt(taken, b"x" * 16)], True),
    "altered": (lambda taken: [taken[0], taken[1].altered(), taken[2]], False),
    "reordered": (lambda taken: _renumbered(taken, [1, 0, 2]), False),
    "repeated": (lambda taken: _renumbered(taken, [0, 0, 2]), False),
    "truncated": (lambda taken: taken[:-1], False),
    "as another attempt": (lambda taken: _attempt(taken, b"x" * 16), False),
    "dropped": (lambda _: [], False),
}


@pytest.mark.parametrize("name", DOWNLOADS)
async def test_a_download_is_what_the_cryptor_sent_or_an_error(
    mallory: Mallory, vault: Vault, alice: Profile, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Never other bytes. She takes all pieces before the client hears where they are, and puts back what she likes."""
    spoil, whole = DOWNLOADS[name]
    external_uuid = await vault.dump(LARGE)
    monkeypatch.setattr(transfers_module, "IDLE_SECONDS", 1)
    monkeypatch.setattr(vault_module, "TRIES", 1)
    real = transfers_module.download

    async def download(connection: Any, prepared: Any, queue: str, sink: Any) -> None:
        assert queue == topology.download_queue(alice.name, str(prepared.job_id))
        taken = await mallory.take(topology.EDGE, queue, pieces(len(LARGE)))
        for message in spoil(taken):
            await mallory.publish(topology.EDGE, queue, message)
        await real(connection, prepared, queue, sink)

    monkeypatch.setattr(vault_module, "download", download)
    if whole:
        assert await vault.load(external_uuid) == LARGE
        return
    with pytest.raises(VaultError) as caught:
        await vault.load(external_uuid)
    assert caught.value.code is FailureCode.INTEGRITY_FAILED or isinstance(caught.value, TransientError)


# --- reading --------------------------------------------------------------------------------------------------------


async def test_nothing_can_be_read(mallory: Mallory, vault: Vault) -> None:
    """A canary of random bytes is in no message, raw, hex or base64; where it is, the same search finds it."""
    canary = os.urandom(64)
    blob = os.urandom(500) + canary + os.urandom(500)
    mallory.seen.clear()
    async with (
        mallory.between(*REQUESTS),
        mallory.between(*JOBS),
        mallory.between(*EVENTS),
        mallory.between_replies(topology.KEYSTORE, passing),
        mallory.between_replies(topology.DATASTORE, passing),
        mallory.between_replies(topology.MAPSTORE, passing),
    ):
        assert await vault.load(await vault.dump(blob)) == blob
    everything = list(mallory.seen)
    assert len(everything) >= 16  # two requests, jobs and events; six calls of stores and their replies

    def found(messages: Sequence[Message]) -> bool:
        text = b"".join(each.body + repr(each.properties).encode() for each in messages)
        shapes = [canary, canary.hex().encode(), *(base64.b64encode(canary[at:]).strip(b"=")[:-2] for at in range(3))]
        return any(shape in text for shape in shapes)

    assert not found(everything)
    for planted in (blob, blob.hex().encode(), base64.b64encode(blob)):
        assert found([*everything, Message(planted, {})])
