"""Every user, every vhost, every operation: what succeeds is what design §4 says, and nothing else does.

The tables below are written by hand, not computed from `contracts.topology`, which they are to check.
"""

from collections.abc import AsyncIterator
from typing import Final

import pytest

from contracts.topology import VHOSTS
from infra.local.settings import broker_url
from infra.local.stack import Stack
from messaging.settings import BrokerSettings
from tests.fix_stack import BrokerAs, credentials
from tests.isolation import probing
from tests.isolation.handshake import OPEN, knock
from tests.isolation.probing import Operation, Prober, entered
from trivault import Profile

ENTERS: Final = {
    "alice": "edge",
    "bob": "edge",
    "svc.gateway": "edge",
    "svc.cryptor": "edge",
    "svc.keystore": "keystore",
    "svc.datastore": "datastore",
    "svc.mapstore": "mapstore",
    "svc.cryptor.keystore": "keystore",
    "svc.cryptor.datastore": "datastore",
    "svc.cryptor.mapstore": "mapstore",
}
ALL_VHOSTS: Final = ("edge", "keystore", "datastore", "mapstore", "/")

# `there` queues exist while the tests run; `absent` ones are to be deleted, and nothing may be there to be deleted.
JOB_QUEUES: Final = ("up.alice.there", "up.bob.there", "down.alice.there", "down.bob.there")
ABSENT: Final = ("up.alice.absent", "up.bob.absent", "down.alice.absent", "down.bob.absent")
FIXED_QUEUES: Final = {
    "edge": ("gateway.requests", "cryptor.interactive", "cryptor.bulk", "gateway.events", "dead.letters"),
    "store": ("requests",),
}
FIXED_EXCHANGES: Final = {
    "edge": ("requests", "jobs", "events", "uploads", "downloads", "dead"),
    "store": ("requests",),
}
BROKERS_OWN: Final = ("amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match", "amq.rabbitmq.trace")
DEFAULT: Final = ""
NEW: Final = ("anything", "up", "down", "xup.alice.x", "amq.gen-x")

STORE: Final = """
    get requests
    consume requests
    purge requests
    publish (default)
"""
CRYPTOR_OF_STORE: Final = """
    publish requests
"""
MAY: Final = {
    "alice": """
        publish requests
        publish uploads by up.alice.x
        get down.alice.there
        consume down.alice.there
        purge down.alice.there
    """,
    "bob": """
        publish requests
        publish uploads by up.bob.x
        get down.bob.there
        consume down.bob.there
        purge down.bob.there
    """,
    "svc.gateway": """
        publish jobs
        publish (default)
        publish up.alice.there
        get gateway.requests
        get gateway.events
        get dead.letters
        consume gateway.requests
        consume gateway.events
        consume dead.letters
        purge gateway.requests
        purge gateway.events
        purge dead.letters
        declare queue up.alice.there
        declare queue up.bob.there
        delete queue up.alice.absent
        delete queue up.bob.absent
        bind up.alice.there to uploads
        bind up.bob.there to uploads
        declare exchange up.alice.there
        delete exchange up.alice.there
        bind exchange jobs to uploads
    """,
    "svc.cryptor": """
        publish events
        publish downloads
        get cryptor.interactive
        get cryptor.bulk
        get up.alice.there
        get up.bob.there
        consume cryptor.interactive
        consume cryptor.bulk
        consume up.alice.there
        consume up.bob.there
        purge cryptor.interactive
        purge cryptor.bulk
        purge up.alice.there
        purge up.bob.there
        declare queue down.alice.there
        declare queue down.bob.there
        delete queue down.alice.absent
        delete queue down.bob.absent
        bind down.alice.there to downloads
        bind down.bob.there to downloads
        bind exchange events to downloads
        bind exchange downloads to downloads
    """,
    "svc.keystore": STORE,
    "svc.datastore": STORE,
    "svc.mapstore": STORE,
    "svc.cryptor.keystore": CRYPTOR_OF_STORE,
    "svc.cryptor.datastore": CRYPTOR_OF_STORE,
    "svc.cryptor.mapstore": CRYPTOR_OF_STORE,
}


