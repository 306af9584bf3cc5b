"""What all commands of `trivault` share: the application that they register with, and their common options.

Parsing only chooses an `Act`; `trivault.cli` runs it and deals with how it ends.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trivault.exits import Exit, table
from trivault.terminal import Terminal

if TYPE_CHECKING:  # the SDK is imported when a command runs: `trivault --help` need not wait for it
    from trivault import Vault

Act = Callable[[Terminal], Coroutine[Any, Any, Exit]]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Keep sensitive binary records of up to 52,428,800 bytes in a vault, and get them back.\n\n"
    "To begin: `trivault dump FILE` prints a uuid, and `trivault load UUID -o FILE` brings the record back. The "
    "profile, which says who you are, comes from the vault's operator.\n\n"
    "Results go to stdout, everything else to stderr. With --json both are one JSON object per line; an error is "
    '{"error": code, "reason": check, "advice": what to do}, and names the job_id that it is about.',
    epilog=table(),
)

ProfileFile = Annotated[
    Path,
    typer.Option(
        "--profile", envvar="TRIVAULT_PROFILE", metavar="FILE", help="Your profile, from the vault's operator."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]


def parse(arguments: Sequence[str]) -> Act | int:
    """What the command line asks for; an exit code if that was help.

    Raises:
        UsageError: of typer, with what is wrong.
    """
    command = typer.main.get_command(app)
    chosen: Act | int = command.main(list(arguments) or ["--help"], prog_name="trivault", standalone_mode=False)
    return chosen


@app.callback()
def _several() -> None:
    """Have typer show the commands by name."""


@asynccontextmanager
async def open_vault(profile: Path) -> AsyncIterator["Vault"]:
    """Connect as the profile says."""
    from trivault import Vault  # noqa: PLC0415 - see TYPE_CHECKING above

    async with Vault.open(profile) as vault:
        yield vault
