"""Flow control of HTTP/2 in both directions, and what goes out when (RFC 9113, sections 5.2 and 6.9)."""

from __future__ import annotations

import pytest
from http2_peer import OK, REQUEST, TRAILERS, Frame, Peer, Recorder, echo

from headgate.serving.wire.http2.flow import LARGEST_WINDOW
from headgate.serving.wire.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
    settings,
)
from headgate.serving.wire.http2.settings import INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, Http2Limits

WINDOW = 65_535
NARROW = Http2Limits(window=WINDOW, connection_window=WINDOW)
BODY = bytes(range(256)) * 1024
"""256 KiB: more than the windows at the beginning."""


def body(found: list[Frame], stream_id: int = 1) -> bytes:
    """The bytes of all DATA of a stream."""
    return b"".join(part.payload for part in found if part.kind == DATA and part.stream_id == stream_id)


# ---- receiving


def test_the_windows_we_set_are_announced() -> None:
    """Sections 6.9.2: the streams' by SETTINGS, the connection's by an update, since it has no setting."""
    peer = Peer(Http2Limits(window=100_000, connection_window=200_000, streams=7, header_bytes=8192), greet=False)
    opening, update = peer.frames()
    pairs = {
        int.from_bytes(opening.payload[at : at + 2]): int.from_bytes(opening.payload[at + 2 : at + 6]) for at in range(0, 24, 6)
    }
    assert opening.kind == SETTINGS
    assert pairs == {3: 7, INITIAL_WINDOW_SIZE: 100_000, MAX_FRAME_SIZE: 1 << 20, 6: 8192}
    assert (update.kind, update.stream_id, update.number) == (WINDOW_UPDATE, 0, 200_000 - WINDOW)


def test_room_is_granted_in_bulk() -> None:
    """One update for half the connection's window, and for three quarters of a stream's, not one for each frame."""
    peer = Peer(NARROW)
    peer.ask(1, b"x" * 16_000, end=False)
    peer.send(frame(DATA, 0, 1, b"x" * 16_000))
    assert peer.frames() == []
    peer.send(frame(DATA, 0, 1, b"x" * 16_000))
    assert [(found.stream_id, found.number) for found in peer.frames()] == [(0, 48_000)]
    peer.send(frame(DATA, 0, 1, b"x" * 16_000))
    assert [(found.stream_id, found.number) for found in peer.frames()] == [(1, 64_000)]


def test_no_room_is_granted_on_a_stream_that_has_ended() -> None:
    """Only the connection's window needs it again."""
    peer = Peer(NARROW)
    peer.ask(1, b"x" * 50_000)
    assert [(found.kind, found.stream_id) for found in peer.frames()] == [(WINDOW_UPDATE, 0)]


def test_padding_uses_windows() -> None:
    """Section 6.1: the whole payload counts, and a client that sends nothing else gets its room back too."""
    peer = Peer(NARROW)
    peer.ask(1, None, end=False)
    for _ in range(193):
        peer.send(frame(DATA, PADDED, 1, b"\xff" + b"\0" * 255))
    assert sorted((found.stream_id, found.number) for found in peer.frames()) == [(0, 33_024), (1, 49_408)]


def test_a_stream_above_its_window_is_reset() -> None:
    """Section 6.9.1: a stream error of type FLOW_CONTROL_ERROR; its neighbours go on."""
    peer = Peer(Http2Limits(window=WINDOW))
    held = peer.ask(1, b"x" * 60_000, end=False)
    peer.frames()
    peer.connection.hold(1)
    peer.send(frame(DATA, 0, 1, b"x" * 65_535))
    assert peer.frames() == []
    peer.send(frame(DATA, END_STREAM, 1, b"x"))
    assert held.code == ErrorCode.FLOW_CONTROL_ERROR
    assert [(found.kind, found.stream_id, found.code) for found in peer.frames()] == [(RST_STREAM, 1, ErrorCode.FLOW_CONTROL_ERROR)]
    assert peer.ask(3, b"abc").body == b"abc"


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("cut", [False, True])
def test_a_first_frame_above_the_window_is_reset(end: bool, cut: bool) -> None:
    """Section 6.9.1: by its head, before its bytes are passed on."""
    peer = Peer(Http2Limits(window=WINDOW))
    stream = peer.ask(1, None, end=False)
    data = frame(DATA, END_STREAM if end else 0, 1, b"x" * 70_000)
    peer.send(data[:1000] if cut else data)
    assert stream.events == [("reset", ErrorCode.FLOW_CONTROL_ERROR)]


