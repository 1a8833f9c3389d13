"""What the server counts, in Prometheus' words; one registry a process, or one a machine for several workers."""

import os
from collections.abc import Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from featureflow_cli.evaluate.vector import Vector

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second line a series, which nobody asks for
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_AGES = (0.1, 1, 10, 60, 600, 3_600, 21_600, 86_400, 604_800)
_MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """The server's metrics; names begin with `featureflow_`."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "featureflow_http_requests", "Requests answered.", ["endpoint", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "featureflow_http_request_seconds",
            "From the request's head to the end of the answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._errors = Counter(
            "featureflow_errors", "Errors by their code.", ["code"], registry=self._registry
        )
        self._vectors = Counter(
            "featureflow_vectors", "Vectors served; the service is empty for a list of features.", ["service"],
            registry=self._registry,
        )  # fmt: skip
        self._statuses = Counter(
            "featureflow_view_status", "What was known of the entity, per view.", ["view", "status"],
            registry=self._registry,
        )  # fmt: skip
        self._ages = Histogram(
            "featureflow_view_age_seconds",
            "as_of less the newest event of the state that was read: how fresh what is served is.",
            ["view"],
            buckets=_AGES,
            registry=self._registry,
        )
        self._store = Histogram(
            "featureflow_store_read_seconds", "One read of states from the online store.", buckets=_SECONDS,
            registry=self._registry,
        )  # fmt: skip
        self._in_flight = Gauge(
            "featureflow_requests_in_flight", "Requests being answered.", registry=self._registry,
            multiprocess_mode="livesum",
        )  # fmt: skip
        self._version = Gauge(
            "featureflow_registry_version", "The applied version that is served.", registry=self._registry,
            multiprocess_mode="min",
        )  # fmt: skip

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        self._requests.labels(endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def failed(self, code: str) -> None:
        self._errors.labels(code).inc()

    def served(self, service: str, vectors: Sequence[Vector]) -> None:
        self._vectors.labels(service).inc(len(vectors))
        for vector in vectors:
            for view, status in vector.status.items():
                self._statuses.labels(view, status).inc()
            for view, age_us in vector.age_us.items():
                self._ages.labels(view).observe(age_us / 1e6)

    def store_read(self, seconds: float) -> None:
        self._store.observe(seconds)

    def in_flight(self, count: int) -> None:
        self._in_flight.set(count)

    def version(self, version: int) -> None:
        self._version.set(version)

    def text(self) -> bytes:
        if os.environ.get(_MULTIPROCESS):
            machine = CollectorRegistry()
            MultiProcessCollector(machine)  # type: ignore[no-untyped-call]
            return generate_latest(machine)
        return generate_latest(self._registry)
