"""One request and its answer, whatever carries them: what the gateway and the queue know of a client."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from headgate.errors import HeadgateError, PayloadTooLarge, Unsupported
from headgate.protocols.base import InferRequest, InferResponse, Reply, error_reply
from headgate.serving.wire import coding
from headgate.serving.wire.asides import asides
from headgate.serving.wire.head import Head
from headgate.serving.wire.parts import Collected, Events, Pieces, Resume
from headgate.serving.wire.threads import attempt, in_thread
from headgate.tensors import Buffer

if TYPE_CHECKING:
    from headgate.serving.gateway import Gateway

_COMPRESS_FROM = 1024


class Exchange:
    """An HTTP/1.1 connection is one exchange after another; of HTTP/2, each stream is one."""

    __slots__ = tuple[str]()  # a mix-in: what it knows is laid out by those who mix it in

    SLOTS = ("_gateway", "_head", "request", "series")
    _gateway: Gateway
    _head: Head | None
    """Of the request that is being read or answered."""
    request: InferRequest | None
    """What is in the queue or a replica for it."""
    series: Any
    """Where the request in flight is counted."""

    @abstractmethod
    def _write(self, reply: Reply, headers: bytes) -> None:
        """Write an answer, with further header lines."""

    @property
    @abstractmethod
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""

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
        self.series.count(200, response.batch.finished - request.arrived)
        if request.decision is not None:
            request.decision.answered(response.batch)
        headers = self.series.headers
        self.reply(reply, headers + self._asides(head, request, response) if head.asides else headers)

    def _asides(self, head: Head, request: InferRequest, response: InferResponse) -> bytes:
        return asides(head.asides, request, response, self._gateway.catalogue.revisions.get(self.series.revision))

    def failed(self, request: InferRequest, error: HeadgateError) -> None:
        """The request in flight failed."""
        self.count_failed(request, error)
        self.fail(error)

    def count_failed(self, request: InferRequest, error: HeadgateError) -> None:
        """Count the request in flight as failed; nothing is in flight any more."""
        self.request = None
        now = self._gateway.now()
        self.series.count_failed(error.status, now - request.arrived)
        if request.decision is not None:
            request.decision.failed(error, now)
        self._gateway.count_failure(request, error, self)

    def fail(self, error: HeadgateError, headers: bytes = b"") -> None:
        """Answer with an error, in the protocol's form where the path has one."""
        head = self._head
        protocol = head.endpoint.protocol if head is not None and head.endpoint is not None else None
        self.reply(protocol.encode_error(error) if protocol is not None else error_reply(error), headers)

    def reply(self, reply: Reply, headers: bytes = b"") -> None:
        """Write an answer, with further header lines, compressed where the client likes that."""
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
            self._write(replace(reply, body=coding.deflate(body, chosen)), headers)
        else:
            in_thread(
                self._gateway.loop, lambda done: self._write(replace(reply, body=done), headers), coding.deflate, body, chosen
            )

    # ---- answers in parts

    def in_parts(self, request: InferRequest, resume: Resume) -> Any:
        """Return the sink for an answer in parts, as the protocol wants it; it calls ``resume`` when the client has room for more.

        Raises `Unsupported` where the protocol has no form for one.
        """
        head = self._head
        assert head is not None and head.endpoint is not None
        protocol = head.endpoint.protocol
        form = protocol.in_parts(head, request)
        if form.events:
            return Events(self, protocol, resume)
        if form.media:
            return Pieces(self, protocol, resume, form.media)
        return Collected(self, protocol, resume, form.only, self._gateway.limits.binary_bytes)

    def count_answered(self, request: InferRequest, response: InferResponse) -> None:
        """Count the request in flight as answered; nothing is in flight any more."""
        self.request = None
        self.series.count(200, response.batch.finished - request.arrived)
        if request.decision is not None:
            request.decision.answered(response.batch)

    def begin_parts(self, request: InferRequest, response: InferResponse, media: bytes) -> bytes:
        """Write the head of an answer in parts, with the times up to now where they are wanted. Return the id of the request."""
        head = self._head
        assert head is not None
        request_id = head.request_id or self._gateway.ids.next().encode()
        lines = b"x-request-id: %b\r\ncache-control: no-cache\r\n" % request_id
        self._begin_parts(media, lines + self._asides(head, request, response) if head.asides else lines)
        return request_id

    def _begin_parts(self, content_type: bytes, headers: bytes) -> None:
        """Write the head of an answer of unknown length."""
        raise NotImplementedError

    def write_part(self, data: bytes) -> bool:
        """Write a part of it; return whether the client has room for more. If not, `room_again` is called once it has."""
        raise NotImplementedError

    def end_parts(self, status: int, size: int, request_id: bytes) -> None:
        """End the answer. The line about the request says how it came out: ``status``, and ``size`` bytes of body."""
        self._log_parts(status, size, request_id)
        self._end_parts()

    def break_parts(self, status: int, size: int, request_id: bytes) -> None:
        """End the answer so that the client sees that more should have come."""
        self._log_parts(status, size, request_id)
        self._break_parts()

    def _log_parts(self, status: int, size: int, request_id: bytes) -> None:
        if self._gateway.access_log:
            assert self._head is not None
            log_request(self._gateway, self._head, status, size, request_id.decode())

    def _end_parts(self) -> None:
        raise NotImplementedError

    def _break_parts(self) -> None:
        raise NotImplementedError

    def room_again(self) -> None:
        """The client has room again: if its answer comes in parts, the model may go on."""
        request = self.request
        if request is not None and request.sink is not self:
            request.sink.resume(request)

    # ---- bodies with a coding

    def decode_body(self, head: Head, body: Buffer) -> None:
        """Inflate ``body`` and hand it to the gateway; large ones in a thread."""
        try:
            coding.check_coding(head.content_encoding)
        except Unsupported as error:
            self.fail(error, b"accept-encoding: gzip, deflate\r\n")
            return
        if head.content_encoding in coding.IDENTITY:
            self._gateway.dispatch(self, head, body)
            return
        if len(body) <= coding.INLINE_BYTES // 8:
            result = attempt(coding.inflate, body, head.content_encoding, min(coding.INLINE_BYTES, head.limit))
            if not isinstance(result, PayloadTooLarge):
                self._inflated(head, result)
                return
        in_thread(
            self._gateway.loop, lambda result: self._inflated(head, result), coding.inflate, body, head.content_encoding, head.limit
        )

    def _inflated(self, head: Head, result: bytes | HeadgateError) -> None:
        if self.gone:
            return
        if isinstance(result, HeadgateError):
            self.fail(result)
        else:
            self._gateway.dispatch(self, head, result)


def log_request(gateway: Gateway, head: Head, status: int, size: int, request_id: str) -> None:
    """Write one line about a request: only where the access log is asked for."""
    gateway.log("request", f"{head.method} {head.path[:200]} {status}", status=status, bytes=size, request_id=request_id)