@pytest.mark.parametrize("cut", [False, True])
def test_more_than_the_connections_window_ends_the_connection(cut: bool) -> None:
    """Section 6.9.1: the sum over all streams, of frames that are still to come too."""
    peer = Peer(Http2Limits(connection_window=WINDOW))
    for stream_id in (1, 3):
        peer.ask(stream_id, None, end=False)
    data = [frame(DATA, 0, stream_id, b"x" * 13_000) for stream_id in (1, 3, 1, 3, 1, 3)]
    peer.send(b"".join(data[:5]) + (data[5][:100] if cut else data[5]))
    assert peer.refused(ErrorCode.FLOW_CONTROL_ERROR)
    assert len(peer.opened[3].body) == 26_000


def test_what_comes_for_a_closed_stream_counts_for_the_connection() -> None:
    """Section 5.1: it is thrown away, and its room is granted again, or the connection would starve."""
    peer = Peer(NARROW)
    peer.ask(1, None, end=False)
    peer.connection.reset(1, ErrorCode.CANCEL)
    peer.frames()
    peer.send(frame(DATA, 0, 1, b"x" * 20_000) + frame(DATA, END_STREAM, 1, b"x" * 20_000))
    assert [(found.kind, found.stream_id, found.number) for found in peer.frames()] == [(WINDOW_UPDATE, 0, 40_000)]


def test_a_held_stream_gets_no_room_until_it_is_released() -> None:
    """A client that sends faster than it is answered waits; other streams do not."""
    peer = Peer(Http2Limits(window=WINDOW))
    stream = peer.ask(1, b"x" * 10_000, end=False)
    peer.connection.hold(1)
    peer.send(frame(DATA, 0, 1, b"x" * 50_000))
    assert peer.frames() == []
    assert len(stream.body) == 60_000
    peer.ask(3, b"x" * 50_000, end=False)
    assert [found.stream_id for found in peer.frames()] == [3]
    peer.connection.release(1)
    assert [(found.stream_id, found.number) for found in peer.frames()] == [(1, 60_000)]
    peer.connection.hold(1)
    peer.send(frame(DATA, 0, 1, b"x" * 50_000) + frame(DATA, END_STREAM, 1))
    peer.connection.release(1)
    assert 1 not in [found.stream_id for found in peer.frames()], "it has ended, and needs none"
    peer.connection.hold(99)
    peer.connection.release(99)


# ---- sending


def test_a_small_answer_is_one_write() -> None:
    """Headers, body and trailers are packed at once, and those of all streams of a turn go out together."""
    peer = Peer()
    streams = [peer.ask(stream_id, b"abc") for stream_id in (1, 3, 5)]
    for stream in streams:
        echo(stream)
    assert peer.transport.writes == []
    peer.turn()
    assert len(peer.transport.writes) == 1
    found = peer.frames()
    assert [part[:3] for part in found[:3]] == [(HEADERS, END_HEADERS, 1), (DATA, 0, 1), (HEADERS, END_HEADERS | END_STREAM, 1)]
    assert [part.stream_id for part in found] == [1] * 3 + [3] * 3 + [5] * 3
    assert [part.payload for part in found[6:]] == [OK, b"abc", TRAILERS]
    assert not peer.connection.streams
    assert peer.connection.answered == 3


def test_the_answer_of_the_only_stream_waits_for_nobody() -> None:
    """Nothing else can join it in its turn, so it goes out at once; not while something is being read, or waits already."""
    peer = Peer()
    echo(peer.ask(1, b"abc"))
    assert peer.transport.writes == [], "the first answer of a connection takes the long way"
    peer.frames()
    echo(peer.ask(3, b"abc"))
    assert len(peer.transport.writes) == 1
    assert [part.kind for part in peer.frames()] == [HEADERS, DATA, HEADERS]
    waits = peer.ask(5, b"abc")
    peer.send(frame(PING, 0, 0, b"12345678"))
    echo(waits)
    assert peer.transport.writes == []
    peer.turn()
    assert len(peer.transport.writes) == 1
    assert [part.kind for part in peer.frames()] == [PING, HEADERS, DATA, HEADERS]


