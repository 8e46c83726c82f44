"""HTTP/2 connections (RFC 9113), as plain callbacks: no task, future or framework object per stream.

What is above (gRPC, plain requests) is reached through one callable, given at construction, and is told and tells the following.

**Up.** ``open_stream(connection, stream_id, headers)`` returns a `Stream`, for each request whose headers (`RequestHeaders`, well-formed)
have come. On it the connection then calls

- ``data(part, end)``, any number of times, with at least one byte, or ``parts`` for several in one go; and
- ``ended()``, where the request's end came without bytes. So either ``data(..., True)`` or ``ended()`` ends each request, once;
- ``writable()``, when all that `send_data` had to keep has left;
- ``overdue()``, where the request has not ended by ``complete_by``;
- ``reset(code)``, when the client has cancelled the stream or broken a rule on it, or the connection is gone. Nothing follows.

After an answer's end, or the caller's own `reset`, nothing is called any more. Callbacks must not raise. They may call down at once, but
``open_stream`` may not: an answer that must not wait for the first ``data`` is given from the loop's ``call_soon``.

**Down**, all by the stream's number; on a stream that is gone they do nothing, so nobody has to ask first:

- ``send_reply(stream_id, headers, body, trailers=None)``: a whole answer, packed at once where the windows allow: the hot path;
- ``send_headers(stream_id, block, end=False)``, ``send_data(stream_id, data, end=False)``: an answer in parts. A second ``send_headers``
  (with ``end``) is its trailers, and waits for the body. `send_data` returns False where something has to wait: then wait for ``writable``;
- ``reset(stream_id, code)``: give up on a stream;
- ``hold(stream_id)``, ``release(stream_id)``: stop and start granting the client room on a stream.

Header blocks are bytes made by `headers.encode_block`, once. An answer that ends before its request makes the client stop
(RST_STREAM with NO_ERROR).

**Bounds.** A stream's client sends at most `Http2Limits.window` bytes ahead of `hold`; what has been handed up belongs to whoever took it,
and without `hold` more is granted as it comes. Of a body under way the connection itself keeps nothing, of headers at most 32 KiB.

**Around.** `check` is called about once a second, `drain` once at the end; `data_received` may be called with what another protocol
has read before it knew (RFC 9113, section 3.3), preface included.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from headgate.serving.wire.http2 import frames, settings
from headgate.serving.wire.http2.control import DRAIN_PING
from headgate.serving.wire.http2.frames import LARGEST_STREAM, PREFACE, ConnectionFault, ErrorCode
from headgate.serving.wire.http2.opening import OpenStream
from headgate.serving.wire.http2.receiving import Receiving
from headgate.serving.wire.http2.settings import Http2Limits

_STASH_FRAMES, _STASH_BYTES = 1000, 256 * 1024
"""Kept for a client that takes nothing, before nothing more is read from it."""
_LINGER_SECONDS = 2.0
"""How long what still comes at the end is read and thrown away: closing at once would reset the connection, and the client's system would
then throw our last frames away, unread."""
_DRAIN_SECONDS = 2.0
"""How long a client may take to see that the connection drains."""


class Http2Connection(Receiving):
    """One client connection: its beginning, its end, and the clock."""

    __slots__ = ("_begun", "_born", "_draining_since", "_idle_since", "_last_seen", "_parted", "fault")

    def __init__(
        self, open_stream: OpenStream, limits: Http2Limits, call_soon: Callable[[Callable[[], None]], object], now: float
    ) -> None:
        """``call_soon`` is the loop's, ``now`` a monotonic time in seconds, as `check` takes it later."""
        super().__init__(open_stream, limits, call_soon, now)
        self.fault: ConnectionFault | None = None
        """What the peer did that ended the connection."""
        self._begun = False
        """The preface has come."""
        self._draining_since: float | None = None
        self._parted = False
        """The last GOAWAY is out."""
        self._born = now
        self._idle_since = now
        self._last_seen = 0

    # ---- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what we set: a server does not wait for its client's preface (section 3.4)."""
        self.transport = transport
        self._emit(settings.opening(self.limits))

    def data_received(self, data: bytes) -> None:
        """Take bytes, wherever the last ones ended."""
        if self._lingers:
            return
        if self._rest:
            data, self._rest = self._rest + data, b""
        else:
            self._waits_since = self._now
        self._reading = True
        try:
            if self._begun:
                self._read(data)
            else:
                self._read_preface(data)
        except ConnectionFault as fault:
            self._fail(fault)
            return
        finally:
            self._reading = False
        if self._stuck and (len(self._out) > _STASH_FRAMES or sum(map(len, self._out)) > _STASH_BYTES):
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """The client has gone: HTTP/2 knows no half of a connection."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell every stream."""
        self._lingers = True
        self._out.clear()
        self._drop_streams(ErrorCode.CANCEL)

    def _read_preface(self, data: bytes) -> None:
        if not PREFACE.startswith(data[: len(PREFACE)]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the connection does not begin with the preface of HTTP/2")
        if len(data) < len(PREFACE):
            self._rest = data
        else:
            self._begun = True
            self._read(data[len(PREFACE) :])

    # ---- for whoever is above

    def hold(self, stream_id: int) -> None:
        """Grant the client no more room on a stream than it has: `Http2Limits.window` bytes at most will come."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.held = True

    def release(self, stream_id: int) -> None:
        """Grant room again."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            stream.held = False
            if stream.receiving:
                self._give_room(stream)

    # ---- the end

    def drain(self) -> None:
        """Take no further streams, and end after the last one, in the two steps of section 6.8: what is on its way is still served."""
        if self._draining_since is None and not self._lingers:
            self._draining_since = self._now
            self._emit(frames.goaway(LARGEST_STREAM, ErrorCode.NO_ERROR) + frames.frame(frames.PING, 0, 0, DRAIN_PING))

    def _drained(self) -> None:
        """The client knows, so what it begins from now on it will begin again elsewhere."""
        if self._draining_since is not None and not self._parted:
            self._places, self._leaving, self._parted = 0, True, True
            self._emit(frames.goaway(self._last_stream, ErrorCode.NO_ERROR))
            self._closed()

    def _closed(self) -> None:
        if self._leaving and not self.streams:
            self._shut()

    def _fail(self, fault: ConnectionFault) -> None:
        """End the connection for what its peer did (section 5.4.1)."""
        if self._lingers:
            return
        self.fault = fault
        self._emit(frames.goaway(self._last_stream, fault.code, str(fault)))
        self._drop_streams(fault.code)
        self._shut()

    def _drop_streams(self, code: ErrorCode) -> None:
        streams = list(self.streams.values())
        self.streams.clear()
        self._ready.clear()
        for stream in streams:
            stream.reset(code)

    def _shut(self) -> None:
        """Send what is to be sent, and nothing more."""
        if self._lingers:
            return
        if self._out:
            self._write()
        self._lingers, self._places, self._waits_since = True, 0, self._now
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    # ---- time

    def check(self, now: float) -> None:
        """End what takes too long; called about once a second."""
        limits = self.limits
        self._now, self.request_due = now, now + limits.body_seconds
        self._patience = min(limits.patience, self._patience + limits.patience_per_second)
        if self.streams or self._last_stream != self._last_seen:
            self._idle_since, self._last_seen = now, self._last_stream
        if self._lingers:
            if now - max(self._waits_since, self._stuck_since) > (limits.body_seconds if self._stuck else _LINGER_SECONDS):
                self.transport.abort()
        elif self._stuck and now - self._stuck_since > limits.body_seconds:
            self.transport.abort()
        elif self._draining_since is not None and now - self._draining_since > _DRAIN_SECONDS:
            self._drained()
        elif not self._stuck and (fault := self._late(now)):
            self._fail(fault)
        elif now - self._idle_since > limits.idle_seconds:
            self.drain()
        if self.streams:
            self._check_streams(now)

    def _late(self, now: float) -> ConnectionFault | None:
        """Return what the client owes for longer than it may."""
        limit = self.limits.head_seconds
        if not self._acknowledged and now - self._born > limit:
            return ConnectionFault(
                ErrorCode.SETTINGS_TIMEOUT, f"no preface, or no acknowledgement of our settings, within {limit:g} s"
            )
        if self._rest and now - max(self._waits_since, self._stuck_since) > limit:
            return ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"the rest of a frame did not come within {limit:g} s")
        if self._block is not None and now - max(self._block.since, self._stuck_since) > limit:
            return ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"the rest of a header block did not come within {limit:g} s")
        return None

    def _check_streams(self, now: float) -> None:
        for stream in list(self.streams.values()):
            if stream.receiving and now > stream.complete_by and not stream.concluded:
                stream.overdue()
            elif stream.backlog is not None and now - stream.backlog.since > self.limits.body_seconds:
                self.reset(stream.stream_id, ErrorCode.CANCEL)
                stream.reset(ErrorCode.CANCEL)
