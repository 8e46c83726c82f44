"""Answers in parts within the gateway and within the replica: who waits for whom, and what ends what."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Generator, Iterator
from typing import Any

import msgspec
import pytest

from headgate.errors import DeadlineExceeded, HeadgateError, ModelFailed, NotReady, ReplicaLost, Unsupported
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base import Batch, InferRequest, InferResponse, OutputTensor, Plan
from headgate.routes import DeploymentRoute, RevisionRoute
from headgate.serving import link
from headgate.serving.metrics import Metrics
from headgate.serving.replica import GatewayLink, PartsUnderWay, Replica
from headgate.serving.replicas import ReplicaLink
from headgate.serving.revision import Revision
from headgate.serving.streaming import StreamingRevision
from headgate.tensors import DTYPES, frame_bytes, unframe_bytes

SIGNATURE = Signature(
    inputs=(TensorSpec(name="text", dtype="BYTES", shape=(1,)),),
    outputs=(TensorSpec(name="word", dtype="BYTES", shape=(1,)),),
    streams=True,
)
BYTES = DTYPES["BYTES"]


class Client:
    """Where an answer in parts goes: a sink, and the exchange that makes it."""

    def __init__(self, *, room: bool = True) -> None:
        self.words: list[str] = []
        self.ended = self.times = 0
        self.error: HeadgateError | None = None
        self.room = room
        self.begun = False
        self.resume: Any = None
        self.refuses: HeadgateError | None = None
        """Raised by the next part."""

    def in_parts(self, request: InferRequest, resume: Any) -> Client:
        """Be the sink."""
        self.resume = resume
        return self

    def streamed(self, request: InferRequest, response: InferResponse) -> bool:
        """One part."""
        if self.refuses is not None:
            raise self.refuses
        self.begun = True
        self.words += [item.decode() for item in unframe_bytes(response.outputs[0].data, 1)]
        return self.room

    def answered(self, request: InferRequest, response: InferResponse) -> None:
        """The end."""
        assert not response.outputs
        self.ended, self.times = 1, self.times + 1

    def failed(self, request: InferRequest, error: HeadgateError) -> None:
        """An error."""
        self.error, self.times = error, self.times + 1


class Unable(Client):
    """A client whose protocol has no form for an answer in parts."""

    def in_parts(self, request: InferRequest, resume: Any) -> Client:
        """Refuse."""
        raise Unsupported("no parts here")


class PlayedReplica:
    """A replica whose parts a test decides."""

    number, ready_since = 1, -60.0

    overdue = False

    def __init__(self, revision: Revision) -> None:
        self.revision = revision
        self.batch: list[InferRequest] = []
        self.heard: list[str] = []
        revision.linked(self)  # type: ignore[arg-type]  # it has what a revision uses of a link

    def send(self, batch: list[InferRequest], plan: Plan, now: float) -> None:
        """Note what came."""
        assert len(batch) == 1, "an answer in parts is never one of a batch"
        self.batch = batch

    def give(self, word: str, now: float = 0.0) -> bool:
        """Send one part; return whether another one may follow."""
        outputs = [OutputTensor("word", BYTES, (1,), frame_bytes([word.encode()]))]
        return self.revision.part(self, outputs, 0.001, now)  # type: ignore[arg-type]

    def end(self, now: float = 0.0) -> None:
        """Say that this was all."""
        batch, self.batch = self.batch, []
        self.revision.completed(self, batch, [], 0.002, now)  # type: ignore[arg-type]

    def fail(self) -> None:
        """Raise."""
        batch, self.batch = self.batch, []
        self.revision.failed(self, batch, ModelFailed("the model raised"))  # type: ignore[arg-type]

    def die(self, now: float = 0.0) -> None:
        """Go away."""
        batch, self.batch = self.batch, []
        self.revision.lost(self, batch, now)  # type: ignore[arg-type]

    def go_on(self) -> None:
        """Hear that there is room."""
        self.heard.append("go on")

    def cancel(self) -> None:
        """Hear that nobody waits."""
        self.heard.append("cancel")


def make_revision(metrics: Metrics | None = None, **settings: Any) -> StreamingRevision:
    """A revision without replicas."""
    fields: dict[str, Any] = {"max_rows": 8, "max_queue_rows": 4, "idempotent": True, "max_delay": 0.0} | settings
    signature = msgspec.Raw(msgspec.json.encode(SIGNATURE))
    route = RevisionRoute(name="m-1", version=1, signature=signature, platform="test", batch_timeout=10, **fields)
    deployment = DeploymentRoute(name="m", model="m", timeout=30, split=(), revisions=(route,))
    return StreamingRevision(deployment, route, metrics or Metrics(), 0.0)


def send(
    revision: Revision, client: Client | None = None, *, now: float = 0.0, deadline: float = 1e9
) -> tuple[InferRequest, Client]:
    """Submit a request."""
    request, client = InferRequest.of(1), client or Client()
    request.shapes, request.data = [[1]], [frame_bytes([b"text"])]
    revision.plan.finish(request)
    request.sink, request.arrived, request.deadline = client, now, deadline
    revision.submit(request, now)
    return request, client


def test_parts_reach_their_client_one_by_one() -> None:
    """Each part at once, the end by itself; the next request waits for it, and each is counted once."""
    revision = make_revision()
    replica = PlayedReplica(revision)
    (_, first), (_, second) = send(revision), send(revision)
    revision.pump(0.0)
    assert replica.give("a")
    assert (first.words, first.ended, revision.inflight) == (["a"], 0, 2)
    assert replica.give("b")
    replica.end()
    assert (first.words, first.ended, first.times, second.words) == (["a", "b"], 1, 1, [])
    revision.pump(0.0)
    replica.end()
    assert (second.words, second.ended, revision.inflight, revision.requests) == ([], 1, 0, 2)


def test_the_first_part_is_measured_once() -> None:
    """From the arrival of the request to its first part, whatever follows; an answer without parts has none."""
    metrics = Metrics()
    revision = make_revision(metrics)
    replica = PlayedReplica(revision)
    send(revision, now=1.0)
    revision.pump(1.5)
    replica.give("a", 3.0)
    replica.give("b", 9.0)
    replica.end(9.0)
    send(revision, now=10.0)
    revision.pump(10.0)
    replica.end(11.0)
    text = metrics.text([])
    assert 'headgate_first_part_seconds_count{deployment="m",revision="m-1"} 1' in text
    assert 'headgate_first_part_seconds_sum{deployment="m",revision="m-1"} 2' in text
    assert 'headgate_batch_rows_count{deployment="m",revision="m-1"} 2' in text


def test_a_protocol_without_a_form_refuses_before_the_queue() -> None:
    """Nothing is queued and nothing is in flight."""
    revision = make_revision()
    PlayedReplica(revision)
    with pytest.raises(Unsupported, match="no parts here"):
        send(revision, Unable())
    assert (revision.inflight, revision.waiting.rows) == (0, 0)


def test_a_client_without_room_holds_its_replica_and_no_other() -> None:
    """The link is told to go on once there is room, and only that of this request."""
    revision = make_revision()
    one, other = PlayedReplica(revision), PlayedReplica(revision)
    slow, _ = send(revision, Client(room=False))
    send(revision)
    revision.pump(0.0)
    held = one if one.batch == [slow] else other
    assert held.give("a") is False
    assert (one.heard, other.heard) == ([], [])
    slow.sink.resume(slow)
    assert (held.heard, (other if held is one else one).heard) == (["go on"], [])


@pytest.mark.parametrize("end", ["abandon", "expire", "give up", "unwritable"])
def test_what_nobody_waits_for_is_cancelled(end: str) -> None:
    """A client that has gone, a deadline, the end of a drain, or a part that cannot be written: the replica is told once, what it still
    sends is dropped, and it is idle again when it has come to its end."""
    revision = make_revision()
    replica = PlayedReplica(revision)
    request, client = send(revision, deadline=5.0)
    revision.pump(0.0)
    replica.give("a")
    if end == "abandon":
        revision.abandon(request)
    elif end == "expire":
        revision.expire(5.0)
    elif end == "give up":
        revision.give_up("the server is shutting down")
    else:
        client.refuses = ModelFailed("no text")
        replica.give("\N{REPLACEMENT CHARACTER}")
        client.refuses = None
    assert replica.heard == ["cancel"]
    assert replica.give("b") is True
    replica.end()
    expected = {"abandon": type(None), "expire": DeadlineExceeded, "give up": NotReady, "unwritable": ModelFailed}
    assert (client.words, client.ended, type(client.error)) == (["a"], 0, expected[end])
    assert revision.inflight == 0
    _, after = send(revision)
    revision.pump(9.0)
    replica.give("c")
    replica.end()
    assert (after.words, after.ended, replica.heard) == (["c"], 1, ["cancel"])


def test_what_waits_is_not_cancelled_but_never_run() -> None:
    """A request that expires in the queue concerns no replica."""
    revision = make_revision()
    replica = PlayedReplica(revision)
    send(revision)
    revision.pump(0.0)
    _, late = send(revision, deadline=1.0)
    revision.expire(1.0)
    assert (type(late.error), replica.heard) == (DeadlineExceeded, [])


def test_an_error_in_the_middle_ends_the_answer() -> None:
    """The client keeps its parts and gets the error; the replica takes the next request."""
    revision = make_revision()
    replica = PlayedReplica(revision)
    _, client = send(revision)
    revision.pump(0.0)
    replica.give("a")
    replica.fail()
    assert (client.words, type(client.error), client.times, replica.heard) == (["a"], ModelFailed, 1, [])
    _, after = send(revision)
    revision.pump(0.0)
    replica.end()
    assert after.ended


def test_a_death_in_the_middle_fails_and_one_before_the_first_part_is_run_again() -> None:
    """What the client has a part of cannot begin anew, though the model is idempotent; what it has nothing of can."""
    revision = make_revision()
    first, second = PlayedReplica(revision), PlayedReplica(revision)
    _, client = send(revision)
    revision.pump(0.0)
    busy, idle = (first, second) if first.batch else (second, first)
    busy.die()
    revision.pump(0.0)
    assert idle.batch
    assert client.times == 0
    idle.give("a")
    idle.die()
    assert isinstance(client.error, ReplicaLost)
    assert str(client.error) == "the replica of m-1 died in the middle of the answer"
    assert (client.words, client.times, revision.inflight, revision.waiting.rows) == (["a"], 1, 0, 0)


def test_a_part_that_took_too_long_is_told_as_the_reason() -> None:
    """A replica that ends itself over a part is not said to have died for no reason."""
    revision = make_revision()
    replica = PlayedReplica(revision)
    _, client = send(revision)
    revision.pump(0.0)
    replica.give("a")
    replica.overdue = True
    replica.die()
    assert "because a part took longer than batch_timeout (10 s), in the middle of the answer" in str(client.error)


# ---- the gateway's end of the link


class Wire:
    """A peer, its transport, and the gateway behind it."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.aborted = False
        self.transport = self
        self.time = 0.0
        self.catalogue = self
        self.revisions: dict[str, Any] = {}

    def send(self, frame: bytes) -> None:
        """Note a frame."""
        self.sent.append(frame)

    write = send

    def abort(self) -> None:
        """Note it."""
        self.aborted = True

    def now(self) -> float:
        """The time a test has set."""
        return self.time

    def replica_changed(self, replica: ReplicaLink) -> None:
        """Nothing follows."""

    def wake(self, revision: Revision) -> None:
        """Nothing follows."""

    def log(self, *_: Any) -> None:
        """Nothing is written."""

    def kinds(self) -> list[int]:
        """Return the kinds of the frames sent since the last call."""
        kinds = [link.FRAME.unpack_from(frame)[1] for frame in self.sent]
        self.sent.clear()
        return kinds


