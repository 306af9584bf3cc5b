"""What the `trivault` command prints, for people or (`--json`) for programs.

Results go to stdout, everything else to stderr. `rich` is loaded only when there is a terminal to draw on. Nothing here
talks to a vault.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

from trivault.exits import advice_of

if TYPE_CHECKING:  # `trivault --help` need not wait for the SDK
    from rich.progress import Task

    from contracts.failures import FailureCode
    from trivault.content import Progress
    from trivault.vault import Status

Show = Callable[[Sequence["Status"]], None]


class Terminal:
    """Where one run of the command prints to."""

    def __init__(self, *, as_json: bool) -> None:
        """Print lines of text, or one JSON object per line."""
        self.as_json = as_json
        self.job_id: UUID | None = None  # of the request under way: named if this run ends before it does
        self.hint = ""  # how to go on, if this run ends too early

    def result(self, text: str, **fields: Any) -> None:
        """Print a result on stdout: `text` for people, `fields` for programs."""
        print(json.dumps(fields, default=str) if self.as_json else text, flush=True)  # noqa: T201 - a command's output

    def complain(self, told: dict[str, Any]) -> None:
        """Print `{"error", "reason", "advice"}` on stderr, with the job id if there is one to ask for."""
        if self.job_id is not None:
            told |= {"job_id": str(self.job_id)}
        if self.as_json:
            text = json.dumps(told)
        else:
            reason = f" ({told['reason']})" if told["reason"] else ""
            text = f"trivault: {told['error']}{reason}: {told['advice']}"
            if self.job_id is not None:
                text += f"\nWhat became of it: trivault status {self.job_id}"
            if self.hint:
                text += f"\n{self.hint}"
        print(text, file=sys.stderr, flush=True)  # noqa: T201

    @contextmanager
    def progress(self, label: str) -> Iterator["Progress | None"]:
        """A progress bar on stderr while the context is open; nothing unless that is a terminal."""
        if self.as_json or not sys.stderr.isatty():
            yield None
            return
        from rich.console import Console  # noqa: PLC0415 - only for a terminal
        from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn  # noqa: PLC0415
        from rich.progress import Progress as Bar  # noqa: PLC0415

        columns = TextColumn(label, markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn()
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    @contextmanager
    def counting(self, label: str, total: int | None) -> Iterator[Callable[[], None]]:
        """A progress bar that counts items, with rate and time left; call what is yielded for each of them."""
        if self.as_json or not sys.stderr.isatty():
            yield lambda: None
            return
        from rich.console import Console  # noqa: PLC0415 - only for a terminal
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text  # noqa: PLC0415

        class Rate(ProgressColumn):
            """Items a second."""

            def render(self, task: "Task") -> Text:
                """As a number."""
                return Text(f"{task.finished_speed or task.speed or 0:,.0f}/s")

        columns = TextColumn(label, markup=False), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda: bar.advance(task)

    def item(self, name: str, code: "FailureCode", reason: str) -> None:
        """Print on stderr what became of an item that is not as it should be."""
        told = {"name": name, "error": str(code), "reason": reason, "advice": advice_of(code, reason)}
        why = f" ({reason})" if reason else ""
        text = json.dumps(told) if self.as_json else f"{name}: {code}{why}: {told['advice']}"
        print(_printable(text), file=sys.stderr, flush=True)  # noqa: T201

    def status(self, status: "Status") -> None:
        """Print one job."""
        self.result("  ".join(_cells(status)), **_fields(status))

    @contextmanager
    def live(self) -> Iterator[Show]:
        """Show jobs while they change: a table that is drawn again on a terminal, else a line for each change."""
        if self.as_json or not sys.stdout.isatty():
            yield self._lines()
            return
        from rich.live import Live  # noqa: PLC0415 - only for a terminal

        with Live(auto_refresh=False) as live:
            yield lambda statuses: live.update(_table(statuses), refresh=True)

    def _lines(self) -> Show:
        shown: dict[UUID, Status] = {}

        def show(statuses: Sequence["Status"]) -> None:
            for status in statuses:
                if shown.get(status.job_id) != status:
                    shown[status.job_id] = status
                    self.status(status)

        return show


def _printable(text: str) -> str:
    """File names may hold bytes that are no characters, and control characters that a terminal would obey."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def _fields(status: "Status") -> dict[str, Any]:
    return {
        "job_id": status.job_id,
        "state": status.state,
        "external_uuid": status.external_uuid,
        "code": status.code,
        "reason": status.reason,
        "sealed": status.sealed,
        "done": status.done,
        "total": status.total,
        "outcomes": [outcome.model_dump(mode="json", exclude_none=True) for outcome in status.outcomes],
    }


def _cells(status: "Status") -> tuple[str, str, str]:
    """Job, state, and what came of it."""
    if status.external_uuid is not None:
        outcome = str(status.external_uuid)
    elif status.code is not None:
        outcome = f"{status.code}: {advice_of(status.code, status.reason)}"
    else:
        outcome = f"{status.done:,}/{status.total:,}" if status.total else ""
        if failed := sum(each.code is not None for each in status.outcomes):
            outcome += f", {failed:,} failed"
    return str(status.job_id), f"{status.state:9}", outcome


def _table(statuses: Iterable["Status"]) -> Any:
    from rich.table import Table  # noqa: PLC0415 - only for a terminal

    table = Table("job", "state", "external uuid, or why there is none", box=None)
    for status in statuses:
        table.add_row(*_cells(status))
    return table
