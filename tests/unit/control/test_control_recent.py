"""Whether there is enough traffic for a canary."""

from __future__ import annotations

import pytest

from headgate.control.recent import Recent, advice, needed
from headgate.journal import LoadReport, RevisionReport
from headgate.spec import RolloutSpec

CANARY = RolloutSpec(strategy="canary", steps=(10, 50), min_events=50)


def report(**requests: int) -> LoadReport:
    revisions = tuple(
        RevisionReport(revision=name.replace("_", "-"), queued_rows=0, inflight=0, requests=count, failures=0, rejected=0)
        for name, count in requests.items()
    )
    return LoadReport(gateway="g", table=1, draining=False, connections=0, revisions=revisions)


def test_what_a_canary_needs() -> None:
    """50 requests at 10 % are 500 of the deployment's, at 50 % 100."""
    assert needed(CANARY) == pytest.approx(600)
    assert needed(RolloutSpec(strategy="blue-green")) == 0


def test_the_rate_of_the_last_hour() -> None:
    """Both revisions count; what is older than an hour does not."""
    recent = Recent()
    for minute in range(0, 121):
        fast = minute >= 60
        recent.note(report(fraud_1=10 * minute + (90 * (minute - 60) if fast else 0), fraud_2=0), minute * 60.0)
    assert recent.hourly("fraud", 7200.0) == pytest.approx(6000)


def test_nothing_is_said_before_anything_is_known() -> None:
    """Not in the first five minutes, nor of a deployment nobody knows."""
    recent = Recent()
    recent.note(report(fraud_1=0), 0.0)
    assert recent.hourly("fraud", 200.0) is None and recent.hourly("eu", 9999.0) is None
    assert recent.hourly("fraud", 400.0) == 0


def test_a_gateway_that_begins_anew_is_no_negative_traffic() -> None:
    """Its counts begin at 0, and so does the hour."""
    recent = Recent()
    recent.note(report(fraud_1=1000), 0.0)
    recent.note(report(fraud_1=5), 600.0)
    assert recent.hourly("fraud", 700.0) is None
    assert recent.hourly("fraud", 900.0) == 0


@pytest.mark.parametrize(
    ("hourly", "said"),
    [
        (60.0, "60 requests came in the last hour, and this canary needs 600"),
        (60.0, "it would take about 10 h"),
        (0.0, "for ever"),
        (0.0, "--strategy replace"),
    ],
)
def test_too_little_is_said_with_the_way_out(hourly: float, said: str) -> None:
    """How much there is, how much it takes, how long that would be, and what to do instead."""
    assert said in advice(CANARY, hourly)


def test_enough_is_no_word_worth() -> None:
    """Nor is what is not known, or no canary."""
    assert advice(CANARY, 601.0) == "" and advice(CANARY, None) == ""
    assert advice(RolloutSpec(strategy="blue-green"), 0.0) == ""
