"""Frames of HTTP/2, one by one: how they are read and written, and what answers a broken one (RFC 9113, sections 4 and 6)."""

from __future__ import annotations

import pytest
from http2_peer import REQUEST, Peer, split_frames

from headgate.serving.wire.http2 import frames
from headgate.serving.wire.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITIZED,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
)
from headgate.serving.wire.http2.settings import Http2Limits

WORD = b"\0\0\0\1"


def test_a_frame_has_a_head_of_nine_bytes() -> None:
    """Section 4.1: length, type, flags and stream, in network order."""
    assert frame(DATA, END_STREAM, 5, b"abc") == bytes([0, 0, 3, 0, 1, 0, 0, 0, 5]) + b"abc"
    assert bytes([0, 0, 0, 4, 1, 0, 0, 0, 0]) == frames.SETTINGS_ACK
    assert frames.rst_stream(3, ErrorCode.CANCEL) == bytes([0, 0, 4, 3, 0, 0, 0, 0, 3, 0, 0, 0, 8])
    assert frames.window_update(0, 70_000) == bytes([0, 0, 4, 8, 0, 0, 0, 0, 0]) + (70_000).to_bytes(4, "big")
    assert frames.goaway(7, ErrorCode.NO_ERROR, "bye") == bytes([0, 0, 11, 7, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0]) + b"bye"
    assert frames.settings([(4, 70_000)]) == bytes([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4]) + (70_000).to_bytes(4, "big")


