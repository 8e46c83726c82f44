"""What a gateway counts, by name: the one list of its Prometheus metrics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from headgate.telemetry import ROWS, SECONDS, Counter, Family, Histogram, Labels, gauge_lines


class ProtocolSeries:
    """The counters of one (deployment, revision, protocol), looked up once and then only added to."""

    __slots__ = ("_labels", "_requests", "by_status", "failed_seconds", "headers", "revision", "seconds")

    def __init__(self, requests: Family, seconds: Family, labels: dict[str, str]) -> None:
        self._requests = requests
        self._labels = labels
        self.revision = labels["revision"]
        self.seconds = cast(Histogram, seconds.series(**labels))
        self.by_status: dict[int, Counter] = {}
        self.headers = b""
        """Lines of every answer: who gave it, while a rollout is under way."""
        self.failed_seconds = 0.0
        """Of `seconds`, those of requests that failed."""

    def count(self, status: int, seconds: float) -> None:
        """Count one answered request."""
        counter = self.by_status.get(status)
        if counter is None:
            counter = self.by_status[status] = cast(Counter, self._requests.series(**self._labels, status=str(status)))
        counter.value += 1
        self.seconds.observe(seconds)

    def count_failed(self, status: int, seconds: float) -> None:
        """Count one request that was refused or failed."""
        self.count(status, seconds)
        self.failed_seconds += seconds


class Metrics:
    """All families of one gateway."""

    def __init__(self) -> None:
        self.requests = Family("headgate_requests_total", "counter", "Requests answered.", Counter)
        self.seconds = Family(
            "headgate_request_seconds",
            "histogram",
            "From the last byte of the request to the answer, seconds.",
            lambda: Histogram(SECONDS),
        )
        self.queue = Family(
            "headgate_queue_seconds",
            "histogram",
            "From the arrival of a request to its dispatch in a batch, seconds.",
            lambda: Histogram(SECONDS),
        )
        self.compute = Family(
            "headgate_compute_seconds", "histogram", "Time the model took for a batch, seconds.", lambda: Histogram(SECONDS)
        )
        self.first_part = Family(
            "headgate_first_part_seconds",
            "histogram",
            "From the arrival of a request to the first part of its answer, seconds; of models that answer in parts.",
            lambda: Histogram(SECONDS),
        )
        self.rows = Family("headgate_batch_rows", "histogram", "Rows of a batch.", lambda: Histogram(ROWS))
        self.refused = Family(
            "headgate_refused_total", "counter", "Requests refused before a deployment was found, by status.", Counter
        )
        self.rejected = Family("headgate_rejected_total", "counter", "Requests refused because the queue was full (429).", Counter)
        self.expired = Family("headgate_expired_total", "counter", "Requests whose deadline passed (504).", Counter)
        self.abandoned = Family("headgate_abandoned_total", "counter", "Requests whose client went away.", Counter)
        self.mirrored = Family(
            "headgate_mirrored_total",
            "counter",
            "Copies of requests that the candidate of a shadow has run, by result: agreed, differed, failed, not_compared.",
            Counter,
        )
        self.mirror_dropped = Family(
            "headgate_mirror_dropped_total",
            "counter",
            "Copies that were not made, or given up: bytes, in_flight, inputs, kind, no_replica, queue, refused, rows, stopped.",
            Counter,
        )
        self._series: dict[tuple[str, str], ProtocolSeries] = {}

    def of_protocol(self, deployment: str, revision: str, protocol: str) -> ProtocolSeries:
        """Return the series of one protocol and revision."""
        key = (revision, protocol)
        found = self._series.get(key)
        if found is None:
            labels = {"deployment": deployment, "revision": revision, "protocol": protocol}
            found = self._series[key] = ProtocolSeries(self.requests, self.seconds, labels)
        return found

    def of_revision(self, deployment: str, revision: str) -> tuple[Histogram, Histogram, Histogram]:
        """Return the histograms of queue time, compute time and batch rows."""
        families = (self.queue, self.compute, self.rows)
        found = [cast(Histogram, family.series(deployment=deployment, revision=revision)) for family in families]
        return found[0], found[1], found[2]

    def of_first_parts(self, deployment: str, revision: str) -> Histogram:
        """Return the histogram of the time to the first part, of a model that answers in parts."""
        return cast(Histogram, self.first_part.series(deployment=deployment, revision=revision))

    def add(self, family: Family, **labels: str) -> None:
        """Count one of something rare."""
        cast(Counter, family.series(**labels)).value += 1

    def forget_revision(self, revision: str) -> None:
        """Drop the series of a retired revision, so that the number of series stays bounded."""
        for family in self._families():
            family.drop(revision=revision)
        self._series = {key: series for key, series in self._series.items() if key[0] != revision}

    def text(self, gauges: Iterable[tuple[str, str, dict[Labels, float]]]) -> str:
        """Return the exposition; ``gauges`` are (name, help, values) read off now."""
        lines = [line for family in self._families() for line in family.lines()]
        for name, text, values in gauges:
            lines.extend(gauge_lines(name, text, values))
        return "\n".join(lines) + "\n"

    def _families(self) -> list[Family]:
        return [value for value in vars(self).values() if isinstance(value, Family)]
