"""Connections to one vhost as one role: mutual TLS 1.3, SASL EXTERNAL, publishing and consuming apart.

RabbitMQ blocks a connection that publishes while an alarm is on, so what consumes has a connection of its own. Both
come back by themselves after a loss; what was under way on them fails as a `TransientError` and is never replayed here.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

import aio_pika
from aio_pika.abc import AbstractRobustConnection
from aio_pika.connection import make_url
from aio_pika.robust_connection import RobustConnection

from contracts.failures import FailureCode, TransientError
from messaging.logs import silence_payloads
from messaging.settings import BrokerSettings

T = TypeVar("T")

Connection = AbstractRobustConnection  # what others hand on, so that they need not know the AMQP library

CONNECT_SECONDS: Final = 15  # per attempt: TLS, SASL and vhost on a busy machine
BROKER_SECONDS: Final = 30  # for one broker call: a confirm behind an fsync storm, not a hang
WHY: Final = {  # by the reason for which there is no connection
    "broker_unreachable": "nobody speaks AMQP over TLS there; check `url`, and whether the broker runs",
    "broker_untrusted": "`ca_file` did not sign that broker's certificate, or it is for another host than in `url`",
    "broker_refused": "the broker lets nobody into that vhost with `cert_file`; its common name must be a user there",
    "broker_timeout": "the broker did not answer in time; see its log",
}
GOODBYE_SECONDS: Final = 5  # for closing something: what cannot say good-bye is gone all the same

silence_payloads()


@contextmanager
def broker_errors() -> Iterator[None]:
    """Turn every way in which a broker call fails into `TransientError`: its outcome is unknown."""
    try:
        yield
    except aio_pika.exceptions.PublishError:
        raise TransientError(FailureCode.BUSY, "unroutable") from None  # its text holds the whole message
    except aio_pika.exceptions.DeliveryError:
        raise TransientError(FailureCode.BUSY, "queue_full") from None
    except TimeoutError:
        raise TransientError(FailureCode.BUSY, "broker_timeout") from None
    except aio_pika.exceptions.CONNECTION_EXCEPTIONS:
        raise TransientError(FailureCode.BUSY, "broker_unavailable") from None


_undisturbed: Final[set[asyncio.Future[Any]]] = set()  # the event loop itself forgets tasks that nobody holds


async def undisturbed(call: Awaitable[T], seconds: float) -> T:
    """Await a broker call that goes on to its own end, also if its caller is cancelled or has waited `seconds`.

    The AMQP library closes the channel of a call that is cancelled. If the broker closes it just then, or the call was
    the closing, then RabbitMQ receives a close too many, and answers that by closing the connection, for everybody.

    Raises:
        TimeoutError: it has not ended yet.
        ConnectionError: the connection was closed under it.
    """
    task = asyncio.ensure_future(call)
    _undisturbed.add(task)
    task.add_done_callback(_ended)
    await asyncio.wait({task}, timeout=seconds)
    if not task.done():
        raise TimeoutError
    if task.cancelled():  # not by us
        raise ConnectionError
    return task.result()


def _ended(task: asyncio.Future[Any]) -> None:
    _undisturbed.discard(task)
    if not task.cancelled():
        task.exception()  # seen, whoever still waits


async def goodbye(closing: Awaitable[object]) -> None:
    """Close a channel, or cancel a consumer, undisturbed; what is gone already is closed as well."""
    try:
        await undisturbed(closing, GOODBYE_SECONDS)
    except (TimeoutError, *aio_pika.exceptions.CONNECTION_EXCEPTIONS):
        return


def _connection(settings: BrokerSettings, name: str) -> AbstractRobustConnection:
    """A connection to be, with a certificate; whoever makes one has to close it, come about or not."""
    return RobustConnection(
        make_url(f"{settings.url}?auth=external&reconnect_interval=1"),
        ssl_context=settings.ssl_context(),
        client_properties={"connection_name": name},
    )


async def _connect(connection: AbstractRobustConnection) -> None:
    """Connect; the first failure is raised, later losses are repaired.

    Raises:
        TransientError: no connection; `reason` is a key of `WHY`.
    """
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await connection.connect(timeout=CONNECT_SECONDS)
    except TimeoutError:
        raise TransientError(FailureCode.BUSY, "broker_timeout") from None
    except aio_pika.exceptions.CONNECTION_EXCEPTIONS as error:
        raise TransientError(FailureCode.BUSY, _reason(error)) from error


def _reason(error: BaseException) -> str:
    """Which of `WHY`; what aiormq makes of a socket or of TLS is the plain base class, with the true error as cause."""
    match error.__cause__:
        case ssl.SSLCertVerificationError():
            return "broker_untrusted"
        case ssl.SSLError(reason=str(reason)) if "ALERT" in reason:  # what the broker thinks of our certificate
            return "broker_refused"
    plain = type(error) is aio_pika.exceptions.AMQPConnectionError
    return "broker_refused" if isinstance(error, aio_pika.exceptions.AMQPError) and not plain else "broker_unreachable"


class Broker:
    """One vhost, entered as one role, over two connections."""

    def __init__(self, publishing: AbstractRobustConnection, consuming: AbstractRobustConnection) -> None:
        """Hold two open connections; `Broker.open` makes them."""
        self.publishing = publishing
        self.consuming = consuming

    async def check(self) -> None:
        """Return if both connections are up.

        Raises:
            TransientError: one is not; it is being repaired.
        """
        if not all(connection.connected.is_set() for connection in (self.publishing, self.consuming)):
            raise TransientError(FailureCode.BUSY, "broker_unavailable")

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: BrokerSettings, name: str) -> AsyncIterator["Broker"]:
        """Connect, and close whatever happens. `name` is shown in the broker's connection list.

        Raises:
            TransientError: the broker refused us or is not there; a note says where, and what to look at.
        """
        connections = [_connection(settings, f"{name} {purpose}") for purpose in ("publish", "consume")]
        try:
            for connection in connections:
                try:
                    await _connect(connection)
                except TransientError as error:
                    error.add_note(f"{settings.url}: {WHY[error.reason]}")
                    raise
            yield cls(*connections)
        finally:  # one that was given up goes on trying, and only this stops it
            for connection in connections:
                await goodbye(connection.close())
