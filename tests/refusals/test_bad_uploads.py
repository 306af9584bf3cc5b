"""Uploads that are cut, reordered, stalled, altered or somebody else's: `upload_lost`, and nothing is left of them."""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

import aio_pika
import aiormq
import pytest

from contracts import topology
from contracts.codec import encode
from contracts.edge import State, Upload
from contracts.failures import FailureCode
from contracts.limits import MIB, PIECE
from infra.local.stack import Stack
from sealing.streams import Sealer
from tests.refusals.forge import NOTIFYING, Forged, Forger, Wire, flipped, refusing
from tests.refusals.leftovers import sql
from trivault import Profile, Vault

BLOB = os.urandom(3 * MIB)
IDLE = 2.0  # seconds, of the test stack's Cryptor


@dataclass(frozen=True, slots=True)
class Piece:
    """One upload message, and what is wrong with it."""

    number: int
    body: bytes
    job_id: UUID
    user_id: str | None
    kind: str = Upload.TYPE


Spoil = Callable[[Sequence[Piece]], Iterable[Piece]]


def cut(forged: Forged, blob: bytes, user: str) -> list[Piece]:
    """The payload stream as the SDK would send it."""
    sealer = Sealer(forged.prepared.secrets.payload_key, forged.prepared.payload_context)
    steps = [sealer.update(blob[at : at + PIECE]) for at in range(0, len(blob), PIECE)]
    stream = b"".join([*steps, sealer.finish()])
    bodies = [stream[at : at + PIECE] for at in range(0, len(stream), PIECE)]
    return [Piece(number, body, forged.job_id, user) for number, body in enumerate(bodies)]


async def accepted(wire: Wire, forged: Forged) -> str:
    """Publish a request; the queue that its payload goes to, once the vault has named it."""
    await wire.send(forged, meta=NOTIFYING)
    status, _ = await wire.update(forged.job_id)
    assert (status.state, status.request) == (State.ACCEPTED, forged.prepared.fingerprint)
    assert status.upload is not None
    return status.upload


async def put(wire: Wire, queue: str, piece: Piece) -> None:
    """Publish one piece."""
    meta = encode(Upload(job_id=piece.job_id, number=piece.number))
    await wire.publish(
        piece.body,
        kind=piece.kind,
        meta=meta,
        exchange=topology.UPLOADS,
        routing_key=queue,
        user_id=piece.user_id,
        reply_to=None,
    )


async def upload(wire: Wire, forger: Forger, spoil: Spoil, blob: bytes = BLOB) -> tuple[Forged, UUID | None]:
    """Have a dump accepted, and send its pieces spoilt; what the SDK would raise, or the external_uuid."""
    forged = forger.dump(blob)
    queue = await accepted(wire, forged)
    for piece in spoil(cut(forged, blob, wire.name)):
        await put(wire, queue, piece)
    answer, _ = await wire.end(forged)
    return forged, answer.outcomes[0].external_uuid


def settled_as(stack: Stack, job_id: UUID) -> str:
    """What MapStore says became of a job's only item."""
    return stack.psql("mapstore", sql("SELECT state FROM map WHERE job_id = '{}'", job_id)).strip()


