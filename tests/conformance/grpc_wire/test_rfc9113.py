"""What RFC 9113 demands of a server, a row for each demand, over a real connection; the sections are those of the RFC.

A row is what a client sends behind its greeting, and what comes of it: nothing (it is tolerated, and the connection works on), the end of
one stream, or the end of the connection, the last two with their error code. RFC 7541 is HPACK.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import hpack
import pytest
from serving import Server
from wire_calls import message

from headgate.serving.wire.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEAD,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
    rst_stream,
    settings,
    unpack_head,
    window_update,
)

Fields = list[tuple[str, str]]
WHOLE, ACK = END_HEADERS | END_STREAM, 1
LARGEST = (1 << 31) - 1
GET: Fields = [(":method", "GET"), (":scheme", "http"), (":path", "/v2/health/live"), (":authority", "localhost")]
POST: Fields = [(":method", "POST"), (":scheme", "http"), (":path", "/v2/models/sum/infer"), (":authority", "localhost")]
GRPC: Fields = [("content-type", "application/grpc"), ("te", "trailers")]
WATCHING: Fields = [*POST[:2], (":path", "/grpc.health.v1.Health/Watch"), POST[3], *GRPC]
"""A call that stays open when the client has ended its side."""


def block(fields: Fields) -> bytes:
    """Return a header block that leaves the dynamic table alone, so that rows may be read by themselves."""
    return bytes(hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(name, value) for name, value in fields], huffman=False))


def literal(name: bytes, value: bytes) -> bytes:
    """Return a field of a block, whatever it holds."""
    return bytes([0x10, len(name)]) + name + bytes([len(value)]) + value


def request(fields: Fields, flags: int = WHOLE, extra: bytes = b"", stream_id: int = 1) -> bytes:
    """Return the HEADERS of a request, ``extra`` behind its fields."""
    return frame(HEADERS, flags, stream_id, block(fields) + extra)


def without(name: str) -> Fields:
    """Return `GET` without one of its pseudo-headers."""
    return [field for field in GET if field[0] != name]


OPEN = request(POST, END_HEADERS)
"""Stream 1 is open."""
HALF = request(WATCHING, END_HEADERS) + frame(DATA, END_STREAM, 1, message(b""))
"""The client has ended its side of stream 1, and the server has not."""
CLOSED = OPEN + rst_stream(1, ErrorCode.CANCEL)
"""The client has given up stream 1."""
TRAILERS = frame(HEADERS, WHOLE, 1, block([("x-sum", "1")]))
CUT = block(GET)[:5], block(GET)[5:]


class Row(NamedTuple):
    """One demand."""

    section: str
    what: str
    sent: bytes
    code: ErrorCode | None = None
    """None: it is tolerated."""
    whole: bool = True
    """It ends the connection, and not only stream 1."""


def stream(section: str, what: str, sent: bytes, code: ErrorCode) -> Row:
    """A row that ends stream 1."""
    return Row(section, what, sent, code, whole=False)


E = ErrorCode
FRAMES = [
    Row("4.1", "a type that nobody knows", frame(0xFA, 0xFF, 1, b"x" * 99) + frame(0xFB, 0, 0, b"")),
    Row("4.1", "flags that nobody knows", frame(PING, 0xFE, 0, b"12345678") + request(GET, WHOLE | 0xC2)),
    Row("4.1", "the reserved bit of a stream", frame(WINDOW_UPDATE, 0, 1 << 31, b"\0\0\0\1")),
    Row("4.2", "a frame above the announced size", b"\x10\x00\x01" + bytes([DATA, 0, 0, 0, 0, 1]), E.FRAME_SIZE_ERROR),
    Row("4.2", "one above it of no known type", b"\xff\xff\xff" + bytes([0xFA, 0, 0, 0, 0, 0]), E.FRAME_SIZE_ERROR),
    Row("6.1", "DATA on the connection", frame(DATA, 0, 0, b"x"), E.PROTOCOL_ERROR),
    Row("6.1", "padding as long as its frame", OPEN + frame(DATA, PADDED, 1, b"\x04xxx"), E.PROTOCOL_ERROR),
    Row("6.1", "nothing but padding", OPEN + frame(DATA, PADDED, 1, b"\x03\0\0\0")),
    Row("6.2", "HEADERS on the connection", frame(HEADERS, WHOLE, 0, block(GET)), E.PROTOCOL_ERROR),
    Row("6.2", "padding as long as its frame", frame(HEADERS, WHOLE | PADDED, 1, b"\x05" + b"\x82" * 4), E.PROTOCOL_ERROR),
    Row("6.2", "no room for a priority", frame(HEADERS, WHOLE | PRIORITIZED, 1, b"\0\0\0\0"), E.FRAME_SIZE_ERROR),
    Row("6.2", "padding and priority", frame(HEADERS, WHOLE | PADDED | PRIORITIZED, 1, b"\2\0\0\0\3\7" + block(GET) + b"\0\0")),
    Row("6.3", "PRIORITY on the connection", frame(PRIORITY, 0, 0, b"\0\0\0\1\7"), E.PROTOCOL_ERROR),
    Row("6.3", "PRIORITY of another size", frame(PRIORITY, 0, 1, b"\0\0\0\1"), E.FRAME_SIZE_ERROR),
    Row("5.3.2", "a stream that depends on itself", frame(PRIORITY, 0, 1, b"\0\0\0\1\7")),
    Row("5.3.2", "a request that depends on itself", frame(HEADERS, WHOLE | PRIORITIZED, 1, b"\0\0\0\1\7" + block(GET))),
    Row("6.4", "RST_STREAM on the connection", frame(RST_STREAM, 0, 0, b"\0\0\0\x08"), E.PROTOCOL_ERROR),
    Row("6.4", "RST_STREAM of another size", OPEN + frame(RST_STREAM, 0, 1, b"\0\0\x08"), E.FRAME_SIZE_ERROR),
    Row("7", "codes that nobody knows", OPEN + rst_stream(1, 0xFF)),
    Row("6.5", "SETTINGS on a stream", frame(SETTINGS, 0, 1), E.PROTOCOL_ERROR),
    Row("6.5", "half a setting", frame(SETTINGS, 0, 0, b"\0\4\0\0\0"), E.FRAME_SIZE_ERROR),
    Row("6.5", "an acknowledgement that says something", frame(SETTINGS, ACK, 0, b"\0\0\0\0\0\0"), E.FRAME_SIZE_ERROR),
    Row("6.5.2", "a push that is neither on nor off", settings([(2, 2)]), E.PROTOCOL_ERROR),
    Row("6.5.2", "an initial window beyond the largest", settings([(4, 1 << 31)]), E.FLOW_CONTROL_ERROR),
    Row("6.5.2", "frames smaller than allowed", settings([(5, (1 << 14) - 1)]), E.PROTOCOL_ERROR),
    Row("6.5.2", "frames larger than allowed", settings([(5, 1 << 24)]), E.PROTOCOL_ERROR),
    Row("6.5.2", "a setting that nobody knows", settings([(0xFF, 1), (2, 0), (1, 0), (6, 1)])),
    Row("6.5.3", "an acknowledgement of nothing", SETTINGS_ACK),
    Row(
        "6.6", "PUSH_PROMISE from a client", OPEN + frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + block(GET)), E.PROTOCOL_ERROR
    ),
    Row("6.7", "PING on a stream", frame(PING, 0, 1, b"12345678"), E.PROTOCOL_ERROR),
    Row("6.7", "PING of another size", frame(PING, 0, 0, b"1234567"), E.FRAME_SIZE_ERROR),
    Row("6.7", "an answer to no PING", frame(PING, ACK, 0, b"12345678")),
    Row("6.8", "GOAWAY on a stream", frame(GOAWAY, 0, 1, bytes(8)), E.PROTOCOL_ERROR),
    Row("6.8", "GOAWAY too short for its code", frame(GOAWAY, 0, 0, bytes(7)), E.FRAME_SIZE_ERROR),
]
WINDOWS = [
    Row("6.9", "an update by nothing, of the connection", window_update(0, 0), E.PROTOCOL_ERROR),
    stream("6.9", "an update by nothing, of a stream", OPEN + window_update(1, 0), E.PROTOCOL_ERROR),
    Row("6.9", "an update of another size", frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"), E.FRAME_SIZE_ERROR),
    Row("6.9.1", "the connection's window beyond the largest", window_update(0, LARGEST), E.FLOW_CONTROL_ERROR),
    stream("6.9.1", "a stream's window beyond the largest", OPEN + window_update(1, LARGEST), E.FLOW_CONTROL_ERROR),
    Row(
        "6.9.2", "the same by a setting", OPEN + window_update(1, LARGEST - 65_535) + settings([(4, 65_536)]), E.FLOW_CONTROL_ERROR
    ),
    Row("6.9.2", "windows below nothing", HALF + settings([(4, 0)]) + settings([(4, 65_535)])),
]
STREAMS = [
    Row("5.1", "DATA on an idle stream", frame(DATA, 0, 1, b"x"), E.PROTOCOL_ERROR),
    Row("5.1", "RST_STREAM on an idle stream", rst_stream(1, 8), E.PROTOCOL_ERROR),
    Row("5.1", "WINDOW_UPDATE on an idle stream", window_update(1, 1), E.PROTOCOL_ERROR),
    Row("5.1", "CONTINUATION on an idle stream", frame(CONTINUATION, END_HEADERS, 1, block(GET)), E.PROTOCOL_ERROR),
    stream("5.1", "DATA behind the end of a request", HALF + frame(DATA, 0, 1, b"x"), E.STREAM_CLOSED),
    stream("5.1", "HEADERS behind the end of a request", HALF + TRAILERS, E.STREAM_CLOSED),
    Row("5.1", "CONTINUATION behind the end of a request", HALF + frame(CONTINUATION, END_HEADERS, 1, b"\x82"), E.PROTOCOL_ERROR),
    Row("5.1", "a window behind the end of a request", HALF + window_update(1, 1)),
    Row("5.1", "DATA on a closed stream", CLOSED + frame(DATA, 0, 1, b"x")),
    Row("5.1", "trailers on a closed stream", CLOSED + TRAILERS),
    Row("5.1", "RST_STREAM and WINDOW_UPDATE on a closed stream", CLOSED + rst_stream(1, 8) + window_update(1, 1)),
    Row("5.1.1", "a stream of an even number", request(GET, stream_id=2), E.PROTOCOL_ERROR),
    Row("5.1.1", "a number below one that was used", request(GET, stream_id=5) + request(GET, stream_id=3), E.PROTOCOL_ERROR),
    Row("5.1.1", "a number that was used", CLOSED + request(GET), E.PROTOCOL_ERROR),
]
BLOCKS = [
    Row("6.10", "a block in several frames", frame(HEADERS, END_STREAM, 1, CUT[0]) + frame(CONTINUATION, 0, 1)
        + frame(CONTINUATION, END_HEADERS, 1, CUT[1])),
    Row("6.10", "CONTINUATION behind a whole block", request(GET) + frame(CONTINUATION, END_HEADERS, 1), E.PROTOCOL_ERROR),
    Row("6.10", "CONTINUATION on the connection", frame(HEADERS, 0, 1, CUT[0]) + frame(CONTINUATION, 4, 0, CUT[1]), E.PROTOCOL_ERROR),
    Row("6.10", "CONTINUATION behind DATA", OPEN + frame(DATA, 0, 1, b"x") + frame(CONTINUATION, 4, 1), E.PROTOCOL_ERROR),
    Row("6.2", "another frame within a block", frame(HEADERS, 0, 1, CUT[0]) + frame(PING, 0, 0, bytes(8)), E.PROTOCOL_ERROR),
    Row("6.2", "another stream within a block", frame(HEADERS, 0, 1, CUT[0]) + frame(CONTINUATION, 4, 3, CUT[1]), E.PROTOCOL_ERROR),
    Row("5.5", "an unknown frame within a block", frame(HEADERS, 0, 1, CUT[0]) + frame(0xFA, 0, 1), E.PROTOCOL_ERROR),
    Row("4.3", "a block that cannot be decoded", frame(HEADERS, WHOLE, 1, b"\x80"), E.COMPRESSION_ERROR),
    Row("7541 2.3.3", "an index beyond the tables", frame(HEADERS, WHOLE, 1, b"\xff\x7f"), E.COMPRESSION_ERROR),
    Row("7541 4.2", "a change of the table behind a field", request(GET, extra=b"\x20"), E.COMPRESSION_ERROR),
    Row("7541 6.3", "a table larger than allowed", frame(HEADERS, WHOLE, 1, b"\x3f\xff\xff\x03" + block(GET)), E.COMPRESSION_ERROR),
    Row("7541 5.2", "padding of a whole byte", request(GET, extra=b"\x10\x01x\x82\x1f\xff"), E.COMPRESSION_ERROR),
    Row("7541 5.2", "padding with zeros", request(GET, extra=b"\x10\x01x\x81\x18"), E.COMPRESSION_ERROR),
]  # fmt: skip
BAD = E.PROTOCOL_ERROR
MALFORMED = [
    stream("8.1", "trailers that do not end the stream", OPEN + frame(HEADERS, END_HEADERS, 1, block([("x", "1")])), BAD),
    stream("8.1", "pseudo-headers in trailers", OPEN + frame(HEADERS, WHOLE, 1, block([(":path", "/")])), BAD),
    stream("8.1.1", "less than the announced length", request([*POST, ("content-length", "2")], 4) + frame(DATA, 1, 1, b"x"), BAD),
    stream("8.1.1", "more than the announced length", request([*POST, ("content-length", "1")], 4) + frame(DATA, 0, 1, b"xx"), BAD),
    stream("8.1.1", "the end in place of an announced body", request([*POST, ("content-length", "1")]), BAD),
    stream("8.2", "a name with a capital", request(GET, extra=literal(b"X-Name", b"1")), BAD),
    stream("8.2.1", "an empty name", request(GET, extra=literal(b"", b"1")), BAD),
    stream("8.2.1", "a name with a space", request(GET, extra=literal(b"x y", b"1")), BAD),
    stream("8.2.1", "a name with a colon", request(GET, extra=literal(b"x:y", b"1")), BAD),
    stream("8.2.1", "a value with a line feed", request(GET, extra=literal(b"x", b"1\n2")), BAD),
    stream("8.2.1", "a value with a zero byte", request(GET, extra=literal(b"x", b"1\0")), BAD),
    stream("8.2.1", "a value that begins with a space", request(GET, extra=literal(b"x", b" 1")), BAD),
    stream("8.2.1", "a value that ends with a tab", request(GET, extra=literal(b"x", b"1\t")), BAD),
    *(
        stream("8.2.2", f"the field {name}", request([*GET, (name, "x")]), BAD)
        for name in ("connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade")
    ),
    stream("8.2.2", "te that is not trailers", request([*GET, ("te", "gzip")]), BAD),
    Row("8.2.2", "te that is", request([*GET, ("te", "trailers")])),
    stream("8.3", "a pseudo-header that nobody knows", request([*GET, (":x", "1")]), BAD),
    stream("8.3", "a pseudo-header of answers", request([*GET, (":status", "200")]), BAD),
    stream("8.3", "a pseudo-header behind a field", request([*GET[:3], ("x", "1"), GET[3]]), BAD),
    *(stream("8.3.1", f"no {name}", request(without(name)), BAD) for name in (":method", ":scheme", ":path")),
    *(stream("8.3.1", f"{field[0]} twice", request([*GET, field]), BAD) for field in GET),
    stream("8.3.1", "an empty path", request([*without(":path"), (":path", "")]), BAD),
    stream("8.3.1", "a host that is not the authority", request([*GET, ("host", "127.0.0.1")]), BAD),
    stream("8.3.1", "a user in the authority", request([*GET[:3], (":authority", "me@localhost")]), BAD),
    Row("8.3.1", "a host and no authority", request([*without(":authority"), ("host", "localhost")])),
    stream("8.5", "CONNECT", request([(":method", "CONNECT"), (":authority", "localhost:1")]), BAD),
]
ROWS = [*FRAMES, *WINDOWS, *STREAMS, *BLOCKS, *MALFORMED]
PROBE = b"probing!"


class Peer:
    """A client that only sends what it is told, and reads frames."""

    def __init__(self, server: Server, greeting: bytes = PREFACE + settings([]) + SETTINGS_ACK) -> None:
        self._socket = server.connect()
        self._file = self._socket.makefile("rb")
        self.send(greeting)

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield kind, flags, stream and payload of each frame until the server ends the connection."""
        while head := self._file.read(FRAME_HEAD):
            word, flags, stream_id = unpack_head(head, 0)
            yield word & 0xFF, flags, stream_id, self._file.read(word >> 8)

    def until_probed(self) -> tuple[dict[int, int], int | None]:
        """Return the codes of the streams that were reset, and that of the connection if it has ended, once all before is read."""
        self.send(frame(PING, 0, 0, PROBE))
        reset: dict[int, int] = {}
        for kind, _, stream_id, payload in self.frames():
            if kind == RST_STREAM:
                reset[stream_id] = int.from_bytes(payload, "big")
            elif kind == GOAWAY:
                assert not self._file.read(), "nothing follows, and the connection ends (section 5.4.1)"
                return reset, int.from_bytes(payload[4:8], "big")
            elif kind == PING and payload == PROBE:
                return reset, None
        raise AssertionError("the connection ended without a word")

    def works(self) -> bool:
        """Whether a further request is answered."""
        self.send(request(GET, stream_id=101))
        return any(kind == HEADERS and stream_id == 101 for kind, _, stream_id, _ in self.frames())

    def close(self) -> None:
        """Go away."""
        self._file.close()
        self._socket.close()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.section} {row.what}")
