"""Copies of requests for the candidate of a shadow: made after the answer is out, dropped before anything waits for one.

A request that is to be copied gets a sink of its own (`_Watched`), which hands the answer on and then remembers it. In a later turn of the
loop its decoded inputs are queued for the candidate, behind whatever else waits there, if there is room; the candidate's answer is
compared with the live one (`headgate.serving.comparing`) and goes nowhere. The copy is the candidate's second run of a request that the
live model has already run: a model with effects on the world has them twice.

Nothing here waits, and nothing here can fail a live request. What there is no room for is dropped, and counted by its reason.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush, heapreplace
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol as Interface

from headgate.errors import HeadgateError
from headgate.journal import Example, MirrorReport, OutputAgreement, Pull
from headgate.protocols.base import Batch, InferRequest, InferResponse, Plan
from headgate.protocols.base.several import plan_for
from headgate.routes import DeploymentRoute, RouteTable
from headgate.serving.comparing import Agreement, compare, shown
from headgate.serving.steering import Steering

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

    from headgate.serving.metrics import Metrics
    from headgate.serving.revision import Revision

IN_FLIGHT = 256
"""Copies of a deployment that are made and have not come back."""
HELD_BYTES = 64 << 20
"""Of the inputs and live answers of these."""
SHORT_ROWS = 64
"""The candidate's queue is short while no more than a batch waits, or so many rows."""
BACKGROUND = 1_000
"""Priority of a copy: whoever is pinned to the candidate goes before."""
BUDGET_SECONDS = 0.02
"""For comparing, of each second."""
EXAMPLES = 8
"""The worst that are kept."""
WHOLE = 10_000


class _Noted:
    """What a request's decision is told (`headgate.serving.outcomes.Decision`), as far as it matters here."""

    __slots__ = ("bad", "replica")

    def __init__(self) -> None:
        self.bad = False
        """Its answer holds NaN or infinity, or there is none."""
        self.replica = 0

    def invalid(self) -> None:
        """Its answer holds NaN or infinity."""
        self.bad = True

    def answered(self, batch: Batch) -> None:
        """It was answered."""

    def failed(self, error: HeadgateError, now: float) -> None:
        """It failed."""
        self.bad = True

    def abandoned(self, now: float) -> None:
        """Its client went away: no copy is made."""


class _Watched:
    """The sink of a live request that is to be copied."""

    __slots__ = ("_mirror", "_noted", "_sink")

    def __init__(self, mirror: Mirror, sink: Any, noted: _Noted) -> None:
        self._mirror = mirror
        self._sink = sink
        self._noted = noted

    def answered(self, request: InferRequest, response: InferResponse) -> None:
        """Hand the answer on first."""
        self._sink.answered(request, response)
        self._mirror.copy(request, response, self._noted)

    def failed(self, request: InferRequest, error: HeadgateError) -> None:
        """Copied too where it was not the client's fault: a shadow that saw no failures would think that the live version has none."""
        self._sink.failed(request, error)
        if error.status >= 500:
            self._noted.bad = True
            self._mirror.copy(request, None, self._noted)

    def resume(self, request: InferRequest) -> None:
        """The client has room for further parts; there is one."""


class _Copy:
    """The sink of a copy, with what is known of the original."""

    __slots__ = ("_mirror", "began", "live", "noted", "original", "request", "size", "took")

    def __init__(self, mirror: Mirror, request: InferRequest, live: InferResponse | None, original: _Noted) -> None:
        self._mirror = mirror
        self.live = live
        self.original = original
        self.took = live.batch.finished - request.arrived if live is not None else 0.0
        self.size = sum(len(data) for data in request.data if data is not None)
        self.size += sum(len(output.data) for output in live.outputs) if live is not None else 0
        self.noted = _Noted()
        self.began = 0.0
        self.request = copied = InferRequest(list(request.shapes), list(request.data))
        copied.parameters, copied.rows, copied.key = request.parameters, request.rows, request.key
        copied.priority, copied.sink, copied.decision = BACKGROUND, self, self.noted

    def answered(self, request: InferRequest, response: InferResponse) -> None:
        """The candidate has answered."""
        self._mirror.came_back(self, response)

    def failed(self, request: InferRequest, error: HeadgateError) -> None:
        """The candidate has failed at what was no client's fault."""
        self.noted.bad = True
        self._mirror.came_back(self, None)


