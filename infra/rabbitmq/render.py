"""Definitions and configuration of a RabbitMQ node (3.10 to 4.x), rendered from `contracts.topology`.

A node that boots with them has no guest, no default vhost, no plaintext listener and no mechanism but EXTERNAL: whoever
has no certificate of the private CA does not get in, and its common name decides where it may go.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from contracts import topology
from contracts.limits import MAX_BODY, MIB
from contracts.topology import Permission, TopicPermission, Vhost

MAX_MESSAGE: Final = 16 * MIB  # 4.x's own default, said aloud because 3.x has 128 MiB; far above our largest message
CLIENT_LIMITS: Final = {"max-connections": 32, "max-channels": 256}
ROLE_LIMITS: Final = {"max-connections": 64, "max-channels": 4096}
VHOST_LIMITS: Final = {"max-connections": 1024, "max-queues": 20_000}

if MAX_BODY * 2 > MAX_MESSAGE:
    raise RuntimeError("a broker would refuse our largest message")


def definitions(vhosts: Sequence[Vhost] = topology.VHOSTS, clients: Iterable[str] = ()) -> dict[str, Any]:
    """Everything that a node with these vhosts has before it is used; no user of any other vhost."""
    told = _roles(vhosts)
    if topology.EDGE in {vhost.name for vhost in vhosts}:
        for name in clients:
            for kind, added in client_fragment(name).items():
                told[kind] += added
    return told


def _roles(vhosts: Sequence[Vhost]) -> dict[str, Any]:
    """What is there before the first client is enrolled."""
    return {
        "users": [_user(each.user) for vhost in vhosts for each in vhost.permissions],
        "vhosts": [{"name": vhost.name, "limits": []} for vhost in vhosts],
        "permissions": [_permission(vhost.name, each) for vhost in vhosts for each in vhost.permissions],
        "topic_permissions": [
            _topic_permission(vhost.name, each) for vhost in vhosts for each in vhost.topic_permissions
        ],
        "exchanges": [
            {
                "name": exchange.name,
                "vhost": vhost.name,
                "type": exchange.type,
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": {},
            }
            for vhost in vhosts
            for exchange in vhost.exchanges
        ],
        "queues": [
            {
                "name": queue.name,
                "vhost": vhost.name,
                "durable": True,
                "auto_delete": False,
                "arguments": queue.arguments,
            }
            for vhost in vhosts
            for queue in vhost.queues
        ],
        "bindings": [_binding(vhost, each) for vhost in vhosts for each in vhost.bindings],
        "parameters": [
            {"vhost": vhost.name, "component": "vhost-limits", "name": "limits", "value": VHOST_LIMITS}
            for vhost in vhosts
        ],
        "policies": [],
    }


def client_fragment(name: str) -> dict[str, Any]:
    """What enrolling one client adds to a live node."""
    return {
        "users": [_user(name, CLIENT_LIMITS)],
        "permissions": [_permission(topology.EDGE, topology.client_permission(name))],
        "topic_permissions": [_topic_permission(topology.EDGE, topology.client_topic_permission(name))],
    }


def _user(name: str, limits: dict[str, int] = ROLE_LIMITS) -> dict[str, Any]:
    """An empty password hash matches no password: only a certificate lets this user in."""
    return {
        "name": name,
        "password_hash": "",
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": [],
        "limits": limits,
    }


def _permission(vhost: str, permission: Permission) -> dict[str, str]:
    return {
        "user": permission.user,
        "vhost": vhost,
        "configure": permission.configure,
        "write": permission.write,
        "read": permission.read,
    }


def _topic_permission(vhost: str, permission: TopicPermission) -> dict[str, str]:
    return {
        "user": permission.user,
        "vhost": vhost,
        "exchange": permission.exchange,
        "write": permission.write,
        "read": permission.read,
    }


def _binding(vhost: Vhost, binding: topology.Binding) -> dict[str, Any]:
    return {
        "source": binding.exchange,
        "vhost": vhost.name,
        "destination": binding.queue,
        "destination_type": "queue",
        "routing_key": binding.routing_key,
        "arguments": {},
    }


def configuration(*, port: int, address: str, tls: Path, definitions_file: Path) -> str:
    """`rabbitmq.conf`.

    Args:
        port: of the one listener, which speaks TLS 1.3.
        address: that it listens on.
        tls: directory with `ca.pem`, `server.pem`, `server.key`.
        definitions_file: JSON of `definitions()`.
    """
    settings = {
        "listeners.tcp": "none",
        "listeners.ssl.default": f"{address}:{port}",
        "ssl_options.cacertfile": tls / "ca.pem",
        "ssl_options.certfile": tls / "server.pem",
        "ssl_options.keyfile": tls / "server.key",
        "ssl_options.verify": "verify_peer",
        "ssl_options.fail_if_no_peer_cert": "true",
        "ssl_options.versions.1": "tlsv1.3",
        "ssl_cert_login_from": "common_name",
        "auth_mechanisms.1": "EXTERNAL",
        "definitions.import_backend": "local_filesystem",
        "definitions.local.path": definitions_file,
        "max_message_size": MAX_MESSAGE,
        "disk_free_limit.absolute": "2GB",  # the default of 50 MB is used up by one large record
        "vm_memory_high_watermark.relative": "0.4",
        "log.console": "true",
        "log.console.level": "warning",
        "log.file": "false",
    }
    return "".join(f"{key} = {value}\n" for key, value in settings.items())