@pytest.fixture
def wired() -> Iterator[tuple[Wire, ReplicaLink]]:
    """A replica's link, with a revision of which it is the only replica."""
    wire = Wire()
    revision = make_revision()
    wire.revisions["m-1"] = revision
    hello = {"id": "m-1.0", "pid": 1, "revision": "m-1"}
    found = ReplicaLink(wire, wire, hello)  # type: ignore[arg-type]  # the wire has what a link uses of both
    found.attach(revision)
    yield wire, found
    found.requests.close()
    found.responses.close()


def part(at: ReplicaLink, size: int, flags: int = link.MORE) -> None:
    """Let one part of ``size`` bytes come, or the end."""
    data = frame_bytes([b"x" * size])
    tensors = [link.Packed(0, BYTES.code, (1,), (data,), len(data))] if flags else []
    frame = link.pack(link.RESULT, 1, tensors, at.responses, rows=1, nanoseconds=1000, flags=flags)
    at.frame(link.RESULT, flags, 1, memoryview(frame)[link.FRAME.size :])


def test_room_is_granted_by_weight(wired: tuple[Wire, ReplicaLink]) -> None:
    """Small parts are granted together, a large one at once, and all of them in the end weigh what the replica has sent."""
    wire, replica = wired
    revision = wire.revisions["m-1"]
    send(revision)
    revision.pump(0.0)
    assert wire.kinds() == [link.BATCH]
    weights = 0
    for size in (10, 10, link.WINDOW // 4, 3 * link.WINDOW, 10):
        part(replica, size)
        granted = [link.granted(frame[link.FRAME.size :]) for frame in wire.sent]
        assert len(granted) == (size > 10)
        weights += sum(granted)
        wire.sent.clear()
    assert weights > 3 * link.WINDOW + link.WINDOW // 4


def test_no_room_no_grant_and_no_hurry(wired: tuple[Wire, ReplicaLink]) -> None:
    """While the client has no room nothing is granted, and its slowness is not the replica's: the link is not cut. Once there is room,
    the time of the next part begins anew."""
    wire, replica = wired
    revision = wire.revisions["m-1"]
    request, client = send(revision, Client(room=False))
    revision.pump(0.0)
    part(replica, link.WINDOW)
    assert wire.kinds() == [link.BATCH]
    wire.time = 1000.0
    replica.watch(wire.time, 10.0)
    assert not wire.aborted
    client.resume(request)
    assert wire.kinds() == [link.GRANT]
    wire.time += 9.0
    replica.watch(wire.time, 10.0)
    assert not wire.aborted
    part(replica, 10)
    wire.time += 9.0
    replica.watch(wire.time, 10.0)
    assert not wire.aborted
    client.resume(request)
    wire.time += 11.5
    replica.watch(wire.time, 10.0)
    assert wire.aborted


def test_a_cancelled_replica_has_the_time_of_one_part(wired: tuple[Wire, ReplicaLink]) -> None:
    """It is told once, and cut off if it does not come to its end; its late parts take nobody's room."""
    wire, replica = wired
    revision = wire.revisions["m-1"]
    request, client = send(revision, Client(room=False))
    revision.pump(0.0)
    part(replica, 10)
    revision.abandon(request)
    assert wire.kinds() == [link.BATCH, link.CANCEL]
    part(replica, 10)
    part(replica, 0, 0)
    assert (replica.batch, replica.busy_since, client.times) == ([], None, 0)
    send(revision)
    revision.pump(0.0)
    wire.time += 11.5
    replica.watch(wire.time, 10.0)
    assert wire.aborted, "what was held before is not held now"


def test_a_part_of_a_whole_answer_is_a_fault_of_the_peer() -> None:
    """A replica of a model that gives whole answers cannot send parts; whoever does has his link cut."""
    fields: dict[str, Any] = {"max_rows": 8, "max_queue_rows": 4, "max_delay": 0.0, "batch_timeout": 10}
    signature = msgspec.Raw(msgspec.json.encode(msgspec.structs.replace(SIGNATURE, streams=False)))
    route = RevisionRoute(name="m-1", version=1, signature=signature, platform="test", **fields)
    whole = Revision(DeploymentRoute(name="m", model="m", timeout=30, split=(), revisions=()), route, Metrics(), 0.0)
    with pytest.raises(ValueError, match="sent a part of an answer"):
        whole.part(PlayedPeer(), [], 0.0, 0.0)  # type: ignore[arg-type]


class PlayedPeer:
    """Who is named."""

    id = "m-1.0"


# ---- the replica's end of the link


class Ends:
    """A replica's link whose other end a test holds."""

    def __init__(self) -> None:
        self.test, own = socket.socketpair()
        self.link = GatewayLink("nowhere")
        self.link.socket = own
        self.link._poll = select.poll()
        self.link._poll.register(own, select.POLLIN)
        self.link.requests, self.link.responses = link.Arena.create(), link.Arena.create()
        self.way = PartsUnderWay(self.link, 7)
        self.waits: list[bool] = []
        """For each look at the socket, whether it waited."""
        look = self.link.readable

        def readable(*, wait: bool) -> bool:
            self.waits.append(wait)
            return look(wait=wait)

        self.link.readable = readable  # type: ignore[method-assign]

    def send(self, size: int) -> int:
        """Send a part of ``size`` bytes; return what it weighs."""
        data = b"x" * size
        self.way.send([link.Packed(0, BYTES.code, (1,), (data,), size)], 1)
        head = self.test.recv(link.FRAME.size)
        length, kind, flags, _, batch = link.FRAME.unpack(head)
        assert (kind, flags, batch) == (link.RESULT, link.MORE, 7)
        payload = self.test.recv(length - 8, socket.MSG_WAITALL)
        assert self.link.responses is not None
        tensors = link.unpack(memoryview(payload), self.link.responses).tensors
        assert [bytes(tensor.data) for tensor in tensors] == [data]
        return link.weight(len(payload), [len(tensor.data) for tensor in tensors])

    def close(self) -> None:
        """Close both ends."""
        self.test.close()
        self.link.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Both ends of a link."""
    found = Ends()
    yield found
    found.close()


def test_parts_go_out_while_there_is_room(ends: Ends) -> None:
    """Below the window nothing is waited for."""
    for size in (0, 100, 100):
        ends.send(size)
    assert ends.waits == [False] * 3
    assert not ends.way.unwanted


def test_a_full_window_waits_for_room(ends: Ends) -> None:
    """The part that fills the window is sent, and then waited for until enough of it is granted, so that no later one overwrites what lies
    in the arena."""
    weight = link.weight(0, [3 * link.WINDOW])
    ends.test.sendall(link.grant(7, 10) + link.grant(7, weight))  # they lie there before it is sent
    ends.send(3 * link.WINDOW)
    assert ends.waits == [True, True, False]
    ends.waits.clear()
    ends.test.sendall(link.grant(8, 1 << 40) + link.grant(7, weight))  # the first is of another batch
    ends.send(3 * link.WINDOW)
    assert ends.waits == [True, True, False]
    assert not ends.way.unwanted


@pytest.mark.parametrize("size", [10, 3 * link.WINDOW])
def test_a_cancel_is_heard_between_parts(ends: Ends, size: int) -> None:
    """Whether there is room or not; a cancel of another batch is not meant."""
    ends.test.sendall(link.frame(link.CANCEL, b"", 6))
    ends.send(10)
    assert not ends.way.unwanted
    ends.test.sendall(link.frame(link.CANCEL, b"", 7))
    ends.send(size)
    assert ends.way.unwanted
    assert not ends.way.gone


def test_a_bye_in_the_middle_is_kept_for_the_end(ends: Ends) -> None:
    """The answer under way is finished."""
    ends.test.sendall(link.frame(link.BYE))
    ends.send(10)
    assert (ends.way.told_to_end, ends.way.unwanted) == (True, False)


def test_a_gateway_that_has_gone_is_noticed(ends: Ends) -> None:
    """Nobody waits any more."""
    ends.send(10)
    ends.test.close()
    ends.way.send([], 1)
    ends.way.send([], 1)
    assert ends.way.gone
    assert ends.way.unwanted


def test_frames_that_came_together_are_all_seen(ends: Ends) -> None:
    """A late cancel and the next batch may arrive in one piece: the second frame is there without another read."""
    body = json.dumps({"a": 1}).encode()
    ends.test.sendall(link.frame(link.CANCEL, b"", 7) + link.frame(link.BATCH, body, 8) + b"\x09")
    received = ends.link.receive()
    assert received is not None
    assert received[0] == link.CANCEL
    assert ends.link.holds_frame
    assert ends.link.readable(wait=True)
    received = ends.link.receive()
    assert received is not None
    assert (received[0], received[1], bytes(received[2])) == (link.BATCH, 8, body)
    assert not ends.link.holds_frame
    assert not ends.link.readable(wait=False)


class Played:
    """A worker whose model looks at its input before every part."""

    streams = True

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def stream(self, message: link.Message) -> Generator[tuple[list[link.Packed], int], None, int]:
        """Give three parts, and take five nanoseconds."""
        for at in range(3):
            self.seen.append(bytes(message.tensors[0].data))
            yield [], at
        return 5


def test_a_replica_answers_what_came_in_one_piece(ends: Ends) -> None:
    """Behind a late cancel lies a request, and behind that what is said about it: it is answered, and its input is not overwritten by
    what comes after it. The last frame of the answer has no flag and the time of the whole."""
    replica, worker = Replica.__new__(Replica), Played()
    replica._worker, replica._batch_timeout, replica._ending = worker, 10.0, False  # type: ignore[assignment]
    assert ends.link.requests is not None
    batch = link.pack(link.BATCH, 7, [link.Packed(0, BYTES.code, (1,), (b"good",), 4)], ends.link.requests, rows=1)
    ends.test.sendall(link.frame(link.CANCEL, b"", 6) + batch + link.frame(link.GRANT, bytes(8), 7) * 20)
    assert replica._answer_all(ends.link)
    assert worker.seen == [b"good"] * 3
    data, at, seen = ends.test.recv(1 << 16), 0, []
    while at < len(data):
        length, kind, flags, _, number = link.FRAME.unpack_from(data, at)
        payload = memoryview(data)[at + link.FRAME.size : at + 4 + length]
        assert ends.link.responses is not None
        seen.append((kind, flags, number, link.unpack(payload, ends.link.responses).nanoseconds))
        at += 4 + length
    assert seen == [(link.RESULT, flags, 7, time) for flags, time in ((1, 0), (1, 1), (1, 2), (0, 5))]


def test_times_are_those_of_the_model() -> None:
    """A part tells the seconds up to it, as the batch it is; the whole is counted at the end."""
    revision = make_revision()
    replica = PlayedReplica(revision)
    responses: list[InferResponse] = []

    class Watching(Client):
        def streamed(self, request: InferRequest, response: InferResponse) -> bool:
            responses.append(response)
            return super().streamed(request, response)

    send(revision, Watching())
    revision.pump(0.0)
    replica.give("a", 4.0)
    assert responses[0].batch == Batch(0.001, 1, 4.0)
    assert (responses[0].model, responses[0].version) == ("m", "1")
