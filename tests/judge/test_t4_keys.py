"""T4: users who stay on one arm, a few of whom send most of the traffic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from promises import ALPHA, HARM, at_most, harm

from headgate.judge.evalue import RatioTest, log_harm
from headgate.judge.keys import first_events

RUNS, USERS, EVENTS, WEIGHT = 2_000, 2_000, 600, 0.1


def alarms(rng: np.random.Generator, *, per_key: bool, even: bool = False) -> float:
    """Return how many of the runs alarm. Traffic is Zipf's, luck a Gamma of shape 0.3; ``even``: all users are alike."""
    table = log_harm(
        np.arange(EVENTS + 1)[None, :, None],
        np.arange(EVENTS + 1)[:, None, None] - np.arange(EVENTS + 1)[None, :, None],
        [WEIGHT],
        RatioTest(1.0),
    )
    busy = 1.0 / np.arange(1, USERS + 1)
    reached = 0
    for _ in range(RUNS):
        share = np.ones(USERS) if even else busy * rng.gamma(0.3, size=USERS)
        users = rng.choice(USERS, EVENTS, p=share / share.sum())
        ours = rng.random(USERS) < WEIGHT
        counted = first_events(np.empty(0, np.uint64), users.astype(np.uint64) + 1, USERS).counted if per_key else slice(None)
        arms = ours[users][counted]
        reached += bool((table[np.arange(1, len(arms) + 1), np.cumsum(arms)] >= HARM).any())
    return reached / RUNS


def test_t4_first_bad_event_of_each_key(rng: np.random.Generator) -> None:
    """Counted once per user, heavy users do no harm to the guarantee."""
    assert alarms(rng, per_key=True) <= at_most(ALPHA, RUNS)


def test_t4_the_mutation_counting_requests_fails(rng: np.random.Generator) -> None:
    """Counted once per request, the same traffic rolls back a healthy candidate in more than one run of twenty: T4 can fail."""
    assert alarms(rng, per_key=False) > 5 * ALPHA


@pytest.mark.parametrize("per_key", [True, False])
def test_t4_even_traffic(per_key: bool, rng: np.random.Generator) -> None:
    """Where no user stands out, both ways of counting are near the guarantee; counting keys is within it."""
    assert alarms(rng, per_key=per_key, even=True) <= (at_most(ALPHA, RUNS) if per_key else 5 * ALPHA)


def test_t4_the_test_of_the_table() -> None:
    """The table used above holds what the test says for its counts."""
    known: Any = harm(1.0)([3], [10], [WEIGHT])
    table = log_harm(
        np.arange(14)[None, :, None], np.arange(14)[:, None, None] - np.arange(14)[None, :, None], [WEIGHT], RatioTest(1.0)
    )
    assert table[13, 3] == known
