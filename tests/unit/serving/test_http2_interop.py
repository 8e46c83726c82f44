"""Our connection against an independent implementation of HTTP/2, through a pipe in memory: requests one way, answers the other."""

from __future__ import annotations

import random
from collections.abc import Callable

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from http2_peer import OK, TRAILERS, Peer, Recorder, echo

from headgate.serving.wire.http2.frames import ErrorCode
from headgate.serving.wire.http2.headers import encode_block
from headgate.serving.wire.http2.settings import Http2Limits

FIELDS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "localhost:8080"),
    (":path", "/inference.GRPCInferenceService/ModelInfer"),
    ("te", "trailers"),
    ("content-type", "application/grpc"),
]


class Pipe:
    """h2 as the client, our connection as the server; each piece of bytes is at most ``step`` long."""

    def __init__(
        self, step: int = 1 << 20, answers: Callable[[Recorder], None] | None = echo, limits: Http2Limits | None = None
    ) -> None:
        self.step = step
        self.server = Peer(limits, answers=answers, greet=False)
        self.client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.client.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.bodies: dict[int, bytes] = {}
        self.ended: dict[int, dict[str, str]] = {}
        """Stream to its trailers."""
        self.flow()

    def flow(self) -> None:
        """Carry bytes both ways until none are left."""
        while True:
            self.server.run()
            down, up = b"".join(self.server.transport.writes), self.client.data_to_send() or b""
            self.server.transport.writes.clear()
            if not down and not up:
                return
            for at in range(0, len(up), self.step):
                self.server.send(up[at : at + self.step])
            for at in range(0, len(down), self.step):
                for event in self.client.receive_data(down[at : at + self.step]):
                    self._take(event)

    def _take(self, event: h2.events.Event) -> None:
        self.events.append(event)
        if isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
            self.client.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            self.ended[event.stream_id] = {name.decode(): value.decode() for name, value in event.headers}

    def ask(self, body: bytes, fields: list[tuple[str, str]] = FIELDS, padding: int | None = None) -> int:
        """Send a whole request, as its windows allow."""
        stream_id = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, fields)
        at = 0
        while at < len(body):
            room = min(self.client.local_flow_control_window(stream_id), self.client.max_outbound_frame_size)
            size = min(room if padding is None else room - padding - 1, len(body) - at)
            assert size > 0
            self.client.send_data(stream_id, body[at : at + size], pad_length=padding)
            at += size
            self.flow()
        self.client.end_stream(stream_id)
        return stream_id

    def kinds(self) -> set[type[h2.events.Event]]:
        """The kinds of events so far."""
        return {type(event) for event in self.events}


@pytest.mark.parametrize("step", [1, 13, 1000, 1 << 20])
def test_bodies_come_back_as_they_went(step: int) -> None:
    """Bytes of any size, headers with trailers, whatever the pieces they travel in; windows open as they are used, both ways."""
    pipe = Pipe(step)
    sizes = [0, 1, 100, 16_384, 70_000] if step < 1000 else [0, 100, 16_385, 70_000, 3_000_000]
    sent = {}
    for size in sizes:
        body = random.Random(size).randbytes(size)
        sent[pipe.ask(body)] = body
        pipe.flow()
    assert {stream_id: pipe.bodies.get(stream_id, b"") for stream_id in sent} == sent
    assert pipe.ended == {stream_id: {"grpc-status": "0"} for stream_id in sent}
    assert not pipe.server.connection.streams
    assert h2.events.ConnectionTerminated not in pipe.kinds()


def test_many_streams_at_once() -> None:
    """Requests begun before any is answered, and answered in another order."""
    waiting: list[Recorder] = []
    pipe = Pipe(5000, answers=waiting.append)
    sent = {
        stream_id: b"%d" % stream_id * 3000 for stream_id in [pipe.ask(b"%d" % stream_id * 3000) for stream_id in range(1, 200, 2)]
    }
    pipe.flow()
    assert len(waiting) == 100
    random.Random(1).shuffle(waiting)
    for stream in waiting:
        echo(stream)
    pipe.flow()
    assert pipe.bodies == sent
    assert len(pipe.ended) == 100


def test_padding_is_understood() -> None:
    """Padded DATA, in several frames."""
    pipe = Pipe(777)
    stream_id = pipe.ask(b"x" * 50_000, padding=200)
    pipe.flow()
    assert pipe.bodies[stream_id] == b"x" * 50_000


@pytest.mark.parametrize("size", [0, 100, 4096, 65_536])
def test_header_tables_of_any_size(size: int) -> None:
    """A client that allows us a small table, or none, waits for our word that we keep to it."""
    pipe = Pipe()
    pipe.client.update_settings({h2.settings.SettingCodes.HEADER_TABLE_SIZE: size})
    pipe.flow()
    for _ in range(3):
        pipe.ask(b"abc")
        pipe.flow()
    assert len(pipe.ended) == 3


