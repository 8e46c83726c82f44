"""What must hold of the judge for every weight, every rate and every stream."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from hypothesis import given, strategies as st

from headgate.judge.bernoulli import log_exceeds, log_within, rate_confidence
from headgate.judge.decide import judge
from headgate.judge.evalue import RatioTest, confidence, log_harm, log_safe
from headgate.judge.labels import Labels, log_factors, observe_labels
from headgate.judge.outcomes import RECORD, Arm, Event
from headgate.judge.paired import Pairs, judge_pairs, log_factors as pair_factors, observe_differences
from headgate.judge.settings import JudgeSettings
from headgate.judge.slo import parse_slo
from headgate.judge.state import JudgeState, Load, decode, encode, observe
from headgate.judge.verdict import Judgement, Verdict
from headgate.testing.trials import candidate_share

WEIGHTS = st.floats(1e-4, 1 - 1e-4)
COUNTS = st.integers(0, 100_000)
RATES = st.floats(1e-4, 0.999)
ONE = 1.0 + 1e-9
SETTINGS = JudgeSettings(slo=parse_slo("p99=80ms,errors=1%"), max_keys=12, max_weights=3)


@given(WEIGHTS, COUNTS, COUNTS, st.floats(1.0, 5.0), st.floats(0.0, 1.0))
def test_the_bet_on_harm_is_fair_at_best(weight: float, ours: int, theirs: int, tolerance: float, part: float) -> None:
    """Whatever has happened, the next bad event multiplies E by at most 1 on average, for every ratio up to the tolerance."""
    test = RatioTest(tolerance, 20.0)
    now, candidate, baseline = log_harm([[ours], [ours + 1], [ours]], [[theirs], [theirs], [theirs + 1]], [weight], test)
    share = candidate_share(weight, part * tolerance)
    assert share * np.exp(candidate - now) + (1 - share) * np.exp(baseline - now) <= ONE


@given(WEIGHTS, COUNTS, COUNTS, st.floats(1.2, 5.0), st.floats(1.0, 10.0))
def test_the_bet_on_safety_is_fair_at_best(weight: float, ours: int, theirs: int, ceiling: float, times: float) -> None:
    """The same with the roles exchanged, for every ratio from the ceiling on."""
    test = RatioTest(1.0, ceiling)
    now, candidate, baseline = log_safe([[ours], [ours + 1], [ours]], [[theirs], [theirs], [theirs + 1]], [weight], test)
    share = candidate_share(weight, times * ceiling)
    assert share * np.exp(candidate - now) + (1 - share) * np.exp(baseline - now) <= ONE


@given(st.integers(0, 5_000), st.integers(0, 5_000), st.floats(1e-4, 0.999), st.floats(0.0, 1.0))
def test_the_guard_is_fair_at_best(bad: int, good: int, bound: float, part: float) -> None:
    """A rate up to the bound lowers the evidence that it is broken, a rate from the bound on the evidence that it is kept."""
    for bet, rate in ((log_exceeds, part * bound), (log_within, bound + part * (1 - bound))):
        now, worse, better = (float(bet(bad + more, bad + good + some, bound)) for more, some in ((0, 0), (1, 1), (0, 1)))
        assert rate * math.exp(worse - now) + (1 - rate) * math.exp(better - now) <= ONE


@given(st.integers(0, 500), st.floats(0, 1), st.floats(0, 1), RATES, st.floats(0, 1))
def test_the_bet_on_labels_is_fair_at_best(blocks: int, ours: float, theirs: float, rate: float, part: float) -> None:
    """For every past, and every candidate that errs at most as often as the baseline."""
    seen = (blocks, int(ours * blocks), int(theirs * blocks))
    mean = 0.0
    for mine, chance in ((1, part * rate), (0, 1 - part * rate)):
        for other, its in ((1, rate), (0, 1 - rate)):
            mean += chance * its * math.exp(log_factors([mine], [other], seen)[0])
    assert mean <= ONE


@given(st.floats(0.0, 0.9), st.lists(st.floats(-1, 1), min_size=1, max_size=8))
def test_the_bet_on_pairs_is_fair_at_best(delta: float, values: list[float]) -> None:
    """Differences with a mean of at most delta: no stake grows on average, and none is ever lost as a whole."""
    differences = np.array(values)
    differences = np.clip(differences - max(differences.mean() - delta, 0.0), -1.0, 1.0)
    if differences.mean() <= delta:
        factors = np.exp(pair_factors(differences, delta))
        assert (factors > 0).all()
        assert (factors.mean(axis=0) <= ONE).all()


@given(st.lists(st.tuples(WEIGHTS, COUNTS, COUNTS), max_size=5, unique_by=lambda row: row[0]))
def test_evidence_is_a_number(rows: list[tuple[float, int, int]]) -> None:
    """E is above 0 and not infinite in its logarithm, for any counts; the ends of the confidence sequence are in order."""
    weights, ours, theirs = ([row[column] for row in rows] for column in range(3))
    for bet in (log_harm, log_safe):
        assert np.isfinite(bet(ours, theirs, weights, RatioTest()))
    lower, upper = confidence(ours, theirs, weights, 0.01)
    assert 0 <= lower < upper


@given(COUNTS, COUNTS)
def test_the_observed_rate_is_never_excluded(bad: int, good: int) -> None:
    """The confidence sequence of a rate holds the share that was seen, up to the step of its grid."""
    lower, upper = rate_confidence(bad, bad + good, 0.01)
    share = bad / (bad + good) if bad + good else 0.5
    assert lower <= share + 1e-6
    assert upper >= share - 1e-6


@st.composite
def streams(draw: st.DrawFn) -> Any:
    """Records of everything a gateway may report, at a handful of weights, keys and replicas."""
    count = draw(st.integers(0, 120))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    batch = np.zeros(count, RECORD)
    batch["sequence"] = np.cumsum(rng.integers(1, 4, count))
    batch["weight"] = rng.choice([0.0, 0.01, 0.05, 0.25, 0.5, 1.0], count)
    drawn = np.where(rng.random(count) < batch["weight"], Arm.CANDIDATE, Arm.BASELINE)
    batch["arm"] = np.where(rng.random(count) < 0.1, Arm.OTHER, drawn)
    batch["key"] = rng.integers(0, draw(st.sampled_from([1, 10, 40])), count)
    batch["replica"] = rng.integers(0, 4, count)
    batch["latency"] = rng.lognormal(-4, 1, count)
    batch["compute"] = np.where(rng.random(count) < 0.1, np.nan, batch["latency"])
    for event in Event:
        batch["bits"] |= np.where(rng.random(count) < draw(st.sampled_from([0.0, 0.1, 0.5])), event.value, 0).astype("u4")
    return batch


@given(streams(), st.lists(st.integers(0, 120), max_size=8))
def test_batches_and_restarts_leave_no_trace(batch: Any, cuts: list[int]) -> None:
    """However the stream is cut, and the state stored and read at each cut: at the end the same bytes, so the same E to the last bit."""
    load = Load(candidate=1.0, baseline=1.0)
    whole = observe(JudgeState(), batch, SETTINGS, load=load)
    state = JudgeState()
    for part in np.split(batch, sorted(min(cut, len(batch)) for cut in cuts)):
        state = decode(encode(observe(state, part, SETTINGS, load=load)))
    assert encode(state) == encode(whole)


@given(streams())
def test_one_by_one_is_all_at_once(batch: Any) -> None:
    """A control loop that is quick and one that was asleep for an hour know the same."""
    batch = batch[:30]
    load = Load(candidate=1.0, baseline=1.0)
    state = observe(JudgeState(), batch[:0], SETTINGS, load=load)
    for place in range(len(batch)):
        state = observe(state, batch[place : place + 1], SETTINGS, load=load)
    assert encode(state) == encode(observe(JudgeState(), batch, SETTINGS, load=load))


@given(streams(), st.booleans(), st.none() | st.builds(Load, candidate=st.floats(0, 100), baseline=st.floats(0, 100)))
def test_every_stream_has_a_verdict(batch: Any, promoting: bool, load: Load | None) -> None:
    """Nothing a gateway may report is too much: there is a verdict, with words, that can be stored; SAFE only if it was asked for."""
    _, judgement = judge(JudgeState(), batch, SETTINGS, load=load, promoting=promoting)
    assert judgement.text
    assert judgement.verdict is not Verdict.SAFE or promoting
    assert msgspec.json.decode(msgspec.json.encode(judgement), type=Judgement) == judgement


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60), st.integers(0, 60))
def test_labels_leave_no_trace_of_batches(labels: list[tuple[bool, bool]], cut: int) -> None:
    """Late labels in two batches are the same labels in one."""
    assert observe_labels(observe_labels(Labels(), labels[:cut]), labels[cut:]) == observe_labels(Labels(), labels)


@given(st.lists(st.floats(-1, 1), max_size=40), st.integers(0, 40))
def test_pairs_leave_no_trace_of_batches(differences: list[float], cut: int) -> None:
    """The same for a shadow's labels, and what they say is a number."""
    parts = observe_differences(observe_differences(Pairs(), differences[:cut], 0.1), differences[cut:], 0.1)
    assert parts == observe_differences(Pairs(), differences, 0.1)
    assert math.isfinite(judge_pairs(parts, alpha=0.01, delta_max=0.1).log_e_labels)
