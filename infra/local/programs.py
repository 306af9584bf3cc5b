"""Where the programs of other projects are on this machine, or what to install."""

import os
import shutil
from pathlib import Path


class MissingProgramError(Exception):
    """A program is not installed; the text says how to get it."""


def find(name: str, *folders: str, package: str) -> str:
    """The path of `name`, looked for in `folders` (newest version first) and on the PATH.

    Raises:
        MissingProgramError: with what to install.
    """
    for folder in folders:
        base, pattern = folder.split("*", 1) if "*" in folder else (folder, "")
        found = sorted(Path(base).glob(f"*{pattern}/{name}")) if "*" in folder else [Path(folder, name)]
        for path in reversed(found):
            if os.access(path, os.X_OK):
                return str(path)
    path_found = shutil.which(name)
    if path_found is None:
        raise MissingProgramError(f"{name} is not installed; on Debian: apt-get install {package}")
    return path_found


def rabbitmq(name: str) -> str:
    """A RabbitMQ script: the real one, because the one on Debian's PATH changes to another user."""
    return find(name, "/usr/lib/rabbitmq/bin", package="rabbitmq-server")


def postgres(name: str) -> str:
    """A PostgreSQL program."""
    return find(name, "/usr/lib/postgresql/*/bin", package="postgresql")


def epmd() -> str:
    """Erlang's port mapper."""
    return find("epmd", package="erlang-base")
