"""The `trivault` command: runs what its command line asks for, and turns every way to end into a line and an exit code.

No traceback reaches the user: frames and messages of exceptions may hold content. The table of exit codes is in
`trivault.exits`, and in `trivault --help`.
"""

import asyncio
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from contracts.failures import VaultError
from trivault.exits import Exit, describe_os_error, describe_vault_error, exit_of

if TYPE_CHECKING:  # needs the `cli` extra
    from trivault.options import Act
    from trivault.terminal import Terminal


def main() -> None:
    """Entry point."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold plaintext
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Do what the command line says; the exit code."""
    if missing := [name for name in ("typer", "rich") if find_spec(name) is None]:
        print(f"trivault: {' and '.join(missing)} not installed; run: pip install 'trivault[cli]'", file=sys.stderr)  # noqa: T201
        return Exit.USAGE
    from trivault import commands  # noqa: F401, I001, PLC0415 - they register, in the order of `--help`; need the extra
    from trivault import archive_commands  # noqa: F401, PLC0415
    from trivault.options import parse  # noqa: PLC0415
    from trivault.terminal import Terminal  # noqa: PLC0415

    # Looked for before parsing, so that a command line that does not parse is complained about in JSON, too.
    terminal = Terminal(as_json="--json" in takewhile(lambda argument: argument != "--", arguments))
    try:
        chosen = parse(arguments)
        return chosen if isinstance(chosen, int) else _act(chosen, terminal)
    except (Exception, KeyboardInterrupt, asyncio.CancelledError) as error:  # noqa: BLE001 - the last one to hear of it
        code, told = _complaint(error)
        terminal.complain(told)
        return code


def _act(act: "Act", terminal: "Terminal") -> Exit:
    from messaging.logs import configure  # noqa: PLC0415 - `--help` need not wait for AMQP

    configure("trivault", "warning", sys.stderr)
    logging.disable()  # of libraries: what they would say ends in an error of ours

    async def terminable() -> Exit:
        """SIGTERM cancels as SIGINT does, so that temporary files go."""
        task = asyncio.ensure_future(act(terminal))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    with _runner() as runner:
        return runner.run(terminable())


def _runner() -> asyncio.Runner:
    """An event loop: uvloop if it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - an ordinary loop works too
    except ImportError:
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def _complaint(error: BaseException) -> tuple[Exit, dict[str, Any]]:
    """The exit code, and `{"error", "reason", "advice"}`, of whatever ended a command."""
    from typer import TyperException  # noqa: PLC0415 - needs the extra

    from messaging.logs import describe  # noqa: PLC0415
    from trivault.manifest import ManifestError  # noqa: PLC0415
    from trivault.profile import ProfileError  # noqa: PLC0415
    from trivault.sources import NameClashError  # noqa: PLC0415

    code, name, reason, advice = Exit.USAGE, "", "", ""
    match error:
        case VaultError():
            return exit_of(error), describe_vault_error(error)
        case OSError():
            if isinstance(error, BrokenPipeError):  # nobody reads stdout: let the interpreter not try again at its end
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return code, describe_os_error(error)
        case ProfileError():
            name, advice = "profile", str(error)
        case ManifestError():
            name, advice = "manifest", str(error)
        case NameClashError():
            name, advice = "usage", str(error)
        case TyperException():
            name, advice = "usage", f"{error.format_message().rstrip('.')}; see trivault --help"
        case KeyboardInterrupt():
            code, name, advice = Exit.INTERRUPTED, "interrupted", "stopped by you"
        case asyncio.CancelledError():
            code, name, advice = Exit.TERMINATED, "terminated", "stopped by SIGTERM"
        case _:
            told = describe(error)
            code, name, reason = Exit.UNEXPECTED, "unexpected", told["type"]
            advice = f"this is a bug; please report it, with its place: {(told['at'] or ['unknown'])[-1]}"
    return code, {"error": name, "reason": reason, "advice": advice}
