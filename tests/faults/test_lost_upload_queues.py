"""A gateway that dies after its commit, before it declared the upload queue: the request comes again, the job goes on.

The broker hands out an unacknowledged request again, byte for byte. That, and the missing queue, are made here by hand;
no test could kill a gateway at that very moment.
"""

from collections.abc import AsyncIterator
from os import urandom

import pytest

from contracts.edge import State
from infra.local.stack import Stack
from tests.fix_stack import BrokerAs
from tests.isolation.probing import entered
from tests.refusals.forge import NOTIFYING, Forged, Forger, Wire
from tests.refusals.test_bad_uploads import accepted, cut, put
from trivault import Profile, Vault

BLOB = urandom(1_500_000)


@pytest.fixture
async def wire(alice: Profile) -> AsyncIterator[Wire]:
    """A bare channel as Alice."""
    async with Wire.open(alice.broker, alice.name) as opened:
        yield opened


@pytest.fixture
async def undeclared(
    stack: Stack, alice: Profile, wire: Wire, broker_as: BrokerAs
) -> AsyncIterator[tuple[Forged, str]]:
    """A dump that the ledger has, without the queue that its client was told of; no Cryptor has looked at it yet."""
    forged = Forger(alice, await wire.directory()).dump(BLOB)
    stack.supervisor.signal("cryptor", "STOP")
    try:
        queue = await accepted(wire, forged)
        async with entered(broker_as("svc.gateway", "edge")) as gateway:
            await (await gateway.channel()).queue_delete(queue)
        yield forged, queue
    finally:
        stack.supervisor.signal("cryptor", "CONT")


async def test_the_same_request_again_declares_the_queue_again(
    stack: Stack, wire: Wire, vault: Vault, undeclared: tuple[Forged, str]
) -> None:
    """And its client, told `accepted` once more, uploads."""
    forged, queue = undeclared
    assert await accepted(wire, forged) == queue
    for piece in cut(forged, BLOB, wire.name):
        await put(wire, queue, piece)
    assert await accepted(wire, forged) == queue  # once more beside what has arrived: nothing is lost
    stack.supervisor.signal("cryptor", "CONT")
    answer, _ = await wire.end(forged)
    external_uuid = answer.outcomes[0].external_uuid
    assert external_uuid is not None
    assert await vault.load(external_uuid) == BLOB


async def test_the_same_request_after_its_end_declares_nothing(stack: Stack, wire: Wire, alice: Profile) -> None:
    """A queue that nobody would ever delete."""
    forged = Forger(alice, await wire.directory()).dump(BLOB)
    queue = await accepted(wire, forged)
    for piece in cut(forged, BLOB, wire.name):
        await put(wire, queue, piece)
    await wire.end(forged)
    await wire.send(forged, meta=NOTIFYING)
    status, _ = await wire.update(forged.job_id)
    assert status.state is State.SUCCEEDED
    assert queue not in stack.rabbitmqctl("list_queues", "-p", "edge", "--no-table-headers", "name").split()
