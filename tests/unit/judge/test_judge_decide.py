"""From counts to a verdict, and the words for it."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from headgate.judge.decide import decide, judge
from headgate.judge.outcomes import RECORD, Arm, Event
from headgate.judge.settings import JudgeSettings
from headgate.judge.slo import parse_slo
from headgate.judge.state import JudgeState, Load, decode, encode, observe
from headgate.judge.verdict import Judgement, Reason, Verdict, evidence_text

EVEN = Load(candidate=10.0, baseline=11.0)
UNEVEN = Load(candidate=10.0, baseline=12.0)
SETTINGS = JudgeSettings()


def requests(arm: Arm, good: int, bad: int = 0, bits: int = Event.ERROR, replicas: tuple[int, ...] = (1, 2), **fields: Any) -> Any:
    """Return records of one arm, the bad ones first, spread over ``replicas`` in turn; at weight 1/2 unless ``fields`` say otherwise."""
    batch = np.zeros(good + bad, RECORD)
    batch["arm"], batch["weight"], batch["latency"], batch["compute"] = arm, 0.5, 0.01, 0.005
    batch["bits"][:bad] = bits
    batch["replica"] = np.resize(replicas, len(batch)) + 10 * arm.value
    for field, value in fields.items():
        batch[field] = value
    return batch


def stream(*parts: Any, start: int = 0) -> Any:
    """Return the parts one after the other, numbered."""
    batch = np.concatenate(parts)
    batch["sequence"] = start + np.arange(len(batch))
    return batch


def verdict(*parts: Any, settings: JudgeSettings = SETTINGS, load: Load | None = EVEN, promoting: bool = False) -> Judgement:
    """Return what is said of a stream of these parts."""
    return judge(JudgeState(), stream(*parts), settings, load=load, promoting=promoting)[1]


def of(judgement: Judgement, name: str) -> Any:
    """Return the evidence on one metric."""
    return next(metric for metric in judgement.metrics if metric.name == name)


def test_harm_is_said_in_words() -> None:
    """The text has the counts, the ratio and the evidence, and what follows."""
    said = verdict(requests(Arm.CANDIDATE, 900, 100), requests(Arm.BASELINE, 990, 10))
    assert (said.verdict, said.reason) == (Verdict.HARM, Reason.WORSE)
    assert said.log_e >= said.log_needed
    assert said.text.startswith("Harm: errors: candidate 100 of 1,000 requests (0.1), baseline 10 of 1,000 (0.01); ratio ")
    assert said.text.endswith("Take the candidate back.")
    assert of(said, "errors").rates == (0.1, 0.01)
    assert of(said, "errors").ratio[0] > 1.1


def test_every_kind_of_bad_event_is_judged() -> None:
    """Timeouts count as errors; invalid answers, slow ones and slow computing have metrics of their own."""
    for bits, name in (
        (Event.TIMEOUT, "errors"),
        (Event.INVALID, "invalid"),
        (Event.SLOW50, "slow50"),
        (Event.SLOW95, "slow95"),
        (Event.SLOW99, "slow99"),
        (Event.SLOW_COMPUTE, "compute"),
    ):
        said = verdict(requests(Arm.CANDIDATE, 400, 100, bits), requests(Arm.BASELINE, 500, 2, bits))
        assert said.verdict is Verdict.HARM
        assert f"Harm: {name}: candidate 100 of 500" in said.text
    assert verdict(requests(Arm.CANDIDATE, 400, 100, Event.OVER_SLO), requests(Arm.BASELINE, 500)).verdict is Verdict.UNDECIDED
    slo = JudgeSettings(slo=parse_slo("p99=80ms"))
    assert (
        verdict(requests(Arm.CANDIDATE, 400, 100, Event.OVER_SLO), requests(Arm.BASELINE, 500), settings=slo).verdict
        is Verdict.HARM
    )


def test_one_replica_at_fault_is_not_the_version() -> None:
    """All errors come from one of two replicas, and the other had its chance: replace that one first."""
    fault = requests(Arm.CANDIDATE, 400, 100, replicas=(1,)), requests(Arm.CANDIDATE, 500, 5, replicas=(2,))
    said = verdict(*fault, requests(Arm.BASELINE, 990, 10))
    assert (said.verdict, said.reason) == (Verdict.UNDECIDED, Reason.INSTANCE_FAULT)
    assert said.text.startswith(
        "One replica of the candidate is at fault, not the version; replace it first: errors: candidate 105"
    )
    assert said.log_e >= said.log_needed


def test_an_arm_with_one_replica_has_no_excuse() -> None:
    """Nor has one whose other replica was asked too little to tell, or errs as well."""
    baseline = requests(Arm.BASELINE, 990, 10)
    assert verdict(requests(Arm.CANDIDATE, 400, 100, replicas=(1,)), baseline).verdict is Verdict.HARM
    few = requests(Arm.CANDIDATE, 400, 100, replicas=(1,)), requests(Arm.CANDIDATE, 5, replicas=(2,))
    assert verdict(*few, baseline).verdict is Verdict.HARM
    both = requests(Arm.CANDIDATE, 400, 100, replicas=(1,)), requests(Arm.CANDIDATE, 450, 50, replicas=(2,))
    assert verdict(*both, baseline).verdict is Verdict.HARM


def test_one_replica_that_breaks_the_objective_is_an_instance_fault_too() -> None:
    """The absolute guard asks the same question."""
    settings = JudgeSettings(slo=parse_slo("errors=1%"))
    fault = requests(Arm.CANDIDATE, 400, 100, replicas=(1,)), requests(Arm.CANDIDATE, 500, replicas=(2,))
    said = verdict(*fault, requests(Arm.BASELINE, 2_000), settings=settings)
    assert (said.verdict, said.reason) == (Verdict.UNDECIDED, Reason.INSTANCE_FAULT)


@pytest.mark.parametrize("load", [UNEVEN, None, Load(candidate=0.0, baseline=5.0)])
def test_latency_is_not_judged_where_load_differs(load: Load | None) -> None:
    """From a fifth more on, and where load is not known, what depends on it is left alone, and the verdict says so; errors are judged."""
    slow = requests(Arm.CANDIDATE, 400, 100, Event.SLOW50 | Event.SLOW_COMPUTE), requests(Arm.BASELINE, 500)
    said = verdict(*slow, load=load)
    assert (said.verdict, said.reason) == (Verdict.UNDECIDED, Reason.CAPACITY)
    assert of(said, "slow50").closed == 1_000
    assert of(said, "slow50").log_e == of(said, "compute").log_e == 0.0
    assert verdict(requests(Arm.CANDIDATE, 400, 100), requests(Arm.BASELINE, 500), load=load).verdict is Verdict.HARM


def test_safe_is_said_only_when_asked() -> None:
    """The same good candidate: watched, then promoted on what is frequent enough to be proven."""
    slow = Event.SLOW50 | Event.SLOW95
    parts = requests(Arm.CANDIDATE, 500, 500, slow), requests(Arm.BASELINE, 500, 500, slow)
    watched, asked = verdict(*parts), verdict(*parts, promoting=True)
    assert (watched.verdict, watched.reason) == (Verdict.UNDECIDED, Reason.WATCHING)
    assert (asked.verdict, asked.reason) == (Verdict.SAFE, Reason.PROVEN)
    assert "of safety" in asked.text


def test_what_is_missing_for_safe_is_said() -> None:
    """Too few requests, no proof for one metric, no comparable load."""
    slow = Event.SLOW50 | Event.SLOW95
    few = verdict(requests(Arm.CANDIDATE, 0, 99, slow), requests(Arm.BASELINE, 0, 500, slow), promoting=True)
    assert (few.verdict, few.reason) == (Verdict.UNDECIDED, Reason.TOO_FEW)
    half = verdict(requests(Arm.CANDIDATE, 500, 500, Event.SLOW50), requests(Arm.BASELINE, 500, 500, Event.SLOW50), promoting=True)
    assert (half.verdict, half.reason) == (Verdict.UNDECIDED, Reason.NOT_PROVEN)
    assert "slow95" in half.text
    assert "slow50" not in half.text
    never = verdict(requests(Arm.CANDIDATE, 500, 500, slow), requests(Arm.BASELINE, 500, 500, slow), load=UNEVEN, promoting=True)
    assert (never.verdict, never.reason) == (Verdict.UNDECIDED, Reason.CAPACITY)
    assert "carries 10 requests/s, one of the baseline 12" in never.text


def test_harm_within_the_objective_is_a_policy() -> None:
    """Four times the errors, all within 5 %: harm by default, allowed if that was said before."""
    parts = requests(Arm.CANDIDATE, 4_920, 80), requests(Arm.BASELINE, 4_980, 20)
    slo = parse_slo("errors=5%")
    assert verdict(*parts, settings=JudgeSettings(slo=slo)).verdict is Verdict.HARM
    allowed = verdict(*parts, settings=JudgeSettings(slo=slo, within_slo="allow"))
    assert (allowed.verdict, allowed.reason) == (Verdict.UNDECIDED, Reason.WITHIN_OBJECTIVE)
    assert "keeps the objective, which is allowed" in allowed.text


def test_both_bad_is_the_environment() -> None:
    """An objective broken by both: hold, and look at what they share."""
    settings = JudgeSettings(slo=parse_slo("errors=1%"))
    said = verdict(requests(Arm.CANDIDATE, 900, 100), requests(Arm.BASELINE, 900, 100), settings=settings)
    assert (said.verdict, said.reason) == (Verdict.ENVIRONMENT, Reason.BOTH_BREAK_OBJECTIVE)
    assert (
        "errors may be at most 0.01: candidate 100 of 1,000 (0.1, breaks it), baseline 100 of 1,000 (0.1, breaks it)" in said.text
    )


def test_a_baseline_of_which_little_is_known_blames_nobody() -> None:
    """The candidate breaks the objective; until the baseline is shown to keep it, the guard holds its tongue."""
    settings = JudgeSettings(slo=parse_slo("errors=1%"))
    ours = requests(Arm.CANDIDATE, 950, 50, weight=0.99)
    unknown = verdict(ours, requests(Arm.BASELINE, 10, weight=0.99), settings=settings)
    assert unknown.verdict is Verdict.UNDECIDED
    known = verdict(ours, requests(Arm.BASELINE, 1_000, weight=0.0), settings=settings)
    assert (known.verdict, known.reason) == (Verdict.HARM, Reason.BREAKS_OBJECTIVE)


def test_a_key_counts_once_and_rates_count_all() -> None:
    """A hundred errors of one user are one event for the evidence, and a hundred for the rate."""
    said = verdict(requests(Arm.CANDIDATE, 900, 100, key=7), requests(Arm.BASELINE, 1_000))
    assert said.verdict is Verdict.UNDECIDED
    assert of(said, "errors").bad == (100, 0)
    assert of(said, "errors").log_e == of(verdict(requests(Arm.CANDIDATE, 99, 1), requests(Arm.BASELINE, 100)), "errors").log_e


def test_where_nothing_was_drawn_nothing_is_compared() -> None:
    """At weight 1 and 0 bad events count in the rates and the guards, and take no place among weights and keys."""
    batch = stream(requests(Arm.CANDIDATE, 10, 5, weight=1.0, key=3), requests(Arm.BASELINE, 10, 5, weight=0.0, key=4))
    tally = observe(JudgeState(), batch, SETTINGS, load=EVEN).metrics["errors"]
    assert tally.bad == (5, 5)
    assert (tally.events, tally.keys) == ((), b"")


def test_what_has_no_room_is_counted() -> None:
    """Keys and weights beyond what is remembered are left out, and the evidence says how many."""
    settings = JudgeSettings(max_keys=3, max_weights=2)
    keyed = requests(Arm.CANDIDATE, 0, 5, key=np.arange(1, 6))
    weighted = requests(Arm.BASELINE, 0, 4, weight=[0.5, 0.1, 0.2, 0.3])
    said = verdict(keyed, weighted, settings=settings)
    assert of(said, "errors").left_out == 2 + 2
    assert "4 bad events left out because the memory for keys or weights is full" in of(said, "errors").text


def test_what_is_handed_over_twice_counts_once() -> None:
    """A batch that overlaps the last one: the sequence numbers of its gateway tell; those of another gateway are another's."""
    batch = stream(requests(Arm.CANDIDATE, 50, 5), requests(Arm.BASELINE, 50))
    once = observe(JudgeState(), batch, SETTINGS, load=EVEN, gateway="gateway-0")
    twice = observe(once, batch[50:], SETTINGS, load=EVEN, gateway="gateway-0")
    assert twice.repeated == len(batch) - 50
    assert twice.requests == once.requests
    assert observe(once, batch, SETTINGS, load=EVEN, gateway="gateway-1").requests == (110, 100)


