"""What to do next, as pure functions of a `View`: the same view gives the same actions, whoever asks and how often.

Every function looks at the world anew and returns nothing when in doubt; the next tick knows more. A new revision starts beside the
old one and takes over when all its replicas are ready; until then, and if it never comes to that, the old one keeps everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from headgate.control import walk
from headgate.control.model import Placement, Prepared, Refused, Revision, RevisionState, Target, View
from headgate.control.rollout import Event

RESTARTS = 3
"""Restarts after which a replica that was never ready is given up."""
LOAD_GRACE = 5.0
"""Seconds beyond load_timeout: the replica ends itself first, and says more."""
DRAIN_LIMIT = 30.0
"""Seconds after which a draining revision is ended with what it still has."""
SEQUENCE_LIMIT = 3600.0
"""The same where it still has open sequences, which stay with it: an idle one is over long before."""
ALARM = "SIGALRM"
"""The signal by which a replica ends itself when its time is over: before it was ever ready, its load_timeout."""
STUCK_GRACE = 2.0
"""Seconds beyond batch_timeout: the replica ends itself first, with the stacks of its threads in the log."""
SETTLING, LONGEST_SETTLING = 10.0, 60.0
"""Seconds a replica must be ready before its memory is judged; doubled with each successor, so that a limit below what the model
needs at once costs a start now and then, not all the time."""


class Create(msgspec.Struct, frozen=True):
    """Make a revision."""

    target: Target


class Move(msgspec.Struct, frozen=True):
    """Let a revision enter another state."""

    revision: str
    state: RevisionState
    reason: str = ""
    placement: Placement | None = None
    """Its first one, with STARTING."""


class Place(msgspec.Struct, frozen=True):
    """Change which replicas a revision has."""

    revision: str
    placement: Placement


class Record(msgspec.Struct, frozen=True):
    """Add a line to the history."""

    event: Event


Action = Create | Move | Place | Record | walk.Begin | walk.Advance


def decide(view: View) -> list[Action]:
    """Return what to do for one deployment, in this order."""
    actions: list[Action] = [Create(target) for target in view.wanted() if view.fulfilling(target) is None]
    walked = actions_of(walk.walk(view))
    moved = {action.revision for action in walked if isinstance(action, Move)}
    for revision in view.revisions:
        if revision.name not in moved:
            actions.extend(_NEXT[revision.state](view, revision))
    return actions + walked


def actions_of(walked: Iterable[walk.Walked]) -> list[Action]:
    """Return what a rollout wants as actions."""
    return [Move(*each) if isinstance(each, walk.Turn) else each for each in walked]


def _pending(view: View, revision: Revision) -> Iterator[Action]:
    prepared = view.prepared.get(revision.target.digest)
    if not _is_wanted(view, revision):
        yield Move(revision.name, RevisionState.RETIRED)
    elif isinstance(prepared, Refused):
        yield Move(revision.name, RevisionState.FAILED, prepared.reason)
    elif isinstance(prepared, Prepared):
        yield Move(revision.name, RevisionState.STARTING, placement=first_placement(revision, prepared.python))


def _starting(view: View, revision: Revision) -> Iterator[Action]:
    if not _is_wanted(view, revision):
        yield Move(revision.name, RevisionState.RETIRED)
    elif reason := _failure(view, revision):
        yield Move(revision.name, RevisionState.FAILED, reason)
    elif _can_serve(view, revision):
        yield Move(revision.name, RevisionState.READY)
    elif action := _upkeep(view, revision):
        yield action


def _ready(view: View, revision: Revision) -> Iterator[Action]:
    if view.rolling(revision) or (walk.rolls_out(view) and revision == view.fulfilling(view.main)):
        # What becomes of it is the rollout's to say.
        if action := _upkeep(view, revision):
            yield action
    elif revision == view.fulfilling(view.main) and _can_serve(view, revision):
        yield Move(revision.name, RevisionState.SERVING)
        old = view.serving()
        if old is not None:
            warm = _is_wanted(view, old)
            yield Move(old.name, RevisionState.READY if warm else RevisionState.DRAINING)
        yield Record(_switched(view, revision, old))
    elif not _is_wanted(view, revision):
        yield Move(revision.name, RevisionState.DRAINING)
    elif action := _upkeep(view, revision):
        yield action


def _switched(view: View, revision: Revision, old: Revision | None) -> Event:
    if old is None:
        return Event(what="switched", why=f"{revision.spec.model}: nothing served before", evidence={"to": revision.name})
    how = "a way back is gone at once" if view.deployment.at_once else "strategy replace"
    why = f"from {old.spec.model} to {revision.spec.model}: {how}"
    return Event(what="switched", why=why, evidence={"to": revision.name, "from": old.name})


def _serving(view: View, revision: Revision) -> Iterator[Action]:
    if view.deployment.deleted:
        yield Move(revision.name, RevisionState.DRAINING)
    elif action := _upkeep(view, revision):
        yield action


def _draining(view: View, revision: Revision) -> Iterator[Action]:
    load = view.loads.get(revision.name)
    waits = load is not None and load.sequences > 0 and not view.deployment.deleted
    if _is_drained(view, revision) or view.ages.get(revision.name, 0.0) > (SEQUENCE_LIMIT if waits else DRAIN_LIMIT):
        end = RevisionState.RETIRED
        if view.let_go(revision) and revision == view.fulfilling(view.main):
            end = RevisionState.FAILED if view.took_back(revision) else RevisionState.TRIED
        yield Move(revision.name, end, revision.reason)


def _failed(view: View, revision: Revision) -> Iterator[Action]:
    if not _is_wanted(view, revision):
        yield Move(revision.name, RevisionState.RETIRED)


def _retired(view: View, revision: Revision) -> Iterator[Action]:
    return iter(())


_NEXT = {
    RevisionState.PENDING: _pending,
    RevisionState.STARTING: _starting,
    RevisionState.READY: _ready,
    RevisionState.SERVING: _serving,
    RevisionState.DRAINING: _draining,
    RevisionState.FAILED: _failed,
    RevisionState.TRIED: _failed,
    RevisionState.RETIRED: _retired,
}


def first_placement(revision: Revision, python: str | None) -> Placement:
    """Return the replicas a revision begins with."""
    count = revision.spec.scale.min_replicas
    return Placement(numbers=tuple(range(1, count + 1)), next=count + 1, python=python)


def _is_wanted(view: View, revision: Revision) -> bool:
    return any(view.fulfilling(target) == revision for target in view.wanted())


def _can_serve(view: View, revision: Revision) -> bool:
    ready = view.ready(revision)
    if ready >= revision.spec.scale.min_replicas:
        return True
    # Where the one that should answer cannot, one replica that can is better than none.
    serving = view.serving()
    return ready > 0 and serving is not None and view.ready(serving) == 0 and revision == view.fulfilling(view.main)


def _is_drained(view: View, revision: Revision) -> bool:
    # The gateway must have the table without its weight in force: an older report may be empty by chance.
    if view.shares is None or view.shares.get(revision.name, 0):
        return False
    load = view.loads.get(revision.name)
    return load is None or (load.queued_rows == 0 and load.inflight == 0 and load.sequences == 0)


def _failure(view: View, revision: Revision) -> str:
    """Return why a starting revision has failed; empty while there is hope."""
    if not view.linked:
        return ""
    for replica in revision.replicas:
        seen = view.observed.get(replica)
        if replica in view.failures:
            return view.failures[replica]
        if seen is not None and seen.restarts > RESTARTS and not view.is_ready(replica):
            if ALARM in seen.exit:
                tries = f"{replica} was not ready after {revision.spec.load_timeout:g} s, {seen.restarts} times"
                return f"load_timeout: {tries}; give it more time, or see why in its log"
            said = f"; it last wrote:\n{seen.tail}" if seen.tail else "; its log is empty"
            return f"{replica} ended {seen.restarts} times before it was ready ({seen.exit}){said}"
    if view.ages.get(revision.name, 0.0) > revision.spec.load_timeout + LOAD_GRACE:
        ready = f"{view.ready(revision)} of {revision.spec.scale.min_replicas} replicas"
        return f"load_timeout: {ready} were ready after {revision.spec.load_timeout:g} s; give it more time, or see why in its log"
    return ""


def _upkeep(view: View, revision: Revision) -> Action | None:
    """Replace replicas that hang, and those that have grown above their memory once a successor is ready."""
    before = revision.placement
    if before is None or not view.linked:
        return None
    prepared = view.prepared.get(revision.target.digest)
    placement = _less_stuck(view, revision, before)
    if placement == before:
        placement = _less_grown(view, revision, before)
    if isinstance(prepared, Prepared) and prepared.python != placement.python:
        # The environment, or the home, lies elsewhere now: the executor starts the replicas anew, with the new interpreter.
        placement = msgspec.structs.replace(placement, python=prepared.python)
    return Place(revision.name, placement) if placement != before else None


def _less_stuck(view: View, revision: Revision, placement: Placement) -> Placement:
    limit = revision.spec.batch_timeout + STUCK_GRACE
    links = {number: view.links.get(revision.replica(number)) for number in placement.numbers}
    stuck = frozenset(number for number, link in links.items() if link is not None and link.busy_seconds > limit)
    return placement.without(stuck, fresh=len(stuck))


def _less_grown(view: View, revision: Revision, placement: Placement) -> Placement:
    surplus = len(placement.numbers) - revision.spec.scale.min_replicas
    grown = [number for number in placement.numbers if _is_above_memory(view, revision, number)]
    if surplus <= 0:
        successors = placement.next - 1 - revision.spec.scale.min_replicas
        patience = min(SETTLING * 2.0 ** min(successors, 10), LONGEST_SETTLING)
        overdue = any(view.ages.get(revision.replica(number), 0.0) >= patience for number in grown)
        return placement.without(frozenset(), fresh=int(overdue))
    leaving = sorted(placement.numbers, key=lambda number: (number not in grown, number))[:surplus]
    staying = [number for number in placement.numbers if number not in leaving]
    if all(view.is_ready(revision.replica(number)) for number in staying):
        return placement.without(frozenset(leaving))
    return placement


def _is_above_memory(view: View, revision: Revision, number: int) -> bool:
    limit, seen = revision.spec.resources.memory, view.observed.get(revision.replica(number))
    return limit is not None and seen is not None and seen.rss > limit
