"""What the documents show is what happens: their commands and Python examples, in order, and what they print.

They run on a vault of their own, made in the `.trivault` of a scratch folder by the code of `./dev up`, because one of
the documents destroys it. The tools of a real machine (`systemctl`, `sudo -u postgres`, `rabbitmqctl`) are played by
scripts that do the same things to this vault.
"""

import ast
import asyncio
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from inspect import iscoroutine
from pathlib import Path
from typing import Final

import pytest
from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser

from infra.files import write
from infra.local import brokers, database, programs
from infra.local.stack import REPOSITORY, Stack
from infra.postgres import render
from tests.fix_node import Node
from tests.shell import Command, Shell, commands

DOCUMENTS: Final = (*sorted(REPOSITORY.glob("*.md")), *sorted(REPOSITORY.glob("docs/*.md")))
SCANS: Final = 40  # files

# Commands (glob patterns) that this test does not run: why, and what is done in their place.
ELSEWHERE: Final[Mapping[str, tuple[str, str]]] = {
    "./dev demo": ("makes a vault of its own: tests/acceptance/test_dev.py runs it", "true"),
    "./dev up": ("this vault is up: tests/acceptance/test_dev.py runs it", "true"),
    "./dev test*": ("runs this test", "true"),
    "./dev check": (".ci/run runs it, beside the tests", "true"),
    'grep -h "$JOB" *': ("wants a job, and lines at debug: tests/documents/test_observability.py runs it", "true"),
    "npm ci *": ("the fixture `node` has done it, once for all tests", "true"),
    "docker *": ("needs an engine: tests/compose/run", "true"),
    "trivault ingest scans --manifest scans.jsonl": (
        "is killed at a moment of its own choosing: tests/acceptance/test_archives.py kills ten; here it keeps a part",
        "trivault ingest scans/*0.dcm --manifest scans.jsonl",
    ),
}


class Machine:
    """A scratch folder with a vault in it, and what a shell needs to use it."""

    def __init__(self, folder: Path) -> None:
        """Fill `folder` with what the documents take for granted."""
        self.folder = folder
        self.stack = Stack(folder / ".trivault")
        self._tools = folder / "tools"
        self._tools.mkdir()
        (folder / ".venv").symlink_to(sys.prefix)
        for name in ("infra", "examples"):
            (folder / name).symlink_to(REPOSITORY / name)
        for name in ("README.md", "scan.dcm", "patients.csv"):
            (folder / name).write_bytes((REPOSITORY / "README.md").read_bytes())
        (folder / "scans").mkdir()
        for number in range(SCANS):
            (folder / "scans" / f"{number}.dcm").write_bytes(os.urandom(2_000))

    def prepare(self) -> None:
        """Enrol the client, and write the tools; the vault is up."""
        self.stack.enrol("me")
        layout = self.stack.layout
        node = brokers.nodes(layout)[0].environment()
        postgres = Path(programs.postgres("psql")).parent
        owner = f"setpriv --reuid={database.owner()} --regid={database.owner()} --init-groups --"
        self._tool("rabbitmqctl", f"exec {_assigned(node)} {programs.rabbitmq('rabbitmqctl')} -q " + '"$@"')
        self._tool(
            "sudo",
            '[ "$1 $2" = "-u postgres" ] || exit 2',
            "shift 2; cd /",
            f"export PGHOST={layout.postgres} PGPORT={layout.ports.postgres} PGUSER={render.SUPERUSER}",
            f'PATH={postgres}:$PATH exec {owner if os.geteuid() == 0 else ""} "$@"',
        )
        self._tool(
            "systemctl",
            "action=$1; shift",
            f'exec supervisorctl -s unix://{layout.supervisor_socket} $action "${{@#trivault-}}" >/dev/null',
        )

    def _tool(self, name: str, *lines: str) -> None:
        write(self._tools / name, "\n".join(["#!/bin/bash", *lines, ""]), 0o700)

    @property
    def environment(self) -> dict[str, str]:
        """Of a shell in the folder."""
        path = os.pathsep.join([str(self._tools), str(Path(sys.executable).parent), os.environ["PATH"]])
        profile = ".trivault/clients/me/profile.toml"
        return {"PATH": path, "HOME": str(self.folder), "LANG": "C.UTF-8", "TRIVAULT_PROFILE": profile}


