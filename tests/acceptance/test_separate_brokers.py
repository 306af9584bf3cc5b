"""Every link has a URL of its own, so each store can have a broker of its own: four RabbitMQ nodes, and the same vault.

Then no broker can pass anything from one store to another, and the owner of one sees one link.
"""

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from contracts.limits import MAX_BLOB
from infra.local.brokers import Node
from infra.local.settings import broker_url
from infra.local.stack import Stack
from messaging.settings import BrokerSettings
from tests.faults.polling import until
from tests.fix_stack import credentials
from tests.isolation.handshake import OPEN, knock
from trivault import Profile, Vault

USERS: Final = {
    "edge": {"svc.gateway", "svc.cryptor", "alice"},
    "keystore": {"svc.keystore", "svc.cryptor.keystore"},
    "datastore": {"svc.datastore", "svc.cryptor.datastore"},
    "mapstore": {"svc.mapstore", "svc.cryptor.mapstore"},
}


@pytest.fixture(scope="module")
def apart() -> Iterator[Stack]:
    """A vault whose four vhosts live on four brokers."""
    with Stack(Path(tempfile.mkdtemp(prefix="trivault-")), separate_brokers=True).temporary() as running:
        yield running


@pytest.fixture(scope="module")
def nodes(apart: Stack) -> dict[str, Node]:
    """The nodes, by the vhost that each has."""
    return {vhost.name: node for node in apart.nodes for vhost in node.vhosts}


@pytest.fixture(scope="module")
async def vault(apart: Stack) -> AsyncIterator[Vault]:
    """The vault, as Alice, who knows of the edge alone."""
    async with Vault.open(Profile.read(apart.enrol("alice"))) as opened:
        yield opened


@pytest.mark.parametrize("size", [0, 1000, MAX_BLOB], ids=["empty", "small", "50 MiB"])
async def test_records_come_back(vault: Vault, size: int) -> None:
    """Inline and streamed; no client notices."""
    blob = secrets.token_bytes(size)
    assert await vault.load(await vault.dump(blob)) == blob


async def test_batches_come_back(vault: Vault) -> None:
    """Ingested together, exported together."""
    blobs = [secrets.token_bytes(2000 + number) for number in range(300)]
    uuids = [outcome.external_uuid async for outcome in vault.ingest(blobs)]
    assert None not in uuids
    restored = [record.data async for record in vault.export([uuid for uuid in uuids if uuid])]
    assert sorted(restored, key=lambda data: len(data or b"")) == blobs


@pytest.mark.usefixtures("vault")
@pytest.mark.parametrize("vhost", USERS)
def test_a_broker_knows_no_user_and_no_vhost_of_another(nodes: dict[str, Node], vhost: str) -> None:
    """By its own account."""
    node = nodes[vhost]
    assert node.ctl("list_vhosts", "--no-table-headers").split() == [vhost]
    users = {line.split("\t")[0] for line in node.ctl("list_users", "--no-table-headers").splitlines()}
    assert users == USERS[vhost]


@pytest.mark.usefixtures("vault")
@pytest.mark.parametrize("vhost", USERS)
def test_a_role_enters_its_own_broker_and_no_other(apart: Stack, nodes: dict[str, Node], vhost: str) -> None:
    """Every role knocks at every vhost of every broker, with a certificate that all of them believe."""
    opened = set()
    for user in sorted(set().union(*USERS.values())):
        tls = BrokerSettings(url=broker_url(apart.layout, vhost), **credentials(apart, user)).ssl_context()
        opened |= {(user, asked) for asked in USERS if knock(nodes[vhost].layout.ports.amqps, asked, tls) == OPEN}
    assert opened == {(user, vhost) for user in USERS[vhost]}


@pytest.mark.usefixtures("vault")
@pytest.mark.parametrize("vhost", ["keystore", "datastore", "mapstore"])
async def test_nobody_is_connected_to_a_stores_broker_but_the_ends_of_its_link(
    nodes: dict[str, Node], vhost: str
) -> None:
    """The store and the Cryptor, two connections each, and no other node; who was refused above is in no vhost."""
    expected = sorted(f"{user}\t{vhost}" for user in USERS[vhost] for _ in range(2))

    async def connected() -> bool:
        told = await asyncio.to_thread(nodes[vhost].ctl, "list_connections", "--no-table-headers", "user", "vhost")
        return sorted(line for line in told.splitlines() if not line.endswith("\tnone")) == expected

    try:
        await until(connected, "somebody else is connected")
    except AssertionError as error:
        error.add_note(nodes[vhost].ctl("list_connections", "user", "vhost", "state", "client_properties"))
        raise
    assert nodes[vhost].ctl("eval", "length(rabbit_nodes:all_running()).").strip() == "1"
