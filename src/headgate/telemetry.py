"""Counters and histograms as plain numbers and lists, and their Prometheus text (exposition format 0.0.4).

One process, one thread: nothing here locks. A series is looked up once (per connection, revision or batch) and then only added to.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Histogram:
    """Counts by upper bound, their sum and number."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


Labels = tuple[tuple[str, str], ...]


class Family:
    """One metric with all its series; ``make`` builds a fresh one."""

    def __init__(self, name: str, kind: str, text: str, make: Callable[[], Counter | Histogram]) -> None:
        self.name = name
        self.kind = kind
        self.text = text
        self._make = make
        self._series: dict[Labels, Counter | Histogram] = {}

    def series(self, **labels: str) -> Counter | Histogram:
        """Return the series with these labels, making it on first use."""
        key = tuple(labels.items())
        found = self._series.get(key)
        if found is None:
            found = self._series[key] = self._make()
        return found

    def drop(self, **labels: str) -> None:
        """Forget every series that carries all of these labels, so that retired revisions do not pile up."""
        wanted = set(labels.items())
        self._series = {key: value for key, value in self._series.items() if not wanted <= set(key)}

    def lines(self) -> Iterable[str]:
        """Yield the exposition lines."""
        yield f"# HELP {self.name} {self.text}"
        yield f"# TYPE {self.name} {self.kind}"
        for labels, series in self._series.items():
            if isinstance(series, Histogram):
                yield from _histogram_lines(self.name, labels, series)
            else:
                yield f"{self.name}{labels_text(labels)} {series.value}"


def gauge_lines(name: str, text: str, values: Mapping[Labels, float]) -> Iterable[str]:
    """Yield the exposition lines of a gauge that is read off when asked for."""
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} gauge"
    for labels, value in values.items():
        yield f"{name}{labels_text(labels)} {value:g}"


def _histogram_lines(name: str, labels: Labels, series: Histogram) -> Iterable[str]:
    total = 0
    for bound, count in zip((*series.bounds, float("inf")), series.counts, strict=True):
        total += count
        le = "+Inf" if bound == float("inf") else f"{bound:g}"
        yield f"{name}_bucket{labels_text((*labels, ('le', le)))} {total}"
    yield f"{name}_sum{labels_text(labels)} {series.sum:.9g}"
    yield f"{name}_count{labels_text(labels)} {total}"


def labels_text(labels: Labels) -> str:
    """Return labels as they stand behind the name of a metric."""
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
