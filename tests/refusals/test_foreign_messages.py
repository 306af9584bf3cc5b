"""Messages that are not ours at all: refused or dead-lettered, whoever sends them and wherever they arrive."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import aiormq
import pytest

from contracts import topology
from contracts.codec import encode
from contracts.edge import MAX_STATUSES, Events, Jobs, Request, State, StatusQuery
from contracts.failures import FailureCode
from contracts.limits import MAX_BODY, MAX_META_HEADER
from contracts.stores import KeyLoad
from infra.local.stack import Stack
from infra.rabbitmq.render import MAX_MESSAGE
from tests.fix_stack import BrokerAs
from tests.refusals.forge import REQUEST, Forger, Wire, refusing
from trivault import Profile, Vault

T = TypeVar("T")

SECONDS = 10  # for a dead letter to arrive

STRANGERS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing-at-all": ({"kind": None, "meta": None}, "missing_meta"),
    "no-meta": ({"meta": None}, "missing_meta"),
    "no-type": ({"kind": None}, "unknown_type"),
    "newer-type": ({"kind": "request.v2"}, "unknown_type"),
    "type-of-somebody-else": ({"kind": Events.TYPE}, "unknown_type"),
    "meta-not-json": ({"meta": b"{"}, "malformed"),
    "meta-of-another-shape": ({"meta": b"[]"}, "malformed"),
    "meta-with-an-unknown-field": ({"meta": b'{"admin":true}'}, "unknown_field"),
    "meta-malformed": ({"meta": b'{"notify":"yes"}'}, "malformed_notify"),
    "meta-oversize": ({"meta": b" " * (MAX_META_HEADER + 1)}, "oversize_meta"),
    "status-of-nothing": ({"kind": StatusQuery.TYPE, "meta": b'{"job_ids":[]}'}, "malformed_job_ids"),
    "status-of-no-uuid": ({"kind": StatusQuery.TYPE, "meta": b'{"job_ids":["x"]}'}, "malformed_job_ids"),
    "status-of-too-many": (
        {
            "kind": StatusQuery.TYPE,
            "meta": b'{"job_ids":[' + b",".join([b'"%s"' % str(uuid4()).encode()] * 101) + b"]}",
        },
        "malformed_job_ids",
    ),
    "body-of-noise": ({"body": bytes(range(256))}, "malformed_envelope"),
    "body-empty": ({"body": b""}, "malformed_envelope"),
    "body-oversize": ({"body": bytes(MAX_BODY + 1)}, "oversize_body"),
}


@pytest.mark.parametrize(("message", "reason"), STRANGERS.values(), ids=STRANGERS)
async def test_a_message_that_is_not_ours_is_refused(
    wire: Wire, forger: Forger, message: dict[str, Any], reason: str
) -> None:
    """The SDK of whoever sent it raises what is wrong with it; nobody else notices."""
    forged = forger.dump(b"not to be kept")
    with refusing(FailureCode.INVALID_REQUEST, reason):
        await wire.publish(**({"body": forged.body, "correlation_id": forged.job_id.hex} | message))
        await wire.end(forged)
    assert await wire.state(forged.job_id) is State.UNKNOWN


async def test_a_message_that_wants_no_answer_is_refused_in_the_log(wire: Wire, stack: Stack) -> None:
    """Nobody can be told, so the operator is: no refusal is silent."""
    log = stack.layout.logs / "gateway.log"
    before = log.read_text().count('"malformed_envelope"')
    await wire.publish(b"hello?", reply_to=None)
    assert await wire.state(uuid4()) is State.UNKNOWN
    assert log.read_text().count('"malformed_envelope"') == before + 1


def test_the_wire_limits_of_the_test_are_those_of_the_contract() -> None:
    """101 job ids are one too many."""
    assert MAX_STATUSES == 100


async def until(look: Callable[[], Awaitable[T]]) -> T:
    """Look until there is something to see; the caller sets the deadline."""
    while True:
        if found := await look():
            return found
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    "properties",
    [{"body": bytes(MAX_MESSAGE + 1)}, {"user_id": "bob"}, {"user_id": "svc.gateway"}],
    ids=["oversize", "forged-client", "forged-role"],
)
async def test_the_broker_refuses_what_no_client_may_send(
    alice: Profile, bob: Profile, vault: Vault, properties: dict[str, Any]
) -> None:
    """Larger than any message of ours, or in another's name: it costs the sender his channel, and nobody else."""
    assert bob.name == "bob"
    async with Wire.open(alice.broker, alice.name) as wire:
        with pytest.raises(aiormq.exceptions.ChannelPreconditionFailed):
            await wire.publish(**({"body": b"", "meta": REQUEST} | properties))
    assert await vault.load(await vault.dump(b"still there")) == b"still there"


