"""Interrupted ingestions, again and again, with files that change in between: nothing is kept twice, nothing is lost.

A state machine over the real reading, batching and manifest, and a vault that is a dictionary: it keeps its word about
job ids, and a run is killed before or after it has done something.
"""

import asyncio
import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch
from uuid import UUID, uuid4

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from contracts.edge import ItemOutcome, State
from contracts.failures import FailureCode
from trivault import bulk, items
from trivault.manifest import Manifest, stored
from trivault.sources import files
from trivault.vault import Status, Vault


class KilledError(BaseException):
    """SIGKILL, as far as one process can have it."""


class FakeVault:
    """Records by job and item."""

    def __init__(self) -> None:
        """Begin empty."""
        self.jobs: dict[UUID, tuple[bytes, list[ItemOutcome]]] = {}
        self.records: dict[UUID, bytes] = {}
        self.until_kill = -1  # moments
        self.losing = False  # every other item of the next jobs

    def moment(self) -> None:
        """A moment at which the process may be killed."""
        self.until_kill -= 1
        if self.until_kill == 0:
            raise KilledError

    async def ingest_batch(self, blobs: Sequence[bytes], *, job_id: UUID) -> list[ItemOutcome]:
        """As a vault does it."""
        await asyncio.sleep(0)
        self.moment()
        content = hashlib.sha256(b"".join(hashlib.sha256(blob).digest() for blob in blobs)).digest()
        if job_id not in self.jobs:
            self.jobs[job_id] = (content, [self._keep(at, blob) for at, blob in enumerate(blobs)])
        known, outcomes = self.jobs[job_id]
        assert known == content, "a conflict"
        self.moment()
        await asyncio.sleep(0)
        return outcomes

    def _keep(self, at: int, blob: bytes) -> ItemOutcome:
        if self.losing and at % 2:
            return ItemOutcome(code=FailureCode.UPLOAD_LOST)
        external_uuid = uuid4()
        self.records[external_uuid] = blob
        return ItemOutcome(external_uuid=external_uuid)

    async def settled(self, job_id: UUID) -> Status:
        """As a vault tells it."""
        self.moment()
        if job_id not in self.jobs:
            return Status(job_id=job_id, state=State.UNKNOWN)
        outcomes = tuple(self.jobs[job_id][1])
        return Status(job_id=job_id, state=State.SUCCEEDED, outcomes=outcomes, sealed=True)


class Archive(RuleBasedStateMachine):
    """A directory, a manifest and a vault."""

    def __init__(self) -> None:
        """Begin empty."""
        super().__init__()
        self.home = tempfile.TemporaryDirectory()
        self.directory = Path(self.home.name) / "in"
        self.directory.mkdir()
        self.manifest = Path(self.home.name) / "manifest"
        self.vault = FakeVault()
        self.version = 0
        self.begun = False

    def teardown(self) -> None:
        """Tidy."""
        self.home.cleanup()

    @rule(name=st.integers(0, 9))
    def write(self, name: int) -> None:
        """A file appears, or changes."""
        self.version += 1
        (self.directory / str(name)).write_bytes(b"%d of %d" % (self.version, name))

    @rule(name=st.integers(0, 9))
    def remove(self, name: int) -> None:
        """A file goes."""
        (self.directory / str(name)).unlink(missing_ok=True)

    @rule(kill=st.integers(1, 12), losing=st.booleans(), torn=st.integers(0, 200))
    def run_and_be_killed(self, kill: int, torn: int, *, losing: bool) -> None:
        """Somewhere; what was being written when it happened may be there in part."""
        self.vault.until_kill, self.vault.losing = kill, losing
        before = self.manifest.stat().st_size if self.begun else 0
        last = self._run()
        if last > max(before, 1):
            os.truncate(self.manifest, max(last - torn % 100, self._durable))

    @rule()
    def run_to_the_end(self) -> None:
        """Every file that is there is a record, and the manifest says which."""
        self.vault.until_kill, self.vault.losing = -1, False
        self._run()
        last = {entry.name: entry for entry in stored(self.manifest)}
        assert set(last) >= {path.name for path in self.directory.iterdir()}
        for entry in last.values():
            assert entry.external_uuid is not None
            assert hashlib.sha256(self.vault.records[entry.external_uuid]).digest() == entry.sha256

    @precondition(lambda self: self.begun)
    @invariant()
    def nothing_is_kept_twice(self) -> None:
        """Contents are all different: so are those of the records."""
        assert not [content for content, count in Counter(self.vault.records.values()).items() if count > 1]

    def _run(self) -> int:
        """One process; how long its manifest was in the end."""
        self._durable = 0
        resume, self.begun = self.begun, True

        async def ingest() -> None:
            with Manifest.open(self.manifest, resume=resume) as journal:
                self._durable = self.manifest.stat().st_size
                sending = journal.sending

                async def noted(batch: items.Batch) -> None:
                    await sending(batch)
                    self._durable = self.manifest.stat().st_size

                things = (item for item in files([self.directory]) if not journal.done(item.name))
                with patch.object(journal, "sending", noted):
                    vault = cast("Vault", cast("Any", self.vault))
                    async with aclosing(bulk.ingest(vault, things, 1, journal)) as told:
                        async for _ in told:
                            self.vault.moment()

        with patch.object(items, "BATCH_ITEMS", 3), patch.object(bulk, "PAUSE_SECONDS", 0), suppress(KilledError):
            asyncio.run(ingest())
        return self.manifest.stat().st_size


Archive.TestCase.settings = settings(max_examples=100, stateful_step_count=25, deadline=None)
TestArchive = Archive.TestCase