def operations(vhost: str) -> dict[str, Operation]:
    """Every operation there is to try on a vhost, by the name it has in the tables."""
    kind = "edge" if vhost == "edge" else "store"
    queues = (*FIXED_QUEUES[kind], *JOB_QUEUES, *NEW)
    exchanges = (*FIXED_EXCHANGES[kind], *BROKERS_OWN, DEFAULT, "up.alice.there", *NEW)
    bound = (*FIXED_EXCHANGES[kind], DEFAULT, "amq.topic", "anything")
    return (
        {f"get {name}": probing.get(name) for name in queues}
        | {f"consume {name}": probing.consume(name) for name in queues}
        | {f"purge {name}": probing.purge(name) for name in queues}
        | {f"declare queue {name}": probing.declare_queue(name) for name in queues}
        | {f"delete queue {name}": probing.delete_queue(name) for name in queues + ABSENT if name not in JOB_QUEUES}
        | {f"declare exchange {name}": probing.declare_exchange(name) for name in exchanges}
        | {f"delete exchange {name}": probing.delete_exchange(name) for name in exchanges}
        | {f"bind {queue} to {name}": probing.bind(queue, name) for queue in queues for name in bound}
        | {f"bind exchange {to} to {name}": probing.bind_exchange(to, name) for to in bound for name in bound}
        | {f"publish {name or '(default)'}": probing.publish(name) for name in exchanges}
        | {
            f"publish uploads by {key}": probing.publish("uploads", key)
            for key in ("up.alice.x", "up.bob.x", "up.alice", "up", "down.alice.x", "xup.alice.x", "")
        }
    )


def told(table: str) -> set[str]:
    """The lines of a table."""
    return {line.strip() for line in table.strip().splitlines()}


@pytest.fixture(scope="module")
async def job_queues(broker_as: BrokerAs, alice: Profile, bob: Profile) -> AsyncIterator[None]:
    """Upload and download queues of both clients, declared by whom they belong to."""
    assert (alice.name, bob.name) == ("alice", "bob")
    async with (
        entered(broker_as("svc.gateway", "edge")) as gateway,
        entered(broker_as("svc.cryptor", "edge")) as cryptor,
    ):
        owners = {name: gateway if name.startswith("up.") else cryptor for name in JOB_QUEUES}
        for name, owner in owners.items():
            await (await owner.channel()).queue_declare(name, durable=True, arguments={"x-expires": 300_000})
        yield
        for name, owner in owners.items():
            await (await owner.channel()).queue_delete(name)


@pytest.mark.usefixtures("alice", "bob")
@pytest.mark.parametrize("user", ENTERS)
def test_a_user_enters_its_own_vhost_and_no_other(stack: Stack, user: str) -> None:
    """Roles of one store cannot even open another's vhost; the default vhost does not exist."""
    tls = BrokerSettings(url=broker_url(stack.layout, "edge"), **credentials(stack, user)).ssl_context()
    answers = {vhost: knock(stack.layout.ports.amqps, vhost, tls) for vhost in ALL_VHOSTS}
    assert answers == {vhost: OPEN if vhost == ENTERS[user] else "refused 530" for vhost in ALL_VHOSTS}


@pytest.mark.usefixtures("job_queues")
@pytest.mark.parametrize("user", ENTERS)
async def test_a_user_may_do_what_the_design_says_and_nothing_else(broker_as: BrokerAs, user: str) -> None:
    """Each of several hundred operations is tried; the set of those that are permitted is written above."""
    vhost = ENTERS[user]
    tried = operations(vhost)
    expected = told(MAY[user])
    assert expected <= tried.keys()
    async with entered(broker_as(user, vhost)) as connection:
        permitted = await Prober(connection).permitted(tried)
    assert permitted == expected


def test_the_matrix_knows_everything_that_the_topology_has() -> None:
    """A queue, exchange or role that is added has to be added above, by hand."""
    for vhost in VHOSTS:
        kind = "edge" if vhost.name == "edge" else "store"
        assert {queue.name for queue in vhost.queues} == set(FIXED_QUEUES[kind])
        assert {exchange.name for exchange in vhost.exchanges} == set(FIXED_EXCHANGES[kind])
        assert {each.user for each in vhost.permissions} == {
            user for user, entered_vhost in ENTERS.items() if user.startswith("svc.") and entered_vhost == vhost.name
        }
    assert {vhost.name for vhost in VHOSTS} == set(ENTERS.values())
