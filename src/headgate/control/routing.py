"""From revisions to what gateways and the executor are told: the routing table and the list of replicas. Pure functions.

Both follow from what is stored alone, never from what is observed, so that a control that has just started says what the last one
said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from headgate.control.model import PLACED, ROUTED, Deployment, Revision, RevisionState, shares
from headgate.control.packages import Facts
from headgate.control.rollout import Rollout
from headgate.executors.base import ReplicaSpec
from headgate.judge.slo import parse_slo
from headgate.routes import NEVER, DeploymentRoute, RevisionRoute, RolloutRoute, Weight

FIRST_ROWS, MOST_ROWS = 256, 1024
"""Of a batch, where the spec leaves it open: where the limit starts, and how far it may grow."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Where replicas run."""

    cores: int
    python: str
    """The server's own interpreter."""


def deployment_route(
    deployment: Deployment,
    revisions: Sequence[Revision],
    facts: Mapping[str, Facts],
    aliases: dict[str, int],
    rollout: Rollout | None = None,
) -> DeploymentRoute | None:
    """Return the route of one deployment; None once it has ended. ``facts`` are those of every routed revision, by digest."""
    # Whoever drains comes first: a pin means the newest revision of its version, and should rather mean one that stays.
    routed = sorted((revision for revision in revisions if revision.state in ROUTED), key=_drains)
    if deployment.deleted and not routed:
        return None
    serving = next((revision for revision in routed if revision.state is RevisionState.SERVING), None)
    # The settings of a candidate come into force with it, not before.
    main = serving or (routed[-1] if routed else None)
    spec = main.spec if main else deployment.spec
    v1 = spec.v1 or (facts[main.target.digest].v1 if main else "tfserving")
    return DeploymentRoute(
        name=deployment.name,
        model=deployment.spec.model.partition("@")[0],
        timeout=spec.timeout,
        split=tuple(Weight(revision=name, share=share) for name, share in shares(routed, rollout).items()),
        revisions=tuple(_revision_route(revision, facts[revision.target.digest]) for revision in routed),
        aliases=aliases,
        v1=v1,
        rollout=_rollout_route(rollout)
        if rollout is not None and not rollout.ended and (rollout.weight or rollout.mirror)
        else None,
    )


def _rollout_route(rollout: Rollout) -> RolloutRoute:
    slo, slow = parse_slo(rollout.spec.slo), rollout.slow
    return RolloutRoute(
        number=rollout.number,
        candidate=rollout.candidate,
        baseline=rollout.baseline,
        mirror=rollout.mirror,
        slow50=slow.slow50 or NEVER,
        slow95=slow.slow95 or NEVER,
        slow99=slow.slow99 or NEVER,
        slow_compute=slow.slow_compute or NEVER,
        slo=slo.latency or NEVER,
    )


def _drains(revision: Revision) -> tuple[bool, int]:
    return revision.state is not RevisionState.DRAINING, revision.number


def _revision_route(revision: Revision, facts: Facts) -> RevisionRoute:
    spec = revision.spec
    return RevisionRoute(
        name=revision.name,
        version=revision.target.version,
        signature=msgspec.Raw(facts.signature),
        platform=facts.platform,
        batch_timeout=spec.batch_timeout,
        max_rows=spec.batching.max_rows or MOST_ROWS,
        first_rows=0 if spec.batching.max_rows else FIRST_ROWS,
        max_delay=spec.batching.max_delay,
        max_queue_rows=spec.batching.max_queue_rows,
        splittable=facts.splittable,
        idempotent=facts.idempotent if spec.idempotent is None else spec.idempotent,
        expected=spec.scale.min_replicas,
        sequence_idle=spec.sequences.idle,
        max_sequences=spec.sequences.max_open,
        device=spec.resources.device,
        example=facts.example,
        config=dict(facts.config),
    )


def replica_specs(revision: Revision, folder: str, machine: Machine) -> list[ReplicaSpec]:
    """Return the replicas of one revision that should run; ``folder`` is that of its package."""
    if revision.placement is None or revision.state not in PLACED:
        return []
    spec = revision.spec
    threads = spec.resources.threads or max(1, machine.cores // spec.scale.min_replicas)
    return [
        ReplicaSpec(
            id=replica,
            revision=revision.name,
            package=folder,
            python=revision.placement.python or machine.python,
            device=spec.resources.device,
            threads=threads,
            batch_timeout=spec.batch_timeout,
            load_timeout=spec.load_timeout,
        )
        for replica in revision.replicas
    ]
