"""What a PostgreSQL cluster of a vault is told: who may enter, how it listens, its roles, databases and tables.

A role enters its own database only, over TLS 1.3, with the certificate that carries its name. The superuser exists on
the socket alone. Nothing here runs a program.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

SUPERUSER: Final = "postgres"
INITDB: Final = f"--username={SUPERUSER} --auth=reject --encoding=UTF8 --locale=C --no-instructions".split()


def hba(databases: Iterable[str], peers: str) -> str:
    """`pg_hba.conf`; `peers` is an address range, as that file has it."""
    rules = [
        f"local all {SUPERUSER} peer map=owner",
        *(f'hostssl {name} "svc.{name}" {peers} cert' for name in databases),
    ]
    return "".join(f"{rule}\n" for rule in rules)


def ident(owner: str) -> str:
    """`pg_ident.conf`: which user of the operating system is the superuser."""
    return f"owner {owner} {SUPERUSER}\n"


def configuration(*, addresses: str, port: int, sockets: Path, tls: Path, **more: object) -> str:
    """`postgresql.conf`.

    Args:
        addresses: that it listens on.
        port: of its listeners.
        sockets: directory of the superuser's socket.
        tls: directory with `ca.pem`, `server.pem`, `server.key`.
        more: settings to add.
    """
    settings = {
        "listen_addresses": addresses,
        "port": port,
        "unix_socket_directories": sockets,
        "ssl": "on",
        "ssl_min_protocol_version": "TLSv1.3",
        "ssl_ca_file": tls / "ca.pem",
        "ssl_cert_file": tls / "server.pem",
        "ssl_key_file": tls / "server.key",
        "log_min_messages": "warning",
        "log_min_error_statement": "panic",  # statements carry keys: none of them belongs in a log
        "log_error_verbosity": "terse",
        "log_parameter_max_length_on_error": 0,
        **more,
    }
    return "".join(f"{key} = '{value}'\n" for key, value in settings.items())


def schema(name: str) -> str:
    """For psql: a service's role, database and tables, as far as they are not there yet."""
    tables = Path(__file__).with_name(f"{name}.sql").read_text()
    return f"""\
SELECT 'CREATE ROLE "svc.{name}" LOGIN'
 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'svc.{name}') \\gexec
SELECT 'CREATE DATABASE {name}'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{name}') \\gexec
REVOKE ALL ON DATABASE {name} FROM PUBLIC;
GRANT CONNECT ON DATABASE {name} TO "svc.{name}";
\\connect {name}
{tables}"""  # noqa: S608 - our own names
