"""The sections of the benchmark: what runs beside what, how often, and what the mission aims at.

Baseline and vault take turns within every round, so that a machine that slows down slows both. The first round of each
only warms up and is not counted.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from bench.baselines import Caller, RawS3
from bench.bulk import bulk
from bench.counting import counting
from bench.figures import MILLISECONDS, Bound, Comparison, Section
from bench.peers import peer
from bench.processes import Meter
from bench.rounds import IN_FLIGHT, RATE, THROUGHPUT, Extent, Rounds
from bench.scratch import VHOST, scratch_user
from bench.workloads import at_once, one_by_one, timed
from contracts.limits import KIB, MAX_BLOB, MIB
from infra.local.stack import REPOSITORY, Stack
from infra.settings import Backend
from trivault import Vault

LARGE_AT_ONCE: Final = 16
CRYPTOR_MIB: Final = 512
SERVICE_MIB: Final = 256
SDK_MIB: Final = 64
IDLE_MESSAGES: Final = 10


# --- 1 KiB ------------------------------------------------------------------------------------------------------------


async def small(stack: Stack, profile: Path, extent: Extent) -> Section:
    """1 KiB records against an RPC echo, and the messages that they take."""
    section = Section("small", "1 KiB records, directory backend")
    rounds, meter = Rounds(), Meter(stack)
    async with Vault.open(profile) as vault:
        with scratch_user(stack, VHOST), peer("echo", stack):
            async with Caller.open(stack, confirms=False) as caller:
                for _ in range(1 + extent.rounds):
                    await _small_round(rounds, meter, caller, vault, extent)
        section.bounds = await _messages(stack, vault)
    echo, latency = rounds.series("echo", RATE), rounds.series("echo alone", MILLISECONDS)
    bare = "TLS RPC echo"
    section.comparisons = [
        Comparison(f"dump, {IN_FLIGHT} in flight", rounds.series("dump", RATE), bare, echo, 0.25),
        Comparison(f"load, {IN_FLIGHT} in flight", rounds.series("load", RATE), bare, echo, 0.30),
        Comparison("dump, one at a time, p50", rounds.series("dump alone", MILLISECONDS), bare, latency),
        Comparison("load, one at a time, p50", rounds.series("load alone", MILLISECONDS), bare, latency),
    ]
    section.usages = meter.usages()
    return section


async def _small_round(rounds: Rounds, meter: Meter, caller: Caller, vault: Vault, extent: Extent) -> None:
    blob = os.urandom(KIB)
    records: list[UUID]
    rate, _ = await at_once(caller.echo, [blob] * (3 * extent.small), IN_FLIGHT)
    rounds.add("echo", rate)
    with meter.measure("dump 1 KiB", extent.small):
        rate, records = await at_once(vault.dump, [blob] * extent.small, IN_FLIGHT)
    rounds.add("dump", rate)
    with meter.measure("load 1 KiB", extent.small):
        rate, loaded = await at_once(vault.load, records, IN_FLIGHT)
    rounds.add("load", rate)
    if any(each != blob for each in loaded):
        raise RuntimeError("a record came back changed")
    rounds.add("echo alone", await one_by_one(caller.echo, [blob] * extent.alone))
    rounds.add("dump alone", await one_by_one(vault.dump, [blob] * extent.alone))
    rounds.add("load alone", await one_by_one(vault.load, records[: extent.alone]))


async def _messages(stack: Stack, vault: Vault) -> list[Bound]:
    """Broker messages per 1 KiB dump, counted."""
    blob = os.urandom(KIB)
    async with counting(stack) as tap:
        alone, many = 5, 10 * IN_FLIGHT
        await one_by_one(vault.dump, [blob] * alone)
        idle = (await tap.taken()).total() / alone
        await at_once(vault.dump, [blob] * many, IN_FLIGHT)
        busy = (await tap.taken()).total() / many
    return [
        Bound("broker messages per dump, one at a time", idle, "", IDLE_MESSAGES),
        Bound(f"broker messages per dump, {IN_FLIGHT} in flight", busy, "", idle),
    ]


# --- 50 MiB -----------------------------------------------------------------------------------------------------------


async def large(stack: Stack, profile: Path, extent: Extent) -> Section:
    """50 MiB records against a relay over two hops."""
    section = Section("large", "50 MiB records, directory backend")
    with scratch_user(stack, VHOST), peer("sink", stack), peer("relay", stack):
        async with Caller.open(stack, confirms=True) as caller, Vault.open(profile) as vault:
            rounds, meter = await _large_rounds(stack, vault, extent, {"relay": caller.relay})
    relay = rounds.series("relay", THROUGHPUT)
    bare = "two-hop TLS relay"
    section.comparisons = [
        Comparison("dump", rounds.series("dump", THROUGHPUT), bare, relay, 0.7),
        Comparison("load", rounds.series("load", THROUGHPUT), bare, relay, 0.7),
    ]
    section.usages = meter.usages()
    return section


async def s3(stack: Stack, profile: Path, extent: Extent) -> Section:
    """50 MiB records against the S3 server that keeps them."""
    section = Section("s3", "50 MiB records, S3 backend")
    async with RawS3.open(stack) as raw, Vault.open(profile) as vault:
        baselines: dict[str, Callable[[bytes], Awaitable[object]]] = {"put": raw.put, "get": lambda _: raw.get()}
        rounds, meter = await _large_rounds(stack, vault, extent, baselines)
    section.comparisons = [
        Comparison("dump", rounds.series("dump", THROUGHPUT), "multipart PUT", rounds.series("put", THROUGHPUT), 0.65),
        Comparison("load", rounds.series("load", THROUGHPUT), "GET", rounds.series("get", THROUGHPUT), 0.65),
    ]
    section.usages = meter.usages()
    return section


async def _large_rounds(
    stack: Stack, vault: Vault, extent: Extent, baselines: dict[str, Callable[[bytes], Awaitable[object]]]
) -> tuple[Rounds, Meter]:
    rounds, meter, blob = Rounds(), Meter(stack), os.urandom(MAX_BLOB)

    def note(name: str, seconds: float) -> None:
        rounds.add(name, len(blob) / MIB / seconds)

    for _ in range(1 + extent.large_rounds):
        for name, baseline in baselines.items():
            note(name, (await timed(baseline(blob)))[0])
        with meter.measure("dump 50 MiB", 1):
            seconds, record = await timed(vault.dump(blob))
        note("dump", seconds)
        with meter.measure("load 50 MiB", 1):
            seconds, loaded = await timed(vault.load(record))
        note("load", seconds)
        if loaded != blob:
            raise RuntimeError("a record came back changed")
    return rounds, meter


# --- memory -----------------------------------------------------------------------------------------------------------


async def memory(stack: Stack, profile: Path, extent: Extent) -> Section:
    """Peaks while a client, in a process of its own, dumps and loads large files."""
    del extent  # a peak needs no repetition
    return await asyncio.to_thread(_memory, stack, profile)


def _memory(stack: Stack, profile: Path) -> Section:
    count = LARGE_AT_ONCE
    section = Section("memory", f"{count} files of 50 MiB at once, directory backend: peak resident memory")
    stack.restart(*stack.services)  # a peak counts from here, also for those who may not set it back
    meter = Meter(stack)
    folder = stack.layout.root / "bench-loaded"
    folder.mkdir(exist_ok=True)
    source = stack.layout.root / "bench-source"
    source.write_bytes(os.urandom(MAX_BLOB))
    with _client(profile, source, folder) as ask:
        idle = ask("")["idle_mib"]
        section.bounds.append(Bound("SDK, idle (whole process)", idle, "MiB"))
        for act in ("dump", "load"):
            alone = ask(f"{act} 1")["peak_mib"] - idle
            section.bounds.append(Bound(f"SDK, {act} of one file, beyond idle", alone, "MiB", SDK_MIB))
        for act in ("dump", "load"):
            with meter.measure(f"{act} {count} x 50 MiB", count):
                told = ask(f"{act} {count}")
            name = f"{act} {count} x 50 MiB"
            section.bounds += [
                Bound(f"Cryptor, {name}", meter.peak_mib(name, "cryptor"), "MiB", CRYPTOR_MIB),
                *(
                    Bound(f"{service}, {name}", meter.peak_mib(name, service), "MiB", SERVICE_MIB)
                    for service in ("gateway", "keystore", "datastore", "mapstore")
                ),
                Bound(f"SDK per file, {name}, beyond idle", (told["peak_mib"] - idle) / count, "MiB", SDK_MIB),
                Bound(f"{name}, all together", count * MAX_BLOB / MIB / told["seconds"], THROUGHPUT),
            ]
    section.usages = [usage for usage in meter.usages() if usage.process != "client"]
    return section


@contextmanager
def _client(profile: Path, source: Path, folder: Path) -> Iterator[Callable[[str], dict[str, Any]]]:
    """A client process that answers one line at a time."""
    argv = ["setpriv", "--pdeathsig", "TERM", "--", sys.executable, "-m", "bench.client"]
    argv += list(map(str, (profile, source, folder)))
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, cwd=REPOSITORY) as process:  # noqa: S603 - fixed argv
        stdin, stdout = process.stdin, process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("no pipes")

        def ask(line: str) -> dict[str, Any]:
            if line:
                stdin.write(line + "\n")
                stdin.flush()
            answer = stdout.readline()
            if not answer:
                raise RuntimeError("the client failed; its error is above")
            told: dict[str, Any] = json.loads(answer)
            return told

        yield ask


Measure = Callable[[Stack, Path, Extent], Awaitable[Section]]
SECTIONS: Final[dict[str, tuple[Backend, Measure]]] = {
    "small": ("directory", small),
    "bulk": ("directory", bulk),
    "large": ("directory", large),
    "memory": ("directory", memory),
    "s3": ("s3", s3),
}
