"""Copies for a shadow: who gets one, when it is dropped, what it costs the live request (nothing), and what is told of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from headgate.errors import DeadlineExceeded, HeadgateError, InvalidRequest, ModelFailed
from headgate.journal import MirrorReport, Pull, decode_outcomes
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base import InferRequest, InferResponse, OutputTensor, Plan
from headgate.routes import DeploymentRoute, RevisionRoute, RolloutRoute, RouteTable, Weight
from headgate.serving import mirror as mirrors
from headgate.serving.catalogue import Catalogue
from headgate.serving.metrics import Metrics
from headgate.serving.revision import Revision
from headgate.serving.steering import Steering
from headgate.telemetry import Counter
from headgate.tensors import DTYPES
from headgate.testing.clock import ManualClock

SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", dtype="FP32", shape=(-1, 2)),),
    outputs=(TensorSpec(name="y", dtype="FP32", shape=(-1,)),),
    batched=True,
)


class PlayedReplica:
    """A replica whose answers a test decides: row sums times ``factor``."""

    number, ready_since = 1, -60.0

    def __init__(self, revision: Revision, factor: float = 1.0) -> None:
        self.revision = revision
        self.factor = factor
        self.batch: list[InferRequest] = []
        self.seen: list[InferRequest] = []
        revision.linked(self)  # type: ignore[arg-type]  # it has what a revision uses of a link

    def send(self, batch: list[InferRequest], plan: Plan, now: float) -> None:
        """Note what came."""
        self.batch = batch
        self.seen += batch

    def answer(self, now: float) -> None:
        """Compute what it has."""
        batch, self.batch = self.batch, []
        x = np.frombuffer(b"".join(request.data[0] for request in batch), dtype="float32").reshape(-1, 2)
        y = (x.sum(axis=1) * self.factor).astype("float32")
        self.revision.completed(self, batch, [OutputTensor("y", DTYPES["FP32"], [len(y)], y.tobytes())], 0.001, now)  # type: ignore[arg-type]

    def fail(self, error: HeadgateError) -> None:
        """Raise."""
        batch, self.batch = self.batch, []
        self.revision.failed(self, batch, error)  # type: ignore[arg-type]


class Client:
    """Where live answers go."""

    def __init__(self) -> None:
        self.response: InferResponse | None = None
        self.error: HeadgateError | None = None

    def answered(self, request: InferRequest, response: InferResponse) -> None:
        """An answer."""
        self.response = response

    def failed(self, request: InferRequest, error: HeadgateError) -> None:
        """An error."""
        self.error = error


def route(name: str, version: int, signature: Signature = SIGNATURE, **fields: Any) -> RevisionRoute:
    settings = {"max_rows": 8, "max_queue_rows": 100, "idempotent": True, "max_delay": 0.0} | fields
    encoded = msgspec.Raw(msgspec.json.encode(signature))
    return RevisionRoute(name=name, version=version, signature=encoded, platform="test", batch_timeout=10, **settings)


class Shadow:
    """A gateway's catalogue with a live revision and a shadow, and turns of the loop that a test makes."""

    def __init__(self, share: int = 10_000, candidate: RevisionRoute | None = None) -> None:
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.catalogue = Catalogue(self.clock, self.metrics)
        self.turns: list[Callable[[], object]] = []
        turns: Any = self
        self.catalogue.mirrors.turns = turns
        self.loop = self
        self._candidate = candidate or route("m-2", 2)
        self.apply(share)
        revisions = self.catalogue.revisions
        self.live, self.other = PlayedReplica(revisions["m-1"]), PlayedReplica(revisions["m-2"])
        self.draws = iter(lambda: 0.5, None)

    def apply(self, share: int, number: int = 1) -> None:
        """Put a table in force in which so much is mirrored; 0: no rollout."""
        rollout = RolloutRoute(number=number, candidate="m-2", baseline="m-1", mirror=share) if share else None
        made = DeploymentRoute(
            name="m",
            model="m",
            timeout=30,
            split=(Weight(revision="m-1", share=10_000),),
            revisions=(route("m-1", 1), self._candidate),
            rollout=rollout,
        )
        self.catalogue.apply(RouteTable(id=self.catalogue.table.id + 1, deployments=(made,)))

    @property
    def candidate(self) -> Revision:
        """The shadow's revision."""
        return self.catalogue.revisions["m-2"]

    def send(self, values: Any = ((1.0, 2.0),), version: str | None = None, pin: str | None = None) -> Client:
        """Let a request arrive, as `Gateway.dispatch` does; a replica of the live revision gets it."""
        deployment, client, now = self.catalogue.deployment("m"), Client(), self.clock.monotonic()
        steering = Steering(pin, None) if pin else None
        revision = deployment.choose(version, lambda: 0.5, steering)
        request = InferRequest.of(1)
        array = np.array(values, dtype="float32").reshape(-1, 2)
        request.shapes, request.data = [[len(array), 2]], [array.tobytes()]
        revision.plan.finish(request)
        request.sink, request.arrived, request.deadline = client, now, now + 30
        if deployment.mirror is not None:
            deployment.mirror.watch(request, revision, version, steering, lambda: next(self.draws))
        revision.submit(request, now)
        revision.pump(now)
        return client

    def ask(self, *, seconds: float = 0.01, **how: Any) -> Client:
        """`send`, and answer after so long."""
        client = self.send(**how)
        self.clock.advance(seconds)
        (self.live if self.live.batch else self.other).answer(self.clock.monotonic())
        return client

    def turn(self) -> None:
        """One turn of the loop, and what follows from it."""
        while self.turns:
            self.turns.pop(0)()

    def call_soon(self, call: Callable[[], None]) -> None:
        """As the loop does it."""
        self.turns.append(call)

    def wake(self, revision: Revision) -> None:
        """As the gateway does it."""
        self.turns.append(lambda: revision.pump(self.clock.monotonic()))

    @property
    def report(self) -> MirrorReport:
        """What control would be told."""
        answer = self.catalogue.pulled(Pull(deployment="m", rollout=1, after=0, most=10), 0.0)
        found = decode_outcomes(answer).head.mirror
        assert found is not None
        return found

    def counted(self, family: str, label: str) -> dict[str, int]:
        """What stands in the metrics, by one of the labels."""
        series: dict[Any, Counter] = getattr(self.metrics, family)._series
        return {dict(labels)[label]: counter.value for labels, counter in series.items()}

    @property
    def dropped(self) -> dict[str, int]:
        """By reason."""
        return self.counted("mirror_dropped", "reason")