LOST: dict[str, Spoil] = {
    "nothing-sent": lambda _: [],
    "stalled-after-the-first": lambda pieces: pieces[:1],
    "without-the-last": lambda pieces: pieces[:-1],
    "without-the-first": lambda pieces: pieces[1:],
    "gap": lambda pieces: [pieces[0], *pieces[2:]],
    "reordered": lambda pieces: [pieces[1], pieces[0], *pieces[2:]],
    "reordered-and-renumbered": lambda pieces: [
        replace(piece, number=number) for number, piece in enumerate([pieces[1], pieces[0], *pieces[2:]])
    ],
    "last-piece-cut": lambda pieces: [*pieces[:-1], replace(pieces[-1], body=pieces[-1].body[:-1])],
    "last-piece-padded": lambda pieces: [*pieces[:-1], replace(pieces[-1], body=pieces[-1].body + bytes(1))],
    "cut-at-a-chunk": lambda pieces: [*pieces[:-2], replace(pieces[-2], body=pieces[-2].body[:-16_400]), pieces[-1]],
    "first-byte-flipped": lambda pieces: [replace(pieces[0], body=flipped(pieces[0].body, 0)), *pieces[1:]],
    "middle-byte-flipped": lambda pieces: [
        pieces[0],
        replace(pieces[1], body=flipped(pieces[1].body, PIECE // 2)),
        *pieces[2:],
    ],
    "last-byte-flipped": lambda pieces: [*pieces[:-1], replace(pieces[-1], body=flipped(pieces[-1].body, -1))],
    "oversize-piece": lambda pieces: [replace(pieces[0], body=pieces[0].body + pieces[1].body), *pieces[2:]],
    "empty-pieces": lambda pieces: [replace(piece, body=b"") for piece in pieces],
    # The second piece shows at once that the first one did not count.
    "without-user-id": lambda pieces: [replace(pieces[0], user_id=None), *pieces[1:]],
    "of-another-job": lambda pieces: [replace(pieces[0], job_id=uuid4()), *pieces[1:]],
    "of-another-type": lambda pieces: [replace(pieces[0], kind="upload.v2"), *pieces[1:]],
}


@pytest.mark.parametrize("spoil", LOST.values(), ids=LOST)
async def test_a_spoilt_upload_is_lost(wire: Wire, forger: Forger, stack: Stack, spoil: Spoil) -> None:
    """The answer comes under seal, in time, and only after MapStore has settled that there will be no record."""
    forged = forger.dump(BLOB)
    queue = await accepted(wire, forged)
    with suppress(aio_pika.exceptions.PublishError):  # the queue goes with the job, which may end before its pieces
        for piece in spoil(cut(forged, BLOB, wire.name)):
            await put(wire, queue, piece)
    with refusing(FailureCode.UPLOAD_LOST):
        await wire.end(forged)
    assert settled_as(stack, forged.job_id) == "aborted"


HARMLESS: dict[str, Spoil] = {
    "as-sent": lambda pieces: pieces,
    "everything-twice": lambda pieces: [again for piece in pieces for again in (piece, piece)],
    "first-again-at-the-end": lambda pieces: [*pieces, pieces[0]],
    "strangers-between": lambda pieces: [
        stray
        for piece in pieces
        for stray in (replace(piece, user_id=None), replace(piece, job_id=uuid4(), body=b"stray"), piece)
    ],
}


@pytest.mark.parametrize("spoil", HARMLESS.values(), ids=HARMLESS)
async def test_what_is_not_the_upload_is_passed_over(wire: Wire, forger: Forger, vault: Vault, spoil: Spoil) -> None:
    """Repeated pieces, and what is not the client's, change nothing; it is also the control of the test above."""
    _, external_uuid = await upload(wire, forger, spoil)
    assert external_uuid is not None
    assert await vault.load(external_uuid) == BLOB


async def test_another_clients_pieces_cannot_reach_an_upload(
    wire: Wire, forger: Forger, bob: Profile, vault: Vault
) -> None:
    """Bob knows the queue's name, and the broker still refuses his pieces."""
    forged = forger.dump(BLOB)
    queue = await accepted(wire, forged)
    pieces = cut(forged, BLOB, wire.name)
    async with Wire.open(bob.broker, bob.name) as his:
        with pytest.raises(aiormq.exceptions.ChannelAccessRefused):
            await put(his, queue, replace(pieces[0], user_id=bob.name))
    for piece in pieces:
        await put(wire, queue, piece)
    answer, _ = await wire.end(forged)
    external_uuid = answer.outcomes[0].external_uuid
    assert external_uuid is not None
    assert await vault.load(external_uuid) == BLOB


async def test_pieces_of_an_upload_that_is_over_are_returned(wire: Wire, forger: Forger) -> None:
    """The queue went with the job: a client that sends on hears of it at once."""
    forged = forger.dump(BLOB)
    queue = await accepted(wire, forged)
    pieces = cut(forged, BLOB, wire.name)
    await put(wire, queue, replace(pieces[0], body=b"nonsense" * 8))
    with refusing(FailureCode.UPLOAD_LOST):
        await wire.end(forged)
    with pytest.raises(aio_pika.exceptions.PublishError):
        await put(wire, queue, pieces[0])


async def test_repeated_pieces_do_not_keep_a_stalled_upload_alive(wire: Wire, forger: Forger) -> None:
    """A client that says the same again and again sends nothing: its upload fails when its next piece is overdue."""
    forged = forger.dump(BLOB)
    queue = await accepted(wire, forged)
    first = cut(forged, BLOB, wire.name)[0]
    end = asyncio.create_task(wire.end(forged))
    began = time.monotonic()
    while not end.done() and time.monotonic() < began + 3 * IDLE:
        with suppress(aio_pika.exceptions.PublishError):  # the queue goes with the job
            await put(wire, queue, first)
        await asyncio.sleep(IDLE / 8)
    assert end.done()
    with refusing(FailureCode.UPLOAD_LOST):
        await end