def test_what_comes_of_it(server: Server, row: Row) -> None:
    """Tolerated, one stream is over, or the connection is, with the code that the section names; neighbours go on where they can."""
    peer = Peer(server)
    try:
        peer.send(row.sent)
        reset, fault = peer.until_probed()
        if row.code is not None and row.whole:
            assert fault == row.code
        else:
            assert fault is None
            assert reset.get(1) == row.code
            assert peer.works()
    finally:
        peer.close()


def test_no_row_is_there_twice() -> None:
    """Each has a name of its own, so that none hides another."""
    names = [(row.section, row.what, row.sent) for row in ROWS]
    assert len(set(names)) == len(names) > 90


@pytest.mark.parametrize(
    "greeting", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", PREFACE + frame(PING, 0, 0, PROBE), PREFACE + SETTINGS_ACK]
)
def test_3_4_a_connection_begins_with_preface_and_settings(server: Server, greeting: bytes) -> None:
    """Anything else ends it: with PROTOCOL_ERROR where it is HTTP/2 at all, by closing it where it is not."""
    peer = Peer(server, greeting)
    try:
        codes = [int.from_bytes(payload[4:8], "big") for kind, _, _, payload in peer.frames() if kind == GOAWAY]
        assert codes == [E.PROTOCOL_ERROR]
    finally:
        peer.close()


