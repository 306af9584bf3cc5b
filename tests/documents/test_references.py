"""What a Markdown document names exists: relative links and their anchors, paths of this repository, and tests."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT: Final = Path(__file__).parents[2]
MARKDOWN: Final = MarkdownIt("commonmark").enable("table")

EXTERNAL: Final = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
PATH: Final = re.compile(r"(?:\./)?(\w[\w.*-]*)/[\w.*/-]*")  # may be a glob; the first part is a group
SOURCE: Final = re.compile(r".*\.(?:json|md|py|sh|sql|toml|txt|ya?ml)")
LABEL: Final = re.compile(r"trivault/[a-z-]+/v\d+")  # of docs/format.md: looks like a path and is none
TEST: Final = re.compile(r"(tests/[\w/]+\.py)::(\w+)")


def documents(root: Path) -> list[Path]:
    """Every document but what tools have put into hidden folders and `node_modules`."""
    folders = [each for each in root.iterdir() if each.is_dir() and not each.name.startswith(".")]
    below = [path for folder in folders for path in folder.rglob("*.md") if "node_modules" not in path.parts]
    return sorted([*root.glob("*.md"), *below])


def problems(document: Path, root: Path) -> list[str]:
    """Everything that a document names and that is not there."""
    text = document.read_text()
    found: list[str] = []
    for token in inline(MARKDOWN.parse(text)):
        target = token.attrGet("href") or token.attrGet("src")
        if isinstance(target, str) and not EXTERNAL.match(target) and not link_holds(document, unquote(target), root):
            found.append(target)
        if token.type == "code_inline" and not path_holds(document, token.content, root):
            found.append(token.content)
    return [*found, *(f"{path}::{name}" for path, name in TEST.findall(text) if name not in defined_in(root / path))]


def inline(tokens: list[Token]) -> Iterator[Token]:
    """What stands inside paragraphs, headings and table cells; not what is in code blocks."""
    for token in tokens:
        yield from token.children or ()


def link_holds(document: Path, target: str, root: Path) -> bool:
    """Whether a relative link leads to a file of the repository, and to a heading in it if it names one."""
    name, _, anchor = target.partition("#")
    file = (document.parent / name).resolve() if name else document
    return file.exists() and file.is_relative_to(root.resolve()) and (not anchor or anchor in anchors(file))


@cache
def anchors(file: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    if file.suffix != ".md":
        return set()
    given: set[str] = set()
    seen: Counter[str] = Counter()
    for opening, heading in pairwise(MARKDOWN.parse(file.read_text())):
        if opening.type == "heading_open":
            text = "".join(token.content for token in heading.children or ())
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            given.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return given


def path_holds(document: Path, code: str, root: Path) -> bool:
    """Whether code that is a path, by its first folder or its suffix, leads somewhere: from the root or from here."""
    path = PATH.fullmatch(code.partition("::")[0])
    if path is None or LABEL.fullmatch(code):
        return True
    ours = (root / path[1]).is_dir() or SOURCE.fullmatch(path[0])
    return not ours or any(any(start.glob(path[0])) for start in (root, document.parent))


@cache
def defined_in(file: Path) -> set[str]:
    """The tests of one module."""
    if not file.is_file():
        return set()
    nodes = ast.parse(file.read_text()).body
    functions = (node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {name for name in functions if name.startswith("test_")}


@pytest.mark.parametrize("document", documents(ROOT), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_exists(document: Path) -> None:
    """Else: mend the document, or what it promised."""
    assert problems(document, ROOT) == []


def test_every_document_is_read() -> None:
    """Those at the root, those below it, and those deeper."""
    names = {str(path.relative_to(ROOT)) for path in documents(ROOT)}
    assert {"README.md", "docs/format.md", "docs/adr/README.md"} <= names


def write(root: Path, text: str) -> Path:
    """A small repository with one document in question."""
    for name, content in {
        "docs/other.md": "# A heading, with `code`\n\n## Twice\n\n## Twice\n",
        "tests/unit/test_it.py": "async def test_that() -> None: ...\n\n\ndef helper() -> None: ...\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    document = root / "docs" / "page.md"
    document.write_text(text)
    return document


@pytest.mark.parametrize(
    "text",
    [
        "[a](other.md) [b](../docs/other.md#a-heading-with-code) [c](other.md#twice-1) [d](#here)\n\n# Here",
        "[away](https://example.org/nothing.md) ![](other.md)",
        "`docs/`, `docs/other.md`, `./docs/*.md`, `tests/unit/test_it.py::test_that`",
        "tests/unit/test_it.py::test_that",
        "`application/json` `trivault/data/v1` `a/b` `up.<client>.<job>` `docs/other.md and more`",
        "```\n`docs/gone.md` [a](gone.md)\n```",
    ],
)
def test_a_reference_that_holds_is_not_complained_of(tmp_path: Path, text: str) -> None:
    """Nor is what only looks like one."""
    (tmp_path / "trivault").mkdir()
    assert problems(write(tmp_path, text), tmp_path) == []


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("[a](gone.md)", "gone.md"),
        ("| a |\n|---|\n| [a](gone.md) |", "gone.md"),
        ("![](gone.png)", "gone.png"),
        ("[a](other.md#nowhere)", "other.md#nowhere"),
        ("[a](other.md#twice-2)", "other.md#twice-2"),
        ("[a](#nowhere)", "#nowhere"),
        ("[a](../../outside.md)", "../../outside.md"),
        ("`docs/gone.md`", "docs/gone.md"),
        ("`docs/*.py`", "docs/*.py"),
        ("`gone/`, `gone/module.py`", "gone/module.py"),
        ("`tests/unit/test_it.py::test_gone`", "tests/unit/test_it.py::test_gone"),
        ("`tests/unit/test_it.py::helper`", "tests/unit/test_it.py::helper"),
        ("```\ntests/unit/test_gone.py::test_that\n```", "tests/unit/test_gone.py::test_that"),
    ],
)
def test_a_broken_reference_is_found(tmp_path: Path, text: str, broken: str) -> None:
    """Each kind, and nothing beside it."""
    (tmp_path.parent / "outside.md").write_text("not ours")
    assert problems(write(tmp_path, text), tmp_path) == [broken]
