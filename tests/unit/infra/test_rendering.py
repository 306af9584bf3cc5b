"""What a RabbitMQ node is told: whole, in one file, with nobody in it who needs no certificate."""

import json
from pathlib import Path

import pytest

from contracts import topology
from contracts.limits import MAX_BODY
from infra.rabbitmq import render

CONFIGURATION = """
listeners.tcp = none
listeners.ssl.default = 127.0.0.1:5671
ssl_options.cacertfile = /tls/ca.pem
ssl_options.certfile = /tls/server.pem
ssl_options.keyfile = /tls/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
ssl_options.versions.1 = tlsv1.3
ssl_cert_login_from = common_name
auth_mechanisms.1 = EXTERNAL
definitions.import_backend = local_filesystem
definitions.local.path = /etc/definitions.json
max_message_size = 16777216
disk_free_limit.absolute = 2GB
vm_memory_high_watermark.relative = 0.4
log.console = true
log.console.level = warning
log.file = false
"""


def test_the_configuration_is_this() -> None:
    """Line by line: TLS only, certificates only, EXTERNAL only."""
    told = render.configuration(
        port=5671, address="127.0.0.1", tls=Path("/tls"), definitions_file=Path("/etc/definitions.json")
    )
    assert told.strip().splitlines() == CONFIGURATION.strip().splitlines()


def test_the_largest_message_fits() -> None:
    """With room for what sealing adds."""
    assert 2 * MAX_BODY <= render.MAX_MESSAGE


def test_definitions_are_json_and_complete() -> None:
    """A node that boots with them lacks nothing, and gets nothing else: no guest, no default vhost, no parameter."""
    told = json.loads(json.dumps(render.definitions()))
    assert sorted(told) == [
        *("bindings", "exchanges", "parameters", "permissions", "policies", "queues"),
        *("topic_permissions", "users", "vhosts"),
    ]
    assert {each["name"] for each in told["vhosts"]} == {"edge", "keystore", "datastore", "mapstore"}
    assert {each["name"] for each in told["users"]} == set(topology.ROLES)
    for kind in ("permissions", "topic_permissions", "exchanges", "queues", "bindings", "parameters"):
        assert {each["vhost"] for each in told[kind]} <= {each["name"] for each in told["vhosts"]}
    assert {each["user"] for each in told["permissions"]} == {each["name"] for each in told["users"]}


def test_every_binding_joins_what_is_declared() -> None:
    """A node refuses definitions that name what is not there."""
    told = render.definitions()
    exchanges = {(each["vhost"], each["name"]) for each in told["exchanges"]}
    queues = {(each["vhost"], each["name"]) for each in told["queues"]}
    for binding in told["bindings"]:
        assert (binding["vhost"], binding["source"]) in exchanges
        assert (binding["vhost"], binding["destination"]) in queues
    for queue in told["queues"]:
        dead = queue["arguments"].get("x-dead-letter-exchange")
        assert dead is None or (queue["vhost"], dead) in exchanges


@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_every_queue_is_bounded(kind: str) -> None:
    """In bytes; and a full one refuses, but for the dead letters, which forget the oldest."""
    queues = [each for each in render.definitions()["queues"] if each["arguments"]["x-queue-type"] == kind]
    assert queues
    for queue in queues:
        assert queue["arguments"]["x-max-length-bytes"] >= 16 * render.MAX_MESSAGE
        overflow = "drop-head" if queue["name"] == "dead.letters" else "reject-publish"
        assert queue["arguments"]["x-overflow"] == overflow


def test_nobody_has_a_password_or_a_tag() -> None:
    """An empty hash matches no password; a tag would be an operator's rights."""
    users = [*render.definitions()["users"], *render.client_fragment("alice")["users"]]
    assert {(user["password_hash"], tuple(user["tags"])) for user in users} == {("", ())}


def test_a_client_adds_one_user_and_its_permissions() -> None:
    """Within limits of its own, and nothing that another has."""
    told = render.client_fragment("alice")
    assert sorted(told) == ["permissions", "topic_permissions", "users"]
    assert [(each["name"], each["limits"]) for each in told["users"]] == [
        ("alice", {"max-connections": 32, "max-channels": 256})
    ]
    assert told["permissions"] == [
        {
            "user": "alice",
            "vhost": "edge",
            "configure": "^$",
            "write": "^(requests|uploads)$",
            "read": r"^down\.alice\..*$",
        }
    ]
    assert told["topic_permissions"] == [
        {"user": "alice", "vhost": "edge", "exchange": "uploads", "write": r"^up\.alice\..*$", "read": "^$"}
    ]


def test_definitions_are_drawn_anew_each_time() -> None:
    """What a caller adds to one is not in the next."""
    first = render.definitions()
    first["users"].append({"name": "guest"})
    first["permissions"].clear()
    assert render.definitions()["permissions"]
    assert "guest" not in {each["name"] for each in render.definitions()["users"]}
