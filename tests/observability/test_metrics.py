"""Counters move by exactly what was done, and nothing of a client is in any of them."""

import base64
import os
import re
from typing import Final
from uuid import uuid4

import pytest

from contracts import topology
from contracts.failures import PermanentError
from contracts.stores import KeyDump
from infra.local.stack import Stack
from messaging.connection import Broker
from messaging.publishing import Outgoing, Publisher
from tests.fix_stack import BrokerAs
from tests.observability.scraping import SERVICES, Expected, moves, page
from trivault import Profile, Vault

JOBS: Final = {"trivault_job_seconds_count", "trivault_attempt_seconds_count"}
RECORDS: Final = {"trivault_records_total", "trivault_record_bytes_total"}
RPC: Final = {
    "trivault_rpc_client_seconds_count",
    "trivault_rpc_client_items_total",
    "trivault_rpc_server_seconds_count",
    "trivault_message_items_sum",
}
LINES: Final = {"trivault_log_lines_total"}


def asked(store: str, kind: str, items: int = 1) -> Expected:
    """What one answered store request moves at its two ends."""
    return {
        ("cryptor", "trivault_rpc_client_seconds_count", "answered", kind): 1,
        ("cryptor", "trivault_message_items_sum", kind): items,
        ("cryptor", "trivault_rpc_client_items_total", "succeeded", kind): items,
        (store, "trivault_rpc_server_seconds_count", "answered", kind): 1,
    }


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_can_be_scraped(stack: Stack, service: str) -> None:
    """Its dependencies are up, its event loop turns, its process is known."""
    text = await page(stack, service)
    assert re.search(r'^trivault_dependency_up\{dependency="\w+"\} 1.0$', text, re.MULTILINE)
    assert re.search(r"^trivault_event_loop_lag_seconds_count [1-9]", text, re.MULTILINE)
    assert re.search(r"^process_resident_memory_bytes [1-9]", text, re.MULTILINE)


async def test_a_dump_moves_what_a_dump_must_move(stack: Stack, vault: Vault) -> None:
    """One job, one attempt, one record of 1,000 bytes, one request to each store."""
    expected: Expected = {
        ("gateway", "trivault_job_seconds_count", "dump", "succeeded"): 1,
        ("gateway", "trivault_message_items_sum", "jobs.v1"): 1,
        ("cryptor", "trivault_attempt_seconds_count", "dump", "succeeded"): 1,
        ("cryptor", "trivault_records_total", "dump", "succeeded"): 1,
        ("cryptor", "trivault_record_bytes_total", "dump"): 1000,
        ("cryptor", "trivault_message_items_sum", "events.v1"): 1,
        **asked("keystore", "keystore.dump.v1"),
        **asked("datastore", "datastore.dump.v1"),
        **asked("mapstore", "mapstore.settle.v1"),
    }
    async with moves(stack, JOBS | RECORDS | RPC, expected):
        await vault.dump(os.urandom(1000))


async def test_a_load_moves_what_a_load_must_move(stack: Stack, vault: Vault) -> None:
    """One job, one attempt, one record of 2,000 bytes, one request to each store."""
    external_uuid = await vault.dump(os.urandom(2000))
    expected: Expected = {
        ("gateway", "trivault_job_seconds_count", "load", "succeeded"): 1,
        ("cryptor", "trivault_attempt_seconds_count", "load", "succeeded"): 1,
        ("cryptor", "trivault_records_total", "load", "succeeded"): 1,
        ("cryptor", "trivault_record_bytes_total", "load"): 2000,
    }
    async with moves(stack, JOBS | RECORDS, expected):
        await vault.load(external_uuid)


