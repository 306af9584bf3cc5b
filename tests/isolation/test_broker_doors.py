"""How one gets into the broker at all: TLS 1.3, a certificate of the private CA for who connects, and nothing else."""

import json
import os
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from infra.enrolment import registry_of
from infra.local.stack import Stack
from infra.pki.authority import Authority
from tests.fix_stack import BrokerAs
from tests.isolation.handshake import GONE, OPEN, knock, mechanisms
from tests.isolation.impostors import IMPOSTORS, Dress, context

ROLE = "svc.gateway"


@pytest.fixture
def port(stack: Stack) -> int:
    """The node's one port for clients."""
    return stack.layout.ports.amqps


@pytest.fixture
def tls(broker_as: BrokerAs) -> ssl.SSLContext:
    """The gateway's real TLS."""
    return broker_as(ROLE, "edge").ssl_context()


def test_the_right_certificate_opens(port: int, tls: ssl.SSLContext) -> None:
    """What all the refusals below are compared with."""
    assert knock(port, "edge", tls) == OPEN


def test_the_node_listens_for_tls_only(stack: Stack, port: int) -> None:
    """By its own account: one port for AMQP over TLS, one for its own tools, both on the loopback interface."""
    listeners = json.loads(stack.rabbitmqctl("status", "--formatter", "json"))["listeners"]
    assert {(each["protocol"], each["interface"], each["port"]) for each in listeners} == {
        ("amqp/ssl", "127.0.0.1", port),
        ("clustering", "127.0.0.1", stack.layout.ports.distribution),
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sees the sockets of processes that are not dumpable")
def test_nothing_else_of_the_stack_listens(stack: Stack) -> None:
    """By the kernel's account: RabbitMQ, its port mapper, PostgreSQL and the services' monitoring, on loopback."""
    ports = stack.layout.ports
    expected = {"rabbitmq": {ports.amqps, ports.distribution}, "epmd": {ports.epmd}, "postgres": {ports.postgres}}
    expected |= {name: {port} for name, port in stack.layout.monitoring.items()}
    for name, (_, pid) in stack.status().items():
        process = psutil.Process(pid)
        sockets = [
            connection.laddr
            for each in (process, *process.children(recursive=True))
            for connection in each.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert {address.port for address in sockets} == expected.get(name, set()), name
        assert {address.ip for address in sockets} <= {"127.0.0.1", "::1"}


def test_plaintext_is_not_understood(port: int) -> None:
    """AMQP without TLS on the TLS port gets no answer that is AMQP's."""
    assert knock(port, "edge", None) == GONE


def test_only_external_is_offered(port: int, tls: ssl.SSLContext) -> None:
    """No PLAIN, no AMQPLAIN, no ANONYMOUS."""
    assert mechanisms(port, tls) == "EXTERNAL"


PASSWORDS = {
    "plain-with-no-password": ("PLAIN", f"\0{ROLE}\0"),
    "plain-with-the-name": ("PLAIN", f"\0{ROLE}\0{ROLE}"),
    "plain-guest": ("PLAIN", "\0guest\0guest"),
    "plain-another": ("PLAIN", "\0svc.cryptor\0"),
    "amqplain": ("AMQPLAIN", ""),
    "anonymous": ("ANONYMOUS", ""),
    "cr-demo": ("RABBIT-CR-DEMO", ROLE),
    "nothing": ("", ""),
}


def test_passwords_are_refused(port: int, tls: ssl.SSLContext) -> None:
    """Even beside a certificate that would do by itself. The node lets each wait for 3 seconds: all at once."""
    with ThreadPoolExecutor(len(PASSWORDS)) as crowd:
        answers = crowd.map(lambda attempt: knock(port, "edge", tls, *attempt), PASSWORDS.values())
    assert dict(zip(PASSWORDS, answers, strict=True)) == dict.fromkeys(PASSWORDS, GONE)


def test_external_believes_the_certificate_and_no_name(port: int, tls: ssl.SSLContext) -> None:
    """Whatever name comes with EXTERNAL, it is the certificate's common name that decides: keystore stays shut."""
    assert knock(port, "keystore", tls, "EXTERNAL", "svc.keystore") == "refused 530"


def test_no_certificate_is_refused(stack: Stack, port: int, tmp_path: Path) -> None:
    """Encrypted, but nobody."""
    assert knock(port, "edge", context(stack, None, tmp_path)).startswith("tls ")


@pytest.mark.parametrize("dress", IMPOSTORS.values(), ids=IMPOSTORS)
def test_a_certificate_that_is_not_ours_to_connect_with_is_refused(
    stack: Stack, port: int, tmp_path: Path, dress: Dress
) -> None:
    """The right name on it helps nobody."""
    ours = Authority.load(stack.secrets.authority)
    assert knock(port, "edge", context(stack, dress(ours, ROLE), tmp_path)).startswith("tls ")


@pytest.mark.parametrize("name", ["guest", "svc.nobody", "SVC.GATEWAY", "svc.gateway ", "nobody"])
def test_a_name_that_is_no_user_is_refused(stack: Stack, port: int, tmp_path: Path, name: str) -> None:
    """Our own CA's certificate in another name: whoever is not a user, `guest` among them, does not get in."""
    pair = Authority.load(stack.secrets.authority).client(name)
    answer = knock(port, "edge", context(stack, pair, tmp_path))
    assert answer == "refused 403"


def test_a_new_certificate_in_the_right_name_opens(stack: Stack, port: int, tmp_path: Path) -> None:
    """So that the refusals above are for what they say."""
    pair = Authority.load(stack.secrets.authority).client(ROLE)
    assert knock(port, "edge", context(stack, pair, tmp_path)) == OPEN


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_1], ids=["1.2", "1.1"])
def test_older_tls_is_refused(port: int, tls: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    """TLS 1.3 and nothing before it."""
    tls.minimum_version, tls.maximum_version = version, version
    assert knock(port, "edge", tls).startswith("tls ")


@pytest.mark.usefixtures("alice", "bob")
def test_there_are_no_other_users_and_vhosts(stack: Stack) -> None:
    """No guest, no default vhost; nobody has a tag, and with it an operator's rights."""
    users = [line.split("\t") for line in stack.rabbitmqctl("list_users", "--no-table-headers").splitlines()]
    roles = {name for name, _ in users if name.startswith("svc.")}
    clients = {client.name for client in registry_of(stack.secrets).clients}
    assert roles == {
        *("svc.gateway", "svc.cryptor", "svc.keystore", "svc.datastore", "svc.mapstore"),
        *("svc.cryptor.keystore", "svc.cryptor.datastore", "svc.cryptor.mapstore"),
    }
    assert {name for name, _ in users} - roles == clients
    assert {tags for _, tags in users} == {"[]"}
    vhosts = stack.rabbitmqctl("list_vhosts", "--no-table-headers").split()
    assert set(vhosts) == {"edge", "keystore", "datastore", "mapstore"}
