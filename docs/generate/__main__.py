"""Write the generated documents: `./dev docs`. A test holds the files against what this would write."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from docs.generate import configuration
from docs.generate.asyncapi import asyncapi

FOLDER: Final = Path(__file__).parents[1]
DOCUMENTS: Final[Mapping[str, Callable[[], str]]] = {
    "asyncapi.json": asyncapi,
    "configuration.md": configuration.document,
}


def main() -> None:
    """Write them all."""
    for name, text in DOCUMENTS.items():
        (FOLDER / name).write_text(text())


if __name__ == "__main__":
    main()
