"""A file that may be replaced while a service runs: read again when it was.

Replacement is by rename, so a reader sees the old text or the new one. What the text means is the caller's affair.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


class Watched(Generic[T]):
    """The parsed contents of `path`, as of now."""

    def __init__(self, path: Path, parse: Callable[[bytes], T]) -> None:
        """Read at once, so that a bad file stops the service at its start.

        Raises:
            OSError: it cannot be read.
        """
        self._path = path
        self._parse = parse
        self._stamp = self._mark()
        self._value = parse(path.read_bytes())

    def _mark(self) -> tuple[int, int, int]:
        stat = self._path.stat()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def current(self) -> T:
        """The value; one stat(2) when nothing changed."""
        stamp = self._mark()
        if stamp != self._stamp:
            self._value = self._parse(self._path.read_bytes())
            self._stamp = stamp
        return self._value
