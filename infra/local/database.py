"""The PostgreSQL of a local stack: one cluster, a database and a role per owner, certificates instead of passwords.

A role may enter its own database only, over TLS 1.3, with the certificate that carries its name. The superuser exists
on the socket alone, for the operating system's user that owns the cluster.
"""

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Final

from infra.files import SECRET, write
from infra.local import programs
from infra.local.layout import POSTGRES_USER, Layout
from infra.provision import Secrets

DATABASES: Final = ("gateway", "keystore", "mapstore")
SCHEMAS: Final = Path(__file__).parents[1] / "postgres"
SUPERUSER: Final = "postgres"


def owner() -> str:
    """The operating system's user that runs PostgreSQL."""
    return POSTGRES_USER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def prepare(layout: Layout, told: Secrets) -> None:
    """Make the cluster, and its configuration anew."""
    cluster = layout.postgres / "data"
    if not cluster.exists():
        options = ["--username", SUPERUSER, "--auth", "reject", "--encoding", "UTF8", "--locale", "C"]
        _as_owner([programs.postgres("initdb"), "--pgdata", str(cluster), "--no-instructions", *options])
    for name in ("ca.pem", "server.pem", "server.key"):
        _give(told.of("postgres") / name, layout.postgres_tls / name)
    _put(cluster / "pg_hba.conf", _hba())
    _put(cluster / "pg_ident.conf", f"owner {owner()} {SUPERUSER}\n")
    _put(cluster / "postgresql.auto.conf", _configuration(layout))


def command(layout: Layout) -> list[str]:
    """How to run the server in the foreground."""
    return [programs.postgres("postgres"), "-D", str(layout.postgres / "data")]


def ready(layout: Layout) -> bool:
    """Whether it takes connections."""
    probe = [programs.postgres("pg_isready"), "-q", "-h", str(layout.postgres), "-p", str(layout.ports.postgres)]
    return subprocess.run(probe, check=False).returncode == 0  # noqa: S603 - fixed argv


def apply_schemas(layout: Layout) -> None:
    """Create roles, databases and tables where they are not there yet."""
    psql(layout, "postgres", "REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC")
    for name in DATABASES:
        role = f"svc.{name}"
        if role not in psql(layout, "postgres", "SELECT rolname FROM pg_roles").splitlines():
            psql(layout, "postgres", f'CREATE ROLE "{role}" LOGIN')
        if name not in psql(layout, "postgres", "SELECT datname FROM pg_database").splitlines():
            psql(layout, "postgres", f"CREATE DATABASE {name}")
            psql(layout, "postgres", f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
            psql(layout, "postgres", f'GRANT CONNECT ON DATABASE {name} TO "{role}"')
        psql(layout, name, (SCHEMAS / f"{name}.sql").read_text())


def psql(layout: Layout, database: str, statements: str) -> str:
    """Run statements as the superuser; what they print, without headers."""
    options = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"]
    where = ["-h", str(layout.postgres), "-p", str(layout.ports.postgres), "-U", SUPERUSER, "-d", database]
    return _as_owner([programs.postgres("psql"), *options, *where], statements)


def _hba() -> str:
    rules = [
        "local all postgres peer map=owner",
        *(f'hostssl {name} "svc.{name}" 127.0.0.1/32 cert' for name in DATABASES),
    ]
    return "".join(f"{rule}\n" for rule in rules)


def _configuration(layout: Layout) -> str:
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": layout.ports.postgres,
        "unix_socket_directories": layout.postgres,
        "ssl": "on",
        "ssl_min_protocol_version": "TLSv1.3",
        "ssl_ca_file": layout.postgres_tls / "ca.pem",
        "ssl_cert_file": layout.postgres_tls / "server.pem",
        "ssl_key_file": layout.postgres_tls / "server.key",
        "log_min_messages": "warning",
        "log_min_error_statement": "panic",  # statements carry keys: none of them belongs in a log
        "log_error_verbosity": "terse",
        "log_parameter_max_length_on_error": 0,
    }
    return "".join(f"{key} = '{value}'\n" for key, value in settings.items())


def _give(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    target.chmod(SECRET)
    _own(target)


def _put(path: Path, text: str) -> None:
    write(path, text)
    _own(path)


def _own(path: Path) -> None:
    if os.geteuid() == 0:
        entry = pwd.getpwnam(POSTGRES_USER)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def _as_owner(argv: list[str], stdin: str = "") -> str:
    """Run a program as the cluster's owner.

    Raises:
        RuntimeError: it failed, with what it said.
    """
    if os.geteuid() == 0:
        argv = ["setpriv", f"--reuid={POSTGRES_USER}", f"--regid={POSTGRES_USER}", "--init-groups", "--", *argv]
    done = subprocess.run(  # noqa: S603 - fixed argv
        argv, input=stdin, capture_output=True, text=True, check=False, cwd="/"
    )
    if done.returncode != 0:
        raise RuntimeError(f"{Path(argv[-1]).name} failed: {done.stderr.strip()}")
    return done.stdout.strip()
