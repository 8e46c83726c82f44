"""What the guarantees are held against: the number of runs, and how far a frequency may lie from its probability."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from headgate.judge.evalue import RatioTest, log_harm, log_safe
from headgate.judge.outcomes import RECORD, Arm

RUNS = 10_000
ALPHA, BETA = 0.01, 0.05
HARM, SAFE = -math.log(ALPHA), -math.log(BETA)


def at_most(probability: float, runs: int = RUNS) -> float:
    """Return the largest frequency that ``probability`` explains: three standard errors above it."""
    return probability + 3.0 * math.sqrt(probability * (1.0 - probability) / runs)


def harm(tolerance: float) -> Callable[..., Any]:
    """Return the test for harm with that tolerance."""
    return lambda candidate, baseline, weights: log_harm(candidate, baseline, weights, RatioTest(tolerance=tolerance))


def safe(candidate: Any, baseline: Any, weights: Any) -> Any:
    """The test for safety with the default ceiling of 1.5."""
    return log_safe(candidate, baseline, weights, RatioTest())


def traffic(rng: np.random.Generator, count: int, *, weight: float = 0.5, start: int = 0, replicas: int = 2) -> Any:
    """Return ``count`` good records, drawn at ``weight``, spread over ``replicas`` of each arm."""
    batch = np.zeros(count, dtype=RECORD)
    ours = rng.random(count) < weight
    batch["sequence"] = start + np.arange(count)
    batch["weight"] = weight
    batch["arm"] = np.where(ours, Arm.CANDIDATE, Arm.BASELINE)
    batch["replica"] = 1 + rng.integers(0, replicas, count) + np.where(ours, replicas, 0)
    batch["latency"] = rng.lognormal(-4.0, 0.5, count)
    batch["compute"] = batch["latency"] / 2
    return batch