def test_large_answers_of_a_turn_are_one_write_too() -> None:
    """Above 64 KiB they are not joined, but still handed over at once."""
    peer = Peer(answers=echo)
    peer.send(settings([(INITIAL_WINDOW_SIZE, 1 << 20), (MAX_FRAME_SIZE, 1 << 20)]))
    peer.widen(0, 1 << 20)
    peer.frames()
    for stream_id in (1, 3):
        peer.ask(stream_id, BODY)
    peer.turn()
    assert len(peer.transport.writes) == 1
    assert body(peer.frames(), 3) == BODY


@pytest.mark.parametrize(
    ("payload", "trailers", "expected"),
    [
        (b"", TRAILERS, [(HEADERS, END_HEADERS), (HEADERS, END_HEADERS | END_STREAM)]),
        (b"abc", None, [(HEADERS, END_HEADERS), (DATA, END_STREAM)]),
        (b"", None, [(HEADERS, END_HEADERS | END_STREAM)]),
        (b"x" * 40_000, None, [(HEADERS, END_HEADERS), (DATA, 0), (DATA, 0), (DATA, END_STREAM)]),
        (b"x" * 20_000, TRAILERS, [(HEADERS, END_HEADERS), (DATA, 0), (DATA, 0), (HEADERS, END_HEADERS | END_STREAM)]),
        (
            b"abc",
            TRAILERS * 3000,
            [(HEADERS, END_HEADERS), (DATA, 0), (HEADERS, END_STREAM), (CONTINUATION, 0), (CONTINUATION, END_HEADERS)],
        ),
    ],
)
def test_every_shape_of_an_answer(payload: bytes, trailers: bytes | None, expected: list[tuple[int, int]]) -> None:
    """Section 8.1: headers, then a body if there is one, then trailers if there are; END_STREAM once, on the last."""
    peer = Peer()
    peer.widen(0, 1 << 20)
    for stream_id in (1, 3):
        peer.ask(stream_id)
        peer.connection.send_reply(stream_id, OK, payload, trailers)
        found = peer.frames()
        assert [part[:2] for part in found] == expected
        assert body(found, stream_id) == payload
    assert not peer.connection.streams


@pytest.mark.parametrize("first", [16_384, 30_000, 100_000])
def test_frames_keep_to_the_size_the_client_takes(first: int) -> None:
    """Section 4.2: 16,384 bytes unless it says more; then that, until it says less."""
    peer = Peer(answers=echo)
    peer.widen(0, 1 << 20)
    peer.send(settings([(INITIAL_WINDOW_SIZE, 1 << 20)] + ([(MAX_FRAME_SIZE, first)] if first != 16_384 else [])))
    for stream_id, largest in ((1, first), (5, 30_000), (9, 16_384)):
        if stream_id > 1:
            peer.send(settings([(MAX_FRAME_SIZE, largest)]))
        peer.ask(stream_id, b"x" * 20_000)
        peer.ask(stream_id + 2, b"x" * 70_000)
        sizes = [len(part.payload) for part in peer.frames() if part.kind == DATA]
        assert sum(sizes) == 90_000
        assert max(sizes) == min(largest, 70_000)


def test_a_body_waits_for_the_streams_window() -> None:
    """Section 6.9.1: what does not fit is kept, and goes on with WINDOW_UPDATE; trailers come behind it."""
    peer = Peer(answers=echo)
    peer.widen(0, 1 << 20)
    peer.ask(1, BODY)
    found = peer.frames()
    assert len(body(found)) == WINDOW
    assert found[-1].kind == DATA
    peer.widen(1, 1)
    found += peer.frames()
    assert len(body(found)) == WINDOW + 1
    peer.widen(1, 1 << 20)
    found += peer.frames()
    assert body(found) == BODY
    assert found[-1][:2] == (HEADERS, END_HEADERS | END_STREAM)
    assert not peer.connection.streams


def test_bodies_wait_for_the_connections_window_in_turn() -> None:
    """Section 5.2.2: a large answer does not keep the others from going on."""
    peer = Peer()
    peer.send(settings([(INITIAL_WINDOW_SIZE, 1 << 20)]))
    streams = [peer.ask(stream_id, b"x") for stream_id in (1, 3, 5)]
    for stream in streams:
        peer.connection.send_reply(stream.stream_id, OK, BODY, TRAILERS)
    first = peer.frames()
    assert sum(len(body(first, stream_id)) for stream_id in (1, 3, 5)) == WINDOW
    peer.widen(0, 3 * 16_384)
    assert sorted(part.stream_id for part in peer.frames() if part.kind == DATA) == [1, 3, 5]
    peer.widen(0, 1 << 20)
    found = peer.frames()
    assert all(len(body(first, stream_id)) + 16_384 + len(body(found, stream_id)) == len(BODY) for stream_id in (1, 3, 5))
    assert not peer.connection.streams


