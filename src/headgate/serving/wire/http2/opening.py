"""Where requests begin, and where trailers end them: HEADERS and CONTINUATION."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headgate.serving.wire.http2 import frames
from headgate.serving.wire.http2.control import Control
from headgate.serving.wire.http2.frames import END_HEADERS, END_STREAM, ConnectionFault, ErrorCode, StreamFault
from headgate.serving.wire.http2.headers import Fragments, HeaderDecoder, RequestHeaders
from headgate.serving.wire.http2.settings import Http2Limits
from headgate.serving.wire.http2.stream import Stream

OpenStream = Callable[[Any, int, RequestHeaders], Stream]
"""(connection, stream's number, headers) to what is built on the stream."""


class Opening(Control):
    """The frames with header blocks."""

    __slots__ = ("_block", "_decoder", "_open_stream")

    def __init__(
        self, open_stream: OpenStream, limits: Http2Limits, call_soon: Callable[[Callable[[], None]], object], now: float
    ) -> None:
        super().__init__(limits, call_soon, now)
        self._open_stream = open_stream
        self._decoder = HeaderDecoder(limits)
        self._block: Fragments | None = None
        """A header block that is not complete: only CONTINUATION may follow."""

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
            if self._decoder.discard(block):
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"a request on stream {stream_id}, whose number is used up")
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
