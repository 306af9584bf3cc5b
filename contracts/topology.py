"""Names and shapes of everything on the brokers: vhosts, exchanges, queues, users, permissions (design §4).

Names come from here alone. `infra.rabbitmq` renders the brokers' definitions from it, and a test compares the two with
a live broker. Services declare nothing but the two kinds of per-job queue at the end. Nothing here talks to a broker.
"""

import re
from dataclasses import dataclass, field
from typing import Final

from contracts.limits import CLOCK_SKEW, INLINE_MAX, KIB, MAX_EXPIRY, MIB, PIECE, pieces, sealed_size

EDGE: Final = "edge"
KEYSTORE: Final = "keystore"
DATASTORE: Final = "datastore"
MAPSTORE: Final = "mapstore"
STORES: Final = (KEYSTORE, DATASTORE, MAPSTORE)

REQUESTS: Final = "requests"  # exchange, on every vhost
JOBS: Final = "jobs"
EVENTS: Final = "events"
UPLOADS: Final = "uploads"
DOWNLOADS: Final = "downloads"
DEAD: Final = "dead"

GATEWAY_REQUESTS: Final = "gateway.requests"
CRYPTOR_INTERACTIVE: Final = "cryptor.interactive"
CRYPTOR_BULK: Final = "cryptor.bulk"
GATEWAY_EVENTS: Final = "gateway.events"
DEAD_LETTERS: Final = "dead.letters"
STORE_REQUESTS: Final = "requests"  # queue and routing key on every store vhost

LANE_INTERACTIVE: Final = "interactive"  # routing keys of `jobs`
LANE_BULK: Final = "bulk"
EVENT_KEY: Final = "events"  # routing key of `events`

CLIENT_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")  # no dot: no client can be enrolled as a role
ROLE_PREFIX: Final = "svc."

