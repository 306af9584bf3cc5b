"""Structured logs that cannot print a payload.

One JSON object per line on stdout, each with an `action`. Of foreign libraries only the logger, the level and the line
of code are kept, because they format whole messages into their texts (aiormq logs a returned message with its body); of
an exception only its type and where it came from. This module does not know what is being logged.
"""

import logging
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, TextIO
from uuid import UUID

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from contracts.failures import VaultError

FOREIGN: Final = (
    "aiormq.channel",
    "aiormq.connection",
    "aiormq.abc",
    "aio_pika",
    "aio_pika.channel",
    "aio_pika.connection",
    "aio_pika.exchange",
    "aio_pika.message",
    "aio_pika.queue",
    "aio_pika.robust_channel",
    "aio_pika.robust_connection",
    "aio_pika.robust_exchange",
    "aio_pika.robust_queue",
    "aio_pika.tools",
)

log = structlog.stdlib.get_logger()


class Redact(logging.Filter):
    """Replace a record's text, arguments and exception by where it was logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact in place; never drop."""
        record.msg = f"{record.module}:{record.lineno} {record.funcName}"
        record.args = ()
        record.exc_info = record.exc_text = record.stack_info = None
        return True


def silence_payloads() -> None:
    """Redact the AMQP libraries wherever their records go: services and SDK users alike."""
    for name in FOREIGN:
        logger = logging.getLogger(name)
        if not any(isinstance(present, Redact) for present in logger.filters):
            logger.addFilter(Redact())


def describe(error: BaseException) -> dict[str, Any]:
    """Type, code and place of an exception and of what caused it, without its text."""
    told: dict[str, Any] = {"type": type(error).__qualname__, "at": _places(error.__traceback__)}
    if isinstance(error, VaultError):
        told |= {"code": str(error.code), "reason": error.reason}
    if isinstance(error, BaseExceptionGroup):
        told["group"] = [describe(each) for each in error.exceptions]
    if error.__cause__ is not None:
        told["cause"] = describe(error.__cause__)
    return told


def _places(trace: TracebackType | None) -> list[str]:
    return [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)]


def _exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Render `exc_info` without texts."""
    given = event.pop("exc_info", None)
    if given:
        error = given if isinstance(given, BaseException) else sys.exc_info()[1]
        if error is not None:
            event["error"] = describe(error)
    return event


def _in_order(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The time first, so that `sort` puts lines of several processes in order."""
    first = ("timestamp", "level", "service", "action", "message")
    return {**{key: event[key] for key in first if key in event}, **event}


class _Foreign(logging.Handler):
    """Everything logged through the standard library: name, level and place only."""

    def emit(self, record: logging.LogRecord) -> None:
        where = f"{record.module}:{record.lineno} {record.funcName}"
        log.log(record.levelno, "library", action="library", logger=record.name, where=where)


def follow(job_id: UUID) -> None:
    """Put a job's id into every line that this task, and those that it starts, will log."""
    structlog.contextvars.bind_contextvars(job_id=str(job_id))


def configure(
    service: str, level: str = "info", stream: TextIO | None = None, processors: Sequence[Processor] = ()
) -> None:
    """Send structured lines to `stream` (stdout), the service's name in each; `processors` see them first."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            *processors,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.EventRenamer("message"),
            _exception,
            _in_order,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream or sys.stdout),
        cache_logger_on_first_use=stream is None,  # a fifth of a line's time; who names a stream may name another
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.captureWarnings(capture=True)  # else they are lines of stderr that are no JSON
    root = logging.getLogger()
    root.handlers[:] = [_Foreign()]
    root.setLevel(logging.WARNING)
    silence_payloads()
