"""What Prometheus may ask: requests, jobs, and how long both take."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_REQUEST_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_JOB_S = (0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 30, 60)


class Metrics:
    """The figures of one server; no label holds anything that a sender wrote.

    Args:
        waiting: says how many jobs wait.
        ready: says whether a worker can take one.
    """

    def __init__(self, waiting: Callable[[], int], ready: Callable[[], bool]) -> None:
        self._registry = CollectorRegistry()
        self.accepted = Counter("boneage_jobs_accepted", "Jobs accepted", registry=self._registry)
        self.turned_away = Counter(
            "boneage_jobs_turned_away", "Uploads answered 429, as the queue was full", registry=self._registry
        )
        self.ended = Counter("boneage_jobs_ended", "Jobs ended", ("state", "code"), registry=self._registry)
        self.job_seconds = Histogram(
            "boneage_job_seconds",
            "Seconds from taking a job to its end",
            buckets=_JOB_S,
            registry=self._registry,
        )
        self.requests = Counter(
            "boneage_http_requests", "Requests", ("method", "route", "status"), registry=self._registry
        )
        self.request_seconds = Histogram(
            "boneage_http_request_seconds", "Seconds to answer", ("route",), buckets=_REQUEST_S,
            registry=self._registry,
        )  # fmt: skip
        queue = Gauge("boneage_jobs_waiting", "Jobs that wait", registry=self._registry)
        queue.set_function(waiting)
        up = Gauge("boneage_ready", "Whether a worker can take a job", registry=self._registry)
        up.set_function(lambda: float(ready()))

    def page(self) -> bytes:
        """Return all figures in Prometheus' text form."""
        return generate_latest(self._registry)
