"""The one stack of a test run: real RabbitMQ, PostgreSQL and services, in a folder of its own, gone afterwards.

`stack` is shared by all tests; what a test breaks it mends before it ends (`Stack.restart`).
"""

import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.local.settings import broker_url
from infra.local.stack import Stack
from infra.provision import SERVICES
from infra.settings import certificate
from messaging.settings import BrokerSettings, DatabaseSettings
from trivault import Profile, Vault

# Time-outs that a test would otherwise sit through.
IMPATIENT = {
    "gateway": {"silence_seconds": 4.0, "attempts": 3},
    "cryptor": {"idle_seconds": 2.0, "attempt_seconds": 8.0, "store_seconds": 2.0},
}
# Every line that a service can log, so that whoever looks for leaks sees it.
CHATTY: dict[str, Any] = {"log_level": "debug"}


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A whole vault, ready."""
    folder = Path(tempfile.mkdtemp(prefix="trivault-"))
    overrides = {service: CHATTY | IMPATIENT.get(service, {}) for service in SERVICES}
    with Stack(folder, overrides=overrides).temporary() as running:
        yield running


@pytest.fixture(scope="session")
def alice(stack: Stack) -> Profile:
    """A client."""
    return Profile.read(stack.enrol("alice"))


@pytest.fixture(scope="session")
def bob(stack: Stack) -> Profile:
    """Another client."""
    return Profile.read(stack.enrol("bob"))


@pytest.fixture(scope="session")
def alices(stack: Stack, alice: Profile) -> Path:
    """Alice's profile file."""
    return stack.layout.root / "clients" / alice.name / "profile.toml"


@pytest.fixture(scope="session")
def bobs(stack: Stack, bob: Profile) -> Path:
    """Bob's profile file."""
    return stack.layout.root / "clients" / bob.name / "profile.toml"


@pytest.fixture
def newcomer(stack: Stack) -> Profile:
    """A client that no other test knows."""
    return Profile.read(stack.enrol(f"c{secrets.token_hex(4)}"))


@pytest.fixture(scope="session")
async def vault(alice: Profile) -> AsyncIterator[Vault]:
    """The vault, as Alice."""
    async with Vault.open(alice) as opened:
        yield opened


BrokerAs = Callable[[str, str], BrokerSettings]  # user, vhost


@pytest.fixture(scope="session")
def broker_as(stack: Stack) -> BrokerAs:
    """How a role or client enters a vhost, with its real credentials."""

    def settings(user: str, vhost: str) -> BrokerSettings:
        return BrokerSettings(url=broker_url(stack.layout, vhost), **credentials(stack, user))

    return settings


DatabaseAs = Callable[[str, str], DatabaseSettings]  # role, database


@pytest.fixture(scope="session")
def database_as(stack: Stack) -> DatabaseAs:
    """How a role enters a database, with its real credentials."""

    def settings(role: str, name: str) -> DatabaseSettings:
        port = stack.layout.ports.postgres
        return DatabaseSettings(host="localhost", port=port, name=name, user=role, **credentials(stack, role))

    return settings


def credentials(stack: Stack, user: str) -> dict[str, Path]:
    """A role's or client's certificate."""
    folder = stack.secrets.of(user.split(".")[1]) if user.startswith("svc.") else stack.layout.root / "clients" / user
    return {name: Path(path) for name, path in certificate(folder, user).items()}


@pytest.fixture(scope="session")
def server_tls(stack: Stack) -> tuple[Path, Path, Path]:
    """CA, certificate for localhost, and its key: for servers that tests start themselves."""
    folder = stack.secrets.of("s3")
    return folder / "ca.pem", folder / "server.pem", folder / "server.key"
