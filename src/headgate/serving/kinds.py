"""Which kind of revision a model asks for."""

from __future__ import annotations

import msgspec

from headgate.package.signature import Signature
from headgate.routes import DeploymentRoute, RevisionRoute
from headgate.serving.metrics import Metrics
from headgate.serving.revision import Revision
from headgate.serving.sequences import Sequences, StatefulRevision
from headgate.serving.streaming import StreamingRevision


def revision_of(deployment: DeploymentRoute, route: RevisionRoute, metrics: Metrics, now: float, sequences: Sequences) -> Revision:
    """Return a new revision, of the kind that its model asks for; ``sequences`` are those of its deployment."""
    signature = msgspec.json.decode(route.signature, type=Signature)
    if signature.stateful:
        return StatefulRevision(deployment, route, metrics, now, sequences)
    kind = StreamingRevision if signature.streams else Revision
    return kind(deployment, route, metrics, now)
