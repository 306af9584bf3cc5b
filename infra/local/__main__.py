"""`./dev up | down | status`: a local vault that stays, below `.trivault/`."""

import argparse
import sys
from pathlib import Path

from infra.errors import StackError
from infra.local import monitoring
from infra.local.programs import MissingProgramError
from infra.local.stack import REPOSITORY, Stack


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="./dev", description="The local vault in .trivault/")
    parser.add_argument("action", choices=["up", "down", "status"], help="start it, stop it, show its processes")
    parser.add_argument(
        "--root", type=Path, metavar="DIR", default=REPOSITORY / ".trivault", help="its folder (default: .trivault)"
    )
    parser.add_argument("--s3", action="store_true", help="keep objects in S3 (rclone) instead of a directory")
    parser.add_argument("--cryptors", type=int, default=1, metavar="N", help="Cryptor processes (default: 1)")
    options = parser.parse_args()
    stack = Stack(options.root, backend="s3" if options.s3 else "directory", cryptors=options.cryptors)
    try:
        {"up": _up, "down": _down, "status": _status}[options.action](stack)
    except (StackError, MissingProgramError) as error:
        sys.exit(f"{error}")


def _up(stack: Stack) -> None:
    stack.up()
    profile = stack.layout.root / "clients" / "me" / "profile.toml"
    if not profile.exists():
        profile = stack.enrol("me")
    print(f"The vault is up. Its folder: {stack.layout.root}")  # noqa: T201 - a command's output
    print("Use it:\n")  # noqa: T201
    print(f"  export TRIVAULT_PROFILE={profile}")  # noqa: T201
    print("  .venv/bin/trivault dump README.md\n")  # noqa: T201
    print(f"Its metrics, for Prometheus (docs/observability.md): {stack.layout.targets}")  # noqa: T201


def _down(stack: Stack) -> None:
    stack.down()
    print("The vault is down; its records stay. Remove them with its folder.")  # noqa: T201


def _status(stack: Stack) -> None:
    states = stack.status()
    if not states:
        sys.exit("the vault is down; start it with ./dev up")
    ports = stack.layout.monitoring
    for name, (state, pid) in states.items():
        told = f"{monitoring.health(ports[name]):10} {monitoring.url(ports[name], '/metrics')}" if name in ports else ""
        print(f"{name:12} {state:10} {pid or '':<8} {told}".rstrip())  # noqa: T201


if __name__ == "__main__":
    main()
