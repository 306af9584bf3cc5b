"""One job can be followed through the logs of all processes, and the stores learn nothing from it."""

import asyncio
import json
import os
from typing import Any
from uuid import UUID, uuid4

import pytest

from contracts.failures import PermanentError
from infra.local.stack import Stack
from infra.local.supervision import log_file
from tests.faults.harm import frozen
from tests.faults.polling import until
from tests.observability.scraping import SERVICES
from trivault import Vault

STORES = ("keystore", "datastore", "mapstore")


def lines(stack: Stack, service: str) -> list[dict[str, Any]]:
    """A service's log."""
    return [json.loads(line) for line in log_file(stack.layout, service).read_text().splitlines()]


async def ends(stack: Stack, service: str, job_id: UUID) -> dict[str, Any]:
    """The line that tells of a job's end; there is one."""

    async def found() -> list[dict[str, Any]]:
        mine = (line for line in lines(stack, service) if line.get("job_id") == str(job_id))
        return [line for line in mine if line["action"] == "job.ended"]

    (line,) = await until(found, f"{service} does not tell of the end")
    return line


async def test_a_dump_is_found_by_its_job_id(stack: Stack, vault: Vault) -> None:
    """One line at its end in gateway and Cryptor: what it was, how it ended, how long it took, how large it was."""
    job_id = uuid4()
    await vault.dump(os.urandom(1234), job_id=job_id)
    for service in ("gateway", "cryptor"):
        line = await ends(stack, service, job_id)
        assert (line["service"], line["level"]) == (service, "info")
        assert (line["op"], line["state"], line["code"], line["bytes_in"]) == ("dump", "succeeded", None, 1234)
        assert 0 < line["seconds"] < 60


async def test_a_failure_is_found_with_its_code(stack: Stack, vault: Vault) -> None:
    """The Cryptor's line says why; the gateway could not open the answer."""
    before = len(lines(stack, "cryptor"))
    with pytest.raises(PermanentError, match="not_found"):
        await vault.load(uuid4())

    async def failed() -> list[UUID]:
        return [UUID(line["job_id"]) for line in lines(stack, "cryptor")[before:] if line.get("code") == "not_found"]

    (job_id,) = await until(failed, "the Cryptor does not tell of it")
    assert (await ends(stack, "cryptor", job_id))["state"] == "failed"
    assert (await ends(stack, "gateway", job_id))["state"] == "failed"


async def test_a_job_is_followed_into_the_stores(stack: Stack, vault: Vault) -> None:
    """With `log_level = "debug"`: by the correlation ids of its store requests, which both ends log."""
    job_id = uuid4()
    await vault.dump(os.urandom(100), job_id=job_id)
    await ends(stack, "cryptor", job_id)
    mine = [line for line in lines(stack, "cryptor") if line.get("job_id") == str(job_id)]
    asked = {line["type"]: line["rpc"] for line in mine if line["action"] == "store.answered"}
    assert sorted(asked) == ["datastore.dump.v1", "keystore.dump.v1", "mapstore.settle.v1"]
    for kind, rpc in asked.items():
        (answered,) = [line for line in lines(stack, kind.partition(".")[0]) if line.get("rpc") == rpc]
        assert (answered["action"], answered["type"]) == ("rpc.answered", kind)


async def test_logs_of_the_stores_join_to_nothing(stack: Stack, vault: Vault) -> None:
    """Neither a job's id nor a record's, and none of the ids that they keep things under."""
    job_id = uuid4()
    external_uuid = await vault.dump(os.urandom(100), job_id=job_id)
    query = f"SELECT data_store_uuid, key_store_uuid FROM map WHERE external_uuid = '{external_uuid}'"  # noqa: S608 - our own uuid
    ids = {job_id, external_uuid, *map(UUID, stack.psql("mapstore", query).split("|"))}
    assert len(ids) == 4
    for store in STORES:
        text = log_file(stack.layout, store).read_text()
        assert "rpc.answered" in text
        assert [each for each in ids for form in (str(each), each.hex) if form in text] == []


async def test_a_line_names_its_own_job_only(stack: Stack, vault: Vault) -> None:
    """Batches that several jobs share are nobody's: no line of theirs bears the id of whoever came first."""
    job_id = uuid4()
    await vault.dump(b"x", job_id=job_id)
    await ends(stack, "cryptor", job_id)
    for service in SERVICES:
        told = {line["action"] for line in lines(stack, service) if "job_id" in line}
        assert not {action for action in told if action.startswith(("rpc.", "service.", "message."))}


async def test_a_silent_store_is_told_of_beside_the_job(stack: Stack, vault: Vault) -> None:
    """Without `debug` too: which request it was, in the lines of the job that waited for it."""
    job_id = uuid4()
    with frozen(stack, "keystore"):
        dump = asyncio.create_task(vault.dump(os.urandom(100), job_id=job_id))

        async def silent() -> list[dict[str, Any]]:
            mine = (line for line in lines(stack, "cryptor") if line.get("job_id") == str(job_id))
            return [line for line in mine if line["action"] == "store.failed"]

        first, *_ = await until(silent, "the Cryptor does not tell of it")
    assert (first["type"], first["reason"], first["level"]) == ("keystore.dump.v1", "store_timeout", "warning")
    await dump