def test_a_copy_is_made_after_the_answer_and_never_returned() -> None:
    """The client has its answer before the candidate is asked, and nothing else after; the copy holds the same inputs."""
    shadow = Shadow()
    shadow.other.factor = 3.0
    client = shadow.ask()
    assert client.response is not None and not shadow.other.seen, "the answer is out, and the candidate does not know of it yet"
    shadow.turn()
    [copied] = shadow.other.seen
    assert copied.data == [np.array([1, 2], dtype="float32").tobytes()] and copied.shapes == [[1, 2]]
    shadow.other.answer(shadow.clock.monotonic())
    assert np.frombuffer(client.response.outputs[0].data, "float32").tolist() == [3.0]
    report = shadow.report
    assert (report.pairs, report.compared, report.differed) == (1, 1, 1)
    assert shadow.counted("mirrored", "result") == {"differed": 1}


def test_without_a_shadow_a_request_is_what_it_was() -> None:
    """Nothing stands between it and its client."""
    shadow = Shadow(share=0)
    assert shadow.catalogue.deployment("m").mirror is None
    shadow.send()
    assert isinstance(shadow.live.seen[0].sink, Client) and shadow.live.seen[0].decision is None


def test_a_shadow_has_no_outcomes() -> None:
    """Nothing is drawn for its candidate, so nothing is judged by draws."""
    assert Shadow().catalogue.deployment("m").outcomes is None


def test_as_many_as_asked_for_are_copied() -> None:
    """20 %: those drawn below it."""
    shadow = Shadow(share=2_000)
    shadow.draws = iter([0.1, 0.19999, 0.2, 0.9])
    for _ in range(4):
        shadow.ask()
        shadow.turn()
        if shadow.other.batch:
            shadow.other.answer(shadow.clock.monotonic())
    assert shadow.report.pairs == 2


@pytest.mark.parametrize("how", [{"version": "1"}, {"version": "2"}, {"pin": "stable"}, {"pin": "candidate"}])
def test_pinned_requests_are_not_copied(how: dict[str, str]) -> None:
    """They are no sample of anything."""
    shadow = Shadow()
    shadow.ask(**how)
    shadow.turn()
    assert not shadow.turns and not shadow.report.pairs and not shadow.dropped


def test_copies_are_no_requests() -> None:
    """Neither the candidate's counters of requests nor those of the protocols see them; what it still has is in flight."""
    shadow = Shadow()
    shadow.ask()
    shadow.turn()
    assert shadow.candidate.inflight == 1
    shadow.other.answer(shadow.clock.monotonic())
    report = shadow.candidate.report()
    assert (report.requests, report.failures, report.inflight) == (0, 0, 0)
    assert not shadow.candidate.by_protocol


# ---- dropped


