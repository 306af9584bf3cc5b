"""Clients that die after `accepted`, or lose their connection: the dump's result is there to be polled."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts.failures import FailureCode, TransientError
from infra.local.stack import REPOSITORY, Stack
from messaging.publishing import Publisher
from tests.command import result, run
from tests.faults.gate import Gate
from tests.faults.harm import kill
from tests.faults.polling import SECONDS, until
from tests.fix_stack import DatabaseAs
from trivault import Profile, Vault

CLIENT = """
import asyncio, pathlib, sys, uuid
from trivault import Vault

async def main():
    async with Vault.open(sys.argv[1]) as vault:
        print(await vault.submit(pathlib.Path(sys.argv[2]), job_id=uuid.UUID(sys.argv[3])), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def die_after_accepted(profile: Path, file: Path, job_id: UUID) -> None:
    """Submit a file in a process of its own, and kill it as soon as it was told `accepted`."""
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CLIENT, str(profile), str(file), str(job_id)),
        stdout=PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    try:
        assert client.stdout is not None
        async with asyncio.timeout(SECONDS):
            assert await client.stdout.readline() == f"{job_id}\n".encode()
    finally:
        client.kill()
        await client.communicate()


@pytest.mark.parametrize("size", [1_000, 1_500_000])
async def test_the_next_process_of_a_killed_client_polls_its_result(
    stack: Stack, alices: Path, database_as: DatabaseAs, tmp_path: Path, size: int
) -> None:
    """The job is still under way when the client dies, and the gateway dies too; `trivault status` tells the end."""
    file, job_id, owner = tmp_path / "blob", uuid4(), Profile.read(alices).owner
    file.write_bytes(os.urandom(size))

    async def ended() -> bool:
        told = await asyncio.to_thread(run, "status", job_id, profile=alices)
        return b"succeeded" in told.stdout

    async with Gate.closed(database_as("svc.mapstore", "mapstore"), owner, job_id) as gate:
        await die_after_accepted(alices, file, job_id)
        await until(gate.waiting, "the commit did not come")
        assert not await ended()
        await kill(stack, "gateway")
        await gate.open()
    await until(ended, "the job was accepted and has no end", every=0.2)
    told = await asyncio.to_thread(result, "status", job_id, profile=alices)
    async with Vault.open(alices) as vault:
        assert await vault.load(UUID(told["external_uuid"])) == file.read_bytes()


async def test_an_upload_without_its_last_confirm_is_not_called_lost(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it may have arrived: the client is told that the outcome is unknown, and finds the record by polling."""
    job_id, blob, publish = uuid4(), os.urandom(1_500_000), Publisher.publish_stream

    async def unconfirmed(*arguments: Any) -> None:
        await publish(*arguments)
        raise TransientError(FailureCode.BUSY, "broker_unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(Publisher, "publish_stream", unconfirmed)
        with pytest.raises(TransientError):
            await vault.submit(blob, job_id=job_id)
    assert await vault.load(await vault.wait(job_id)) == blob
