"""A rollout as values: its states and the legal ways between them, its steps, and the lists of steps that the strategies are.

    PENDING -> PREPARING -> RUNNING -> PROMOTING -> BAKING -> COMPLETE
                RUNNING <-> PAUSED, INCONCLUSIVE, ENVIRONMENT
                RUNNING -> COMPLETE (a shadow, whose candidate nobody promoted)
                any but the ended -> ROLLING_BACK -> ROLLED_BACK
                any before BAKING -> SUPERSEDED

The candidate waits for its environment (PENDING), loads and is tried (PREPARING), takes traffic step by step (RUNNING) or stays where it
is: because a person said so (PAUSED), because nothing bad was found nor that it is safe (INCONCLUSIVE), because both arms are bad
(ENVIRONMENT). Then it gets all of the traffic (PROMOTING) while the old revision is kept warm (BAKING), until that one goes (COMPLETE).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from headgate.spec import RolloutSpec

WHOLE = 10_000
"""All of the traffic, in hundredths of a percent."""


class RolloutState(StrEnum):
    """Where a rollout stands."""

    PENDING = "pending"
    PREPARING = "preparing"
    RUNNING = "running"
    PAUSED = "paused"
    INCONCLUSIVE = "inconclusive"
    ENVIRONMENT = "environment"
    PROMOTING = "promoting"
    BAKING = "baking"
    COMPLETE = "complete"
    ROLLING_BACK = "rolling_back"
    ROLLED_BACK = "rolled_back"
    SUPERSEDED = "superseded"


_S = RolloutState
_HELD = frozenset({_S.PAUSED, _S.INCONCLUSIVE, _S.ENVIRONMENT})
_OUT = frozenset({_S.ROLLING_BACK, _S.ROLLED_BACK, _S.SUPERSEDED})
TRANSITIONS: Mapping[RolloutState, frozenset[RolloutState]] = {
    _S.PENDING: frozenset({_S.PREPARING, _S.PAUSED}) | _OUT,
    _S.PREPARING: frozenset({_S.RUNNING, _S.PROMOTING, _S.PAUSED}) | _OUT,
    # COMPLETE: the time of a shadow is over, and the candidate goes as it came.
    _S.RUNNING: frozenset({_S.PROMOTING, _S.COMPLETE}) | _HELD | _OUT,
    # Back to where its step is.
    _S.PAUSED: frozenset({_S.PENDING, _S.PREPARING, _S.RUNNING, _S.PROMOTING}) | _OUT,
    _S.INCONCLUSIVE: frozenset({_S.RUNNING, _S.PAUSED, _S.ENVIRONMENT, _S.PROMOTING}) | _OUT,
    _S.ENVIRONMENT: frozenset({_S.RUNNING, _S.PAUSED, _S.PROMOTING}) | _OUT,
    _S.PROMOTING: frozenset({_S.BAKING}) | _OUT,
    # Nothing is left of the old revision to supersede: another deployment only ends the keeping of it.
    _S.BAKING: frozenset({_S.COMPLETE, _S.ROLLING_BACK}),
    _S.ROLLING_BACK: frozenset({_S.ROLLED_BACK}),
    _S.COMPLETE: frozenset(),
    _S.ROLLED_BACK: frozenset(),
    _S.SUPERSEDED: frozenset(),
}
ENDED = frozenset(state for state, ways in TRANSITIONS.items() if not ways)
BEFORE_ALL = frozenset({_S.PENDING, _S.PREPARING, _S.RUNNING, _S.PROMOTING}) | _HELD
"""States in which the old revision is the stable one."""
HELD = _HELD
"""States in which nothing goes on by itself, or only for better evidence."""


class StepKind(StrEnum):
    """What a step does."""

    START = "start"
    """Its environment is made and its replicas start."""
    VALIDATE = "validate"
    """They load the model and try it on the package's example."""
    SCALE = "scale"
    """It has the replicas that its share of the traffic needs, before it gets it."""
    MIRROR = "mirror"
    """It gets copies of requests, for so long, and so many; its answers are compared with the live ones and never returned."""
    SET_WEIGHT = "set_weight"
    ANALYSE = "analyse"
    """Wait and judge: for so long, for so many requests."""
    PROMOTE = "promote"
    """It gets all of the traffic."""
    BAKE = "bake"
    """Wait and judge, with the old revision ready to take over again."""
    RETIRE = "retire"
    """Keep the old revision until the rollback window is over, then let it go."""


