"""Ten thousand rollouts at once: what a sequential test promises about its errors can be counted.

Only bad events are drawn, for the conditional process looks at nothing else: each comes from the candidate with the probability that the
weight in force and the true ratio give it. How many requests lie between them is drawn where a figure needs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Test = Callable[[Any, Any, Any], npt.NDArray[np.float64]]
"""Takes counts of the candidate and of the baseline, shape ``(..., W)``, and weights, shape ``(W,)``; gives log E, shape ``(...)``."""
Flags = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]


def candidate_share(weight: npt.ArrayLike, ratio: npt.ArrayLike) -> Any:
    """Return the probability that a bad event comes from the candidate, if these are ``ratio`` times as likely there."""
    odds = np.asarray(weight, float) * np.asarray(ratio, float)
    return odds / (odds + 1.0 - np.asarray(weight, float))


def draw_arms(rng: np.random.Generator, runs: int, weights: npt.ArrayLike, ratio: npt.ArrayLike = 1.0) -> Flags:
    """Return which bad events are the candidate's, shape ``(runs, n)``.

    ``weights``, shape ``(n,)``, were in force; ``ratio`` is one for all or has the same shape.
    """
    share = candidate_share(weights, ratio).astype(np.float32)
    return np.asarray(rng.random((runs, len(share)), dtype=np.float32) < share)


def first_reached(arms: Flags, weights: npt.ArrayLike, test: Test, needed: float) -> Counts:
    """Return, for each run, after how many bad events log E first reached ``needed`` with a look at each; 0: never.

    With given weights the likelihood depends on the arms only through the number of the candidate's events. So E is computed once for each
    number that occurs after each event, and every run is looked up.
    """
    weights = np.asarray(weights, float)
    ours = np.cumsum(arms, axis=1, dtype=np.int32)
    least = ours.min(axis=0)
    span = int((ours.max(axis=0) - least).max()) + 1
    distinct, index = np.unique(weights, return_inverse=True)
    events = np.cumsum(index[:, None] == np.arange(len(distinct)), axis=0)
    candidate = np.zeros((len(weights), span, len(distinct)))
    candidate[..., 0] = least[:, None] + np.arange(span)
    log_e = test(candidate, events[:, None, :] - candidate, distinct)
    return first(log_e[np.arange(len(weights)), ours - least] >= needed)


def log_e_path(bad: Flags, ours: Flags, weight: float, test: Test) -> npt.NDArray[np.float64]:
    """Return log E after each request, shape ``(runs, n)`` as ``bad`` and ``ours`` (the request went to the candidate), at one weight."""
    events = np.cumsum(bad, axis=1, dtype=np.int32)
    candidate = np.cumsum(bad & ours, axis=1, dtype=np.int32)
    total, part = np.arange(events.max() + 1), np.arange(candidate.max() + 1)
    log_e = test(np.broadcast_to(part, (len(total), len(part)))[..., None], (total[:, None] - part)[..., None], [weight])
    return log_e[events, candidate]


def first_rejected(arms: Flags, weights: npt.ArrayLike, critical: float, after: int = 20) -> Counts:
    """Return the same as `first_reached` for an ordinary one-sided z test of the arms, computed at each event from ``after`` on."""
    weights = np.asarray(weights, float)
    spread = np.sqrt(np.cumsum(weights * (1.0 - weights)))
    score = (np.cumsum(arms, axis=1, dtype=np.int32) - np.cumsum(weights)) / spread
    score[:, : after - 1] = -math.inf
    return first(score >= critical)


def draw_counts(
    rng: np.random.Generator, runs: int, looks: int, traffic: tuple[int, int], rates: tuple[float, float]
) -> tuple[Counts, Counts]:
    """Return how many bad events there were until each look, shape ``(runs, looks)``, of the candidate and of the baseline.

    Between two looks there are ``traffic`` requests (candidate, baseline), bad with probability ``rates``.
    """
    ours, theirs = (np.cumsum(rng.binomial(count, rate, (runs, looks)), axis=1) for count, rate in zip(traffic, rates, strict=True))
    return ours, theirs


def first_significant(counts: tuple[Counts, Counts], traffic: tuple[int, int], critical: float) -> Counts:
    """Return at which look of `draw_counts` a one-sided two-proportion z test first rejects that the rates are equal; 0: never."""
    ours, theirs = counts
    seen = np.arange(1, ours.shape[1] + 1)
    pooled = (ours + theirs) / (seen * sum(traffic))
    spread = np.sqrt(pooled * (1.0 - pooled) * (1.0 / traffic[0] + 1.0 / traffic[1]) / seen)
    difference = (ours / traffic[0] - theirs / traffic[1]) / seen
    return first((spread > 0) & (difference >= critical * spread))


def requests_needed(rng: np.random.Generator, events: Counts, weight: float, ratio: float, rate: float) -> Counts:
    """Return how many requests it took to have ``events`` bad ones: ``rate`` is the baseline's, ``ratio`` times that the candidate's."""
    bad = weight * ratio * rate + (1.0 - weight) * rate
    return np.asarray(events + rng.negative_binomial(events, bad))


def fixed_horizon(weight: float, ratio: float, rate: float, critical: float, power_quantile: float) -> float:
    """Return the requests a z test with a single look needs: the textbook size for two proportions, allotted ``weight : 1 - weight``.

    ``critical`` and ``power_quantile`` are normal quantiles, 2.326 and 1.282 for a level of 1 % and a power of 90 %.
    """
    ours, theirs = ratio * rate, rate
    pooled = weight * ours + (1.0 - weight) * theirs
    null = math.sqrt(pooled * (1.0 - pooled) * (1.0 / weight + 1.0 / (1.0 - weight)))
    alternative = math.sqrt(ours * (1.0 - ours) / weight + theirs * (1.0 - theirs) / (1.0 - weight))
    return ((critical * null + power_quantile * alternative) / (ours - theirs)) ** 2


def first(reached: Flags) -> Counts:
    """Return the number, from 1, of the first true element of each row; 0: there is none."""
    return np.asarray(np.where(reached.any(axis=1), np.argmax(reached, axis=1) + 1, 0))