def test_a_candidate_that_hangs_costs_the_live_path_nothing() -> None:
    """What does not fit into its short queue is dropped and counted; each live answer comes as if it were not there."""
    shadow = Shadow()
    for _ in range(300):
        assert shadow.ask().response is not None
        shadow.turn()
    assert shadow.candidate.waiting.rows <= mirrors.SHORT_ROWS
    assert shadow.dropped == {"queue": 300 - mirrors.SHORT_ROWS - 1} and shadow.report.pairs == 0
    shadow.clock.advance(31)
    shadow.candidate.expire(shadow.clock.monotonic())
    report = shadow.report
    assert report.pairs == report.candidate_only == mirrors.SHORT_ROWS + 1, "those that it had have run out of time"
    assert shadow.candidate.inflight == 0 and shadow.candidate.waiting.rows == 0


def test_too_many_at_once_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """By number, and by what they hold in memory."""
    monkeypatch.setattr(mirrors, "IN_FLIGHT", 3)
    shadow = Shadow()
    for _ in range(5):
        shadow.ask()
    assert shadow.dropped == {"in_flight": 2}
    shadow.turn()
    while shadow.other.batch:
        shadow.other.answer(shadow.clock.monotonic())
        shadow.candidate.pump(shadow.clock.monotonic())
    monkeypatch.setattr(mirrors, "HELD_BYTES", 30)
    for _ in range(4):
        shadow.ask()
    assert shadow.dropped == {"in_flight": 2, "bytes": 2}, "12 bytes each, and room for two"


def test_no_replica_no_copy() -> None:
    """A candidate that has just died is not waited for."""
    shadow = Shadow()
    shadow.ask()
    shadow.candidate.lost(shadow.other, [], 0.0)  # type: ignore[arg-type]
    shadow.turn()
    assert shadow.dropped == {"no_replica": 1}


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        (msgspec.structs.replace(SIGNATURE, inputs=(TensorSpec(name="x", dtype="FP64", shape=(-1, 2)),)), "inputs"),
        (
            msgspec.structs.replace(
                SIGNATURE, inputs=(*SIGNATURE.inputs, TensorSpec(name="z", dtype="FP32", shape=(-1,), optional=True))
            ),
            "inputs",
        ),
        (msgspec.structs.replace(SIGNATURE, parameters=True), "inputs"),
        (msgspec.structs.replace(SIGNATURE, stateful=True), "kind"),
        (msgspec.structs.replace(SIGNATURE, streams=True), "kind"),
    ],
    ids=["dtype", "another input", "parameters", "state", "streams"],
)
def test_what_cannot_be_copied_is_not(signature: Signature, reason: str) -> None:
    """Where the inputs of the two models differ, or one keeps state or answers in parts; the request itself is left alone."""
    shadow = Shadow(candidate=route("m-2", 2, signature))
    assert shadow.ask().response is not None
    assert shadow.dropped == {reason: 1} and not shadow.turns
    assert isinstance(shadow.live.seen[0].sink, Client)


def test_too_many_rows_for_a_model_that_takes_them_whole() -> None:
    """A request above the candidate's limit is split where that is allowed, else not copied."""
    for splittable, dropped in ((True, {}), (False, {"rows": 1})):
        shadow = Shadow(candidate=route("m-2", 2, max_rows=2, splittable=splittable))
        shadow.ask(values=np.ones((5, 2)))
        shadow.turn()
        while shadow.other.batch:
            shadow.other.answer(shadow.clock.monotonic())
            shadow.candidate.pump(shadow.clock.monotonic())
        assert shadow.dropped == dropped and shadow.report.differed == 0
        assert shadow.report.compared == int(splittable)


# ---- bad events


def test_failures_are_held_against_each_other() -> None:
    """A failure of the live version is copied, too; a pair has a bad event of one side, of both, or of none."""
    shadow = Shadow()
    for live_fails, candidate_fails in ((True, True), (True, False), (False, True), (False, False)):
        client = shadow.send()
        if live_fails:
            shadow.live.fail(ModelFailed("no"))
            assert isinstance(client.error, ModelFailed)
        else:
            shadow.live.answer(shadow.clock.monotonic())
        shadow.turn()
        shadow.other.fail(InvalidRequest("no")) if candidate_fails else shadow.other.answer(shadow.clock.monotonic())
    report = shadow.report
    assert (report.both, report.baseline_only, report.candidate_only, report.pairs) == (1, 1, 1, 4)
    assert report.answered == report.compared == 1


def test_a_bad_request_is_not_copied() -> None:
    """The client's fault says nothing of a version."""
    shadow = Shadow()
    client = shadow.send()
    shadow.live.fail(InvalidRequest("row 0: no"))
    assert client.error is not None and not shadow.turns and not shadow.report.pairs


