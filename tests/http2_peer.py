"""A client of `Http2Connection` that a test plays frame by frame: no socket, no loop, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from headgate.serving.wire.http2.connection import Http2Connection
from headgate.serving.wire.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEAD,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS_ACK,
    ErrorCode,
    frame,
    settings,
    unpack_head,
    window_update,
)
from headgate.serving.wire.http2.headers import RequestHeaders, encode_block
from headgate.serving.wire.http2.settings import Http2Limits
from headgate.serving.wire.http2.stream import Stream

REQUEST = encode_block(
    [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a.B/C"), (b":authority", b"localhost:8080"), (b"te", b"trailers")]
)
OK = encode_block([(b":status", b"200"), (b"content-type", b"application/grpc")])
TRAILERS = encode_block([(b"grpc-status", b"0")])


class Frame(NamedTuple):
    """One frame, as it was sent."""

    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of a RST_STREAM or GOAWAY."""
        assert self.kind in (RST_STREAM, GOAWAY)
        return int.from_bytes(self.payload[:4] if self.kind == RST_STREAM else self.payload[4:8], "big")

    @property
    def number(self) -> int:
        """The first four bytes of the payload: an increment, or the last stream of a GOAWAY."""
        return int.from_bytes(self.payload[:4], "big")


def split_frames(data: bytes) -> list[Frame]:
    """Return the frames that ``data`` consists of."""
    found, at = [], 0
    while at < len(data):
        word, flags, stream_id = unpack_head(data, at)
        start = at + FRAME_HEAD
        at = start + (word >> 8)
        assert at <= len(data), "the last frame is cut"
        found.append(Frame(word & 0xFF, flags, stream_id, data[start:at]))
    return found


class FakeTransport:
    """What a connection writes to. `take` hands over what a client would have read."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.ended = self.closed = self.aborted = self.paused = False
        self.half_closes = True
        """Whether it can end one direction, as a socket can and TLS cannot."""

    def write(self, data: bytes) -> None:
        """Note one write."""
        assert data and not self.ended and not self.closed, "written after the end, or nothing"
        self.writes.append(bytes(data))

    def writelines(self, parts: Iterable[bytes | memoryview]) -> None:
        """Note one write."""
        self.write(b"".join(parts))

    def can_write_eof(self) -> bool:
        """Say whether the sending direction can be ended alone."""
        return self.half_closes

    def write_eof(self) -> None:
        """End the sending direction."""
        assert self.half_closes
        self.ended = True

    def close(self) -> None:
        """End both."""
        self.closed = True

    def abort(self) -> None:
        """End both at once."""
        self.aborted = True

    def pause_reading(self) -> None:
        """Note it."""
        self.paused = True

    def resume_reading(self) -> None:
        """Note it."""
        self.paused = False


class Recorder(Stream):
    """Notes what its connection calls. ``answers``, if set, is called when the request has ended."""

    __slots__ = ("answers", "events", "headers")

    def __init__(self, connection: Http2Connection, stream_id: int, headers: RequestHeaders, peer: Peer) -> None:
        super().__init__(connection, stream_id, headers)
        self.headers = headers
        self.events: list[tuple[Any, ...]] = []
        self.answers = peer.answers
        peer.opened[stream_id] = self

    def data(self, data: bytes, end: bool) -> None:
        """A part of the body."""
        self.events.append(("data", bytes(data), end))
        if end and self.answers is not None:
            self.answers(self)

    def ended(self) -> None:
        """The end, without bytes."""
        self.events.append(("ended",))
        if self.answers is not None:
            self.answers(self)

    def reset(self, code: int) -> None:
        """The stream is gone."""
        self.events.append(("reset", code))

    def writable(self) -> None:
        """All has left."""
        self.events.append(("writable",))

    @property
    def body(self) -> bytes:
        """What has come of the body."""
        return b"".join(event[1] for event in self.events if event[0] == "data")

    @property
    def complete(self) -> bool:
        """Whether the request's end was told."""
        return any(event == ("ended",) or (event[0] == "data" and event[2]) for event in self.events)

    @property
    def code(self) -> int | None:
        """The code of the reset, if there was one."""
        return next((event[1] for event in self.events if event[0] == "reset"), None)


def echo(stream: Recorder) -> None:
    """Answer with what was asked."""
    stream.connection.send_reply(stream.stream_id, OK, stream.body, TRAILERS)


class Peer:
    """A client whose every frame a test writes, and the connection it talks to."""

    def __init__(
        self, limits: Http2Limits | None = None, *, answers: Callable[[Recorder], None] | None = None, greet: bool = True
    ) -> None:
        self.answers = answers
        self.opened: dict[int, Recorder] = {}
        """Every stream that was opened, also those that are closed again."""
        self.transport = FakeTransport()
        self._soon: list[Callable[[], None]] = []
        self.now = 100.0
        self.connection = Http2Connection(
            lambda connection, stream_id, headers: Recorder(connection, stream_id, headers, self),
            limits or Http2Limits(), self._soon.append, self.now,
        )  # fmt: skip
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]  # it has what a connection uses of one
        if greet:
            self.send(PREFACE + settings([]) + SETTINGS_ACK)
            self.turn()
            self.frames()

    # ---- what the client does

    def send(self, data: bytes) -> None:
        """Let bytes arrive in one read."""
        self.connection.data_received(data)

    def ask(self, stream_id: int, body: bytes | None = b"", *, end: bool = True, block: bytes = REQUEST) -> Recorder:
        """Send a request: its headers, and its body unless that is None."""
        flags = END_HEADERS | (END_STREAM if end and body is None else 0)
        data = frame(HEADERS, flags, stream_id, block)
        if body is not None:
            data += frame(DATA, END_STREAM if end else 0, stream_id, body)
        self.send(data)
        return self.opened[stream_id]

    def widen(self, stream_id: int, by: int) -> None:
        """Grant the server more room."""
        self.send(window_update(stream_id, by))

    # ---- what the loop does

    def turn(self) -> None:
        """Run what waits for the next turn of the loop, once."""
        soon, self._soon[:] = list(self._soon), []
        for call in soon:
            call()

    def run(self) -> None:
        """Run turns until none is wanted."""
        while self._soon:
            self.turn()

    def wait(self, seconds: float) -> None:
        """Let time pass, a second at a time."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1.0)
            self.connection.check(self.now)
            self.run()

    # ---- what the client sees

    def frames(self) -> list[Frame]:
        """Return what has been written since the last time."""
        self.run()
        data = b"".join(self.transport.writes)
        self.transport.writes.clear()
        return split_frames(data)

    def goaway(self) -> Frame:
        """Return the GOAWAY that ended the connection, which must have come and be the last frame."""
        last = self.frames()[-1]
        assert last.kind == GOAWAY
        assert self.transport.ended or self.transport.closed
        return last

    def refused(self, code: ErrorCode) -> bool:
        """Whether the connection was ended with ``code``."""
        return self.goaway().code == code
