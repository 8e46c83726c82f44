"""What the judge can be told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headgate.errors import SpecError
from headgate.judge.settings import METRICS, JudgeSettings, Metric
from headgate.judge.slo import parse_slo


def test_the_budget_is_shared_out() -> None:
    """Whatever is in use, the shares sum to 1; an objective brings its metric and its guard."""
    without = JudgeSettings()
    assert sum(metric.share for metric in without.active) / without.budget == pytest.approx(1.0)
    assert "over_slo" not in [metric.name for metric in without.active]
    with_both = JudgeSettings(slo=parse_slo("p99=80ms,errors=1%"))
    assert with_both.active == METRICS
    assert with_both.budget == pytest.approx(sum(metric.share for metric in METRICS) + 0.2)


def test_only_frequent_events_have_to_be_proven() -> None:
    """Safety on rare errors would take hundreds of thousands of requests; it is not asked for."""
    assert [metric.name for metric in METRICS if metric.prove] == ["slow50", "slow95"]
    assert all(metric.timed for metric in METRICS if metric.prove)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"alpha": 0.0}, "judge.alpha"),
        ({"beta": 1.0}, "judge.beta"),
        ({"tolerance": 0.9}, "judge.tolerance"),
        ({"tolerance": 20.0, "ceiling": 30.0}, "judge.tolerance"),
        ({"ceiling": 1.1}, "judge.ceiling"),
        ({"guard_share": 0.0}, "judge.guard_share"),
        ({"within_slo": "ignore"}, "judge.within_slo"),
        ({"min_events": -1}, "judge.min_events"),
        ({"load_tolerance": -0.1}, "judge.load_tolerance"),
        ({"max_keys": 0}, "judge.max_keys"),
        ({"max_weights": 0}, "judge.max_weights"),
        ({"metrics": ()}, "judge.metrics"),
        ({"metrics": (METRICS[0], METRICS[0])}, "judge.metrics[1].name"),
        ({"metrics": (Metric(name="a", events=("error",), share=0.0),)}, "judge.metrics[0].share"),
        ({"metrics": (Metric(name="a", events=("eror",), share=1.0),)}, "did you mean 'error'"),
        ({"metrics": (Metric(name="a", events=(), share=1.0),)}, "judge.metrics[0].events"),
        ({"metrics": (Metric(name="a", events=("error",), share=1.0, objective="p99"),)}, "judge.metrics[0].objective"),
    ],
)
def test_what_is_refused(settings: dict[str, Any], said: str) -> None:
    """A value that cannot be is refused with its field."""
    with pytest.raises(SpecError) as refused:
        JudgeSettings(**settings)
    assert said in str(refused.value)


def test_settings_can_be_stored() -> None:
    """A rollout keeps the settings it began with."""
    settings = JudgeSettings(slo=parse_slo("p99=80ms"), alpha=0.05)
    assert msgspec.json.decode(msgspec.json.encode(settings), type=JudgeSettings) == settings
