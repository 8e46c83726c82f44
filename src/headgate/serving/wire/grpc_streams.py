"""Calls of gRPC with more than one message, on either side."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from headgate.errors import DeadlineExceeded, HeadgateError, InvalidRequest
from headgate.protocols.base import InferRequest, InferResponse, Reply
from headgate.protocols.base.grpc import GrpcProtocol
from headgate.serving.wire.exchange import Exchange
from headgate.serving.wire.grpc import OK, Call, Messages, UnaryCall, receive
from headgate.serving.wire.head import Head
from headgate.serving.wire.http2.headers import RequestHeaders
from headgate.serving.wire.parts import Resume, Sink
from headgate.serving.wire.streams import GatewayConnection
from headgate.tensors import Buffer

if TYPE_CHECKING:
    from headgate.serving.gateway import Gateway

_LOOK_SECONDS = 0.5
"""How often a watched answer is looked at anew."""
_WAITING, _RESUMED = 64, 32
"""Messages of one stream that may wait for their answers before no more are taken, and below how many the client may send again."""


class StreamingCall(Call):
    """A stream of messages, each queued and answered by itself, in order. It ends when the client has, and all are answered.

    Answers in parts keep to no order: each part goes out when it comes, and is told from others by the id of its request.
    """

    __slots__ = ("_ended", "_held", "_messages", "_taking", "_timer", "_waiting", "inflating")

    def __init__(self, connection: GatewayConnection, stream_id: int, headers: RequestHeaders, head: Head) -> None:
        super().__init__(connection, stream_id, headers, head)
        self._messages = Messages(head.limit)
        self._waiting: deque[StreamedRequest] = deque()
        self._ended = self._held = self._taking = False
        self.inflating = False
        """A message is being inflated: those behind it must not overtake it."""
        self.complete_by = float("inf")
        self._timer = None if head.timeout is None else self._gateway.loop.call_later(head.timeout, self._expire)

    def data(self, data: Buffer, end: bool) -> None:
        """Take a part, and queue the messages it completes."""
        messages = self._messages
        messages.feed((data,))
        self.advance()
        if messages.open and not self._held:
            self.complete_by = min(self.complete_by, self.connection.request_due)
        if end:
            self.ended()

    def overdue(self) -> None:
        """A message has not come whole in time."""
        self.stop(DeadlineExceeded(f"a message did not arrive within {self._gateway.limits.body_seconds:g} s"))

    def ended(self) -> None:
        """The client sends no more."""
        self._ended = True
        self.advance()

    def advance(self) -> None:
        """Send what has been answered, and queue what has come and has room; end where nothing more can come."""
        if self._taking:
            return  # a message that is being queued has been answered at once
        self._taking = True
        try:
            while not self.gone and self._answer() and self._take_next():
                pass
        except HeadgateError as error:
            self._gateway.count_refused(error.status)
            self.stop(error)
        self._taking = False
        if not self.gone:
            self._settle_room()

    def _take_next(self) -> bool:
        """Queue the next message; return whether there was one, and room for it. Raises `HeadgateError` where it is malformed."""
        head, messages = self._head, self._messages
        assert head is not None
        if self.inflating or self.backlog is not None or len(self._waiting) >= _WAITING:
            return False
        message = messages.take()
        if message is None:
            return False
        self.complete_by = float("inf")
        compressed, body = message
        item = StreamedRequest(self, body)
        self._waiting.append(item)
        receive(item, head, compressed, body)
        return True

    def _answer(self) -> bool:
        """Send what has been answered, in order; return whether the call goes on."""
        while self._waiting and self._waiting[0].answer is not None:
            item = self._waiting.popleft()
            if isinstance(item.answer, HeadgateError):
                self.stop(item.answer)
                return False
            assert item.answer is not None
            if not item.sent:
                self.send(item.answer)
        return True

    def _settle_room(self) -> None:
        """Take no more from a client whose messages wait; end where nothing more can come."""
        full = self.inflating or self.backlog is not None or len(self._waiting) >= _WAITING
        if full and not self._held and not self._ended:
            self._held = True
            self.connection.hold(self.stream_id)
        elif self._held and not full and len(self._waiting) < _RESUMED:
            self._held = False
            self.connection.release(self.stream_id)
        if self._ended and not self._waiting and not full:
            if self._messages.open:
                self.stop(InvalidRequest("the call ended before its last message was whole"))
                return
            self._stop_timer()
            self._begin()
            self._log(200, 0)
            self.connection.send_headers(self.stream_id, OK, end=True)

    def send(self, message: bytes) -> bool:
        """Send one message; return whether the client has room for more."""
        self._begin()
        return self.connection.send_data(self.stream_id, self._frame(message))

    def writable(self) -> None:
        """The client has taken its answers: take further messages, and let answers in parts go on."""
        self.advance()
        for item in list(self._waiting):
            item.room_again()

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

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _give_up(self) -> None:
        self._stop_timer()
        waiting, self._waiting = self._waiting, deque()
        for item in waiting:
            item.abandon()

    def _expire(self) -> None:
        if not self.gone:
            self.stop(DeadlineExceeded("the deadline of the call has passed"))


class StreamedRequest(Exchange):
    """One message of a stream, on its way to its answer."""

    __slots__ = (*Exchange.SLOTS, "_body", "_call", "answer", "sent")

    def __init__(self, call: StreamingCall, body: Buffer) -> None:
        self._gateway: Gateway = call._gateway
        self._head = call._head
        self.request: InferRequest | None = None
        self.series: Any = None
        self._call = call
        self._body = body
        self.answer: bytes | HeadgateError | None = None
        """Once it is there: the message, or the error that ends the stream."""
        self.sent = False
        """The answer has gone out, in parts, and waits for nobody."""

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

    def in_parts(self, request: InferRequest, resume: Resume) -> PartsOnStream:
        """Return the sink for an answer in parts."""
        return PartsOnStream(self, self._protocol(), resume)

    def write_part(self, data: bytes) -> bool:
        """Send a message at once; return whether the client has room for more."""
        return self._call.send(data)

    def finish_parts(self, last: bytes | None) -> None:
        """All of the answer is out, but for one message, where there is one."""
        if last is not None:
            self._call.send(last)
        self.sent = True
        self._settle(b"")

    def message(self) -> Any:
        """Return the request as the protocol reads it. Raises `InvalidRequest`."""
        assert self._head is not None
        return self._protocol().parse(self._head, self._body)

    def fail(self, error: HeadgateError, headers: bytes = b"") -> None:
        """Answer with an error, within the stream where the protocol has words for it."""
        answer = self.words(error)
        self._settle(error if answer is None else answer)

    def words(self, error: HeadgateError) -> bytes | None:
        """Return an error as a message on the stream; None: it ends the stream."""
        try:
            message = self.message()
        except HeadgateError:
            message = None
        return self._protocol().encode_streamed_error(message, error)

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

    def decode_body(self, head: Head, body: Buffer) -> None:
        """Inflate the message; those behind it wait."""
        self._call.inflating = True
        super().decode_body(head, body)

    def _inflated(self, head: Head, result: bytes | HeadgateError) -> None:
        if isinstance(result, bytes):
            self._body = result
        self._call.inflating = False
        super()._inflated(head, result)
        self._call.advance()

    def _protocol(self) -> GrpcProtocol:
        head = self._head
        assert head is not None and head.endpoint is not None and isinstance(head.endpoint.protocol, GrpcProtocol)
        return head.endpoint.protocol

    def _settle(self, answer: bytes | HeadgateError) -> None:
        self.answer = answer
        self._call.advance()


class PartsOnStream(Sink):
    """The sink for one answer in parts, each of which is a message on the stream."""

    __slots__ = ("_grpc", "_item")

    def __init__(self, item: StreamedRequest, protocol: GrpcProtocol, resume: Resume) -> None:
        super().__init__(item, protocol, resume)
        self._item = item
        self._grpc = protocol

    def streamed(self, request: InferRequest, response: InferResponse) -> bool:
        """Send one part. Raises `HeadgateError` where it cannot be written."""
        message = self._grpc.encode_streamed_part(request, response)
        self.begun = True
        return self._item.write_part(message)

    def answered(self, request: InferRequest, response: InferResponse) -> None:
        """That was all."""
        self._item.count_answered(request, response)
        self._item.finish_parts(self._grpc.encode_streamed_end(self._item.message(), request, response))

    def failed(self, request: InferRequest, error: HeadgateError) -> None:
        """Tell the error at once, as the parts; one that ends the stream in its turn."""
        words = self._item.words(error)
        if words is None:
            super().failed(request, error)
            return
        self._item.count_failed(request, error)
        self._item.finish_parts(words)


class WatchingCall(UnaryCall):
    """One message, answered at once, and again whenever the answer has changed, until the client goes."""

    __slots__ = ("_last", "_timer")

    def __init__(self, connection: GatewayConnection, stream_id: int, headers: RequestHeaders, head: Head) -> None:
        super().__init__(connection, stream_id, headers, head)
        self._messages = Messages(head.limit)  # so that the message is kept
        self._last: bytes | None = None
        self._timer = None if head.timeout is None else self._gateway.loop.call_later(head.timeout, self._expire)

    def fail(self, error: HeadgateError, headers: bytes = b"") -> None:
        """End the call."""
        self._stop_timer()
        super().fail(error, headers)

    def reset(self, code: int) -> None:
        """The client has gone."""
        self._stop_timer()
        super().reset(code)

    def _write(self, reply: Reply, headers: bytes) -> None:
        body = bytes(reply.body)
        if not self._begun:
            self._begun = True
            self.connection.send_headers(self.stream_id, self._headers())
        if body != self._last:
            self._last = body
            self.connection.send_data(self.stream_id, self._frame(body))
        self._gateway.loop.call_later(_LOOK_SECONDS, self._look)

    def _look(self) -> None:
        """Answer anew."""
        head = self._head
        assert head is not None and self._message is not None
        if not self.gone:
            receive(self, head, *self._message)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self) -> None:
        if not self.gone:
            self.fail(DeadlineExceeded("the deadline of the call has passed"))


def kind_of_call(head: Head) -> type[Call]:
    """Return the class of the call that a request of transport ``grpc`` begins."""
    route = head.endpoint.route if head.endpoint is not None else None
    return UnaryCall if route is None else StreamingCall if route.streaming else WatchingCall if route.watching else UnaryCall
