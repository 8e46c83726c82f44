"""HTTP/1.1 connections, as plain callbacks: no task, future or framework object per request.

The short way: one read holds one whole request whose head has been seen before. It costs a dictionary look-up and a slice. Everything
else (bodies in parts, chunked ones, pipelining, slow clients) takes the long way through the same few methods.

One request of a connection is in flight at a time; what a client pipelines waits in ``_rest``.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from headgate.errors import HeadgateError, InvalidRequest, PayloadTooLarge, ReceiveTimeout, Unsupported
from headgate.protocols.base import InferRequest, InferResponse, Reply, error_reply
from headgate.serving.wire import coding
from headgate.serving.wire.chunked import ChunkedBody
from headgate.serving.wire.head import CHUNKED, Head

if TYPE_CHECKING:
    from headgate.serving.gateway import Gateway

_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_STATUS[499] = b"HTTP/1.1 499 Client Closed Request\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_STASH = 64 * 1024
"""Pipelined bytes kept before reading stops."""
_COMPRESS_FROM = 1024
_LINGER_SECONDS = 2.0
"""How long what a refused client still sends is read and thrown away: closing at once would reset the connection, and the
client's system would then throw our answer away, unread."""


class HttpConnection(asyncio.Protocol):
    """One client connection."""

    __slots__ = (
        "_body", "_busy", "_chunked", "_closing", "_gateway", "_have", "_head", "_lingers", "_rest", "_stuck",
        "_waits_since", "request", "series", "transport",
    )  # fmt: skip

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.transport: Any = None
        self.request: InferRequest | None = None
        """What is in the queue or a replica for this connection."""
        self.series: Any = None
        """Where the request in flight is counted."""
        self._head: Head | None = None
        self._body: list[bytes] | None = None
        self._have = 0
        self._chunked: ChunkedBody | None = None
        self._rest = b""
        self._busy = False
        self._closing = False
        self._stuck = False
        self._lingers = False
        self._waits_since = gateway.coarse
        """Since when the present phase (idle, head, body, writing) lasts."""

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
        if not self._busy:
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
        head = gateway.heads.get(raw)
        if head is None:
            if end > gateway.limits.head_bytes:
                self._refuse_head()
                return
            head = gateway.parse_head(raw)
        length = head.length
        stop = end + length
        if length >= 0 and len(data) >= stop and not head.fatal:
            self._rest = data[stop:] if len(data) > stop else b""
            self._head = head
            self._busy = True
            gateway.handle(self, head, data[end:stop])
            return
        self._begin_body(head, data[end:])

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
        if self._closing or self._stuck or self._gateway.draining:
            if not self._stuck:
                self.transport.close()
            return
        self.transport.resume_reading()
        if self._rest:
            data, self._rest = self._rest, b""
            self._read_head(data)

    # ---- bodies with a coding

    def decode_body(self, head: Head, body: bytes) -> None:
        """Inflate ``body`` and hand it to the gateway again; large ones in a thread."""
        try:
            coding.check_coding(head.content_encoding)
        except Unsupported as error:
            self.fail(error, b"accept-encoding: gzip, deflate\r\n")
            return
        if head.content_encoding in coding.IDENTITY:
            self._gateway.dispatch(self, head, body)
            return
        if len(body) <= coding.INLINE_BYTES // 8:
            result = self._gateway.attempt(coding.inflate, body, head.content_encoding, min(coding.INLINE_BYTES, head.limit))
            if not isinstance(result, PayloadTooLarge):
                self._inflated(head, result)
                return
        self._gateway.in_thread(
            lambda result: self._inflated(head, result), coding.inflate, body, head.content_encoding, head.limit
        )

    def _inflated(self, head: Head, result: bytes | HeadgateError) -> None:
        if self._closing:  # gone in the meantime
            self.transport.close()
            return
        if isinstance(result, HeadgateError):
            self.fail(result)
        else:
            self._gateway.dispatch(self, head, result)

    # ---- answering

    def answered(self, request: InferRequest, response: InferResponse) -> None:
        """The model's answer to the request in flight."""
        head = self._head
        assert head is not None and head.endpoint is not None
        self.request = None
        try:
            reply = head.endpoint.protocol.encode(request, response)
        except HeadgateError as error:
            self.failed(request, error)
            return
        extra = b""
        if head.timing:
            extra = b"x-headgate-queue-ms: %.3f\r\nx-headgate-compute-ms: %.3f\r\nx-headgate-batch-rows: %d\r\n" % (
                ((request.started or request.arrived) - request.arrived) * 1e3, response.batch.compute * 1e3, response.batch.rows,
            )  # fmt: skip
        self.series.count(200, response.batch.finished - request.arrived)
        self.reply(reply, extra)

    def failed(self, request: InferRequest, error: HeadgateError) -> None:
        """The request in flight failed."""
        self.request = None
        self.series.count(error.status, self._gateway.now() - request.arrived)
        self._gateway.count_failure(request, error, self)
        self.fail(error)

    def fail(self, error: HeadgateError, headers: bytes = b"") -> None:
        """Answer with an error, in the protocol's form where the path has one."""
        head = self._head
        protocol = head.endpoint.protocol if head is not None and head.endpoint is not None else None
        self.reply(protocol.encode_error(error) if protocol is not None else error_reply(error), headers)

    def reply(self, reply: Reply, headers: bytes = b"") -> None:
        """Write an answer and go on to the next request."""
        head = self._head
        assert head is not None
        if head.accept_encoding and len(reply.body) >= _COMPRESS_FROM:
            chosen = coding.choose(head.accept_encoding)
            if chosen:
                self._reply_compressed(reply, headers, chosen)
                return
        self._write(reply, headers)

    def _reply_compressed(self, reply: Reply, headers: bytes, chosen: str) -> None:
        headers += b"content-encoding: %b\r\nvary: accept-encoding\r\n" % chosen.encode()
        body = bytes(reply.body)
        if len(body) <= coding.INLINE_BYTES:
            self._write(reply._replace(body=coding.deflate(body, chosen)), headers)
        else:
            self._gateway.in_thread(lambda done: self._write(reply._replace(body=done), headers), coding.deflate, body, chosen)

    def _write(self, reply: Reply, headers: bytes) -> None:
        head, gateway = self._head, self._gateway
        assert head is not None
        if self.transport.is_closing():
            return
        close = not head.keep_alive or self._closing or gateway.draining
        body = reply.body
        request_id = head.request_id or gateway.ids.next().encode()
        answer = b"%bcontent-type: %b\r\ncontent-length: %d\r\nx-request-id: %b\r\n%b%b%b\r\n" % (
            gateway.ok_prefix if reply.status == 200 else _STATUS[reply.status] + gateway.common_headers,
            reply.content_type,
            len(body),
            request_id,
            reply.headers,
            headers,
            b"connection: close\r\n" if close else head.connection,
        )
        if gateway.access_log:
            gateway.log_request(head, reply.status, len(body), request_id.decode())
        if head.method == "HEAD":
            body = b""
        if len(body) < _STASH:
            self.transport.write(answer + body)
        else:
            self.transport.write(answer)
            self.transport.write(body)
        self._finish(close)

    def _finish(self, close: bool) -> None:
        self._head = None
        self._busy = False
        self._waits_since = self._gateway.coarse
        if close:
            self._closing = True
            self.transport.close()
        elif self._rest:
            # Not at once: a long pipeline must not starve its neighbours, nor grow the stack.
            self._gateway.loop.call_soon(self._next)
        elif self._stuck:
            self._waits_since = self._gateway.coarse

    def _refuse_and_close(self, error: HeadgateError, status: int | None = None) -> None:
        """Answer an error after which the framing of the connection cannot be trusted."""
        reply = error_reply(error)
        if status is not None:
            reply = reply._replace(status=status)
        self._gateway.count_refused(reply.status)
        head = b"%b%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (
            _STATUS[reply.status], self._gateway.common_headers, len(reply.body),
        )  # fmt: skip
        self.transport.write(head + bytes(reply.body))
        self._closing = self._busy = True
        if self.transport.can_write_eof():
            self._lingers = True
            self._waits_since = self._gateway.coarse
            self.transport.write_eof()
        else:
            self.transport.close()

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
        """Close now if nothing is in flight; else after the answer."""
        if not self._busy and self._head is None and not self._rest:
            self.transport.close()
