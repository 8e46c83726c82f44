"""T8: silence promotes nothing. T9: what is bad in both arms is not the candidate's fault. And what is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from promises import ALPHA, at_most, traffic

from headgate.judge.decide import decide, judge
from headgate.judge.outcomes import RECORD, Arm, Event
from headgate.judge.settings import JudgeSettings
from headgate.judge.slo import parse_slo
from headgate.judge.state import JudgeState, Load
from headgate.judge.verdict import Judgement, Reason, Verdict

LOAD = Load(candidate=10.0, baseline=10.0)
SETTINGS = JudgeSettings(slo=parse_slo("p99=80ms,errors=1%"))


def failing(rng: np.random.Generator, count: int, ours: float, theirs: float, **options: Any) -> Any:
    """Return traffic in which the candidate errs at rate ``ours``, the baseline at ``theirs``."""
    batch = traffic(rng, count, **options)
    batch["bits"] = np.where(rng.random(count) < np.where(batch["arm"] == Arm.CANDIDATE, ours, theirs), Event.ERROR, 0)
    return batch


def rollout(rng: np.random.Generator, ours: float, theirs: float, ticks: int = 12, size: int = 400) -> Judgement:
    """Return the first verdict that decides, or the last one."""
    state = JudgeState()
    for tick in range(ticks):
        batch = failing(rng, size, ours, theirs, start=tick * size)
        state, judgement = judge(state, batch, SETTINGS, load=LOAD)
        if judgement.verdict is not Verdict.UNDECIDED:
            break
    return judgement


@pytest.mark.parametrize(
    ("arm", "bits"),
    [
        (None, 0),
        (Arm.BASELINE, 0),
        (Arm.CANDIDATE, 0),
        (Arm.OTHER, 0),
        (None, Event.PINNED),
        (None, Event.WARMUP),
        (None, Event.RETRY),
    ],
)
def test_t8_zero_traffic_never_promotes(arm: Arm | None, bits: int, rng: np.random.Generator) -> None:
    """No records, those of one arm only, or only such as do not count: E is 1 and the verdict undecided, for as long as one asks."""
    state = JudgeState()
    for tick in range(20):
        batch = np.zeros(0, RECORD) if arm is None and not bits else failing(rng, 200, 0.0, 0.0, start=200 * tick)
        batch["arm"] = batch["arm"] if arm is None else arm
        batch["bits"] |= np.uint32(bits)
        state, judgement = judge(state, batch, SETTINGS, load=LOAD, promoting=True)
        assert (judgement.verdict, judgement.reason) == (Verdict.UNDECIDED, Reason.NO_TRAFFIC)
        assert all(item.log_e == 0.0 and not item.proven for item in judgement.metrics)


def test_t8_traffic_without_bad_events_proves_nothing(rng: np.random.Generator) -> None:
    """A thousand good answers show no harm and, as nothing was ever slow, no safety."""
    _, judgement = judge(JudgeState(), traffic(rng, 1_000), SETTINGS, load=LOAD, promoting=True)
    assert (judgement.verdict, judgement.reason) == (Verdict.UNDECIDED, Reason.NOT_PROVEN)


def test_t9_both_bad_is_the_environment(rng: np.random.Generator) -> None:
    """Both err in 5 % where 1 % may: the rollout is held, in all runs but those the budget of false alarms allows."""
    runs = 100
    verdicts = [rollout(rng, 0.05, 0.05).verdict for _ in range(runs)]
    assert verdicts.count(Verdict.HARM) / runs <= at_most(ALPHA, runs)
    assert verdicts.count(Verdict.ENVIRONMENT) + verdicts.count(Verdict.HARM) == runs


def test_t9_bad_where_the_baseline_is_fine_is_harm(rng: np.random.Generator) -> None:
    """The mutation of T9: the same candidate beside a baseline that keeps the objective is taken back."""
    judgement = rollout(rng, 0.05, 0.0)
    assert judgement.verdict is Verdict.HARM


def test_t9_worse_than_a_bad_baseline_is_harm(rng: np.random.Generator) -> None:
    """Where both break the objective and one far more, taking that one back does help."""
    judgement = rollout(rng, 0.5, 0.05)
    assert (judgement.verdict, judgement.reason) == (Verdict.HARM, Reason.WORSE)


def test_t9_after_the_switch_only_the_objective_is_left(rng: np.random.Generator) -> None:
    """At weight 1 nothing is drawn, so nothing is compared; a candidate that then breaks what the baseline has kept is taken back."""
    state, judgement = judge(JudgeState(), failing(rng, 6_000, 0.002, 0.002), SETTINGS, load=LOAD)
    before = judgement.metrics[0].log_e
    state, judgement = judge(state, failing(rng, 2_000, 0.05, 0.0, weight=1.0, start=6_000), SETTINGS, load=LOAD)
    assert judgement.metrics[0].log_e == before
    assert (judgement.verdict, judgement.reason) == (Verdict.HARM, Reason.BREAKS_OBJECTIVE)


@pytest.mark.long
def test_a_thousand_equal_rollouts(rng: np.random.Generator) -> None:
    """The whole judge, all metrics and both guards, 4,000 requests each: at most alpha are taken back."""
    runs = 1_000
    harmed = 0
    for _ in range(runs):
        state = JudgeState()
        for tick in range(10):
            batch = failing(rng, 400, 0.008, 0.008, start=400 * tick, weight=0.2)
            slow = state.thresholds
            for event, limit in ((Event.SLOW50, slow.slow50), (Event.SLOW95, slow.slow95), (Event.SLOW99, slow.slow99)):
                batch["bits"] |= np.where(batch["latency"] > (limit or np.inf), event.value, 0).astype("u4")
            state, judgement = judge(state, batch, SETTINGS, load=LOAD)
            if judgement.verdict is Verdict.HARM:
                harmed += 1
                break
    assert harmed / runs <= at_most(ALPHA, runs)
    assert decide(state, SETTINGS).metrics
