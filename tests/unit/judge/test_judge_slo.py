"""Objectives as people write them."""

from __future__ import annotations

import pytest

from headgate.errors import SpecError
from headgate.judge.slo import Slo, parse_slo, slo_text


@pytest.mark.parametrize(
    ("text", "slo"),
    [
        ("p99=80ms,errors=1%", Slo(quantile="p99", latency=0.08, errors=0.01)),
        (" p95 = 2s ", Slo(quantile="p95", latency=2.0)),
        ("errors=0.05%", Slo(errors=0.0005)),
        ("p99.9=1.5s, errors=.5%", Slo(quantile="p99.9", latency=1.5, errors=0.005)),
        ("", Slo()),
    ],
)
def test_what_is_read(text: str, slo: Slo) -> None:
    """Durations and shares with their units, in any order, with spaces; and they can be written back."""
    assert parse_slo(text) == slo
    assert parse_slo(slo_text(slo)) == slo


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("p99=80", "p99 takes a duration with its unit, such as p99=80ms, got '80'"),
        ("errors=1", "errors takes a share with its unit, such as errors=1%, got '1'"),
        ("errors=1ms", "errors takes a share"),
        ("p99=1%", "p99 takes a duration"),
        ("eror=1%", "did you mean 'errors'"),
        ("p98=80ms", "there is no objective 'p98'"),
        ("p99", "p99 has no value; write p99=80ms"),
        ("errors=", "errors has no value; write errors=1%"),
        ("p99=0ms", "more than 0 seconds"),
        ("errors=0%", "more than 0 % and less than 100 %"),
        ("errors=100%", "more than 0 % and less than 100 %"),
        ("errors=1%,errors=2%", "errors is given twice"),
        ("p95=40ms,p99=80ms", "p95 and p99 are both given, but one latency objective is judged"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    """The message names the setting, the part that is wrong and how to write it."""
    with pytest.raises(SpecError) as refused:
        parse_slo(text, "rollout.slo")
    assert str(refused.value).startswith("rollout.slo: ")
    assert said in str(refused.value)


def test_how_many_may_be_slower() -> None:
    """A latency objective at a quantile is a share of requests."""
    assert parse_slo("p99=80ms").slow_share == pytest.approx(0.01)
    assert parse_slo("errors=1%").slow_share is None
