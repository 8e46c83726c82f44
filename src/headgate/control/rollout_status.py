"""What is said of a rollout to those who ask: a pure function of its `View`."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.control.model import View
from headgate.control.rollout import WHOLE, RolloutState, Step, StepKind
from headgate.journal import RevisionReport


class ArmStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two revisions."""

    revision: str
    model: str
    """``model@version``."""
    state: str
    """Of the revision; ``retired`` once it is gone."""
    share: int
    """Hundredths of a percent that it should have."""
    share_in_force: int | None
    """That it has, as the gateway says; None while nothing is known of that."""
    ready: int
    """Replicas that are."""
    requests: int
    """Answered since the gateway started."""
    failures: int
    queued_rows: int


class RolloutStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One rollout."""

    deployment: str
    number: int
    strategy: str
    state: RolloutState
    reason: str
    candidate: ArmStatus
    baseline: ArmStatus
    steps: tuple[Step, ...]
    step: int
    """Index of the one under way."""
    begun: float
    """Seconds since the epoch."""
    in_step: float
    """Seconds since it came to its step."""
    left: float | None
    """Seconds that the step takes at least from now on; None where it has no time."""
    requests: int
    """That the candidate has answered at this step, those that count."""
    verdict: str
    verdict_reason: str
    evidence: dict[str, Any]
    on_undecided: str


def rollout_status(view: View) -> RolloutStatus | None:
    """Return how the newest rollout of a deployment stands; None if there never was one."""
    rollout = view.rollout
    if rollout is None:
        return None
    candidate, baseline = rollout.versions
    passed = max(0.0, view.now - rollout.entered)
    promoted = rollout.promoted > 0 and not rollout.state.name.startswith("ROLL")
    share = WHOLE if promoted else 0 if rollout.ended else rollout.weight
    return RolloutStatus(
        deployment=rollout.deployment,
        number=rollout.number,
        strategy=rollout.spec.strategy,
        state=rollout.state,
        reason=rollout.reason,
        candidate=_arm(view, rollout.candidate, candidate, share),
        baseline=_arm(view, rollout.baseline, baseline, WHOLE - share),
        steps=rollout.steps,
        step=rollout.step,
        begun=rollout.begun,
        in_step=passed,
        left=_left(view),
        requests=view.judged.requests - rollout.events_before,
        verdict=view.judged.verdict,
        verdict_reason=view.judged.reason,
        evidence=_evidence(view),
        on_undecided=rollout.spec.on_undecided,
    )


def _evidence(view: View) -> dict[str, Any]:
    """Return what the judge goes by; of a shadow with the examples, which the history must not have."""
    evidence = view.judged.evidence
    if "shadow" not in evidence:
        return evidence
    return {**evidence, "shadow": {**evidence["shadow"], "examples": list(view.judged.examples)}}


def _arm(view: View, name: str, version: int, share: int) -> ArmStatus:
    revision = view.revision(name)
    nothing = RevisionReport(revision=name, queued_rows=0, inflight=0, requests=0, failures=0, rejected=0)
    load = view.loads.get(name, nothing)
    return ArmStatus(
        revision=name,
        model=f"{view.deployment.spec.model.partition('@')[0]}@{version}",
        state=revision.state if revision else "retired",
        share=share,
        share_in_force=None if view.shares is None else view.shares.get(name, 0),
        ready=view.ready(revision) if revision else 0,
        requests=load.requests,
        failures=load.failures,
        queued_rows=load.queued_rows,
    )


def _left(view: View) -> float | None:
    rollout = view.rollout
    if rollout is None or rollout.ended or not rollout.present.seconds:
        return None
    since = rollout.promoted if rollout.present.kind is StepKind.RETIRE else rollout.entered
    return max(0.0, rollout.present.seconds - (view.now - since))