def test_pinned_and_repeated_requests_are_counted_apart() -> None:
    """They never enter, and it can be seen how many there were."""
    batch = stream(
        requests(Arm.CANDIDATE, 0, 30, Event.ERROR | Event.PINNED), requests(Arm.BASELINE, 0, 20, Event.ERROR | Event.RETRY)
    )
    state = observe(JudgeState(), batch, SETTINGS, load=EVEN)
    assert (state.not_judged, state.requests) == (50, (0, 0))
    assert state.latency.counts == ()


def test_thresholds_are_those_of_the_baseline() -> None:
    """Only the baseline's answered requests say what is slow; errors, the candidate and warm-up do not."""
    batch = stream(
        requests(Arm.BASELINE, 1_000, latency=0.01),
        requests(Arm.BASELINE, 0, 500, Event.ERROR, latency=9.0),
        requests(Arm.BASELINE, 0, 500, Event.WARMUP, latency=9.0),
        requests(Arm.CANDIDATE, 1_000, latency=9.0, compute=5.0),
    )
    known = observe(JudgeState(), batch, SETTINGS, load=EVEN).thresholds
    assert known.slow50 == pytest.approx(0.01, rel=0.011)
    assert known.slow99 == pytest.approx(0.01, rel=0.011)
    assert known.slow_compute == pytest.approx(0.005, rel=0.011)


