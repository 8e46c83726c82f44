"""Streams of gRPC: a thousand messages at once, clients that do not read, cancel, go on after an error, or are overtaken by the end."""

from __future__ import annotations

import signal
import struct
import time
import zlib
from collections.abc import Iterator

import pytest
from http2_caller import messages
from serving import Served, Server, eventually
from wire_calls import STREAM, Wire, both, gate, held, infer, let_go, memory, message, queued

OK, INVALID, NOT_FOUND, DEADLINE, EXHAUSTED = 0, 3, 5, 4, 8
HEALTH = "/grpc.health.v1.Health/Watch"


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    """A connection, on which the next call must be fine whatever came before."""
    with Wire(server) as connection:
        yield connection
        assert infer(connection).status == OK


def values(found: list[object]) -> list[int]:
    """Return what the model ``gate`` or ``probe`` has answered."""
    return [struct.unpack("<q", item.infer_response.raw_output_contents[0])[0] for item in found]  # type: ignore[attr-defined]


def test_a_thousand_messages_at_once(server: Server, wire: Wire) -> None:
    """Answered in their order, though the queue has room for few; half of the connection closes with the last."""
    stream_id = wire.begin(STREAM)
    numbers = [700_000 + number for number in range(1000)]
    wire.pour(stream_id, b"".join(message(gate(number, "probe")) for number in numbers))
    outcome = wire.outcome(stream_id)
    assert outcome.status == OK
    assert values(messages(outcome.body)) == numbers


def test_no_more_is_taken_than_may_wait(server: Server, wire: Wire) -> None:
    """While the model is held, the server grants no more than one window; afterwards all are answered."""
    first = held(server, wire, -701)
    stream_id = wire.begin(STREAM)
    one = message(both(100))
    wire.send(stream_id, message(gate(701)))
    for _ in range(63):
        wire.pour(stream_id, one, end=False)
    wire.settle()
    before = wire.room[stream_id]
    assert before > 0
    wire.pour(stream_id, bytes([0]) + (4 << 20).to_bytes(4, "big") + bytes(before - 5), end=False)
    wire.settle()
    assert wire.room[stream_id] == 0, "no room is granted for what cannot be queued"
    let_go(server, -701)
    wire.pour(stream_id, bytes((4 << 20) - before + 5))
    outcome = wire.outcome(stream_id)
    found = messages(outcome.body)
    assert len(found) == 65 and found[-1].error_message and not any(item.error_message for item in found[:-1])
    assert wire.outcome(first).status == OK


def test_a_client_that_reads_nothing(server: Server) -> None:
    """What it sends is not answered into memory without end: it is stopped, and goes on where it stopped once it reads."""
    with Wire(server, window=0) as wire:
        stream_id = wire.begin(STREAM)
        bad = message(b"\xff" * 100)
        count = (1 << 20) // len(bad)
        before = memory(server)
        wire.pour(stream_id, bad * count, end=False)
        assert wire.room[stream_id] < 1 << 19
        assert memory(server) - before < 64 << 20
        wire.grant(stream_id, 1 << 30)
        wire.pour(stream_id, bad * 10)
        outcome = wire.outcome(stream_id)
        assert outcome.status == OK
        found = messages(outcome.body)
        assert len(found) == count + 10 and all("cannot be parsed" in item.error_message for item in found)


def test_empty_messages_cost_no_more_than_their_bytes(wire: Wire) -> None:
    """A window full of them, each an error in the band, is worked off in seconds."""
    stream_id = wire.begin(STREAM)
    begun = time.monotonic()
    wire.pour(stream_id, bytes(5) * 20_000)
    outcome = wire.outcome(stream_id)
    assert outcome.status == OK and len(messages(outcome.body)) == 20_000
    assert time.monotonic() - begun < 60.0


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_stream_that_ends_in_a_message(wire: Wire, cut: int) -> None:
    """Those before it are answered, then the call fails."""
    outcome = wire.call(message(both()) + message(both())[:cut], {}, STREAM)
    assert outcome.status == INVALID and "before its last message was whole" in outcome.text
    assert len(messages(outcome.body)) == 1


def test_a_frame_that_is_malformed_ends_the_stream(wire: Wire) -> None:
    """After it nothing can be read any more."""
    outcome = wire.call(b"\x07" + message(both())[1:], {}, STREAM)
    assert outcome.status == INVALID and "flag 7" in outcome.text


def test_compressed_messages_keep_their_order(wire: Wire) -> None:
    """A large one is inflated in a thread; the small ones behind it do not overtake it on their way to the model."""
    data = []
    for rows in (6000, 1, 2, 1500, 3):
        packer = zlib.compressobj(1, zlib.DEFLATED, 31)
        data.append(message(packer.compress(both(rows)) + packer.flush(), 1))
    stream_id = wire.begin(STREAM, {"grpc-encoding": "gzip"})
    wire.pour(stream_id, b"".join(data))
    outcome = wire.outcome(stream_id)
    assert outcome.status == OK
    body, at, rows = outcome.body, 0, []
    while at < len(body):
        size = int.from_bytes(body[at + 1 : at + 5], "big")
        part = body[at + 5 : at + 5 + size]
        part = zlib.decompress(part, 31) if body[at] else part
        rows.append(messages(message(part))[0].infer_response.outputs[0].shape[0])
        at += 5 + size
    assert rows == [6000, 1, 2, 1500, 3]


