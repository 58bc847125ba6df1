"""The metrics for Prometheus: requests, rows, latency and refusals, each by model and version."""

from __future__ import annotations

from functools import cache

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """The metrics of one model version."""

    def __init__(self, model: str, version: str, registry: CollectorRegistry = REGISTRY) -> None:
        labels, of = ("model", "version"), (model, version)
        requests = Counter("serving_requests", "Answered requests.", (*labels, "endpoint", "code"), registry=registry)
        self._count = cache(lambda endpoint, code: requests.labels(*of, endpoint, code))
        self.rows = Counter("serving_rows", "Scored rows.", labels, registry=registry).labels(*of)
        self.seconds = Histogram(
            "serving_request_duration_seconds",
            "From the whole body to the answer, of requests that were scored.",
            labels,
            buckets=SECONDS,
            registry=registry,
        ).labels(*of)
        self.loaded = Gauge(
            "serving_model_loaded", "1 once the model has answered its input example.", labels, registry=registry
        ).labels(*of)
        self.unlogged = Counter(
            "serving_unlogged_rows", "Sampled rows that the request log had no room for.", labels, registry=registry
        ).labels(*of)

    def answered(self, endpoint: str, code: int) -> None:
        """Counts one answer."""
        self._count(endpoint, code).inc()
