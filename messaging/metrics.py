"""Every metric of every service (docs/observability.md), and the only module that knows the metrics library.

A label takes values from a small closed set that the code itself names: never a client, an id, or anything that came in
a message. What is out of the ordinary has no metric of its own: every log line is counted, by its `action`.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics, make_wsgi_app
from structlog.typing import EventDict, WrappedLogger

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, which nobody asks for

# From one store call to an attempt at a bulk job, which may take 15 minutes.
SECONDS: Final = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 900.0)

# --- jobs -----------------------------------------------------------------------------------------------------------

JOB_SECONDS: Final = Histogram(
    "trivault_job_seconds",
    "Gateway: from a job's acceptance to its recorded end. The outcome is its state, or the code if it is unsealed.",
    ["op", "outcome"],
    buckets=SECONDS,
)
ATTEMPT_SECONDS: Final = Histogram(
    "trivault_attempt_seconds",
    "Cryptor: from taking a job up to reporting on it. The outcome is a failure code, `succeeded`, `moved` to the bulk "
    "lane, or `unsettled`: another attempt follows.",
    ["op", "outcome"],
    buckets=SECONDS,
)
RECORDS: Final = Counter(
    "trivault_records", "Cryptor: records dumped and loaded, one by one; a batch has many.", ["op", "outcome"]
)
RECORD_BYTES: Final = Counter(
    "trivault_record_bytes", "Cryptor: plaintext of jobs that succeeded, in by dumps and out by loads.", ["op"]
)
LEDGER_JOBS: Final = Gauge("trivault_ledger_jobs", "Gateway: unfinished jobs in the ledger.", ["state"])
LEDGER_OLDEST: Final = Gauge(
    "trivault_ledger_oldest_job_seconds", "Gateway: age of the oldest unfinished job; 0 without one.", ["state"]
)
BUDGET_BYTES: Final = Gauge(
    "trivault_budget_bytes", "Cryptor: the byte budget of large jobs, `held` by them and `free`.", ["share"]
)

# --- messages -------------------------------------------------------------------------------------------------------

MESSAGE_WAIT: Final = Histogram(
    "trivault_message_wait_seconds",
    "How long a sealed message on a durable queue had waited when it was taken up, by its sender's sealed clock.",
    ["type"],
    buckets=(0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0),
)
MESSAGE_ITEMS: Final = Histogram(
    "trivault_message_items",
    "Jobs, events or store items that were sent in one message: what coalescing achieves.",
    ["type"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 1000),
)
RPC_CLIENT_SECONDS: Final = Histogram(
    "trivault_rpc_client_seconds",
    "Cryptor: from sending a store request to its reply. The outcome is `answered` or `failed`.",
    ["type", "outcome"],
    buckets=SECONDS,
)
RPC_CLIENT_ITEMS: Final = Counter(
    "trivault_rpc_client_items", "Cryptor: items of answered store requests.", ["type", "outcome"]
)
RPC_SERVER_SECONDS: Final = Histogram(
    "trivault_rpc_server_seconds",
    "Stores: from opening a request to its reply. The outcome is `answered` or `unanswered`.",
    ["type", "outcome"],
    buckets=SECONDS,
)

# --- sweeps ---------------------------------------------------------------------------------------------------------

SWEEPS: Final = Counter(
    "trivault_sweeps", "Cryptor: sweeps but dry runs, by `done` or why they stopped by themselves.", ["outcome"]
)
SWEPT: Final = Counter(
    "trivault_swept",
    "Cryptor: keys and objects that these sweeps saw, found to be candidates, quarantined, released, purged.",
    ["kind", "count"],
)

# --- processes ------------------------------------------------------------------------------------------------------

DEPENDENCY_UP: Final = Gauge(
    "trivault_dependency_up", "Whether the service can use what it depends on (1) or not (0).", ["dependency"]
)
EVENT_LOOP_LAG: Final = Histogram(
    "trivault_event_loop_lag_seconds",
    "By how much a timer of the event loop was late.",
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2.0),
)
LOG_LINES: Final = Counter(
    "trivault_log_lines",
    "Log lines, by action and by the reason or code that they give.",
    ["level", "action", "reason"],
)


@cache  # `labels` takes three times as long as counting does; the sets are closed, and so is the cache
def _series(metric: Counter | Histogram, *labels: str) -> Any:
    return metric.labels(*labels)


def count(counter: Counter, *labels: str, by: float = 1) -> None:
    """Count `by` more of what the labels say."""
    _series(counter, *labels).inc(by)


def count_outcomes(counter: Counter, *labels: str, codes: Sequence[str | None]) -> None:
    """Count items, each as `succeeded` or by the code of its failure; the outcome is the last label."""
    failed = [code for code in codes if code is not None]
    for code in failed:
        count(counter, *labels, code)
    if len(failed) < len(codes):
        count(counter, *labels, "succeeded", by=len(codes) - len(failed))


def observe(histogram: Histogram, *labels: str, value: float) -> None:
    """Add a value to the distribution of what the labels say."""
    _series(histogram, *labels).observe(value)


def count_line(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Count a log line: a structlog processor."""
    count(LOG_LINES, line["level"], line["action"], line.get("reason") or line.get("code") or "")
    return line


exposition: Final = make_wsgi_app(REGISTRY)
