"""How one gets into PostgreSQL at all: TLS 1.3, a certificate in the role's own name, and its own database."""

import ssl
from pathlib import Path
from typing import Final

import asyncpg
import pytest

from infra.local.stack import Stack
from infra.pki.authority import Authority
from tests.fix_stack import DatabaseAs, credentials
from tests.isolation.impostors import IMPOSTORS, Dress, context
from trivault import Profile

OPEN: Final = "open"
GONE: Final = "hung up"  # in the TLS handshake, before PostgreSQL has a word to say
ROLES: Final = ("svc.gateway", "svc.keystore", "svc.mapstore")
ENTERS: Final = {"svc.gateway": "gateway", "svc.keystore": "keystore", "svc.mapstore": "mapstore"}
DATABASES: Final = ("gateway", "keystore", "mapstore", "postgres", "template1")
NOT_FOR_YOU: Final = "28000"  # invalid_authorization_specification: no rule of pg_hba.conf, or no certificate


async def knock(stack: Stack, tls: ssl.SSLContext | None, role: str, database: str) -> str:
    """Try to enter; `OPEN`, the server's SQLSTATE, or `GONE`."""
    try:
        connection = await asyncpg.connect(
            host="localhost",
            port=stack.layout.ports.postgres,
            user=role,
            database=database,
            ssl=tls or False,
            timeout=10,
        )
    except (ssl.SSLError, ConnectionError, asyncpg.ConnectionDoesNotExistError):
        return GONE
    except asyncpg.PostgresError as error:
        return str(error.sqlstate)
    await connection.close()
    return OPEN


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_enters_its_own_database_and_no_other(stack: Stack, database_as: DatabaseAs, role: str) -> None:
    """The three stores cannot reach each other, nor the gateway any of them."""
    tls = database_as(role, "any").ssl_context()
    answers = {database: await knock(stack, tls, role, database) for database in DATABASES}
    assert answers == {name: OPEN if name == ENTERS[role] else NOT_FOR_YOU for name in DATABASES}


@pytest.mark.parametrize("role", [*ROLES, "postgres"])
@pytest.mark.parametrize("holder", [*ROLES, "svc.cryptor", "svc.cryptor.keystore", "svc.datastore", "alice"])
async def test_another_ones_certificate_is_refused(stack: Stack, alice: Profile, holder: str, role: str) -> None:
    """The common name is the role: who broke into one service, or is a client, is nobody else, nor superuser."""
    assert alice.name == "alice"
    folder = credentials(stack, holder)
    tls = ssl.create_default_context(cafile=folder["ca_file"])
    tls.load_cert_chain(folder["cert_file"], folder["key_file"])
    answer = await knock(stack, tls, role, ENTERS.get(role, "keystore"))
    assert answer == (OPEN if holder == role else NOT_FOR_YOU)


@pytest.mark.parametrize("role", ROLES)
async def test_no_certificate_is_refused(stack: Stack, tmp_path: Path, role: str) -> None:
    """Encrypted, but nobody."""
    assert await knock(stack, context(stack, None, tmp_path), role, ENTERS[role]) == NOT_FOR_YOU


@pytest.mark.parametrize("role", ROLES)
async def test_plaintext_is_refused(stack: Stack, role: str) -> None:
    """There is no rule for it."""
    assert await knock(stack, None, role, ENTERS[role]) == NOT_FOR_YOU


@pytest.mark.parametrize("dress", IMPOSTORS.values(), ids=IMPOSTORS)
async def test_a_certificate_that_is_not_ours_to_connect_with_is_refused(
    stack: Stack, tmp_path: Path, dress: Dress
) -> None:
    """The right name on it helps nobody."""
    ours = Authority.load(stack.secrets.authority)
    tls = context(stack, dress(ours, "svc.keystore"), tmp_path)
    assert await knock(stack, tls, "svc.keystore", "keystore") == GONE


async def test_a_new_certificate_in_the_right_name_opens(stack: Stack, tmp_path: Path) -> None:
    """So that the refusals above are for what they say."""
    pair = Authority.load(stack.secrets.authority).client("svc.keystore")
    assert await knock(stack, context(stack, pair, tmp_path), "svc.keystore", "keystore") == OPEN


async def test_older_tls_is_refused(stack: Stack, database_as: DatabaseAs) -> None:
    """TLS 1.3 and nothing before it."""
    tls = database_as("svc.keystore", "keystore").ssl_context()
    tls.minimum_version = tls.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await knock(stack, tls, "svc.keystore", "keystore") == GONE
