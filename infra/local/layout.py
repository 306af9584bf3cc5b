"""Where everything of one local stack is, and on which ports it listens.

PostgreSQL refuses to run as root, and its own user cannot enter other people's folders; sockets need short paths. Both
go to a runtime folder outside the root: `/var/lib` for root, the temporary folder for everybody else.
"""

import hashlib
import json
import os
import pwd
import shutil
import socket
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

from infra.files import private_folder, write_json

POSTGRES_USER: Final = "postgres"


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports of one stack, chosen once."""

    amqps: int
    distribution: int
    epmd: int
    postgres: int
    s3: int

    @classmethod
    def free(cls) -> "Ports":
        """Choose ports that nobody listens on."""
        return cls(*_free(len(fields(cls))))


def _free(count: int) -> list[int]:
    """Ports that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


class Layout:
    """Folders and ports of the stack below `root`."""

    def __init__(self, root: Path) -> None:
        """Describe the stack below `root`; nothing is created."""
        self.root = root.absolute()
        self.etc = self.root / "etc"
        self.logs = self.root / "logs"
        self.targets = self.etc / "prometheus-targets.json"
        self.rabbitmq = self.root / "rabbitmq"
        self.apart = self.root / "brokers"  # below it, one layout per vhost that has a node of its own
        self.objects = self.root / "objects"  # of the directory backend
        self.s3 = self.root / "s3"  # below it, one folder per bucket
        mark = hashlib.sha256(bytes(self.root)).hexdigest()[:12]
        base = Path("/var/lib") if os.geteuid() == 0 else Path(tempfile.gettempdir())
        self.runtime = base / f"trivault-{os.geteuid()}-{mark}"
        self.postgres = self.runtime / "postgres"
        self.postgres_tls = self.runtime / "tls"
        self.supervisor_socket = self.runtime / "supervisor.sock"

    def create(self) -> None:
        """Make the folders; the database's belong to its user."""
        for folder in (
            self.root,
            self.etc,
            self.logs,
            self.rabbitmq,
            self.objects,
            self.s3 / "objects",
            self.postgres_tls,
        ):
            private_folder(folder)
        private_folder(self.postgres)
        if os.geteuid() == 0:
            owner = pwd.getpwnam(POSTGRES_USER)
            self.runtime.chmod(0o711)
            for folder in (self.postgres, self.postgres_tls):
                os.chown(folder, owner.pw_uid, owner.pw_gid)

    def remove(self) -> None:
        """Delete everything, records included."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.rmtree(self.runtime, ignore_errors=True)

    @property
    def ports(self) -> Ports:
        """The ports that were chosen."""
        return Ports(**json.loads((self.etc / "ports.json").read_text()))

    def broker(self, vhost: str) -> "Layout":
        """Where the node of a vhost has its folders and ports: here, unless it has one of its own."""
        own = self.apart / vhost
        return Layout(own) if own.exists() else self

    def choose_ports(self) -> Ports:
        """Choose ports unless that was done."""
        if not (self.etc / "ports.json").exists():
            write_json(self.etc / "ports.json", asdict(Ports.free()))
        return self.ports

    @property
    def monitoring(self) -> dict[str, int]:
        """The monitoring port of every service process."""
        if not self.targets.exists():
            return {}
        told = json.loads(self.targets.read_text())
        return {each["labels"]["process"]: int(each["targets"][0].rpartition(":")[2]) for each in told}

    def choose_monitoring(self, processes: Iterable[str]) -> None:
        """Choose a monitoring port for each that has none. Prometheus reads the file (`file_sd_configs`)."""
        ports = self.monitoring
        added = [name for name in processes if name not in ports]
        ports |= zip(added, _free(len(added)), strict=True)
        told = [{"targets": [f"127.0.0.1:{port}"], "labels": {"process": name}} for name, port in ports.items()]
        write_json(self.targets, told)
