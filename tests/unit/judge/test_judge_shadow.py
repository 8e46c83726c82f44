"""What a shadow has shown: sums over gateways, its sentence, and how often a harmless candidate is called harmful."""

from __future__ import annotations

import math

import numpy as np
import pytest

from headgate.journal import Example, MirrorReport, OutputAgreement
from headgate.judge.shadow import shadow_evidence, total
from headgate.judge.state import JudgeState, decode, encode


def report(pairs: int = 1000, differed: int = 0, candidate: int = 0, baseline: int = 0) -> MirrorReport:
    """What one gateway has counted."""
    output = OutputAgreement(
        name="y", compared=pairs, exact=0, close=pairs - differed, vectors=pairs, same_top=pairs // 2, ranked=10, rank_sum=9.0
    )
    return MirrorReport(
        pairs=pairs, compared=pairs, differed=differed, candidate_only=candidate, baseline_only=baseline, outputs=[output]
    )


def test_reports_of_several_gateways_add_up() -> None:
    """Counts and outputs, by their names; the parts are left as they were, and examples stay behind."""
    first, second = report(100, 10), report(50, 5)
    first.examples = [Example(difference=1.0, output="y", row=0, live=1, candidate=2)]
    second.outputs.append(OutputAgreement(name="z", compared=50, close=50))
    whole = total([first, second])
    assert (whole.pairs, whole.compared, whole.differed, whole.examples) == (150, 150, 15, [])
    assert [(output.name, output.compared, output.close) for output in whole.outputs] == [("y", 150, 135), ("z", 50, 50)]
    assert first.outputs[0].compared == 100
    assert total([]) == MirrorReport()


def test_shares_are_told_by_output() -> None:
    """With their confidence sequence; what an output does not have is None."""
    counted = report(1000, 300)
    counted.outputs.append(OutputAgreement(name="label", compared=1000, exact=1000, close=1000))
    y, label = shadow_evidence(counted, alpha=0.01, bound=None).outputs
    assert y.differing == pytest.approx(0.3) and y.confidence[0] < 0.3 < y.confidence[1]
    assert (y.same_top, y.rank, y.exact) == (0.5, 0.9, 0.0)
    assert (label.differing, label.same_top, label.rank, label.exact) == (0.0, None, None, 1.0)


def test_differences_are_harm_only_where_a_bound_is_set() -> None:
    """A new version that answers as the old one would be none."""
    assert not shadow_evidence(report(1000, 1000), alpha=0.01, bound=None).harm
    assert shadow_evidence(report(1000, 300), alpha=0.01, bound=0.1).harm
    assert not shadow_evidence(report(1000, 100), alpha=0.01, bound=0.1).harm


def test_bad_events_count_where_the_other_side_had_none() -> None:
    """As many of both sides are none of the candidate's; many more are harm, with or without a bound."""
    assert not shadow_evidence(report(1000, 0, 40, 40), alpha=0.01, bound=None).harm
    found = shadow_evidence(report(1000, 0, 40, 5), alpha=0.01, bound=None)
    assert found.harm and found.text.startswith("Harm: 0 of 1,000 answers differ")
    assert "bad events: candidate 40, baseline 5 of 1,000 pairs, evidence of harm" in found.text


def test_nothing_is_said_of_nothing() -> None:
    """Silence is no evidence, and says what has become of the copies."""
    found = shadow_evidence(MirrorReport(dropped=3), alpha=0.01, bound=0.05)
    assert not found.harm and found.log_e_difference == found.log_e_events == 0.0
    assert found.text == "Nothing to compare: no copy of a request has come back yet; 3 were dropped."
    assert found.seconds is None and found.outputs == ()


def test_one_alone_is_harm_where_it_says() -> None:
    """At ``log_needed``, the other being silent."""
    grown = [shadow_evidence(report(1000, 0, events), alpha=0.01, bound=None) for events in range(30)]
    # The silent two add their 1 each to the mean.
    assert all(found.harm == (math.exp(found.log_e_events) + 2 >= 3 / 0.01) for found in grown)
    assert all(found.harm for found in grown if found.log_e_events >= found.log_needed)


def test_a_harmless_candidate_is_seldom_called_harmful() -> None:
    """Equal rates of bad events and as many differences as may be: looked at after every tenth pair, at most 1 % of shadows end."""
    random, harmed, runs = np.random.default_rng(7), 0, 200
    for _ in range(runs):
        differs = np.cumsum(random.random(2000) < 0.05)
        ours, theirs = np.cumsum(random.random((2, 2000)) < 0.02, axis=1)
        looks = range(9, 2000, 10)
        harmed += any(
            shadow_evidence(report(at + 1, int(differs[at]), int(ours[at]), int(theirs[at])), alpha=0.01, bound=0.05).harm
            for at in looks
            if differs[at] > 0.06 * at or ours[at] > theirs[at] + 5  # elsewhere there is no evidence at all
        )
    assert harmed <= 0.01 * runs + 3 * math.sqrt(0.01 * 0.99 * runs)


def test_it_is_remembered_with_the_judge() -> None:
    """What was counted comes back from what is stored, bit by bit."""
    state = JudgeState(mirrors={"gateway-0/7": report(10, 3)})
    assert decode(encode(state)) == state
