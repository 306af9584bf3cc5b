"""Many records: rates beside the bare echo, then whole archives by command, with what everybody holds in memory.

Archives are made by the `trivault` command in a process of its own, and every byte that comes back is compared.
"""

import asyncio
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any, Final
from uuid import UUID

from bench.baselines import Caller
from bench.figures import Bound, Comparison, Section
from bench.peers import peer
from bench.processes import Meter
from bench.rounds import IN_FLIGHT, RATE, THROUGHPUT, Extent, Rounds
from bench.scratch import VHOST, scratch_user
from bench.workloads import at_once, timed
from contracts.limits import KIB, MAX_BLOB, MIB
from infra.local.stack import Stack
from trivault import Vault

AIM: Final = 3.0  # times the echo's rate
BEAT: Final = 6_000  # records a second
FLAT_MIB: Final = 64  # that anybody may grow by from the first thousand records to all of them
FEW: Final = 1_000


async def bulk(stack: Stack, profile: Path, extent: Extent) -> Section:
    """1 KiB records in batches against an RPC echo; then archives."""
    section = Section("bulk", "many records at once, directory backend")
    rounds, meter = Rounds(), Meter(stack)
    async with Vault.open(profile) as vault:
        with scratch_user(stack, VHOST), peer("echo", stack):
            async with Caller.open(stack, confirms=False) as caller:
                for _ in range(1 + extent.rounds):
                    await _round(rounds, meter, caller, vault, extent)
    echo = rounds.series("echo", RATE)
    section.comparisons = [
        Comparison(f"{act} of {extent.bulk:,} x 1 KiB", rounds.series(act, RATE), "TLS RPC echo", echo, AIM)
        for act in ("ingest", "export")
    ]
    for act in ("ingest", "export"):
        best = max(rounds.series(act, RATE).values)
        section.bounds.append(Bound(f"{act}, best round (to beat: {BEAT:,})", best, RATE))
    section.bounds += await asyncio.to_thread(_archives, stack, profile, extent)
    section.usages = meter.usages()
    return section


async def _round(rounds: Rounds, meter: Meter, caller: Caller, vault: Vault, extent: Extent) -> None:
    blobs = [os.urandom(KIB) for _ in range(extent.bulk)]
    rate, _ = await at_once(caller.echo, blobs[: 3 * extent.small], IN_FLIGHT)
    rounds.add("echo", rate)
    records: dict[int, UUID] = {}

    async def ingest() -> None:
        async for each in vault.ingest(blobs):
            if each.external_uuid is None:
                raise RuntimeError(f"a record was not kept: {each.code}")
            records[each.index] = each.external_uuid

    with meter.measure("ingest 1 KiB", extent.bulk):
        rounds.add("ingest", extent.bulk / (await timed(ingest()))[0])
    loaded: dict[UUID, bytes] = {}

    async def export() -> None:
        async for each in vault.export([records[at] for at in range(extent.bulk)]):
            loaded[each.external_uuid] = each.data

    with meter.measure("export 1 KiB", extent.bulk):
        rounds.add("export", extent.bulk / (await timed(export()))[0])
    if [loaded[records[at]] for at in range(extent.bulk)] != blobs:
        raise RuntimeError("a record came back changed")


# --- archives ---------------------------------------------------------------------------------------------------------


def _archives(stack: Stack, profile: Path, extent: Extent) -> list[Bound]:
    home = stack.layout.root / "bench-archives"
    home.mkdir()
    try:
        return [*_lines(stack, profile, home, extent), *_files(profile, home, extent)]
    finally:
        rmtree(home)