def _assigned(environment: Mapping[str, str]) -> str:
    return "env " + " ".join(shlex.quote(f"{name}={value}") for name, value in environment.items())


@pytest.fixture(scope="module")
def machine(node: Node) -> Iterator[Machine]:  # noqa: ARG001 - the README's commands need it
    """A vault that documents may do anything to."""
    machine = Machine(Path(tempfile.mkdtemp(prefix="trivault-")))
    try:
        with machine.stack.temporary():
            machine.prepare()
            yield machine
    finally:
        shutil.rmtree(machine.folder)


def follow(document: Path, machine: Machine) -> None:
    """Do everything that a document shows.

    Raises:
        AssertionError: something else came of it.
    """
    with Shell(machine.folder, machine.environment) as shell:

        def console(example: Example) -> None:
            for command in commands(example.parsed):
                try:
                    shell.type(here(command))
                except AssertionError as error:
                    raise AssertionError(f"{document.name}:{example.line + command.line}: {error}") from None

        parsers = (CodeBlockParser("console", console), CodeBlockParser("python", python))
        for example in Document.parse(str(document), *parsers).examples():
            example.evaluate()


def here(command: Command) -> Command:
    """The command, or what is done in its place."""
    instead = (typed for pattern, (_, typed) in ELSEWHERE.items() if fnmatchcase(command.name, pattern))
    typed = next(instead, None)
    return command if typed is None else Command(command.line, typed)


def python(example: Example) -> None:
    """Run a Python example as `python -m asyncio` would: `await` needs no function around it."""
    code = compile(example.parsed, example.path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(code, example.namespace)  # noqa: S307 - our own documents
    if iscoroutine(running):
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            runner.run(running)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_document_shows_what_happens(document: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command exits with 0 and prints what is shown, but for ids, hashes, numbers and columns."""
    monkeypatch.chdir(machine.folder)
    follow(document, machine)


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        ("console\n$ trivault dump README.md\n$ trivault laod <UUID>\n", "wrong.md:4: exit code 2"),
        ("console\n$ trivault load <UUID> -o copy\n", "wrong.md:3: exit code 2"),  # no uuid was printed
        ("console\n$ trivault dump README.md\ndumped\n", "wrong.md:3: another output"),
        ('console\n$ (exit 4) || echo "exit code $?"\nexit code 5\n', "wrong.md:3: another output"),
        ("console\n$ systemctl stop trivault-keystroe\n", "exit code"),
        ("console\n$ ./dev lock\n", "exit code 127"),  # cannot run here, and nobody said so
        ("python\nassert await Vault\n", "Vault"),
    ],
)
def test_a_wrong_document_fails(
    block: str, complaint: str, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command with a slip, a placeholder out of nowhere, another output, an example that raises."""
    monkeypatch.chdir(machine.folder)
    wrong = tmp_path / "wrong.md"
    wrong.write_text(f"# Wrong\n```{block}```\n")
    with pytest.raises((AssertionError, NameError), match=complaint):
        follow(wrong, machine)


def test_no_command_hides() -> None:
    """In a fence of another name a command would not be run; and what is excused is there."""
    shown = {str(document): document.read_text() for document in DOCUMENTS}
    assert [name for name, text in shown.items() if re.search(r"```(bash|sh|shell|pycon)\b", text)] == []
    names = [Command(0, typed).name for text in shown.values() for typed in re.findall(r"^\$ (.*)", text, re.MULTILINE)]
    assert [pattern for pattern in ELSEWHERE if not any(fnmatchcase(name, pattern) for name in names)] == []
