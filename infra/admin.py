"""`trivault-admin`: enrolling clients, and what an operator asks of a vault.

Enrolling runs where the vault's secrets are, as who owns them; a sweep wants an operator's profile only. Results go
to stdout, one line each; errors to stderr.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

from infra import enrolment
from infra.enrolment import EnrolmentError
from infra.errors import StackError
from infra.local.programs import MissingProgramError
from infra.provision import Secrets

DONE, USAGE, REFUSED, DOWN, STOPPED = 0, 2, 3, 4, 5
EXIT_CODES: Final = """exit codes:
  0  done
  2  the command line, or a local file, cannot be used
  3  refused; the message says what to choose instead
  4  the vault is down, or did not do it; see the message, then try again
  5  the sweep stopped by itself; the report says why, and what to do
"""

SWEEP: Final = """\
Collect keys, objects and uploads that no record names: what processes that died left behind. Run it daily.

What is older than the grace (25 hours) and named by no record goes into quarantine, where it still loads. It is
purged by a sweep 35 days later, if no record names it even then; one that is named again is released. A sweep stops by
itself, and deletes nothing, if more than 1 % of a store (and more than 1,000) would be collected, if MapStore holds
fewer records than it once did, or if a store does not answer. These numbers are settings of the Cryptor:
sweep.grace_seconds, .retention_seconds, .threshold and .floor. The retention must be longer than the oldest backup of
MapStore that you would restore."""


class Vault(Protocol):
    """A vault that clients are enrolled on, however it is run."""

    secrets: Secrets

    def admit(self, name: str) -> None:
        """Raise `StackError` or `EnrolmentError` unless `name` can be enrolled now."""

    def enrol(self, name: str, *, operator: bool, profile: Path | None) -> Path:
        """Enrol; the path of the profile."""


class UsageError(Exception):
    """The command line cannot be used."""


class DownError(Exception):
    """There is no vault; the text says how to make one."""


def main() -> None:
    """Entry point."""
    sys.exit(run(sys.argv[1:], _on_this_machine))


def _on_this_machine(root: Path) -> Vault:
    from infra.local.stack import Stack  # noqa: PLC0415 - with its supervisor, which no other vault needs

    return Stack(root)


def run(arguments: Sequence[str], vault: Callable[[Path], Vault]) -> int:
    """Do what the command line says to the vault whose folder it names; the exit code."""
    options = argparse.Namespace(json="--json" in arguments)  # until they are parsed
    try:
        options = _parser().parse_args(arguments, argparse.Namespace(vault=vault))
        done: int = options.act(options)
    except EnrolmentError as error:
        return _complain(options, REFUSED, "refused", str(error))
    except (DownError, StackError, MissingProgramError) as error:
        return _complain(options, DOWN, "down", str(error))
    except UsageError as error:
        return _complain(options, USAGE, "usage", f"{error}; see trivault-admin --help")
    except OSError as error:
        return _complain(options, USAGE, "file", f"{error.filename}: {error.strerror}")
    return done


class _Parser(argparse.ArgumentParser):
    """Raises instead of printing, so that `--json` holds for errors of usage, too."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    common.add_argument(
        "--root", type=Path, default=Path(".trivault"), metavar="DIR", help="the vault's folder (default: .trivault)"
    )
    common.add_argument("--json", action="store_true", help="one JSON object per line, errors included")
    parser = _Parser(
        prog="trivault-admin",
        description="Enrol clients of a vault, and have it collect what no record names.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="client|sweep")
    client = commands.add_parser("client", help="who may use the vault")
    actions = client.add_subparsers(required=True, metavar="add|list")
    add = actions.add_parser("add", parents=[common], help="enrol a client on the running vault")
    add.add_argument(
        "name", metavar="NAME", help="up to 32 of a-z, 0-9 and -, beginning with a letter; never given out twice"
    )
    add.add_argument("--operator", action="store_true", help="it may also ask for what only operators may: a sweep")
    add.add_argument(
        "--profile-out", type=Path, metavar="FILE", help="its profile (default: clients/NAME/profile.toml)"
    )
    add.set_defaults(act=_add)
    actions.add_parser("list", parents=[common], help="who is enrolled").set_defaults(act=_list)
    sweep = commands.add_parser(
        "sweep",
        help="collect keys, objects and uploads that no record names",
        description=SWEEP,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sweep.add_argument(
        "--profile",
        type=Path,
        default=os.environ.get("TRIVAULT_PROFILE"),
        metavar="FILE",
        help="an operator's (default: TRIVAULT_PROFILE); see trivault-admin client add --operator",
    )
    sweep.add_argument("--dry-run", action="store_true", help="change nothing; tell what a sweep would do")
    sweep.add_argument("--json", action="store_true", help="the report as one JSON object, errors included")
    sweep.set_defaults(act=_sweep)
    return parser


def _add(options: argparse.Namespace) -> int:
    """Enrol a client."""
    vault = _provisioned(options)
    enrolment.check_name(options.name, enrolment.registry_of(vault.secrets))
    vault.admit(options.name)
    profile = vault.enrol(options.name, operator=options.operator, profile=options.profile_out)
    told = {"name": options.name, "operator": options.operator, "profile": str(profile)}
    text = f"{options.name} is enrolled. Its profile, with certificate, key and ca.pem beside it:\n  {profile}\n"
    _print(options, f"{text}Hand them over safely. Then: trivault dump FILE --profile {profile.name}", told)
    return DONE


def _list(options: argparse.Namespace) -> int:
    """Print who is enrolled, whether or not the vault runs.

    Raises:
        DownError: there is no vault.
    """
    vault = _provisioned(options)
    for client in enrolment.registry_of(vault.secrets).clients:
        told = {"name": client.name, "client_id": client.client_id.hex(), "operator": client.operator}
        _print(options, f"{client.name:32}  {client.client_id.hex()}{'  operator' if client.operator else ''}", told)
    return DONE


def _sweep(options: argparse.Namespace) -> int:
    """Sweep, and print the report.

    Raises:
        UsageError: there is no profile, or it cannot be used.
    """
    from infra import sweep  # noqa: PLC0415 - the SDK, which enrolling does without

    if options.profile is None:
        raise UsageError("whose? name an operator's profile with --profile")
    try:
        report = sweep.ask(Path(options.profile), dry_run=options.dry_run)
    except sweep.UnusableProfileError as error:
        raise UsageError(str(error)) from None
    except sweep.UnsweptError as error:
        return _complain(options, DOWN if error.later else REFUSED, error.code, str(error), error.reason)
    _print(options, sweep.describe(report), report.model_dump(mode="json"))
    return DONE if report.stopped is None else STOPPED


def _provisioned(options: argparse.Namespace) -> Vault:
    vault: Vault = options.vault(options.root)
    if not vault.secrets.provisioned():
        raise DownError(f"there is no vault in {vault.secrets.root}: make one with ./dev up, or name its --root")
    return vault


def _print(options: argparse.Namespace, text: str, told: dict[str, Any]) -> None:
    print(json.dumps(told) if options.json else text)  # noqa: T201 - a command's output


def _complain(options: argparse.Namespace, code: int, name: str, advice: str, reason: str = "") -> int:
    told = {"error": name, "reason": reason, "advice": advice}
    print(json.dumps(told) if options.json else f"trivault-admin: {advice}", file=sys.stderr)  # noqa: T201
    return code


if __name__ == "__main__":
    main()
