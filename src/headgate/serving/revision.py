"""One revision as its gateway knows it: its plan, what waits for it, its replicas, and what happens when one of them dies.

Everything a request can meet after it has been decoded happens here: admission, splitting, dispatch, answers, deadlines, retries
and the search for the culprit of a failed batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headgate.errors import DeadlineExceeded, HeadgateError, InvalidRequest, ModelFailed, NotReady, Overloaded, ReplicaLost
from headgate.journal import RevisionReport
from headgate.package.signature import Signature
from headgate.protocols.base import Batch, InferRequest, InferResponse, OutputTensor, Plan
from headgate.protocols.base.several import plan_for, plan_of
from headgate.routes import DeploymentRoute, RevisionRoute
from headgate.serving.join import cut, split
from headgate.serving.quarantine import Quarantine
from headgate.serving.queue import Waiting
from headgate.serving.rate import ServedRate
from headgate.serving.rowlimit import RowLimit
from headgate.serving.statistics import BatchCounts
from headgate.telemetry import Histogram
from headgate.tensors import DTYPES

if TYPE_CHECKING:
    from headgate.serving.metrics import Metrics, ProtocolSeries
    from headgate.serving.replicas import ReplicaLink
    from headgate.serving.sequences import Sequences

COLD_SECONDS = 5.0
"""After a replica is ready: its first answers are slower than the others, and no rollout is judged by them."""
PARK_SECONDS = 10.0
"""How long requests may wait for a replica to come back before new ones are refused at once."""


class Revision:
    """A revision that this gateway may send work to."""

    sequences: Sequences | None = None
    """Those of its deployment, where its model keeps state."""

    def __init__(self, deployment: DeploymentRoute, route: RevisionRoute, metrics: Metrics, now: float) -> None:
        self.name = route.name
        self.deployment = deployment.name
        self.links: list[ReplicaLink] = []
        """All replicas that are ready, busy ones too."""
        self._idle: list[ReplicaLink] = []
        self._deserted = now - PARK_SECONDS  # a revision that never had a replica parks nobody
        self.warm_at = now
        """Monotonic seconds from which on none of its replicas has just started."""
        self._quarantine = Quarantine()
        self.inflight = self.rejected = self.requests = self.failures = self.abandoned = 0
        self.counts = BatchCounts()
        self.served = ServedRate()
        queue, compute, rows = metrics.of_revision(deployment.name, route.name)
        self.queue_seconds: Histogram = queue
        self._compute_seconds: Histogram = compute
        self._batch_rows: Histogram = rows
        self._metrics = metrics
        self.by_protocol: dict[str, ProtocolSeries] = {}
        self.waiting = Waiting(batched=True, max_rows=route.max_rows, max_delay=route.max_delay)
        self._limit = RowLimit(route.max_rows, route.max_rows)
        self.update(deployment, route)

    def update(self, deployment: DeploymentRoute, route: RevisionRoute) -> None:
        """Take over a newer route of the same revision; what waits stays."""
        self.route = route
        signature = msgspec.json.decode(route.signature, type=Signature)
        self.plan = plan_of(deployment.name, signature, max_rows=route.max_rows, splittable=route.splittable)
        self.version = str(route.version)
        self.judged = deployment.rollout is not None
        """A rollout is under way."""
        self._headers = headers_of(deployment, route.name)
        for series in self.by_protocol.values():
            series.headers = self._headers
        if self._limit.most != route.max_rows or self._limit.first != (route.first_rows or route.max_rows):
            self._limit = RowLimit(route.first_rows or route.max_rows, route.max_rows)
        self.waiting.batched = any(each.batched for each in signature.each)
        self.waiting.max_rows, self.waiting.max_delay = self._limit.rows, route.max_delay

    # ---- in

    @property
    def ready(self) -> bool:
        """Whether a replica would compute a request now."""
        return bool(self.links)

    @property
    def pending(self) -> int:
        """Requests (or pieces of one) that wait for a replica."""
        return sum(not request.done for request in self.waiting)

    def series(self, protocol: str) -> ProtocolSeries:
        """Where requests of one protocol are counted."""
        found = self.by_protocol.get(protocol)
        if found is None:
            found = self.by_protocol[protocol] = self._metrics.of_protocol(self.deployment, self.name, protocol)
            found.headers = self._headers
        return found

    def submit(self, request: InferRequest, now: float) -> None:
        """Take a request in. It will be answered through its sink. Raises `Overloaded`, `NotReady` or `ReplicaLost` (quarantined)."""
        waiting = self.waiting
        if waiting.rows and waiting.rows + request.rows > self.route.max_queue_rows:
            self.rejected += 1
            raise Overloaded(
                f"the queue of '{self.deployment}' is full: {waiting.rows} rows wait, {self.route.max_queue_rows} may; retry later",
                self.served.seconds_for(waiting.rows),
            )
        if not self.links and now - self._deserted >= PARK_SECONDS:
            raise NotReady(f"model '{self.deployment}' is not at ready state: no replica of {self.name} answers; retry later")
        if self._quarantine.since:
            self._quarantine.check(request, now)
        self.inflight += 1
        if not request.rows:
            self.answer(request, _nothing(plan_for(request, self.plan)), Batch(0.0, 0, now))
        elif request.rows > waiting.max_rows and (plan := plan_for(request, self.plan)).batched:
            for piece in split(request, plan, waiting.max_rows, self):
                waiting.put(piece)
        else:
            waiting.put(request)

    def abandon(self, request: InferRequest) -> None:
        """The client has gone: do not run it if it still waits, and answer nobody."""
        self.abandoned += 1
        if not request.done:
            self.inflight -= 1
            self._drop(request)

    # ---- out

    def pump(self, now: float) -> float:
        """Send batches while replicas are idle and something is ripe. Returns the seconds after which to call again, or infinity."""
        if now >= self.waiting.soonest:
            self.expire(now)  # what came with no time left must not slip through between two ticks
        while self._idle:
            delay = self.waiting.ripe(now)
            if delay:
                return delay
            batch = self.waiting.take()
            if not batch:
                break
            link = self._idle.pop()
            for request in batch:
                request.started = now
                self.queue_seconds.observe(now - request.arrived)
            link.send(batch, plan_for(batch[0], self.plan), now)
        return float("inf")

    def linked(self, link: ReplicaLink) -> None:
        """A replica has become ready."""
        self.links.append(link)
        self._idle.append(link)
        self.warm_at = max(self.warm_at, link.ready_since + COLD_SECONDS)

    def leave(self, link: ReplicaLink) -> None:
        """A replica is about to end: no further batch for it."""
        if link in self._idle:
            self._idle.remove(link)

    def part(self, link: ReplicaLink, outputs: list[OutputTensor], seconds: float, now: float) -> bool:
        """One part of an answer came back. Raises `ValueError`: this model answers as a whole."""
        raise ValueError(f"{link.id} sent a part of an answer, and its model gives whole ones")

    def completed(
        self, link: ReplicaLink, batch: list[InferRequest], outputs: list[OutputTensor], seconds: float, now: float
    ) -> None:
        """A batch came back: answer its requests."""
        self._idle.append(link)
        rows = sum([request.rows for request in batch])
        self.served.rows += rows
        self._compute_seconds.observe(seconds)
        self._batch_rows.observe(rows)
        self.counts.observe(rows, len(batch), seconds, now)
        self._limit.observe(rows, seconds)
        self.waiting.max_rows = self._limit.rows
        origin = Batch(seconds, rows, now, link.number)
        if len(batch) == 1:
            self.answer(batch[0], outputs, origin)
            return
        for request, own in cut(outputs, batch):
            self.answer(request, own, origin)

    def failed(self, link: ReplicaLink, batch: list[InferRequest], error: HeadgateError) -> None:
        """The model raised on a batch: find the culprit by halving where a rerun is allowed, else fail the batch."""
        self._idle.append(link)
        blame(batch, link)
        if len(batch) == 1:
            self.fail(batch[0], error)
        elif self.route.idempotent or isinstance(error, InvalidRequest):  # refused, so nothing was done with any of it
            middle = len(batch) // 2
            self._put_back(batch[middle:])
            self._put_back(batch[:middle])
        else:
            text = f"{error}; it failed for the whole batch of {len(batch)} requests, because the model is not declared idempotent"
            for request in batch:
                self.fail(request, ModelFailed(text))

    def lost(self, link: ReplicaLink, batch: list[InferRequest], now: float) -> None:
        """A replica has gone, with ``batch`` in its hands: each request is put back once, alone, where a rerun is allowed."""
        if link in self.links:
            self.links.remove(link)
            if not self.links:
                self._deserted = now
        if link in self._idle:
            self._idle.remove(link)
        blame(batch, link)
        for request in batch:
            if request.done:
                continue
            request.deaths += 1
            how = ending(request, self.route.batch_timeout, now)
            if not self.route.idempotent:
                self.fail(request, ReplicaLost(f"the replica of {self.name} {how}; it was not run again"))
            elif request.deaths > 1:
                self._quarantine.add(request, now)
                said = f"a second replica of {self.name} {how}; it is not run again"
                self.fail(request, ReplicaLost(said, None))
            else:
                self._put_back([request])

    def expire(self, now: float) -> None:
        """Answer everything that is past its deadline; what waits of it will never be run."""
        for request in self.waiting.expired(now):
            self.fail(request, _too_late(request, now, "it was still waiting and was not run"))
        for link in self.links:
            for request in link.batch:
                if not request.done and request.deadline <= now:
                    self.fail(request, _too_late(request, now, "its batch was still being computed"))

    def close(self) -> None:
        """The route has gone: refuse what is left."""
        self.give_up(f"{self.name} has been retired; retry")
        self._metrics.forget_revision(self.name)

    def give_up(self, why: str) -> None:
        """Answer 503 to everything that is not answered yet, waiting or running."""
        running = [request for link in self.links for request in link.batch]
        for request in [*self.waiting, *running]:
            self.fail(request, NotReady(why))

    def report(self) -> RevisionReport:
        """What control is told."""
        counts = {"requests": self.requests, "failures": self.failures, "rejected": self.rejected}
        return RevisionReport(revision=self.name, queued_rows=self.waiting.rows, inflight=self.inflight, **counts)

    # ---- within

    def answer(self, request: InferRequest, outputs: list[OutputTensor], batch: Batch) -> None:
        """Give a request its answer, unless it has one."""
        if request.done:
            return
        request.done = True
        if not request.piece:
            self.inflight -= 1
            self.requests += 1
        request.sink.answered(request, InferResponse(self.deployment, self.version, outputs, batch))

    def fail(self, request: InferRequest, error: HeadgateError) -> None:
        """Give a request an error, unless it has an answer."""
        if request.done:
            return
        self._drop(request)
        if not request.piece:
            self.inflight -= 1
            self.requests += 1
        request.sink.failed(request, error)

    def _drop(self, request: InferRequest) -> None:
        """Mark done; its rows stop counting if it waits. Pieces of a split request go with it."""
        request.done = True
        if request.pieces:
            for piece in request.pieces:
                if not piece.done:
                    self._drop(piece)
        elif request.started is None:
            self.waiting.forget(request)

    def _put_back(self, batch: list[InferRequest]) -> None:
        alive = [request for request in batch if not request.done]
        for request in alive:
            request.started = None
        if alive:
            self.waiting.put_back(alive)


def blame(batch: list[InferRequest], link: ReplicaLink) -> None:
    """Note which replica it was, for the judge: a fault of one replica is not one of its version."""
    for request in batch:
        if request.decision is not None:
            request.decision.replica = link.number


def headers_of(deployment: DeploymentRoute, revision: str) -> bytes:
    """Return the header lines that say whose answer it is; none without a rollout, when there is only one it could be."""
    if deployment.rollout is None:
        return b""
    return f"x-headgate-revision: {revision}\r\nx-headgate-rollout: {deployment.name}/{deployment.rollout.number}\r\n".encode()


def _too_late(request: InferRequest, now: float, what: str) -> DeadlineExceeded:
    return DeadlineExceeded(f"Request timeout expired after {now - request.arrived:.3f} s: {what}")


def ending(request: InferRequest, limit: float, now: float) -> str:
    """Say how a replica ended that had this request: it ends itself when a batch passes its ``limit``."""
    if request.started is not None and now - request.started >= limit:
        return f"was ended because this request's batch took longer than batch_timeout ({limit:g} s)"
    return "died while it computed this request"


def _nothing(plan: Plan) -> list[OutputTensor]:
    """No rows in, no rows out: nothing is computed; a dimension that varies is 0."""
    specs = plan.signature.outputs
    return [OutputTensor(spec.name, DTYPES[spec.dtype], [0, *(max(size, 0) for size in spec.shape[1:])], b"") for spec in specs]
