"""A revision with replicas that a test plays: what becomes of requests when models raise, replicas die and time runs out."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from headgate.errors import DeadlineExceeded, HeadgateError, ModelFailed, NotReady, Overloaded, ReplicaLost
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base import InferRequest, InferResponse, OutputTensor, Plan
from headgate.routes import DeploymentRoute, RevisionRoute
from headgate.serving.metrics import Metrics
from headgate.serving.revision import PARK_SECONDS, Revision
from headgate.serving.rowlimit import RowLimit
from headgate.tensors import DTYPES, frame_bytes, unframe_bytes

SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", dtype="FP32", shape=(-1, 2)), TensorSpec(name="word", dtype="BYTES", shape=(-1,))),
    outputs=(TensorSpec(name="sum", dtype="FP32", shape=(-1,)), TensorSpec(name="echo", dtype="BYTES", shape=(-1,))),
    batched=True,
)


class PlayedReplica:
    """A replica whose answers a test decides."""

    number, ready_since = 1, -60.0

    def __init__(self, revision: Revision) -> None:
        self.revision = revision
        self.batch: list[InferRequest] = []
        self.seen: list[list[InferRequest]] = []
        revision.linked(self)  # type: ignore[arg-type]  # it has what a revision uses of a link

    def send(self, batch: list[InferRequest], plan: Plan, now: float) -> None:
        """Note what came."""
        self.batch = batch
        self.seen.append(batch)

    def answer(self, now: float) -> None:
        """Compute the batch as a model would: row sums, and the words back."""
        batch, self.batch = self.batch, []
        x = np.frombuffer(b"".join(request.data[0] for request in batch), dtype="float32").reshape(-1, 2)
        words = [word for request in batch for word in unframe_bytes(request.data[1], request.rows)]
        outputs = [
            OutputTensor("sum", DTYPES["FP32"], (len(x),), x.sum(axis=1).astype("float32").tobytes()),
            OutputTensor("echo", DTYPES["BYTES"], (len(x),), frame_bytes(words)),
        ]
        self.revision.completed(self, batch, outputs, 0.001, now)  # type: ignore[arg-type]

    def fail(self, poison: bytes) -> bool:
        """Raise if ``poison`` is in the batch, else answer."""
        if any(poison in request.data[1] for request in self.batch):
            batch, self.batch = self.batch, []
            self.revision.failed(self, batch, ModelFailed("the model raised ValueError: poison"))  # type: ignore[arg-type]
            return True
        self.answer(0.0)
        return False

    def die(self, now: float) -> None:
        """Go away with the batch."""
        batch, self.batch = self.batch, []
        self.revision.lost(self, batch, now)  # type: ignore[arg-type]


class Client:
    """Where answers go."""

    def __init__(self) -> None:
        self.response: InferResponse | None = None
        self.error: HeadgateError | None = None
        self.times = 0

    def answered(self, request: InferRequest, response: InferResponse) -> None:
        """An answer."""
        self.response, self.times = response, self.times + 1

    def failed(self, request: InferRequest, error: HeadgateError) -> None:
        """An error."""
        self.error, self.times = error, self.times + 1


def make_revision(**settings: Any) -> Revision:
    """A revision without replicas."""
    fields: dict[str, Any] = {"max_rows": 8, "max_queue_rows": 100, "idempotent": True, "max_delay": 0.0} | settings
    route = RevisionRoute(
        name="m-1", version=1, signature=msgspec.Raw(msgspec.json.encode(SIGNATURE)), platform="test", batch_timeout=10, **fields
    )
    deployment = DeploymentRoute(name="m", model="m", timeout=30, split=(), revisions=(route,))
    return Revision(deployment, route, Metrics(), 0.0)


def send(revision: Revision, words: list[str], *, now: float = 0.0, deadline: float = 1e9) -> tuple[InferRequest, Client]:
    """Submit a request with a row per word, whose values are the word's length and 1."""
    request, client = InferRequest.of(2), Client()
    rows = len(words)
    request.shapes = [[rows, 2], [rows]]
    request.data = [
        np.array([[len(word), 1] for word in words], dtype="float32").tobytes(),
        frame_bytes([word.encode() for word in words]),
    ]
    revision.plan.finish(request)
    request.sink, request.arrived, request.deadline = client, now, deadline
    revision.submit(request, now)
    return request, client


def words_of(client: Client) -> list[str]:
    """The words that came back."""
    assert client.response is not None, client.error
    echo = client.response.outputs[1]
    return [word.decode() for word in unframe_bytes(echo.data, echo.shape[0])]


