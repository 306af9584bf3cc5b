"""A vhost of the benchmark's own on the stack's broker, and a user with its certificate, for what is measured bare.

The same broker, the same TLS and the same kind of identity as the vault's; none of the vault's permissions change while
this user does not count messages (`bench.counting`).
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from infra.errors import StackError
from infra.files import PUBLIC, private_folder, write
from infra.local.settings import broker_url
from infra.local.stack import Stack
from infra.pki.authority import Authority
from infra.settings import certificate
from messaging.settings import BrokerSettings

USER: Final = "bench"
VHOST: Final = "bench"
EVERYTHING: Final = {"configure": ".*", "write": ".*", "read": ".*"}


@contextmanager
def scratch_user(stack: Stack, *vhosts: str) -> Iterator[None]:
    """A broker user that may do everything on these vhosts, and is gone afterwards; what is not there is made."""
    folder = private_folder(stack.layout.root / USER)
    authority = Authority.load(stack.secrets.authority)
    authority.client(USER).save(folder, USER)
    write(folder / "ca.pem", authority.pem, PUBLIC)
    fragment = folder / "definitions.json"
    told = {
        "vhosts": [{"name": VHOST}] if VHOST in vhosts else [],
        "users": [
            {
                "name": USER,
                "password_hash": "",
                "hashing_algorithm": "rabbit_password_hashing_sha256",
                "tags": [],
                "limits": {},
            }
        ],
        "permissions": [{"user": USER, "vhost": vhost, **EVERYTHING} for vhost in vhosts],
    }
    write(fragment, json.dumps(told))
    stack.rabbitmqctl("import_definitions", str(fragment))
    try:
        yield
    finally:
        with suppress(StackError):  # the broker may be down already, and the whole folder with it
            stack.rabbitmqctl("delete_user", USER)
            if VHOST in vhosts:
                stack.rabbitmqctl("delete_vhost", VHOST)


def scratch_settings(stack: Stack, vhost: str = VHOST) -> BrokerSettings:
    """How that user enters a vhost."""
    return BrokerSettings.model_validate(
        {"url": broker_url(stack.layout, vhost), **certificate(stack.layout.root / USER, USER)}
    )
