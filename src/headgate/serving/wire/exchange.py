"""One request and its answer, whatever carries them: what the gateway and the queue know of a client."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from headgate.errors import HeadgateError, PayloadTooLarge, Unsupported
from headgate.protocols.base import InferRequest, InferResponse, Reply, error_reply
from headgate.serving.wire import coding
from headgate.serving.wire.head import Head
from headgate.serving.wire.threads import attempt, in_thread

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
        self.reply(reply, timing(request, response) if head.timing else b"")

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

    # ---- bodies with a coding

    def decode_body(self, head: Head, body: bytes) -> None:
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


def timing(request: InferRequest, response: InferResponse) -> bytes:
    """Return the header lines that say where the time of a request went."""
    return b"x-headgate-queue-ms: %.3f\r\nx-headgate-compute-ms: %.3f\r\nx-headgate-batch-rows: %d\r\n" % (
        ((request.started or request.arrived) - request.arrived) * 1e3, response.batch.compute * 1e3, response.batch.rows,
    )  # fmt: skip
