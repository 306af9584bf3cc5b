"""The PostgreSQL of a local stack: one cluster, a database and a role per owner (`infra.postgres.render`)."""

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Final

from infra.files import SECRET, write
from infra.local import programs
from infra.local.layout import POSTGRES_USER, Layout
from infra.postgres import render
from infra.provision import Secrets

DATABASES: Final = ("gateway", "keystore", "mapstore")


def owner() -> str:
    """The operating system's user that runs PostgreSQL."""
    return POSTGRES_USER if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def prepare(layout: Layout, told: Secrets) -> None:
    """Make the cluster, and its configuration anew."""
    cluster = layout.postgres / "data"
    if not cluster.exists():
        _as_owner([programs.postgres("initdb"), "--pgdata", str(cluster), *render.INITDB])
    for name in ("ca.pem", "server.pem", "server.key"):
        _give(told.of("postgres") / name, layout.postgres_tls / name)
    _put(cluster / "pg_hba.conf", render.hba(DATABASES, "127.0.0.1/32"))
    _put(cluster / "pg_ident.conf", render.ident(owner()))
    configuration = render.configuration(
        addresses="127.0.0.1", port=layout.ports.postgres, sockets=layout.postgres, tls=layout.postgres_tls
    )
    _put(cluster / "postgresql.auto.conf", configuration)


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
        psql(layout, render.SUPERUSER, render.schema(name))


def psql(layout: Layout, database: str, statements: str) -> str:
    """Run statements as the superuser; what they print, without headers."""
    options = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-"]
    where = ["-h", str(layout.postgres), "-p", str(layout.ports.postgres), "-U", render.SUPERUSER, "-d", database]
    return _as_owner([programs.postgres("psql"), *options, *where], statements)


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
