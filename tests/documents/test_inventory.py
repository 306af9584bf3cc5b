"""SECURITY.md tells the floors of the libraries that pyproject.toml sets."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_floors_are_those_that_are_installed_by() -> None:
    """A floor that was raised for a reason is raised for readers too."""
    told = set(re.findall(r"`([\w-]+>=[\d.]+)`", (ROOT / "SECURITY.md").read_text()))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert told
    assert told <= set(project["dependencies"])
