"""A shadow answers the requests the live version answers: the two are compared pair by pair.

With labels, ``d = error of the candidate - error of the baseline`` lies in [-1, 1]; the bet is against "at most ``delta`` on average":

    E = mean over k of  product of (1 + lambda_k (d_i - delta)),     0 <= lambda_k < 1 / (1 + delta)

so that no factor is ever negative. Both models see the same request, so what makes requests hard cancels, and a shadow needs far
fewer labels than a canary. Without labels, the share of answers that differ is compared with a bound (`headgate.judge.bernoulli`).
Bad events of a pair count where only one of the two had one: under equal rates that one is the candidate with probability 1/2 (McNemar),
which is the conditional process at weight 1/2 and tolerance 1.

Sources: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSSB 2024 (arXiv 2010.09686), sections 3
and 4; McNemar, Psychometrika 1947, for discordant pairs.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from headgate.judge.bernoulli import log_exceeds, rate_confidence
from headgate.judge.evalue import Floats, RatioTest, log_harm, log_mean

STAKES = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9])
"""Shares of the greatest stake that cannot bankrupt the gambler."""


class Pairs(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a shadow's comparison."""

    compared: int = 0
    """Pairs whose answers were compared, and of these the ones that differed."""
    differed: int = 0
    candidate_only: int = 0
    """Pairs with a bad event of the candidate alone, and of the baseline alone."""
    baseline_only: int = 0
    labelled: int = 0
    excess: float = 0.0
    """Sum of the ``d``: their mean is how much more the candidate errs."""
    log_wealth: tuple[float, ...] = (0.0,) * len(STAKES)
    """Of the bet with each of `STAKES`."""


class PairsReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a shadow has shown."""

    compared: int
    differed: int
    difference: tuple[float, float]
    """Confidence sequence of the share of answers that differ."""
    log_e_difference: float
    """Evidence that it is above the bound."""
    log_e_events: float
    """Evidence that the candidate alone has more bad events than the baseline alone."""
    log_e_labels: float
    """Evidence that the candidate errs more than ``delta`` above the baseline."""
    harm: bool
    """Whether the mean of the three has reached ``1/alpha``."""


def log_factors(differences: npt.ArrayLike, delta: float) -> Floats:
    """Return the log factor of each of ``differences``, shape ``(...)``, for each of `STAKES`: shape ``(..., K)``."""
    centred = np.asarray(differences, float)[..., None] - delta
    factors: Floats = np.log1p(STAKES / (1.0 + delta) * centred)
    return factors


def observe_pairs(
    state: Pairs, differed: npt.ArrayLike = (), candidate_bad: npt.ArrayLike = (), baseline_bad: npt.ArrayLike = ()
) -> Pairs:
    """Return the state after pairs of answers.

    ``differed`` says of each pair that could be compared whether its answers differ; ``candidate_bad`` and ``baseline_bad``, of equal
    length, say of each pair whether that answer was a bad event.
    """
    differed = np.asarray(differed, bool)
    ours, theirs = np.asarray(candidate_bad, bool), np.asarray(baseline_bad, bool)
    if ours.shape != theirs.shape:
        raise ValueError(f"pairs: expected as many events of the candidate as of the baseline, got {ours.shape} and {theirs.shape}")
    return msgspec.structs.replace(
        state,
        compared=state.compared + differed.size,
        differed=state.differed + int(differed.sum()),
        candidate_only=state.candidate_only + int((ours & ~theirs).sum()),
        baseline_only=state.baseline_only + int((theirs & ~ours).sum()),
    )


def observe_differences(state: Pairs, differences: npt.ArrayLike, delta: float) -> Pairs:
    """Return the state after labels: ``differences``, shape ``(n,)``, each in [-1, 1]. Raises `ValueError` beyond."""
    values = np.asarray(differences, float)
    if not np.all(np.abs(values) <= 1.0):
        raise ValueError("differences: expected errors of the candidate minus those of the baseline, from -1 to 1")
    # Sums that run one after the other are the same however the labels are cut into batches.
    path = np.cumsum(np.vstack([state.log_wealth, log_factors(values, delta)]), axis=0)
    excess = np.cumsum(np.concatenate([[state.excess], values]))
    return msgspec.structs.replace(
        state,
        labelled=state.labelled + values.size,
        excess=float(excess[-1]),
        log_wealth=tuple(path[-1].tolist()),
    )


def judge_pairs(state: Pairs, *, alpha: float, delta_max: float) -> PairsReport:
    """Return what ``state`` says: ``delta_max`` bounds the share of answers that may differ, 0 to 1 exclusive.

    The three bets are mixed with equal shares, so together they call harm where there is none with probability at most ``alpha``.
    """
    difference = float(log_exceeds(state.differed, state.compared, delta_max))
    events = float(log_harm([state.candidate_only], [state.baseline_only], [0.5], RatioTest(tolerance=1.0)))
    labels = float(log_mean(np.array(state.log_wealth)))
    return PairsReport(
        compared=state.compared,
        differed=state.differed,
        difference=rate_confidence(state.differed, state.compared, alpha),
        log_e_difference=difference,
        log_e_events=events,
        log_e_labels=labels,
        harm=bool(log_mean(np.array([difference, events, labels])) >= -np.log(alpha)),
    )
