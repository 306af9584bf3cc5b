"""What `trivault ingest` is pointed at, as named items: the files below directories, named files, or lines.

Names are relative, with `/` between their parts and without `..`: a name can be restored below any directory. Nothing
is read here but lines.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from contracts.failures import FailureCode, PermanentError
from contracts.limits import MAX_BLOB
from trivault.items import Item


class NameClashError(Exception):
    """Two things would have the same name."""


def files(paths: Sequence[Path]) -> Iterator[Item]:
    """Regular files as they were named, and all files below directories, in order of their names.

    With one directory names are relative to it, otherwise to the parent of each path. What is neither file nor
    directory is an item, too: who reads it says why it cannot be kept.

    Raises:
        NameClashError: two paths end in the same name.
    """
    if len(paths) == 1 and paths[0].is_dir():
        yield from _below(paths[0], PurePosixPath())
        return
    for name, path in named(paths):
        if path.is_dir():
            yield from _below(path, PurePosixPath(name))
        else:
            yield Item(name, path)


def named(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """Paths with the last part of each as its name.

    Raises:
        NameClashError: two of them are the same.
    """
    names = [path.resolve().name or "root" for path in paths]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise NameClashError(f"two of the paths are called {twice!r}; name a directory above them instead")
    return list(zip(names, paths, strict=True))


def _below(directory: Path, name: PurePosixPath) -> Iterator[Item]:
    """A link to a file is that file; one to a directory is not followed, for it may lead back here."""
    try:
        with os.scandir(directory) as found:
            inside = sorted(found, key=lambda entry: entry.name)
    except OSError:
        yield Item(str(name), directory)  # reading it will say so
        return
    for entry in inside:
        if entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path), name / entry.name)
        else:
            yield Item(str(name / entry.name), Path(entry.path))


def listed(lines: Iterable[bytes]) -> Iterator[Item]:
    """Files that a list names, one per line; a name that comes again is passed over."""
    seen: set[str] = set()
    for line in lines:
        path = Path(os.fsdecode(line.rstrip(b"\n")))
        name = _relative(path)
        if name not in seen:
            seen.add(name)
            yield Item(name, path)


def _relative(path: Path) -> str:
    """A path's name: relative to the working directory if it is below, to the root otherwise."""
    whole = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links
    try:
        return whole.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return whole.relative_to(whole.anchor).as_posix()


def lines(file: BinaryIO, name: str) -> Iterator[Item]:
    """Every line of a file (JSON lines, CSV) without its line feed; its name is the file's and its number, from 1."""
    number = 0
    while line := file.readline(MAX_BLOB + 2):
        number += 1
        blob = line.removesuffix(b"\n")
        while not line.endswith(b"\n") and (line := file.readline(MAX_BLOB + 2)):
            pass  # the rest of a line that is too large: reading the item refuses it
        yield Item(f"{name}/{number:09}", blob)


def restored(directory: Path, name: str) -> Path:
    """Where a name belongs below a directory.

    Raises:
        PermanentError: `unsafe_name`: it would lead out of it.
    """
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\0" in name:
        raise PermanentError(FailureCode.INVALID_REQUEST, "unsafe_name")
    return directory.joinpath(*parts)