@pytest.mark.parametrize("exchange", [topology.JOBS, topology.EVENTS, topology.DOWNLOADS, topology.DEAD])
async def test_a_client_cannot_speak_to_anybody_but_the_gateway(alice: Profile, exchange: str) -> None:
    """Jobs, events, results and dead letters are not for clients to make."""
    async with Wire.open(alice.broker, alice.name) as wire:
        with pytest.raises(aiormq.exceptions.ChannelAccessRefused):
            await wire.publish(b"", exchange=exchange)


INTERNAL = {
    "jobs": ("svc.gateway", topology.JOBS, topology.LANE_INTERACTIVE, Jobs.TYPE),
    "bulk-jobs": ("svc.gateway", topology.JOBS, topology.LANE_BULK, Jobs.TYPE),
    "events": ("svc.cryptor", topology.EVENTS, topology.EVENT_KEY, Events.TYPE),
    "events-of-unknown-type": ("svc.cryptor", topology.EVENTS, topology.EVENT_KEY, "events.v2"),
}


@pytest.mark.parametrize(("role", "exchange", "key", "kind"), INTERNAL.values(), ids=INTERNAL)
async def test_an_internal_message_that_does_not_open_is_dead_lettered(
    broker_as: BrokerAs, role: str, exchange: str, key: str, kind: str
) -> None:
    """Whoever owns the broker can put it there, with the right credentials even, but cannot seal it."""
    body = os.urandom(200)
    async with (
        Wire.open(broker_as(role, topology.EDGE), role) as sender,
        Wire.open(broker_as("svc.gateway", topology.EDGE), "svc.gateway") as operator,
    ):
        letters = await operator.channel.get_queue(topology.DEAD_LETTERS, ensure=False)
        while (earlier := await letters.get(fail=False)) is not None:  # of other tests' attacks
            await earlier.ack()
        await sender.publish(body, exchange=exchange, routing_key=key, kind=kind, meta=None, reply_to=None)
        async with asyncio.timeout(SECONDS):
            letter = await until(lambda: letters.get(fail=False))
        assert letter is not None
        assert (letter.body, letter.type) == (body, kind)
        await letter.ack()


async def said(log: Path, times: int) -> bool:
    """Whether a store's log tells of that many dropped requests."""
    return dropped(log) >= times


def dropped(log: Path) -> int:
    """How many dropped requests a store's log tells of."""
    return log.read_text().count('"rpc.request_dropped"')


@pytest.mark.parametrize("store", topology.STORES)
async def test_a_request_to_a_store_that_does_not_open_is_dropped(
    broker_as: BrokerAs, stack: Stack, vault: Vault, store: str
) -> None:
    """The store settles it, says so in its log, and answers nothing; the Cryptor's own requests go on."""
    role, log = f"svc.cryptor.{store}", stack.layout.logs / f"{store}.log"
    before = dropped(log)
    async with Wire.open(broker_as(role, store), role) as wire:
        for kind in (KeyLoad.TYPE, Request.TYPE):
            await wire.publish(
                os.urandom(200),
                exchange=topology.REQUESTS,
                routing_key=topology.STORE_REQUESTS,
                kind=kind,
                meta=encode(Request()),
            )
        async with asyncio.timeout(SECONDS):
            await until(lambda: said(log, before + 2))
        assert await wire.ready(topology.STORE_REQUESTS) == 0
    assert await vault.load(await vault.dump(b"still there")) == b"still there"