def test_answers_that_are_no_numbers_are_bad_events() -> None:
    """As the replicas say of rows, for either side."""
    shadow = Shadow()
    shadow.send()
    shadow.live.seen[-1].decision.invalid()
    shadow.live.answer(shadow.clock.monotonic())
    shadow.turn()
    shadow.other.answer(shadow.clock.monotonic())
    assert (shadow.report.baseline_only, shadow.report.compared) == (1, 1)


# ---- what is told


def test_times_stand_side_by_side() -> None:
    """The mean of the live answers' and of the copies', over the same requests."""
    shadow = Shadow()
    shadow.ask(seconds=0.01)
    shadow.turn()
    shadow.clock.advance(0.03)
    shadow.other.answer(shadow.clock.monotonic())
    report = shadow.report
    assert (report.baseline_seconds, report.candidate_seconds) == (pytest.approx(0.01), pytest.approx(0.03))


def test_the_worst_examples_are_kept() -> None:
    """As many as there is room for, the worst first, each with its inputs."""
    shadow = Shadow()
    factors = [1.0, 1.5, 2.0, *[1.1] * 20, 8.0]
    for number, factor in enumerate(factors):
        shadow.other.factor = factor
        shadow.ask(values=((number, 1.0), (number, 2.0)))
        shadow.turn()
        shadow.other.answer(shadow.clock.monotonic())
    report = shadow.report
    assert (report.compared, report.differed) == (24, 23) and len(report.examples) == mirrors.EXAMPLES
    first, second, third = report.examples[:3]
    assert (first.live, first.candidate, first.output, first.row) == (24.0, 192.0, "y", 0)
    assert first.inputs == {"x": [23.0, 1.0]}
    assert second.difference == pytest.approx(0.5) and third.difference == pytest.approx(1 / 3)
    [output] = report.outputs
    assert (output.name, output.compared, output.close) == ("y", 24, 1)


def test_comparing_has_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond it in a second is not looked at, whatever it holds, and counted."""
    shadow = Shadow()

    def slow(*args: Any, **named: Any) -> Any:
        shadow.clock.advance(0.015)
        return found(*args, **named)

    found = mirrors.compare
    monkeypatch.setattr(mirrors, "compare", slow)
    for _ in range(5):
        shadow.ask(seconds=0.0)
        shadow.turn()
        shadow.other.answer(shadow.clock.monotonic())
    assert (shadow.report.compared, shadow.report.not_compared) == (2, 3)
    shadow.clock.advance(1.0)
    shadow.ask(seconds=0.0)
    shadow.turn()
    shadow.other.answer(shadow.clock.monotonic())
    assert shadow.report.compared == 3


# ---- the end


def test_a_new_table_goes_on_and_another_rollout_begins_anew() -> None:
    """What was counted stays as long as the shadow; a rollout that is over is forgotten."""
    shadow = Shadow()
    shadow.ask()
    shadow.turn()
    shadow.other.answer(shadow.clock.monotonic())
    shadow.apply(share=5_000)
    assert shadow.report.pairs == 1
    shadow.apply(share=5_000, number=2)
    pull = Pull(deployment="m", rollout=2, after=0, most=10)
    assert decode_outcomes(shadow.catalogue.pulled(pull, 0.0)).head.mirror == MirrorReport()
    shadow.apply(share=0)
    assert decode_outcomes(shadow.catalogue.pulled(pull, 0.0)).head.mirror is None


@pytest.mark.parametrize("how", ["the shadow is over", "the gateway ends"])
def test_nobody_waits_for_copies_at_the_end(how: str) -> None:
    """What is under way is given up at once, so that nothing is in flight; what was live gets its answer, and no copy."""
    shadow = Shadow()
    for _ in range(3):
        shadow.ask()
    shadow.turn()
    shadow.ask()
    late = shadow.send()
    assert shadow.candidate.inflight == 3
    if how == "the gateway ends":
        shadow.catalogue.mirrors.stop()
    else:
        shadow.apply(share=0)
    assert (shadow.candidate.inflight, shadow.candidate.waiting.rows, shadow.candidate.abandoned) == (0, 0, 0)
    shadow.turn()
    shadow.live.answer(shadow.clock.monotonic())
    assert late.response is not None and not shadow.turns
    shadow.other.answer(shadow.clock.monotonic())
    assert shadow.dropped == {"stopped": 4}


def test_a_live_request_that_runs_out_of_time_is_one() -> None:
    """The sink in between hands on every end there is."""
    shadow = Shadow()
    client = shadow.send()
    shadow.clock.advance(31)
    shadow.catalogue.revisions["m-1"].expire(shadow.clock.monotonic())
    assert isinstance(client.error, DeadlineExceeded)
    shadow.turn()
    shadow.other.answer(shadow.clock.monotonic())
    assert shadow.report.baseline_only == 1
