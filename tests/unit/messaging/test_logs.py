"""Logs: a planted canary never comes out, whoever logs it and however deep it sits."""

import asyncio
import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import structlog
from aiormq.exceptions import DeliveryError
from pamqp import commands
from prometheus_client import REGISTRY

from contracts.failures import FailureCode, PermanentError
from messaging import logs, metrics
from messaging.logs import FOREIGN, Redact, describe, silence_payloads

CANARY = "canary-5e17"


@pytest.fixture(name="lines")
def configured() -> Iterator[io.StringIO]:
    """Logs configured as a service does it, into memory; undone afterwards."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    logs.configure("tested", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def _read(lines: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def _returned() -> DeliveryError:
    """What aiormq raises for a returned message: its text holds the message with its body."""
    message = type("Message", (), {"__repr__": lambda _: f"<message {CANARY}>"})()
    return DeliveryError(message, commands.Basic.Return(312, CANARY, "", CANARY))


def _fail() -> None:
    raise ValueError(CANARY)


def _raise_nested() -> None:
    """A chain and a group with the canary in every text."""
    inner = KeyError(CANARY)
    try:
        _fail()
    except ValueError as error:
        inner.__cause__ = error
    every = [inner, _returned(), PermanentError(FailureCode.CONFLICT, "other_content")]
    raise ExceptionGroup(CANARY, every) from OSError(CANARY)


def _caught() -> Exception:
    try:
        _raise_nested()
    except ExceptionGroup as error:
        return error
    raise AssertionError


def test_the_canary_is_in_what_is_logged() -> None:
    """These tests would notice a leak: the libraries' own texts do contain it."""
    assert CANARY in str(_returned())
    assert CANARY in str(_caught())


def test_an_exception_is_described_without_its_text() -> None:
    """Types, places, codes and causes, all the way down; no text of any of them."""
    told = describe(_caught())
    assert CANARY not in json.dumps(told)
    assert told["type"] == "ExceptionGroup"
    assert told["cause"]["type"] == "OSError"
    assert [each["type"] for each in told["group"]] == ["KeyError", "DeliveryError", "PermanentError"]
    assert told["group"][0]["cause"]["type"] == "ValueError"
    assert told["group"][2]["reason"] == "other_content"
    assert any("_raise_nested" in place for place in told["at"])


def test_a_services_own_exception_is_logged_without_its_text(lines: io.StringIO) -> None:
    """`log.exception` renders what `describe` says."""
    try:
        _raise_nested()
    except ExceptionGroup:
        logs.log.exception("a job failed", action="job.failed")
    (line,) = _read(lines)
    assert CANARY not in lines.getvalue()
    assert (line["action"], line["service"], line["level"]) == ("job.failed", "tested", "error")
    assert line["error"]["type"] == "ExceptionGroup"


@pytest.mark.parametrize("name", [*FOREIGN, "asyncio", "some.library", "root"])
def test_a_librarys_record_keeps_its_place_and_nothing_else(lines: io.StringIO, name: str) -> None:
    """Text, arguments, exception and stack are dropped, for every library, known or not."""
    logger = logging.getLogger(name)
    logger.error("returned %r", CANARY, exc_info=_caught(), stack_info=True, extra={"note": CANARY})
    (line,) = _read(lines)
    assert CANARY not in lines.getvalue()
    assert line["action"] == "library"
    assert "test_logs" in line["where"]


def test_a_warning_is_a_line_like_any_other(lines: io.StringIO) -> None:
    """And no text on stderr that nobody can parse."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(CANARY, stacklevel=1)
    (line,) = _read(lines)
    assert (line["action"], line["logger"]) == ("library", "py.warnings")
    assert CANARY not in lines.getvalue()


@pytest.mark.parametrize("name", FOREIGN)
def test_an_sdk_users_own_handler_gets_no_payload_either(name: str) -> None:
    """Without a service around it: redaction sits at the library's logger, ahead of any handler."""
    silence_payloads()
    silence_payloads()
    logger, stream = logging.getLogger(name), io.StringIO()
    assert sum(isinstance(present, Redact) for present in logger.filters) == 1
    handler = logging.StreamHandler(stream)
    logger.addHandler(handler)
    try:
        logger.error("returned %r", _returned(), exc_info=_caught(), stack_info=True)
    finally:
        logger.removeHandler(handler)
    assert CANARY not in stream.getvalue()
    assert "test_logs" in stream.getvalue()


def test_lines_of_several_processes_can_be_sorted_by_time(lines: io.StringIO) -> None:
    """The time stands first, whatever else is in a line."""
    logs.log.info("a job ended", action="job.ended", aardvark=1)
    logs.log.warning("a message waits", action="message.waits")
    assert [next(iter(line)) for line in _read(lines)] == ["timestamp", "timestamp"]
    assert sorted(lines.getvalue().splitlines()) == lines.getvalue().splitlines()


async def test_a_job_is_followed_by_its_task_and_those_that_it_starts(lines: io.StringIO) -> None:
    """And by nobody else."""
    job_id = uuid4()

    async def work() -> None:
        logs.follow(job_id)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(step())

    async def step() -> None:
        logs.log.info("a step", action="step")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(work())
        tasks.create_task(step())
    assert sorted(line.get("job_id", "none") for line in _read(lines)) == sorted([str(job_id), "none"])


def test_every_line_that_is_written_is_counted(lines: io.StringIO) -> None:
    """By level, action and reason, or the code where no reason is given; what is filtered out is not."""
    logs.configure("tested", stream=lines, processors=[metrics.count_line])

    def counted(level: str, reason: str) -> float | None:
        labels = {"level": level, "action": "tested.counted", "reason": reason}
        return REGISTRY.get_sample_value("trivault_log_lines_total", labels)

    for _ in range(2):
        logs.log.warning("x", action="tested.counted")
        logs.log.warning("x", action="tested.counted", reason="late", code="expired")
        logs.log.warning("x", action="tested.counted", reason="", code=FailureCode.BUSY)
        logs.log.debug("x", action="tested.counted")
    assert [counted("warning", reason) for reason in ("", "late", "busy")] == [2, 2, 2]
    assert counted("debug", "") is None
