"""Files that hold secrets, and files that are replaced while somebody reads them."""

import json
import os
import stat
from pathlib import Path
from typing import Any

SECRET: int = 0o600
PUBLIC: int = 0o644


def write(path: Path, data: bytes | str, mode: int = SECRET) -> None:
    """Write a file that appears whole or not at all, with its final mode from the start."""
    raw = data.encode() if isinstance(data, str) else data
    hidden = path.with_name(f".{path.name}.new")
    hidden.unlink(missing_ok=True)
    with os.fdopen(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    hidden.rename(path)


def replace(path: Path, data: bytes | str) -> None:
    """`write`, with the mode of the file that is replaced: who could read the old one can read the new one."""
    write(path, data, stat.S_IMODE(path.stat().st_mode))


def write_json(path: Path, value: Any, mode: int = SECRET) -> None:
    """`write`, as indented JSON."""
    write(path, json.dumps(value, indent=2) + "\n", mode)


def private_folder(path: Path) -> Path:
    """A directory that only we may enter."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path
