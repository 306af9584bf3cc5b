"""The HTTP port of a service for its operators: /metrics, /live and /ready, and nothing else.

Served by threads of their own, so that a stuck event loop can be told of. No authentication and no TLS: what it says
holds nothing of clients, and it listens where the settings say, by default nowhere. Not for clients.
"""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from messaging import metrics
from messaging.health import Health
from messaging.settings import MonitoringSettings

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

REQUEST_SECONDS: Final = 5  # for a peer to send its request, or to take the answer
REQUESTS: Final = 8  # served at a time; more are refused


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS

    def log_message(self, *_: Any) -> None:
        """A probe every second is no news."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # a service that stops waits for nobody here

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._places = threading.BoundedSemaphore(REQUESTS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, *_: Any) -> None:
        """A peer went away, or was too slow."""


def application(health: Health) -> "WSGIApplication":
    """What the port serves."""

    def serve(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/metrics":
                return metrics.exposition(environ, start_response)  # type: ignore[no-any-return]  # untyped there
            case "/live":
                return answer(start_response, health.live, {"live": health.live})
            case "/ready":
                waiting_for = [*health.waiting_for, *([] if health.live else ["event_loop"])]
                return answer(start_response, not waiting_for, {"ready": not waiting_for, "waiting_for": waiting_for})
            case _:
                start_response("404 Not Found", [])
                return []

    def answer(start_response: "StartResponse", fine: bool, told: object) -> list[bytes]:  # noqa: FBT001 - local
        status = HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE
        start_response(f"{status.value} {status.phrase}", [("Content-Type", "application/json")])
        return [json.dumps(told).encode() + b"\n"]

    return serve


@asynccontextmanager
async def monitored(settings: MonitoringSettings | None, health: Health) -> AsyncIterator[None]:
    """Listen while the context is open, if the settings say so.

    Raises:
        OSError: the address is taken, or not ours.
    """
    if settings is None:
        yield
        return
    where = str(settings.address), settings.port
    server = make_server(*where, application(health), _Server, _Handler)
    thread = threading.Thread(target=server.serve_forever, name="monitoring", daemon=True)
    thread.start()
    try:
        async with health.kept():
            yield
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
