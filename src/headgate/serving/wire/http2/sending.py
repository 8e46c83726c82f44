"""The sending half of an HTTP/2 connection: frames, the windows of the peer, and one write for each turn of the loop."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from headgate.serving.wire.http2 import frames
from headgate.serving.wire.http2.flow import DEFAULT_WINDOW, Backlog
from headgate.serving.wire.http2.frames import DATA, END_HEADERS, END_STREAM, HEADERS, SMALLEST_FRAME, ErrorCode, pack_head
from headgate.serving.wire.http2.settings import Http2Limits
from headgate.serving.wire.http2.stream import Stream

_TURN_BYTES = 1 << 20
"""Of waiting bodies, sent in one turn of the loop: other connections wait for no more than that."""
_JOINED = 64 * 1024
"""Up to here what goes out is joined; above, copying it costs more than writing it in pieces."""
_NO_TABLE = b"\x20"
"""The first header block says that none will use a dynamic table (RFC 7541, section 4.2): a peer that allows only a small one waits
for that."""


class Sending(asyncio.Protocol):
    """What both halves know, and the half that writes."""

    __slots__ = (
        "_at_once", "_call_soon", "_leaving", "_lingers", "_now", "_out", "_peer_frame", "_pumping", "_reading", "_ready", "_stuck",
        "_stuck_since", "_untold", "_window", "answered", "limits", "peer_window", "request_due", "streams", "transport",
    )  # fmt: skip

    def __init__(self, limits: Http2Limits, call_soon: Callable[[Callable[[], None]], object], now: float) -> None:
        self.limits = limits
        self.transport: Any = None
        self.streams: dict[int, Stream] = {}
        """Every stream that is not closed. A stream is closed with the end of its answer."""
        self.answered = 0
        """Streams answered to their end."""
        self.peer_window = DEFAULT_WINDOW
        """The window of a new stream."""
        self.request_due = now + limits.body_seconds
        """When a request that begins now must have ended."""
        self._call_soon = call_soon
        self._now = now
        """The time of the last `check`."""
        self._window = DEFAULT_WINDOW
        """Bytes that may be sent on all streams together."""
        self._peer_frame = SMALLEST_FRAME
        self._at_once = 0
        """Bytes of a body that one frame takes now: none until headers have been sent, and while the transport is stuck."""
        self._ready: dict[int, Stream] = {}
        """Streams with a backlog and a window, in turn: they wait for the connection's window or the transport."""
        self._out: list[bytes | memoryview] = []
        """What goes out at the end of this turn. While it holds something, `_flush` is on its way, or the transport is stuck."""
        self._stuck = False
        """The client does not take what was written."""
        self._stuck_since = now
        """Since when it is stuck, or is not any more."""
        self._pumping = False
        self._reading = False
        """What has come is being read: what is answered at once goes out together."""
        self._untold = True
        """No header block has been sent yet."""
        self._leaving = False
        """The connection ends with its last stream."""
        self._lingers = False
        """All has been sent: nothing goes out any more, and what comes is thrown away."""

    # ---- for whoever is above

    def send_headers(self, stream_id: int, block: bytes, end: bool = False) -> None:
        """Send a header block, made by `headers.encode_block`: of an answer or, behind its body, of its trailers."""
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        backlog = stream.backlog
        if backlog is not None:
            assert end and not backlog.ends
            backlog.trailers, backlog.ends = block, True
            return
        self._emit_headers(stream_id, block, END_STREAM if end else 0)
        if end:
            self._end(stream)

    def send_data(self, stream_id: int, data: bytes | memoryview, end: bool = False) -> bool:
        """Send a part of an answer's body, of any size. Return whether all has left; if not, `Stream.writable` tells when it has.

        ``data`` is not copied, so it must not change.
        """
        stream, size = self.streams.get(stream_id), len(data)
        if stream is None or not (size or end):
            return True
        backlog = stream.backlog
        room = 0 if self._stuck else min(self._window, stream.window, self._peer_frame)
        if backlog is None and (size <= room or not size):
            self._emit_data(stream, data, end)
            if end:
                self._end(stream)
            return True
        if backlog is None:
            backlog = stream.backlog = Backlog(self._now)
        assert not backlog.ends
        backlog.add(data)
        backlog.ends = end
        if stream.window > 0:
            self._ready[stream_id] = stream
        backlog.owed = False
        self._pump()
        backlog.owed = stream.backlog is backlog
        return not backlog.owed

    def send_reply(self, stream_id: int, headers: bytes, body: bytes | memoryview, trailers: bytes | None = None) -> None:
        """Send a whole answer: a header block, a body, and the block of its trailers where it has them."""
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        size = len(body)
        if (
            not size or size > self._at_once or size > self._window or size > stream.window
            or trailers is None or len(headers) + len(trailers) > SMALLEST_FRAME
        ):  # fmt: skip
            self._send_parts(stream_id, headers, body, trailers)
            return
        self._window -= size
        parts = (
            pack_head(len(headers) << 8 | HEADERS, END_HEADERS, stream_id), headers,
            pack_head(size << 8 | DATA, 0, stream_id), body,
            pack_head(len(trailers) << 8 | HEADERS, END_HEADERS | END_STREAM, stream_id), trailers,
        )  # fmt: skip
        if size > _JOINED:
            self._emit(parts[0])
            self._out += parts[1:]
        elif self._out or self._reading or len(self.streams) > 1:
            self._emit(b"".join(parts))
        else:
            self.transport.write(b"".join(parts))  # the only stream there is: nothing else will join it in this turn
        self._end(stream)

    def _send_parts(self, stream_id: int, headers: bytes, body: bytes | memoryview, trailers: bytes | None) -> None:
        bare = not len(body)
        self.send_headers(stream_id, headers, bare and trailers is None)
        self.send_data(stream_id, body, not bare and trailers is None)
        if trailers is not None:
            self.send_headers(stream_id, trailers, True)

    def reset(self, stream_id: int, code: int) -> None:
        """End a stream with RST_STREAM, and drop what waits to be sent. Its `Stream.reset` is not called: the caller knows."""
        if self._forget(stream_id) is not None:
            self._emit(frames.rst_stream(stream_id, code))
            self._closed()

    # ---- asyncio's callbacks

    def pause_writing(self) -> None:
        """The client does not take what was written: keep the rest."""
        self._stuck, self._stuck_since = True, self._now
        self._set_at_once()

    def resume_writing(self) -> None:
        """It took it."""
        self._stuck, self._stuck_since = False, self._now
        self._set_at_once()
        self._flush()
        self._pump()
        self.transport.resume_reading()

    def _set_at_once(self) -> None:
        self._at_once = 0 if self._stuck or self._untold else self._peer_frame

    # ---- frames

    def _emit(self, data: bytes | memoryview) -> None:
        """Let ``data`` go out at the end of this turn of the loop, in one write with everything else."""
        if not self._out:
            self._call_soon(self._flush)
        self._out.append(data)

    def _emit_headers(self, stream_id: int, block: bytes, flags: int) -> None:
        if self._untold:
            self._untold = False
            self._set_at_once()
            block = _NO_TABLE + block
        self._emit(frames.header_frames(stream_id, block, flags, self._peer_frame))

    def _emit_data(self, stream: Stream, data: bytes | memoryview, end: bool) -> None:
        """One DATA frame, which the windows allow."""
        size = len(data)
        self._window -= size
        stream.window -= size
        self._emit(pack_head(size << 8 | DATA, END_STREAM if end else 0, stream.stream_id))
        self._out.append(data)

    def _flush(self) -> None:
        if not self._stuck and self._out:
            self._write()

    def _write(self) -> None:
        out, self._out = self._out, []
        if self._lingers:
            return
        if sum(map(len, out)) <= _JOINED:
            self.transport.write(b"".join(out))
        else:
            self.transport.writelines(out)

    # ---- what waits for windows

    def _pump(self) -> None:
        """Send what waits, a frame of each stream in turn, as far as the windows and this turn's share go."""
        if self._pumping:
            return
        self._pumping = True
        share = _TURN_BYTES
        while self._ready and self._window > 0 and share > 0 and not self._stuck:
            share -= self._advance(self._ready.pop(next(iter(self._ready))))
        self._pumping = False
        if share <= 0 and self._ready:
            self._call_soon(self._pump)

    def _advance(self, stream: Stream) -> int:
        """Send one frame of a backlog, and what ends it. Return the bytes of the body sent."""
        backlog = stream.backlog
        assert backlog is not None
        backlog.since = self._now
        part = backlog.take(min(self._window, stream.window, self._peer_frame))
        if backlog.waits:
            self._emit_data(stream, part, False)
            if stream.window > 0:
                self._ready[stream.stream_id] = stream
            return len(part)
        stream.backlog = None
        self._emit_data(stream, part, backlog.ends and backlog.trailers is None)
        if backlog.trailers is not None:
            self._emit_headers(stream.stream_id, backlog.trailers, END_STREAM)
        if backlog.ends:
            self._end(stream)
        elif backlog.owed:
            stream.writable()
        return len(part)

    # ---- the end of a stream

    def _end(self, stream: Stream) -> None:
        """The end of its answer is on its way."""
        stream_id = stream.stream_id
        del self.streams[stream_id]
        self.answered += 1
        if stream.receiving:
            self._emit(frames.rst_stream(stream_id, ErrorCode.NO_ERROR))  # nobody wants the rest of the request (section 8.1)
        if self._leaving:
            self._closed()

    def _forget(self, stream_id: int) -> Stream | None:
        self._ready.pop(stream_id, None)
        return self.streams.pop(stream_id, None)

    @abstractmethod
    def _closed(self) -> None:
        """A stream has closed: if it was the last of a connection that is leaving, end that."""