async def test_a_large_load_is_one_job_in_two_attempts(stack: Stack, vault: Vault) -> None:
    """It moves to the bulk lane, and is not taken for one that was handed out again."""
    external_uuid = await vault.dump(os.urandom(600_000))
    expected: Expected = {
        ("gateway", "trivault_job_seconds_count", "load", "succeeded"): 1,
        ("gateway", "trivault_log_lines_total", "job.moved", "debug", ""): 1,
        ("cryptor", "trivault_attempt_seconds_count", "load", "moved"): 1,
        ("cryptor", "trivault_attempt_seconds_count", "load", "succeeded"): 1,
    }
    async with moves(stack, JOBS | {"job.moved", "job.handed_out_again"}, expected):
        await vault.load(external_uuid)


async def test_a_failure_is_counted_by_its_code(stack: Stack, vault: Vault) -> None:
    """The Cryptor knows it; to the gateway, which cannot open the answer, it is a failure."""
    expected: Expected = {
        ("gateway", "trivault_job_seconds_count", "load", "failed"): 1,
        ("cryptor", "trivault_attempt_seconds_count", "load", "not_found"): 1,
        ("cryptor", "trivault_records_total", "load", "not_found"): 1,
        ("cryptor", "trivault_rpc_client_items_total", "not_found", "mapstore.load.v1"): 1,
    }
    async with moves(stack, JOBS | RECORDS | {"trivault_rpc_client_items_total"}, expected):
        with pytest.raises(PermanentError, match="not_found"):
            await vault.load(uuid4())


async def test_a_refused_request_is_counted_by_its_reason(stack: Stack, vault: Vault) -> None:
    """The same job id with other content: no job, no attempt."""
    job_id = uuid4()
    await vault.dump(b"one", job_id=job_id)
    expected: Expected = {("gateway", "trivault_log_lines_total", "request.refused", "info", "conflict"): 1}
    async with moves(stack, JOBS | LINES, expected):
        with pytest.raises(PermanentError, match="conflict"):
            await vault.dump(b"another", job_id=job_id)


async def test_a_message_that_does_not_open_is_counted(stack: Stack, broker_as: BrokerAs) -> None:
    """Published with the Cryptor's own certificate, but without the link's key."""
    expected: Expected = {("keystore", "trivault_log_lines_total", "rpc.request_dropped", "warning", "link_seal"): 1}
    settings = broker_as("svc.cryptor.keystore", topology.KEYSTORE)
    forged = Outgoing(type=KeyDump.TYPE, body=os.urandom(300), correlation_id="x")
    async with (
        moves(stack, LINES, expected),
        Broker.open(settings, "test") as broker,
        Publisher.open(broker.publishing) as publisher,
    ):
        await publisher.publish(topology.REQUESTS, topology.STORE_REQUESTS, forged)


async def test_nothing_of_a_client_is_in_any_metric(stack: Stack, newcomer: Profile) -> None:
    """Neither name nor ids nor content, in any usual form, whether it went well or not."""
    canary, job_id = os.urandom(48), uuid4()
    async with Vault.open(newcomer) as opened:
        external_uuid = await opened.dump(canary, job_id=job_id)
        assert await opened.load(external_uuid) == canary
        with pytest.raises(PermanentError):
            await opened.dump(b"other", job_id=job_id)
    text = "".join([await page(stack, service) for service in SERVICES])
    raw = (newcomer.owner, canary, job_id.bytes, external_uuid.bytes)
    forms = [form for each in raw for form in (each.hex(), base64.b64encode(each).decode(), repr(each)[2:-1])]
    assert [each for each in (newcomer.name, str(job_id), str(external_uuid), *forms) if each in text] == []
    assert 'op="dump"' in text  # it was there to be seen


async def test_labels_are_words_of_the_code(stack: Stack, vault: Vault) -> None:
    """Every label value is a short lower-case word: no room for anything that came in a message."""
    await vault.dump(b"something to count")
    text = "".join([await page(stack, service) for service in SERVICES])
    ours = [line for line in text.splitlines() if line.startswith("trivault_")]
    values = {value for line in ours for name, value in re.findall(r'(\w+)="([^"]*)"', line) if name != "le"}
    assert {value for value in values if not re.fullmatch(r"[a-z][a-z_.]{0,30}(\.v1)?|", value)} == set()
    assert "keystore.dump.v1" in values
