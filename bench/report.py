"""A run's figures for people (aligned tables) and for programs (JSON). Nothing is measured here."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.figures import Bound, Comparison, Section, Series, Usage

console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)


def show(section: Section) -> None:
    """Print one section."""
    console.print(f"\n[bold]{section.title}[/]")
    if section.comparisons:
        console.print(_comparisons(section.comparisons))
    if section.bounds:
        console.print(_bounds(section.bounds))
    if section.usages:
        console.print(_usages(section.usages))


def _table(*columns: str, text: int) -> Table:
    """A plain table; the first `text` columns hold words, all others numbers."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 3, 0, 0))
    for at, column in enumerate(columns):
        table.add_column(column, justify="left" if at < text else "right", no_wrap=True)
    return table


def _comparisons(comparisons: Sequence[Comparison]) -> Table:
    table = _table("", "beside", "vault", "min-max", "bare", "min-max", "unit", "of bare speed", "aim", text=2)
    for each in comparisons:
        ours, bare = _spread(each.ours), _spread(each.baseline)
        aim = "" if each.aim is None else f"{each.aim:.2f} {_verdict(kept=each.ratio >= each.aim)}"
        table.add_row(each.name, each.baseline_name, *ours, *bare, each.ours.unit, f"{each.ratio:.2f}", aim)
    return table


def _spread(series: Series) -> tuple[str, str]:
    return f"{series.median:,.1f}", f"{min(series.values):,.1f}-{max(series.values):,.1f}"


def _bounds(bounds: Sequence[Bound]) -> Table:
    table = _table("", "measured", "unit", "limit", text=1)
    for each in bounds:
        limit = "" if each.limit is None else f"{each.limit:,.1f} {_verdict(kept=each.value <= each.limit)}"
        table.add_row(each.name, f"{each.value:,.1f}", each.unit, limit)
    return table


def _verdict(*, kept: bool) -> str:
    return "yes" if kept else "NO"


def _usages(usages: Sequence[Usage]) -> Table:
    """CPU per operation and peak memory: one row per process, two columns per operation."""
    operations = list(dict.fromkeys(usage.operation for usage in usages))
    found = {(usage.process, usage.operation): usage for usage in usages}
    table = _table("process", *(f"{each}: {what}" for each in operations for what in ("CPU ms", "peak MiB")), text=1)
    for process in dict.fromkeys(usage.process for usage in usages):
        mine = [found[process, operation] for operation in operations]
        table.add_row(
            process, *(text for each in mine for text in (f"{1000 * each.cpu_seconds:,.2f}", f"{each.peak_mib:,.0f}"))
        )
    totals = [sum(usage.cpu_seconds for usage in usages if usage.operation == each) for each in operations]
    table.add_row("all", *(text for total in totals for text in (f"{1000 * total:,.2f}", "")))
    return table


def write_json(file: Path, sections: Sequence[Section]) -> None:
    """Write everything, each round's values included."""
    told = {
        "machine": {
            "cpus": os.cpu_count(),
            "kernel": platform.release(),
            "python": platform.python_version(),
            **{name: version(name) for name in ("aio-pika", "cryptography", "asyncpg", "uvloop")},
        },
        "sections": [section.told() for section in sections],
    }
    file.write_text(json.dumps(told, indent=2) + "\n")
