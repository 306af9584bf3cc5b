"""Supervision of a local stack's processes by supervisord, over its socket.

Every program runs under `setpriv --pdeathsig`, so that nothing outlives the supervisor, however it ends.
"""

import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from supervisor.xmlrpc import SupervisorTransport

from infra.errors import StackError
from infra.files import write
from infra.local.layout import Layout

START_SECONDS: Final = 60
POLL_SECONDS: Final = 0.05
QUOTED_LINES: Final = 15


@dataclass(frozen=True, slots=True)
class Program:
    """A process to keep running."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str | None = None
    stop_signal: str = "TERM"
    folder: str = "/"
    priority: int = 1  # what services stand on stops after them


def configuration(layout: Layout, programs: Sequence[Program]) -> str:
    """Supervisord's configuration."""
    sections = [
        "[supervisord]",
        f"logfile = {layout.logs / 'supervisord.log'}",
        f"pidfile = {layout.runtime / 'supervisord.pid'}",
        "silent = true",
        "nocleanup = true",
        "[unix_http_server]",
        f"file = {layout.supervisor_socket}",
        "chmod = 0600",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
    ]
    return "\n".join([*sections, *(line for program in programs for line in _section(layout, program))]) + "\n"


def _section(layout: Layout, program: Program) -> list[str]:
    environment = ",".join(f'{key}="{_escape(value)}"' for key, value in program.environment.items())
    command = " ".join(f'"{_escape(part)}"' for part in ("setpriv", "--pdeathsig", "TERM", "--", *program.command))
    return [
        f"[program:{program.name}]",
        f"command = {command}",
        f"environment = {environment}",
        f"directory = {program.folder}",
        "autostart = false",
        "autorestart = true",
        "startsecs = 0",
        f"priority = {program.priority}",
        f"stopsignal = {program.stop_signal}",
        "stopwaitsecs = 30",
        "killasgroup = true",
        "umask = 077",
        "redirect_stderr = true",
        f"stdout_logfile = {log_file(layout, program.name)}",
        "stdout_logfile_maxbytes = 0",
        *([f"user = {program.user}"] if program.user else []),
    ]


def _escape(value: str) -> str:
    return value.replace("%", "%%").replace('"', '\\"')


def log_file(layout: Layout, name: str) -> Path:
    """Where a program's output goes."""
    return layout.logs / f"{name}.log"


class Supervisor:
    """A running supervisord."""

    def __init__(self, layout: Layout) -> None:
        """Talk to the supervisor of `layout`, whether or not it runs."""
        self._layout = layout

    def _call(self, method: str, *arguments: Any) -> Any:
        """Call one method of supervisord's XML-RPC interface, on a connection of its own."""
        transport = SupervisorTransport(None, None, f"unix://{self._layout.supervisor_socket}")
        try:
            with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        finally:
            if transport.connection is not None and transport.connection.sock is not None:
                transport.connection.sock.close()

    def running(self) -> bool:
        """Whether there is one."""
        try:
            self._call("getState")
        except OSError:
            return False
        return True

    def launch(self, programs: Sequence[Program], *, tied: bool) -> subprocess.Popen[bytes] | None:
        """Start supervisord with these programs, none of them started yet.

        Args:
            programs: what it looks after.
            tied: whether it shall end with this process; otherwise it stays.

        Raises:
            StackError: it does not come up.
        """
        file = self._layout.etc / "supervisord.conf"
        write(file, configuration(self._layout, programs))
        argv = [sys.executable, "-W", "ignore", "-m", "supervisor.supervisord", "-c", str(file)]
        process = None
        if tied:
            prefix = ["setpriv", "--pdeathsig", "TERM", "--"]
            process = subprocess.Popen([*prefix, *argv, "-n"])  # noqa: S603 - fixed argv
        else:
            subprocess.run(argv, check=True)  # noqa: S603 - fixed argv
        wait(self.running, "supervisord does not answer")
        return process

    def start(self, name: str) -> None:
        """Start a program; one that runs is left alone."""
        try:
            self._call("startProcess", name, False)
        except xmlrpc.client.Fault as fault:
            if "ALREADY_STARTED" not in fault.faultString:
                raise StackError(f"{name} does not start: {fault.faultString}\n{self.quote(name)}") from None

    def stop(self, name: str) -> None:
        """Stop a program and wait for it."""
        try:
            self._call("stopProcess", name)
        except xmlrpc.client.Fault as fault:
            if "NOT_RUNNING" not in fault.faultString:
                raise StackError(f"{name} does not stop: {fault.faultString}") from None

    def signal(self, name: str, signal: str) -> None:
        """Send a signal (KILL, STOP, CONT, ...) to a program."""
        self._call("signalProcess", name, signal)

    def states(self) -> dict[str, tuple[str, int]]:
        """State and process id of every program."""
        return {told["name"]: (told["statename"], told["pid"]) for told in self._call("getAllProcessInfo")}

    def shut_down(self) -> None:
        """Stop everything, the supervisor last."""
        pid = self._call("getPID")
        self._call("shutdown")
        wait(lambda: not Path(f"/proc/{pid}").exists() or _zombie(pid), "supervisord does not end")

    def quote(self, name: str) -> str:
        """The last lines that a program printed."""
        file = log_file(self._layout, name)
        lines = file.read_text(errors="replace").splitlines() if file.exists() else []
        return "\n".join(f"    {name}: {line}" for line in lines[-QUOTED_LINES:])


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait(condition: Any, complaint: str, seconds: float = START_SECONDS) -> None:
    """Poll until `condition()` holds.

    Raises:
        StackError: it does not, for `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise StackError(complaint)
        time.sleep(POLL_SECONDS)
