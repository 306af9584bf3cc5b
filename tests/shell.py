"""What a document shows in a console: commands, typed into one shell, and whether what comes of them is what it says.

Knows nothing of which documents there are, or on which machine the shell runs.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

PROMPT: Final = "$ "
END: Final = "--- end of command"  # that no command prints

# What differs from one run to the next. The order matters: a uuid has digits, a time has colons.
MASKS: Final = (
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<UUID>"),
    (re.compile(r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{8,}\b"), "<HEX>"),
    (re.compile(r"(?<!exit code )\b\d[\d,.:]*"), "<N>"),
    (re.compile(r"[ \t]+"), " "),  # columns are as wide as their numbers
)
PLACEHOLDER: Final = re.compile(r"<(UUID|JOB)>")
UUID_LINE: Final = re.compile(r"^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.MULTILINE)


@dataclass(slots=True)
class Command:
    """One command of a document."""

    line: int  # counted from 1 within its block
    text: str
    shown: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """What was typed, without the remark behind it."""
        return re.sub(r"\s+#.*", "", self.text)


def commands(block: str) -> Iterator[Command]:
    """The commands of a console block; a line that ends with a backslash goes on in the next.

    Raises:
        ValueError: it begins with something else than a command.
    """
    current: Command | None = None
    for number, line in enumerate(block.splitlines(), 1):
        if line.startswith(PROMPT):
            if current is not None:
                yield current
            current = Command(number, line.removeprefix(PROMPT))
        elif current is None:
            raise ValueError("a console block begins with a command")
        elif current.text.endswith("\\") and not current.shown:
            current.text += f"\n{line}"
        else:
            current.shown.append(line)
    if current is not None:
        yield current


def masked(output: str) -> str:
    """Output without what differs from one run to the next."""
    for pattern, instead in MASKS:
        output = pattern.sub(instead, output)
    return "\n".join(line.strip() for line in output.strip().splitlines())


class Shell:
    """One bash that commands are typed into; variables and exports stay, as they do for people."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """Start it in `folder`; `with` ends it."""
        self._folder = folder
        argv = ["/bin/bash", "--noprofile", "--norc", "-o", "pipefail"]
        self._bash = subprocess.Popen(  # noqa: S603 - fixed argv
            argv,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._uuid = "no uuid was printed yet"

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._bash.communicate()

    def type(self, command: Command) -> None:
        """Run a command of a document; a placeholder stands for the uuid that was printed last.

        Raises:
            AssertionError: it did not exit with 0, or printed something else than the document shows.
        """
        typed = PLACEHOLDER.sub(self._uuid, command.text)
        code, output = self._run(typed)
        output = output.replace(f"{self._folder}/", "")  # documents name files as people do who stand in it
        assert code == 0, f"exit code {code}: {typed}\n{output}"
        if command.shown:
            assert masked(output) == masked("\n".join(command.shown)), f"another output: {typed}\n{output}"
        for uuid in UUID_LINE.findall(output):
            self._uuid = uuid

    def _run(self, typed: str) -> tuple[int, str]:
        """Exit code and output of one command, which may not read what is typed next."""
        if self._bash.stdin is None or self._bash.stdout is None:
            raise RuntimeError("bash has no pipes")
        self._bash.stdin.write(f"{{ {typed}\n}} </dev/null; printf '\\n%s %d\\n' '{END}' $?\n")
        self._bash.stdin.flush()
        printed: list[str] = []
        for line in self._bash.stdout:
            if line.startswith(END):
                return int(line.removeprefix(END)), "".join(printed)
            printed.append(line)
        raise AssertionError(f"bash ended: {typed}\n{''.join(printed)}")
