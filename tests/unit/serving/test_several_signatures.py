"""Models with several signatures: on the way to a replica, and within it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from headgate.errors import InvalidRequest
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base import InferRequest, InferResponse, Plan
from headgate.protocols.base.several import plan_for, plan_of
from headgate.routes import DeploymentRoute, RevisionRoute
from headgate.runtimes.base import Arrays, Described, Runtime
from headgate.serving import link, worker
from headgate.serving.metrics import Metrics
from headgate.serving.revision import Revision
from headgate.tensors import DTYPES


def signature(name: str, taken: str, given: str, shape: tuple[int, ...] = (-1,), *, batched: bool = True) -> Signature:
    """Return a signature with one input and one output of floats."""
    specs = [TensorSpec(name=each, dtype="FP32", shape=shape) for each in (taken, given)]
    return Signature(inputs=(specs[0],), outputs=(specs[1],), batched=batched, name=name)


SEVERAL = msgspec.structs.replace(
    signature("", "x", "doubled"),
    further=(signature("half", "y", "halved"), signature("turn", "m", "turned", (-1, 2), batched=False)),
)


class Replica:
    """Takes one batch, and keeps it until it is told to go on."""

    ready_since = 0.0

    number, ready_since = 1, -60.0

    def __init__(self, revision: Revision) -> None:
        self.revision = revision
        self.seen: list[tuple[str, int]] = []
        self.batch: list[InferRequest] = []
        revision.linked(self)  # type: ignore[arg-type]  # it has what a revision uses of a link

    def send(self, batch: list[InferRequest], plan: Plan, now: float) -> None:
        """Note what came."""
        self.batch = batch
        self.seen.append((plan.signature.name, len(batch)))

    def free(self) -> None:
        """Be ready for the next batch."""
        self.revision.leave(self)  # type: ignore[arg-type]
        self.revision._idle.append(self)  # type: ignore[arg-type]
        self.revision.pump(0.0)


class Client:
    """Where answers go."""

    response: InferResponse | None = None

    def answered(self, request: InferRequest, response: InferResponse) -> None:
        """An answer."""
        self.response = response


def revision(several: Signature = SEVERAL) -> Revision:
    """Return a revision of that model."""
    route = RevisionRoute(
        name="m-1", version=1, signature=msgspec.Raw(msgspec.json.encode(several)), platform="test", batch_timeout=10,
        max_rows=8, max_queue_rows=100, max_delay=0.0,
    )  # fmt: skip
    return Revision(DeploymentRoute(name="m", model="m", timeout=30, split=(), revisions=(route,)), route, Metrics(), 0.0)


def submit(into: Revision, number: int, rows: int = 1) -> tuple[InferRequest, Client]:
    """Submit a request for one of the signatures, as its plan reads it."""
    plan, client = into.plan.each[number], Client()
    request = InferRequest.of(1)
    request.shapes[0] = [rows, 2] if number == 2 else [rows]
    request.data[0] = bytes(4 * rows * (2 if number == 2 else 1))
    plan.finish(request)
    request.sink, request.deadline = client, 1e9
    into.submit(request, 0.0)
    return request, client


def test_no_batch_holds_requests_for_two_signatures() -> None:
    """Each is sent under its own plan, together with those that came for the same one; without a batch axis always alone."""
    served = revision()
    replica = Replica(served)
    for number in (0, 1, 2, 0, 1, 2, 0):
        submit(served, number)
    served.pump(0.0)
    while replica.batch:
        replica.batch = []
        replica.free()
    assert sorted(replica.seen) == [("", 3), ("half", 2), ("turn", 1), ("turn", 1)]


def test_a_batch_axis_of_a_further_signature_counts_too() -> None:
    """Where the first one has none, the others are batched all the same."""
    first, half, turn = SEVERAL.each
    other = msgspec.structs.replace(turn, name="", further=(half,))
    served = revision(other)
    assert first.batched and not served.plan.batched
    replica = Replica(served)
    for _ in range(3):
        submit(served, 1)
    served.pump(0.0)
    assert replica.seen == [("half", 3)]


def test_large_requests_are_split_by_their_own_signature() -> None:
    """Above the rows of a batch, and no rows at all: the answer has the outputs of the signature that was asked for."""
    served = revision()
    replica = Replica(served)
    request, _ = submit(served, 1, rows=20)
    assert [piece.rows for piece in request.pieces] == [8, 8, 4]
    served.pump(0.0)
    assert replica.seen == [("half", 1)]
    _, client = submit(served, 1, rows=0)
    assert client.response is not None and [output.name for output in client.response.outputs] == ["halved"]


def test_a_model_with_one_signature_pays_nothing() -> None:
    """Its plan is the plain one, and the keys of its requests are what they were."""
    plan = plan_of("m", signature("", "x", "y"), max_rows=8, splittable=True)
    assert type(plan) is Plan and not plan.each
    request = InferRequest.of(1)
    request.shapes[0], request.data[0] = [1], bytes(4)
    assert plan.finish(request).key is None
    assert plan_for(request, plan) is plan


def test_a_batch_says_which_signature_it_is_for() -> None:
    """By its number, which is 0 for the first."""
    arena = link.Arena.create()
    for number in (0, 2):
        frame = link.pack(link.BATCH, 1, [], arena, rows=1, signature=number)
        assert link.unpack(memoryview(frame)[link.FRAME.size :], arena).signature == number


class Several(Runtime):
    """Doubles by its first signature, halves and turns by the others."""

    title = "Several"

    def load(self, path: Path, *, attribute: str, device: str, threads: int) -> None:
        """Note what is run."""
        self.ran: list[str] = []

    def describe(self, example: Arrays | None) -> Described:
        """Not asked here."""
        raise NotImplementedError

    def predict(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """By the first."""
        self.ran.append("")
        return {"doubled": inputs["x"] * 2}

    def predict_by(self, signature: str, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """By another."""
        self.ran.append(signature)
        return {"halved": inputs["y"] / 2} if signature == "half" else {"turned": inputs["m"][:, ::-1]}


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> worker.Worker:
    """The worker of that model."""
    monkeypatch.setattr(worker.plugins, "load", lambda shelf, name: Several)
    (tmp_path / "files").mkdir()
    manifest = {"runtime": "several", "entry": "model", "signature": msgspec.to_builtins(SEVERAL), "files": {}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    made = worker.Worker(tmp_path, device="cpu", threads=1)
    made.load()
    return made


def ask(model: worker.Worker, number: int, array: Any) -> Any:
    """Return what the model answers to one tensor by the signature of that number."""
    array = np.array(array, "float32")
    tensor = link.Unpacked(0, DTYPES["FP32"].code, array.shape, memoryview(array.tobytes()))
    (packed,) = model.run(link.Message(len(array), 0, b"", [tensor], number)).outputs
    return np.frombuffer(bytes(packed.parts[0]), "float32").reshape(packed.shape).tolist()


def test_the_replica_runs_the_signature_that_is_asked_for(loaded: worker.Worker) -> None:
    """All of them have run once before the first request comes; each answers with its own outputs."""
    assert ask(loaded, 0, [1, 2]) == [2, 4]
    assert ask(loaded, 1, [1, 2]) == [0.5, 1]
    assert ask(loaded, 2, [[1, 2]]) == [[2, 1]]
    assert loaded._runtime.ran[:3] == ["", "half", "turn"]  # type: ignore[attr-defined]


def test_what_is_asked_is_held_to_its_own_signature() -> None:
    """The inputs of another one are refused before anything waits."""
    plan = plan_of("m", SEVERAL, max_rows=8, splittable=True).each[1]
    with pytest.raises(InvalidRequest, match="unexpected inference input 'x'"):
        plan.input("x")
    request = InferRequest.of(1)
    with pytest.raises(InvalidRequest, match="missing required"):
        plan.finish(request)
