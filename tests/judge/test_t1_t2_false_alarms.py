"""T1 and T2: a harmless candidate is called harmful in at most alpha of the rollouts, however often one looks."""

from __future__ import annotations

import numpy as np
import pytest
from promises import ALPHA, HARM, RUNS, at_most, harm

from headgate.judge.evalue import RatioTest, log_harm, log_mean
from headgate.testing.trials import candidate_share, draw_arms, first, first_reached, first_rejected, log_e_path

EVENTS = 2_000
"""Bad events a run lasts: 200,000 requests at 1 % errors."""
ONE_IN_A_HUNDRED = 2.326
"""Critical value of a one-sided z test at a level of 1 %."""

WEIGHTS = {
    "1 %": np.full(EVENTS, 0.01),
    "5 %": np.full(EVENTS, 0.05),
    "10 %": np.full(EVENTS, 0.1),
    "50 %": np.full(EVENTS, 0.5),
    "ramp 1, 5, 20, 50 %": np.repeat([0.01, 0.05, 0.2, 0.5], EVENTS // 4),
    "up and down": np.tile(np.repeat([0.02, 0.5], 125), EVENTS // 250),
}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("tolerance", [1.0, 1.1])
def test_t1_two_equal_versions(name: str, tolerance: float, rng: np.random.Generator) -> None:
    """A/A, a look at each bad event: at most alpha, with no tolerance at all and with the default one."""
    arms = draw_arms(rng, RUNS, WEIGHTS[name])
    alarms = first_reached(arms, WEIGHTS[name], harm(tolerance), HARM) > 0
    assert alarms.mean() <= at_most(ALPHA)


@pytest.mark.parametrize("name", WEIGHTS)
def test_t1_a_peeking_z_test_fails_on_the_same_runs(name: str, rng: np.random.Generator) -> None:
    """The mutation of T1: the same runs, looked at with an ordinary test at the same level, give ten times the alarms and more."""
    arms = draw_arms(rng, RUNS, WEIGHTS[name])
    alarms = first_rejected(arms, WEIGHTS[name], ONE_IN_A_HUNDRED) > 0
    assert alarms.mean() > 10 * ALPHA


def test_t1_base_rate_that_moves(rng: np.random.Generator) -> None:
    """The error rate of both wanders by a factor of ten and doubles after each error of the candidate: it cancels."""
    weight, requests = 0.1, 2_000
    level, after = rng.normal(0.0, 1.0, RUNS), np.ones(RUNS)
    bad, ours = np.zeros((RUNS, requests), bool), rng.random((RUNS, requests)) < weight
    for request in range(requests):
        level = 0.995 * level + 0.1 * rng.normal(0.0, 1.0, RUNS)
        bad[:, request] = rng.random(RUNS) < np.minimum(0.05 * np.exp(level) * after, 1.0)
        after = np.where(bad[:, request] & ours[:, request], 2.0, np.maximum(1.0, after * 0.99))
    alarms = (log_e_path(bad, ours, weight, harm(1.0)) >= HARM).any(axis=1)
    assert alarms.mean() <= at_most(ALPHA)


def test_t1_several_metrics_that_depend_on_each_other(rng: np.random.Generator) -> None:
    """The mixture over nested events (slower than the median, than 95 %, than 99 %) and errors keeps the budget of one."""
    weight, requests, shares = 0.2, 1_500, [0.1, 0.15, 0.1, 0.65]
    ours = rng.random((RUNS, requests), dtype=np.float32) < weight
    slowness = rng.random((RUNS, requests), dtype=np.float32)
    errors = (slowness > 0.97) & (rng.random((RUNS, requests), dtype=np.float32) < 0.8)
    alarms = np.zeros(RUNS, bool)
    for part in np.array_split(np.arange(RUNS), 10):
        kinds = [slowness[part] > 0.5, slowness[part] > 0.95, slowness[part] > 0.99, errors[part]]
        paths = np.stack([log_e_path(bad, ours[part], weight, harm(1.0)) for bad in kinds], axis=-1)
        could = (paths.max(axis=-1) >= HARM).any(axis=1)  # a mean cannot exceed its largest part
        alarms[part[could]] = (log_mean(paths[could], shares) >= HARM).any(axis=1)
    assert alarms.mean() <= at_most(ALPHA)


@pytest.mark.parametrize("tolerance", [1.1, 1.25])
@pytest.mark.parametrize("name", ["10 %", "ramp 1, 5, 20, 50 %"])
def test_t2_at_the_boundary_of_the_tolerance(name: str, tolerance: float, rng: np.random.Generator) -> None:
    """A candidate that is worse by exactly what is tolerated is no harm either."""
    arms = draw_arms(rng, RUNS, WEIGHTS[name], tolerance)
    alarms = first_reached(arms, WEIGHTS[name], harm(tolerance), HARM) > 0
    assert alarms.mean() <= at_most(ALPHA)


def test_t2_beyond_the_boundary_it_alarms(rng: np.random.Generator) -> None:
    """The mutation of T2: judged with no tolerance, a candidate that is 1.25 times worse is found in most runs."""
    arms = draw_arms(rng, RUNS, WEIGHTS["50 %"], 1.25)
    assert (first_reached(arms, WEIGHTS["50 %"], harm(1.0), HARM) > 0).mean() > 0.9


def test_the_simulation_looks_up_what_it_would_compute(rng: np.random.Generator) -> None:
    """E by number of events is E by counts per weight, one run and one event after the other."""
    weights = WEIGHTS["ramp 1, 5, 20, 50 %"][::20]
    arms = draw_arms(rng, 20, weights, 3.0)
    distinct = np.unique(weights)
    by_weight = weights[:, None] == distinct
    ours = np.cumsum(arms[..., None] & by_weight, axis=1)
    direct = log_harm(ours, np.cumsum(by_weight, axis=0) - ours, distinct, RatioTest())
    assert np.array_equal(first_reached(arms, weights, harm(1.1), 2.0), first(direct >= 2.0))
    assert np.allclose(candidate_share(weights, 1.0), weights)
