"""The answering half of an HTTP/1.1 connection: from an answer or an error to bytes, and on to the next request."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from headgate.errors import HeadgateError
from headgate.protocols.base import Reply, error_reply
from headgate.serving.wire.exchange import Exchange, log_request

if TYPE_CHECKING:
    from headgate.serving.gateway import Gateway

_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_STATUS[499] = b"HTTP/1.1 499 Client Closed Request\r\n"
_JOINED = 64 * 1024
"""Bodies below this are written in one piece with their head."""


class Answering(Exchange, asyncio.Protocol):
    """What both halves of a connection know, and the half that writes."""

    __slots__ = (
        *Exchange.SLOTS,
        "_busy",
        "_closing",
        "_lingers",
        "_rest",
        "_stuck",
        "_waits_since",
        "transport",
    )

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._head = self.request = self.series = None
        self.transport: Any = None
        self._rest = b""
        """What has come and is not read yet."""
        self._busy = False
        """A request is being answered."""
        self._closing = False
        self._stuck = False
        """The client does not take its answers."""
        self._lingers = False
        """We have ended our side: what still comes is thrown away."""
        self._waits_since = gateway.coarse
        """Since when the present phase (idle, head, body, writing) lasts."""

    @property
    def gone(self) -> bool:
        """Whether the client has gone; one that has only ended its side is let go here."""
        if self._closing:
            self.transport.close()
        return self._closing

    @abstractmethod
    def _next(self) -> None:
        """The answer is out: take the next request."""

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
            log_request(gateway, head, reply.status, len(body), request_id.decode())
        if head.method == "HEAD":
            body = b""
        if len(body) < _JOINED:
            self.transport.write(answer + body)
        else:
            self.transport.write(answer)
            self.transport.write(body)
        self._finish(close)

    def _begin_parts(self, content_type: bytes, headers: bytes) -> None:
        head, gateway = self._head, self._gateway
        assert head is not None
        # HTTP/1.0 knows no chunks: the end of the connection is the end of the answer.
        close = not (head.keep_alive and head.chunks) or gateway.draining
        ending = b"connection: close\r\n" if close else b""
        framing = b"transfer-encoding: chunked\r\n" if head.chunks else b""
        self._put(b"%bcontent-type: %b\r\n%b%b%b\r\n" % (gateway.ok_prefix, content_type, framing, headers, ending))

    def write_part(self, data: bytes) -> bool:
        """Write a part of an answer; return whether the client takes it."""
        head = self._head
        assert head is not None
        self._put(b"%x\r\n%b\r\n" % (len(data), data) if head.chunks else data)
        return not self._stuck

    def _end_parts(self) -> None:
        head = self._head
        assert head is not None
        if head.chunks:
            self._put(b"0\r\n\r\n")
        self._finish(not (head.keep_alive and head.chunks) or self._closing or self._gateway.draining)

    def _break_parts(self) -> None:
        self._finish(close=True)  # no last chunk has come (RFC 9112, section 8); a client of HTTP/1.0 cannot tell

    def _put(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

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
            reply = replace(reply, status=status)
        self._gateway.count_refused(reply.status)
        head = b"%b%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (
            _STATUS[reply.status], self._gateway.common_headers, len(reply.body),
        )  # fmt: skip
        self.transport.write(head + bytes(reply.body))
        self._hang_up()

    def _hang_up(self) -> None:
        """End our side; what the client still sends is read and thrown away, where there are halves of a connection."""
        self._closing = self._busy = True
        if self.transport.can_write_eof():
            self._lingers = True
            self._waits_since = self._gateway.coarse
            self.transport.write_eof()
        else:
            self.transport.close()
