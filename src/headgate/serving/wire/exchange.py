"""One request and its answer, whatever carries them: what the gateway and the queue know of a client."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from headgate.errors import HeadgateError
from headgate.protocols.base import InferRequest, InferResponse, Reply, error_reply
from headgate.serving.wire.head import Head

if TYPE_CHECKING:
    from headgate.serving.gateway import Gateway


class Exchange:
    """An HTTP/1.1 connection is one exchange after another; of HTTP/2, each stream is one."""

    __slots__ = ("_gateway", "_head", "request", "series")

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._head: Head | None = None
        """Of the request that is being read or answered."""
        self.request: InferRequest | None = None
        """What is in the queue or a replica for it."""
        self.series: Any = None
        """Where the request in flight is counted."""

    @abstractmethod
    def reply(self, reply: Reply, headers: bytes = b"") -> None:
        """Write an answer, with further header lines."""

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
