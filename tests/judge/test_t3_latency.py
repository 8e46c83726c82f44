"""T3: latencies that wander together, jump, or are equal to each other, with thresholds learned from the baseline's past."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from promises import ALPHA, HARM, at_most, harm

from headgate.judge.thresholds import BUCKETS, bucket, quantile
from headgate.testing.trials import log_e_path

RUNS, REQUESTS, TICK, WEIGHT = 2_000, 4_000, 400, 0.1
"""The thresholds are renewed at each tick, as a control loop would."""
PART = 500
"""Runs held in memory at a time."""
QUANTILES = (0.5, 0.95, 0.99)


def noise(rng: np.random.Generator) -> Any:
    """What differs from request to request, around 10 ms."""
    return 0.01 * np.exp(0.4 * rng.standard_normal((PART, REQUESTS), dtype=np.float32))


def wandering(rng: np.random.Generator) -> Any:
    """A day's load and shocks that fade slowly, the same for both arms."""
    shock, level = np.zeros((PART, REQUESTS), np.float32), np.zeros(PART, np.float32)
    for request in range(REQUESTS):
        level = 0.99 * level + 0.1 * rng.standard_normal(PART, dtype=np.float32)
        shock[:, request] = level
    return noise(rng) * np.exp(shock + 0.5 * np.sin(np.linspace(0.0, 4.0 * np.pi, REQUESTS, dtype=np.float32)))


def jumping(rng: np.random.Generator) -> Any:
    """Three times slower from the middle on, in both arms."""
    return noise(rng) * np.where(np.arange(REQUESTS) < REQUESTS // 2, np.float32(1.0), np.float32(3.0))


def tied(rng: np.random.Generator) -> Any:
    """A clock of 5 ms: nearly all latencies are one of a few values."""
    return np.maximum(np.ceil(noise(rng) / np.float32(0.005)), 1.0).astype(np.float32) * np.float32(0.005)


def slow_events(latency: Any, ours: Any) -> dict[float, Any]:
    """Return which requests were slower than the thresholds in force, by quantile; nothing is slow before the first tick."""
    counts = np.zeros((PART, BUCKETS))
    slow = {q: np.zeros(latency.shape, bool) for q in QUANTILES}
    run = np.arange(PART)[:, None] * BUCKETS
    for start in range(0, REQUESTS, TICK):
        now = slice(start, start + TICK)
        for q in QUANTILES if start else ():
            slow[q][:, now] = latency[:, now] > quantile(counts, q)[:, None]
        places = (run + bucket(latency[:, now]))[~ours[:, now]]
        counts += np.bincount(places, minlength=counts.size).reshape(counts.shape)
    return slow


def alarms(rng: np.random.Generator, latencies: Any, runs: int, factor: float, tolerance: float) -> dict[float, float]:
    """Return, by quantile, in how many of ``runs`` a candidate that is ``factor`` times slower alarms, with a look at each request."""
    reached = dict.fromkeys(QUANTILES, 0)
    for _ in range(runs // PART):
        ours = rng.random((PART, REQUESTS), dtype=np.float32) < WEIGHT
        latency = latencies(rng) * np.where(ours, np.float32(factor), np.float32(1.0))
        for q, slow in slow_events(latency, ours).items():
            assert slow.any(), f"no request was slower than its {q} quantile: nothing was tested"
            reached[q] += int((log_e_path(slow, ours, WEIGHT, harm(tolerance)) >= HARM).any(axis=1).sum())
    return {q: count / runs for q, count in reached.items()}


@pytest.mark.parametrize("latencies", [wandering, jumping, tied], ids=lambda draw: draw.__name__)
def test_t3_equal_versions(latencies: Any, rng: np.random.Generator) -> None:
    """At every quantile at most alpha of the runs alarm."""
    assert max(alarms(rng, latencies, RUNS, 1.0, 1.0).values()) <= at_most(ALPHA, RUNS)


def test_t3_a_slower_candidate_is_found(rng: np.random.Generator) -> None:
    """The mutation of T3: twice as slow, on top of the same wandering, alarms at the median in nearly all runs."""
    assert alarms(rng, wandering, PART, 2.0, 1.1)[0.5] > 0.95
