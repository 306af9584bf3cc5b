"""docs/architecture.md names what is there: files, functions, job states, import rules."""

import ast
import re
import tomllib
from pathlib import Path
from typing import Final

import pytest

from contracts.edge import State
from infra.local.stack import REPOSITORY

PAGE: Final = (REPOSITORY / "docs/architecture.md").read_text()
PLACES: Final = sorted(set(re.findall(r"`([\w/]+\.py)` `([\w.]+)`", PAGE)))


def functions(file: Path) -> set[str]:
    """What a module defines: functions by name, methods by class and name."""
    module = ast.parse(file.read_text())
    classes = [node for node in module.body if isinstance(node, ast.ClassDef)]
    methods = {f"{each.name}.{node.name}" for each in classes for node in each.body if isinstance(node, _FUNCTIONS)}
    return methods | {node.name for node in module.body if isinstance(node, _FUNCTIONS)}


_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


@pytest.mark.parametrize(("file", "name"), PLACES)
def test_a_function_is_where_the_page_says(file: str, name: str) -> None:
    """`file` `function`."""
    assert name in functions(REPOSITORY / file)


def test_the_paths_are_told() -> None:
    """The page has not lost its tables."""
    assert len(PLACES) > 30


def test_the_states_are_all_there_are() -> None:
    """`unknown` is no state of a job, but an answer."""
    (diagram,) = re.findall(r"stateDiagram-v2\n(.*?)```", PAGE, re.DOTALL)
    ends = set(re.findall(r"(\w+) --> \[\*\]", diagram))
    assert set(re.findall(r"[a-z]+(?= -->)|(?<=--> )[a-z]+", diagram)) == set(State) - {State.UNKNOWN}
    assert ends == {state for state in State if state.terminal}


def test_the_import_rules_are_those_of_the_linter() -> None:
    """By their names, in their order."""
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rules = PAGE.partition("| rule (import-linter")[2]
    assert re.findall(r"^\| ([^|]+) \| [^|]+ \|$", rules, re.MULTILINE) == [each["name"] for each in contracts]
