"""Certificates that should open no door, and the TLS contexts to show them in: no other check is left to fail."""

import datetime as dt
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from infra.local.stack import Stack
from infra.pki import authority
from infra.pki.authority import Authority, Pair

Dress = Callable[[Authority, str], Pair]  # what to show, to look like a role


def context(stack: Stack, pair: Pair | None, folder: Path) -> ssl.SSLContext:
    """TLS 1.3 to the stack's servers, showing `pair`."""
    tls = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=stack.secrets.authority / "ca.pem")
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    if pair is not None:
        tls.load_cert_chain(*pair.save(folder, "shown"))
    return tls


def _another_cas(_ours: Authority, role: str) -> Pair:
    return Authority.create("trivault private CA").client(role)


def _a_servers(ours: Authority, role: str) -> Pair:
    return ours.server(role)


def _an_expired_one(ours: Authority, role: str) -> Pair:
    """Valid for a day, last week."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(authority, "LEAF_DAYS", 1)
        patch.setattr(dt, "datetime", _LastWeek)
        return ours.client(role)


class _LastWeek(dt.datetime):
    """A clock that is a week behind, for who issues with it."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> "_LastWeek":
        return super().now(tz) - dt.timedelta(days=7)


IMPOSTORS: Final[dict[str, Dress]] = {
    "another CA's": _another_cas,
    "a server's": _a_servers,
    "an expired one": _an_expired_one,
}
