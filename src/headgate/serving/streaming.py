"""A revision whose model answers in parts: one request at a time on a replica, its parts handed on as they come.

Of one answer at most `headgate.serving.link.WINDOW` is on its way to a client that does not read; then its replica waits. A request that
nobody waits for any more, or whose time is over, is cancelled: the replica closes the model's generator at the next part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.errors import HeadgateError, ReplicaLost
from headgate.protocols.base import Batch, InferRequest, InferResponse, OutputTensor
from headgate.routes import DeploymentRoute, RevisionRoute
from headgate.serving.revision import Revision

if TYPE_CHECKING:
    from headgate.serving.metrics import Metrics
    from headgate.serving.replicas import ReplicaLink


class StreamingRevision(Revision):
    """A `Revision` whose requests have sinks that take parts (`headgate.serving.wire.parts`)."""

    def __init__(self, deployment: DeploymentRoute, route: RevisionRoute, metrics: Metrics, now: float) -> None:
        super().__init__(deployment, route, metrics, now)
        self._first_part_seconds = metrics.of_first_parts(deployment.name, route.name)

    def submit(self, request: InferRequest, now: float) -> None:
        """Take a request in, as `Revision.submit` does. Raises `Unsupported` where its protocol has no form for an answer in parts."""
        request.sink = request.sink.in_parts(request, self._resume)
        super().submit(request, now)

    def part(self, link: ReplicaLink, outputs: list[OutputTensor], seconds: float, now: float) -> bool:
        """Hand on one part; return whether the client has room for more. If not, the link is told to go on once it has."""
        request = link.batch[0]
        if request.done:
            return True  # it was on its way when the request was cancelled
        if not request.sink.begun:
            self._first_part_seconds.observe(now - request.arrived)
        response = InferResponse(self.deployment, self.version, outputs, Batch(seconds, 1, now))
        try:
            more: bool = request.sink.streamed(request, response)
        except HeadgateError as error:
            self.fail(request, error)
            return True
        return more

    def lost(self, link: ReplicaLink, batch: list[InferRequest], now: float) -> None:
        """A replica has gone: what the client has a part of already cannot begin anew."""
        for request in batch:
            if not request.done and request.sink.begun:
                limit = self.route.batch_timeout
                why = f"was ended, because a part took longer than batch_timeout ({limit:g} s)," if link.overdue else "died"
                self.fail(request, ReplicaLost(f"the replica of {self.name} {why} in the middle of the answer"))
        super().lost(link, batch, now)

    def _resume(self, request: InferRequest) -> None:
        """The client has room again."""
        for link in self.links:
            if request in link.batch:
                link.go_on()

    def _drop(self, request: InferRequest) -> None:
        super()._drop(request)
        for link in self.links:
            if request in link.batch:
                link.cancel()
