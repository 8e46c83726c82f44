"""Messages of gRPC as no library sends them: cut, repeated, compressed, lying about their size."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest
from serving import Server
from wire_calls import INFER, STREAM, Wire, both, infer, memory, message

from headgate.protocols.base.wireformat import varint

OK, CANCELLED, INVALID, DEADLINE, EXHAUSTED, UNIMPLEMENTED, DENIED = 0, 1, 3, 4, 8, 12, 7


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    """A connection, on which the next call must be fine whatever came before."""
    with Wire(server) as connection:
        yield connection
        assert infer(connection).status == OK


def test_a_message_byte_by_byte(wire: Wire) -> None:
    """Every byte in a DATA frame of its own."""
    stream_id = wire.begin(INFER)
    wire.send(stream_id, message(both()), end=True, piece=1)
    assert wire.outcome(stream_id).answer.model_name == "sum"


@pytest.mark.parametrize(
    ("data", "status", "text"),
    [
        (message(both()) * 2, UNIMPLEMENTED, "more than one came"),
        (message(both()) + b"\x00", UNIMPLEMENTED, "more than one came"),
        (b"", INVALID, "before its message was whole"),
        (b"\x00", INVALID, "before its message was whole"),
        (message(both())[:-1], INVALID, "before its message was whole"),
        (b"\x02" + message(both())[1:], INVALID, "the flag 2"),
        (message(zlib.compress(both()), 1), INVALID, "no grpc-encoding"),
    ],
    ids=["two", "one and a byte", "none", "one byte", "cut", "flag", "compressed by nothing"],
)
def test_bodies_that_are_not_one_message(wire: Wire, data: bytes, status: int, text: str) -> None:
    """Each with its own status, in trailers alone, and the server's id for it."""
    outcome = wire.call(data)
    assert (outcome.status, outcome.blocks, outcome.body) == (status, 1, b"") and text in outcome.text
    assert outcome.fields[":status"] == "200" and outcome.fields["content-type"] == "application/grpc"
    assert outcome.fields["x-request-id"]


def test_p71_a_length_beyond_the_limit_is_refused_before_its_bytes(wire: Wire) -> None:
    """Five bytes suffice; the client is told to stop."""
    stream_id = wire.begin(INFER)
    wire.send(stream_id, b"\x00\xff\xff\xff\xff")
    outcome = wire.outcome(stream_id)
    assert outcome.status == EXHAUSTED and "4294967295 bytes exceeds the maximum allowed" in outcome.text


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_p72_compressed_messages(wire: Wire, coding: str) -> None:
    """They are read; one that calls itself so and is not compressed, too; what is large is answered compressed where gzip came."""
    bits = 31 if coding == "gzip" else 15
    for rows, compressed in ((1, True), (100, True), (100, False)):
        packer = zlib.compressobj(1, zlib.DEFLATED, bits)
        data = both(rows)
        body = message(packer.compress(data) + packer.flush(), 1) if compressed else message(data)
        outcome = wire.call(body, {"grpc-encoding": coding})
        assert list(outcome.answer.outputs[0].shape) == [rows, 16]
        assert outcome.body[0] == (coding == "gzip" and compressed and rows == 100)


@pytest.mark.parametrize("data", [b"", b"rubbish", zlib.compress(b"x")[:-1], zlib.compress(b"x") + b"x"])
def test_what_does_not_inflate(wire: Wire, data: bytes) -> None:
    """It is the client's mistake."""
    outcome = wire.call(message(data, 1), {"grpc-encoding": "deflate"})
    assert outcome.status == INVALID and "not valid deflate" in outcome.text


def test_a_coding_nobody_knows(wire: Wire) -> None:
    """UNIMPLEMENTED, with those that are known."""
    outcome = wire.call(message(both()), {"grpc-encoding": "snappy"})
    assert outcome.status == UNIMPLEMENTED and "snappy" in outcome.text
    assert outcome.fields["grpc-accept-encoding"] == "identity,gzip,deflate"


def test_bombs_that_inflate(server: Server, wire: Wire) -> None:
    """A gigabyte in a megabyte, one call or sixty of them on one stream: refused, and the memory of few of them is ever taken."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    bomb = b"".join(packer.compress(zeros) for _ in range(70)) + packer.flush()
    before = memory(server)
    assert wire.call(message(bomb, 1), {"grpc-encoding": "gzip"}).status == EXHAUSTED
    stream_id = wire.begin(STREAM, {"grpc-encoding": "gzip"})
    wire.pour(stream_id, message(bomb, 1) * 12)
    assert wire.outcome(stream_id).body.count(b"inflates to more than the maximum allowed") == 12
    assert memory(server) - before < 400 << 20


@pytest.mark.parametrize("kind", ["inputs", "parameters", "shape", "groups"])
def test_bombs_that_unfold(server: Server, wire: Wire, kind: str) -> None:
    """Millions of empty messages, or of tiny numbers, are refused for what they would become, before they do."""
    size = 24 << 20
    many = {"inputs": b"\x2a\x00", "parameters": b"\x22\x00", "shape": b"\x01", "groups": b"\x2a\x00"}[kind] * size
    many = many[:size]
    if kind == "shape":
        many = b"\x1a" + varint(size) + many
        many = b"\x2a" + varint(len(many)) + many
    if kind == "groups":
        many = b"\x9b\x06\x9c\x06" + many
    before = memory(server)
    stream_id = wire.begin(INFER)
    wire.pour(stream_id, message(many))
    outcome = wire.outcome(stream_id)
    assert outcome.status == (INVALID if kind == "groups" else EXHAUSTED), outcome
    assert memory(server) - before < 200 << 20
