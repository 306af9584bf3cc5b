"""Clients that die after `accepted`: whoever comes after them, with the same profile, gets what they were owed."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from contracts.edge import State
from contracts.failures import FailureCode
from contracts.limits import MAX_BLOB, MIB
from infra.local.stack import REPOSITORY, Stack
from tests.refusals.forge import NOTIFYING, Forger, Wire, refusing
from tests.refusals.test_bad_uploads import accepted, cut, put
from trivault import Profile, Vault
from trivault.content import Data
from trivault.session import Session

SECONDS = 20  # for a client to start and to submit

CLIENT = """
import asyncio, sys, uuid
from trivault import Vault

async def main():
    async with Vault.open(sys.argv[1]) as vault:
        print(await vault.submit(sys.stdin.buffer.read(), job_id=uuid.UUID(sys.argv[2])), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that comes later asks sooner: nobody tells it."""
    monkeypatch.setattr("trivault.vault.FIRST_POLL_SECONDS", 0.5)


async def submitting(profile: Path, job_id: UUID, blob: bytes) -> Process:
    """A client in a process of its own, that was told `accepted` for `job_id` and waits for the end."""
    client = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        CLIENT,
        str(profile),
        str(job_id),
        stdin=PIPE,
        stdout=PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(blob)
    client.stdin.close()
    async with asyncio.timeout(SECONDS):
        assert await client.stdout.readline() == f"{job_id}\n".encode()
    return client


async def killed(client: Process) -> None:
    """Kill it: no good-bye to the broker."""
    client.kill()
    assert client.stdout is not None
    await client.stdout.read()
    await client.wait()


async def test_a_client_that_was_killed_after_accepted_gets_its_result(stack: Stack, newcomer: Profile) -> None:
    """A small and a large dump, accepted while no Cryptor runs; the next process finds both records by polling."""
    profile = newcomer.cert_file.with_name("profile.toml")
    dumps = {uuid4(): os.urandom(1000), uuid4(): os.urandom(3 * MIB)}
    stack.stop("cryptor")
    try:
        for client in [await submitting(profile, job_id, blob) for job_id, blob in dumps.items()]:
            await killed(client)
    finally:
        stack.start("cryptor")
    async with Vault.open(profile) as vault:
        for job_id, blob in dumps.items():
            external_uuid = await vault.wait(job_id)
            assert await vault.load(external_uuid) == blob
            assert await vault.dump(blob, job_id=job_id) == external_uuid
        for status in await vault.status(list(dumps)):
            assert (status.state, status.sealed) == (State.SUCCEEDED, True)


async def test_a_client_that_died_in_its_upload_learns_that_it_is_lost(
    alice: Profile, wire: Wire, forger: Forger
) -> None:
    """Told `accepted`, sent one piece, gone; the next one hears, under seal, that there is no record."""
    blob = os.urandom(2 * MIB)
    forged = forger.dump(blob)
    await put(wire, await accepted(wire, forged), cut(forged, blob, alice.name)[0])
    await wire.channel.close()
    async with Vault.open(alice) as vault:
        with refusing(FailureCode.UPLOAD_LOST):
            await vault.wait(forged.job_id)
        (status,) = await vault.status([forged.job_id])
        assert (status.code, status.sealed) == (FailureCode.UPLOAD_LOST, True)
        with refusing(FailureCode.UPLOAD_LOST):
            await vault.dump(blob, job_id=forged.job_id)


async def test_a_client_whose_connection_was_cut_gets_its_result(alice: Profile, forger: Forger) -> None:
    """The answer goes to a reply token that is gone; nothing is lost with it."""
    forged = forger.dump(b"a record that nobody waits for")
    async with Wire.open(alice.broker, alice.name) as wire:
        await wire.send(forged, meta=NOTIFYING)
        assert (await wire.update(forged.job_id))[0].state is State.ACCEPTED
    async with Vault.open(alice) as vault:
        assert await vault.load(await vault.wait(forged.job_id)) == b"a record that nobody waits for"


async def test_waiting_hears_of_the_end_at_once(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for what it submitted is told when it ends, and need not poll for it."""
    monkeypatch.setattr("trivault.vault.FIRST_POLL_SECONDS", 60.0)
    job_ids = [await vault.submit(os.urandom(100)) for _ in range(4)]
    async with asyncio.timeout(SECONDS):
        assert len({await vault.wait(job_id) for job_id in job_ids}) == len(job_ids)


async def test_waiting_for_a_job_that_never_was_is_refused(vault: Vault) -> None:
    """At once: a job that was accepted is in the ledger."""
    with refusing(FailureCode.NOT_FOUND, "unknown_job"):
        await vault.wait(uuid4())


@pytest.mark.parametrize("how", ["bytes", "path", "file"])
async def test_a_blob_that_is_too_large_is_refused_before_anything_is_sent(
    alice: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """52,428,801 bytes: not a message leaves, and the next dump is as good as any."""

    def refuse(*_: object) -> None:
        raise AssertionError("something was sent")

    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(MAX_BLOB + 1)  # sparse
    async with Vault.open(alice) as vault:
        with big.open("rb") as opened, monkeypatch.context() as patch:
            patch.setattr(Session, "_send", refuse)
            choices: dict[str, Data] = {"bytes": bytes(MAX_BLOB + 1), "path": big, "file": opened}
            for act in (vault.dump, vault.submit, vault.dump):  # again: a file is where it was
                with refusing(FailureCode.BLOB_TOO_LARGE):
                    await act(choices[how])
        assert await vault.load(await vault.dump(b"small")) == b"small"


def test_the_limit_is_the_one_that_was_set() -> None:
    """One byte below what the tests above refuse."""
    assert MAX_BLOB == 52_428_800
