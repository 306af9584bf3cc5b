"""The commands for whole archives: `ingest` into a manifest, `export` and `verify` from one."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contracts.failures import FailureCode
from trivault.exits import BY_CODE, Exit
from trivault.options import Act, Json, ProfileFile, app, open_vault
from trivault.terminal import Terminal

if TYPE_CHECKING:  # the SDK is imported when a command runs: `trivault --help` need not wait for it
    from trivault import Item
    from trivault.restoring import Verifier

ManifestFile = Annotated[
    Path, typer.Option("--manifest", metavar="FILE", help="JSON lines: name, size, sha256, external_uuid, state.")
]
Ways = Annotated[int, typer.Option("--jobs", min=1, max=32, help="Batches under way at once.")]


@app.command()
def ingest(
    sources: Annotated[
        list[str], typer.Argument(metavar="DIR|FILES|-", help="What to keep; - reads file names (or lines) from stdin.")
    ],
    *,
    manifest: ManifestFile,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted ingest; repeat what failed.")
    ] = False,
    lines: Annotated[
        bool, typer.Option("--lines", help="Each line of the files (JSON lines, CSV) is a record.")
    ] = False,
    jobs: Ways = 3,
    profile: ProfileFile,
    _json: Json = False,
) -> Act:
    """Keep many files, with a manifest of what became of each.

    A directory's files are named relative to it. What cannot be kept is told and the rest goes on; the exit code is
    that of the first such file. Interrupted, even by a power cut, the same command with --resume goes on without
    keeping anything twice. The manifest is what `export` and `verify` work from: keep it safe, and private.
    """

    async def act(terminal: Terminal) -> Exit:
        from trivault.manifest import Manifest  # noqa: PLC0415 - see TYPE_CHECKING above
        from trivault.sources import named  # noqa: PLC0415

        if "-" in sources and len(sources) > 1:
            raise typer.BadParameter("- stands alone: stdin names all files, or holds all lines")
        named([Path(source) for source in sources])
        with Manifest.open(manifest, resume=resume) as journal:
            terminal.hint = "Go on where it ended: the same command with --resume"
            skipped = 0

            def items() -> Iterator["Item"]:
                nonlocal skipped
                for item in _items(sources, lines=lines):
                    if journal.done(item.name):
                        skipped += 1
                    elif not _is(item, manifest):
                        yield item

            tally = Tally(terminal)
            async with (
                open_vault(profile) as vault,
                aclosing(vault.ingest(items(), ways=jobs, journal=journal)) as told,
            ):
                with terminal.counting("ingest", _count(sources, lines=lines)) as count:
                    async for outcome in told:
                        count()
                        tally.add(outcome.name, outcome.size, outcome.code, outcome.reason, again=outcome.unknown)
        return tally.result("stored", skipped=skipped, manifest=manifest)

    return act


def _is(item: "Item", manifest: Path) -> bool:
    """Whether an item is the manifest itself, which changes all the time."""
    return isinstance(item.data, Path) and item.data.name == manifest.name and item.data.samefile(manifest)


def _items(sources: Sequence[str], *, lines: bool) -> Iterator["Item"]:
    """What is to be kept.

    Raises:
        OSError: a file of lines cannot be read.
    """
    from trivault import sources as found  # noqa: PLC0415 - see TYPE_CHECKING above

    if sources == ["-"]:
        with os.fdopen(os.dup(sys.stdin.fileno()), "rb") as stdin:  # apart from what the interpreter closes in the end
            yield from found.lines(stdin, "stdin") if lines else found.listed(stdin)
    elif not lines:
        yield from found.files([Path(source) for source in sources])
    else:
        for name, path in found.named([Path(source) for source in sources]):
            with path.open("rb") as file:
                yield from found.lines(file, name)


def _count(sources: Sequence[str], *, lines: bool) -> int | None:
    """How many items there are to come, if that can be said without reading them."""
    return None if lines or "-" in sources or not sys.stderr.isatty() else sum(1 for _ in _items(sources, lines=False))


@app.command(name="export")
def export_(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="What `ingest` wrote.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; it is made if it is not there.")],
    *,
    jobs: Ways = 3,
    profile: ProfileFile,
    _json: Json = False,
) -> Act:
    """Get all records of a manifest back as files.

    Each is compared with its sha256 before it gets its name. Files that are there already are left alone: the same
    command again goes on where it was interrupted.
    """

    async def act(terminal: Terminal) -> Exit:
        from trivault.restoring import Restorer  # noqa: PLC0415 - see TYPE_CHECKING above

        terminal.hint = "Go on where it ended: the same command again"
        told = await _restore(terminal, "restored", manifest, Restorer(directory), jobs=jobs, profile=profile)
        await asyncio.to_thread(os.sync)
        return told

    return act


@app.command()
def verify(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="What `ingest` wrote.")],
    *,
    jobs: Ways = 3,
    profile: ProfileFile,
    _json: Json = False,
) -> Act:
    """Load all records of a manifest and compare their sha256. Nothing is written."""

    async def act(terminal: Terminal) -> Exit:
        from trivault.restoring import Verifier  # noqa: PLC0415 - see TYPE_CHECKING above

        return await _restore(terminal, "verified", manifest, Verifier(), jobs=jobs, profile=profile)

    return act


async def _restore(terminal: Terminal, done: str, manifest: Path, to: "Verifier", *, jobs: int, profile: Path) -> Exit:
    from trivault.manifest import stored  # noqa: PLC0415 - see TYPE_CHECKING above
    from trivault.restoring import restore  # noqa: PLC0415

    total = await asyncio.to_thread(lambda: sum(1 for _ in stored(manifest)))
    tally = Tally(terminal)
    async with open_vault(profile) as vault, aclosing(restore(vault, manifest, to, jobs)) as told:
        with terminal.counting(done, total) as count:
            async for checked in told:
                count()
                tally.add(checked.name, checked.size, checked.code, checked.reason)
    return tally.result(done, manifest=manifest)


class Tally:
    """Counts items, and says which of them are not as they should be."""

    def __init__(self, terminal: Terminal) -> None:
        """Begin now."""
        self._terminal = terminal
        self._begun = time.monotonic()
        self._done = self._failed = self._bytes = 0
        self._exit = Exit.OK

    def add(self, name: str, size: int, code: FailureCode | None, reason: str, *, again: bool = False) -> None:
        """Count one item; `again` if a later try may tell more."""
        if code is None:
            self._done += 1
            self._bytes += size
            return
        self._failed += 1
        self._exit = self._exit or (Exit.TRY_AGAIN if again else BY_CODE[code])
        self._terminal.item(name, code, reason)

    def result(self, done: str, *, manifest: Path, skipped: int = 0) -> Exit:
        """Print the summary; the exit code of the first item that failed."""
        seconds = time.monotonic() - self._begun
        rate = self._done / seconds
        before = f", {skipped:,} before" if skipped else ""
        text = (
            f"{self._done:,} {done}{before}, {self._failed:,} failed: "
            f"{self._bytes:,} bytes in {seconds:.1f} s ({rate:,.0f}/s)"
        )
        counts = {done: self._done, "skipped": skipped, "failed": self._failed, "bytes": self._bytes}
        self._terminal.result(text, **counts, seconds=round(seconds, 3), manifest=manifest)
        return self._exit
