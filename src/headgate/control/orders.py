"""What a person may order of a rollout, carried out between two ticks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from msgspec.structs import replace

from headgate.control.decide import actions_of
from headgate.control.model import Revision, RevisionState, View
from headgate.control.rollout import BEFORE_ALL, HELD, STATE_AT, Event, Rollout, RolloutState, StepKind, steps_of
from headgate.control.store import Store
from headgate.control.walk import Walked, back, changed, enter, index
from headgate.errors import Conflict, NotFound, did_you_mean


def paused(view: View, who: str, why: str) -> list[Walked]:
    """Let the rollout stay at its weight. Raises `Conflict` where there is nothing to pause."""
    rollout = _active(view, "pause")
    if rollout.state not in BEFORE_ALL - {RolloutState.PROMOTING}:
        raise Conflict(f"{_named(rollout)} is {rollout.state}: what has all of the traffic cannot be paused, only rolled back")
    if rollout.state is RolloutState.PAUSED:
        return []
    return [changed(rollout, RolloutState.PAUSED, Event(what="paused", why=why, who=who), reason=why or f"paused by {who}")]


def resumed(view: View, who: str, why: str) -> list[Walked]:
    """Let a rollout that stays go on with its step, whose time begins anew. Raises `Conflict` where none stays."""
    rollout = _active(view, "resume")
    if rollout.state not in HELD:
        raise Conflict(f"{_named(rollout)} is {rollout.state}: it is not held, so there is nothing to resume")
    event = Event(what="resumed", why=why, who=who)
    return [
        changed(rollout, STATE_AT[rollout.present.kind], event, reason="", entered=view.now, events_before=view.judged.requests)
    ]


def promoted(view: View, who: str, why: str) -> list[Walked]:
    """Give the candidate all of the traffic now. Raises `Conflict` while it cannot take it."""
    rollout = _active(view, "promote")
    if rollout.state not in BEFORE_ALL - {RolloutState.PROMOTING}:
        raise Conflict(f"{_named(rollout)} is {rollout.state}: the candidate has all of the traffic already")
    candidate = view.revision(rollout.candidate)
    if candidate is None or candidate.state is not RevisionState.READY or not view.ready(candidate):
        raise Conflict(f"{_named(rollout)}: the candidate is not ready yet, so it cannot take the traffic; nothing was changed")
    whole = replace(rollout, steps=steps_of(rollout.spec, promoting=True))  # a shadow has no such step by itself
    return enter(view, whole, index(whole, StepKind.PROMOTE), why or f"promoted by {who}", who)


def aborted(view: View, who: str, why: str) -> list[Walked]:
    """Take the candidate back. Raises `Conflict` where none is under way."""
    rollout = _active(view, "abort")
    if rollout.state not in BEFORE_ALL - {RolloutState.PROMOTING}:
        raise Conflict(
            f"{_named(rollout)} is {rollout.state}: the candidate has all of the traffic; "
            f"'headgate rollback {rollout.deployment}' takes it back"
        )
    return [back(view, rollout, why or f"aborted by {who}", who)]


def rolled_back(view: View, who: str, why: str) -> list[Walked]:
    """Give the traffic back to the revision that is kept warm. Raises `Conflict` where none is."""
    rollout = _active(view, "roll back")
    return [back(view, rollout, why or f"rolled back by {who}", who)]


def _active(view: View, verb: str) -> Rollout:
    rollout = view.rollout
    if rollout is None or rollout.ended or rollout.state is RolloutState.ROLLING_BACK:
        raise Conflict(f"deployment {view.deployment.name!r} has no rollout under way, so there is nothing to {verb}")
    return rollout


def _named(rollout: Rollout) -> str:
    return f"rollout {rollout.number} of {rollout.deployment!r} ({rollout.candidate})"


def warm(view: View) -> Revision | None:
    """Return the old revision that could take the traffic back at once, if there is one."""
    rollout = view.rollout
    if rollout is None or rollout.state not in (RolloutState.BAKING, RolloutState.PROMOTING):
        return None
    baseline = view.revision(rollout.baseline)
    return baseline if baseline is not None and baseline.state is RevisionState.READY and view.ready(baseline) else None


ORDERS: Mapping[str, Callable[[View, str, str], list[Walked]]] = {
    "pause": paused,
    "resume": resumed,
    "promote": promoted,
    "abort": aborted,
}


class Rollback(msgspec.Struct, frozen=True, kw_only=True):
    """How the way back goes."""

    model: str
    """``model@version`` that serves again, or will."""
    at_once: bool
    """It was warm, and has the traffic with the next routing table; else it is deployed, and takes over when it is ready."""
    said: str


def order(store: Store, view: View, verb: str, who: str, why: str) -> None:
    """Carry out one of `ORDERS`. Raises `NotFound` for another, `Conflict` where it makes no sense now."""
    if verb not in ORDERS:
        raise NotFound(f"rollout: there is no {verb[:40]!r}{did_you_mean(verb, ORDERS) or '.'} There are: {', '.join(ORDERS)}")
    store.apply(view.deployment, actions_of(ORDERS[verb](view, who, why)))


def roll_back(store: Store, view: View, who: str, why: str) -> Rollback:
    """Let the revision serve again that served before. Raises `Conflict` if there is none."""
    rollout = view.rollout
    if rollout is not None and rollout.state in BEFORE_ALL - {RolloutState.PROMOTING}:
        store.apply(view.deployment, actions_of(aborted(view, who, why)))
        stable = view.serving()
        model = stable.spec.model if stable else ""
        return Rollback(model=model, at_once=True, said=f"the rollout is aborted; {model} has all of the traffic")
    kept = warm(view)
    if kept is not None:
        store.apply(view.deployment, actions_of(rolled_back(view, who, why)))
        _ask_for(store, view, kept)
        return Rollback(model=kept.spec.model, at_once=True, said=f"{kept.spec.model} was kept warm, and has the traffic again")
    serving = view.serving()
    before = store.before(serving.name) if serving else None
    if before is None:
        raise Conflict(f"deployment {view.deployment.name!r}: nothing served before what serves now; deploy the version you want")
    _ask_for(store, view, before)
    said = f"{before.spec.model} is not warm any more: it is loaded first, and takes over when it is ready"
    return Rollback(model=before.spec.model, at_once=False, said=said)


def _ask_for(store: Store, view: View, revision: Revision) -> None:
    """Ask for what ``revision`` was; how to roll out, whom to tell, and what is kept warm besides, stay."""
    now = view.deployment.spec
    store.put(msgspec.structs.replace(revision.spec, also=now.also, rollout=now.rollout, hooks=now.hooks), at_once=True)
