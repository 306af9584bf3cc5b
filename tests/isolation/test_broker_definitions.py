"""What the live node has is what `infra.rabbitmq.render` rendered, and both are what is written here by hand."""

import json
from pathlib import Path
from typing import Any, Final

import pytest

from infra.local.stack import Stack
from infra.rabbitmq import render

MIB: Final = 1 << 20

EXCHANGES: Final = {
    ("edge", "requests", "fanout"),
    ("edge", "jobs", "direct"),
    ("edge", "events", "direct"),
    ("edge", "uploads", "topic"),
    ("edge", "downloads", "direct"),
    ("edge", "dead", "fanout"),
    ("keystore", "requests", "direct"),
    ("datastore", "requests", "direct"),
    ("mapstore", "requests", "direct"),
}
QUORUM: Final = {
    "x-queue-type": "quorum",
    "x-overflow": "reject-publish",
    "x-delivery-limit": 20,
    "x-dead-letter-exchange": "dead",
    "x-dead-letter-strategy": "at-least-once",
}
STORE: Final = {
    "x-queue-type": "classic",
    "x-overflow": "reject-publish",
    "x-max-length": 100_000,
    "x-max-length-bytes": 512 * MIB,
}
QUEUES: Final = {
    ("edge", "gateway.requests"): {**QUORUM, "x-max-length-bytes": 256 * MIB},
    ("edge", "cryptor.interactive"): {**QUORUM, "x-max-length-bytes": 512 * MIB},
    ("edge", "cryptor.bulk"): {**QUORUM, "x-max-length-bytes": 512 * MIB},
    ("edge", "gateway.events"): {**QUORUM, "x-max-length-bytes": 512 * MIB},
    ("edge", "dead.letters"): {
        "x-queue-type": "classic",
        "x-overflow": "drop-head",
        "x-max-length": 100_000,
        "x-max-length-bytes": 256 * MIB,
    },
    ("keystore", "requests"): STORE,
    ("datastore", "requests"): STORE,
    ("mapstore", "requests"): STORE,
}
BINDINGS: Final = {
    ("edge", "requests", "", "gateway.requests"),
    ("edge", "jobs", "interactive", "cryptor.interactive"),
    ("edge", "jobs", "bulk", "cryptor.bulk"),
    ("edge", "events", "events", "gateway.events"),
    ("edge", "dead", "", "dead.letters"),
    ("keystore", "requests", "requests", "requests"),
    ("datastore", "requests", "requests", "requests"),
    ("mapstore", "requests", "requests", "requests"),
}
# user, vhost: configure, write, read
PERMISSIONS: Final = {
    ("svc.gateway", "edge"): (
        r"^up\..*$",
        r"^(jobs|amq\.default|up\..*)$",
        r"^(gateway\.(requests|events)|uploads|dead\.letters)$",
    ),
    ("svc.cryptor", "edge"): (
        r"^down\..*$",
        r"^(events|downloads|down\..*)$",
        r"^(cryptor\.(interactive|bulk)|up\..*|downloads)$",
    ),
    ("svc.keystore", "keystore"): ("^$", r"^amq\.default$", "^requests$"),
    ("svc.datastore", "datastore"): ("^$", r"^amq\.default$", "^requests$"),
    ("svc.mapstore", "mapstore"): ("^$", r"^amq\.default$", "^requests$"),
    ("svc.cryptor.keystore", "keystore"): ("^$", "^requests$", "^$"),
    ("svc.cryptor.datastore", "datastore"): ("^$", "^requests$", "^$"),
    ("svc.cryptor.mapstore", "mapstore"): ("^$", "^requests$", "^$"),
}
ALICE: Final = ("^$", "^(requests|uploads)$", r"^down\.alice\..*$")
ALICES_TOPICS: Final = ("uploads", r"^up\.alice\..*$", "^$")  # exchange, write, read
LIMITS: Final = {
    "role": {"max-connections": 64, "max-channels": 4096},
    "client": {"max-connections": 32, "max-channels": 256},
    "vhost": {"max-connections": 1024, "max-queues": 20_000},
}

Definitions = dict[str, Any]