class Mirror:
    """The copies of one shadow."""

    def __init__(self, mirrors: Mirrors, metrics: Metrics) -> None:
        self._mirrors = mirrors
        self._metrics = metrics
        self._report = MirrorReport()
        self._outputs: dict[str, OutputAgreement] = {}
        self._worst: list[tuple[float, int, Example]] = []
        self._numbers = count()
        self._made: list[_Copy] = []
        """Those that are queued in the next turn of the loop."""
        self._flying: set[_Copy] = set()
        self._held = 0
        self._over = False
        self._compared_in, self._spent = -1, 0.0
        """The present second, and what comparing has taken of it."""

    def update(self, route: DeploymentRoute, revisions: Mapping[str, Revision]) -> None:
        """Follow a routing table."""
        rollout = route.rollout
        assert rollout is not None
        self.share = rollout.mirror / WHOLE
        self._timeout = route.timeout
        self._deployment = route.name
        self._baseline, self._candidate = revisions[rollout.baseline], revisions[rollout.candidate]
        self._refusal = _refusal(self._baseline.plan, self._candidate.plan)

    # ---- the live path

    def watch(
        self, request: InferRequest, revision: Revision, version: str | None, said: Steering | None, draw: Callable[[], float]
    ) -> None:
        """Take note of a live request for ``revision``, if it is one to be copied: not pinned, and drawn."""
        pinned = version is not None or (said is not None and said.revision is not None)
        if revision is not self._baseline or pinned or self._over:
            return
        if self.share < 1.0 and draw() >= self.share:
            return
        if self._refusal:
            self._drop(self._refusal)
            return
        request.decision = noted = _Noted()
        request.sink = _Watched(self, request.sink, noted)

    def copy(self, request: InferRequest, live: InferResponse | None, noted: _Noted) -> None:
        """Make a copy of a request that has its answer (None: it failed), for the next turn of the loop."""
        if self._over:
            return
        if len(self._flying) >= IN_FLIGHT:
            self._drop("in_flight")
            return
        made = _Copy(self, request, live, noted)
        if self._held + made.size > HELD_BYTES:
            self._drop("bytes")
            return
        self._held += made.size
        self._flying.add(made)
        self._made.append(made)
        if len(self._made) == 1:
            self._mirrors.turns.loop.call_soon(self._send)

    # ---- the candidate's side

    def _send(self) -> None:
        now, made = self._mirrors.now(), self._made
        self._made = []
        for each in made:
            reason = self._no_room(each.request)
            if reason:
                self._forget(each)
                self._drop(reason)
                continue
            each.began = each.request.arrived = now
            each.request.deadline = now + self._timeout
            try:
                self._candidate.submit(each.request, now)
            except HeadgateError:
                self._forget(each)
                self._drop("refused")
        self._mirrors.turns.wake(self._candidate)

    def _no_room(self, request: InferRequest) -> str:
        candidate = self._candidate
        waiting = candidate.waiting
        if not candidate.links:
            return "no_replica"
        if waiting.rows and waiting.rows + request.rows > max(waiting.max_rows, SHORT_ROWS):
            return "queue"
        return "rows" if request.rows > candidate.route.max_rows and not candidate.route.splittable else ""

    def came_back(self, made: _Copy, answer: InferResponse | None) -> None:
        """Take in a copy's answer; None where it failed."""
        if made not in self._flying:
            return  # it was given up
        self._forget(made)
        self._candidate.requests -= 1  # it was nobody's
        report, bad, before = self._report, made.noted.bad, made.original.bad
        report.pairs += 1
        report.candidate_only += bad and not before
        report.baseline_only += before and not bad
        report.both += bad and before
        if answer is None or made.live is None:
            self._count("failed" if answer is None else "not_compared")
            return
        report.answered += 1
        report.candidate_seconds += answer.batch.finished - made.began
        report.baseline_seconds += made.took
        self._compare(made.request, made.live, answer)

    def _compare(self, request: InferRequest, live: InferResponse, answer: InferResponse) -> None:
        began = self._mirrors.now()
        if int(began) != self._compared_in:
            self._compared_in, self._spent = int(began), 0.0
        if self._spent >= BUDGET_SECONDS:  # decided before anybody has looked, so what is left is a fair sample
            self._report.not_compared += 1
            self._count("not_compared")
            return
        plan = plan_for(request, self._baseline.plan)
        theirs = {output.name: output for output in answer.outputs}
        found = [compare(output, theirs.get(output.name), batched=plan.batched) for output in live.outputs]
        self._take(found)
        worst = max((each for each in found if not each.close), key=lambda each: each.difference, default=None)
        if worst is not None:
            self._keep(request, plan, worst, (live, answer))
        self._spent += self._mirrors.now() - began

    def _take(self, found: list[Agreement]) -> None:
        differs = not all(each.close for each in found)
        self._report.compared += 1
        self._report.differed += differs
        self._count("differed" if differs else "agreed")
        for each in found:
            tally = self._outputs.setdefault(each.name, OutputAgreement(name=each.name))
            tally.compared += 1
            tally.exact += each.exact
            tally.close += each.close
            tally.vectors += each.vectors
            tally.same_top += each.same_top
            tally.ranked += each.ranked
            tally.rank_sum += each.rank_sum

    def _keep(self, request: InferRequest, plan: Plan, worst: Agreement, answers: tuple[InferResponse, InferResponse]) -> None:
        """Keep an example, if it is one of the worst; of equal ones the first."""
        if len(self._worst) == EXAMPLES and worst.difference <= self._worst[0][0]:
            return
        of_live, of_other = (next((out for out in answer.outputs if out.name == worst.name), None) for answer in answers)
        assert of_live is not None

        def row(tensor: Any) -> Any:
            fits = tensor is not None and (not plan.batched or tensor.shape[:1] == of_live.shape[:1])
            return shown(tensor.dtype, tensor.shape, tensor.data, worst.row, batched=plan.batched) if fits else None

        inputs = {
            into.name: shown(into.dtype, shape, data, worst.row, batched=plan.batched)
            for into, shape, data in zip(plan.inputs, request.shapes, request.data, strict=True)
            if shape is not None and (not plan.batched or worst.row < shape[0])
        }
        kept = Example(
            difference=worst.difference, output=worst.name, row=worst.row, live=row(of_live), candidate=row(of_other), inputs=inputs
        )
        entry = (worst.difference, -next(self._numbers), kept)
        if len(self._worst) < EXAMPLES:
            heappush(self._worst, entry)
        else:
            heapreplace(self._worst, entry)

    # ---- what is told

    def report(self) -> MirrorReport:
        """Return everything so far, the worst example first."""
        self._report.outputs = list(self._outputs.values())
        self._report.examples = [example for _, _, example in sorted(self._worst, key=lambda each: each[:2], reverse=True)]
        return self._report

    def stop(self) -> None:
        """Give up what is under way: nobody waits for it."""
        self._over = True
        flying, self._flying = self._flying, set()
        self._made, self._held = [], 0
        for made in flying:
            if made.began and not made.request.done:
                self._candidate.abandon(made.request)
                self._candidate.abandoned -= 1  # there was no client that left
            self._drop("stopped")

    def _forget(self, made: _Copy) -> None:
        self._flying.discard(made)
        self._held -= made.size

    def _drop(self, reason: str) -> None:
        self._report.dropped += 1
        names = {"deployment": self._deployment, "revision": self._candidate.name}
        self._metrics.add(self._metrics.mirror_dropped, **names, reason=reason)

    def _count(self, result: str) -> None:
        names = {"deployment": self._deployment, "revision": self._candidate.name}
        self._metrics.add(self._metrics.mirrored, **names, result=result)


