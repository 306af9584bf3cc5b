"""A client of its own process, so that its memory is the SDK's: `python -m bench.client PROFILE FILE FOLDER`.

Reads lines `dump N` and `load N` from stdin: N at once, from FILE, or into FOLDER what was dumped last. Answers each
with one JSON line.
"""

import asyncio
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from uuid import UUID

import uvloop

from bench.processes import forget_peak, memory_mib
from trivault import Vault


async def _serve(profile: Path, source: Path, folder: Path) -> None:
    async with Vault.open(profile) as vault:
        warm = await vault.dump(b"warm")
        await vault.load(warm)
        idle = memory_mib(os.getpid(), "VmRSS")
        dumped: list[UUID] = []
        print(json.dumps({"idle_mib": idle}), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            act, count = line.split()
            forget_peak(os.getpid())
            began = time.perf_counter()
            if act == "dump":
                dumped = await _dump(vault, source, int(count))
            else:
                await _load(vault, dumped[: int(count)], folder)
            told = {"seconds": time.perf_counter() - began, "peak_mib": memory_mib(os.getpid())}
            if act == "load":
                _compare(source, folder)
            print(json.dumps(told), flush=True)


async def _dump(vault: Vault, source: Path, count: int) -> list[UUID]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(vault.dump(source)) for _ in range(count)]
    return [task.result() for task in tasks]


async def _load(vault: Vault, records: list[UUID], folder: Path) -> None:
    async with asyncio.TaskGroup() as group:
        for record in records:
            group.create_task(vault.load_to(record, folder / record.hex))


def _compare(source: Path, folder: Path) -> None:
    """Every byte came back; the copies go."""
    wanted = _sha256(source)
    for copy in list(folder.iterdir()):
        if _sha256(copy) != wanted:
            sys.exit(f"{copy} differs from {source}")
        copy.unlink()


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(*map(Path, sys.argv[1:4])))