@pytest.fixture(scope="module")
def live(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Definitions:
    """What the node exports, without per-job queues and without clients other than Alice."""
    assert stack.secrets.provisioned()
    file: Path = tmp_path_factory.mktemp("definitions") / "live.json"
    stack.rabbitmqctl("export_definitions", str(file))
    told: Definitions = json.loads(file.read_bytes())
    for key, name in (("queues", "name"), ("bindings", "destination")):
        told[key] = [each for each in told[key] if not each[name].startswith(("up.", "down."))]
    for key, name in (("users", "name"), ("permissions", "user"), ("topic_permissions", "user")):
        told[key] = [each for each in told[key] if each[name].startswith("svc.") or each[name] == "alice"]
    return told


@pytest.fixture(scope="module")
def rendered() -> Definitions:
    """What the repository renders, Alice enrolled."""
    told = render.definitions()
    for key, added in render.client_fragment("alice").items():
        told[key] += added
    return told


@pytest.fixture(params=["live", "rendered"])
def told(request: pytest.FixtureRequest) -> Definitions:
    """Each of the two, to compare with the tables."""
    definitions: Definitions = request.getfixturevalue(request.param)
    return definitions


pytestmark = pytest.mark.usefixtures("alice")


def test_exchanges(told: Definitions) -> None:
    """Names, types, all durable."""
    assert {(each["vhost"], each["name"], each["type"]) for each in told["exchanges"]} == EXCHANGES
    assert all(each["durable"] and not each["auto_delete"] and not each["arguments"] for each in told["exchanges"])


def test_queues(told: Definitions) -> None:
    """Every queue is durable and bounded, and says of which type it is."""
    assert {(each["vhost"], each["name"]): each["arguments"] for each in told["queues"]} == QUEUES
    assert all(each["durable"] and not each["auto_delete"] for each in told["queues"])


def test_bindings(told: Definitions) -> None:
    """Nothing reaches a queue by another way."""
    assert {
        (each["vhost"], each["source"], each["routing_key"], each["destination"]) for each in told["bindings"]
    } == BINDINGS
    assert {each["destination_type"] for each in told["bindings"]} == {"queue"}


def test_permissions(told: Definitions) -> None:
    """The expressions, letter by letter."""
    found = {
        (each["user"], each["vhost"]): (each["configure"], each["write"], each["read"]) for each in told["permissions"]
    }
    assert found == {**PERMISSIONS, ("alice", "edge"): ALICE}
    assert [
        (each["user"], each["vhost"], each["exchange"], each["write"], each["read"])
        for each in told["topic_permissions"]
    ] == [("alice", "edge", *ALICES_TOPICS)]


def test_users(told: Definitions) -> None:
    """No password, no tag, and limits for everybody."""
    assert {each["name"] for each in told["users"]} == {"alice", *(user for user, _ in PERMISSIONS)}
    for user in told["users"]:
        assert user["password_hash"] == ""
        assert user["tags"] == []
        assert user["limits"] == LIMITS["client" if user["name"] == "alice" else "role"]


def test_vhosts(told: Definitions) -> None:
    """Four, with limits; nothing is changed by a policy."""
    vhosts = {"edge", "keystore", "datastore", "mapstore"}
    assert {each["name"] for each in told["vhosts"]} == vhosts
    assert {each["vhost"]: each["value"] for each in told["parameters"]} == dict.fromkeys(vhosts, LIMITS["vhost"])
    assert {each["component"] for each in told["parameters"]} == {"vhost-limits"}
    assert told["policies"] == []


def test_the_configuration_that_runs_is_the_one_rendered(stack: Stack) -> None:
    """Nothing else configures the node."""
    told = json.loads(stack.rabbitmqctl("status", "--formatter", "json"))
    assert told["config_files"] == [str(stack.layout.etc / "rabbitmq.conf")]
    assert told["active_plugins"] == ["rabbitmq_auth_mechanism_ssl"]
    assert (stack.layout.etc / "rabbitmq.conf").read_text() == render.configuration(
        port=stack.layout.ports.amqps,
        address="127.0.0.1",
        tls=stack.secrets.of("rabbitmq"),
        definitions_file=stack.layout.etc / "definitions.json",
    )
