"""Large bodies over HTTP/2: runs of DATA frames, passed on as views of what was read, and what holds for them all the same."""

from __future__ import annotations

import pytest
from http2_peer import OK, REQUEST, TRAILERS, Peer, Recorder

from headgate.serving.wire.http2.frames import DATA, END_STREAM, WINDOW_UPDATE, ErrorCode, frame
from headgate.serving.wire.http2.headers import encode_block
from headgate.serving.wire.http2.settings import Http2Limits

WINDOW = 65_535
LARGE = 20_000
"""Bytes of frames that are taken in runs, as views of what was read."""


@pytest.mark.parametrize("length", [None, 12 * LARGE + 5])
@pytest.mark.parametrize("step", [1 << 20, 2 * LARGE, LARGE + 9, 7000])
def test_large_bodies_come_whole_however_they_are_cut(step: int, length: int | None) -> None:
    """Runs of frames of one size, frames that are cut, and the last one, which is shorter: the same bytes, in order, and one end."""
    peer = Peer(Http2Limits(window=250_000, connection_window=250_000))
    block = REQUEST if length is None else REQUEST + encode_block([(b"content-length", b"%d" % length)])
    stream = peer.ask(1, None, end=False, block=block)
    given = (bytes(range(256)) * 1000)[: 12 * LARGE + 5]
    parts = [given[at : at + LARGE] for at in range(0, len(given), LARGE)]
    data = b"".join(frame(DATA, END_STREAM if part is parts[-1] else 0, 1, part) for part in parts)
    updates = []
    for at in range(0, len(data), step):
        peer.send(data[at : at + step])
        updates += [found.number for found in peer.frames() if found.kind == WINDOW_UPDATE and found.stream_id == 1]
    assert stream.body == given
    assert [event for event in stream.events if event[0] != "data"] == []
    assert [event[2] for event in stream.events].count(True) == 1
    assert len(updates) == 1, "three quarters of the window are used once"


@pytest.mark.parametrize(("window", "taken"), [(3 * LARGE + LARGE // 2, 3), (4 * LARGE, 4)])
def test_a_run_of_frames_stops_at_the_window(window: int, taken: int) -> None:
    """Section 6.9.1: what exceeds it is not passed on, though its head is that of the frame before."""
    peer = Peer(Http2Limits(window=max(window, WINDOW)))
    stream = peer.ask(1, None, end=False)
    peer.connection.hold(1)
    peer.send(frame(DATA, 0, 1, b"x" * LARGE) * 5)
    assert len(stream.body) == taken * LARGE
    assert stream.code == ErrorCode.FLOW_CONTROL_ERROR


@pytest.mark.parametrize("length", [3 * LARGE - 1, 3 * LARGE + 1, 2 * LARGE])
def test_a_run_of_frames_is_held_to_its_announced_length(length: int) -> None:
    """Section 8.1.1: more or fewer bytes than Content-Length says are a malformed request."""
    peer = Peer()
    stream = peer.ask(1, None, end=False, block=REQUEST + encode_block([(b"content-length", b"%d" % length)]))
    peer.send(frame(DATA, 0, 1, b"x" * LARGE) * 3 + frame(DATA, END_STREAM, 1))
    assert stream.code == ErrorCode.PROTOCOL_ERROR
    assert not stream.complete


class Hasty(Recorder):
    """Answers with the first bytes it gets."""

    __slots__ = ()

    def data(self, data: bytes | memoryview, end: bool) -> None:
        """A part of the body."""
        super().data(bytes(data), end)
        self.connection.send_reply(self.stream_id, OK, b"enough", TRAILERS)


def test_nothing_of_a_run_is_passed_on_after_the_answer() -> None:
    """Whoever answers in the middle of one hears of none that follows."""
    peer = Peer()
    peer.connection._open_stream = lambda connection, stream_id, headers: Hasty(connection, stream_id, headers, peer)
    stream = peer.ask(1, None, end=False)
    peer.send(frame(DATA, 0, 1, b"x" * LARGE) * 4 + frame(DATA, END_STREAM, 1))
    assert stream.events == [("data", b"x" * LARGE, False)]
    assert peer.connection.answered == 1


def test_a_small_part_of_a_large_read_is_a_copy() -> None:
    """A view keeps all that was read with it in memory: of much else, it is not worth it."""
    seen: list[type] = []

    class Typed(Recorder):
        """Notes the types of parts."""

        __slots__ = ()

        def data(self, data: bytes | memoryview, end: bool) -> None:
            """A part of the body."""
            seen.append(type(data))

    peer = Peer()
    peer.connection._open_stream = lambda connection, stream_id, headers: Typed(connection, stream_id, headers, peer)
    peer.ask(1, None, end=False)
    peer.send(frame(DATA, 0, 1, b"x" * LARGE))
    peer.send(frame(DATA, 0, 1, b"x" * 100))
    peer.send(frame(DATA, 0, 1, b"x" * LARGE) + frame(0xFA, 0, 0, b"junk" * 100_000))
    assert seen == [memoryview, bytes, bytes]
