"""gRPC over HTTP/2: messages in frames of their own, deadlines, compression, status and trailers.

Source: github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md. Calls with more than one message on either side
are in `headgate.serving.wire.grpc_streams`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from headgate.errors import DeadlineExceeded, HeadgateError, InvalidRequest, PayloadTooLarge, Unsupported
from headgate.protocols.base import Reply
from headgate.serving.wire import coding
from headgate.serving.wire.exchange import log_request
from headgate.serving.wire.head import Head
from headgate.serving.wire.http2.headers import RequestHeaders, encode_block
from headgate.serving.wire.streams import GatewayConnection, RequestStream, fields_of
from headgate.tensors import Buffer

_PREFIX = 5
"""Bytes before each message: whether it is compressed, and its length."""
_SHORT = 4096
"""Bytes of a message up to which it may take the short way."""
_PREFIXES = [b"\x00" + length.to_bytes(4, "big") for length in range(_SHORT)]
"""Of messages that are not compressed, by their lengths."""
_ANSWER = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_PLAIN = encode_block(_ANSWER)
_GZIPPED = _PLAIN + encode_block([(b"grpc-encoding", b"gzip")])
OK = encode_block([(b"grpc-status", b"0")])
_ID = encode_block([(b"x-request-id", b"")])[:-1]
_SHORT_ID = 126
"""Characters of an id up to which its length is one byte (RFC 7541, section 5.1)."""
_BEGINNINGS = [[begin + _ID + bytes([length]) for length in range(_SHORT_ID + 1)] for begin in (_PLAIN, _GZIPPED)]
"""What stands before an id, by its length."""
_ACCEPTED = [(b"grpc-accept-encoding", b"identity,gzip,deflate")]
_TEXT_BYTES = 1000
"""Of an error, before it is escaped: a client's room for headers is small, often 8 KiB, and escaping takes three for one."""
_SAFE = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
"""What grpc-message carries as it is: all of printable ASCII but the percent sign."""
_COMPRESS_FROM = 1024
_LARGE = 64 * 1024
"""Bytes of a message from which it is not copied out of what came with it."""


class Messages:
    """Cuts what comes on a stream into messages, one whenever it is asked for one."""

    __slots__ = ("_at", "_have", "_limit", "_need", "_parts")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[Buffer] = []
        self._at = 0
        """Where in the first part the next message begins."""
        self._have = 0
        """Bytes from there on."""
        self._need = _PREFIX

    @property
    def open(self) -> bool:
        """Whether a message has begun that has not been taken."""
        return self._have > 0

    def feed(self, parts: Sequence[Buffer]) -> bool:
        """Keep what has come; return whether `take` would find more than the last time."""
        self._parts += parts
        self._have += sum(map(len, parts))
        return self._have >= self._need

    def take(self) -> tuple[bool, Buffer] | None:
        """Return whether the next message is compressed, and the message; None where it has not come whole.

        Raises `InvalidRequest`, `PayloadTooLarge`. Parts are joined only once a message is whole, and what has been joined is cut
        where it lies, so that small parts and small messages cost no more than their bytes.
        """
        if self._have < self._need:
            return None
        self._join(_PREFIX)
        self._need = _PREFIX + self._length(self._parts[0], self._at)
        if self._have < self._need:
            return None
        self._join(self._need)
        first, at = self._parts[0], self._at
        stop = at + self._need
        self._have -= self._need
        body = first[at + _PREFIX : stop] if self._need < _LARGE else memoryview(first)[at + _PREFIX : stop]
        found = first[at] == 1, bytes(body) if self._need < _LARGE else body
        self._at, self._need = stop, _PREFIX
        if stop == len(first):
            del self._parts[0]
            self._at = 0
        return found

    def _join(self, size: int) -> None:
        """See to it that the first part has ``size`` bytes, of those that there are."""
        if len(self._parts[0]) - self._at < size:
            self._parts[0] = self._parts[0][self._at :]
            self._parts, self._at = [b"".join(self._parts)], 0

    def _length(self, data: Buffer, at: int) -> int:
        length = int.from_bytes(data[at + 1 : at + _PREFIX], "big")
        if data[at] > 1:
            raise InvalidRequest(f"a message begins with the flag {data[at]}, which has no meaning; expected 0 or 1")
        if length > self._limit:
            raise PayloadTooLarge(f"a message of {length} bytes exceeds the maximum allowed, {self._limit}")
        return length


