"""T5: what looking all the time costs. T6: a candidate at the ceiling is not promoted. And what the other bets promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from promises import ALPHA, BETA, HARM, RUNS, SAFE, at_most, harm, safe

from headgate.judge.bernoulli import log_exceeds, log_within
from headgate.judge.evalue import confidence, log_mean
from headgate.judge.paired import log_factors
from headgate.testing.trials import draw_arms, first_reached, fixed_horizon, requests_needed

RATE = 0.01
"""Of the baseline."""
LEVEL, POWER = 2.326, 1.282
"""Normal quantiles of 1 % and 90 %, for the test with a single look."""


@pytest.mark.parametrize(("weight", "ratio"), [(0.1, 2.0), (0.1, 3.0), (0.1, 5.0), (0.1, 10.0), (0.5, 2.0), (0.05, 2.0)])
def test_t5_detection_is_not_slower_than_a_single_look(weight: float, ratio: float, rng: np.random.Generator) -> None:
    """Every run alarms, and on average with no more requests than a test of the same null hypothesis that may look once, at the end."""
    runs = 4_000
    weights = np.full(2_500, weight)
    reached = first_reached(draw_arms(rng, runs, weights, ratio), weights, harm(1.0), HARM)
    assert (reached > 0).mean() > 0.999
    requests = requests_needed(rng, reached[reached > 0], weight, ratio, RATE)
    assert requests.mean() / fixed_horizon(weight, ratio, RATE, LEVEL, POWER) <= 1.0


@pytest.mark.parametrize("weight", [0.1, 0.5])
def test_t6_at_the_ceiling_nothing_is_safe(weight: float, rng: np.random.Generator) -> None:
    """1.5 times the baseline's bad events, the ceiling, is called safe in at most beta of the runs, asked after each event."""
    weights = np.full(2_000, weight)
    wrong = first_reached(draw_arms(rng, RUNS, weights, 1.5), weights, safe, SAFE) > 0
    assert wrong.mean() <= at_most(BETA)


@pytest.mark.parametrize(("weight", "ratio", "events"), [(0.1, 1.0, 330), (0.5, 1.0, 145), (0.1, 0.8, 170), (0.5, 0.8, 70)])
def test_t6_a_good_candidate_is_shown_to_be(weight: float, ratio: float, events: int, rng: np.random.Generator) -> None:
    """The mutation of T6: an equal or better candidate is called safe, in half of the runs within so many bad events."""
    weights = np.full(4_000, weight)
    reached = first_reached(draw_arms(rng, 2_000, weights, ratio), weights, safe, SAFE)
    assert (reached > 0).mean() > 0.99
    assert np.median(reached) <= events


@pytest.mark.parametrize("ratio", [0.7, 1.0, 3.0])
def test_the_confidence_sequence_holds_the_truth_at_all_times(ratio: float, rng: np.random.Generator) -> None:
    """The intervals after each of 300 bad events, all together, miss the true ratio in at most alpha of the runs; and they are not idle."""

    def misses(candidate: Any, baseline: Any, weights: Any) -> Any:
        lower, upper = confidence(candidate, baseline, weights, ALPHA)
        return np.where((lower > ratio) | (upper < ratio), 1.0, 0.0)

    weights = np.full(300, 0.3)
    arms = draw_arms(rng, RUNS, weights, ratio)
    missed = (first_reached(arms, weights, misses, 1.0) > 0).mean()
    assert 0 < missed <= at_most(ALPHA)


@pytest.mark.parametrize(("rate", "bound"), [(0.01, 0.01), (0.2, 0.2)])
def test_the_absolute_guard(rate: float, bound: float, rng: np.random.Generator) -> None:
    """An arm at its bound is said to break it in at most alpha of the runs, and to keep it in at most beta."""
    total = np.arange(1, 2_001)
    bad = np.cumsum(rng.random((RUNS, len(total)), dtype=np.float32) < rate, axis=1, dtype=np.int32)
    counts = np.arange(bad.max() + 1), total[:, None], bound
    broken, kept = log_exceeds(*counts) >= HARM, log_within(*counts) >= SAFE
    assert broken[total - 1, bad].any(axis=1).mean() <= at_most(ALPHA)
    assert kept[total - 1, bad].any(axis=1).mean() <= at_most(BETA)


@pytest.mark.parametrize("disagreement", [0.1, 0.02])
def test_shadow_with_labels(disagreement: float, rng: np.random.Generator) -> None:
    """Two models that disagree on some requests and err equally often: at most alpha alarms; two points worse: nearly all."""
    equal, worse = (_shadow_alarms(rng, disagreement, excess) for excess in (0.0, 0.02))
    assert equal <= at_most(ALPHA, 2_000)
    assert worse > 0.9


def _shadow_alarms(rng: np.random.Generator, disagreement: float, excess: float) -> float:
    """Return in how many of 2,000 runs of 6,000 labelled pairs the bet is won."""
    draw = rng.random((2_000, 6_000), dtype=np.float32)
    plus = np.cumsum(draw < (disagreement + excess) / 2, axis=1, dtype=np.int32)
    minus = np.cumsum(draw > 1 - (disagreement - excess) / 2, axis=1, dtype=np.int32)
    won, lost = log_factors(np.array([1.0, -1.0]), 0.0)
    # Wealth depends on how many pairs spoke for and against the candidate only: computed once for each two numbers, and looked up.
    table = np.arange(plus.max() + 1)[:, None, None] * won + np.arange(minus.max() + 1)[:, None] * lost
    return float((log_mean(table) >= HARM)[plus, minus].any(axis=1).mean())