def test_header_tables_stay_in_step() -> None:
    """Thousands of requests whose headers change now and then, as metadata does: every one is read as it was sent."""
    pipe = Pipe()
    seen: list[tuple[tuple[str, str], ...]] = []
    pipe.server.answers = lambda stream: (seen.append(stream.headers.fields), echo(stream))[1]
    draw = random.Random(7)
    expected = []
    for _ in range(2000):
        fields = [("x-kind", f"v{draw.randrange(6)}"), ("x-large", "y" * draw.choice([1, 1, 1, 300, 1500]))]
        fields = draw.sample(fields, draw.randrange(3))
        pipe.ask(b"", FIELDS + fields)
        pipe.flow()
        expected.append(tuple(FIELDS[4:] + fields))
    assert seen == expected


def test_large_headers_travel_in_continuations() -> None:
    """Ours and theirs: beyond the largest frame they are cut."""
    block = encode_block([(b":status", b"200"), (b"x-large", b"y" * 40_000)])
    pipe = Pipe(limits=Http2Limits(header_bytes=60_000))
    pipe.server.answers = lambda stream: stream.connection.send_reply(stream.stream_id, block, b"abc", TRAILERS)
    pipe.client.local_settings.max_header_list_size = 1 << 20
    pipe.client.decoder.max_header_list_size = 1 << 20
    stream_id = pipe.ask(b"abc", [*FIELDS, *((f"x-{n}", "a" * 1000) for n in range(40))])
    pipe.flow()
    assert len(pipe.server.opened[stream_id].headers.fields) == 42
    answer = next(event for event in pipe.events if isinstance(event, h2.events.ResponseReceived))
    assert dict(answer.headers)[b"x-large"] == b"y" * 40_000


def test_windows_that_shrink_and_grow_under_a_body() -> None:
    """The client changes its initial window while an answer is under way, below zero too."""
    pipe = Pipe(answers=None)
    stream_id = pipe.ask(b"abc")
    pipe.flow()
    connection = pipe.server.connection
    connection.send_headers(stream_id, OK)
    body = random.Random(3).randbytes(400_000)
    acknowledge, pipe.client.acknowledge_received_data = pipe.client.acknowledge_received_data, lambda size, stream_id: None
    assert not connection.send_data(stream_id, body, True)
    pipe.flow()
    assert len(pipe.bodies[stream_id]) == 65_535
    for window in (1000, 0, 30_000, 200_000):
        pipe.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
        pipe.flow()
    pipe.client.acknowledge_received_data = acknowledge
    pipe.client.increment_flow_control_window(400_000)
    pipe.client.increment_flow_control_window(400_000, stream_id)
    pipe.flow()
    assert pipe.bodies[stream_id] == body
    assert h2.events.StreamEnded in pipe.kinds()


def test_an_early_answer_stops_the_client() -> None:
    """It sees the whole answer, then a reset without an error."""
    pipe = Pipe(answers=None)
    stream_id = pipe.client.get_next_available_stream_id()
    pipe.client.send_headers(stream_id, FIELDS)
    pipe.client.send_data(stream_id, b"x" * 1000)
    pipe.flow()
    pipe.server.connection.send_reply(stream_id, OK, b"enough", TRAILERS)
    pipe.flow()
    assert pipe.bodies[stream_id] == b"enough"
    assert stream_id in pipe.ended
    assert pipe.ask(b"") == stream_id + 2


def test_resets_and_pings_go_both_ways() -> None:
    """Cancelled by the client, given up by us, and a ping in between."""
    pipe = Pipe(answers=None)
    first, second = pipe.ask(b"abc"), pipe.ask(b"abc")
    pipe.flow()
    pipe.client.reset_stream(first, int(ErrorCode.CANCEL))
    pipe.client.ping(b"12345678")
    pipe.server.connection.reset(second, ErrorCode.INTERNAL_ERROR)
    pipe.flow()
    assert pipe.server.opened[first].code == ErrorCode.CANCEL
    resets = [event for event in pipe.events if isinstance(event, h2.events.StreamReset)]
    assert [(event.stream_id, event.error_code) for event in resets] == [(second, ErrorCode.INTERNAL_ERROR)]
    assert h2.events.PingAckReceived in pipe.kinds()


def test_draining_is_understood() -> None:
    """The client sees the GOAWAY; the connection ends when it has answered, or not."""
    pipe = Pipe()
    pipe.ask(b"abc")
    pipe.flow()
    pipe.server.connection.drain()
    pipe.server.run()
    goaway = pipe.server.transport.writes.pop()[: 9 + 8]
    event = pipe.client.receive_data(goaway)[0]
    assert isinstance(event, h2.events.ConnectionTerminated)
    assert event.error_code == ErrorCode.NO_ERROR
    pipe.server.wait(4)
    assert pipe.server.transport.ended


def test_a_refusal_is_understood() -> None:
    """GOAWAY with the code and the words."""
    pipe = Pipe()
    pipe.server.send(b"\0\0\1\0\0\0\0\0\0x")
    pipe.flow()
    (event,) = [event for event in pipe.events if isinstance(event, h2.events.ConnectionTerminated)]
    assert event.error_code == ErrorCode.PROTOCOL_ERROR
    assert event.additional_data == b"DATA on stream 0"
