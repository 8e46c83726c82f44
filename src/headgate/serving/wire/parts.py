"""Answers in parts over HTTP: each as it comes, as a server-sent event or as it is, or all of them in one answer at the end.

A sink takes parts by ``streamed``, which says whether the client has room for more, and at the end ``answered`` or ``failed``.
Source for events: the HTML standard, section 9.2 (server-sent events).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from headgate.errors import FailedPrecondition, HeadgateError
from headgate.protocols.base import EVENT_STREAM, InferRequest, InferResponse, Protocol, event

if TYPE_CHECKING:
    from headgate.serving.wire.exchange import Exchange

Resume = Callable[[InferRequest], None]
_OVERHEAD = 256
"""Bytes that a part which waits takes beside its tensors."""


class Sink:
    """What all forms share."""

    __slots__ = ("_exchange", "_protocol", "_resume", "begun")

    def __init__(self, exchange: Exchange, protocol: Protocol, resume: Resume) -> None:
        self._exchange = exchange
        self._protocol = protocol
        self._resume = resume
        self.begun = False
        """A part has come, so the request cannot be run again elsewhere."""

    def resume(self, request: InferRequest) -> None:
        """The client has room for more parts."""
        self._resume(request)

    def failed(self, request: InferRequest, error: HeadgateError) -> None:
        """The request failed, and nothing of the answer is out yet."""
        self._exchange.failed(request, error)


class Pieces(Sink):
    """Each part is bytes of the answer, as they come. The status is fixed by the first: a later error breaks the answer off."""

    __slots__ = ("_media", "_request_id", "_size")

    def __init__(self, exchange: Exchange, protocol: Protocol, resume: Resume, media: bytes) -> None:
        super().__init__(exchange, protocol, resume)
        self._media = media
        self._request_id = b""
        self._size = 0

    def streamed(self, request: InferRequest, response: InferResponse) -> bool:
        """Write one part. Raises `HeadgateError` where it cannot be written."""
        data = self._piece(self._protocol.encode_part(request, response))
        if not self.begun:
            self._begin(request, response)
        return self._write(data) if data else True  # an empty chunk would be the end of the body (RFC 9112, section 7.1)

    def answered(self, request: InferRequest, response: InferResponse) -> None:
        """That was all; perhaps there was nothing."""
        if not self.begun:
            self._begin(request, response)
        self._exchange.count_answered(request, response)
        self._end(200)

    def failed(self, request: InferRequest, error: HeadgateError) -> None:
        """Tell the error, in what form there is where there is an answer already."""
        if not self.begun:
            super().failed(request, error)
            return
        self._exchange.count_failed(request, error)
        self._fail(error)

    def _piece(self, part: bytes) -> bytes:
        return part

    def _fail(self, error: HeadgateError) -> None:
        self._exchange.break_parts(error.status, self._size, self._request_id)

    def _begin(self, request: InferRequest, response: InferResponse) -> None:
        self.begun = True
        self._request_id = self._exchange.begin_parts(request, response, self._media)

    def _write(self, data: bytes) -> bool:
        self._size += len(data)
        return self._exchange.write_part(data)

    def _end(self, status: int) -> None:
        self._exchange.end_parts(status, self._size, self._request_id)


class Events(Pieces):
    """Each part is an event; later errors are events, too."""

    __slots__ = ()

    def __init__(self, exchange: Exchange, protocol: Protocol, resume: Resume) -> None:
        super().__init__(exchange, protocol, resume, EVENT_STREAM)

    def _piece(self, part: bytes) -> bytes:
        return event(part)

    def _fail(self, error: HeadgateError) -> None:
        self._write(event(bytes(self._protocol.encode_error(error).body)))
        self._end(error.status)


class Collected(Sink):
    """All parts are one answer; or there must be exactly one."""

    __slots__ = ("_limit", "_only", "_parts", "_size")

    def __init__(self, exchange: Exchange, protocol: Protocol, resume: Resume, only: str, limit: int) -> None:
        """``only`` is said where another number of parts than one comes; empty: any number will do, up to ``limit`` bytes."""
        super().__init__(exchange, protocol, resume)
        self._only = only
        self._limit = limit
        self._parts: list[InferResponse] = []
        self._size = 0

    def streamed(self, request: InferRequest, response: InferResponse) -> bool:
        """Keep one part. Raises `FailedPrecondition` where there are too many."""
        self.begun = True
        self._parts.append(response)
        if self._only and len(self._parts) > 1:
            raise FailedPrecondition(self._only)
        self._size += _OVERHEAD + sum(len(output.data) for output in response.outputs)
        if self._size > self._limit:
            raise FailedPrecondition(
                f"the parts of the answer have more than {self._limit} bytes together; take them one by one, as events "
                "(accept: text/event-stream)"
            )
        return True

    def answered(self, request: InferRequest, response: InferResponse) -> None:
        """Write the answer."""
        parts, protocol = self._parts, self._protocol
        try:
            if not self._only:
                reply = protocol.encode_parts(request, parts)
            elif parts:
                reply = protocol.encode(request, parts[0])
            else:
                raise FailedPrecondition(self._only)
        except HeadgateError as error:
            self.failed(request, error)
            return
        self._exchange.count_answered(request, response)
        self._exchange.reply(reply)
