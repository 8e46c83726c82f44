"""The heads of requests that are known by their bytes, routes resolved: each distinct head is parsed once for each routing table."""

from __future__ import annotations

from headgate.serving.endpoints import Endpoints
from headgate.serving.limit import Limits
from headgate.serving.wire.head import Head, head_of_fields, is_binary, parse_head, too_large
from headgate.serving.wire.http2.headers import RequestHeaders

_HEADS = 2048
_HEAD_BYTES = 2048
"""Only short heads are kept: a client cannot fill memory with long ones."""


class Heads:
    """The heads that one gateway knows."""

    def __init__(self, endpoints: Endpoints, limits: Limits) -> None:
        self.known: dict[bytes, Head] = {}
        """Of HTTP/1.1, by their bytes."""
        self.generation = 0
        """Of the routing table in force."""
        self._endpoints = endpoints
        self._limits = limits

    def parse(self, raw: bytes) -> Head:
        """Parse and route a head of HTTP/1.1 that is not known, and remember it."""
        head = parse_head(raw, json_bytes=self._limits.json_bytes, binary_bytes=self._limits.binary_bytes)
        if not head.fatal:
            self._resolve(head)
        if len(raw) <= _HEAD_BYTES and "x-request-id" not in head.headers:
            if len(self.known) >= _HEADS:
                self.known.clear()
            self.known[raw] = head
        return head

    def of(self, headers: RequestHeaders) -> Head:
        """Return the head of a request of HTTP/2, routed; it is for whoever asks to keep."""
        head = head_of_fields(
            headers.method,
            headers.path,
            headers.authority,
            headers.fields,
            json_bytes=self._limits.json_bytes,
            binary_bytes=self._limits.binary_bytes,
        )
        self._resolve(head)
        return head

    def _resolve(self, head: Head) -> None:
        """Route a head, and hold its body to the limit of what the route takes."""
        self._endpoints.resolve(head)
        limits, endpoint = self._limits, head.endpoint
        if endpoint is not None and endpoint.route.binary and is_binary(head):
            head.limit = limits.binary_bytes
        if head.length > head.limit:
            head.error, head.fatal = too_large(head.length, head.limit, limits.json_bytes), True

    def forget(self) -> None:
        """The routing table has changed: what is known was resolved by an old one."""
        self.known.clear()
        self.generation += 1
