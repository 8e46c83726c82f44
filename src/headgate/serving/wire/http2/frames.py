"""The frames of HTTP/2 (RFC 9113, sections 4 and 6): what their bytes mean, and which of them break a rule. Nothing here has a state.

Offsets and lengths are in bytes. A broken rule is raised as a `ConnectionFault` or a `StreamFault`; who has the connection answers them
with GOAWAY or RST_STREAM (section 5.4).
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends before its first frame (section 3.4)."""
FRAME_HEAD = 9
"""Length, type, flags and stream of a frame (section 4.1)."""
SMALLEST_FRAME, LARGEST_FRAME = 1 << 14, (1 << 24) - 1
"""Between these a peer may set the largest payload it takes (section 4.2)."""
LARGEST_STREAM = (1 << 31) - 1

# Types (section 6). Plain integers: an enum's member takes several times as long to compare.
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

# Flags; what is END_STREAM on DATA and HEADERS is ACK on SETTINGS and PING.
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20


class ErrorCode(IntEnum):
    """Why a stream or a connection ends (section 7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class _Fault(Exception):
    """A rule was broken: ``code`` is for the peer's program, the text for whoever reads its log."""

    def __init__(self, code: ErrorCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class ConnectionFault(_Fault):
    """The connection cannot go on (section 5.4.1)."""


class StreamFault(_Fault):
    """One stream cannot go on; its neighbours can (section 5.4.2)."""


class _Rule(NamedTuple):
    """What must hold of a frame before its payload is looked at."""

    on_stream: bool | None
    """Belongs to a stream, to the connection, or (None) to either."""
    exactly: int | None = None
    least: int = 0


_RULES = {
    DATA: _Rule(True),
    HEADERS: _Rule(True),
    PRIORITY: _Rule(True, exactly=5),
    RST_STREAM: _Rule(True, exactly=4),
    SETTINGS: _Rule(False),
    PUSH_PROMISE: _Rule(True),
    PING: _Rule(False, exactly=8),
    GOAWAY: _Rule(False, least=8),
    WINDOW_UPDATE: _Rule(None, exactly=4),
    CONTINUATION: _Rule(True),
}

NAMES = dict(enumerate("DATA HEADERS PRIORITY RST_STREAM SETTINGS PUSH_PROMISE PING GOAWAY WINDOW_UPDATE CONTINUATION".split()))

pack_head = struct.Struct(">IBI").pack
"""(length << 8 | type, flags, stream) to the nine bytes of a frame's head."""
unpack_head = struct.Struct(">IBi").unpack_from
"""(bytes, offset) to (length << 8 | type, flags, stream); the stream is negative where its reserved bit is set, which is ignored."""
_pack_number = struct.Struct(">I").pack
_unpack_number = struct.Struct(">I").unpack_from
_pack_setting = struct.Struct(">HI").pack
_iterate_settings = struct.Struct(">HI").iter_unpack


def check_head(kind: int, flags: int, stream_id: int, length: int) -> None:
    """Hold the head of a frame to the rules of its type (section 6); types nobody knows have none (section 4.1).

    A PRIORITY of a wrong size would be its stream's fault only, but may be the connection's (section 5.4.1), and a stream that has not
    begun cannot be reset.
    """
    rule = _RULES.get(kind)
    if rule is None:
        return
    name = NAMES[kind]
    if rule.on_stream is not None and rule.on_stream is not bool(stream_id):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, f"{name} on stream {stream_id}")
    if kind == PUSH_PROMISE:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE from a client")
    wrong = length != rule.exactly if rule.exactly is not None else length < rule.least
    if kind == SETTINGS:
        wrong = length != 0 if flags & ACK else length % 6 != 0
    if wrong:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"{name} of {length} bytes")


def padding(flags: int, length: int, first: int, extra: int = 0) -> tuple[int, int]:
    """Return (bytes before the content, bytes of padding) of a DATA or HEADERS frame (sections 6.1 and 6.2).

    ``length`` is that of the payload and ``first`` its first byte; ``extra`` bytes stand between the padding's length and the content.
    """
    before, pad = (1 + extra, first) if flags & PADDED else (extra, 0)
    if before > length:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame too short for its flags")
    if before + pad > length:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "padding longer than its frame")
    return before, pad


def header_fragment(flags: int, payload: bytes) -> bytes:
    """Return the part of a header block that a HEADERS frame holds, without padding and priority (section 6.2)."""
    before, pad = padding(flags, len(payload), payload[0] if payload else 0, 5 if flags & PRIORITIZED else 0)
    return payload[before : len(payload) - pad]


def increment(payload: bytes) -> int:
    """Return by how much a WINDOW_UPDATE widens a window (section 6.9); 0 is for the caller to refuse."""
    return int(_unpack_number(payload)[0]) & LARGEST_STREAM


def error_code(payload: bytes) -> int:
    """Return the code of a RST_STREAM (section 6.4). It may be one that this file does not know."""
    return int(_unpack_number(payload)[0])


def settings_pairs(payload: bytes) -> list[tuple[int, int]]:
    """Return (identifier, value) of each setting in the payload of a SETTINGS frame (section 6.5.1)."""
    return list(_iterate_settings(payload))


def settings(pairs: list[tuple[int, int]]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_pack_setting(*pair) for pair in pairs))


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Return a whole frame."""
    return pack_head(len(payload) << 8 | kind, flags, stream_id) + payload


def header_frames(stream_id: int, block: bytes, flags: int, largest: int) -> bytes:
    """Return HEADERS, and as many CONTINUATION as ``block`` needs where no frame may exceed ``largest`` (section 4.3)."""
    if len(block) <= largest:
        return pack_head(len(block) << 8 | HEADERS, flags | END_HEADERS, stream_id) + block
    parts = [block[at : at + largest] for at in range(0, len(block), largest)]
    frames = [frame(HEADERS, flags, stream_id, parts[0])]
    frames += [frame(CONTINUATION, 0, stream_id, part) for part in parts[1:-1]]
    return b"".join([*frames, frame(CONTINUATION, END_HEADERS, stream_id, parts[-1])])


def rst_stream(stream_id: int, code: int) -> bytes:
    """Return a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream_id, _pack_number(code))


def window_update(stream_id: int, size: int) -> bytes:
    """Return a WINDOW_UPDATE frame; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream_id, _pack_number(size))


def goaway(last_stream: int, code: int, reason: str = "") -> bytes:
    """Return a GOAWAY frame: nothing above ``last_stream`` has been or will be looked at (section 6.8)."""
    return frame(GOAWAY, 0, 0, _pack_number(last_stream) + _pack_number(code) + reason.encode("ascii", "replace"))


SETTINGS_ACK = frame(SETTINGS, ACK, 0)
