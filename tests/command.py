"""The `trivault` command as people and scripts run it: in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TRIVAULT = Path(sys.executable).with_name("trivault")
SECONDS = 60  # for any one command


def environment(profile: Path | None) -> dict[str, str]:
    """This process's, with a profile or without."""
    rest = {name: value for name, value in os.environ.items() if name != "TRIVAULT_PROFILE"}
    return rest | ({"TRIVAULT_PROFILE": str(profile)} if profile else {})


def run(*arguments: object, profile: Path | None, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end."""
    argv = [str(TRIVAULT), *map(str, arguments)]
    env = environment(profile)
    return subprocess.run(argv, input=stdin, env=env, capture_output=True, timeout=SECONDS, check=False)  # noqa: S603 - fixed argv


def start(*arguments: object, profile: Path) -> subprocess.Popen[bytes]:
    """Start a command."""
    argv = [str(TRIVAULT), *map(str, arguments)]
    return subprocess.Popen(argv, env=environment(profile), stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: S603 - fixed argv


def result(*arguments: object, profile: Path, stdin: bytes = b"") -> dict[str, Any]:
    """The one JSON object that a command prints, and nothing else."""
    done = run(*arguments, "--json", profile=profile, stdin=stdin)
    assert (done.returncode, done.stderr) == (0, b"")
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def complaint(*arguments: object, profile: Path | None, stdin: bytes = b"") -> tuple[int, dict[str, Any]]:
    """Exit code and JSON error of a command that prints no result."""
    done = run(*arguments, "--json", profile=profile, stdin=stdin)
    assert done.stdout == b""
    told: dict[str, Any] = json.loads(done.stderr)
    assert set(told) - {"job_id"} == {"error", "reason", "advice"}
    assert told["advice"]
    return done.returncode, told