def _refusal(baseline: Plan, candidate: Plan) -> str:
    """Say why nothing can be copied from one model to the other; nothing where it can."""
    if any(plan.stateful or plan.streams for plan in (baseline, candidate)):
        return "kind"  # a copy would be part of a sequence that nobody began, or an answer that never ends

    def takes(plan: Plan) -> list[object]:
        return [(each.inputs, each.batched, each.parameters) for each in plan.signature.each]

    return "" if takes(baseline) == takes(candidate) else "inputs"


class Turns(Interface):
    """The gateway, as far as it is needed here."""

    loop: asyncio.AbstractEventLoop

    def wake(self, revision: Revision) -> None:
        """Form batches at the end of this turn, of what waits for ``revision``."""
        ...


class Mirrors:
    """The shadows of all deployments of this gateway."""

    def __init__(self, now: Callable[[], float], metrics: Metrics) -> None:
        self.now = now
        self.turns: Turns
        """The gateway, which has set this before anything can be copied."""
        self._metrics = metrics
        self._mirrors: dict[tuple[str, int], Mirror] = {}

    def of(self, route: DeploymentRoute, revisions: Mapping[str, Revision]) -> Mirror | None:
        """Return the mirror of a deployment, as of ``route``; None where none is on."""
        rollout = route.rollout
        if rollout is None or not rollout.mirror or not {rollout.baseline, rollout.candidate} <= revisions.keys():
            return None
        key = (route.name, rollout.number)
        found = self._mirrors.get(key)
        if found is None:
            found = self._mirrors[key] = Mirror(self, self._metrics)
        found.update(route, revisions)
        return found

    def keep(self, table: RouteTable) -> None:
        """End the mirrors that are not in ``table``."""
        there = {(route.name, route.rollout.number) for route in table.deployments if route.rollout and route.rollout.mirror}
        for key in self._mirrors.keys() - there:
            self._mirrors.pop(key).stop()

    def report(self, pull: Pull) -> MirrorReport | None:
        """Return what a shadow has shown so far; None for a rollout that is none, or is not known here."""
        found = self._mirrors.get((pull.deployment, pull.rollout))
        return found.report() if found is not None else None

    def stop(self) -> None:
        """The gateway is about to end: no further copies, and nobody waits for those under way."""
        for mirror in self._mirrors.values():
            mirror.stop()
