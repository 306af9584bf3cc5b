"""Types for settings that name files: the service starts only if each is there, is readable, and holds what it should.

A file with a secret must be its owner's alone, and nobody else may write any of them: a registry or a CA that others
replace is as bad as a key that they read. No message quotes the path or the content: a secret may have been pasted
in the path's place, and the option that is wrong is named by whoever reads the settings.
"""

import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator

from contracts.failures import VaultError

OTHERS_USE: Final = 0o077  # group and everybody
OTHERS_WRITE: Final = 0o022


def _mode(path: Path, flags: int) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    try:
        return os.fstat(descriptor).st_mode
    finally:
        os.close(descriptor)


def _checked(path: Path, *, private: bool, folder: bool) -> Path:
    mode = _mode(path, os.O_DIRECTORY if folder else os.O_NONBLOCK)  # a pipe would keep us waiting
    if stat.S_ISDIR(mode) and not folder:
        raise ValueError("is a directory; a file is wanted")
    if private and mode & OTHERS_USE:
        raise ValueError(f"group or others may use it, but it is secret: chmod {'700' if folder else '600'}")
    if mode & OTHERS_WRITE:
        raise ValueError("group or others may change it: chmod go-w")
    return path


ReadableFile = Annotated[Path, AfterValidator(partial(_checked, private=False, folder=False))]
PrivateFile = Annotated[Path, AfterValidator(partial(_checked, private=True, folder=False))]
Folder = Annotated[Path, AfterValidator(partial(_checked, private=False, folder=True))]
PrivateFolder = Annotated[Path, AfterValidator(partial(_checked, private=True, folder=True))]


def holds(what: str, read: Callable[[Path], object]) -> AfterValidator:
    """Have a file read once by who will use it, so that a bad one is named with all other bad settings.

    Args:
        what: it should hold, with its article.
        read: reads it, and raises `ValueError` or `VaultError` if it holds something else.
    """

    def check(path: Path) -> Path:
        try:
            read(path)
        except (ValueError, VaultError):
            raise ValueError(f"does not hold {what}") from None
        return path

    return AfterValidator(check)