# A quorum queue that is full refuses, and its publisher hears of it. What cannot be handled goes to the dead letters,
# and is not dropped on its way there. The delivery limit is explicit because 3.10 has none and 4.x has 20.
_REDELIVERIES: Final = 20
DEFAULT_MESSAGES: Final = 100_000


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue; `arguments` say its type and its bounds."""

    name: str
    arguments: dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Binding:
    """From an exchange to a queue."""

    exchange: str
    queue: str
    routing_key: str


@dataclass(frozen=True, slots=True)
class Permission:
    """Regular expressions over names, as RabbitMQ has them: configure, write, read."""

    user: str
    configure: str
    write: str
    read: str


@dataclass(frozen=True, slots=True)
class TopicPermission:
    """Which routing keys a user may publish by to a topic exchange."""

    user: str
    exchange: str
    write: str
    read: str


@dataclass(frozen=True, slots=True)
class Vhost:
    """One vhost, whole."""

    name: str
    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    bindings: tuple[Binding, ...]
    permissions: tuple[Permission, ...]
    topic_permissions: tuple[TopicPermission, ...] = field(default=())


def _quorum(name: str, max_bytes: int) -> Queue:
    return Queue(
        name,
        {
            "x-queue-type": "quorum",
            "x-max-length-bytes": max_bytes,
            "x-overflow": "reject-publish",
            "x-delivery-limit": _REDELIVERIES,
            "x-dead-letter-exchange": DEAD,
            "x-dead-letter-strategy": "at-least-once",
        },
    )


def _classic(name: str, max_bytes: int, overflow: str) -> Queue:
    return Queue(
        name,
        {
            "x-queue-type": "classic",
            "x-max-length": DEFAULT_MESSAGES,
            "x-max-length-bytes": max_bytes,
            "x-overflow": overflow,
        },
    )


def _edge() -> Vhost:
    return Vhost(
        EDGE,
        exchanges=(
            Exchange(REQUESTS, "fanout"),  # a client's routing key means nothing
            Exchange(JOBS, "direct"),
            Exchange(EVENTS, "direct"),
            Exchange(UPLOADS, "topic"),  # topic permissions tell one client's keys from another's
            Exchange(DOWNLOADS, "direct"),
            Exchange(DEAD, "fanout"),
        ),
        queues=(
            _quorum(GATEWAY_REQUESTS, 256 * MIB),
            _quorum(CRYPTOR_INTERACTIVE, 512 * MIB),
            _quorum(CRYPTOR_BULK, 512 * MIB),
            _quorum(GATEWAY_EVENTS, 512 * MIB),
            _classic(DEAD_LETTERS, 256 * MIB, "drop-head"),  # the newest are what an operator looks for
        ),
        bindings=(
            Binding(REQUESTS, GATEWAY_REQUESTS, ""),
            Binding(JOBS, CRYPTOR_INTERACTIVE, LANE_INTERACTIVE),
            Binding(JOBS, CRYPTOR_BULK, LANE_BULK),
            Binding(EVENTS, GATEWAY_EVENTS, EVENT_KEY),
            Binding(DEAD, DEAD_LETTERS, ""),
        ),
        permissions=(
            # With these the gateway may also bind `jobs` to `uploads`; nothing comes of it (docs/adr/0015).
            Permission(
                "svc.gateway",
                configure=r"^up\..*$",
                write=r"^(jobs|amq\.default|up\..*)$",
                read=r"^(gateway\.(requests|events)|uploads|dead\.letters)$",
            ),
            Permission(
                "svc.cryptor",
                configure=r"^down\..*$",
                write=r"^(events|downloads|down\..*)$",
                read=r"^(cryptor\.(interactive|bulk)|up\..*|downloads)$",
            ),
        ),
    )


def _store(name: str) -> Vhost:
    return Vhost(
        name,
        exchanges=(Exchange(REQUESTS, "direct"),),
        queues=(_classic(STORE_REQUESTS, 512 * MIB, "reject-publish"),),
        bindings=(Binding(REQUESTS, STORE_REQUESTS, STORE_REQUESTS),),
        permissions=(
            Permission(f"svc.{name}", configure="^$", write=r"^amq\.default$", read="^requests$"),
            Permission(f"svc.cryptor.{name}", configure="^$", write="^requests$", read="^$"),
        ),
    )


VHOSTS: Final = (_edge(), *map(_store, STORES))
ROLES: Final = tuple(permission.user for vhost in VHOSTS for permission in vhost.permissions)


def client_permission(name: str) -> Permission:
    """What a client may do on `edge`: publish requests and uploads, read its own downloads, declare nothing."""
    return Permission(name, configure="^$", write="^(requests|uploads)$", read=rf"^down\.{name}\..*$")


def client_topic_permission(name: str) -> TopicPermission:
    """Uploads go to queues of the client's own jobs only."""
    return TopicPermission(name, UPLOADS, write=rf"^up\.{name}\..*$", read="^$")


def upload_queue(client: str, job_id: str) -> str:
    """The queue that one job's payload goes to. The job id cannot be guessed."""
    return f"up.{client}.{job_id}"


def download_queue(client: str, job_id: str) -> str:
    """The queue that one job's large result comes from."""
    return f"down.{client}.{job_id}"


def upload_arguments(size: int, issued_at: float, expires_at: float) -> dict[str, str | int]:
    """Arguments of an upload queue for `size` bytes of plaintext: a legal upload is never refused.

    Constants of the job, so that its queue can be declared again. `x-expires` counts from the last use, and publishing
    is none: it is no shorter than the job may live, which an admitted one does for `expires_at - issued_at` and the
    clock skew, and for `MAX_EXPIRY` and the clock skew, at most.
    """
    return {
        "x-queue-type": "classic",
        "x-max-length-bytes": sealed_size(size) + pieces(size) * KIB + PIECE,
        "x-overflow": "reject-publish",
        "x-expires": 1000 * round(min(max(expires_at - issued_at, 0), MAX_EXPIRY) + CLOCK_SKEW),
    }


def download_arguments(size: int) -> dict[str, str | int]:
    """Arguments of a download queue: it holds the whole result, twice if an attempt had to start over."""
    return {
        "x-queue-type": "classic",
        "x-max-length-bytes": 2 * sealed_size(size) + INLINE_MAX,
        "x-overflow": "reject-publish",
        "x-expires": 600_000,  # ms; a client that has not begun to read by then loads again
    }
