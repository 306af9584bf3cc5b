"""`./dev demo`: the main job from nothing, on this machine, in a folder that is gone afterwards.

Starts a whole vault, enrols a client, dumps and loads a small and a 50 MiB file, compares, and shows what each store
holds for the record: ids, sizes and first bytes, nothing of which is the plaintext.
"""

import asyncio
import hashlib
import os
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from contracts.limits import MAX_BLOB
from infra.errors import StackError
from infra.local.programs import MissingProgramError
from infra.local.stack import Stack
from trivault import Vault, VaultError

SMALL = b"Patient 4711: blood group AB negative. Allergic to penicillin. DO NOT GIVE.\n"
SHOWN = 12  # bytes of each piece

console = Console(highlight=False, width=None if sys.stdout.isatty() else 118)


def main() -> None:
    """Run the demo; exit 0 only if every byte came back."""
    stack = Stack(Path(tempfile.mkdtemp(prefix="trivault-demo-")))
    began = time.monotonic()
    console.print("[bold]1.[/] Starting RabbitMQ, PostgreSQL, gateway, Cryptor and three stores (mutual TLS) ...")
    try:
        with stack.temporary(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            profile = stack.enrol("alice")
            console.print(f"   ready after {time.monotonic() - began:.1f} s; client [bold]alice[/] enrolled\n")
            runner.run(_demo(stack, profile))
    except (StackError, MissingProgramError, VaultError) as error:
        sys.exit(f"the demo failed: {error}")


async def _demo(stack: Stack, profile: Path) -> None:
    async with Vault.open(profile) as vault:
        small = stack.layout.root / "small.txt"
        large = stack.layout.root / "large.bin"
        await asyncio.to_thread(small.write_bytes, SMALL)
        await asyncio.to_thread(large.write_bytes, os.urandom(MAX_BLOB))
        for number, file in enumerate((small, large), start=2):
            await _round_trip(number, stack, vault, file)
        console.print("\n[bold]4.[/] Every byte came back. Cleaning up.")


async def _round_trip(number: int, stack: Stack, vault: Vault, file: Path) -> None:
    size = file.stat().st_size  # noqa: ASYNC240 - one stat(2)
    console.print(f"[bold]{number}.[/] {file.name}: {size:,} bytes, SHA-256 {_sha256(file)[:16]}…")
    began = time.monotonic()
    external_uuid = await vault.dump(file)
    dumped = time.monotonic()
    target = file.with_suffix(".loaded")
    await vault.load_to(external_uuid, target)
    loaded = time.monotonic()
    if _sha256(target) != _sha256(file):
        sys.exit(f"{target} differs from {file}")
    console.print(
        f"   dump -> {external_uuid} in {dumped - began:.2f} s; load in {loaded - dumped:.2f} s; SHA-256 equal"
    )
    console.print(_holdings(stack, str(external_uuid)))


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _holdings(stack: Stack, external_uuid: str) -> Table:
    """What each store has of one record, read from under it."""
    data_id, key_id, share = _row(
        stack,
        "mapstore",
        f"SELECT data_store_uuid, key_store_uuid, map_share FROM map WHERE external_uuid = '{external_uuid}'",  # noqa: S608 - our own uuid
    )
    key, iv = _row(stack, "keystore", f"SELECT key, iv FROM keys WHERE key_store_uuid = '{key_id}'")  # noqa: S608
    (found,) = stack.layout.objects.rglob(f"{data_id.replace('-', '')}*")
    table = Table("store", "holds", "bytes", "begins with", title="What each store holds of it", title_justify="left")
    table.add_row("MapStore", f"external_uuid {external_uuid}", "", "")
    table.add_row("", f"-> data_store_uuid {data_id}", "", "")
    table.add_row("", f"-> key_store_uuid {key_id}", "", "")
    table.add_row("", "map_share", *_shown(bytes.fromhex(share[2:])))
    table.add_row("KeyStore", f"{key_id}: key (wrapped)", *_shown(bytes.fromhex(key[2:])))
    table.add_row("", "iv", *_shown(bytes.fromhex(iv[2:])))
    table.add_row("DataStore", f"{data_id}: object", *_shown(found.read_bytes()))
    return table


def _row(stack: Stack, database: str, query: str) -> list[str]:
    return stack.psql(database, query).split("|")


def _shown(piece: bytes) -> tuple[str, str]:
    return f"{len(piece):,}", piece[:SHOWN].hex(" ", 4)


if __name__ == "__main__":
    main()