@pytest.mark.parametrize(
    ("kind", "flags", "stream_id", "payload", "code"),
    [
        # the stream: sections 6.1, 6.2, 6.3, 6.4, 6.5, 6.6, 6.7, 6.8, 6.10
        (DATA, 0, 0, b"x", ErrorCode.PROTOCOL_ERROR),
        (HEADERS, END_HEADERS, 0, REQUEST, ErrorCode.PROTOCOL_ERROR),
        (PRIORITY, 0, 0, b"\0" * 5, ErrorCode.PROTOCOL_ERROR),
        (RST_STREAM, 0, 0, WORD, ErrorCode.PROTOCOL_ERROR),
        (SETTINGS, 0, 1, b"", ErrorCode.PROTOCOL_ERROR),
        (PUSH_PROMISE, END_HEADERS, 1, WORD + REQUEST, ErrorCode.PROTOCOL_ERROR),
        (PING, 0, 1, b"12345678", ErrorCode.PROTOCOL_ERROR),
        (GOAWAY, 0, 1, b"\0" * 8, ErrorCode.PROTOCOL_ERROR),
        (CONTINUATION, END_HEADERS, 1, REQUEST, ErrorCode.PROTOCOL_ERROR),
        # the size: sections 4.2, 6.3, 6.4, 6.5, 6.7, 6.8, 6.9
        (PRIORITY, 0, 1, b"\0" * 4, ErrorCode.FRAME_SIZE_ERROR),
        (RST_STREAM, 0, 1, b"\0" * 5, ErrorCode.FRAME_SIZE_ERROR),
        (SETTINGS, 0, 0, b"\0" * 7, ErrorCode.FRAME_SIZE_ERROR),
        (SETTINGS, ACK, 0, b"\0" * 6, ErrorCode.FRAME_SIZE_ERROR),
        (PING, 0, 0, b"1234567", ErrorCode.FRAME_SIZE_ERROR),
        (GOAWAY, 0, 0, b"\0" * 7, ErrorCode.FRAME_SIZE_ERROR),
        (WINDOW_UPDATE, 0, 0, b"\0" * 3, ErrorCode.FRAME_SIZE_ERROR),
        (DATA, PADDED, 1, b"", ErrorCode.FRAME_SIZE_ERROR),
        (HEADERS, END_HEADERS | PADDED, 1, b"", ErrorCode.FRAME_SIZE_ERROR),
        (HEADERS, END_HEADERS | PRIORITIZED, 1, b"\0" * 4, ErrorCode.FRAME_SIZE_ERROR),
        # padding: sections 6.1 and 6.2
        (DATA, PADDED, 1, b"\x03ab", ErrorCode.PROTOCOL_ERROR),
        (HEADERS, END_HEADERS | PADDED, 1, b"\xff" + REQUEST, ErrorCode.PROTOCOL_ERROR),
        # streams that have not begun: section 5.1
        (DATA, 0, 1, b"x", ErrorCode.PROTOCOL_ERROR),
        (DATA, 0, 2, b"x", ErrorCode.PROTOCOL_ERROR),
        (RST_STREAM, 0, 1, WORD, ErrorCode.PROTOCOL_ERROR),
        (WINDOW_UPDATE, 0, 1, WORD, ErrorCode.PROTOCOL_ERROR),
        # streams that only a server can begin: section 5.1.1
        (HEADERS, END_HEADERS, 2, REQUEST, ErrorCode.PROTOCOL_ERROR),
        # what is set: section 6.5.2
        (SETTINGS, 0, 0, b"\0\2\0\0\0\2", ErrorCode.PROTOCOL_ERROR),
        (SETTINGS, 0, 0, b"\0\4\x80\0\0\0", ErrorCode.FLOW_CONTROL_ERROR),
        (SETTINGS, 0, 0, b"\0\5\0\0\x3f\xff", ErrorCode.PROTOCOL_ERROR),
        (SETTINGS, 0, 0, b"\0\5\1\0\0\0", ErrorCode.PROTOCOL_ERROR),
        # the connection's window: section 6.9
        (WINDOW_UPDATE, 0, 0, b"\0\0\0\0", ErrorCode.PROTOCOL_ERROR),
        (WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff", ErrorCode.FLOW_CONTROL_ERROR),
    ],
)
def test_a_broken_frame_ends_the_connection(kind: int, flags: int, stream_id: int, payload: bytes, code: ErrorCode) -> None:
    """Section 5.4.1: GOAWAY with the code that the section of the frame names, then the end; what follows is not looked at."""
    peer = Peer()
    peer.send(frame(kind, flags, stream_id, payload))
    assert peer.refused(code)
    assert peer.connection.fault is not None and peer.connection.fault.code == code
    peer.send(frame(PING, 0, 0, b"12345678"))
    assert peer.frames() == []


def test_a_frame_above_the_size_we_set_is_refused_before_it_comes() -> None:
    """Section 4.2: by its head alone, so that nothing of it is kept."""
    peer = Peer(Http2Limits(frame_bytes=20_000))
    peer.ask(1, b"x" * 20_000, end=False)
    assert peer.frames() == []
    peer.send(frame(DATA, 0, 1, b"x" * 20_001)[:9])
    assert peer.refused(ErrorCode.FRAME_SIZE_ERROR)


def test_types_and_flags_that_nobody_knows_are_ignored() -> None:
    """Sections 4.1 and 5.5: whatever they carry, in whatever pieces it comes."""
    peer = Peer()
    unknown = frame(0xFA, 0xFF, 0, b"x" * 50_000)
    peer.send(unknown[:7])
    peer.send(unknown[7:30_000])
    peer.send(unknown[30_000:] + frame(0x0A, 0, 7, b""))
    peer.send(frame(DATA + 0x10, 0, 1, b"x"))
    stream = peer.ask(1, b"abc")
    assert stream.events == [("data", b"abc", True)]
    peer.send(frame(PING, 0xF0, 0, b"12345678"))
    assert [found[:2] for found in peer.frames()] == [(PING, ACK)]


def test_the_reserved_bit_of_a_stream_is_ignored() -> None:
    """Section 4.1: it has no meaning, on any frame."""
    peer = Peer()
    reserved = 1 << 31
    peer.send(frame(HEADERS, END_HEADERS, reserved | 1, REQUEST) + frame(DATA, END_STREAM, reserved | 1, b"abc"))
    assert peer.opened[1].events == [("data", b"abc", True)]
    peer.send(frame(PING, 0, reserved, b"12345678") + frame(RST_STREAM, 0, reserved | 1, WORD))
    assert [found.kind for found in peer.frames()] == [PING]
    assert peer.opened[1].code == 1


def test_priorities_are_ignored() -> None:
    """Section 5.3.2: they are no longer used; on any stream, also one that depends on itself."""
    peer = Peer()
    peer.send(frame(PRIORITY, 0, 9, b"\0\0\0\x09\0"))
    peer.send(frame(HEADERS, END_HEADERS | PRIORITIZED | PADDED, 1, b"\2" + b"\0\0\0\1\xff" + REQUEST + b"\0\0"))
    assert peer.opened[1].headers.path == "/a.B/C"
    assert peer.frames() == []


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_padding_is_taken_off(pieces: int) -> None:
    """Section 6.1: however the frame is cut, and even if it is nothing but padding."""
    peer = Peer()
    stream = peer.ask(1, None, end=False)
    data = frame(DATA, PADDED, 1, b"\4" + b"abc" + b"\0" * 4) + frame(DATA, PADDED | END_STREAM, 1, b"\2" + b"\0\0")
    step = -(-len(data) // pieces)
    for at in range(0, len(data), step):
        peer.send(data[at : at + step])
    assert stream.body == b"abc"
    assert stream.events[-1] == ("ended",)


def test_header_blocks_larger_than_a_frame_are_continued() -> None:
    """Section 4.3: HEADERS, CONTINUATION, ..., and only the last with END_HEADERS; END_STREAM stands on the first."""
    block = bytes(range(256)) * 200
    found = split_frames(frames.header_frames(5, block, END_STREAM, 20_000))
    assert [part[:3] for part in found] == [(HEADERS, END_STREAM, 5), (CONTINUATION, 0, 5), (CONTINUATION, END_HEADERS, 5)]
    assert b"".join(part.payload for part in found) == block
    assert split_frames(frames.header_frames(5, block, 0, 60_000)) == [(HEADERS, END_HEADERS, 5, block)]


def test_a_goaway_says_why_in_words() -> None:
    """Section 6.8: the debug data is for the log of whoever wrote the client."""
    peer = Peer()
    peer.send(frame(SETTINGS, 0, 0, b"\0\2\0\0\0\2"))
    assert peer.goaway().payload[8:] == b"SETTINGS_ENABLE_PUSH 2"
