"""What the peer says about the connection and its streams, apart from requests: SETTINGS, PING, RST_STREAM, WINDOW_UPDATE; and how
much of that is borne.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

from headgate.serving.wire.http2 import frames, settings
from headgate.serving.wire.http2.flow import LARGEST_WINDOW
from headgate.serving.wire.http2.frames import ACK, ConnectionFault, ErrorCode
from headgate.serving.wire.http2.sending import Sending
from headgate.serving.wire.http2.settings import Http2Limits

_DRIBBLE = 256
"""A window widened by less, where somebody waits for it, makes us send frames that are mostly head (CVE-2019-9511)."""
DRAIN_PING = b"draining"
"""Its answer says that the peer has read what was sent before it."""


class Control(Sending):
    """The frames that carry no request."""

    __slots__ = ("_acknowledged", "_answered_then", "_greeted", "_last_stream", "_patience", "_places")

    def __init__(self, limits: Http2Limits, call_soon: Callable[[Callable[[], None]], object], now: float) -> None:
        super().__init__(limits, call_soon, now)
        self._greeted = False
        """The peer's first settings have come."""
        self._acknowledged = False
        """The peer knows ours."""
        self._last_stream = 0
        """The highest stream that has begun."""
        self._places = 0
        """Streams that may be open at once: none before the peer's settings, and none any more at the end."""
        self._patience = limits.patience
        self._answered_then = 0
        """Answers that have been counted into ``_patience``."""

    # ---- frames

    def _take_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & ACK:
            self._acknowledged = True
            self._charge()
            return
        theirs = settings.read_settings(payload)
        self._peer_frame = theirs.get(settings.MAX_FRAME_SIZE, self._peer_frame)
        self._set_at_once()
        if settings.INITIAL_WINDOW_SIZE in theirs:
            self._resize_windows(theirs[settings.INITIAL_WINDOW_SIZE])
        self._emit(frames.SETTINGS_ACK)
        self._pump()  # behind the acknowledgement: from there on the client counts with its new settings
        if self._greeted:
            self._charge()
        else:
            self._greeted = True
            self._places = 0 if self._leaving else self.limits.streams

    def _resize_windows(self, initial: int) -> None:
        """The initial window of streams has changed, and with it those of the open ones; they may become negative (section 6.9.2)."""
        by, self.peer_window = initial - self.peer_window, initial
        for stream_id, stream in self.streams.items():
            stream.window += by
            if stream.window > LARGEST_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE overflows a stream's window")
            if stream.window <= 0:
                self._ready.pop(stream_id, None)
            elif stream.backlog is not None:
                self._ready[stream_id] = stream

    def _take_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not flags & ACK:
            self._emit(frames.frame(frames.PING, ACK, 0, payload))
        elif payload == DRAIN_PING:
            self._drained()
        self._charge()

    def _take_rst_stream(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._check_begun(stream_id)
        self._charge()
        stream = self._forget(stream_id)
        if stream is not None:
            stream.reset(frames.error_code(payload))
            self._closed()

    def _take_window_update(self, flags: int, stream_id: int, payload: bytes) -> None:
        by = frames.increment(payload)
        if not stream_id:
            self._window += by
            if not by or self._window > LARGEST_WINDOW:
                code = ErrorCode.FLOW_CONTROL_ERROR if by else ErrorCode.PROTOCOL_ERROR
                raise ConnectionFault(code, f"WINDOW_UPDATE of {by} for the connection")
            awaited = bool(self._ready)
        else:
            stream = self.streams.get(stream_id)
            if stream is None:
                self._check_begun(stream_id)
                return
            stream.window += by
            if not by or stream.window > LARGEST_WINDOW:
                self._break(stream_id, ErrorCode.FLOW_CONTROL_ERROR if by else ErrorCode.PROTOCOL_ERROR)
                return
            awaited = stream.backlog is not None
            if awaited and stream.window > 0:
                self._ready[stream_id] = stream
        if awaited:
            if by < _DRIBBLE:
                self._charge()
            self._pump()

    # ---- what is borne

    def _charge(self) -> None:
        """Count something that no request needs (CVE-2019-9512, CVE-2019-9515, CVE-2019-9518, CVE-2023-44487)."""
        self._patience -= 1
        if self._patience >= 0:
            return
        earned, self._answered_then = self.answered - self._answered_then, self.answered
        self._patience += min(earned, self.limits.patience)
        if self._patience < 0:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many resets, pings, settings, empty frames or broken requests")

    def _check_begun(self, stream_id: int) -> None:
        """Refuse frames on a stream that has not begun (section 5.1); those on a closed one may have been on their way."""
        if stream_id > self._last_stream or not stream_id & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"a frame on stream {stream_id}, which has not begun")

    def _break(self, stream_id: int, code: ErrorCode) -> None:
        """Reset a stream for what its client did."""
        self._emit(frames.rst_stream(stream_id, code))
        stream = self._forget(stream_id)
        if stream is not None:
            stream.reset(code)
            self._closed()
        self._charge()

    def _refuse(self, stream_id: int) -> None:
        """Turn away a stream there is no place for: the client may send it again. Before it knows our settings it has done no wrong."""
        self._emit(frames.rst_stream(stream_id, ErrorCode.REFUSED_STREAM))
        if self._acknowledged and not self._leaving:
            self._charge()

    @abstractmethod
    def _drained(self) -> None:
        """The peer has seen that the connection drains."""
