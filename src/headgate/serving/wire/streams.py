"""Requests over HTTP/2: one exchange on each stream, with the same paths as over HTTP/1.1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headgate.errors import ReceiveTimeout
from headgate.protocols.base import InferRequest, Reply
from headgate.serving.wire.exchange import Exchange, log_request
from headgate.serving.wire.head import Head, too_large
from headgate.serving.wire.http2.connection import Http2Connection
from headgate.serving.wire.http2.frames import ErrorCode
from headgate.serving.wire.http2.headers import RequestHeaders, encode_block
from headgate.serving.wire.http2.stream import Stream
from headgate.tensors import Buffer

if TYPE_CHECKING:
    from headgate.serving.gateway import Gateway


class GatewayConnection(Http2Connection):
    """A connection of HTTP/2 to a gateway, and what its streams are."""

    __slots__ = ("gateway",)

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(open_stream, gateway.http2_limits, gateway.loop.call_soon, gateway.coarse)
        self.gateway = gateway

    def connection_made(self, transport: Any) -> None:
        """Count it in."""
        super().connection_made(transport)
        if not self.gateway.connected(self):
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it out, and give up what its streams asked for."""
        super().connection_lost(exc)
        self.gateway.disconnected(self)
        if self.fault is not None:
            self.gateway.count_refused(400)


def open_stream(connection: GatewayConnection, stream_id: int, headers: RequestHeaders) -> Stream:
    """Return what a request calls for. Which kind that is, and the head, are kept with the header block, which is known by its bytes."""
    gateway = connection.gateway
    note = headers.note
    if note is None or note[0] != gateway.heads.generation:
        head = gateway.heads.of(headers)
        note = headers.note = (gateway.heads.generation, gateway.stream_kinds[head.transport](head), head)
    stream: Stream = note[1](connection, stream_id, headers, note[2])
    return stream


class RequestStream(Stream, Exchange):
    """A stream with one request and one answer; what they look like is said by those who derive from it."""

    __slots__ = Exchange.SLOTS

    def __init__(self, connection: GatewayConnection, stream_id: int, headers: RequestHeaders, head: Head) -> None:
        Stream.__init__(self, connection, stream_id, headers)
        self._gateway = connection.gateway
        self._head = head
        self.request: InferRequest | None = None
        self.series: Any = None

    @property
    def gone(self) -> bool:
        """Whether nothing can be sent any more: the stream has been closed, or the end of its answer waits for the client."""
        return self.concluded or self.stream_id not in self.connection.streams

    def reset(self, code: int) -> None:
        """The client has gone: what it asked for is not run any more, if it still waits."""
        request, self.request = self.request, None
        if request is not None:
            self._gateway.abandon(request, self)

    def writable(self) -> None:
        """The client has taken what was written."""
        self.room_again()


class HttpStream(RequestStream):
    """One request of plain HTTP."""

    __slots__ = ("_have", "_parts")

    def __init__(self, connection: GatewayConnection, stream_id: int, headers: RequestHeaders, head: Head) -> None:
        super().__init__(connection, stream_id, headers, head)
        self._parts: list[Buffer] = []
        self._have = 0

    def data(self, data: Buffer, end: bool) -> None:
        """Keep a part of the body, up to its limit."""
        head = self._head
        assert head is not None
        self._have += len(data)
        if self._have > head.limit:
            self._parts.clear()
            self.fail(too_large(self._have, head.limit, self._gateway.limits.json_bytes))
            return
        self._parts.append(data)
        if end:
            self.ended()

    def ended(self) -> None:
        """The request is whole."""
        head = self._head
        assert head is not None
        body = b"".join(self._parts)
        self._parts.clear()
        self._gateway.handle(self, head, body)

    def overdue(self) -> None:
        """Tell the client that its body came too slowly."""
        self.fail(ReceiveTimeout(f"the body did not arrive within {self._gateway.limits.body_seconds:g} s"))

    def _write(self, reply: Reply, headers: bytes) -> None:
        head, gateway = self._head, self._gateway
        assert head is not None
        request_id = head.request_id or gateway.ids.next().encode()
        body = reply.body
        block = encode_block(
            [
                (b":status", b"%d" % reply.status),
                (b"content-type", reply.content_type),
                (b"content-length", b"%d" % len(body)),
                (b"x-request-id", request_id),
                *fields_of(gateway.common_headers),
                *fields_of(reply.headers),
                *fields_of(headers),
            ]
        )
        if gateway.access_log:
            log_request(gateway, head, reply.status, len(body), request_id.decode())
        self.connection.send_reply(self.stream_id, block, b"" if head.method == "HEAD" else memoryview(body))

    def _begin_parts(self, content_type: bytes, headers: bytes) -> None:
        fields = [(b":status", b"200"), (b"content-type", content_type)]
        block = encode_block([*fields, *fields_of(self._gateway.common_headers), *fields_of(headers)])
        self.connection.send_headers(self.stream_id, block)

    def write_part(self, data: bytes) -> bool:
        """Write a part of an answer; return whether the client has room for more."""
        return self.connection.send_data(self.stream_id, data)

    def _end_parts(self) -> None:
        self.connection.send_data(self.stream_id, b"", True)

    def _break_parts(self) -> None:
        self.connection.reset(self.stream_id, ErrorCode.INTERNAL_ERROR)


def fields_of(lines: bytes) -> list[tuple[bytes, bytes]]:
    """Return header lines of HTTP/1.1, each ended by CRLF, as fields."""
    fields = []
    for line in lines.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b": ")
        fields.append((name.lower(), value))
    return fields