def _lines(stack: Stack, profile: Path, home: Path, extent: Extent) -> Iterator[Bound]:
    """Small records: the same commands for a few and for many, and how much more memory many take."""
    stack.restart(*stack.services)  # a peak counts from here, also for those who may not set it back
    meter = Meter(stack)
    peaks: dict[int, dict[tuple[str, str], float]] = {}
    for count in (FEW, extent.archive):
        source, manifest, target = home / f"{count}.txt", home / f"{count}.manifest", home / f"{count}"
        with source.open("wb") as file:
            for _ in range(count):
                file.write(os.urandom((KIB - 1) // 2).hex().encode() + b"..\n")  # 1 KiB without its line feed
        acts = {
            "ingest": ["ingest", "--lines", source, "--manifest", manifest],
            "verify": ["verify", manifest],
            "export": ["export", manifest, target],
        }
        peaks[count] = {}
        for act, arguments in acts.items():
            operation = f"{act} {count:,} x 1 KiB"
            with meter.measure(operation, count), _command(profile, *arguments) as told:
                pass
            peaks[count] |= {(act, name): meter.peak_mib(operation, name) for name in stack.services}
            peaks[count][act, "command"] = told["peak_mib"]
            if count > FEW:
                yield Bound(f"trivault {operation}", count / told["seconds"], RATE)
        lines = source.read_bytes().split(b"\n")[:-1]
        back = [(target / source.name / f"{at:09}").read_bytes() for at in range(1, count + 1)]
        if back != lines:
            raise RuntimeError("a line came back changed")
        rmtree(target)
    for key in peaks[FEW]:
        act, name = key
        grown = peaks[extent.archive][key] - peaks[FEW][key]
        if grown > FLAT_MIB / 4 or name == "command":  # the others are told when there is something to tell
            yield Bound(f"{name}, {act}: {FEW:,} to {extent.archive:,} records, growth", grown, "MiB", FLAT_MIB)
    most = max(peaks[extent.archive][key] - peaks[FEW][key] for key in peaks[FEW])
    yield Bound(f"largest growth of any process, {FEW:,} to {extent.archive:,} records", most, "MiB", FLAT_MIB)


def _files(profile: Path, home: Path, extent: Extent) -> Iterator[Bound]:
    """Files of all sizes."""
    source, target, manifest = home / "files", home / "restored", home / "files.manifest"
    source.mkdir()
    sizes = _sizes(extent.files, extent.file_bytes)
    for number, size in enumerate(sizes):
        folder = source / f"{number % 16:02}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number:05}").write_bytes(os.urandom(size))
    name = f"{extent.files:,} files, {sum(sizes) / MIB:,.0f} MiB"
    for act, arguments in {
        "ingest": ["ingest", source, "--manifest", manifest],
        "export": ["export", manifest, target],
    }.items():
        with _command(profile, *arguments) as told:
            yield Bound(f"trivault {act}, {name}", sum(sizes) / MIB / told["seconds"], THROUGHPUT)
    if _hashes(source) != _hashes(target):
        raise RuntimeError("a file came back changed")


def _sizes(count: int, total: int) -> list[int]:
    """Log-uniform sizes from 0 bytes to 50 MiB, both included; the largest are drawn again until they fit the total."""
    draw = random.Random(count)  # noqa: S311 - sizes
    sizes = [0, MAX_BLOB, *(int(MAX_BLOB ** draw.random()) for _ in range(count - 2))]
    while sum(sizes) > total:
        sizes.sort()
        sizes[-2] = int(MAX_BLOB ** draw.random())
    return sizes


def _hashes(folder: Path) -> dict[Path, str]:
    told = {}
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                told[path.relative_to(folder)] = hashlib.file_digest(file, "sha256").hexdigest()
    return told


@contextmanager
def _command(profile: Path, *arguments: object) -> Iterator[dict[str, Any]]:
    """Run the command to its end; its result, and its peak in MiB."""
    argv = [str(Path(sys.executable).with_name("trivault")), *map(str, arguments), "--json", "--profile", str(profile)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:  # noqa: S603 - fixed argv
        if process.stdout is None:
            raise RuntimeError("no pipe")
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{arguments[0]} failed; its errors are above")
    yield {**json.loads(output), "peak_mib": usage.ru_maxrss / KIB}
