"""One rate against a bound: the e-process of the absolute guard, and of answers that differ in a shadow.

``H0: P(bad | past) <= bound`` at every request. A gambler bets on larger rates ``p_k`` with the fair odds of ``bound``:

    E = mean over k of  (p_k / bound)^bad ((1 - p_k) / (1 - bound))^(n - bad)

Each factor has conditional mean at most 1 under H0, so E ever reaches ``1/alpha`` with probability at most ``alpha``. The rates are
chosen by their odds, so that they stay below 1 for any bound. With smaller rates the same bet tests the opposite.

Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSSB 2024 (arXiv 2010.09686), sections 2 and
3 (betting against a mean, and its inversion into a confidence sequence).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headgate.judge.evalue import Floats, invert, log_mean

MORE = np.array([1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0])
"""Odds, in multiples of those of the bound, that the test for exceeding it bets on."""
LESS = np.array([0.02, 0.1, 0.25, 0.5, 0.7, 0.85])
"""The same for staying below it."""
RATES: Floats = 1.0 / (1.0 + np.exp(-np.linspace(-14.0, 14.0, 561)))
"""Rates at which the confidence sequence is computed: 8e-7 to 1 - 8e-7, odds 5 % apart."""


def log_exceeds(bad: npt.ArrayLike, total: npt.ArrayLike, bound: float) -> Floats:
    """Return log E against "the rate never exceeds ``bound``" after ``bad`` of ``total``, any shape; ``0 < bound < 1``."""
    return _log_bet(bad, total, bound, MORE)


def log_within(bad: npt.ArrayLike, total: npt.ArrayLike, bound: float) -> Floats:
    """Return log E against "the rate is never below ``bound``"."""
    return _log_bet(bad, total, bound, LESS)


def rate_confidence(bad: int, total: int, alpha: float) -> tuple[float, float]:
    """Return the confidence sequence of a rate: all rates that, at the looks so far, neither bet has refuted with ``2/alpha``."""
    values = bad * np.log(RATES) + (total - bad) * np.log1p(-RATES)
    lower, upper = invert(values, RATES, alpha, (0.0, 1.0))
    return float(lower), float(upper)


def _log_bet(bad: npt.ArrayLike, total: npt.ArrayLike, bound: float, odds: Floats) -> Floats:
    bad = np.asarray(bad, float)[..., None]
    good = np.asarray(total, float)[..., None] - bad
    # p = o m / (1 + o m), with the odds o of the bound: log(p/bound) = log m - c, log((1-p)/(1-bound)) = -c, c = log(1 + bound (m - 1)).
    shared = np.log1p(bound * (odds - 1.0))
    return log_mean(bad * (np.log(odds) - shared) - good * shared)
