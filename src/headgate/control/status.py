"""What is said of a deployment to those who ask: a pure function of its `View`."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from headgate.control.model import Revision, RevisionState, Target, View, shares
from headgate.control.recent import advice
from headgate.control.rollout import BEFORE_ALL
from headgate.control.rollout_status import RolloutStatus, rollout_status
from headgate.journal import RevisionReport

_UP = frozenset({RevisionState.READY, RevisionState.SERVING})
"""States in which all replicas should be there."""


class DeploymentState(StrEnum):
    """How a deployment is, in one word."""

    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    FAILED = "failed"
    STOPPING = "stopping"


class ReplicaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One replica."""

    id: str
    state: str
    """``loading``, ``ready`` or ``failed`` once it has linked to the gateway, else what the executor says: ``starting``, ``running``,
    ``backoff``, ``exited``; ``pending`` before it says anything."""
    pid: int | None
    rss: int
    restarts: int
    exit: str
    reason: str


class RevisionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One revision."""

    name: str
    version: int
    digest: str
    state: RevisionState
    reason: str
    share: int
    """Hundredths of a percent of the traffic."""
    replicas: tuple[ReplicaStatus, ...]
    queued_rows: int
    inflight: int
    requests: int
    failures: int


class AlsoStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A version that ``also`` keeps warm."""

    version: int
    revision: str | None
    """None before there is one."""
    state: DeploymentState
    reason: str


class DeploymentStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment."""

    name: str
    model: str
    spec: dict[str, object]
    generation: int
    state: DeploymentState
    reason: str
    revision: str | None
    """What was asked for last."""
    version: int | None
    serving: str | None
    """The revision that has the traffic: another one than ``revision`` while that one starts, or if it failed."""
    also: tuple[AlsoStatus, ...]
    v1: str | None
    """Dialect of its ``/v1`` paths; None while nothing says which."""
    url: str
    rollout: RolloutStatus | None
    """The one under way; None where none is."""
    advice: str
    """What whoever deployed it should know; empty where there is nothing."""
    revisions: tuple[RevisionStatus, ...]
    """Oldest first."""


def deployment_status(view: View, url: str, error: str = "", v1: str | None = None) -> DeploymentStatus:
    """Return the status of a deployment at ``url``; ``error`` is what the last tick could not do for it, ``v1`` the dialect in force."""
    deployment = view.deployment
    serving = view.serving()
    asked = view.fulfilling(view.main) or serving
    state, reason = _state(view)
    return DeploymentStatus(
        name=deployment.name,
        model=deployment.spec.model,
        spec=msgspec.to_builtins(deployment.spec),
        generation=deployment.generation,
        state=state,
        reason="; ".join(text for text in (reason, view.unresolved, error) if text),
        revision=asked.name if asked else None,
        version=asked.target.version if asked else None,
        serving=serving.name if serving else None,
        also=tuple(_also_status(view, target) for target in view.also),
        v1=deployment.spec.v1 or v1,
        url=url,
        rollout=None if view.rollout is None or view.rollout.ended else rollout_status(view),
        advice=advice(view.rollout.spec, view.hourly) if view.rollout is not None and view.rollout.state in BEFORE_ALL else "",
        revisions=tuple(_revision_status(view, revision) for revision in view.revisions),
    )


def _state(view: View) -> tuple[DeploymentState, str]:
    serving, asked = view.serving(), view.fulfilling(view.main)
    if view.deployment.deleted:
        return DeploymentState.STOPPING, ""
    if view.deployment.unreadable:
        return DeploymentState.DEGRADED if serving else DeploymentState.FAILED, ""
    failed = [revision for revision in view.revisions if revision.state is RevisionState.FAILED]
    if serving is None:
        if asked is not None and asked in failed:
            return DeploymentState.FAILED, f"{_named(asked)} failed: {asked.reason}; nothing serves. Correct it and deploy again"
        return DeploymentState.STARTING, _waiting_for(view, asked)
    if failed:
        said = [f"{_named(serving)} serves", *(f"{_named(revision)} failed: {revision.reason}" for revision in failed)]
        return DeploymentState.DEGRADED, ", ".join(said)
    for revision in view.revisions:
        if missing := _missing(view, revision):
            return DeploymentState.DEGRADED, missing
    asked_for = [found for found in map(view.fulfilling, view.wanted()) if found is not None and found.state not in _UP]
    return DeploymentState.READY, "; ".join(_waiting_for(view, found) for found in asked_for)


def _also_status(view: View, target: Target) -> AlsoStatus:
    revision = view.fulfilling(target)
    state, reason = DeploymentState.STARTING, _waiting_for(view, revision)
    if revision is not None and revision.state is RevisionState.FAILED:
        state, reason = DeploymentState.FAILED, revision.reason
    elif revision is not None and revision.state in _UP:
        reason = _missing(view, revision)
        state = DeploymentState.DEGRADED if reason else DeploymentState.READY
    return AlsoStatus(version=target.version, revision=revision.name if revision else None, state=state, reason=reason)


def _named(revision: Revision) -> str:
    """Name a revision for people: the version they asked for, and which try of it this is."""
    return f"{revision.spec.model} ({revision.name})"


def _waiting_for(view: View, asked: Revision | None) -> str:
    if asked is None:
        return ""
    if view.let_go(asked) and not view.took_back(asked):
        return f"{_named(asked)}: {asked.reason}"
    if asked.state is RevisionState.PENDING:
        return f"{_named(asked)}: its environment is being made"
    if not view.linked:
        return "the gateway is not linked"
    return f"{_named(asked)}: {view.ready(asked)} of {asked.spec.scale.min_replicas} replicas are ready"


def _missing(view: View, revision: Revision) -> str:
    """Return what a revision that should be up lacks."""
    if revision.state not in _UP:
        return ""
    if not view.linked:
        return "the gateway is not linked, so nothing is known of the replicas"
    ready, expected = view.ready(revision), revision.spec.scale.min_replicas
    if ready >= expected:
        return ""
    causes = [
        f"{replica}: {text}" for replica in revision.replicas if not view.is_ready(replica) and (text := _cause(view, replica))
    ]
    return "; ".join([f"{_named(revision)}: {ready} of {expected} replicas are ready", *causes])


def _cause(view: View, replica: str) -> str:
    seen = view.observed.get(replica)
    return view.failures.get(replica) or (seen.exit if seen else "")


def _revision_status(view: View, revision: Revision) -> RevisionStatus:
    nothing = RevisionReport(revision=revision.name, queued_rows=0, inflight=0, requests=0, failures=0, rejected=0)
    load = view.loads.get(revision.name, nothing)
    return RevisionStatus(
        name=revision.name,
        version=revision.target.version,
        digest=revision.target.digest,
        state=revision.state,
        reason=revision.reason,
        share=shares(view.revisions, view.rollout).get(revision.name, 0),
        replicas=tuple(_replica_status(view, replica) for replica in revision.replicas),
        queued_rows=load.queued_rows,
        inflight=load.inflight,
        requests=load.requests,
        failures=load.failures,
    )


def _replica_status(view: View, replica: str) -> ReplicaStatus:
    seen, link = view.observed.get(replica), view.links.get(replica)
    state = link.state.value if link else seen.state.value if seen else "pending"
    return ReplicaStatus(
        id=replica,
        state=state,
        pid=(seen.pid if seen else None) or (link.pid if link else None),
        rss=seen.rss if seen else 0,
        restarts=seen.restarts if seen else 0,
        exit=seen.exit if seen else "",
        reason=view.failures.get(replica, "") if state != "ready" else "",
    )
