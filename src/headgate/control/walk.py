"""How a rollout goes on, as pure functions: the same view gives the same next step, whoever asks and how often.

Every kind of step is one function in `_STEPS`. It says that it is done, that the candidate must go, or that the rollout stays where it
is; nothing, as long as there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from headgate.control.model import DONE_WITH, RevisionState, View
from headgate.control.rollout import (
    BEFORE_ALL,
    STATE_AT,
    TRANSITIONS,
    WHOLE,
    Event,
    Rollout,
    RolloutState,
    Step,
    StepKind,
    steps_of,
)
from headgate.spec import RolloutSpec

DESERTED_SECONDS = 3.0
"""A candidate that has had traffic and no replica to take it for so long is taken back: a replica that died is back by then."""


class Begin(NamedTuple):
    """Write down a new rollout; its number is given by the store."""

    rollout: Rollout
    event: Event


class Advance(NamedTuple):
    """Let a rollout become ``after``, if it still is ``before``."""

    before: Rollout
    after: Rollout
    event: Event | None = None


class Turn(NamedTuple):
    """Let a revision enter another state: what a step does to the revisions."""

    revision: str
    state: RevisionState
    reason: str = ""


Walked = Begin | Advance | Turn


class Done(NamedTuple):
    """The step is done."""

    why: str = ""


class Back(NamedTuple):
    """The candidate must go."""

    why: str


class Stay(NamedTuple):
    """Nothing goes on before there is better evidence, or a person says so."""

    state: RolloutState
    why: str


class Promote(NamedTuple):
    """Go to 100 % at once."""

    why: str


Said = Done | Promote | Back | Stay | None


def walk(view: View) -> list[Walked]:
    """Return what follows for the rollout of a deployment, or the beginning of one."""
    rollout = view.rollout
    if rollout is None or rollout.ended:
        return _begin(view)
    if rollout.state is RolloutState.ROLLING_BACK:
        return _take_back(view, rollout)
    if _is_superseded(view, rollout):
        return [_superseded(rollout)]
    if why := _lost(view, rollout):
        return [back(view, rollout, why)]
    if rollout.spec != view.deployment.spec.rollout:
        return [_adapted(view, rollout)]
    if rollout.state is RolloutState.PAUSED:
        return []
    said = _STEPS[rollout.present.kind](view, rollout)
    if said is None and rollout.state in BEFORE_ALL and view.now - rollout.begun > rollout.spec.max_duration:
        said = _overdue(rollout)
    return _follow(view, rollout, said)


def rolls_out(view: View) -> bool:
    """Whether a new revision takes over by a rollout, and not at once: there is one to take over from, and nobody said otherwise."""
    return view.serving() is not None and view.deployment.spec.rollout.strategy != "replace" and not view.deployment.at_once


# ---- beginning and end


def _begin(view: View) -> list[Walked]:
    stable, candidate = view.serving(), view.fulfilling(view.main)
    if stable is None or candidate is None or candidate == stable or not rolls_out(view):
        return []
    if candidate.state in DONE_WITH or (view.rollout is not None and view.rollout.candidate == candidate.name):
        return []
    spec = view.deployment.spec.rollout
    rollout = Rollout(
        deployment=view.deployment.name,
        number=0,
        candidate=candidate.name,
        baseline=stable.name,
        versions=(candidate.target.version, stable.target.version),
        spec=spec,
        steps=steps_of(spec),
        begun=view.now,
        entered=view.now,
    )
    return [Begin(rollout, Event(what="begun", why=f"{spec.strategy} from {stable.spec.model} to {candidate.spec.model}"))]


def _is_superseded(view: View, rollout: Rollout) -> bool:
    asked = view.fulfilling(view.main)
    return view.deployment.deleted or (asked is not None and asked.name != rollout.candidate)


def _superseded(rollout: Rollout) -> Advance:
    if rollout.state is RolloutState.BAKING:
        return changed(rollout, RolloutState.COMPLETE, Event(what="complete", why="something else was deployed"))
    why = "something else was deployed before it came to 100 %"
    return changed(rollout, RolloutState.SUPERSEDED, Event(what="superseded", why=why), weight=0, reason=why)


def _lost(view: View, rollout: Rollout) -> str:
    """Say what has become of the candidate, if it cannot go on."""
    candidate = view.revision(rollout.candidate)
    if candidate is None:
        return "the candidate is gone"
    if candidate.state is RevisionState.FAILED:
        return candidate.reason
    if not (rollout.weight or rollout.mirror) or not view.linked or view.without.get(candidate.name, 0.0) < DESERTED_SECONDS:
        return ""
    exits = [seen.exit for replica in candidate.replicas if (seen := view.observed.get(replica)) is not None and seen.exit]
    return f"no replica of it has answered for {DESERTED_SECONDS:g} s{f' ({exits[-1]})' if exits else ''}"


def _take_back(view: View, rollout: Rollout) -> list[Walked]:
    """The old revision has everything again; then the candidate drains, and stays as what was asked for and has failed."""
    candidate, baseline = view.revision(rollout.candidate), view.revision(rollout.baseline)
    actions: list[Walked] = []
    if baseline is not None and baseline.state is RevisionState.READY:
        if not view.ready(baseline) and not view.without.get(rollout.candidate):
            return []  # somebody has to answer meanwhile
        actions.append(Turn(baseline.name, RevisionState.SERVING))
    if candidate is not None and candidate.state in (RevisionState.READY, RevisionState.SERVING):
        actions.append(Turn(candidate.name, RevisionState.DRAINING, rollout.reason))
    elif candidate is not None and candidate.state in (RevisionState.PENDING, RevisionState.STARTING):
        actions.append(Turn(candidate.name, RevisionState.FAILED, rollout.reason))
    if candidate is None or candidate.state in (RevisionState.FAILED, RevisionState.RETIRED, RevisionState.DRAINING):
        actions.append(changed(rollout, RolloutState.ROLLED_BACK, None))
    return actions


def _overdue(rollout: Rollout) -> Said:
    hours = rollout.spec.max_duration / 3600
    if rollout.mirror:  # silence is no success, and nobody is promoted by a shadow
        return Back(f"max_duration: {hours:g} h are over, and fewer than {rollout.present.events} copies were answered")
    why = f"max_duration: {hours:g} h are over, and it was neither found safe nor harmful"
    return Promote(f"{why}; promoted, as on_undecided says") if rollout.spec.on_undecided == "promote" else Back(why)


# ---- steps


def _start(view: View, rollout: Rollout) -> Said:
    candidate = view.revision(rollout.candidate)
    return Done() if candidate is not None and candidate.state is not RevisionState.PENDING else None


def _validate(view: View, rollout: Rollout) -> Said:
    candidate = view.revision(rollout.candidate)
    if view.incompatible:
        return Back(
            f"{view.incompatible}: clients of the old version would be refused, or misread the answer; if that is meant, deploy "
            "it with --strategy replace"
        )
    return Done() if candidate is not None and candidate.state is RevisionState.READY else None


def _scale(view: View, rollout: Rollout) -> Said:
    candidate = view.revision(rollout.candidate)
    return Done() if candidate is not None and view.ready(candidate) >= candidate.spec.scale.min_replicas else None


def _mirror(view: View, rollout: Rollout) -> Said:
    judged, step = view.judged, rollout.present
    if judged.verdict == "harm":
        return Back(judged.reason)
    enough = view.now - rollout.entered >= step.seconds and judged.requests - rollout.events_before >= step.events
    return Done(judged.reason) if enough else None


def _set_weight(view: View, rollout: Rollout) -> Said:
    """Done when the gateway has it in force: what is judged at this step must have been drawn by its weight."""
    return Done() if view.shares is not None and view.shares.get(rollout.candidate, 0) == rollout.present.weight else None


def _analyse(view: View, rollout: Rollout) -> Said:
    judged, step = view.judged, rollout.present
    if judged.verdict == "harm":
        return Back(judged.reason)
    if judged.verdict == "environment":
        return Stay(RolloutState.ENVIRONMENT, judged.reason)
    if rollout.state is RolloutState.ENVIRONMENT:
        return None  # a person has to look at it
    seen = judged.requests - rollout.events_before
    if view.now - rollout.entered < step.seconds or seen < step.events:
        return None
    if rollout.steps[rollout.step + 1].kind is not StepKind.PROMOTE:
        return Done(f"{seen} requests in {view.now - rollout.entered:.0f} s, and no harm")
    return _last_question(rollout, judged.verdict, judged.reason)


def _last_question(rollout: Rollout, verdict: str, reason: str) -> Said:
    """Before 100 %: is it safe?"""
    if verdict == "safe":
        return Done(reason or "found safe")
    why = f"neither found safe nor harmful{f': {reason}' if reason else ''}".rstrip(".")
    if rollout.spec.on_undecided == "promote":
        return Done(f"{why}; promoted, as on_undecided says")
    if rollout.spec.on_undecided == "rollback":
        return Back(f"{why}; taken back, as on_undecided says")
    return Stay(RolloutState.INCONCLUSIVE, f"{why}; 'headgate rollout promote {rollout.deployment}' or 'abort' decides it")


def _promote(view: View, rollout: Rollout) -> Said:
    return Done() if view.shares is not None and view.shares.get(rollout.candidate, 0) == WHOLE else None


def _bake(view: View, rollout: Rollout) -> Said:
    if view.judged.verdict == "harm":
        return Back(view.judged.reason)
    return Done() if view.now - rollout.entered >= rollout.present.seconds else None


def _retire(view: View, rollout: Rollout) -> Said:
    return Done() if view.now - rollout.promoted >= rollout.present.seconds else None


_STEPS: dict[StepKind, Callable[[View, Rollout], Said]] = {
    StepKind.START: _start,
    StepKind.VALIDATE: _validate,
    StepKind.SCALE: _scale,
    StepKind.MIRROR: _mirror,
    StepKind.SET_WEIGHT: _set_weight,
    StepKind.ANALYSE: _analyse,
    StepKind.PROMOTE: _promote,
    StepKind.BAKE: _bake,
    StepKind.RETIRE: _retire,
}


# ---- from what a step says to what follows


def _follow(view: View, rollout: Rollout, said: Said) -> list[Walked]:
    if isinstance(said, Back):
        return [back(view, rollout, said.why)]
    if isinstance(said, Stay):
        if rollout.state is said.state and rollout.reason == said.why:
            return []
        return [changed(rollout, said.state, Event(what="held", why=said.why, evidence=view.judged.evidence), reason=said.why)]
    if isinstance(said, Promote):
        return enter(view, rollout, index(rollout, StepKind.PROMOTE), said.why)
    return enter(view, rollout, rollout.step + 1, said.why) if isinstance(said, Done) else []


def enter(view: View, rollout: Rollout, number: int, why: str, who: str = "headgate") -> list[Walked]:
    """Return what the beginning of step ``number`` is; beyond the last one the rollout is complete."""
    if number == len(rollout.steps):
        return _complete(view, rollout, why, who)
    step = rollout.steps[number]
    fields = {"step": number, "entered": view.now, "reason": "", "events_before": view.judged.requests}
    if step.kind is StepKind.MIRROR:
        event = Event(what="step", why=f"copies of {step.weight / 100:g} % of the requests", who=who)
        return [changed(rollout, STATE_AT[step.kind], event, weight=0, **fields)]
    if step.kind is StepKind.SET_WEIGHT:
        event = Event(
            what="step", why=f"{step.weight / 100:g} %{f': {why}' if why else ''}", who=who, evidence=view.judged.evidence
        )
        return [changed(rollout, STATE_AT[step.kind], event, weight=step.weight, **fields)]
    if step.kind is StepKind.PROMOTE:
        moved = {"from": rollout.baseline, "to": rollout.candidate}
        event = Event(what="promoted", why=why, who=who, evidence={**view.judged.evidence, **moved})
        turns: list[Walked] = [Turn(rollout.candidate, RevisionState.SERVING), Turn(rollout.baseline, RevisionState.READY)]
        after = changed(rollout, STATE_AT[step.kind], event, weight=WHOLE, promoted=view.now, **fields)
        return [*turns, after]
    return [changed(rollout, STATE_AT[step.kind], None, **fields)]


def _complete(view: View, rollout: Rollout, why: str, who: str) -> list[Walked]:
    """Nothing follows; a candidate that was never promoted goes."""
    event = Event(what="complete", why=why, who=who, evidence={} if rollout.promoted else view.judged.evidence)
    if rollout.promoted:
        return [changed(rollout, RolloutState.COMPLETE, event)]
    over = f"the shadow is over: {why}"
    return [
        Turn(rollout.candidate, RevisionState.DRAINING, over),
        changed(rollout, RolloutState.COMPLETE, event, reason=over),
    ]


def back(view: View, rollout: Rollout, why: str, who: str = "headgate") -> Advance:
    """Return the beginning of the way back."""
    event = Event(what="rolled_back", why=why, who=who, evidence=view.judged.evidence)
    return changed(rollout, RolloutState.ROLLING_BACK, event, weight=0, reason=why)


def changed(rollout: Rollout, state: RolloutState, event: Event | None, **fields: object) -> Advance:
    """Return the change of ``rollout`` to ``state``, with other ``fields`` and a line for the history."""
    if state is not rollout.state and state not in TRANSITIONS[rollout.state]:
        raise AssertionError(f"{rollout.deployment}: there is no way from {rollout.state} to {state}")
    return Advance(rollout, replace(rollout, state=state, generation=rollout.generation + 1, **fields), event)


def _adapted(view: View, rollout: Rollout) -> Advance:
    """Go on as the spec says now: at the same share of the traffic, with the steps that come after it."""
    spec = view.deployment.spec.rollout
    promoting = rollout.state is RolloutState.BAKING or rollout.present.kind is StepKind.PROMOTE
    steps = steps_of(spec, promoting=promoting)
    number, weight = rollout.step, rollout.weight
    if promoting:
        number = len(steps) - (len(rollout.steps) - rollout.step)
    elif rollout.mirror or (weight and spec.strategy == "shadow"):
        return _adapted_shadow(view, rollout, steps)
    elif weight:
        later = (at for at, step in enumerate(steps) if step.weight > rollout.weight or step.kind is StepKind.PROMOTE)
        same = (at + 1 for at, step in enumerate(steps) if step.weight == rollout.weight)
        number = next(same, 0) or next(later) - 1
    return changed(rollout, rollout.state, _new_course(spec), spec=spec, steps=steps, step=number)


def _adapted_shadow(view: View, rollout: Rollout, steps: tuple[Step, ...]) -> Advance:
    """Become a shadow, which has no share, or go on with one, or leave it: then with what comes after the preparations."""
    spec = view.deployment.spec.rollout
    mirrors = [number for number, step in enumerate(steps) if step.kind is StepKind.MIRROR]
    number = mirrors[0] if mirrors else [step.kind for step in steps].index(StepKind.SCALE)
    fields = {"weight": 0, "spec": spec, "steps": steps, "step": number}
    if rollout.mirror:
        return changed(rollout, rollout.state, _new_course(spec), **fields)
    state = rollout.state if rollout.state is RolloutState.PAUSED else RolloutState.RUNNING
    begun = {"entered": view.now, "events_before": view.judged.requests, "reason": rollout.reason if state is rollout.state else ""}
    return changed(rollout, state, _new_course(spec), **fields, **begun)


def _new_course(spec: RolloutSpec) -> Event:
    return Event(what="changed", why=f"{spec.strategy} from here on")


def index(rollout: Rollout, kind: StepKind) -> int:
    """Return the place of the first step of a kind, which must be there."""
    return next(number for number, step in enumerate(rollout.steps) if step.kind is kind)
