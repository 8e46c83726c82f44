"""The conditional e-process, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from headgate.judge.bernoulli import log_exceeds, log_within, rate_confidence
from headgate.judge.evalue import RatioTest, confidence, log_harm, log_likelihood, log_safe


def test_no_event_says_nothing() -> None:
    """E is 1 at the beginning, and the confidence sequence holds every ratio."""
    assert log_harm([0], [0], [0.1], RatioTest()) == 0.0
    assert log_safe([], [], [], RatioTest()) == 0.0
    assert [float(end) for end in confidence([0], [0], [0.1], 0.01)] == [0.0, math.inf]


def test_one_event_by_hand() -> None:
    """A bad event of the candidate at weight 0.1: the odds against 1.1 of each alternative, averaged."""
    worse = [1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 20.0]

    def share(theta: float) -> float:
        return 0.1 * theta / (0.1 * theta + 0.9)

    ours = np.mean([share(theta) / share(1.1) for theta in worse])
    theirs = np.mean([(1 - share(theta)) / (1 - share(1.1)) for theta in worse])
    assert np.exp(log_harm([1], [0], [0.1], RatioTest())) == pytest.approx(ours)
    assert np.exp(log_harm([0], [1], [0.1], RatioTest())) == pytest.approx(theirs)


def test_events_at_several_weights_multiply() -> None:
    """The likelihood of all is the sum of those at each weight."""
    together = log_likelihood([3, 5], [20, 4], [0.1, 0.5], [1.0, 2.0])
    apart = log_likelihood([3], [20], [0.1], [1.0, 2.0]) + log_likelihood([5], [4], [0.5], [1.0, 2.0])
    assert together == pytest.approx(apart)


def test_many_processes_at_once() -> None:
    """Leading axes are independent processes; each has the bits it has alone."""
    candidate, baseline = np.array([[[1, 2], [3, 4]]]), np.array([[[9, 8], [7, 6]]])
    together = log_harm(candidate, baseline, [0.1, 0.5], RatioTest())
    assert together.shape == (1, 2)
    assert together[0, 1] == log_harm([3, 4], [7, 6], [0.1, 0.5], RatioTest())


def test_where_the_weight_leaves_no_choice_nothing_is_learned() -> None:
    """At weight 1 every bad event is the candidate's, and says nothing of the ratio."""
    assert log_harm([50], [0], [1.0], RatioTest()) == pytest.approx(0.0)


def test_the_confidence_sequence_agrees_with_the_bets() -> None:
    """Six times the baseline's rate: the lower end is above 1, the truth inside, and more events narrow it."""
    few = [float(end) for end in confidence([40], [60], [0.1], 0.01)]
    many = [float(end) for end in confidence([400], [600], [0.1], 0.01)]
    assert 1.0 < few[0] < many[0] < 6.0 < many[1] < few[1]


def test_alternatives_stay_beyond_the_bounds() -> None:
    """A bet on a ratio that is tolerated would not be one."""
    test = RatioTest(tolerance=1.5, ceiling=1.1)
    assert test.worse.min() > 1.5
    assert test.better.max() < 1.1


def test_a_rate_against_its_bound() -> None:
    """Ten of a hundred where one may be: exceeded. None of a thousand: kept."""
    assert log_exceeds(10, 100, 0.01) > math.log(100)
    assert log_within(0, 1_000, 0.01) > math.log(20)
    assert log_exceeds(1, 100, 0.01) < math.log(2)
    assert log_exceeds(0, 0, 0.01) == log_within(0, 0, 0.01) == 0.0


def test_the_confidence_sequence_of_a_rate() -> None:
    """It holds the observed share, never leaves 0 to 1, and is everything at the beginning."""
    assert rate_confidence(0, 0, 0.01) == (0.0, 1.0)
    lower, upper = rate_confidence(100, 1_000, 0.01)
    assert 0.05 < lower < 0.1 < upper < 0.15
    assert rate_confidence(1_000, 1_000, 0.01)[1] == 1.0
