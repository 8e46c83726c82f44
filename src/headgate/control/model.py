"""What control keeps and looks at, as values: deployments, revisions and the view from which everything is decided.

    PENDING -> STARTING -> READY -> SERVING -> DRAINING -> RETIRED
                  any of the first five -> FAILED
                                       DRAINING -> TRIED

A revision waits for its environment (PENDING), its replicas load and try the model (STARTING), all of them can answer (READY; where
`also` names its version, it stays here, warm at weight 0), it gets the traffic (SERVING), gets no more but finishes what it has
(DRAINING), and is gone (RETIRED).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from headgate.control.rollout import WHOLE, Judged, Rollout, RolloutState
from headgate.executors.base import ObservedReplica
from headgate.journal import LinkState, ReplicaReport, RevisionReport
from headgate.spec import DeploymentSpec, RolloutSpec


class RevisionState(StrEnum):
    """Where a revision stands."""

    PENDING = "pending"
    STARTING = "starting"
    READY = "ready"
    SERVING = "serving"
    DRAINING = "draining"
    RETIRED = "retired"
    FAILED = "failed"
    TRIED = "tried"
    """It was a shadow's candidate, and that is over: gone, and not made anew before somebody asks again."""


_S = RevisionState
TRANSITIONS: Mapping[RevisionState, frozenset[RevisionState]] = {
    # RETIRED at once: it was in no routing table yet, so there is nothing to finish.
    _S.PENDING: frozenset({_S.STARTING, _S.RETIRED, _S.FAILED}),
    _S.STARTING: frozenset({_S.READY, _S.RETIRED, _S.FAILED}),
    _S.READY: frozenset({_S.SERVING, _S.DRAINING, _S.FAILED}),
    # Back to READY: another version serves now, and `also` keeps this one warm.
    _S.SERVING: frozenset({_S.DRAINING, _S.READY, _S.FAILED}),
    _S.DRAINING: frozenset({_S.RETIRED, _S.FAILED, _S.TRIED}),
    # Once nobody wants it any more, or somebody asks for another try.
    _S.FAILED: frozenset({_S.RETIRED}),
    _S.TRIED: frozenset({_S.RETIRED}),
    _S.RETIRED: frozenset(),
}

