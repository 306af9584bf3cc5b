"""One vault on one machine: its own RabbitMQ, PostgreSQL and S3 server, one process per worker.

The same definitions, TLS, roles and settings as anywhere else; only the ports and the folder are this stack's own.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

from contracts import topology
from infra import enrolment
from infra.enrolment import EnrolmentError
from infra.errors import StackError
from infra.files import write_json
from infra.local import brokers, database, monitoring, programs
from infra.local.layout import Layout
from infra.local.settings import broker_url, write_settings
from infra.local.supervision import Program, Supervisor, log_file, wait
from infra.provision import SERVICES, Secrets, provision
from infra.rabbitmq import render
from infra.settings import Backend

MODULES: Final = {
    "gateway": "gateway",
    "cryptor": "workers.cryptor",
    "keystore": "workers.keystore",
    "mapstore": "workers.mapstore",
    "datastore": "workers.datastore",
}
REPOSITORY: Final = Path(__file__).parents[2]


class Stack:
    """The stack below one folder."""

    def __init__(
        self,
        root: Path,
        *,
        backend: Backend = "directory",
        cryptors: int = 1,
        separate_brokers: bool = False,
        overrides: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        """Describe a stack; `init` and `up` make it real.

        Args:
            root: its folder.
            backend: where the DataStore keeps objects.
            cryptors: how many Cryptor processes.
            separate_brokers: whether each store's vhost gets a RabbitMQ node of its own; it keeps it.
            overrides: settings to add, per service.
        """
        self.layout = Layout(root)
        self.backend = backend
        self.cryptors = cryptors
        self.separate_brokers = separate_brokers
        self.overrides = overrides or {}
        self.secrets = Secrets(self.layout.root)
        self.supervisor = Supervisor(self.layout)
        self._tied: subprocess.Popen[bytes] | None = None

    # --- setting up -----------------------------------------------------------------------------------------------

    def init(self) -> None:
        """Make folders, secrets and settings; what is there already stays."""
        self.layout.create()
        self.layout.choose_ports()
        self.layout.choose_monitoring(self.services)
        if self.separate_brokers:
            brokers.separate(self.layout)
        provision(self.layout.root)
        write_settings(self.layout, self.secrets, self.backend, self.overrides)
        for node in self.nodes:
            node.prepare(self.secrets)
        database.prepare(self.layout, self.secrets)

    @property
    def nodes(self) -> list[brokers.Node]:
        """The RabbitMQ nodes, the edge's first."""
        return brokers.nodes(self.layout)

    # --- programs -------------------------------------------------------------------------------------------------

    @property
    def services(self) -> list[str]:
        """Names of the service processes."""
        several = [f"cryptor{number}" for number in range(2, self.cryptors + 1)]
        return [*SERVICES, *several]

    def _programs(self) -> list[Program]:
        ports = self.layout.ports
        infrastructure = [
            Program("epmd", [programs.epmd(), "-port", str(ports.epmd), "-address", "127.0.0.1"]),
            *(node.program() for node in self.nodes),
            Program(
                "postgres",
                database.command(self.layout),
                user=database.owner() if os.geteuid() == 0 else None,
                stop_signal="INT",  # fast shutdown
            ),
        ]
        if self.backend == "s3":
            infrastructure.append(self._s3())
        return [*infrastructure, *map(self._service, self.services)]

    def _service(self, name: str) -> Program:
        service = name.rstrip("0123456789")
        command = [sys.executable, "-m", MODULES[service], "--config", str(self.layout.etc / f"{service}.toml")]
        # Several Cryptors share one settings file; a port is each one's own.
        environment = {"TRIVAULT_MONITORING__PORT": str(self.layout.monitoring[name])}
        return Program(name, command, {"PYTHONPATH": str(REPOSITORY), **environment}, priority=10)

    def _s3(self) -> Program:
        folder = self.secrets.of("s3")
        rclone = str(Path(sys.executable).with_name("rclone"))
        tls = ["--cert", str(folder / "server.pem"), "--key", str(folder / "server.key")]
        where = ["--config", "", "--addr", f"localhost:{self.layout.ports.s3}"]
        with_keys = ["/bin/sh", str(Path(__file__).with_name("s3.sh")), str(folder / "auth.csv")]
        return Program("s3", [*with_keys, rclone, "serve", "s3", *where, *tls, str(self.layout.s3)])

    # --- running --------------------------------------------------------------------------------------------------

    def up(self, *, tied: bool = False, services: bool = True) -> None:
        """Start everything that does not run, and return when it is ready.

        Args:
            tied: whether it shall end with this process.
            services: or only what they stand on.

        Raises:
            StackError: something does not come up; the text quotes it.
        """
        self.init()
        if not self.supervisor.running():
            self._tied = self.supervisor.launch(self._programs(), tied=tied)
        names = [node.name for node in self.nodes]
        for name in ("epmd", *names, "postgres", *(["s3"] if self.backend == "s3" else [])):
            self.supervisor.start(name)
        self._wait("postgres", lambda: database.ready(self.layout))
        database.apply_schemas(self.layout)
        if self.backend == "s3":
            self._wait("s3", lambda: _listens(self.layout.ports.s3))
        for node in self.nodes:
            self._wait(node.name, partial(_listens, node.layout.ports.amqps))
        if services:
            self.start(*self.services)

    def start(self, *names: str) -> None:
        """Start services and wait until they are ready."""
        marks = {name: _length(log_file(self.layout, name)) for name in names}
        states = self.supervisor.states()
        for name in names:
            self.supervisor.start(name)
        for name in names:
            if states[name][0] != "RUNNING":
                self._wait(name, partial(self._said_ready, name, marks[name]))

    def stop(self, *names: str) -> None:
        """Stop programs."""
        for name in names:
            self.supervisor.stop(name)

    def restart(self, *names: str) -> None:
        """Stop services, start them again, and wait until they are ready."""
        self.stop(*names)
        self.start(*names)

    def kill(self, name: str) -> None:
        """Kill a service at once (SIGKILL); its supervisor starts it again, and this waits until it is ready."""
        mark = _length(log_file(self.layout, name))
        self.supervisor.signal(name, "KILL")
        self._wait(name, lambda: self._said_ready(name, mark))

    def down(self) -> None:
        """Stop everything."""
        if self.supervisor.running():
            self.supervisor.shut_down()
        if self._tied is not None:
            self._tied.wait(60)

    @contextmanager
    def temporary(self) -> Iterator[Self]:
        """Up while the context is open, tied to this process; then gone, with everything in it."""
        try:
            self.up(tied=True)
            yield self
        finally:
            self.down()
            self.layout.remove()

    def status(self) -> dict[str, tuple[str, int]]:
        """State and process id of every program; empty if the stack is down."""
        return self.supervisor.states() if self.supervisor.running() else {}

    def monitoring(self, name: str, path: str) -> tuple[int, str]:
        """Status and body of a GET on a service's monitoring port.

        Raises:
            OSError: it does not answer.
        """
        return monitoring.fetch(self.layout.monitoring[name], path)

    def _said_ready(self, name: str, mark: int) -> bool:
        with log_file(self.layout, name).open("rb") as log:
            log.seek(mark)
            return b'"service.ready"' in log.read()

    def _wait(self, name: str, condition: Any) -> None:
        try:
            wait(condition, f"{name} is not ready")
        except StackError as error:
            raise StackError(f"{error}; its last lines:\n{self.supervisor.quote(name)}") from None

    # --- using ----------------------------------------------------------------------------------------------------

    @property
    def edge_url(self) -> str:
        """The URL that clients use."""
        return broker_url(self.layout, topology.EDGE)

    def admit(self, name: str) -> None:
        """Refuse to enrol `name` on a node that does not run, or that knows it already.

        Raises:
            StackError: the broker is down.
            EnrolmentError: it has such a user.
        """
        if self.status().get("rabbitmq", ("", 0))[0] != "RUNNING":
            raise StackError("the vault is down: start it with ./dev up, then enrol")
        if name in self.rabbitmqctl("list_users", "--silent").replace("\t", " ").split():
            raise EnrolmentError(f"the broker has a user {name!r} that is no client: choose another name")

    def enrol(self, name: str, *, operator: bool = False, profile: Path | None = None) -> Path:
        """Enrol a client on the running stack; the path of its profile.

        Raises:
            EnrolmentError: the name is refused.
        """
        path = enrolment.enrol(self.secrets, name, url=self.edge_url, operator=operator, profile=profile)
        fragment = self.layout.etc / f"client-{name}.json"
        write_json(fragment, render.client_fragment(name))
        self.rabbitmqctl("import_definitions", str(fragment))
        fragment.unlink()
        return path

    def rabbitmqctl(self, *arguments: str) -> str:
        """Ask the node of the edge something.

        Raises:
            StackError: it refused.
        """
        return self.nodes[0].ctl(*arguments)

    def psql(self, name: str, statements: str) -> str:
        """Run statements in a database as its superuser."""
        return database.psql(self.layout, name, statements)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _length(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
