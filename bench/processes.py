"""What processes cost: CPU seconds and peak resident memory, read from /proc.

Peaks are the kernel's own high-water marks (VmHWM), set back before each measurement; nothing is sampled. Services are
not dumpable, so only root may set theirs back: for everybody else a peak counts from the start of the process.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

from bench.figures import Usage
from contracts.limits import KIB
from infra.local.stack import Stack

CLIENT: Final = "client"
FORGET_PEAK: Final = "5"  # proc(5), clear_refs: set the high-water mark back to what is resident now


def forget_peak(pid: int) -> None:
    """Set a process's peak back to what it holds now, if we may."""
    with suppress(PermissionError, FileNotFoundError):
        Path(f"/proc/{pid}/clear_refs").write_text(FORGET_PEAK)


def memory_mib(pid: int, field: str = "VmHWM") -> float:
    """Peak resident memory of a process (`VmRSS`: present), in MiB; 0 if it is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / KIB
    return 0.0


class Meter:
    """Adds up what operations cost every program of a stack, and the client that runs in this process."""

    def __init__(self, stack: Stack) -> None:
        """Watch the programs that run now; make a new one after a restart."""
        pids = {name: pid for name, (_, pid) in stack.status().items() if pid and name != "epmd"}
        self._programs = {name: psutil.Process(pid) for name, pid in pids.items()} | {CLIENT: psutil.Process()}
        self._operations: dict[str, int] = {}
        self._cpu: dict[tuple[str, str], float] = {}
        self._peaks: dict[tuple[str, str], float] = {}

    @contextmanager
    def measure(self, operation: str, operations: int) -> Iterator[None]:
        """Charge what happens while the context is open to so many `operation`s."""
        for pid in (each.pid for name in self._programs for each in self._family(name)):
            forget_peak(pid)
        before = {name: self._seconds(name) for name in self._programs}
        yield
        self._operations[operation] = self._operations.get(operation, 0) + operations
        for name, began in before.items():
            key = operation, name
            self._cpu[key] = self._cpu.get(key, 0.0) + self._seconds(name) - began
            peak = max(memory_mib(each.pid) for each in self._family(name))
            self._peaks[key] = max(self._peaks.get(key, 0.0), peak)

    def usages(self) -> list[Usage]:
        """What was measured."""
        return [
            Usage(operation, process, seconds / self._operations[operation], self._peaks[operation, process])
            for (operation, process), seconds in self._cpu.items()
        ]

    def peak_mib(self, operation: str, process: str) -> float:
        """The highest peak of one process during an operation."""
        return self._peaks[operation, process]

    def _family(self, name: str) -> list[psutil.Process]:
        """A program's processes: RabbitMQ and PostgreSQL have several. The client's children are others' affair."""
        program = self._programs[name]
        return [program] if name == CLIENT else [program, *program.children(recursive=True)]

    def _seconds(self, name: str) -> float:
        total = 0.0
        for process in self._family(name):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
                if name != CLIENT:  # children that ended, as PostgreSQL's backends do
                    total += times.children_user + times.children_system
        return total
