"""Calls of gRPC with more than one message, on either side."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from headgate.errors import DeadlineExceeded, HeadgateError
from headgate.protocols.base import InferRequest, InferResponse, Reply
from headgate.protocols.base.grpc import GrpcProtocol
from headgate.serving.wire.exchange import Exchange
from headgate.serving.wire.grpc import OK, Call, UnaryCall, receive
from headgate.serving.wire.head import Head
from headgate.serving.wire.http2.headers import RequestHeaders
from headgate.serving.wire.streams import GatewayConnection

if TYPE_CHECKING:
    from headgate.serving.gateway import Gateway

_LOOK_SECONDS = 0.5
"""How often a watched answer is looked at anew."""
_WAITING, _RESUMED = 64, 32
"""Messages of one stream that may wait for their answers before no more are taken, and from which on they are again."""


class StreamingCall(Call):
    """A stream of messages, each queued and answered by itself, in order. It ends when the client has, and all are answered."""

    __slots__ = ("_ended", "_held", "_waiting")

    def __init__(self, connection: GatewayConnection, stream_id: int, headers: RequestHeaders, head: Head) -> None:
        super().__init__(connection, stream_id, headers, head)
        self._waiting: deque[StreamedRequest] = deque()
        self._ended = self._held = False
        self.complete_by = float("inf")
        if head.timeout is not None:
            self._gateway.loop.call_later(head.timeout, self._expire)

    def data(self, data: bytes, end: bool) -> None:
        """Take a part, and queue the messages it completes."""
        head = self._head
        assert head is not None
        if head.error is not None:
            self._gateway.dispatch(self, head, b"")
            return
        try:
            messages = self._take(data)
        except HeadgateError as error:
            self._gateway.count_refused(error.status)
            self.stop(error)
            return
        for compressed, body in messages:
            item = StreamedRequest(self, body)
            self._waiting.append(item)
            receive(item, head, compressed, body)
            if self.gone:
                return
        if len(self._waiting) > _WAITING and not self._held:
            self._held = True
            self.connection.hold(self.stream_id)
        if end:
            self.ended()

    def ended(self) -> None:
        """The client sends no more."""
        head = self._head
        assert head is not None
        if head.error is not None:
            self._gateway.dispatch(self, head, b"")
            return
        self._ended = True
        self.advance()

    def advance(self) -> None:
        """Send what has been answered, in order; end where nothing more can come."""
        if self.gone:
            return
        while self._waiting and self._waiting[0].answer is not None:
            item = self._waiting.popleft()
            if isinstance(item.answer, HeadgateError):
                self.stop(item.answer)
                return
            self._begin()
            assert item.answer is not None
            self.connection.send_data(self.stream_id, self._frame(item.answer))
        if self._held and len(self._waiting) < _RESUMED and self.backlog is None:
            self._held = False
            self.connection.release(self.stream_id)
        if self._ended and not self._waiting:
            self._begin()
            self._log(200, 0)
            self.connection.send_headers(self.stream_id, OK, end=True)

    def writable(self) -> None:
        """The client has taken its answers: take further messages."""
        self.advance()

    def stop(self, error: HeadgateError) -> None:
        """End the call with an error; what still waits is given up."""
        self._give_up()
        self.fail(error)

    def reset(self, code: int) -> None:
        """The client has gone."""
        self._give_up()

    def compresses(self, gzip: bool) -> None:
        """The client compresses its messages; once the headers are out it is too late to follow."""
        self._gzip = self._gzip if self._begun else gzip

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self.connection.send_headers(self.stream_id, self._headers())

    def _give_up(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        for item in waiting:
            item.abandon()

    def _expire(self) -> None:
        if not self.gone:
            self.stop(DeadlineExceeded("the deadline of the call has passed"))


class StreamedRequest(Exchange):
    """One message of a stream, on its way to its answer."""

    __slots__ = (*Exchange.SLOTS, "_body", "_call", "answer")

    def __init__(self, call: StreamingCall, body: bytes) -> None:
        self._gateway: Gateway = call._gateway
        self._head = call._head
        self.request: InferRequest | None = None
        self.series: Any = None
        self._call = call
        self._body = body
        self.answer: bytes | HeadgateError | None = None
        """Once it is there: the message, or the error that ends the stream."""

    @property
    def gone(self) -> bool:
        """Whether the stream has been closed."""
        return self._call.gone

    def answered(self, request: InferRequest, response: InferResponse) -> None:
        """The model's answer."""
        protocol = self._protocol()
        self.request = None
        try:
            answer = protocol.encode_streamed(request, response)
        except HeadgateError as error:
            self.failed(request, error)
            return
        self.series.count(200, response.batch.finished - request.arrived)
        self._settle(answer)

    def fail(self, error: HeadgateError, headers: bytes = b"") -> None:
        """Answer with an error, within the stream where the protocol has words for it."""
        head, protocol = self._head, self._protocol()
        assert head is not None
        try:
            message = protocol.parse(head, self._body)
        except HeadgateError:
            message = None
        answer = protocol.encode_streamed_error(message, error)
        self._settle(error if answer is None else answer)

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        request, self.request = self.request, None
        if request is not None:
            self._gateway.abandon(request, self)

    def compresses(self, gzip: bool) -> None:
        """The client compresses its messages."""
        self._call.compresses(gzip)

    def _write(self, reply: Reply, headers: bytes) -> None:
        self._settle(bytes(reply.body))

    def _protocol(self) -> GrpcProtocol:
        head = self._head
        assert head is not None and head.endpoint is not None and isinstance(head.endpoint.protocol, GrpcProtocol)
        return head.endpoint.protocol

    def _settle(self, answer: bytes | HeadgateError) -> None:
        self.answer = answer
        self._call.advance()


class WatchingCall(UnaryCall):
    """One message, answered at once, and again whenever the answer has changed, until the client goes."""

    __slots__ = ("_last",)

    def __init__(self, connection: GatewayConnection, stream_id: int, headers: RequestHeaders, head: Head) -> None:
        super().__init__(connection, stream_id, headers, head)
        self._last: bytes | None = None
        if head.timeout is not None:
            self._gateway.loop.call_later(head.timeout, self._expire)

    def _write(self, reply: Reply, headers: bytes) -> None:
        body = bytes(reply.body)
        if not self._begun:
            self._begun = True
            self.connection.send_headers(self.stream_id, self._headers())
        if body != self._last:
            self._last = body
            self.connection.send_data(self.stream_id, self._frame(body))
        self._gateway.loop.call_later(_LOOK_SECONDS, self._look)

    def _whole(self, head: Head, body: bytes) -> None:
        self._message = (False, body)
        super()._whole(head, body)

    def _look(self) -> None:
        """Answer anew."""
        head = self._head
        assert head is not None and self._message is not None
        if not self.gone:
            receive(self, head, *self._message)

    def _expire(self) -> None:
        if not self.gone:
            self.fail(DeadlineExceeded("the deadline of the call has passed"))


def call_of(connection: GatewayConnection, stream_id: int, headers: RequestHeaders, head: Head) -> Call:
    """Return the call that a request of transport ``grpc`` begins."""
    route = head.endpoint.route if head.endpoint is not None else None
    kind = UnaryCall if route is None else StreamingCall if route.streaming else WatchingCall if route.watching else UnaryCall
    return kind(connection, stream_id, headers, head)
