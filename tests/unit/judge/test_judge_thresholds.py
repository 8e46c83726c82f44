"""What counts as slow."""

from __future__ import annotations

import numpy as np
import pytest

from headgate.judge.thresholds import MEMORY, Sketch, Thresholds, add, bucket, dense, merge, quantile, thresholds, upper_edge


def test_quantiles_are_one_percent_off_at_most() -> None:
    """Never below the true quantile, and at most 1 % above it."""
    values = np.random.default_rng(1).lognormal(-4.0, 1.0, 10_000)
    counts = dense(add(Sketch(), values))
    for q in (0.5, 0.95, 0.99):
        true = np.sort(values)[int(np.ceil(q * len(values))) - 1]
        assert true <= quantile(counts, q) <= true * 1.01 * (1 + 1e-5)


def test_equal_latencies_are_not_slower_than_themselves() -> None:
    """Where all requests take 5 ms, 5 ms is not slow, in single precision either."""
    values = np.full(1_000, 0.005)
    threshold = thresholds(add(Sketch(), values), Sketch()).slow95
    assert threshold is not None
    assert np.float32(0.005) <= threshold < 0.00506


def test_extremes_have_buckets() -> None:
    """Zero, a nanosecond and a week are counted somewhere; a value is never above the edge of its bucket."""
    values = np.array([0.0, 1e-9, 1e-3, 3_599.0, 604_800.0])
    assert (upper_edge(bucket(values)) >= values).all()
    assert upper_edge(bucket(604_800.0)) == np.inf


def test_a_threshold_needs_a_past() -> None:
    """Ten requests must lie above it: the median is known after 20, the 99 % quantile after 1,000."""
    assert thresholds(Sketch(), Sketch()) == Thresholds()
    after_20 = thresholds(add(Sketch(), np.full(20, 0.01)), Sketch())
    assert after_20.slow50 is not None
    assert after_20.slow95 is None
    after_1000 = thresholds(add(Sketch(), np.full(1_000, 0.01)), add(Sketch(), np.full(200, 1e-6)))
    assert None not in (after_1000.slow95, after_1000.slow99, after_1000.slow_compute)


def test_the_past_fades() -> None:
    """Counts are halved after so many requests, so that the median follows a change of the load."""
    before = add(Sketch(), np.full(MEMORY, 0.01))
    assert sum(count for _, count in before.counts) == MEMORY / 2
    after = add(before, np.full(MEMORY, 0.03))
    assert thresholds(after, Sketch()).slow50 == pytest.approx(0.03, rel=0.011)


def test_sketches_add_up() -> None:
    """Those of two gateways are one."""
    first, second = np.random.default_rng(2).lognormal(size=(2, 500))
    both = merge(add(Sketch(), first), add(Sketch(), second))
    assert both.counts == add(Sketch(), np.concatenate([first, second])).counts
