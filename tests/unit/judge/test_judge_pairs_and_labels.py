"""The shadow's pairs, and labels that come late."""

from __future__ import annotations

import math

import numpy as np
import pytest

from headgate.judge.labels import WAITING, Labels, log_factors, observe_labels
from headgate.judge.paired import Pairs, judge_pairs, observe_differences, observe_pairs


def test_equal_answers_are_no_harm() -> None:
    """A thousand equal answers: the share that differs is near 0, and nothing is evidence of harm."""
    report = judge_pairs(observe_pairs(Pairs(), differed=np.zeros(1_000, bool)), alpha=0.01, delta_max=0.01)
    assert not report.harm
    assert report.difference[0] == 0.0
    assert report.difference[1] < 0.01


def test_too_many_different_answers_are_harm() -> None:
    """Ten percent differ where one percent may."""
    report = judge_pairs(observe_pairs(Pairs(), differed=np.arange(300) % 10 == 0), alpha=0.01, delta_max=0.01)
    assert report.harm
    assert report.difference[0] > 0.01


def test_only_discordant_pairs_speak() -> None:
    """Requests that fail in both versions say nothing of either; forty that fail in the candidate alone do."""
    both = observe_pairs(Pairs(), candidate_bad=[True] * 200, baseline_bad=[True] * 200)
    assert judge_pairs(both, alpha=0.01, delta_max=0.01).log_e_events == 0.0
    one = observe_pairs(both, candidate_bad=[True] * 40, baseline_bad=[False] * 40)
    assert (one.candidate_only, one.baseline_only) == (40, 0)
    assert judge_pairs(one, alpha=0.01, delta_max=0.01).harm


def test_labels_of_a_shadow() -> None:
    """Thirty pairs in which the candidate is wrong and the baseline right; what is tolerated is not counted against it."""
    worse = observe_differences(Pairs(), np.ones(30), 0.0)
    assert (worse.labelled, worse.excess) == (30, 30.0)
    assert judge_pairs(worse, alpha=0.01, delta_max=0.01).harm
    tolerated = observe_differences(Pairs(), np.tile([1.0, 0.0, 0.0], 100), 0.5)
    assert judge_pairs(tolerated, alpha=0.01, delta_max=0.01).log_e_labels < 0


def test_pairs_that_cannot_be_are_refused() -> None:
    """Unequal numbers, and differences beyond one error."""
    with pytest.raises(ValueError, match="as many events"):
        observe_pairs(Pairs(), candidate_bad=[True], baseline_bad=[])
    with pytest.raises(ValueError, match="from -1 to 1"):
        observe_differences(Pairs(), [1.5], 0.0)


def test_labels_wait_for_a_partner() -> None:
    """The i-th label of one arm is compared with the i-th of the other, however they arrive."""
    state = observe_labels(Labels(), [(True, True), (True, False), (False, False)])
    assert (state.blocks, state.wrong_candidate, state.wrong_baseline) == (1, 1, 0)
    assert (state.waiting_candidate, state.waiting_baseline) == (b"\0", b"")
    assert state.log_e == 0.0  # the first block is learned from, not bet on
    state = observe_labels(state, [(False, False), (True, True), (False, False)])
    assert (state.blocks, state.wrong_candidate) == (3, 2)
    assert state.log_e == pytest.approx(float(log_factors([1, 0, 1], [0, 0, 0]).sum()))
    assert state.log_e != 0.0


def test_labels_that_wait_are_bounded() -> None:
    """Beyond the bound they are left out and counted."""
    state = observe_labels(Labels(), [(False, True)] * (WAITING + 3))
    assert len(state.waiting_baseline) == WAITING
    assert state.left_out == 3


def test_twice_as_many_wrong_labels_are_found() -> None:
    """Forty percent against ten: the bet is won within two hundred labels of each arm."""
    rng = np.random.default_rng(3)
    labels = [pair for _ in range(200) for pair in ((True, bool(rng.random() < 0.4)), (False, bool(rng.random() < 0.1)))]
    assert observe_labels(Labels(), labels).log_e > math.log(100)
