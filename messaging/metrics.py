"""Every metric of every service (docs/observability.md), and the only module that knows the metrics library.

A label takes values from a small closed set that the code itself names: never a client, an id, or anything that came in
a message. What is unusual has no metric of its own here: every log line is counted by its `action`.
"""

from typing import Final

from prometheus_client import REGISTRY, Gauge, Histogram, disable_created_metrics, make_wsgi_app

disable_created_metrics()  # a series more for each, which nobody asks for

EVENT_LOOP_LAG: Final = Histogram(
    "trivault_event_loop_lag_seconds",
    "By how much a timer of the event loop was late.",
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2.0),
)
DEPENDENCY_UP: Final = Gauge(
    "trivault_dependency_up", "Whether the service can use what it depends on (1) or not (0).", ["dependency"]
)

exposition: Final = make_wsgi_app(REGISTRY)