def test_everything_can_be_stored() -> None:
    """State as bytes, judgement as JSON; both come back equal, and no traffic is as storable as much."""
    for parts in ([requests(Arm.OTHER, 3)], [requests(Arm.CANDIDATE, 90, 10, key=4), requests(Arm.BASELINE, 100)]):
        settings = JudgeSettings(slo=parse_slo("p99=80ms,errors=1%"))
        state, judgement = judge(JudgeState(), stream(*parts), settings, load=EVEN)
        assert decode(encode(state)) == state
        assert msgspec.json.decode(msgspec.json.encode(judgement), type=Judgement) == judgement


def test_settings_of_another_rollout_do_not_disturb() -> None:
    """A metric nobody has counted yet has the evidence of no event."""
    state = observe(JudgeState(), stream(requests(Arm.CANDIDATE, 10), requests(Arm.BASELINE, 10)), SETTINGS, load=EVEN)
    assert decide(state, JudgeSettings(slo=parse_slo("p99=80ms,errors=1%"))).verdict is Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("log_e", "text"), [(0.0, "1"), (-1.17, "0.31"), (1.44, "4.2"), (4.87, "130"), (7.0, "1,097"), (230.3, "10^100")]
)
def test_evidence_reads_as_people_write(log_e: float, text: str) -> None:
    """Two digits where it is small, none after the point where it is large, a power of ten beyond."""
    assert evidence_text(log_e) == text
