"""The commands for single records and jobs: what they accept (typer), and what they do with a `Vault`.

Plaintext that cannot be read twice
(stdin, pipes) is kept in memory, never in a temporary file.
"""

import asyncio
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final
from uuid import UUID, uuid4

import typer

from contracts.failures import FailureCode, PermanentError, TransientError
from contracts.limits import MAX_BLOB
from trivault.exits import BY_CODE, Exit
from trivault.options import Act, Json, ProfileFile, app, open_vault
from trivault.terminal import Terminal

if TYPE_CHECKING:  # the SDK is imported when a command runs: `trivault --help` need not wait for it
    from trivault import Status, Vault

FIRST_PAUSE: Final = 0.25  # seconds between two looks of `watch`; then twice as long each time
LONGEST_PAUSE: Final = 5.0
UNANSWERED: Final = 5  # looks in a row without an answer (20 s each) after which `watch` gives up

Source = Annotated[str, typer.Argument(metavar="FILE", help="What to keep; - is stdin.")]
JobId = Annotated[
    UUID | None,
    typer.Option(
        metavar="UUID",
        help="Idempotency key: the same one with the same content is the same record. Default: a new one.",
    ),
]
Jobs = Annotated[list[UUID], typer.Argument(metavar="JOB...", help="Job ids, as `submit` prints them.")]


# --- dump, submit -----------------------------------------------------------------------------------------------------


@app.command()
def dump(file: Source, *, job_id: JobId = None, profile: ProfileFile, _json: Json = False) -> Act:
    """Keep a file and print its external uuid. That is printed when the record is safe in all three stores."""

    async def act(terminal: Terminal) -> Exit:
        with _opened(file) as data:
            async with open_vault(profile) as vault:
                job = terminal.job_id = job_id or uuid4()
                with terminal.progress("dump") as progress:
                    external_uuid = await vault.dump(data, job_id=job, progress=progress)
        terminal.result(str(external_uuid), external_uuid=external_uuid, job_id=job)
        return Exit.OK

    return act


@app.command()
def submit(file: Source, *, job_id: JobId = None, profile: ProfileFile, _json: Json = False) -> Act:
    """Hand a file over and print its job id. The vault answers for it then; `status` tells the rest."""

    async def act(terminal: Terminal) -> Exit:
        with _opened(file) as data:
            async with open_vault(profile) as vault:
                job = terminal.job_id = job_id or uuid4()
                with terminal.progress("submit") as progress:
                    await vault.submit(data, job_id=job, progress=progress)
        terminal.result(str(job), job_id=job)
        return Exit.OK

    return act


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO | bytes]:
    """A regular file, open; anything else (stdin, pipes, devices) read into memory, up to one byte beyond the limit.

    Raises:
        OSError: it cannot be read.
        PermanentError: `blob_too_large`, before anything was sent.
    """
    with nullcontext(sys.stdin.buffer) if file == "-" else Path(file).open("rb") as opened:
        here = os.fstat(opened.fileno())
        data = opened if stat.S_ISREG(here.st_mode) else opened.read(MAX_BLOB + 1)
        if (len(data) if isinstance(data, bytes) else here.st_size - data.tell()) > MAX_BLOB:
            raise PermanentError(FailureCode.BLOB_TOO_LARGE)
        yield data


# --- load -------------------------------------------------------------------------------------------------------------


@app.command()
def load(
    external_uuid: Annotated[UUID, typer.Argument(metavar="UUID", help="What `dump` printed.")],
    *,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to, mode 0600, replaced if it exists; - is stdout."),
    ] = None,
    profile: ProfileFile,
    _json: Json = False,
) -> Act:
    """Get a record back. A file appears under its name when it is whole and verified, and not before."""

    async def act(terminal: Terminal) -> Exit:
        if output is None and sys.stdout.isatty():
            raise typer.BadParameter("a record is binary: name a file (-o FILE), or -o - to have it on the terminal")
        if output in {None, "-"}:
            if terminal.as_json:
                raise typer.BadParameter("--json and the record cannot share stdout: name a file (-o FILE)")
            async with open_vault(profile) as vault:
                blob = await vault.load(external_uuid)
            sys.stdout.buffer.write(blob)
            sys.stdout.buffer.flush()
            return Exit.OK
        target = _target(Path(output or ""))
        async with open_vault(profile) as vault:
            with terminal.progress("load") as progress:
                await vault.load_to(external_uuid, target, progress=progress)
        size = target.stat().st_size
        terminal.result(f"{target}: {size:,} bytes", external_uuid=external_uuid, file=target, size=size)
        return Exit.OK

    return act


def _target(path: Path) -> Path:
    """The file that will be written, links followed.

    Raises:
        BadParameter: it is a device, pipe or folder, which a rename would replace.
    """
    target = path.resolve()
    if target.exists() and not target.is_file():
        raise typer.BadParameter(f"{path} is no regular file; use -o - and redirect stdout")
    return target


# --- status, watch ----------------------------------------------------------------------------------------------------


@app.command()
def status(jobs: Jobs, *, profile: ProfileFile, _json: Json = False) -> Act:
    """Tell how jobs are, one line each. Exits 5 if the vault does not know one of them."""

    async def act(terminal: Terminal) -> Exit:
        async with open_vault(profile) as vault:
            told = await vault.status(jobs)
        for each in told:
            terminal.status(each)
        return Exit.NOT_FOUND if any(each.state == "unknown" for each in told) else Exit.OK

    return act


@app.command()
def watch(jobs: Jobs, *, profile: ProfileFile, _json: Json = False) -> Act:
    """Show jobs until all have ended. Exits as the first one of them that did not succeed."""

    async def act(terminal: Terminal) -> Exit:
        async with open_vault(profile) as vault:
            with terminal.live() as show:
                pause, told = FIRST_PAUSE, await _look(vault, jobs)
                show(told)
                while not all(map(_ended, told)):
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LONGEST_PAUSE)
                    told = await _look(vault, jobs)
                    show(told)
        return next((code for code in map(_outcome, told) if code), Exit.OK)

    return act


async def _look(vault: "Vault", jobs: Sequence[UUID]) -> list["Status"]:
    """How jobs are now; a vault that restarts is given time to come back.

    Raises:
        TransientError: it does not.
    """
    for _ in range(UNANSWERED - 1):
        with suppress(TransientError):
            return await vault.status(list(dict.fromkeys(jobs)))
        await asyncio.sleep(1)
    return await vault.status(list(dict.fromkeys(jobs)))


def _ended(status: "Status") -> bool:
    return status.state.terminal or status.state == "unknown" or status.code is not None


def _outcome(status: "Status") -> Exit:
    """How a job that has ended went. An end that nobody has sealed is an altered answer."""
    if status.outcomes:  # of a batch, the first item that failed
        return next((BY_CODE[each.code] for each in status.outcomes if each.code is not None), Exit.OK)
    if status.external_uuid is not None:
        return Exit.OK
    if status.state == "unknown":
        return Exit.NOT_FOUND
    return BY_CODE[status.code or FailureCode.INTEGRITY_FAILED]