PLACED = frozenset({_S.STARTING, _S.READY, _S.SERVING, _S.DRAINING})
"""States with replicas."""
ROUTED = frozenset({_S.READY, _S.SERVING, _S.DRAINING})
"""States in which gateways know of it: before, nobody may be sent there by a pin."""
WANTABLE = frozenset({_S.PENDING, _S.STARTING, _S.READY, _S.SERVING})
"""States in which it can (still) become what the user asked for."""
DONE_WITH = frozenset({_S.FAILED, _S.TRIED})
"""States in which it is what was asked for and has come to nothing: kept, so that it is not tried again by itself."""


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asked for, by name."""

    name: str
    spec: DeploymentSpec
    generation: int
    """Grows with every change: whoever decides on an older one has decided for nothing."""
    deleted: bool = False
    at_once: bool = False
    """What was asked for last takes over as soon as it is ready, whatever the strategy: it is a way back."""
    unreadable: str = ""
    """What of it in the database makes no sense here: then nothing is decided about it, and ``spec`` holds no more than its model."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A revision that should be: what makes two revisions the same."""

    version: int
    digest: str
    spec: DeploymentSpec
    """The deployment's, with ``model`` pinned to the version, without ``also``, how to roll out and hooks: they make no other revision."""


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Which replicas a revision has. Kept in the database, so that a restarted control finds its own."""

    numbers: tuple[int, ...]
    """The ``n`` of ``<revision>.<n>`` of those that should run, rising."""
    next: int
    """The next number; none is ever given twice."""
    python: str | None = None
    """Interpreter of the package's environment; None: the server's own, wherever it is installed by now."""

    def without(self, dropped: frozenset[int], *, fresh: int = 0) -> Placement:
        """Return it less ``dropped`` and plus ``fresh`` new numbers."""
        kept = (number for number in self.numbers if number not in dropped)
        return msgspec.structs.replace(self, numbers=(*kept, *range(self.next, self.next + fresh)), next=self.next + fresh)


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """An immutable snapshot of a deployment, and how far it has come."""

    name: str
    """``<deployment>-<number>``."""
    deployment: str
    number: int
    target: Target
    state: RevisionState
    reason: str = ""
    placement: Placement | None = None

    @property
    def spec(self) -> DeploymentSpec:
        """The configuration it was made with."""
        return self.target.spec

    @property
    def replicas(self) -> tuple[str, ...]:
        """Ids of the replicas that should run."""
        return tuple(self.replica(number) for number in self.placement.numbers) if self.placement and self.state in PLACED else ()

    def replica(self, number: int) -> str:
        """Return the id of its replica ``number``."""
        return f"{self.name}.{number}"


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """The package is verified and its environment there."""

    python: str | None
    """See `Placement.python`."""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """The package cannot be run here."""

    reason: str


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Everything known of one deployment at one moment: what a decision is made of."""

    deployment: Deployment
    revisions: tuple[Revision, ...] = ()
    """Those that are not RETIRED, oldest first."""
    main: Target | None = None
    """What the deployment's reference resolves to, or last did; None when it is deleted."""
    also: tuple[Target, ...] = ()
    unresolved: str = ""
    """Why the reference resolves to nothing any more: an accident of the registry, and no reason to touch what serves."""
    prepared: Mapping[str, Prepared | Refused] = {}
    """By digest; missing while it is being prepared."""
    observed: Mapping[str, ObservedReplica] = {}
    """What the executor says, by replica id."""
    linked: bool = False
    """Whether a gateway reports. Without it nothing is known of readiness, and nothing is judged by it."""
    links: Mapping[str, ReplicaReport] = {}
    """What the gateway says, by replica id."""
    failures: Mapping[str, str] = {}
    """Words of the replicas that said FAILED, by id."""
    loads: Mapping[str, RevisionReport] = {}
    """By revision."""
    shares: Mapping[str, int] | None = None
    """Revision -> weight in the newest routing table, once the gateway has it in force; None before."""
    ages: Mapping[str, float] = {}
    """Seconds a revision has been in its state, and a replica ready, as far as this control has seen it."""
    without: Mapping[str, float] = {}
    """Seconds a revision has been without any ready replica, as far as this control has seen it."""
    rollout: Rollout | None = None
    """The newest one, which may have ended."""
    judged: Judged = Judged()
    """What the judge says of it."""
    incompatible: str = ""
    """What clients of the rollout's baseline would stumble over with its candidate."""
    hourly: float | None = None
    """Requests in the last hour; None while too little is known."""
    now: float = 0.0
    """Wall time, seconds."""

    def wanted(self) -> tuple[Target, ...]:
        """The targets, the main one last, each once."""
        targets = dict.fromkeys((*self.also, self.main))
        targets[self.main] = targets.pop(self.main)
        return tuple(target for target in targets if target is not None)

    def fulfilling(self, target: Target | None) -> Revision | None:
        """The newest revision that is or may become ``target``, or has failed at it."""
        states = WANTABLE | DONE_WITH
        found = [
            revision
            for revision in self.revisions
            if revision.target == target and (revision.state in states or self.let_go(revision))
        ]
        return found[-1] if found else None

    def took_back(self, revision: Revision) -> bool:
        """Whether the newest rollout has found ``revision`` wanting: then it is not made anew before somebody asks again."""
        out = (RolloutState.ROLLING_BACK, RolloutState.ROLLED_BACK)
        return self.rollout is not None and self.rollout.candidate == revision.name and self.rollout.state in out

    def let_go(self, revision: Revision) -> bool:
        """Whether the newest rollout is done with ``revision``: it was found wanting, or a shadow whose time is over."""
        rollout = self.rollout
        return self.took_back(revision) or (rollout is not None and rollout.tried and rollout.candidate == revision.name)

    def rolling(self, revision: Revision) -> bool:
        """Whether ``revision`` is one of the two of a rollout that is under way."""
        rollout = self.rollout
        return rollout is not None and not rollout.ended and revision.name in (rollout.candidate, rollout.baseline)

    def revision(self, name: str) -> Revision | None:
        """Return a revision that is not RETIRED."""
        return next((revision for revision in self.revisions if revision.name == name), None)

    def serving(self) -> Revision | None:
        """The revision with the traffic, if there is one."""
        return next((revision for revision in self.revisions if revision.state is RevisionState.SERVING), None)

    def is_ready(self, replica: str) -> bool:
        """Whether the gateway can send batches to ``replica``."""
        link = self.links.get(replica)
        return link is not None and link.state is LinkState.READY

    def ready(self, revision: Revision) -> int:
        """How many replicas of ``revision`` are ready."""
        return sum(self.is_ready(replica) for replica in revision.replicas)


def pin(spec: DeploymentSpec, version: int) -> DeploymentSpec:
    """Return ``spec`` as a revision for ``version`` freezes it."""
    model = f"{spec.model.partition('@')[0]}@{version}"
    return msgspec.structs.replace(spec, model=model, also=(), rollout=RolloutSpec(), hooks=())


def shares(revisions: Iterable[Revision], rollout: Rollout | None) -> dict[str, int]:
    """Return who should get how much of the traffic, in hundredths of a percent; the stable revision first, for it speaks for all.

    It follows from what is stored alone: all of it to the serving revision, less what a rollout gives its candidate.
    """
    there = {revision.name: revision.state for revision in revisions}
    serving = next((name for name, state in there.items() if state is RevisionState.SERVING), None)
    if serving is None:
        return {}
    whole = {serving: WHOLE}
    if rollout is None or rollout.ended or rollout.baseline != serving or not rollout.weight:
        return whole
    if there.get(rollout.candidate) is not RevisionState.READY:
        return whole
    return {serving: WHOLE - rollout.weight, rollout.candidate: rollout.weight}
