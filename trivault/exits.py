"""What the `trivault` command says when something goes wrong, and the exit code that a script sees.

One table from failure codes to exit codes, one from reasons to what to do next. Texts come from here, from `ADVICE`
and from the operating system; never from a blob, a profile or a message.
"""

import errno
from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Final

from contracts.failures import FailureCode, TransientError, VaultError


class Exit(IntEnum):
    """Exit codes."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    REFUSED = 3
    TRY_AGAIN = 4
    NOT_FOUND = 5
    INTEGRITY = 6
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS: Final[Mapping[Exit, str]] = {
    Exit.OK: "done",
    Exit.UNEXPECTED: "a bug; please report it",
    Exit.USAGE: "the command line, the profile or a local file cannot be used",
    Exit.REFUSED: "refused or failed for good: the same again gives the same",
    Exit.TRY_AGAIN: "not now: the same command may succeed later",
    Exit.NOT_FOUND: "no such record or job of this client",
    Exit.INTEGRITY: "integrity_failed: a stored piece or an answer was altered; no data was given out",
    Exit.INTERRUPTED: "interrupted (Ctrl-C); a job that was handed over goes on",
    Exit.TERMINATED: "terminated (SIGTERM); as above",
}

BY_CODE: Final[Mapping[FailureCode, Exit]] = {
    FailureCode.INVALID_REQUEST: Exit.REFUSED,
    FailureCode.UNAUTHENTICATED: Exit.REFUSED,
    FailureCode.NOT_FOUND: Exit.NOT_FOUND,
    FailureCode.BLOB_TOO_LARGE: Exit.REFUSED,
    FailureCode.CONFLICT: Exit.REFUSED,
    FailureCode.EXPIRED: Exit.TRY_AGAIN,
    FailureCode.BUSY: Exit.TRY_AGAIN,
    FailureCode.QUOTA_EXCEEDED: Exit.TRY_AGAIN,
    FailureCode.STORE_UNAVAILABLE: Exit.TRY_AGAIN,
    FailureCode.UPLOAD_LOST: Exit.TRY_AGAIN,
    FailureCode.INTEGRITY_FAILED: Exit.INTEGRITY,
    FailureCode.INTERNAL: Exit.REFUSED,
}

UNREACHABLE: Final = "the vault cannot be reached; check the network and the url in the profile, then try again"
SILENT: Final = "the vault did not answer in time; try again in a moment"

# Where a reason says more than its code. The code's own advice is for the rest.
BY_REASON: Final[Mapping[str, str]] = {
    "broker_unreachable": UNREACHABLE,
    "broker_refused": "the vault's broker let nobody in with this certificate; if trying again does not help, ask the "
    "operator whether this client is enrolled",
    "broker_untrusted": "the broker there is not the one of the profile's vault; check the url in the profile, and ask "
    "the operator",
    "broker_timeout": SILENT,
    "broker_unavailable": SILENT,
    "connection_lost": SILENT,
    "gateway_timeout": SILENT,
    "answer_lost": SILENT,
    "download_idle": SILENT,
    "no_cryptor_yet": "the vault is starting: no Cryptor has announced its keys yet; try again in a moment",
    "still_running": "the job is still under way; ask again later",
    "unknown_job": "the vault knows no such job of this client; check the job id and the profile",
    "operators_only": "only an operator may ask for this; enrol one with trivault-admin client add NAME --operator",
    "unknown_key": "the vault has renewed its key in the meantime; run the command again",
    "vanished": "the file is not there any more; nothing was kept of it",
    "directory": "a directory, or a link to one, is no record; name the files in it",
    "not_a_file": "only regular files can be kept",
    "unreadable": "the file could not be read; check its permissions and its disk",
    "exists": "another file has this name; move it away, or choose another directory",
    "unsafe_name": "the name in the manifest leads out of the directory; look who wrote that manifest",
    "manifest": "the record is not what the manifest says; it was not written, tell the operator",
    "content_changed": "the file changed while it was read; run the command again when nobody writes to it",
}


def exit_of(error: VaultError) -> Exit:
    """The exit code of a failure."""
    if isinstance(error, TransientError) or error.reason == "unknown_key":
        return Exit.TRY_AGAIN
    return BY_CODE[error.code]


def advice_of(code: FailureCode, reason: str) -> str:
    """What to do next."""
    return BY_REASON.get(reason) or VaultError(code, reason).advice


def describe_vault_error(error: VaultError) -> dict[str, Any]:
    """A failure as `{"error", "reason", "advice"}`."""
    return {"error": str(error.code), "reason": error.reason, "advice": advice_of(error.code, error.reason)}


def describe_os_error(error: OSError) -> dict[str, Any]:
    """A local file that cannot be read or written, as `{"error", "reason", "advice"}`."""
    reason = errno.errorcode.get(error.errno or 0, "")
    where = f"{error.filename}: " if error.filename else ""
    return {"error": "file", "reason": reason, "advice": f"{where}{error.strerror or 'cannot be used'}"}


def table() -> str:
    """The exit codes, for `--help`; the backspace in front keeps typer from refilling the lines."""
    return "\n".join(["\b", "Exit codes:", *(f"  {code.value:<4} {MEANINGS[code]}" for code in Exit)])
