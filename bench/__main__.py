"""`./dev bench`: the whole vault on this machine beside what the machine does bare.

Starts a stack of its own in a temporary folder, measures the sections that were asked for, prints each as it is done,
and cleans up.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import uvloop

from bench.figures import Section
from bench.report import console, show, write_json
from bench.rounds import FULL, QUICK, Extent
from bench.sections import SECTIONS
from infra.errors import StackError
from infra.local.programs import MissingProgramError
from infra.local.stack import Stack
from infra.settings import Backend
from trivault import VaultError


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a glance, not a measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure of every round")
    told = parser.parse_args()
    if unknown := set(told.sections) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}; choose from {', '.join(SECTIONS)}")
    chosen = [name for name in SECTIONS if not told.sections or name in told.sections]
    measured: list[Section] = []
    try:
        for backend, names in groupby(chosen, key=lambda name: SECTIONS[name][0]):
            measured += _on_stack(backend, list(names), QUICK if told.quick else FULL)
    except (StackError, MissingProgramError, VaultError) as error:
        sys.exit(f"the benchmark failed: {error}")
    if told.json is not None:
        write_json(told.json, measured)
        console.print(f"\nAll figures: {told.json}")


def _on_stack(backend: Backend, names: Sequence[str], extent: Extent) -> list[Section]:
    """Measure sections on one stack with this backend."""
    with Stack(Path(tempfile.mkdtemp(prefix="trivault-bench-")), backend=backend).temporary() as stack:
        profile = stack.enrol("bench-client")
        measured = []
        for name in names:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                measured.append(runner.run(_measured(name, stack, profile, extent)))
            show(measured[-1])
        return measured


async def _measured(name: str, stack: Stack, profile: Path, extent: Extent) -> Section:
    return await SECTIONS[name][1](stack, profile, extent)


if __name__ == "__main__":
    main()