def test_6_5_3_settings_are_acknowledged(server: Server) -> None:
    """Each of them once, and ours come first."""
    peer = Peer(server, PREFACE + settings([]) + settings([(4, 100_000)]))
    try:
        peer.send(frame(PING, 0, 0, PROBE))
        seen = []
        for kind, flags, _, payload in peer.frames():
            if kind == PING and payload == PROBE:
                assert flags == ACK
                break
            seen.append((kind, flags))
        assert seen[0] == (SETTINGS, 0)
        assert seen.count((SETTINGS, ACK)) == 2
    finally:
        peer.close()


def test_6_8_a_client_that_leaves_is_answered_first(server: Server) -> None:
    """Behind its GOAWAY what it has asked is answered to the end; then the connection ends without a fault."""
    peer = Peer(server)
    try:
        peer.send(request(POST, END_HEADERS) + frame(GOAWAY, 0, 0, bytes(4) + (0xFF).to_bytes(4, "big") + b"going"))
        peer.send(frame(DATA, END_STREAM, 1, b"{"))
        kinds = [(kind, flags & END_STREAM) for kind, flags, stream_id, _ in peer.frames() if stream_id == 1]
        assert kinds == [(HEADERS, 0), (DATA, END_STREAM)]
    finally:
        peer.close()
