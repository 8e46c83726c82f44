"""Sequences on a revision whose replicas a test plays: who gets a request, when a sequence is over, and what becomes of those that wait."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from headgate.errors import DeadlineExceeded, HeadgateError, InvalidRequest, NotReady, Overloaded, ReplicaLost
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base import InferRequest, InferResponse, Plan
from headgate.routes import DeploymentRoute, RevisionRoute, RouteTable, Weight
from headgate.serving.catalogue import Catalogue
from headgate.serving.kinds import revision_of
from headgate.serving.metrics import Metrics
from headgate.serving.revision import Revision
from headgate.serving.sequences import Sequences, StatefulRevision
from headgate.testing.clock import ManualClock

SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", dtype="FP32", shape=(-1,)),),
    outputs=(TensorSpec(name="y", dtype="FP32", shape=(-1,)),),
    batched=True,
    parameters=True,
    stateful=True,
)


class PlayedReplica:
    """A replica whose answers a test decides."""

    number, ready_since = 1, -60.0

    def __init__(self, revision: Revision) -> None:
        self.revision = revision
        self.leaving = False
        self.batch: list[InferRequest] = []
        self.seen: list[Any] = []
        revision.linked(self)  # type: ignore[arg-type]  # it has what a revision uses of a link

    def send(self, batch: list[InferRequest], plan: Plan, now: float) -> None:
        """Note which sequence came."""
        assert len(batch) == 1, "sequences are not put into one batch"
        self.batch = batch
        self.seen.append(batch[0].parameters)

    def answer(self, now: float) -> None:
        """Give the batch back."""
        batch, self.batch = self.batch, []
        self.revision.completed(self, batch, [], 0.001, now)  # type: ignore[arg-type]

    def die(self, now: float) -> None:
        """Go away with what is under way."""
        batch, self.batch = self.batch, []
        self.revision.lost(self, batch, now)  # type: ignore[arg-type]


class Client:
    """Where an answer goes."""

    def __init__(self) -> None:
        self.response: InferResponse | None = None
        self.error: HeadgateError | None = None

    def answered(self, request: InferRequest, response: InferResponse) -> None:
        """An answer."""
        self.response = response

    def failed(self, request: InferRequest, error: HeadgateError) -> None:
        """An error."""
        assert self.error is None and self.response is None
        self.error = error


def make(sequences: Sequences, name: str = "m-1", version: int = 1, **settings: Any) -> StatefulRevision:
    """A revision without replicas."""
    fields: dict[str, Any] = {"max_rows": 8, "max_queue_rows": 4, "max_delay": 0.0, "idempotent": True} | settings
    route = RevisionRoute(
        name=name,
        version=version,
        signature=msgspec.Raw(msgspec.json.encode(SIGNATURE)),
        platform="python",
        batch_timeout=10,
        **fields,
    )
    deployment = DeploymentRoute(name="m", model="m", timeout=30, split=(), revisions=(route,))
    found = revision_of(deployment, route, Metrics(), 0.0, sequences)
    assert isinstance(found, StatefulRevision)
    return found


def request_of(key: Any, *, start: bool = False, end: bool = False) -> InferRequest:
    """A request of a sequence, as a protocol reads it."""
    request = InferRequest.of(1)
    request.shapes, request.data = [[1]], [b"\x00\x00\x00\x00"]
    request.parameters = {"sequence_id": key, "sequence_start": start, "sequence_end": end, "top": 3}
    return request


def send(
    revision: StatefulRevision, key: Any, *, start: bool = False, end: bool = False, now: float = 0.0, deadline: float = 1e9
) -> tuple[InferRequest, Client]:
    """Submit a request, and let the revision give out what it can."""
    request, client = request_of(key, start=start, end=end), Client()
    request.sink, request.arrived, request.deadline = client, now, deadline
    revision.submit(request, now)
    revision.pump(now)
    return request, client


def test_a_sequence_comes_back_to_its_replica() -> None:
    """Whichever replica is idle, a request waits for the one that has its state, and the model is told who asks."""
    sequences = Sequences()
    revision = make(sequences)
    first, second = PlayedReplica(revision), PlayedReplica(revision)
    send(revision, 7, start=True)
    (busy, idle) = (first, second) if first.batch else (second, first)
    send(revision, 7)
    assert not idle.seen and revision.waiting.rows == 1
    busy.answer(1.0)
    revision.pump(1.0)
    assert busy.seen[1] == {"sequence_id": 7, "sequence_start": False, "sequence_end": False, "top": 3}
    assert not idle.seen and revision.waiting.rows == 0


def test_sequences_go_to_the_replica_with_the_fewest() -> None:
    """Open ones are counted, not those that have ended; an ended one makes room."""
    sequences = Sequences()
    revision = make(sequences, max_queue_rows=100)
    replicas = [PlayedReplica(revision) for _ in range(3)]
    bound = {}
    for key in range(1, 7):
        send(revision, key, start=True)
        found = sequences.find(key)
        assert found is not None
        bound[key] = found.link
    assert sorted(list(bound.values()).count(replica) for replica in replicas) == [2, 2, 2]  # type: ignore[arg-type]
    send(revision, 2, end=True)
    send(revision, 9, start=True)
    fresh = sequences.find(9)
    assert fresh is not None and fresh.link is bound[2]


def test_a_replica_that_is_about_to_leave_gets_no_sequence() -> None:
    """A new one goes elsewhere; with nobody else there is none."""
    revision = make(Sequences())
    leaving = PlayedReplica(revision)
    leaving.leaving = True
    with pytest.raises(NotReady, match="no replica of m-1 answers"):
        send(revision, 1, start=True)
    staying = PlayedReplica(revision)
    send(revision, 1, start=True)
    assert staying.seen and not leaving.seen
    assert revision.inflight == 1


def test_a_refused_start_opens_nothing_and_a_refused_end_closes_nothing() -> None:
    """The queue was full: the client may send the same request again."""
    sequences = Sequences()
    revision = make(sequences, max_queue_rows=1)
    replica = PlayedReplica(revision)
    send(revision, 1, start=True)
    send(revision, 1)
    for key, flags in ((2, {"start": True}), (1, {"end": True})):
        with pytest.raises(Overloaded):
            send(revision, key, **flags)
    assert sequences.find(2) is None and sequences.find(1) is not None
    replica.answer(1.0)
    revision.pump(1.0)
    send(revision, 1, end=True)
    assert sequences.find(1) is None and len(sequences) == 0


def test_what_has_waited_too_long_is_not_run() -> None:
    """An expired request of a sequence is answered and passed over; the next one is run."""
    sequences = Sequences()
    revision = make(sequences)
    replica = PlayedReplica(revision)
    send(revision, 1, start=True)
    _, late = send(revision, 1, deadline=2.0)
    _, other = send(revision, 1)
    revision.expire(3.0)
    assert isinstance(late.error, DeadlineExceeded) and other.error is None
    replica.answer(3.0)
    revision.pump(3.0)
    assert len(replica.seen) == 2 and revision.waiting.rows == 0 and revision.inflight == 1


def test_what_comes_with_no_time_left_is_not_run() -> None:
    """Its replica is idle, and still it is answered that its time is over."""
    revision = make(Sequences())
    replica = PlayedReplica(revision)
    _, late = send(revision, 1, start=True, now=5.0, deadline=5.0)
    assert isinstance(late.error, DeadlineExceeded) and not replica.seen


def test_a_sequence_is_idle_from_its_last_answer() -> None:
    """While a request of it waits or runs it is not; after its limit it is over, and the one beside it is not."""
    sequences = Sequences()
    revision = make(sequences, sequence_idle=5.0)
    replica = PlayedReplica(revision)
    send(revision, 1, start=True, now=0.0)
    sequences.expire(100.0)
    assert sequences.find(1) is not None
    replica.answer(100.0)
    sequences.expire(104.9)
    assert sequences.find(1) is not None
    send(revision, 2, start=True, now=104.0)
    replica.answer(104.5)
    sequences.expire(105.0)
    assert sequences.find(1) is None and sequences.find(2) is not None
    assert revision.report().sequences == 1


def test_an_abandoned_request_leaves_its_sequence_idle() -> None:
    """Nobody waits for it, so it keeps nothing open."""
    sequences = Sequences()
    revision = make(sequences, sequence_idle=5.0)
    PlayedReplica(revision)
    request, _ = send(revision, 1, start=True)
    revision.abandon(request)
    sequences.expire(5.0)
    assert sequences.find(1) is None and revision.inflight == 0


def test_a_lost_replica_takes_its_sequences_along() -> None:
    """What runs and what waits fails once, although the model is called idempotent; the others go on."""
    sequences = Sequences()
    revision = make(sequences)
    one, two = PlayedReplica(revision), PlayedReplica(revision)
    clients = {key: [send(revision, key, start=True)[1], send(revision, key)[1]] for key in (1, 2)}
    died = one if sequences.find(1).link is one else two  # type: ignore[union-attr, comparison-overlap]
    died.die(1.0)
    for client in clients[1]:
        assert isinstance(client.error, ReplicaLost) and "with it sequence 1; start it again" in str(client.error)
    assert [client.error for client in clients[2]] == [None, None]
    assert sequences.find(1) is None and revision.inflight == 2 and revision.waiting.rows == 1
    with pytest.raises(InvalidRequest, match="must specify the START flag"):
        send(revision, 1)
    left = two if died is one else one
    left.answer(2.0)
    revision.pump(2.0)
    assert len(left.seen) == 2
    send(revision, 1, start=True)


def test_a_start_under_an_open_id_stays_where_it_was() -> None:
    """The replica that has the old state is the one to forget it."""
    sequences = Sequences()
    revision = make(sequences, max_queue_rows=100)
    for _ in range(3):
        PlayedReplica(revision)
    send(revision, 1, start=True)
    before = sequences.find(1)
    send(revision, 1, start=True)
    after = sequences.find(1)
    assert before is not None and after is not None and before is not after
    assert before.link is after.link and len(sequences) == 1 and sequences.on(after.link) == 1


def test_a_revision_that_goes_takes_its_sequences_along() -> None:
    """Those of another revision of the deployment stay."""
    sequences = Sequences()
    old, new = make(sequences), make(sequences, "m-2", 2)
    PlayedReplica(old), PlayedReplica(new)
    send(old, 1, start=True)
    send(new, 2, start=True)
    assert old.report().sequences == new.report().sequences == 1
    old.close()
    assert sequences.find(1) is None and sequences.find(2) is not None


def test_where_a_request_belongs() -> None:
    """To the revision of its sequence; a START to the one that was chosen, and so does a request pinned to another version."""
    sequences = Sequences()
    old, new = make(sequences), make(sequences, "m-2", 2)
    PlayedReplica(old), PlayedReplica(new)
    send(old, "a", start=True)
    assert sequences.home(request_of("a"), new, False) is old
    assert sequences.home(request_of("a", start=True), new, False) is new
    assert sequences.home(request_of("a"), new, True) is new
    assert sequences.home(request_of("b"), new, False) is new
    newest = make(sequences, "m-3", 1)
    assert sequences.home(request_of("a"), newest, True) is old


def test_the_bound_is_that_of_the_deployment() -> None:
    """All revisions together have no more open than may be; a sequence of one request takes no room for long."""
    sequences = Sequences()
    old, new = make(sequences, max_sequences=2), make(sequences, "m-2", 2, max_sequences=2)
    PlayedReplica(old), PlayedReplica(new)
    send(old, 1, start=True)
    send(new, 2, start=True)
    with pytest.raises(Overloaded, match=r"sequences\.max_open"):
        send(new, 3, start=True)
    assert new.rejected == 1
    send(new, 2, end=True)
    send(new, 3, start=True)


def test_a_new_table_forgets_no_sequences() -> None:
    """Whenever a table comes, also while nothing is open, what opens later is counted with its deployment and ends by its idle limit."""
    clock = ManualClock()
    catalogue = Catalogue(clock, Metrics())
    route = make(Sequences(), sequence_idle=5.0).route
    deployment = DeploymentRoute(name="m", model="m", timeout=30, split=(Weight(revision="m-1", share=10_000),), revisions=(route,))
    for number in (1, 2):
        catalogue.apply(RouteTable(id=number, deployments=(deployment,)))
    revision = catalogue.revisions["m-1"]
    assert isinstance(revision, StatefulRevision)
    replica = PlayedReplica(revision)
    send(revision, 7, start=True, now=clock.monotonic())
    replica.answer(clock.monotonic())
    later = msgspec.structs.replace(deployment, revisions=(route, msgspec.structs.replace(route, name="m-2", version=2)))
    catalogue.apply(RouteTable(id=3, deployments=(later,)))
    newest = catalogue.revisions["m-2"]
    assert newest.sequences is revision.sequences and len(revision.sequences) == 1
    clock.advance(4.9)
    catalogue.expire_sequences(clock.monotonic())
    assert len(revision.sequences) == 1
    clock.advance(0.1)
    catalogue.expire_sequences(clock.monotonic())
    assert len(revision.sequences) == 0
