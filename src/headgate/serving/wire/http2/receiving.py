"""The receiving half of an HTTP/2 connection: from bytes, wherever they were cut, to frames, and from frames to streams.

The short way: one read holds HEADERS whose block is known, and DATA that ends the request. Large bodies have one of their own: runs of
frames of one size, passed on as views of what was read. Everything else takes the long way through `_take`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headgate.serving.wire.http2 import frames, settings
from headgate.serving.wire.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_HEAD,
    GOAWAY,
    HEADERS,
    LARGEST_STREAM,
    PADDED,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ConnectionFault,
    ErrorCode,
    unpack_head,
)
from headgate.serving.wire.http2.opening import Opening, OpenStream
from headgate.serving.wire.http2.settings import Http2Limits
from headgate.serving.wire.http2.stream import Stream

_VIEWED = 8 * 1024
"""Bytes of a body from which it is passed on as a view of what was read: copying it would cost more."""
_KEPT_WITH = 16
"""A view keeps all that was read with it in memory; so many times its own bytes it may."""


class Receiving(Opening):
    """The half that reads."""

    __slots__ = ("_body_ends", "_body_left", "_body_stream", "_pad_left", "_rest", "_room", "_waits_since")

    def __init__(
        self, open_stream: OpenStream, limits: Http2Limits, call_soon: Callable[[Callable[[], None]], object], now: float
    ) -> None:
        super().__init__(open_stream, limits, call_soon, now)
        self._rest = b""
        """The beginning of a frame whose end has not come."""
        self._waits_since = now
        """Since when a frame is incomplete."""
        self._body_left = self._pad_left = self._body_stream = 0
        """Of a frame that has come in part and is passed on as it comes; on stream 0 it is thrown away."""
        self._body_ends = False
        self._room = limits.connection_window
        """Bytes the peer may still send on all streams together."""

    def _read(self, data: bytes) -> None:
        at = self._pass_on(data, 0) if self._body_left or self._pad_left else 0
        end, least, largest = len(data), self.limits.window >> 2, self.limits.frame_bytes
        streams, known = self.streams, self._decoder.known
        while end - at >= FRAME_HEAD:
            word, flags, stream_id = unpack_head(data, at)
            start = at + FRAME_HEAD
            stop = start + (word >> 8)
            kind = word & 0xFF
            if self._block is None:
                if kind == DATA and flags <= END_STREAM:
                    stream = streams.get(stream_id)
                    if stream is not None and stream.receiving and stream.backlog is None:
                        size, expects = stop - start, stream.expects
                        announced = expects < 0 or (expects == size if flags else expects > size)
                        if announced and 0 < size <= self._room and size <= largest and stream.room - size >= least:
                            self._room -= size
                            stream.room -= size
                            if stop > end:
                                self._body_left, self._body_stream, self._body_ends = size, stream_id, flags == END_STREAM
                                at = self._pass_on(data, start)
                                continue
                            stream.expects = expects - size
                            if flags:
                                stream.receiving = False
                            elif size >= _VIEWED:
                                at = self._read_run(stream, data, at, stop)
                                continue
                            stream.data(data[start:stop], flags == END_STREAM)
                            at = stop
                            continue
                elif kind == HEADERS and flags == END_HEADERS and stop <= end:
                    headers = known.get(data[start:stop])
                    if headers is not None and stream_id > self._last_stream and stream_id & 1 and len(streams) < self._places:
                        self._last_stream = stream_id
                        streams[stream_id] = self._open_stream(self, stream_id, headers)
                        at = stop
                        continue
            then = self._take(kind, flags, stream_id & LARGEST_STREAM, data, start, stop)
            if then < 0:
                break
            at = then
        if self._room < self.limits.connection_window >> 1:
            self._give_all_room()
        if at < end:
            if at:
                self._waits_since = self._now
            self._rest = data[at:]

    def _read_run(self, stream: Stream, data: bytes, at: int, stop: int) -> int:
        """Take a large DATA frame, and those behind it with the same head. Return where the next frame begins.

        The first is paid for. Large bodies come in many frames of one size, so what is done for each is little.
        """
        head, size, whole = data[at : at + FRAME_HEAD], stop - at - FRAME_HEAD, stop - at
        room = min(self._room, stream.room - (self.limits.window >> 2), stream.expects - 1 if stream.expects > 0 else self._room)
        most = min(room // size, (len(data) - stop) // whole)
        more = 0
        while more < most and data.startswith(head, stop + more * whole):
            more += 1
        self._room -= more * size
        stream.room -= more * size
        stream.expects -= more * size
        stop += more * whole
        run = data if (stop - at) * _KEPT_WITH < len(data) else memoryview(data)
        stream.parts([run[start : start + size] for start in range(at + FRAME_HEAD, stop, whole)])
        return stop

    # ---- the long way

    def _take(self, kind: int, flags: int, stream_id: int, data: bytes, start: int, stop: int) -> int:
        """Take one frame, whose payload is ``data[start:stop]`` as far as it has come. Return where the next begins; -1: not yet."""
        self._check_order(kind, flags, stream_id, stop - start)
        if kind == DATA:
            padded = flags & PADDED
            if padded and stop > start == len(data):
                return -1
            self._begin_body(flags, stream_id, stop - start, data[start] if padded and stop > start else 0)
            return self._pass_on(data, start + 1 if padded else start)
        taker = _TAKERS.get(kind)
        if taker is None:
            self._charge()
            if kind == GOAWAY:
                self._leaving = True
                self._closed()
            self._body_left, self._body_stream = stop - start, 0
            return self._pass_on(data, start)
        if stop > len(data):
            return -1
        taker(self, flags, stream_id, data[start:stop])
        return stop

    def _check_order(self, kind: int, flags: int, stream_id: int, length: int) -> None:
        """Refuse a frame by its head, before anything of it is kept."""
        if not self._greeted and (kind != SETTINGS or flags & ACK):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        wanted = None if self._block is None else self._block.stream_id
        if wanted != (stream_id if kind == CONTINUATION else None):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a header block and its CONTINUATION do not follow each other")
        if length > self.limits.frame_bytes:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes")
        frames.check_head(kind, flags, stream_id, length)
        if length > settings.BLOCK * self.limits.header_bytes and kind in _TAKERS:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"{frames.NAMES[kind]} of {length} bytes")

    # ---- DATA

    def _begin_body(self, flags: int, stream_id: int, length: int, first: int) -> None:
        before, pad = frames.padding(flags, length, first)
        self._room -= length
        if self._room < 0:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the connection's window")
        self._body_left, self._pad_left = length - before - pad, pad
        self._body_stream, self._body_ends = stream_id, bool(flags & END_STREAM)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._check_begun(stream_id)  # it is closed: its bytes count for the connection, and are nobody's (section 5.1)
        elif not stream.receiving:
            self._break(stream_id, ErrorCode.STREAM_CLOSED)
        elif length > stream.room:
            self._break(stream_id, ErrorCode.FLOW_CONTROL_ERROR)
        else:
            stream.room -= length
            if not self._body_ends:
                self._give_room(stream)
        if not self._body_left and not self._body_ends:
            self._charge()

    def _pass_on(self, data: bytes, at: int) -> int:
        """Pass on what has come of a DATA frame's body, and skip its padding. Return where the rest of ``data`` begins."""
        piece = _part(data, at, min(at + self._body_left, len(data)))
        at += len(piece)
        self._body_left -= len(piece)
        if not self._body_left and self._pad_left:
            skipped = min(self._pad_left, len(data) - at)
            self._pad_left -= skipped
            at += skipped
        stream = self.streams.get(self._body_stream)
        if stream is None or not stream.receiving:
            return at
        end = self._body_ends and not self._body_left and not self._pad_left
        if stream.concluded:
            stream.receiving = not end
            return at
        if stream.expects >= 0:
            stream.expects -= len(piece)
            if stream.expects < 0 or (end and stream.expects):
                self._break(stream.stream_id, ErrorCode.PROTOCOL_ERROR)  # it is not what Content-Length said (section 8.1.1)
                return at
        stream.receiving = not end
        if piece:
            stream.data(piece, end)
        elif end:
            stream.ended()
        return at

    def _give_all_room(self) -> None:
        """Widen the connection's window: what has come has been passed on."""
        whole = self.limits.connection_window
        self._emit(frames.window_update(0, whole - self._room))
        self._room = whole

    def _give_room(self, stream: Stream) -> None:
        """Widen the window of a stream, once three quarters of it are used."""
        whole = self.limits.window
        if stream.room < whole >> 2 and not stream.held:
            self._emit(frames.window_update(stream.stream_id, whole - stream.room))
            stream.room = whole


def _part(data: bytes, start: int, stop: int) -> bytes | memoryview:
    """Return ``data[start:stop]``, uncopied where that saves something and does not keep much else in memory."""
    size = stop - start
    return memoryview(data)[start:stop] if size >= _VIEWED and size * _KEPT_WITH >= len(data) else data[start:stop]


_TAKERS: dict[int, Callable[[Any, int, int, bytes], None]] = {
    HEADERS: Receiving._take_headers,
    CONTINUATION: Receiving._take_continuation,
    SETTINGS: Receiving._take_settings,
    PING: Receiving._take_ping,
    RST_STREAM: Receiving._take_rst_stream,
    WINDOW_UPDATE: Receiving._take_window_update,
}
"""Frames that are taken whole. DATA is passed on as it comes. All others are thrown away as they come: PRIORITY, which is no longer
used (section 5.3.2), what a GOAWAY says beyond being one, and types that nobody knows (section 4.1).
"""
