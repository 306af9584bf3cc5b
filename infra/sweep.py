"""`trivault-admin sweep`: asks the vault to collect what no record names, and tells an operator how it went.

The request is an ordinary one: signed by the operator, sealed to the Cryptor, which decides and does everything.
"""

import asyncio
from pathlib import Path
from typing import Final

import uvloop

from contracts.sweep import Stop, SweepReport, Swept
from trivault import ProfileError, TransientError, Vault, VaultError
from trivault.exits import advice_of

# What to do next. A sweep that stops has deleted nothing that it should not have: none of this is urgent.
NEXT: Final = {
    Stop.MAP_BELOW_MARK: "MapStore holds fewer records than it once did: it was emptied, or restored from an older "
    "backup. Bring the newest one back before you sweep. If those records are lost for good and you accept it, lower "
    "`records` in the KeyStore's table `high_water` as its owner",
    Stop.MAP_EMPTY: "MapStore holds no records. In a new vault that is as it should be, and there is nothing to sweep; "
    "otherwise restore it before you sweep",
    Stop.TOO_MANY_CANDIDATES: "far more is named by no record than dead processes leave behind. Find out what happened "
    "(was MapStore restored? do the stores belong to one vault?); if it is right, raise sweep.threshold or sweep.floor "
    "in the Cryptor's settings for one sweep",
    Stop.STORE_UNAVAILABLE: "a store did not answer, or refused; see its log, then sweep again",
    Stop.OUT_OF_TIME: "the sweep ran out of time; what it did is done. Sweep when the vault is quieter, or raise "
    "bulk_attempt_seconds in the Cryptor's settings",
}


class UnusableProfileError(Exception):
    """There is no asking with this profile; the text says why."""


class UnsweptError(Exception):
    """The vault refused, or did not answer."""

    def __init__(self, error: VaultError) -> None:
        """Say what the vault said."""
        super().__init__(advice_of(error.code, error.reason))
        self.code = str(error.code)
        self.reason = error.reason
        self.later = isinstance(error, TransientError)  # the same may succeed then


def ask(profile: Path, *, dry_run: bool) -> SweepReport:
    """Have the vault swept.

    Raises:
        UnsweptError: refused, or not answered.
        UnusableProfileError: the profile cannot be used.
    """

    async def sweep() -> SweepReport:
        async with Vault.open(profile) as vault:
            return await vault.sweep(dry_run=dry_run)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(sweep())
    except ProfileError as error:
        raise UnusableProfileError(str(error)) from None
    except VaultError as error:
        raise UnsweptError(error) from None


def describe(report: SweepReport) -> str:
    """A report for people: what was found, what was done, and what to do next."""
    lines = [
        f"{'':10}{'seen':>12}{'candidates':>12}{'quarantined':>13}{'released':>10}{'purged':>10}",
        _line("keys", report.keys),
        _line("objects", report.objects),
        f"unfinished uploads removed: {report.uploads:,}; temporary files removed: {report.files:,}",
        f"records in MapStore: {report.records:,}; the most there ever were: {report.mark:,}",
    ]
    if report.dry_run:
        lines.append("Nothing was changed: this is what a sweep would do.")
    if report.stopped is not None:
        where = f" ({report.store})" if report.store else ""
        lines.append(f"STOPPED: {report.stopped}{where}: {NEXT[report.stopped]}.")
    elif report.more:
        lines.append("There is more to collect than one sweep does: sweep again.")
    return "\n".join(lines)


def _line(name: str, swept: Swept) -> str:
    return (
        f"{name:10}{swept.seen:>12,}{swept.candidates:>12,}{swept.quarantined:>13,}"
        f"{swept.released:>10,}{swept.purged:>10,}"
    )
