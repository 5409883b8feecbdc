"""Every metric of the platform, declared once. Labels are bounded: never an id."""

from importlib.metadata import version
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

REGISTRY = CollectorRegistry(auto_describe=True)
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

#: Metric (without _total) → its labels in order, for the reference.
LABELS: dict[str, tuple[str, ...]] = {}

M = TypeVar("M", Counter, Gauge, Histogram)

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LONG = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400)


class Family(Generic[M]):
    """A metric whose children are kept: ``HTTP_REQUESTS.of("auth", "/api/users", "GET", "200").inc()``."""

    __slots__ = ("_children", "_metric")

    def __init__(self, metric: M) -> None:
        self._metric: M = metric
        self._children: dict[tuple[str, ...], M] = {}

    def of(self, *labels: str) -> M:
        """The child with these label values, in the order declared."""
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._metric.labels(*labels)
        return child


def _declared(name: str, labels: tuple[str, ...]) -> str:
    whole = f"dataaggregator_{name}"
    LABELS[whole.removesuffix("_total")] = labels
    return whole


def _counter(name: str, told: str, *labels: str) -> Counter:
    return Counter(_declared(name, labels), told, labels, registry=REGISTRY)


def _gauge(name: str, told: str, *labels: str) -> Gauge:
    return Gauge(_declared(name, labels), told, labels, registry=REGISTRY)


def _histogram(name: str, told: str, *labels: str, buckets: tuple[float, ...] = _FAST) -> Histogram:
    return Histogram(_declared(name, labels), told, labels, registry=REGISTRY, buckets=buckets)


HTTP_REQUESTS = Family(_counter("http_requests_total", "HTTP calls answered.", "service", "route", "method", "status"))
HTTP_REQUEST_DURATION = Family(
    _histogram("http_request_duration_seconds", "From the head of a call to its answer.", "service", "route", "method")
)
DB_POOL_CONNECTIONS = Family(
    _gauge("db_pool_connections", "Database connections by state: idle, used.", "service", "state")
)
DB_POOL_WAIT = _histogram("db_pool_wait_seconds", "Waiting for a database connection.")
BUS_PUBLISHED = Family(_counter("bus_published_total", "Events published and confirmed.", "service"))
BUS_CONSUMED = Family(
    _counter("bus_consumed_total", "Events consumed, by verdict: ack, retry, park.", "service", "verdict")
)
OUTBOX_PENDING = Family(_gauge("outbox_pending", "Events committed and not yet published.", "service"))
OUTBOX_OLDEST = Family(_gauge("outbox_oldest_seconds", "Age of the oldest event not yet published.", "service"))
OUTBOX_UNKNOWN = Family(
    _gauge("outbox_unknown", "Of the events not yet published, those that only another version can publish.", "service")
)
PARKED_MESSAGES = Family(_gauge("parked_messages", "Messages set aside for a person.", "service"))
RUNS = Family(_counter("runs_total", "Runs ended, by status.", "status"))
RUN_DURATION = _histogram("run_duration_seconds", "From a run's start to its end.", buckets=_LONG)
RUNS_IN_STATE = Family(_gauge("runs_in_state", "Runs now queued or running.", "state"))
RUNS_UNSTORED = _gauge("runs_unstored", "Runs with rejected rows that are not in the run store.")
EXECUTOR_MEMORY = Family(
    _gauge("executor_memory_bytes", "Memory of an executor's runs: limit, declared by those at work, wanted.", "state")
)
RUN_ROWS = Family(
    _counter("run_rows_total", "Rows of ended runs, by outcome: read, written, filtered, rejected.", "outcome")
)
RUN_UNBALANCED = _counter("run_unbalanced_total", "Runs failed because their ledger did not add up.")
PIPELINES_LATE = _gauge("pipelines_late", "Pipelines that have not succeeded by when they should have.")
SCHEDULE_LAG = _histogram("schedule_lag_seconds", "From a slot's time to its run being asked for.", buckets=_LONG)
LOOKS = Family(_counter("trigger_looks_total", "Looks for arrived files: succeeded, failed.", "outcome"))
RATE_LIMITED = Family(_counter("rate_limited_total", "Calls refused by a rate limit.", "class"))
CIRCUIT_OPEN = Family(_gauge("circuit_open", "1 while the gateway has given this service up for a moment.", "upstream"))
WEBHOOKS = Family(_counter("webhook_attempts_total", "Tries to deliver an event: delivered, failed.", "outcome"))
TLS_CERTIFICATE_ENDS = Family(
    _gauge("tls_certificate_end_timestamp_seconds", "When the certificate that is shown to callers ends.", "setting")
)
LOGINS = Family(_counter("logins_total", "Logins, by outcome: succeeded, failed, limited, inactive.", "outcome"))
BUILD_INFO = _gauge("build_info", "Always 1; the version is the label.", "version")
BUILD_INFO.labels(version("dataaggregator")).set(1)


def exposition() -> bytes:
    """All metrics in Prometheus' text format."""
    return generate_latest(REGISTRY)