def test_answers_are_cut_along_the_rows_of_their_requests() -> None:
    """Requests of different sizes share a batch and each gets its own rows, BYTES included."""
    revision = make_revision()
    replica = PlayedReplica(revision)
    clients = [send(revision, words)[1] for words in (["a"], ["bb", "ccc"], ["dddd"])]
    revision.pump(0.0)
    assert len(replica.batch) == 3
    replica.answer(0.0)
    assert [words_of(client) for client in clients] == [["a"], ["bb", "ccc"], ["dddd"]]
    sums = [np.frombuffer(client.response.outputs[0].data, "float32").tolist() for client in clients]  # type: ignore[union-attr]
    assert sums == [[2.0], [3.0, 4.0], [5.0]]
    assert revision.inflight == 0


def test_large_requests_are_split_and_joined_in_order() -> None:
    """A request above max_rows comes back whole and in order, from batches within the limit."""
    revision = make_revision(max_rows=3)
    replica = PlayedReplica(revision)
    words = [f"w{at}" for at in range(11)]
    _, client = send(revision, words)
    while revision.pump(0.0) and replica.batch:
        assert sum(request.rows for request in replica.batch) <= 3
        replica.answer(0.0)
    assert words_of(client) == words
    assert client.times == 1
    assert revision.inflight == 0


def test_row_limit_grows_while_batches_are_fast_and_shrinks_no_further_than_it_began() -> None:
    """Full fast batches double the limit up to the most; small ones say nothing; a slow large one halves it, not below the first."""
    limit = RowLimit(256, 1024)
    limit.observe(100, 0.001)
    assert limit.rows == 256
    for expected in (512, 1024, 1024):
        limit.observe(limit.rows, 0.01)
        assert limit.rows == expected
    for expected in (512, 256, 256):
        limit.observe(600, 0.06)
        assert limit.rows == expected
    limit.observe(256, 0.03)
    assert limit.rows == 256, "neither fast nor slow"


def test_row_limit_that_was_set_stays() -> None:
    """However fast or slow batches are, a limit somebody set is kept."""
    limit = RowLimit(64, 64)
    for rows, seconds in ((64, 0.0001), (64, 9.0)):
        limit.observe(rows, seconds)
        assert limit.rows == 64


def test_batches_grow_with_the_limit() -> None:
    """Requests that did not fit into one batch share one once batches have turned out to be fast; a new table does not undo it."""
    revision = make_revision(max_rows=8, first_rows=2)
    replica = PlayedReplica(revision)
    sizes = []
    for _ in range(3):
        clients = [send(revision, [word])[1] for word in "abcdefgh"]
        revision.pump(0.0)
        sizes.append(sum(request.rows for request in replica.batch))
        while replica.batch:
            replica.answer(0.0)
            revision.pump(0.0)
        assert all(client.times == 1 for client in clients)
        revision.update(DeploymentRoute(name="m", model="m", timeout=30, split=(), revisions=()), revision.route)
    assert sizes == [2, 8, 8]


def test_culprit_of_a_batch_is_found_and_its_neighbours_succeed() -> None:
    """Of 8 requests one makes the model raise: 7 are answered, one fails with the model's words, in at most 2*log2(8)+1 runs."""
    revision = make_revision()
    replica = PlayedReplica(revision)
    clients = [send(revision, [word])[1] for word in ("a", "b", "c", "POISON", "e", "f", "g", "h")]
    while revision.pump(0.0) and replica.batch:
        replica.fail(b"POISON")
    assert [client.times for client in clients] == [1] * 8
    assert [type(client.error) for client in clients] == [type(None)] * 3 + [ModelFailed] + [type(None)] * 4
    assert len(replica.seen) <= 2 * 3 + 1


def test_whole_batch_fails_where_no_rerun_is_allowed() -> None:
    """A model that is not idempotent is never run twice on a request: the batch fails, and the text says why."""
    revision = make_revision(idempotent=False)
    replica = PlayedReplica(revision)
    clients = [send(revision, [word])[1] for word in ("a", "POISON")]
    revision.pump(0.0)
    replica.fail(b"POISON")
    assert len(replica.seen) == 1
    assert all("not declared idempotent" in str(client.error) for client in clients)


def test_batch_of_a_dead_replica_is_run_again_each_request_alone() -> None:
    """After a death every request of the batch is run once more, alone, by another replica."""
    revision = make_revision()
    first, second = PlayedReplica(revision), None
    clients = [send(revision, [word])[1] for word in ("a", "b")]
    revision.pump(0.0)
    second = PlayedReplica(revision)
    first.die(1.0)
    for _ in clients:
        revision.pump(1.0)
        assert len(second.batch) == 1
        second.answer(1.0)
    assert [words_of(client) for client in clients] == [["a"], ["b"]]


