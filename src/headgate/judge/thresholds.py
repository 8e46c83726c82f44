"""What counts as slow: quantiles of the baseline's past, so that they are known before the request they are applied to.

A sketch counts values in buckets whose edges are 1 % apart, from a nanosecond to an hour. Sketches of the same requests are equal
however these were cut into batches, and two sketches add up (Masson, Rim and Lee, "DDSketch", VLDB 2019, arXiv 1908.10693, section 2). The
quantile is the upper edge of its bucket, at most 1 % above the true one: where many latencies are equal, an equal one is not slower.

To follow a day's load, counts are halved whenever a number of requests has passed. Halving is exact in floating point.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from headgate.judge.evalue import Floats

STEP = np.log(1.01)
SMALLEST = 1e-9
"""Seconds; everything below falls into the first bucket."""
SLACK = 1.0 + 1e-6
"""An edge is given a little larger: latencies travel in single precision, and one that is equal to it must not be above it."""
BUCKETS = int(np.ceil(np.log(3600.0 / SMALLEST) / STEP)) + 2
"""The last one takes everything above an hour."""
MEMORY = 20_000
"""Requests after which the past counts half."""
TAIL = 10
"""A threshold is given once so many past requests lie above it: the 99 % quantile after 1,000."""


class Sketch(msgspec.Struct, frozen=True, kw_only=True):
    """Values counted by bucket; sparse, as it is stored."""

    counts: tuple[tuple[int, float], ...] = ()
    """(bucket, count), by bucket; halves of halves, so not whole numbers."""
    fresh: int = 0
    """Values since the counts were halved last."""


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateways compare with, sent down with the routing table. Seconds; None: not known yet, and no request is slow."""

    slow50: float | None = None
    slow95: float | None = None
    slow99: float | None = None
    slow_compute: float | None = None
    """Per row."""


def bucket(values: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the bucket of each of ``values`` (seconds, 0 or more)."""
    positions = np.ceil(np.log(np.maximum(np.asarray(values, float), SMALLEST) / SMALLEST) / STEP)
    return np.asarray(np.minimum(positions, BUCKETS - 1), dtype=np.int64)


def upper_edge(index: npt.ArrayLike) -> Floats:
    """Return the largest value, in seconds, that falls into a bucket; infinity for the last."""
    edges: Floats = np.where(np.asarray(index) < BUCKETS - 1, SLACK * SMALLEST * np.exp(np.asarray(index, float) * STEP), np.inf)
    return edges


def quantile(counts: Floats, q: float) -> Floats:
    """Return the ``q``-quantile in seconds of values counted in ``counts``, shape ``(..., BUCKETS)``."""
    running = np.cumsum(counts, axis=-1)
    return upper_edge(np.argmax(running >= q * running[..., -1:], axis=-1))


def dense(sketch: Sketch) -> Floats:
    """Return the counts of all buckets, shape ``(BUCKETS,)``."""
    counts: Floats = np.zeros(BUCKETS)
    for index, count in sketch.counts:
        counts[index] = count
    return counts


def add(sketch: Sketch, values: npt.ArrayLike, memory: int = MEMORY) -> Sketch:
    """Return the sketch with ``values`` (seconds, one dimension, in their order) counted in."""
    buckets = bucket(values)
    if not buckets.size:
        return sketch
    counts, fresh = dense(sketch), sketch.fresh
    while buckets.size:
        now, buckets = np.split(buckets, [memory - fresh])
        counts += np.bincount(now, minlength=BUCKETS)
        fresh += len(now)
        if fresh == memory:
            counts, fresh = counts / 2.0, 0
    filled = np.flatnonzero(counts)
    return Sketch(counts=tuple(zip(filled.tolist(), counts[filled].tolist(), strict=True)), fresh=fresh)


def merge(first: Sketch, second: Sketch) -> Sketch:
    """Return one sketch of the values of both."""
    counts = dense(first) + dense(second)
    filled = np.flatnonzero(counts)
    return Sketch(counts=tuple(zip(filled.tolist(), counts[filled].tolist(), strict=True)), fresh=max(first.fresh, second.fresh))


def thresholds(latency: Sketch, compute: Sketch) -> Thresholds:
    """Return the thresholds that the past of the baseline supports."""
    return Thresholds(
        slow50=_supported(latency, 0.50),
        slow95=_supported(latency, 0.95),
        slow99=_supported(latency, 0.99),
        slow_compute=_supported(compute, 0.95),
    )


def _supported(sketch: Sketch, q: float) -> float | None:
    counts = dense(sketch)
    if counts.sum() * (1.0 - q) < TAIL * (1.0 - 1e-9):
        return None
    return float(quantile(counts, q))
