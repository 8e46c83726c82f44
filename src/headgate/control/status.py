"""What is said of a deployment to those who ask: a pure function of its `View`."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from headgate.control.model import Revision, RevisionState, View
from headgate.control.routing import WHOLE
from headgate.journal import RevisionReport


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


class DeploymentStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment."""

    name: str
    model: str
    spec: dict[str, object]
    generation: int
    state: DeploymentState
    reason: str
    revision: str | None
    """What was asked for last; who answers is told by the shares."""
    version: int | None
    url: str
    revisions: tuple[RevisionStatus, ...]
    """Oldest first."""


def deployment_status(view: View, url: str, error: str = "") -> DeploymentStatus:
    """Return the status of a deployment at ``url``; ``error`` is what the last tick could not do for it."""
    deployment = view.deployment
    asked = view.fulfilling(view.main) or view.serving()
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
        url=url,
        revisions=tuple(_revision_status(view, revision) for revision in view.revisions),
    )


def _state(view: View) -> tuple[DeploymentState, str]:
    serving, asked = view.serving(), view.fulfilling(view.main)
    if view.deployment.deleted:
        return DeploymentState.STOPPING, ""
    failed = [revision for revision in view.revisions if revision.state is RevisionState.FAILED]
    if serving is None:
        if asked is not None and asked in failed:
            return DeploymentState.FAILED, f"{asked.name} failed: {asked.reason}; nothing serves. Correct it and deploy again"
        return DeploymentState.STARTING, _waiting_for(view, asked)
    if failed:
        return DeploymentState.DEGRADED, f"{failed[-1].name} failed: {failed[-1].reason}; {serving.name} still serves"
    for revision in view.revisions:
        if missing := _missing(view, revision):
            return DeploymentState.DEGRADED, missing
    return DeploymentState.READY, "" if asked is serving else _waiting_for(view, asked)


def _waiting_for(view: View, asked: Revision | None) -> str:
    if asked is None:
        return ""
    if asked.state is RevisionState.PENDING:
        return f"{asked.name}: its environment is being made"
    if not view.linked:
        return "the gateway is not linked"
    return f"{asked.name}: {view.ready(asked)} of {asked.spec.scale.min_replicas} replicas are ready"


def _missing(view: View, revision: Revision) -> str:
    """Return what a revision that should be up lacks."""
    if revision.state not in (RevisionState.SERVING, RevisionState.READY):
        return ""
    if not view.linked:
        return "the gateway is not linked, so nothing is known of the replicas"
    ready, expected = view.ready(revision), revision.spec.scale.min_replicas
    if ready >= expected:
        return ""
    causes = [
        f"{replica}: {text}" for replica in revision.replicas if not view.is_ready(replica) and (text := _cause(view, replica))
    ]
    return "; ".join([f"{revision.name}: {ready} of {expected} replicas are ready", *causes])


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
        share=WHOLE if revision.state is RevisionState.SERVING else 0,
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