def test_an_empty_end_needs_no_window() -> None:
    """Section 6.9.1: frames with END_STREAM and no bytes are sent without room."""
    peer = Peer()
    peer.ask(1)
    peer.connection.send_headers(1, OK)
    assert peer.connection.send_data(1, b"x" * WINDOW)
    peer.ask(3)
    peer.connection.send_headers(3, OK)
    assert peer.connection.send_data(1, b"", True)
    assert peer.connection.send_data(3, b"", True)
    assert [part[:3] for part in peer.frames()][-2:] == [(DATA, END_STREAM, 1), (DATA, END_STREAM, 3)]
    assert not peer.connection.streams


def test_a_changed_initial_window_changes_the_open_ones() -> None:
    """Section 6.9.2: by the difference, also below zero, and updates count from there."""
    peer = Peer()
    peer.widen(0, 1 << 20)
    stream = peer.ask(1)
    peer.connection.send_headers(1, OK)
    assert not peer.connection.send_data(1, BODY)
    peer.frames()
    peer.send(settings([(INITIAL_WINDOW_SIZE, 1000)]))
    assert stream.window == 1000 - WINDOW
    peer.frames()
    peer.widen(1, 1)
    peer.widen(1, WINDOW - 1001)
    assert stream.window == 0
    assert peer.frames() == []
    peer.widen(1, 300)
    assert len(body(peer.frames())) == 300
    peer.send(settings([(INITIAL_WINDOW_SIZE, 2000)]))
    assert len(body(peer.frames())) == 1000
    peer.send(settings([(INITIAL_WINDOW_SIZE, 0)]))
    peer.send(settings([(INITIAL_WINDOW_SIZE, 1 << 20)]))
    assert len(body(peer.frames())) == len(BODY) - WINDOW - 1300
    assert stream.events[-1] == ("writable",)


def test_windows_that_overflow_are_refused() -> None:
    """Section 6.9.1 and 6.9.2: the stream's by an update alone; all of them by a setting; an update by nothing too."""
    peer = Peer()
    peer.ask(1, None, end=False)
    peer.widen(1, LARGEST_WINDOW - WINDOW)
    assert peer.frames() == []
    peer.widen(1, 1)
    assert peer.opened[1].code == ErrorCode.FLOW_CONTROL_ERROR
    peer.ask(3, None, end=False)
    peer.widen(3, 0)
    assert peer.opened[3].code == ErrorCode.PROTOCOL_ERROR
    assert [part.code for part in peer.frames()] == [ErrorCode.FLOW_CONTROL_ERROR, ErrorCode.PROTOCOL_ERROR]
    peer.ask(5, None, end=False)
    peer.widen(5, LARGEST_WINDOW - WINDOW)
    peer.send(settings([(INITIAL_WINDOW_SIZE, WINDOW + 1)]))
    assert peer.refused(ErrorCode.FLOW_CONTROL_ERROR)


def test_updates_for_closed_streams_are_ignored() -> None:
    """Section 5.1: they were on their way."""
    peer = Peer(answers=echo)
    peer.ask(1, b"abc")
    peer.frames()
    peer.widen(1, 10)
    peer.widen(1, 0)
    assert peer.frames() == []


def test_a_producer_is_told_when_to_go_on() -> None:
    """`send_data` says whether all has left; if not, `writable` is called once all has; never both."""
    peer = Peer()
    peer.widen(0, 1 << 20)
    stream = peer.ask(1)
    connection = peer.connection
    connection.send_headers(1, OK)
    assert connection.send_data(1, b"x" * 40_000)
    assert not connection.send_data(1, b"y" * 40_000)
    assert not connection.send_data(1, b"z" * 40_000)
    assert stream.events == [("ended",)]
    peer.widen(1, 15_000)
    assert stream.events == [("ended",)]
    peer.widen(1, 40_000)
    assert stream.events == [("ended",), ("writable",)]
    assert connection.send_data(1, b"", False)
    assert connection.send_data(1, b"!", True)
    assert body(peer.frames()) == b"x" * 40_000 + b"y" * 40_000 + b"z" * 40_000 + b"!"
    assert stream.events == [("ended",), ("writable",)]