class Call(RequestStream):
    """What all calls share: how they end."""

    __slots__ = ("_begun", "_gzip", "_id")

    def __init__(self, connection: GatewayConnection, stream_id: int, headers: RequestHeaders, head: Head) -> None:
        # Not by `super`, which takes longer: one is made for every call.
        RequestStream.__init__(self, connection, stream_id, headers, head)
        self._begun = False
        """The answer's headers are out."""
        self._gzip = False
        """The client compresses, so it may be answered so."""
        self._id = b""

    def fail(self, error: HeadgateError, headers: bytes = b"") -> None:
        """End the call with the error as its status, as the protocol puts it."""
        head = self._head
        if head is not None and head.endpoint is not None:
            error = head.endpoint.protocol.worded(error)
        fields = [] if self._begun else [*_ANSWER, (b"x-request-id", self._request_id()), *fields_of(headers)]
        if isinstance(error, Unsupported) and not self._begun:
            fields += _ACCEPTED
        fields += [(b"grpc-status", b"%d" % error.grpc), (b"grpc-message", escaped(str(error)))]
        if error.retry_after is not None:
            fields.append((b"grpc-retry-pushback-ms", b"%d" % round(error.retry_after * 1000)))
        self._log(error.status, 0)
        self.connection.send_headers(self.stream_id, encode_block(fields), end=True)

    def overdue(self) -> None:
        """Tell the client that its request came too slowly."""
        self.fail(DeadlineExceeded(f"the request did not arrive within {self._gateway.limits.body_seconds:g} s"))

    def _write(self, reply: Reply, headers: bytes) -> None:
        block = self._headers()
        if headers:
            block += encode_block(fields_of(headers))
        if self._gateway.access_log:
            self._log(200, len(reply.body))
        self.connection.send_reply(self.stream_id, block, self._frame(reply.body), OK)

    def _request_id(self) -> bytes:
        if not self._id:
            head = self._head
            assert head is not None
            self._id = head.request_id or self._gateway.ids.next().encode()
        return self._id

    def _headers(self) -> bytes:
        request_id = self._request_id()
        if len(request_id) > _SHORT_ID:
            return (_GZIPPED if self._gzip else _PLAIN) + encode_block([(b"x-request-id", request_id)])
        return _BEGINNINGS[self._gzip][len(request_id)] + request_id

    def _frame(self, body: Buffer) -> bytes:
        """Return one message as it goes out."""
        size = len(body)
        if self._gzip and _COMPRESS_FROM <= size <= coding.INLINE_BYTES:  # a larger one would hold up everybody else
            body = coding.deflate(bytes(body), "gzip")
            return b"\x01" + len(body).to_bytes(4, "big") + body
        return (_PREFIXES[size] if size < _SHORT else b"\x00" + size.to_bytes(4, "big")) + body

    def compresses(self, gzip: bool) -> None:
        """The client compresses its messages, so it is answered likewise."""
        self._gzip = gzip

    def _log(self, status: int, size: int) -> None:
        if self._gateway.access_log:
            assert self._head is not None
            log_request(self._gateway, self._head, status, size, self._request_id().decode())


class UnaryCall(Call):
    """One message, one answer."""

    __slots__ = ("_message", "_messages")

    def __init__(self, connection: GatewayConnection, stream_id: int, headers: RequestHeaders, head: Head) -> None:
        Call.__init__(self, connection, stream_id, headers, head)
        self._messages: Messages | None = None
        """Where the call came in parts."""
        self._message: tuple[bool, Buffer] | None = None
        if head.error is not None:  # whoever may not ask need not send, and some wait for a word before they do
            self._gateway.loop.call_soon(self._refuse_head)

    def data(self, data: Buffer, end: bool) -> None:
        """Take a part; the short way has the whole call in one."""
        head, size = self._head, len(data) - _PREFIX
        assert head is not None
        if end and self._messages is None and 0 <= size < _SHORT and size <= head.limit and data[:_PREFIX] == _PREFIXES[size]:
            self._gateway.dispatch(self, head, data[_PREFIX:])
        else:
            self._feed((data,), end)

    def parts(self, parts: Sequence[Buffer]) -> None:
        """Take several parts, none of them the last."""
        self._feed(parts, False)

    def _feed(self, parts: Sequence[Buffer], end: bool) -> None:
        head = self._head
        assert head is not None
        if head.error is not None:
            self._gateway.dispatch(self, head, b"")
            return
        messages = self._messages
        if messages is None:
            messages = self._messages = Messages(head.limit)
        try:
            if messages.feed(parts) and self._message is None:
                self._message = messages.take()
            if self._message is not None and messages.open:
                raise Unsupported("this method takes one message, and more than one came")
        except HeadgateError as error:
            self._refuse(error)
            return
        if end:
            self.ended()

    def ended(self) -> None:
        """The call is whole."""
        head = self._head
        assert head is not None
        if head.error is not None:
            self._gateway.dispatch(self, head, b"")
        elif self._message is None or (self._messages is not None and self._messages.open):
            self._refuse(InvalidRequest("the call ended before its message was whole"))
        else:
            compressed, body = self._message
            receive(self, head, compressed, body)

    def _refuse_head(self) -> None:
        head = self._head
        assert head is not None
        if not self.gone:
            self._gateway.dispatch(self, head, b"")

    def _refuse(self, error: HeadgateError) -> None:
        self._gateway.count_refused(error.status)
        self.fail(error)


def escaped(text: str) -> bytes:
    """Return what grpc-message says: UTF-8, percent-encoded."""
    data = text.encode("utf-8", "replace")
    if len(data) > _TEXT_BYTES:
        data = data[:_TEXT_BYTES].decode("utf-8", "ignore").encode()
    return quote(data, safe=_SAFE).encode()


def receive(exchange: Any, head: Head, compressed: bool, body: Buffer) -> None:
    """Hand one message to the gateway, inflated."""
    if not compressed:
        exchange._gateway.dispatch(exchange, head, body)
    elif head.content_encoding in coding.IDENTITY:
        exchange.fail(InvalidRequest("a message is marked as compressed, but the call names no grpc-encoding"))
    else:
        exchange.compresses(head.content_encoding == "gzip")
        exchange.decode_body(head, body)