def test_second_death_quarantines_the_input() -> None:
    """A request under which two replicas died is answered 503 and refused from then on; its neighbour is served."""
    revision = make_revision()
    replicas = [PlayedReplica(revision) for _ in range(3)]
    _, client = send(revision, ["killer"])
    for replica in (replicas[2], replicas[1]):
        revision.pump(0.0)
        replica.die(0.0)
    assert isinstance(client.error, ReplicaLost)
    assert client.times == 1
    with pytest.raises(ReplicaLost, match="has killed two replicas"):
        send(revision, ["killer"])
    _, other = send(revision, ["good"])
    revision.pump(0.0)
    replicas[0].answer(0.0)
    assert words_of(other) == ["good"]


def test_death_fails_at_once_where_no_rerun_is_allowed() -> None:
    """Without idempotence the batch of a dead replica is answered 503 and never run again."""
    revision = make_revision(idempotent=False)
    replica, other = PlayedReplica(revision), PlayedReplica(revision)
    _, client = send(revision, ["a"])
    revision.pump(0.0)
    busy = replica if replica.batch else other
    busy.die(0.0)
    assert isinstance(client.error, ReplicaLost)
    assert revision.waiting.rows == 0


def test_expired_requests_are_answered_and_never_run() -> None:
    """What waits past its deadline is answered 504 and reaches no replica; what is being computed is answered 504 too."""
    revision = make_revision()
    replica = PlayedReplica(revision)
    _, running = send(revision, ["running"], deadline=1.0)
    revision.pump(0.0)
    waiting, late = send(revision, ["waiting"], deadline=1.0)
    revision.expire(0.5)
    assert running.times == late.times == 0
    revision.expire(1.0)
    assert isinstance(running.error, DeadlineExceeded)
    assert isinstance(late.error, DeadlineExceeded)
    replica.answer(1.1)
    revision.pump(1.1)
    assert all(waiting not in batch for batch in replica.seen)
    assert (running.times, late.times, revision.inflight, revision.waiting.rows) == (1, 1, 0, 0)


def test_abandoned_requests_are_never_run() -> None:
    """A request whose client went away while it waited reaches no replica and stops counting; a split one with all its pieces."""
    revision = make_revision(max_rows=2)
    replica = PlayedReplica(revision)
    send(revision, ["a"])
    revision.pump(0.0)
    gone, client = send(revision, ["b", "c", "d", "e", "f"])
    revision.abandon(gone)
    replica.answer(0.0)
    revision.pump(0.0)
    assert len(replica.seen) == 1
    assert (client.times, revision.inflight, revision.waiting.rows) == (0, 0, 0)


def test_full_queue_refuses_with_a_time_to_retry() -> None:
    """Beyond max_queue_rows a request is refused (429) and says when to come again; what waits is not harmed."""
    revision = make_revision(max_queue_rows=3)
    replica = PlayedReplica(revision)
    send(revision, ["running"])
    revision.pump(0.0)
    _, client = send(revision, ["a", "b", "c"])
    with pytest.raises(Overloaded) as refused:
        send(revision, ["d"])
    assert refused.value.status == 429
    assert refused.value.retry_after is not None
    replica.answer(0.0)
    revision.pump(0.0)
    replica.answer(0.0)
    assert words_of(client) == ["a", "b", "c"]


def test_one_request_may_exceed_an_empty_queue() -> None:
    """Where nothing waits, a request of any size is taken, else it could never be answered; the next one is refused as ever."""
    revision = make_revision(max_queue_rows=3)
    replica = PlayedReplica(revision)
    _, client = send(revision, list("abcde"))
    with pytest.raises(Overloaded):
        send(revision, ["f"])
    revision.pump(0.0)
    replica.answer(0.0)
    assert words_of(client) == list("abcde")


def test_requests_wait_for_a_replica_to_come_back_but_not_for_ever() -> None:
    """After the last replica died requests wait for its successor; once that takes too long new ones are refused (503)."""
    revision = make_revision()
    with pytest.raises(NotReady):
        send(revision, ["too early"])
    replica = PlayedReplica(revision)
    replica.die(100.0)
    _, client = send(revision, ["parked"], now=100.1)
    with pytest.raises(NotReady):
        send(revision, ["late"], now=100.0 + PARK_SECONDS)
    successor = PlayedReplica(revision)
    revision.pump(101.0)
    successor.answer(101.0)
    assert words_of(client) == ["parked"]


def test_no_rows_give_no_rows() -> None:
    """A request with zero rows is answered with empty outputs of the right names and dtypes, and nothing is computed."""
    revision = make_revision()
    replica = PlayedReplica(revision)
    _, client = send(revision, [])
    assert client.response is not None
    assert [(output.name, list(output.shape)) for output in client.response.outputs] == [("sum", [0]), ("echo", [0])]
    assert replica.seen == []


def test_retired_revision_answers_what_is_left() -> None:
    """When its route goes, what still waits is refused (503), not forgotten."""
    revision = make_revision()
    PlayedReplica(revision)
    _, client = send(revision, ["a"])
    revision.close()
    assert isinstance(client.error, NotReady)
