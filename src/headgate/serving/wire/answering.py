"""The answering half of an HTTP/1.1 connection: from an answer or an error to bytes, and on to the next request."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from headgate.errors import HeadgateError
from headgate.protocols.base import InferRequest, InferResponse, Reply, error_reply
from headgate.serving.wire import coding
from headgate.serving.wire.head import Head

if TYPE_CHECKING:
    from headgate.serving.gateway import Gateway

_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_STATUS[499] = b"HTTP/1.1 499 Client Closed Request\r\n"
_JOINED = 64 * 1024
"""Bodies below this are written in one piece with their head."""
_COMPRESS_FROM = 1024


class Answering(asyncio.Protocol):
    """What both halves of a connection know, and the half that writes."""

    __slots__ = (
        "_busy",
        "_closing",
        "_gateway",
        "_head",
        "_lingers",
        "_rest",
        "_stuck",
        "_waits_since",
        "request",
        "series",
        "transport",
    )

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.transport: Any = None
        self.request: InferRequest | None = None
        """What is in the queue or a replica for this connection."""
        self.series: Any = None
        """Where the request in flight is counted."""
        self._head: Head | None = None
        """Of the request that is being read or answered."""
        self._rest = b""
        """What has come and is not read yet."""
        self._busy = False
        """A request is being answered."""
        self._closing = False
        self._stuck = False
        """The client does not take its answers."""
        self._lingers = False
        """Refused: what still comes is thrown away."""
        self._waits_since = gateway.coarse
        """Since when the present phase (idle, head, body, writing) lasts."""

    @abstractmethod
    def _next(self) -> None:
        """The answer is out: take the next request."""

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
        if len(body) < _JOINED:
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
