"""The receiving half of an HTTP/2 connection: from bytes, wherever they were cut, to frames, and from frames to streams.

The short way: one read holds HEADERS whose block is known, and DATA that ends the request. Everything else takes the long way through
`_take`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headgate.serving.wire.http2 import frames, settings
from headgate.serving.wire.http2.control import Control
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
    StreamFault,
    unpack_head,
)
from headgate.serving.wire.http2.headers import Fragments, HeaderDecoder, RequestHeaders
from headgate.serving.wire.http2.settings import Http2Limits
from headgate.serving.wire.http2.stream import Stream

OpenStream = Callable[[Any, int, RequestHeaders], Stream]
"""(connection, stream's number, headers) to what is built on the stream."""


class Receiving(Control):
    """The half that reads."""

    __slots__ = (
        "_block", "_body_ends", "_body_left", "_body_stream", "_decoder", "_open_stream", "_pad_left", "_rest", "_room", "_waits_since",
    )  # fmt: skip

    def __init__(
        self, open_stream: OpenStream, limits: Http2Limits, call_soon: Callable[[Callable[[], None]], object], now: float
    ) -> None:
        super().__init__(limits, call_soon, now)
        self._open_stream = open_stream
        self._decoder = HeaderDecoder(limits)
        self._rest = b""
        """The beginning of a frame whose end has not come."""
        self._waits_since = now
        """Since when a frame is incomplete."""
        self._block: Fragments | None = None
        """A header block that is not complete: only CONTINUATION may follow."""
        self._body_left = self._pad_left = self._body_stream = 0
        """Of a frame that has come in part and is passed on as it comes; on stream 0 it is thrown away."""
        self._body_ends = False
        self._room = limits.connection_window
        """Bytes the peer may still send on all streams together."""

    def _read(self, data: bytes) -> None:
        at = self._pass_on(data, 0) if self._body_left or self._pad_left else 0
        end, half = len(data), self.limits.window >> 1
        streams, known = self.streams, self._decoder.known
        while end - at >= FRAME_HEAD:
            word, flags, stream_id = unpack_head(data, at)
            start = at + FRAME_HEAD
            stop = start + (word >> 8)
            kind = word & 0xFF
            if stop <= end and self._block is None:
                if kind == DATA and flags <= END_STREAM:
                    stream = streams.get(stream_id)
                    if stream is not None and stream.receiving and stream.expects < 0 and stream.backlog is None:
                        size = stop - start
                        if 0 < size <= self._room and stream.room - size >= half:
                            self._room -= size
                            stream.room -= size
                            if flags:
                                stream.receiving = False
                            stream.data(data[start:stop], flags == END_STREAM)
                            at = stop
                            continue
                elif kind == HEADERS and flags == END_HEADERS:
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
        piece = data[at : at + self._body_left]
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
        """Widen the window of a stream, once half of it is used."""
        whole = self.limits.window
        if stream.room < whole >> 1 and not stream.held:
            self._emit(frames.window_update(stream.stream_id, whole - stream.room))
            stream.room = whole

    # ---- HEADERS and CONTINUATION

    def _take_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        fragment = frames.header_fragment(flags, payload)
        if flags & END_HEADERS:
            self._take_block(flags, stream_id, fragment)
        else:
            self._block = Fragments(stream_id, flags, fragment, self._now)

    def _take_continuation(self, flags: int, stream_id: int, payload: bytes) -> None:
        block = self._block
        assert block is not None
        block.add(payload, self.limits)
        if flags & END_HEADERS:
            self._block = None
            self._take_block(block.flags, stream_id, block.whole())

    def _take_block(self, flags: int, stream_id: int, block: bytes) -> None:
        ends = bool(flags & END_STREAM)
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._take_trailers(stream, block, ends)
        elif not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"HEADERS on stream {stream_id}, which a client cannot begin")
        elif stream_id <= self._last_stream:
            self._decoder.discard(block)
            self._charge()
        else:
            self._last_stream = stream_id
            self._begin_stream(stream_id, block, ends)

    def _begin_stream(self, stream_id: int, block: bytes, ends: bool) -> None:
        try:
            headers = self._decoder.request(block)
        except StreamFault as fault:
            self._break(stream_id, fault.code)
            return
        if ends and headers.length > 0:
            self._break(stream_id, ErrorCode.PROTOCOL_ERROR)
        elif len(self.streams) >= self._places:
            self._refuse(stream_id)
        else:
            self.streams[stream_id] = stream = self._open_stream(self, stream_id, headers)
            if ends:
                stream.receiving = False
                stream.ended()

    def _take_trailers(self, stream: Stream, block: bytes, ends: bool) -> None:
        """The second header block of a request ends it (section 8.1)."""
        if not stream.receiving:
            self._decoder.discard(block)
            self._break(stream.stream_id, ErrorCode.STREAM_CLOSED)
            return
        try:
            self._decoder.trailers(block)
        except StreamFault as fault:
            self._break(stream.stream_id, fault.code)
            return
        if not ends or (stream.expects > 0 and not stream.concluded):
            self._break(stream.stream_id, ErrorCode.PROTOCOL_ERROR)
            return
        stream.receiving = False
        if not stream.concluded:
            stream.ended()


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
