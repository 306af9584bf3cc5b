"""What the commands say of themselves: every option and argument explained, nothing cut off."""

import argparse
import subprocess
from collections.abc import Iterator

import pytest
from typer.main import get_command

from infra import admin
from tests.command import TRIVAULT
from trivault import archive_commands, commands  # noqa: F401 - they register
from trivault.options import app

COMMANDS = get_command(app).commands  # type: ignore[attr-defined] # a group


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_is_explained(name: str) -> None:
    """Options and arguments alike."""
    assert COMMANDS[name].params
    assert [each.name for each in COMMANDS[name].params if not each.help] == []


def test_every_option_of_the_operators_is_explained() -> None:
    """Of `trivault-admin` and all its commands."""
    told = {action.dest: action.help for parser in parsers(admin._parser()) for action in parser._actions}
    assert {"name", "operator", "dry_run"} <= told.keys()
    assert [dest for dest, text in told.items() if not text and dest != argparse.SUPPRESS] == []


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from parsers(each)


def test_the_overview_begins_with_what_one_begins_with() -> None:
    """`dump` first, every summary whole, the exit codes at the end."""
    done = subprocess.run([TRIVAULT, "--help"], capture_output=True, text=True, timeout=60, check=True)  # noqa: S603
    summaries = done.stdout.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    names = [line.split()[0] for line in summaries]
    assert (names[0], sorted(names)) == ("dump", sorted(COMMANDS))
    assert [line for line in summaries if line.endswith("...")] == []
    assert "Exit codes:" in done.stdout
