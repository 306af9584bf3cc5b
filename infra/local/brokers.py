"""The RabbitMQ nodes of a local stack: one for all vhosts, or one more for each store's.

A node knows its own vhosts and their users only. It does not know what runs on it.
"""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from contracts import topology
from contracts.topology import Vhost
from infra import enrolment
from infra.errors import StackError
from infra.files import private_folder, write, write_json
from infra.local import programs
from infra.local.layout import Layout
from infra.local.supervision import Program
from infra.provision import Secrets
from infra.rabbitmq import render


@dataclass(frozen=True, slots=True)
class Node:
    """One RabbitMQ node."""

    name: str  # of its program
    layout: Layout  # its folders and ports; the stack's own, if it is the only node
    vhosts: Sequence[Vhost]
    epmd: int  # Erlang's port mapper, which all nodes of a stack share

    def prepare(self, told: Secrets) -> None:
        """Write its definitions, roles and clients in them, and its configuration."""
        clients = [client.name for client in enrolment.registry_of(told).clients]
        write_json(self.layout.etc / "definitions.json", render.definitions(self.vhosts, clients))
        configuration = render.configuration(
            port=self.layout.ports.amqps,
            address="127.0.0.1",
            tls=told.of("rabbitmq"),
            definitions_file=self.layout.etc / "definitions.json",
        )
        write(self.layout.etc / "rabbitmq.conf", configuration)
        write(self.layout.etc / "enabled_plugins", "[rabbitmq_auth_mechanism_ssl].\n")

    def program(self) -> Program:
        """How to run it."""
        return Program(self.name, [programs.rabbitmq("rabbitmq-server")], self.environment())

    def ctl(self, *arguments: str) -> str:
        """Ask it something.

        Raises:
            StackError: it refused.
        """
        argv: Sequence[str] = [programs.rabbitmq("rabbitmqctl"), "-q", *arguments]
        environment = self.environment()
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, cwd="/")  # noqa: S603 - fixed argv
        if done.returncode != 0:
            raise StackError(f"rabbitmqctl {arguments[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def environment(self) -> dict[str, str]:
        """The whole environment of the node and of its tools: nothing of a node that the system itself has."""
        ports, folder = self.layout.ports, self.layout.rabbitmq
        return {
            "HOME": str(folder),
            "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": f"trivault{ports.amqps}@localhost",
            "RABBITMQ_DIST_PORT": str(ports.distribution),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.layout.logs),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.layout.etc / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.layout.etc / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_PID_FILE": str(folder / "rabbitmq.pid"),
            "ERL_EPMD_PORT": str(self.epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            # Loopback only; and no busy waiting, which would take a core from everybody else on this machine.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} "
            "+sbwt none +sbwtdcpu none +sbwtdio none",
        }


def separate(layout: Layout) -> None:
    """Give every vhost of a store a node of its own, from now on."""
    private_folder(layout.apart)
    for store in topology.STORES:
        own = Layout(layout.apart / store)
        for folder in (own.root, own.etc, own.logs, own.rabbitmq):
            private_folder(folder)
        own.choose_ports()


def nodes(layout: Layout) -> list[Node]:
    """The nodes of a stack whose ports were chosen; the one with the edge, which is all there may be, first."""
    epmd = layout.ports.epmd
    apart = [vhost for vhost in topology.VHOSTS if layout.broker(vhost.name) is not layout]
    here = [vhost for vhost in topology.VHOSTS if vhost not in apart]
    return [
        Node("rabbitmq", layout, here, epmd),
        *(Node(f"rabbitmq-{vhost.name}", layout.broker(vhost.name), [vhost], epmd) for vhost in apart),
    ]
