"""The judge at work: outcomes are pulled from the gateway, judged, and what is remembered of them is stored with the cursor.

State and cursor are one value, written in one transaction, before the gateway is asked for what follows: a control that is killed in
between judges the same outcomes again from the same state. Once per tick, however many decisions follow from it.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
import numpy as np

from headgate.clock import Clock
from headgate.control.rollout import Judged, Rollout, RolloutState, StepKind, Thresholds
from headgate.control.store import Store
from headgate.journal import LinkState, LoadReport, MirrorReport, Outcomes
from headgate.judge.decide import decide
from headgate.judge.outcomes import RECORD, Arm, Records
from headgate.judge.settings import JudgeSettings
from headgate.judge.shadow import shadow_evidence, total
from headgate.judge.slo import parse_slo
from headgate.judge.state import JudgeState, Load, decode, encode, observe
from headgate.judge.verdict import Judgement, Verdict

MOST = 50_000
"""Outcomes that are pulled at a time."""
DRIFT = 0.05
"""A threshold is told to the gateways anew when it has moved by so much, in proportion: each time is a new routing table."""
_WATCHED = frozenset({RolloutState.RUNNING, RolloutState.PAUSED, RolloutState.INCONCLUSIVE, RolloutState.ENVIRONMENT}) | {
    RolloutState.PROMOTING,
    RolloutState.BAKING,
}


class Pulling(Protocol):
    """The gateway, as far as outcomes go."""

    @property
    def report(self) -> LoadReport | None:
        """What it last said of itself; None while it is not linked."""
        ...

    def pull(self, deployment: str, rollout: int, after: int, most: int) -> None:
        """Ask for the outcomes that follow number ``after``; they come when they come."""
        ...

    def pulled(self, deployment: str) -> Outcomes | None:
        """Return what has come for a deployment since this was called last."""
        ...


class Judges:
    """One judge for each rollout that is watched."""

    def __init__(self, store: Store, gateway: Pulling, clock: Clock) -> None:
        self._store = store
        self._gateway = gateway
        self._clock = clock
        self._states: dict[tuple[str, int], JudgeState] = {}
        self._last: dict[tuple[str, int], float] = {}
        """When outcomes of a rollout came last, monotonic seconds."""
        self._examples: dict[tuple[str, int], tuple[Any, ...]] = {}
        """The worst ones of shadows, as the gateway last told them."""
        self._over: dict[tuple[str, int], Judged] = {}
        """What was said last of rollouts that are over."""

    def look(self, rollouts: Mapping[str, Rollout]) -> dict[str, Judged]:
        """Take in what has come, ask for more, and return what is said of each rollout, by deployment."""
        keys = {(name, rollout.number) for name, rollout in rollouts.items()}
        self._states = {key: state for key, state in self._states.items() if key in keys}
        self._over = {key: judged for key, judged in self._over.items() if key in keys}
        self._examples = {key: worst for key, worst in self._examples.items() if key in keys}
        return {name: self._judged(rollout) for name, rollout in rollouts.items()}

    def _judged(self, rollout: Rollout) -> Judged:
        """Return what is said of one rollout. What goes wrong with it is its own: the tick goes on, and nothing is promoted meanwhile."""
        try:
            return self._look(rollout) if rollout.state in _WATCHED else self._after(rollout)
        except Exception as error:
            print(f"rollout {rollout.number} of {rollout.deployment}: it could not be judged", file=sys.stderr)
            traceback.print_exception(error)
            return Judged(reason=f"it could not be judged ({type(error).__name__}); control.log in the home says why")

    def _after(self, rollout: Rollout) -> Judged:
        key = (rollout.deployment, rollout.number)
        if key not in self._over:
            state = self._states[key] if key in self._states else self._remembered(rollout)
            self._over[key] = self._say(rollout, state, decide(state, settings_of(rollout)))
        return self._over[key]

    def _look(self, rollout: Rollout) -> Judged:
        key, settings = (rollout.deployment, rollout.number), settings_of(rollout)
        self._over.pop(key, None)  # said before it began
        if key not in self._states:
            self._states[key] = self._remembered(rollout)
        report = self._gateway.report
        if report is not None:
            self._take(rollout, settings, report)
            source = f"{report.gateway}/{report.epoch}"
            self._gateway.pull(*key, after=self._states[key].cursors.get(source, 0), most=MOST)
        state = self._states[key]
        return self._say(rollout, state, decide(state, settings, promoting=_is_last_question(rollout)))

    def _say(self, rollout: Rollout, state: JudgeState, judgement: Judgement) -> Judged:
        judged = judged_of(judgement)
        if not state.mirrors and not rollout.mirror:
            return judged
        return shadowed(judged, rollout, state, self._examples.get((rollout.deployment, rollout.number), ()))

    def _take(self, rollout: Rollout, settings: JudgeSettings, report: LoadReport) -> None:
        key, came = (rollout.deployment, rollout.number), self._gateway.pulled(rollout.deployment)
        if came is None or came.head.rollout != rollout.number or came.head.epoch != report.epoch:
            return
        if came.head.mirror is not None:
            self._mirrored(rollout, f"{report.gateway}/{report.epoch}", came.head.mirror)
        if not came.records:
            return
        batch, before = np.frombuffer(came.records, dtype=RECORD), self._states[key]
        now = self._clock.monotonic()
        passed, self._last[key] = now - self._last.get(key, now), now
        try:
            # What the replicas carry is known of the time before these requests were drawn, as it must be.
            state = observe(before, batch, settings, load=before.load, gateway=f"{report.gateway}/{report.epoch}")
        except ValueError as error:
            print(f"rollout {rollout.number} of {rollout.deployment}: {error}", file=sys.stderr)
            return
        state = msgspec.structs.replace(state, load=_load(rollout, batch, passed, report) or before.load)
        self._store.remember(rollout, encode(state), _thresholds(rollout, state))
        self._states[key] = state

    def _mirrored(self, rollout: Rollout, gateway: str, told: MirrorReport) -> None:
        """Take in what a shadow has shown; the examples are kept here alone, for they hold inputs."""
        key = (rollout.deployment, rollout.number)
        self._examples[key] = tuple(msgspec.to_builtins(told.examples))
        state, counts = self._states[key], msgspec.structs.replace(told, examples=[])
        if state.mirrors.get(gateway) != counts:
            state = msgspec.structs.replace(state, mirrors={**state.mirrors, gateway: counts})
            self._store.remember(rollout, encode(state), rollout.slow)
            self._states[key] = state

    def _remembered(self, rollout: Rollout) -> JudgeState:
        kept = self._store.remembered(rollout)
        try:
            return decode(kept) if kept else JudgeState()
        except msgspec.MsgspecError as error:
            print(f"rollout {rollout.number} of {rollout.deployment}: the judge begins anew ({error})", file=sys.stderr)
            return JudgeState()


def settings_of(rollout: Rollout) -> JudgeSettings:
    """Return how a rollout is judged. The same for its whole life, but for objectives that somebody changes."""
    return JudgeSettings(slo=parse_slo(rollout.spec.slo), min_events=rollout.spec.min_events)


def judged_of(judgement: Judgement) -> Judged:
    """Return what the rollout needs of a judgement, and all of it as evidence for the history."""
    return Judged(
        verdict=judgement.verdict.value,
        reason=judgement.text,
        requests=judgement.requests[0],
        evidence=msgspec.to_builtins(judgement),
    )


def shadowed(judged: Judged, rollout: Rollout, state: JudgeState, examples: tuple[Any, ...]) -> Judged:
    """Return ``judged`` with what a shadow has shown, which is the verdict where the candidate never had a share."""
    bound = rollout.spec.max_disagreement
    found = shadow_evidence(
        total(state.mirrors.values()), alpha=settings_of(rollout).alpha, bound=None if bound is None else bound / 100
    )
    evidence = {**judged.evidence, "shadow": msgspec.to_builtins(found)}
    requests = judged.requests + found.pairs
    if rollout.promoted or rollout.weight:
        return msgspec.structs.replace(judged, requests=requests, evidence=evidence, examples=examples)
    verdict = (Verdict.HARM if found.harm else Verdict.UNDECIDED).value
    said = {"verdict": verdict, "reason": "", "text": found.text}
    return Judged(verdict=verdict, reason=found.text, requests=requests, evidence=evidence | said, examples=examples)


def _is_last_question(rollout: Rollout) -> bool:
    following = rollout.steps[rollout.step + 1 : rollout.step + 2]
    return rollout.present.kind is StepKind.ANALYSE and bool(following) and following[0].kind is StepKind.PROMOTE


def _load(rollout: Rollout, batch: Records, passed: float, report: LoadReport) -> Load | None:
    """Return what one replica of each arm carried in the last ``passed`` seconds; None where that cannot be told."""

    def of(arm: Arm, revision: str) -> float:
        ready = sum(replica.revision == revision and replica.state is LinkState.READY for replica in report.replicas)
        return float((batch["arm"] == arm).sum()) / passed / ready if ready else 0.0

    if passed <= 0:
        return None
    return Load(candidate=of(Arm.CANDIDATE, rollout.candidate), baseline=of(Arm.BASELINE, rollout.baseline))


def _thresholds(rollout: Rollout, state: JudgeState) -> Thresholds:
    """Return what counts as slow from now on: what is in force, unless it has moved."""
    found, present = state.thresholds, rollout.slow
    new = Thresholds(found.slow50, found.slow95, found.slow99, found.slow_compute)
    moved = any(_moved(before, after) for before, after in zip(present, new, strict=True))
    return new if moved else present


def _moved(before: float | None, after: float | None) -> bool:
    if before is None or after is None:
        return after is not None
    return abs(after - before) > DRIFT * before
