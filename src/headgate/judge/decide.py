"""From counts to a verdict. Pure: the same state and settings always say the same.

In this order: harm, then an environment that breaks the objectives of both arms, then safety if it was asked for. Without traffic
every e-value is 1, for ever, and the verdict UNDECIDED: nothing is promoted by silence.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from headgate.judge.bernoulli import log_exceeds, log_within
from headgate.judge.evalue import confidence, log_harm, log_safe
from headgate.judge.outcomes import Records
from headgate.judge.settings import JudgeSettings, Metric
from headgate.judge.state import JudgeState, Load, Tally, observe
from headgate.judge.verdict import GuardEvidence, Judgement, MetricEvidence, Reason, Verdict

TELLING = 3.0
"""Bad events the other replicas should have had at the worst one's rate before their having fewer says anything: that chance alone gives
none where three are expected has a probability below 5 %."""


def judge(
    state: JudgeState,
    batch: Records,
    settings: JudgeSettings,
    *,
    load: Load | None = None,
    gateway: str = "",
    promoting: bool = False,
) -> tuple[JudgeState, Judgement]:
    """Return the state after ``batch`` and what it says; see `headgate.judge.state.observe` and `decide` for the arguments."""
    state = observe(state, batch, settings, load=load, gateway=gateway)
    return state, decide(state, settings, promoting=promoting)


def decide(state: JudgeState, settings: JudgeSettings, *, promoting: bool = False) -> Judgement:
    """Return the verdict on ``state``. SAFE is said only if ``promoting``: ask once, before everything goes to the candidate."""
    guards = tuple(_guard(state, name, settings) for name in settings.objectives)
    metrics = tuple(_metric(state, metric, guards, settings) for metric in settings.active)
    verdict, reason, text, log_e = _verdict(state, metrics, guards, settings, promoting)
    return Judgement(
        verdict=verdict,
        reason=reason,
        text=text,
        log_e=log_e,
        log_needed=-math.log(settings.alpha),
        requests=state.requests,
        metrics=metrics,
        guards=guards,
        load=None if state.load is None else (state.load.candidate, state.load.baseline),
    )


def _verdict(
    state: JudgeState,
    metrics: tuple[MetricEvidence, ...],
    guards: tuple[GuardEvidence, ...],
    settings: JudgeSettings,
    promoting: bool,
) -> tuple[Verdict, Reason, str, float]:
    stakes = _stakes(metrics, guards, settings)
    counted = [stake for stake in stakes if stake.excuse is None]
    needed, total = -math.log(settings.alpha), _mixture(stakes)
    if _mixture(counted) >= needed:
        top = max(counted, key=lambda stake: stake.log_e)
        return Verdict.HARM, top.reason, f"Harm: {top.text}. Take the candidate back.", total
    if total >= needed:
        _, excuse, evidence = max((stake.log_e, stake.excuse, stake.text) for stake in stakes if stake.excuse is not None)
        return Verdict.UNDECIDED, excuse, f"{_EXCUSES[excuse]}: {evidence}.", total
    both = next((guard for guard in guards if all(guard.breaks)), None)
    if both is not None:
        text = f"Both versions break an objective: {both.text}. Taking the candidate back would not help; look at what they share."
        return Verdict.ENVIRONMENT, Reason.BOTH_BREAK_OBJECTIVE, text, total
    if min(state.requests) == 0:
        arm = "candidate" if state.requests[0] == 0 else "baseline"
        return Verdict.UNDECIDED, Reason.NO_TRAFFIC, f"Nothing to judge: the {arm} has had no request that counts.", total
    return *(_promotion(state, metrics, settings) if promoting else _watching(state, metrics, settings)), total


_EXCUSES = {
    Reason.INSTANCE_FAULT: "One replica of the candidate is at fault, not the version; replace it first",
    Reason.WITHIN_OBJECTIVE: "The candidate is worse than the baseline, but keeps the objective, which is allowed",
}


def _promotion(state: JudgeState, metrics: tuple[MetricEvidence, ...], settings: JudgeSettings) -> tuple[Verdict, Reason, str]:
    if min(state.requests) < settings.min_events:
        ours, theirs = state.requests
        text = f"Too few requests: candidate {ours:,}, baseline {theirs:,}, {settings.min_events:,} wanted of each."
        return Verdict.UNDECIDED, Reason.TOO_FEW, text
    missing = [evidence for evidence in metrics if evidence.must_prove and not evidence.proven]
    if not missing and any(evidence.must_prove for evidence in metrics):
        return Verdict.SAFE, Reason.PROVEN, f"Safe: {'; '.join(evidence.text for evidence in metrics if evidence.must_prove)}."
    never = [evidence.name for evidence in missing if evidence.closed and not sum(evidence.requests)]
    if never:
        return Verdict.UNDECIDED, Reason.CAPACITY, f"Not judged: {', '.join(never)}. {_capacity(state)}"
    return (
        Verdict.UNDECIDED,
        Reason.NOT_PROVEN,
        f"No harm, but safety is not shown: {'; '.join(item.text for item in missing) or 'no metric can show it'}.",
    )


def _watching(state: JudgeState, metrics: tuple[MetricEvidence, ...], settings: JudgeSettings) -> tuple[Verdict, Reason, str]:
    top = max(metrics, key=lambda evidence: (sum(evidence.bad) > 0, evidence.log_e - evidence.log_needed))
    if any(metric.timed for metric in settings.active) and not (state.load and state.load.comparable(settings.load_tolerance)):
        return (
            Verdict.UNDECIDED,
            Reason.CAPACITY,
            f"Latency is not judged at present. {_capacity(state)} Else no harm so far: {top.text}.",
        )
    return Verdict.UNDECIDED, Reason.WATCHING, f"No harm so far: {top.text}."


def _capacity(state: JudgeState) -> str:
    if state.load is None:
        return "What each replica carries is not known."
    return (
        f"A replica of the candidate carries {state.load.candidate:.3g} requests/s, one of the baseline {state.load.baseline:.3g}; "
        "give the arms replicas in proportion to their weights."
    )


class _Stake(msgspec.Struct, frozen=True, kw_only=True):
    """One part of the mixture."""

    share: float
    log_e: float
    text: str
    reason: Reason
    excuse: Reason | None = None


def _stakes(metrics: tuple[MetricEvidence, ...], guards: tuple[GuardEvidence, ...], settings: JudgeSettings) -> list[_Stake]:
    """What the budget is staked on. A guard speaks only while the baseline is shown to keep the objective: that can but lower its value."""
    shares = {metric.name: metric.share / settings.budget for metric in settings.active}
    stakes = [
        _Stake(share=shares[item.name], log_e=item.log_e, text=item.text, reason=Reason.WORSE, excuse=item.excuse)
        for item in metrics
    ]
    return stakes + [
        _Stake(
            share=settings.guard_share / settings.budget,
            log_e=guard.log_e_breaks[0] if guard.keeps[1] else -math.inf,
            text=guard.text,
            reason=Reason.BREAKS_OBJECTIVE,
            excuse=guard.excuse,
        )
        for guard in guards
    ]


def _mixture(stakes: list[_Stake]) -> float:
    """Return the log of the sum of shares times e-values; stakes that are left out count 0."""
    parts = [math.log(stake.share) + stake.log_e for stake in stakes]
    peak = max(parts, default=-math.inf)
    return peak if math.isinf(peak) else peak + math.log(sum(math.exp(part - peak) for part in parts))


def _metric(state: JudgeState, metric: Metric, guards: tuple[GuardEvidence, ...], settings: JudgeSettings) -> MetricEvidence:
    tally = state.metrics.get(metric.name, Tally())
    table = np.array(tally.events, dtype=float).reshape(-1, 3)
    counts = table[:, 1], table[:, 2], table[:, 0]
    lower, upper = (float(end) for end in confidence(*counts, settings.alpha))
    keeps = any(guard.keeps[0] for guard in guards if guard.objective == metric.objective)
    excuse = None
    if _one_replica(tally, settings.tolerance):
        excuse = Reason.INSTANCE_FAULT
    elif keeps and settings.within_slo == "allow":
        excuse = Reason.WITHIN_OBJECTIVE
    evidence = MetricEvidence(
        name=metric.name,
        requests=tally.requests,
        bad=tally.bad,
        log_e=float(log_harm(*counts, settings.test)),
        log_needed=-math.log(settings.alpha * metric.share / settings.budget),
        ratio=(lower, None if math.isinf(upper) else upper),
        log_e_safe=float(log_safe(*counts, settings.test)),
        log_needed_safe=-math.log(settings.beta),
        must_prove=metric.prove,
        left_out=tally.left_out,
        closed=tally.closed,
        excuse=excuse,
    )
    return msgspec.structs.replace(evidence, text=evidence.sentence())


def _one_replica(tally: Tally, tolerance: float) -> bool:
    """Whether the candidate would do no harm without its worst replica, and the others have had the chance to show it."""
    instances = [entry for entry in tally.replicas if entry[0] != 0 and entry[1] > 0]
    if len(instances) < 2 or not tally.requests[1]:
        return False
    _, requests, bad = max(instances, key=lambda entry: entry[2] / entry[1])
    rest, rest_bad = tally.requests[0] - requests, tally.bad[0] - bad
    if rest * bad < TELLING * requests:
        return False
    return rest_bad * tally.requests[1] <= tolerance * tally.bad[1] * rest


def _guard(state: JudgeState, objective: str, settings: JudgeSettings) -> GuardEvidence:
    tally, bound = state.guards.get(objective, Tally()), settings.bound(objective)
    assert bound is not None, "an objective that is set has a bound"
    breaks = tuple(float(log_exceeds(bad, total, bound)) for bad, total in zip(tally.bad, tally.requests, strict=True))
    keeps = tuple(float(log_within(bad, total, bound)) for bad, total in zip(tally.bad, tally.requests, strict=True))
    shown, kept = -math.log(settings.alpha), -math.log(settings.beta)
    evidence = GuardEvidence(
        objective=objective,
        bound=bound,
        requests=tally.requests,
        bad=tally.bad,
        log_e_breaks=(breaks[0], breaks[1]),
        log_e_keeps=(keeps[0], keeps[1]),
        breaks=(breaks[0] >= shown, breaks[1] >= shown),
        keeps=(keeps[0] >= kept, keeps[1] >= kept),
        excuse=Reason.INSTANCE_FAULT if _one_replica(tally, settings.tolerance) else None,
    )
    return msgspec.structs.replace(evidence, text=evidence.sentence())
