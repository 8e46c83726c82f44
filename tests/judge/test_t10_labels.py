"""T10: labels that come later for one arm than for the other."""

from __future__ import annotations

from typing import Any

import numpy as np
from promises import ALPHA, HARM, RUNS, at_most, harm

from headgate.judge.labels import log_factors
from headgate.testing.trials import log_e_path

REQUESTS, BLOCKS = 1_000, 350


def arrivals(rng: np.random.Generator, runs: int, delay: tuple[float, float], wrong: tuple[float, float]) -> tuple[Any, Any]:
    """Return which labels are the candidate's and which are wrong, in the order they arrive; pairs are (candidate, baseline).

    A request is made at each step; its label comes after a delay that is exponential with the mean of its arm.
    """
    ours = rng.random((runs, REQUESTS), dtype=np.float32) < 0.5
    late = np.arange(REQUESTS) + rng.exponential(size=(runs, REQUESTS)) * np.where(ours, *delay)
    bad = rng.random((runs, REQUESTS), dtype=np.float32) < np.where(ours, *wrong)
    order = np.argsort(late, axis=1)
    return np.take_along_axis(ours, order, axis=1), np.take_along_axis(bad, order, axis=1)


def blocks(mine: Any, bad: Any) -> Any:
    """Return the first labels of an arm, shape ``(runs, BLOCKS)``, in order of arrival."""
    assert mine.sum(axis=1).min() >= BLOCKS
    places = np.argsort(~mine, axis=1, kind="stable")[:, :BLOCKS]
    return np.take_along_axis(bad, places, axis=1)


def alarms(rng: np.random.Generator, runs: int, delay: tuple[float, float], wrong: tuple[float, float]) -> tuple[float, float]:
    """Return in how many runs two tests alarm: by blocks, and by who produced each wrong answer."""
    by_block = by_event = 0
    for _ in range(10):
        ours, bad = arrivals(rng, runs // 10, delay, wrong)
        log_e = np.cumsum(log_factors(blocks(ours, bad), blocks(~ours, bad)), axis=1)
        by_block += (log_e >= HARM).any(axis=1).sum()
        by_event += (log_e_path(bad, ours, 0.5, harm(1.0)) >= HARM).any(axis=1).sum()
    return by_block / runs, by_event / runs


def test_t10_equal_versions(rng: np.random.Generator) -> None:
    """The candidate's labels come a hundred times sooner; by blocks at most alpha alarm, by wrong answers most do: T10 can fail."""
    by_block, by_event = alarms(rng, RUNS, (3.0, 300.0), (0.2, 0.2))
    assert by_block <= at_most(ALPHA)
    assert by_event > 0.5


def test_t10_a_better_candidate(rng: np.random.Generator) -> None:
    """The bet is one-sided: a candidate that errs less is no harm."""
    assert alarms(rng, 2_000, (3.0, 3.0), (0.1, 0.3))[0] <= at_most(ALPHA, 2_000)


def test_t10_a_worse_candidate_is_found(rng: np.random.Generator) -> None:
    """The mutation: twice as many wrong answers are found, whatever the delays."""
    assert alarms(rng, 500, (300.0, 3.0), (0.3, 0.15))[0] > 0.9
