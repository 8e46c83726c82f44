"""The limits of the inference port; all settable, none off."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sizes in bytes, times in seconds."""

    head_bytes: int = 64 * 1024
    """Request line and headers."""
    json_bytes: int = 4 * 1024 * 1024
    """A JSON body, also after inflation."""
    binary_bytes: int = 64 * 1024 * 1024
    """A body with binary tensors, also after inflation."""
    head_seconds: float = 10.0
    """From the first byte of a head to its last."""
    body_seconds: float = 60.0
    """From the end of the head to the last byte of the body; and for a client to take its answer."""
    idle_seconds: float = 90.0
    """A keep-alive connection without a request; longer than common proxies keep theirs."""
    connections: int = 10_000
    """Open connections; more are closed at once."""
    chunks: int = 65_536
    """Chunks of one chunked body."""
