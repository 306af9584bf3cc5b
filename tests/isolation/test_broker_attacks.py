"""What a client that has been taken over may try against others on `edge`, and what the broker says to it."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import aiormq
import pytest

from contracts.codec import encode
from contracts.edge import KeysQuery
from infra.local.stack import Stack
from messaging.publishing import META
from tests.fix_stack import BrokerAs
from tests.isolation.probing import Prober, bind, declare_queue, entered, get, publish
from trivault import Profile

SECONDS = 10

IMPOSTORS = {
    "client-as-client": ("alice", "edge", "requests", "bob"),
    "client-as-gateway": ("alice", "edge", "requests", "svc.gateway"),
    "client-as-cryptor": ("alice", "edge", "uploads", "svc.cryptor"),
    "gateway-as-client": ("svc.gateway", "edge", "jobs", "alice"),
    "gateway-as-cryptor": ("svc.gateway", "edge", "jobs", "svc.cryptor"),
    "cryptor-as-gateway": ("svc.cryptor", "edge", "events", "svc.gateway"),
    "cryptor-as-client": ("svc.cryptor", "edge", "downloads", "alice"),
    "store-as-cryptor": ("svc.keystore", "keystore", "", "svc.cryptor.keystore"),
}


@pytest.mark.usefixtures("alice", "bob")
@pytest.mark.parametrize(("user", "vhost", "exchange", "name"), IMPOSTORS.values(), ids=IMPOSTORS)
async def test_nobody_publishes_in_anothers_name(
    broker_as: BrokerAs, user: str, vhost: str, exchange: str, name: str
) -> None:
    """The broker compares `user_id` with who entered: a service may believe it, if it is there."""
    key = f"up.{user}.nowhere" if exchange == "uploads" else "nowhere"
    async with entered(broker_as(user, vhost)) as connection, asyncio.timeout(SECONDS):
        with pytest.raises(aiormq.exceptions.ChannelPreconditionFailed):
            await publish(exchange, key, user_id=name)(await connection.channel())


@pytest.fixture
async def pending(broker_as: BrokerAs, alice: Profile, bob: Profile) -> AsyncIterator[tuple[str, str]]:
    """Upload and download of a job of Bob's; Alice knows the names, which she could not."""
    job = uuid4()
    upload, download = f"up.{bob.name}.{job}", f"down.{bob.name}.{job}"
    async with (
        entered(broker_as("svc.gateway", "edge")) as gateway,
        entered(broker_as("svc.cryptor", "edge")) as cryptor,
    ):
        up, down = await gateway.channel(), await cryptor.channel()
        await up.queue_declare(upload)
        await up.queue_bind(upload, "uploads", upload)
        await down.queue_declare(download)
        await down.queue_bind(download, "downloads", download)
        await publish("downloads", download)(down)
        assert alice.name == "alice"
        yield upload, download
        await up.queue_delete(upload)
        await down.queue_delete(download)


async def test_another_clients_job_is_out_of_reach(broker_as: BrokerAs, pending: tuple[str, str]) -> None:
    """Alice neither writes his upload nor reads upload or result, directly or by a binding of her own; Bob does."""
    upload, download = pending
    attacks = {
        "write": publish("uploads", upload),
        "write past the exchange": publish("", upload),
        "write the result": publish("downloads", download),
        "read the upload": get(upload),
        "read the result": get(download),
        "copy the upload": bind(f"down.alice.{uuid4()}", "uploads"),
        "copy the result": bind(f"down.alice.{uuid4()}", "downloads"),
        "write a namesake's upload": publish("uploads", "up.alice-2.x"),
        "read a namesake's result": get("down.alice-2.x"),
        "read a longer one's": get("down.malice.x"),
        "read a shorter one's": get("down.al.x"),
        "take the name": declare_queue(upload),
        "a queue of her own": declare_queue(f"down.alice.{uuid4()}"),
        "a queue that the broker names": declare_queue(""),
    }
    async with entered(broker_as("alice", "edge")) as connection:
        assert await Prober(connection).permitted(attacks) == set()
    async with entered(broker_as("bob", "edge")) as connection:
        assert await Prober(connection).permitted({key: attacks[key] for key in ("write", "read the result")}) == {
            "write",
            "read the result",
        }
    async with entered(broker_as("svc.cryptor", "edge")) as connection, asyncio.timeout(SECONDS):
        channel = await connection.channel()
        message = await channel.basic_get(upload)
        assert (message.body, message.message_count) == (b"rubbish", 0)  # Bob's, and no other


async def test_a_request_that_wants_its_answer_in_a_queue_gets_none(
    stack: Stack, broker_as: BrokerAs, pending: tuple[str, str]
) -> None:
    """The gateway may publish where its clients may not, and does so for none of them: nothing reaches Bob's upload."""
    upload, _ = pending
    log = stack.layout.logs / "gateway.log"
    before = log.read_text().count('"bad_reply_to"')
    query = publish(
        "requests",
        "",
        user_id="alice",
        reply_to=upload,
        message_type=KeysQuery.TYPE,
        headers={META: encode(KeysQuery()).decode()},
    )
    async with entered(broker_as("alice", "edge")) as connection:
        assert await Prober(connection).permits(query)
    async with asyncio.timeout(SECONDS):
        while log.read_text().count('"bad_reply_to"') == before:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.05)
    async with entered(broker_as("svc.cryptor", "edge")) as connection, asyncio.timeout(SECONDS):
        assert (await (await connection.channel()).basic_get(upload)).delivery_tag is None