STATE_AT: Mapping[StepKind, RolloutState] = {
    StepKind.START: _S.PENDING,
    StepKind.VALIDATE: _S.PREPARING,
    StepKind.SCALE: _S.PREPARING,
    StepKind.MIRROR: _S.RUNNING,
    StepKind.SET_WEIGHT: _S.RUNNING,
    StepKind.ANALYSE: _S.RUNNING,
    StepKind.PROMOTE: _S.PROMOTING,
    StepKind.BAKE: _S.BAKING,
    StepKind.RETIRE: _S.BAKING,
}
"""The state of a rollout that walks, by its step."""


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of a rollout."""

    kind: StepKind
    weight: int = 0
    """SET_WEIGHT, MIRROR: hundredths of a percent."""
    seconds: float = 0.0
    """MIRROR, ANALYSE, BAKE, RETIRE: at least so long."""
    events: int = 0
    """MIRROR, ANALYSE: at least so many requests, or copies, answered by the candidate."""


_PREPARE = (Step(kind=StepKind.START), Step(kind=StepKind.VALIDATE), Step(kind=StepKind.SCALE))


def steps_of(spec: RolloutSpec, *, promoting: bool = False) -> tuple[Step, ...]:
    """Return the steps of a strategy: what makes them different. A shadow ends without a promotion unless somebody is ``promoting``."""
    finish = (
        Step(kind=StepKind.PROMOTE),
        Step(kind=StepKind.BAKE, seconds=spec.bake),
        Step(kind=StepKind.RETIRE, seconds=spec.rollback_window),
    )
    if spec.strategy == "shadow":
        mirror = Step(kind=StepKind.MIRROR, weight=round(spec.mirror * 100), seconds=spec.lasts, events=spec.min_events)
        return (*_PREPARE, mirror, *finish) if promoting else (*_PREPARE, mirror)
    shares = [round(step * 100) for step in spec.steps if step < 100] if spec.strategy == "canary" else []
    walk: list[Step] = []
    for share in shares:
        walk.append(Step(kind=StepKind.SET_WEIGHT, weight=share))
        walk.append(Step(kind=StepKind.ANALYSE, seconds=spec.bake, events=spec.min_events))
    return (*_PREPARE, *walk, *finish)


class Thresholds(NamedTuple):
    """What counts as slow: quantiles of the baseline's past, in seconds; None while too little is known."""

    slow50: float | None = None
    slow95: float | None = None
    slow99: float | None = None
    slow_compute: float | None = None
    """Of a row."""


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """The walk of one deployment from its stable revision to a candidate, and how far it has come."""

    deployment: str
    number: int
    """Counted within the deployment, from 1."""
    candidate: str
    """Name of a revision."""
    baseline: str
    """The one that had the traffic when it began."""
    versions: tuple[int, int]
    """Registry versions of candidate and baseline."""
    spec: RolloutSpec
    """As it was when the rollout began: later changes are for the next one."""
    steps: tuple[Step, ...]
    state: RolloutState = RolloutState.PENDING
    step: int = 0
    """Index of the step under way."""
    weight: int = 0
    """Share that the candidate should have, in hundredths of a percent."""
    reason: str = ""
    """Why it stands where it stands, where it does not speak for itself."""
    begun: float = 0.0
    """Wall time, seconds, as all times here: they must outlive a restart."""
    entered: float = 0.0
    """When it came to its step, or went on with it."""
    promoted: float = 0.0
    """When the candidate got all of the traffic; 0 before."""
    events_before: int = 0
    """Requests the candidate had answered when it came to its step."""
    slow: Thresholds = Thresholds()
    """What the gateways are told to call slow."""
    generation: int = 1
    """Grows with every change: whoever decides on an older one has decided for nothing."""

    @property
    def present(self) -> Step:
        """The step under way."""
        return self.steps[self.step]

    @property
    def mirror(self) -> int:
        """Share of the requests of which the candidate should get a copy, in hundredths of a percent."""
        gone = self.ended or self.state is RolloutState.ROLLING_BACK
        return 0 if gone or self.present.kind is not StepKind.MIRROR else self.present.weight

    @property
    def tried(self) -> bool:
        """Whether it came to its end without a promotion, as a shadow does."""
        return self.state is RolloutState.COMPLETE and not self.promoted

    @property
    def ended(self) -> bool:
        """Whether nothing follows any more."""
        return self.state in ENDED


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the history, which is only ever added to."""

    what: str
    """``begun``, ``step``, ``paused``, ``resumed``, ``held``, ``promoted``, ``rolled_back``, ``complete``, ``superseded``, ``switched``."""
    why: str = ""
    who: str = "headgate"
    """Who caused it: a key, ``local``, or Headgate itself."""
    evidence: dict[str, Any] = {}
    """What the judge went by."""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What the judge says of a rollout at one moment."""

    verdict: str = "undecided"
    """``harm``, ``safe``, ``undecided`` or ``environment``."""
    reason: str = ""
    requests: int = 0
    """That the candidate has answered in this rollout, those that count."""
    evidence: dict[str, Any] = {}
    examples: tuple[Any, ...] = ()
    """Pairs of a shadow that differ most, for people to look at. They hold inputs, so they are written down nowhere."""