def test_errors_in_the_band_and_those_that_end_it(wire: Wire) -> None:
    """An error is a message with its request's id; with the header of Triton's clients it is the status."""
    asked = message(both(id="1")) + message(both(model="nobody", id="2")) + message(both(id="3"))
    found = messages(wire.call(asked, {}, STREAM).body)
    assert [(item.infer_response.id, bool(item.error_message)) for item in found] == [("1", False), ("2", True), ("3", False)]
    outcome = wire.call(asked, {"triton_grpc_error": "true"}, STREAM)
    assert outcome.status == NOT_FOUND and len(messages(outcome.body)) == 1


def test_a_stream_that_is_cancelled(server: Server, wire: Wire) -> None:
    """What waits of it is not run, and makes room."""
    first = held(server, wire, -711)
    stream_id = wire.begin(STREAM)
    wire.send(stream_id, message(gate(711)) + message(gate(712)))
    eventually(lambda: queued(server) == 2, "two wait")
    wire.reset(stream_id)
    eventually(lambda: queued(server) == 0, "none waits")
    let_go(server, -711)
    assert wire.outcome(first).status == OK
    assert wire.call(message(gate(713))).status == OK
    assert not {711, 712} & set(server.executed("gate-1"))


def test_p73_the_deadline_of_a_stream(server: Server, wire: Wire) -> None:
    """It ends all of it: what was answered stays, what waits is given up."""
    first = held(server, wire, -721)
    stream_id = wire.begin(STREAM, {"grpc-timeout": "400m"})
    wire.send(stream_id, message(both()) + message(gate(721)))
    outcome = wire.outcome(stream_id)
    assert outcome.status == DEADLINE and len(messages(outcome.body)) == 1
    assert queued(server) == 0
    let_go(server, -721)
    assert wire.outcome(first).status == OK


def test_a_deadline_that_passes_while_the_last_answer_waits_for_the_client(server: Server) -> None:
    """The end is known by then: it comes as it was, once."""
    with Wire(server, window=10) as wire:
        stream_id = wire.begin(STREAM, {"grpc-timeout": "300m"})
        wire.send(stream_id, message(both(model="nobody")) + message(b"\xff"), end=True)
        time.sleep(0.6)
        wire.grant(stream_id, 1 << 20)
        assert wire.outcome(stream_id).status in (OK, DEADLINE)
        assert [name for name, _ in wire.headers[stream_id]].count("grpc-status") == 1


def test_what_comes_after_the_end_of_an_answer_that_waits(server: Server) -> None:
    """A client without room goes on sending behind the error that ends its call: nobody answers twice."""
    with Wire(server, window=0) as wire:
        asked = {"triton_grpc_error": "true"}
        stream_id = wire.begin(STREAM, asked)
        wire.send(stream_id, message(both()))
        eventually(lambda: server.metric("headgate_queue_rows", deployment="sum") == 0, "it is answered")
        for _ in range(3):
            wire.send(stream_id, message(both(model="nobody")))
        plain = wire.begin("/v2/models/sum/infer", {"content-type": "application/json", "te": ""})
        for _ in range(6):
            wire.pour(plain, bytes(1 << 20), end=False)
        wire.pour(plain, b"x")
        wire.grant(stream_id, 1 << 20)
        wire.grant(plain, 1 << 20)
        assert wire.outcome(stream_id).status == NOT_FOUND
        assert wire.outcome(plain).fields[":status"] == "413"
    assert server.get("/v2/health/live").status == 200


def test_p72_x22_watch_tells_a_change_and_a_drain_waits_for_streams(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Readiness that goes is told to whoever watches; at the end what is in flight on a stream is answered first."""
    running = Server(tmp_path_factory.mktemp("drained"), [Served("gate", "Gate", max_rows=1)])
    try:
        with Wire(running) as wire:
            watch = wire.begin(HEALTH)
            wire.send(watch, message(b""), end=True)
            wire.until(watch, 7)
            assert wire.bodies[watch] == message(b"\x08\x01")
            stream_id = wire.begin(STREAM)
            wire.send(stream_id, message(gate(-1)) + message(gate(1)))
            eventually(lambda: -1 in running.executed("gate-1"), "the gate is held")
            running.gateway.send_signal(signal.SIGTERM)
            wire.until(watch, 14)
            assert wire.bodies[watch][7:] == message(b"\x08\x02"), "not serving"
            let_go(running, -1)
            while len(messages(wire.bodies[stream_id])) < 2:
                wire.step()
            assert values(messages(wire.bodies[stream_id])) == [-1, 1]
            wire.more(stream_id, b"", end=True)
            assert wire.outcome(stream_id).status == OK
        assert running.gateway.wait(60) == 0
        assert not running.complaints()
    finally:
        running.stop()
