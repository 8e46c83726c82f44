"""The conditional e-process for bad events: is the candidate's rate more than ``theta`` times the baseline's?

A request goes to the candidate with probability ``w``, which the router logs. Look at bad events only. If bad events were ``theta``
times as likely on the candidate, each would come from the candidate with probability ``w theta / (w theta + 1 - w)``, whatever
the base rate is at that moment. So the arms of the bad events have the log-likelihood

    l(theta) = sum over bad events of  [Z log theta - log(1 + w (theta - 1))],     Z = 1 for the candidate, 0 for the baseline

and ``exp(l(theta_k) - l(theta_0))`` is what a gambler has who began with 1 and bet on ``theta_k`` against ``theta_0`` at fair odds. For
``theta_k > theta_0`` the factor of an event grows with Z, so its conditional mean is at most 1 whenever the true ratio is at most
``theta_0``, however it and the base rate move: a non-negative supermartingale, and so is a mixture over several ``theta_k``.
Ville's inequality: it ever reaches ``1/alpha`` with probability at most ``alpha``, no matter how often one looks.

The likelihood depends on the data through two counts for each weight that was in force. These are the whole state: integers, the same
however the events were cut into batches, and exact after any restart. All functions take them with any leading axes, one process
or ten thousand simulated ones.

Sources: Lindon and Malek, "Anytime-Valid Inference for Multinomial Count Data", NeurIPS 2022 (arXiv 2011.03567), section 4 (inhomogeneous
Bernoulli processes, conditioning on the event); Ramdas, Grunwald, Vovk and Shafer, "Game-Theoretic Statistics and Safe
Anytime-Valid Inference", Statistical Science 2023 (arXiv 2210.01948), sections 2 to 4 (e-processes, mixtures, Ville).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

WORSE = (1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 20.0)
"""Ratios the test for harm bets on; those above its tolerance are used, with equal stakes."""
BETTER = (0.5, 0.75, 0.9, 1.0, 1.1, 1.25)
"""Ratios the test for safety bets on; those below its ceiling are used."""
GRID: Floats = np.geomspace(1 / 50, 50, 393)
"""Ratios at which the confidence sequence is computed; neighbours are 2 % apart."""


@dataclass(frozen=True)
class RatioTest:
    """Which ratios are tolerable, and which must be excluded before a promotion."""

    tolerance: float = 1.1
    """``theta_0``: a candidate with at most so many times the baseline's bad events does no harm."""
    ceiling: float = 1.5
    """``theta_max``: a candidate is safe when its ratio is shown to be below this."""

    @property
    def worse(self) -> Floats:
        """The alternatives of the test for harm."""
        return np.array([theta for theta in WORSE if theta > self.tolerance])

    @property
    def better(self) -> Floats:
        """The alternatives of the test for safety."""
        return np.array([theta for theta in BETTER if theta < self.ceiling])


def log_likelihood(candidate: npt.ArrayLike, baseline: npt.ArrayLike, weights: npt.ArrayLike, ratios: npt.ArrayLike) -> Floats:
    """Return ``l(theta)`` for each of ``ratios``, shape ``(..., K)``.

    ``candidate`` and ``baseline``, shape ``(..., W)``, count the bad events of each arm by the weight in force; ``weights``, shape
    ``(W,)``, are these weights. The sum runs over W in order and without a library's blocking, so equal counts give equal bits.
    """
    candidate, baseline = np.asarray(candidate, float), np.asarray(baseline, float)
    ratios = np.asarray(ratios, float)
    total: Floats = np.zeros((*np.broadcast_shapes(candidate.shape, baseline.shape)[:-1], len(ratios)))
    for index, weight in enumerate(np.asarray(weights, float)):
        ours = candidate[..., index, None]
        both = ours + baseline[..., index, None]
        total += ours * np.log(ratios) - both * np.log1p(weight * (ratios - 1.0))
    return total


def log_mean(values: Floats, shares: npt.ArrayLike | None = None) -> Floats:
    """Return the logarithm of the mean of ``exp(values)`` over the last axis, weighted by ``shares`` (sum 1; None: equal ones)."""
    peak = values.max(axis=-1, keepdims=True)
    scaled = np.exp(values - peak)
    mean = scaled.mean(axis=-1) if shares is None else (scaled * np.asarray(shares, float)).sum(axis=-1)
    result: Floats = np.log(mean) + peak[..., 0]
    return result


def log_harm(candidate: npt.ArrayLike, baseline: npt.ArrayLike, weights: npt.ArrayLike, test: RatioTest) -> Floats:
    """Return log E against "the ratio never exceeds ``test.tolerance``", shape ``(...)``; 0 without events."""
    values = log_likelihood(candidate, baseline, weights, [test.tolerance, *test.worse])
    return log_mean(values[..., 1:] - values[..., :1])


def log_safe(candidate: npt.ArrayLike, baseline: npt.ArrayLike, weights: npt.ArrayLike, test: RatioTest) -> Floats:
    """Return log E against "the ratio is never below ``test.ceiling``": the same bet with the roles exchanged. Shape ``(...)``."""
    values = log_likelihood(candidate, baseline, weights, [test.ceiling, *test.better])
    return log_mean(values[..., 1:] - values[..., :1])


def confidence(candidate: npt.ArrayLike, baseline: npt.ArrayLike, weights: npt.ArrayLike, alpha: float) -> tuple[Floats, Floats]:
    """Return the confidence sequence for the ratio: lower and upper end, each of shape ``(...)``.

    It holds every ratio against which neither the bet on larger ones nor that on smaller ones has reached ``2/alpha``, so at all times
    together it misses the truth with probability at most ``alpha``. The ends are rounded outwards to `GRID`; 0 and infinity where
    nothing is excluded. Howard and Ramdas, "Sequential estimation of quantiles", Bernoulli 2022 (arXiv 1906.09712), section 1
    (inverting sequential tests).
    """
    values = log_likelihood(candidate, baseline, weights, GRID)
    return invert(values, GRID, alpha, (0.0, np.inf))


def invert(values: Floats, grid: Floats, alpha: float, ends: tuple[float, float]) -> tuple[Floats, Floats]:
    """Return the ends of the confidence sequence of a parameter with log-likelihood ``values``, shape ``(..., G)``, on ``grid``.

    Each point is tested against a uniform mixture of the points above it, and one of those below it. ``ends`` stand where
    nothing is excluded.
    """
    count = np.arange(1, len(grid))
    threshold = np.log(2.0 / alpha)
    above = np.logaddexp.accumulate(values[..., ::-1], axis=-1)[..., :-1] - np.log(count)
    too_low = above[..., ::-1] - values[..., :-1] >= threshold
    below = np.logaddexp.accumulate(values, axis=-1)[..., :-1] - np.log(count)
    too_high = below - values[..., 1:] >= threshold
    lower = np.where(too_low.any(axis=-1), grid[:-1][too_low.shape[-1] - 1 - np.argmax(too_low[..., ::-1], axis=-1)], ends[0])
    upper = np.where(too_high.any(axis=-1), grid[1:][np.argmax(too_high, axis=-1)], ends[1])
    return lower, upper
