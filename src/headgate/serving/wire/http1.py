"""HTTP/1.1 connections, as plain callbacks: no task, future or framework object per request.

The short way: one read holds one whole request whose head has been seen before. It costs a dictionary look-up and a slice. Everything
else (bodies in parts, chunked ones, pipelining, slow clients) takes the long way through the same few methods.

One request of a connection is in flight at a time; what a client pipelines waits in ``_rest``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headgate.errors import InvalidRequest, PayloadTooLarge, ReceiveTimeout
from headgate.serving.wire.answering import Answering
from headgate.serving.wire.chunked import ChunkedBody
from headgate.serving.wire.head import CHUNKED, Head
from headgate.serving.wire.streams import GatewayConnection

if TYPE_CHECKING:
    from headgate.serving.gateway import Gateway

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\n"
"""What the preface of HTTP/2 looks like to HTTP/1.1: a head."""
_STASH = 64 * 1024
"""Pipelined bytes kept before reading stops."""
_LINGER_SECONDS = 2.0
"""How long what a client still sends after our end is read and thrown away: closing at once would reset the connection, and the
client's system would then throw our answer away, unread."""


class HttpConnection(Answering):
    """One client connection: the half that reads, and the clock."""

    __slots__ = ("_body", "_chunked", "_have")

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway)
        self._body: list[bytes] | None = None
        self._have = 0
        self._chunked: ChunkedBody | None = None

    # ---- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it in."""
        self.transport = transport
        if not self._gateway.connected(self):
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone: what it asked for is not run any more, if it still waits."""
        self._closing = True
        self._gateway.disconnected(self)
        if self.request is not None:
            self._gateway.abandon(self.request, self)
            self.request = None

    def eof_received(self) -> bool:
        """The client sends no more. Most have gone then, so a request in the queue or a replica is given up; an answer under way is not."""
        self._closing = True
        return self._busy and self.request is None and not self._lingers

    def pause_writing(self) -> None:
        """The client does not take its answer: take no further request from it."""
        self._stuck = True
        self._waits_since = self._gateway.coarse

    def resume_writing(self) -> None:
        """It took it."""
        self._stuck = False
        if self._busy:
            self.room_again()
        else:
            self._next()

    def data_received(self, data: bytes) -> None:
        """Take bytes, wherever the last ones ended."""
        if self._busy or self._stuck:
            if self._lingers:
                return
            self._rest += data
            if len(self._rest) > _STASH:
                self.transport.pause_reading()
        elif self._head is None:
            self._read_head(self._rest + data if self._rest else data)
        else:
            self._read_body(data)

    # ---- reading

    def _read_head(self, data: bytes) -> None:
        gateway = self._gateway
        end = data.find(b"\r\n\r\n") + 4
        if end == 3:
            self._wait_for_head(data)
            return
        raw = data[:end]
        head = gateway.heads.known.get(raw)
        if head is None:
            if raw == _PREFACE:
                self._become_http2(data)
                return
            if end > gateway.limits.head_bytes:
                self._refuse_head()
                return
            head = gateway.heads.parse(raw)
        length = head.length
        stop = end + length
        if length >= 0 and len(data) >= stop and not head.fatal:
            self._rest = data[stop:] if len(data) > stop else b""
            self._head = head
            self._busy = True
            if head.content_encoding:
                gateway.handle(self, head, data[end:stop])
            else:
                gateway.dispatch(self, head, data[end:stop])
            return
        self._begin_body(head, data[end:])

    def _become_http2(self, data: bytes) -> None:
        """The client speaks HTTP/2 from here on (RFC 9113, section 3.3)."""
        gateway, transport = self._gateway, self.transport
        gateway.disconnected(self)
        connection = GatewayConnection(gateway)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        connection.data_received(data)

    def _wait_for_head(self, data: bytes) -> None:
        data = data.lstrip(b"\r\n")
        if len(data) > self._gateway.limits.head_bytes:
            self._refuse_head()
            return
        if data and not self._rest:
            self._waits_since = self._gateway.coarse
        self._rest = data

    def _refuse_head(self) -> None:
        self._refuse_and_close(InvalidRequest(f"the head of the request exceeds {self._gateway.limits.head_bytes} bytes"), 431)

    def _begin_body(self, head: Head, data: bytes) -> None:
        self._head, self._rest = head, b""
        if head.fatal:
            assert head.error is not None
            self._refuse_and_close(head.error)
            return
        self._waits_since = self._gateway.coarse
        if head.expects_continue:
            if head.error is not None:
                self._refuse_and_close(head.error)
                return
            self.transport.write(_CONTINUE)
        if head.length == CHUNKED:
            self._chunked = ChunkedBody(head.limit, self._gateway.limits.chunks)
        else:
            self._body, self._have = [], 0
        self._read_body(data)

    def _read_body(self, data: bytes) -> None:
        head = self._head
        assert head is not None
        if self._chunked is not None:
            try:
                if not self._chunked.feed(data):
                    return
            except (InvalidRequest, PayloadTooLarge) as error:
                self._refuse_and_close(error)
                return
            body, self._rest, self._chunked = b"".join(self._chunked.parts), self._chunked.rest, None
        else:
            assert self._body is not None
            self._body.append(data)
            self._have += len(data)
            if self._have < head.length:
                return
            body = b"".join(self._body)
            self._body = None
            body, self._rest = (body[: head.length], body[head.length :]) if len(body) > head.length else (body, b"")
        self._busy = True
        self._gateway.handle(self, head, body)

    def _next(self) -> None:
        """The answer is out: take the next request."""
        if self._busy:
            return  # the next request has come between the answer and this call
        if self._stuck:
            return
        if self._closing:
            self.transport.close()
            return
        self.transport.resume_reading()
        if self._rest:
            data, self._rest = self._rest, b""
            self._read_head(data)

    # ---- time

    def check(self, now: float) -> None:
        """Close what takes too long; called about once a second."""
        limits = self._gateway.limits
        age = now - self._waits_since
        if self._stuck:
            if age > limits.body_seconds:
                self.transport.abort()
        elif self._busy:
            if self._lingers and age > _LINGER_SECONDS:
                self.transport.abort()
        elif self._head is not None:
            if age > limits.body_seconds:
                self._refuse_and_close(ReceiveTimeout(f"the body did not arrive within {limits.body_seconds:g} s"))
        elif self._rest:
            if age > limits.head_seconds:
                self._refuse_and_close(ReceiveTimeout(f"the head did not arrive within {limits.head_seconds:g} s"))
        elif age > limits.idle_seconds:
            self.transport.close()

    def drain(self) -> None:
        """Close now if nothing is in flight; else after the answer.

        A request may cross our end on its way (RFC 9112, section 9.5). That client is to find that the connection ended with no answer,
        and may ask again elsewhere; closing both halves at once would reset it in the middle of sending (section 9.6).
        """
        if not self._busy and self._head is None and not self._rest:
            self._hang_up()