def test_a_producer_that_goes_on_at_once_is_not_nested() -> None:
    """``writable`` may send: its frames queue behind those of the other streams."""
    peer = Peer()
    peer.widen(0, 1 << 24)
    sent: list[int] = []

    class Endless(Recorder):
        def writable(self) -> None:
            sent.append(1)
            if len(sent) < 500:
                self.connection.send_data(1, b"x" * 20_000, len(sent) == 499)

    peer.connection._open_stream = lambda connection, stream_id, headers: Endless(connection, stream_id, headers, peer)
    peer.ask(1)
    peer.connection.send_headers(1, OK)
    assert not peer.connection.send_data(1, BODY)
    peer.widen(1, 1 << 24)
    assert len(body(peer.frames())) == len(BODY) + 499 * 20_000
    assert not peer.connection.streams


def test_what_waits_is_dropped_with_its_stream() -> None:
    """Section 5.4.2: after RST_STREAM, from either side, nothing more is sent on it."""
    peer = Peer(answers=echo)
    peer.ask(1, BODY)
    peer.ask(3, BODY)
    peer.frames()
    peer.send(frame(RST_STREAM, 0, 1, b"\0\0\0\x08"))
    peer.connection.reset(3, ErrorCode.CANCEL)
    peer.widen(0, 1 << 20)
    assert [part.kind for part in peer.frames()] == [RST_STREAM]
    assert peer.opened[1].code == ErrorCode.CANCEL
    assert peer.opened[3].code is None
    assert not peer.connection._ready


# ---- the transport


def test_a_client_that_takes_nothing_is_not_written_to() -> None:
    """Between pause_writing and resume_writing all is kept; bodies wait as for a window, so streams stay open and are bounded."""
    peer = Peer(answers=echo)
    peer.ask(1, b"abc")
    peer.frames()
    peer.connection.pause_writing()
    peer.ask(3, b"abc")
    peer.ask(5)
    peer.run()
    assert peer.transport.writes == []
    assert list(peer.connection.streams) == [3]
    peer.connection.resume_writing()
    found = peer.frames()
    assert body(found, 3) == b"abc"
    assert [part[1] for part in found if part.stream_id == 3][-1] == END_HEADERS | END_STREAM
    assert not peer.connection.streams


def test_nothing_is_read_from_a_client_that_takes_nothing() -> None:
    """What it asks for meanwhile would pile up: after a while nothing is read, until it takes what there is."""
    peer = Peer(Http2Limits(patience=100_000), answers=echo)
    peer.connection.pause_writing()
    for stream_id in range(1, 2 * 900, 2):
        peer.send(frame(HEADERS, END_HEADERS | END_STREAM, stream_id, REQUEST))
    assert peer.transport.paused
    peer.connection.resume_writing()
    assert not peer.transport.paused
    assert len([part for part in peer.frames() if part.kind == HEADERS]) == 1800


def test_bodies_are_written_a_share_in_each_turn() -> None:
    """However large the windows are, other connections get the loop in between."""
    peer = Peer(Http2Limits(window=8 << 20), answers=echo)
    peer.send(settings([(INITIAL_WINDOW_SIZE, 1 << 30)]))
    peer.widen(0, 1 << 30)
    peer.frames()
    big = b"x" * (5 << 20)
    stream = peer.ask(1, None, end=False)
    for at in range(0, len(big), 1 << 20):
        peer.send(frame(DATA, END_STREAM if at + (1 << 20) == len(big) else 0, 1, big[at : at + (1 << 20)]))
    assert len(stream.body) == len(big)
    peer.run()
    assert len(peer.transport.writes) >= 5
    assert max(map(len, peer.transport.writes)) < 1_100_000
    assert body(peer.frames()) == big


def test_the_first_answer_waits_for_no_settings() -> None:
    """Section 3.4: a client may ask in the same breath as it greets; its windows are those of its first settings."""
    peer = Peer(answers=echo, greet=False)
    peer.send(
        PREFACE + settings([(INITIAL_WINDOW_SIZE, 2)]) + SETTINGS_ACK
        + frame(HEADERS, END_HEADERS, 1, REQUEST) + frame(DATA, END_STREAM, 1, b"abc")
    )  # fmt: skip
    found = peer.frames()
    assert [part.kind for part in found] == [SETTINGS, WINDOW_UPDATE, SETTINGS, HEADERS, DATA]
    assert body(found) == b"ab"
