"""What this server sets and what its peer sets (RFC 9113, section 6.5)."""

from __future__ import annotations

import msgspec

from headgate.serving.wire.http2 import frames
from headgate.serving.wire.http2.flow import DEFAULT_WINDOW, LARGEST_WINDOW
from headgate.serving.wire.http2.frames import LARGEST_FRAME, SMALLEST_FRAME, ConnectionFault, ErrorCode

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = range(1, 7)

HEADER_TABLE_BYTES = 4096
"""The dynamic table our decoder keeps, and the size it has without a word (RFC 7541, section 4.2)."""
MOST_SETTINGS = 32
"""In one frame: nobody has more to say."""


class Http2Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limits of one connection: sizes in bytes, times in seconds."""

    streams: int = 256
    """Requests in flight; what exceeds them is refused, to be sent again."""
    window: int = 1 << 20
    """What may come on a stream before it is granted more: at least 65,535. A body of up to three quarters of it needs no grant."""
    connection_window: int = 8 << 20
    """The same for all streams together."""
    frame_bytes: int = 1 << 20
    """The payload of one DATA frame. It is passed on in pieces as they come, so a large one costs no memory."""
    header_bytes: int = 16 * 1024
    """The headers of a request, inflated, 32 added for each. Beyond it the request is refused; beyond `HARD` times it, or with a
    block of more than `BLOCK` times it, the connection."""
    headers: int = 128
    """Fields of one request."""
    continuations: int = 8
    """CONTINUATION frames of one header block (CVE-2024-27316)."""
    patience: int = 1000
    """What a peer may ask for that no request needs: resets (CVE-2023-44487), pings, settings, empty frames, broken requests. Every
    answered request and every second (`patience_per_second`) give back some."""
    patience_per_second: int = 100
    head_seconds: float = 10.0
    """For the preface, for a frame or a header block from its first byte to its last, and for the peer to take our settings."""
    body_seconds: float = 60.0
    """From the headers to the end of the request; and for a client to take its answer."""
    idle_seconds: float = 90.0
    """Without a stream."""

    def __post_init__(self) -> None:
        """Refuse what the protocol has no way to say."""
        if (
            not DEFAULT_WINDOW
            <= min(self.window, self.connection_window)
            <= max(self.window, self.connection_window)
            <= LARGEST_WINDOW
        ):
            raise ValueError(f"window, connection_window: expected {DEFAULT_WINDOW} to {LARGEST_WINDOW}")
        if not SMALLEST_FRAME <= self.frame_bytes <= LARGEST_FRAME:
            raise ValueError(f"frame_bytes: expected {SMALLEST_FRAME} to {LARGEST_FRAME}, got {self.frame_bytes}")


HARD, BLOCK = 4, 2


def opening(limits: Http2Limits) -> bytes:
    """Return the server's preface: its SETTINGS, and the connection's window, which only an update can widen (section 6.9.2)."""
    pairs = [
        (MAX_CONCURRENT_STREAMS, limits.streams),
        (INITIAL_WINDOW_SIZE, limits.window),
        (MAX_FRAME_SIZE, limits.frame_bytes),
        (MAX_HEADER_LIST_SIZE, limits.header_bytes),
    ]
    more = limits.connection_window - DEFAULT_WINDOW
    return frames.settings(pairs) + (frames.window_update(0, more) if more else b"")


def read_settings(payload: bytes) -> dict[int, int]:
    """Return the peer's settings that mean something to us, each checked (section 6.5.2); of one that is repeated, the last.

    The size of its header table does not: our blocks use no dynamic table. Nor does whether it wants pushes: there are none.
    """
    if len(payload) > 6 * MOST_SETTINGS:
        raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, f"more than {MOST_SETTINGS} settings in a frame")
    ours = {}
    for name, value in frames.settings_pairs(payload):
        if name == ENABLE_PUSH and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"SETTINGS_ENABLE_PUSH {value}")
        if name == INITIAL_WINDOW_SIZE:
            if value > LARGEST_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, f"SETTINGS_INITIAL_WINDOW_SIZE {value}")
            ours[name] = value
        if name == MAX_FRAME_SIZE:
            if not SMALLEST_FRAME <= value <= LARGEST_FRAME:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"SETTINGS_MAX_FRAME_SIZE {value}")
            ours[name] = value
    return ours
