"""What a service process of this machine says of itself on its monitoring port."""

import json
import urllib.error
import urllib.request
from typing import Final

SECONDS: Final = 3

# Of no proxy, whatever the environment says: it is on this machine.
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def url(port: int, path: str) -> str:
    """Where that is."""
    return f"http://127.0.0.1:{port}{path}"


def fetch(port: int, path: str) -> tuple[int, str]:
    """Status and body of one GET.

    Raises:
        OSError: nobody answers.
    """
    try:
        with _OPENER.open(url(port, path), timeout=SECONDS) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()


def health(port: int) -> str:
    """`ready`, what the service waits for, or `no answer`."""
    try:
        _, body = fetch(port, "/ready")
    except OSError:
        return "no answer"
    told = json.loads(body)
    return "ready" if told["ready"] else f"waits for {', '.join(told['waiting_for'])}"
