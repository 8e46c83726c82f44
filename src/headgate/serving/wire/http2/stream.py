"""One stream: what the connection keeps of it, and what it calls on whoever is above."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headgate.serving.wire.http2.flow import Backlog
from headgate.serving.wire.http2.frames import ErrorCode
from headgate.serving.wire.http2.headers import RequestHeaders

if TYPE_CHECKING:
    from headgate.serving.wire.http2.connection import Http2Connection


class Stream:
    """The base of what is built on a stream; the module `connection` says who calls what, and when.

    It is one object, not two that know each other, because making it is a good part of what a small request costs. The attributes
    below ``connection`` are the connection's own, but for ``complete_by``.
    """

    __slots__ = ("backlog", "complete_by", "connection", "expects", "held", "receiving", "room", "stream_id", "window")

    def __init__(self, connection: Http2Connection, stream_id: int, headers: RequestHeaders) -> None:
        self.connection = connection
        self.stream_id = stream_id
        self.receiving = True
        """The client has not ended its request."""
        self.expects = headers.length
        """Bytes of the body still to come, where they were announced; else below 0."""
        self.room = connection.limits.window
        """Bytes the client may still send."""
        self.held = False
        """The client gets no further room."""
        self.window = connection.peer_window
        """Bytes we may still send; negative after the client has shrunk its initial window (RFC 9113, section 6.9.2)."""
        self.backlog: Backlog | None = None
        """What waits for a window."""
        self.complete_by = connection.request_due
        """By this time the request must have ended, else `overdue` is called. Set it to infinity where clients may take their time."""

    @property
    def concluded(self) -> bool:
        """The end of the answer is known, though it may have to wait for the client: what still comes is nobody's."""
        return self.backlog is not None and self.backlog.ends

    def data(self, data: bytes | memoryview, end: bool) -> None:
        """Take a part of the body, never empty; ``end``: it was the last.

        Parts are as small as the client likes: joining them must not cost more than their bytes. Large ones are views.
        """

    def parts(self, parts: list[bytes | memoryview]) -> None:
        """Take several parts of the body, none of them the last: `data` for each, unless there is a shorter way."""
        for part in parts:
            if self.stream_id in self.connection.streams and not self.concluded:
                self.data(part, False)

    def ended(self) -> None:
        """The request has ended, and not with a part of its body: it had none, an empty last one, or trailers."""

    def reset(self, code: int) -> None:
        """The stream is gone, by the client's doing or with its connection. Nothing can be sent on it, nothing more comes of it."""

    def writable(self) -> None:
        """Everything sent so far has left; more may be sent."""

    def overdue(self) -> None:
        """The request has not ended in time. Answer it; by default it is given up."""
        self.connection.reset(self.stream_id, ErrorCode.CANCEL)
        self.reset(ErrorCode.CANCEL)
