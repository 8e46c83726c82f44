"""The life of a connection of HTTP/2: its beginning, its streams, what it bears, how it ends (RFC 9113, sections 3, 5, 6 and 10)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from http2_peer import OK, REQUEST, TRAILERS, Peer, Recorder, echo

from headgate.serving.wire.http2.connection import Http2Connection
from headgate.serving.wire.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    LARGEST_STREAM,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    ErrorCode,
    frame,
    goaway,
    rst_stream,
    settings,
    window_update,
)
from headgate.serving.wire.http2.headers import RequestHeaders, encode_block
from headgate.serving.wire.http2.settings import INITIAL_WINDOW_SIZE, Http2Limits

CANCEL = int(ErrorCode.CANCEL)


def headers(stream_id: int, flags: int = END_HEADERS | END_STREAM) -> bytes:
    """A request without a body."""
    return frame(HEADERS, flags, stream_id, REQUEST)


def trailers(stream_id: int) -> bytes:
    """What may follow the body of a request."""
    return frame(HEADERS, END_HEADERS | END_STREAM, stream_id, encode_block([(b"x-sum", b"1")]))


# ---- the beginning


def test_the_server_speaks_first() -> None:
    """Section 3.4: its SETTINGS are the first frame, and do not wait for the client."""
    peer = Peer(greet=False)
    assert peer.frames()[0].kind == SETTINGS
    peer.send(PREFACE + settings([(1, 0), (2, 0), (3, 5), (0xFFFF, 9)]))
    assert [found[:3] for found in peer.frames()] == [(SETTINGS, ACK, 0)]


@pytest.mark.parametrize("step", [1, 5, 24, 30])
def test_the_preface_may_come_in_pieces(step: int) -> None:
    """Section 3.4: 24 bytes, cut anywhere; a request may follow at once."""
    peer = Peer(greet=False)
    data = PREFACE + settings([]) + headers(1)
    for at in range(0, len(data), step):
        peer.send(data[at : at + step])
    assert peer.opened[1].events == [("ended",)]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX", b"\x16\x03\x01"])
def test_what_is_not_the_preface_is_refused(data: bytes) -> None:
    """Section 3.4: a connection error of type PROTOCOL_ERROR, with the first byte that differs."""
    peer = Peer(greet=False)
    peer.send(data)
    assert peer.refused(ErrorCode.PROTOCOL_ERROR)


@pytest.mark.parametrize(
    "first", [headers(1), frame(PING, 0, 0, b"12345678"), SETTINGS_ACK, window_update(0, 1), frame(0xFA, 0, 0)]
)
def test_the_first_frame_is_settings(first: bytes) -> None:
    """Section 3.4: anything else, an acknowledgement too, is a connection error of type PROTOCOL_ERROR."""
    peer = Peer(greet=False)
    peer.send(PREFACE + first + settings([]))
    assert peer.refused(ErrorCode.PROTOCOL_ERROR)
    assert not peer.opened


def test_limits_that_cannot_be_said_are_refused() -> None:
    """Sections 6.5.2 and 6.9.2: frames of at least 16 KiB, and windows of at least the initial ones."""
    with pytest.raises(ValueError, match="frame_bytes"):
        Http2Limits(frame_bytes=1000)
    with pytest.raises(ValueError, match="window"):
        Http2Limits(window=1000)
    with pytest.raises(ValueError, match="window"):
        Http2Limits(connection_window=1 << 31)


# ---- streams


def test_requests_become_streams() -> None:
    """Section 8.1: headers open a stream, data is passed on as it comes, and the end is told once."""
    peer = Peer()
    peer.ask(1, None)
    peer.ask(3, b"abc")
    peer.ask(5, b"abc", end=False)
    peer.send(frame(DATA, 0, 5, b"def") + frame(DATA, END_STREAM, 5))
    assert peer.opened[1].events == [("ended",)]
    assert peer.opened[3].events == [("data", b"abc", True)]
    assert peer.opened[5].events == [("data", b"abc", False), ("data", b"def", False), ("ended",)]
    assert peer.opened[1].headers is peer.opened[3].headers, "the same bytes are the same object"


def test_data_is_passed_on_before_its_frame_is_complete() -> None:
    """A large frame is not kept until it is whole; only its last part says that it was the last."""
    peer = Peer()
    stream = peer.ask(1, None, end=False)
    data = frame(DATA, END_STREAM, 1, b"x" * 1000)
    peer.send(data[:5])
    peer.send(data[5:300])
    peer.send(data[300:500])
    assert len(stream.body) == 491
    assert not stream.complete
    peer.send(data[500:] + headers(3))
    assert stream.events[-1] == ("data", b"x" * 509, True)
    assert peer.opened[3].complete


def test_streams_go_up() -> None:
    """Section 5.1.1: a request under a lower number than one that was used is a connection error of type PROTOCOL_ERROR.

    Anything else there is on a closed stream, whose frames are thrown away.
    """
    peer = Peer()
    peer.ask(5)
    peer.send(trailers(3) + frame(DATA, END_STREAM, 3, b"x"))
    assert peer.frames() == []
    peer.send(headers(3))
    assert peer.refused(ErrorCode.PROTOCOL_ERROR)
    assert list(peer.opened) == [5]


@pytest.mark.parametrize("late", [frame(DATA, 0, 1, b"x"), frame(DATA, END_STREAM, 1), headers(1)])
def test_nothing_comes_after_the_end_of_a_request(late: bytes) -> None:
    """Section 5.1: half-closed (remote): a stream error of type STREAM_CLOSED."""
    peer = Peer()
    stream = peer.ask(1, b"abc")
    peer.send(late)
    assert stream.code == ErrorCode.STREAM_CLOSED
    assert [(found.kind, found.code) for found in peer.frames()] == [(RST_STREAM, ErrorCode.STREAM_CLOSED)]


@pytest.mark.parametrize(
    "late", [frame(DATA, 0, 1, b"x"), trailers(1), window_update(1, 5), rst_stream(1, CANCEL), frame(PRIORITY, 0, 1, b"12345")]
)
@pytest.mark.parametrize("how", ["answered", "reset by us", "reset by the client"])
def test_frames_on_a_closed_stream_are_thrown_away(late: bytes, how: str) -> None:
    """Section 5.1: they may have been sent before the client knew."""
    peer = Peer()
    stream = peer.ask(1, None, end=False)
    if how == "answered":
        peer.connection.send_reply(1, OK, b"abc", TRAILERS)
    elif how == "reset by us":
        peer.connection.reset(1, ErrorCode.CANCEL)
    else:
        peer.send(rst_stream(1, CANCEL))
    peer.frames()
    before = list(stream.events)
    peer.send(late)
    assert peer.frames() == []
    assert stream.events == before
    assert peer.ask(3).complete


def test_an_answer_may_come_before_its_request_has_ended() -> None:
    """Section 8.1: RST_STREAM with NO_ERROR behind it, so that the client stops sending."""
    peer = Peer()
    peer.ask(1, b"abc", end=False)
    peer.connection.send_reply(1, OK, b"no", TRAILERS)
    last = peer.frames()[-1]
    assert (last.kind, last.stream_id, last.code) == (RST_STREAM, 1, ErrorCode.NO_ERROR)
    assert not peer.connection.streams


def test_a_client_may_cancel() -> None:
    """Section 6.4: whoever works for it is told, with the code, also one that nobody knows; answers to it are dropped."""
    peer = Peer()
    peer.ask(1)
    peer.ask(3)
    peer.send(rst_stream(1, CANCEL) + rst_stream(3, 0xDEAD))
    assert (peer.opened[1].code, peer.opened[3].code) == (CANCEL, 0xDEAD)
    echo(peer.opened[1])
    peer.connection.send_headers(3, OK)
    assert peer.connection.send_data(3, b"abc")
    peer.connection.reset(3, ErrorCode.CANCEL)
    assert peer.frames() == []


def test_a_stream_may_be_given_up() -> None:
    """`reset` sends RST_STREAM and calls nobody: the caller knows."""
    peer = Peer()
    peer.ask(1)
    peer.connection.reset(1, ErrorCode.INTERNAL_ERROR)
    assert [(found.kind, found.code) for found in peer.frames()] == [(RST_STREAM, ErrorCode.INTERNAL_ERROR)]
    assert peer.opened[1].events == [("ended",)]


def test_streams_are_limited() -> None:
    """Section 5.1.2: one more is refused with REFUSED_STREAM, to be sent again; a place is free with the end of an answer."""
    peer = Peer(Http2Limits(streams=2))
    for stream_id in (1, 3):
        peer.ask(stream_id)
    peer.send(headers(5) + frame(HEADERS, END_HEADERS, 7, REQUEST) + frame(DATA, END_STREAM, 7, b"abc"))
    assert [(found.stream_id, found.code) for found in peer.frames()] == [
        (5, ErrorCode.REFUSED_STREAM),
        (7, ErrorCode.REFUSED_STREAM),
    ]
    echo(peer.opened[1])
    assert peer.ask(9).complete


def test_pings_are_answered() -> None:
    """Section 6.7: with what they held; an answer to none is ignored."""
    peer = Peer()
    peer.send(frame(PING, 0, 0, b"12345678") + frame(PING, ACK, 0, b"abcdefgh"))
    assert [(found.kind, found.flags, found.payload) for found in peer.frames()] == [(PING, ACK, b"12345678")]


def test_what_is_above_may_answer_at_once() -> None:
    """From within ``data`` and ``ended``; everything of one read goes out in one write."""
    peer = Peer(answers=echo)
    peer.send(
        b"".join(frame(HEADERS, END_HEADERS, n, REQUEST) + frame(DATA, END_STREAM, n, b"abc") for n in (1, 3, 5)) + headers(7)
    )
    peer.turn()
    assert len(peer.transport.writes) == 1
    assert [found.payload for found in peer.frames() if found.kind == DATA] == [b"abc"] * 3
    assert peer.connection.answered == 4


# ---- what is borne


def flood_of_resets(n: int) -> bytes:
    """CVE-2023-44487: streams that are cancelled as soon as they begin."""
    return headers(2 * n + 1) + rst_stream(2 * n + 1, CANCEL)


@pytest.mark.parametrize(
    "piece",
    [
        flood_of_resets,
        lambda n: headers(2 * n + 1) + window_update(2 * n + 1, 0),  # CVE-2025-8671: cancelled by us, for a fault
        lambda n: frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 1, b"\x82"),  # malformed
        lambda n: frame(PING, 0, 0, b"12345678"),  # CVE-2019-9512
        lambda n: frame(PING, ACK, 0, b"12345678"),
        lambda n: settings([]),  # CVE-2019-9515
        lambda n: SETTINGS_ACK,
        lambda n: frame(PRIORITY, 0, 1, b"\0\0\0\3\1"),
        lambda n: frame(0xFA, 0, 0, b""),
        lambda n: headers(3) if n == 0 else trailers(1),  # closed
        lambda n: frame(HEADERS, END_HEADERS, 1, REQUEST) if n == 0 else frame(DATA, 0, 1),  # CVE-2019-9518
        lambda n: frame(HEADERS, END_HEADERS, 1, REQUEST) if n == 0 else frame(DATA, PADDED, 1, b"\1\0"),
        lambda n: rst_stream(1, CANCEL) if n else headers(1),
    ],
)
def test_floods_end_the_connection(piece: Callable[[int], bytes]) -> None:
    """Section 10.5: what costs work and asks for nothing is borne a number of times, then answered with ENHANCE_YOUR_CALM."""
    peer = Peer(Http2Limits(patience=50, streams=1000))
    for number in range(45):
        peer.send(piece(number))
    assert GOAWAY not in [found.kind for found in peer.frames()]
    for number in range(45, 55):
        peer.send(piece(number))
    assert peer.refused(ErrorCode.ENHANCE_YOUR_CALM)


def test_answers_and_time_give_patience_back() -> None:
    """A client that works may also cancel and ping; one that only cancels may do so slowly."""
    peer = Peer(Http2Limits(patience=50, patience_per_second=10), answers=echo)
    for number in range(0, 400, 2):
        peer.ask(2 * number + 1)
        peer.send(headers(2 * number + 3, END_HEADERS) + rst_stream(2 * number + 3, CANCEL))
    for _ in range(20):
        peer.send(frame(PING, 0, 0, b"12345678") * 9)
        peer.wait(1)
    peer.send(frame(PING, 0, 0, b"12345678") * 40)
    assert GOAWAY not in [found.kind for found in peer.frames()]
    peer.send(frame(PING, 0, 0, b"12345678") * 20)
    assert peer.refused(ErrorCode.ENHANCE_YOUR_CALM)


def test_patience_does_not_grow_without_end() -> None:
    """A day of good behaviour is no licence: neither time nor answers give more than was there at the beginning."""
    peer = Peer(Http2Limits(patience=50), answers=echo)
    for stream_id in range(1, 2001, 2):
        peer.ask(stream_id)
    peer.wait(60)
    peer.frames()
    peer.send(frame(PING, 0, 0, b"12345678") * 200)
    assert peer.refused(ErrorCode.ENHANCE_YOUR_CALM)


def test_refusals_cost_patience_once_the_limit_is_known() -> None:
    """Section 6.5.3: a client that has not acknowledged our settings has done no wrong; one that has is flooding."""
    limits = Http2Limits(streams=1, patience=50)
    peer = Peer(limits, greet=False)
    peer.send(PREFACE + settings([]))
    for number in range(200):
        peer.send(headers(2 * number + 1))
    assert len([found for found in peer.frames() if found.kind == RST_STREAM]) == 199
    peer.send(SETTINGS_ACK)
    for number in range(200, 260):
        peer.send(headers(2 * number + 1))
    assert peer.refused(ErrorCode.ENHANCE_YOUR_CALM)


@pytest.mark.parametrize("stream_id", [0, 1])
def test_windows_opened_by_drops_cost_patience(stream_id: int) -> None:
    """CVE-2019-9511: a byte at a time, for which we would send ten; what nobody waits for costs nothing."""
    peer = Peer(Http2Limits(patience=50), answers=echo)
    peer.ask(1, None, end=False)
    for _ in range(500):
        peer.widen(stream_id, 1)
    peer.send(settings([(INITIAL_WINDOW_SIZE, 0 if stream_id else 1 << 20)]))
    peer.send(frame(DATA, END_STREAM, 1, b"x" * 200_000))
    for _ in range(600):
        peer.widen(stream_id, 1)
    assert peer.refused(ErrorCode.ENHANCE_YOUR_CALM)


def test_a_settings_frame_is_short() -> None:
    """CVE-2020-11080: thousands of settings in one frame."""
    peer = Peer()
    peer.send(settings([(INITIAL_WINDOW_SIZE, n) for n in range(33)]))
    assert peer.refused(ErrorCode.ENHANCE_YOUR_CALM)


# ---- time


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", ErrorCode.SETTINGS_TIMEOUT),
        (PREFACE[:10], ErrorCode.SETTINGS_TIMEOUT),
        (PREFACE + settings([]), ErrorCode.SETTINGS_TIMEOUT),
        (PREFACE + settings([]) + SETTINGS_ACK + headers(1)[:20], ErrorCode.ENHANCE_YOUR_CALM),
        (PREFACE + settings([]) + SETTINGS_ACK + frame(HEADERS, 0, 1, REQUEST), ErrorCode.ENHANCE_YOUR_CALM),
    ],
)
def test_what_is_begun_must_be_ended(data: bytes, code: ErrorCode) -> None:
    """Section 6.5.3, and 10.5: within ``head_seconds``, for a greeting, a frame and a header block alike."""
    peer = Peer(greet=False)
    if data:
        peer.send(data)
    peer.wait(9)
    assert GOAWAY not in [found.kind for found in peer.frames()]
    peer.wait(2)
    assert peer.refused(code)


def test_drops_do_not_extend_the_time_for_a_frame() -> None:
    """A byte a second is not progress: the time counts from a frame's first byte, a block's first frame."""
    peer = Peer()
    data = headers(1)
    for at in range(11):
        peer.send(data[at : at + 1])
        peer.wait(1)
    assert peer.refused(ErrorCode.ENHANCE_YOUR_CALM)
    peer = Peer()
    peer.send(frame(HEADERS, 0, 1, REQUEST))
    for _ in range(6):
        peer.send(frame(CONTINUATION, 0, 1, b""))
        peer.wait(2)
    assert peer.refused(ErrorCode.ENHANCE_YOUR_CALM)


def test_a_busy_connection_is_not_late() -> None:
    """Every read of it may end in the middle of a frame, each time another one's."""
    peer = Peer(answers=echo)
    data = b"".join(headers(stream_id) for stream_id in range(1, 2000, 2))
    for at in range(0, len(data), 997):
        peer.send(data[at : at + 997])
        peer.wait(1)
    assert peer.connection.answered == 1000


def test_the_time_for_a_frame_begins_with_it() -> None:
    """Not with the silence before it, nor while we did not read because the client did not take its answers."""
    peer = Peer()
    peer.wait(30)
    peer.send(headers(1)[:20])
    peer.wait(5)
    peer.connection.pause_writing()
    peer.wait(30)
    peer.connection.resume_writing()
    peer.wait(5)
    peer.send(headers(1)[20:])
    assert peer.opened[1].complete
    assert peer.frames() == []


def test_a_request_must_end_in_time() -> None:
    """``overdue`` is called where its time is over, and gives it up unless somebody above knows better."""
    late: list[int] = []

    class Polite(Recorder):
        def overdue(self) -> None:
            late.append(self.stream_id)
            self.connection.send_reply(self.stream_id, OK, b"too late", TRAILERS)

    peer = Peer()
    slow, patient = peer.ask(1, b"x", end=False), peer.ask(3, b"x", end=False)
    patient.complete_by = float("inf")
    done = peer.ask(5, b"x")
    peer.connection._open_stream = lambda connection, stream_id, headers: Polite(connection, stream_id, headers, peer)
    peer.ask(7, b"x", end=False)
    peer.wait(58)
    assert peer.frames() == []
    peer.wait(3)
    assert slow.code == CANCEL
    assert late == [7]
    assert (patient.code, done.code) == (None, None)
    assert [found.kind for found in peer.frames()] == [RST_STREAM, HEADERS, DATA, HEADERS, RST_STREAM]


def test_an_answer_must_be_taken_in_time() -> None:
    """A client that opens no window holds an answer in memory: after ``body_seconds`` without progress it is dropped."""
    peer = Peer(answers=echo)
    peer.ask(1, b"x" * 100_000)
    peer.wait(50)
    peer.widen(0, 1000)
    peer.widen(1, 1000)
    peer.wait(50)
    assert peer.opened[1].code is None
    peer.wait(12)
    assert peer.opened[1].code == CANCEL
    assert peer.frames()[-1][:3] == (RST_STREAM, 0, 1)


def test_a_transport_that_is_stuck_is_given_up() -> None:
    """After ``body_seconds``; a GOAWAY would only wait behind the rest."""
    peer = Peer(answers=echo)
    peer.ask(1, b"abc")
    peer.connection.pause_writing()
    peer.wait(59)
    assert not peer.transport.aborted
    peer.wait(3)
    assert peer.transport.aborted


def test_an_idle_connection_is_drained() -> None:
    """After ``idle_seconds`` without a stream, and gracefully: the next request may be on its way."""
    peer = Peer(answers=echo)
    peer.wait(80)
    peer.ask(1)
    peer.wait(80)
    peer.frames()
    peer.wait(12)
    found = peer.frames()
    assert [part.kind for part in found[:2]] == [GOAWAY, PING]
    assert found[0].number == LARGEST_STREAM
    peer.wait(5)
    assert peer.transport.ended


# ---- the end


def test_draining_has_two_steps() -> None:
    """Section 6.8: first no stream is named, then, when the client knows, the last; what is in flight is served to its end."""
    peer = Peer()
    peer.ask(1)
    peer.connection.drain()
    peer.connection.drain()
    first, ping = peer.frames()
    assert (first.kind, first.number, first.code, ping.kind, ping.flags) == (GOAWAY, LARGEST_STREAM, ErrorCode.NO_ERROR, PING, 0)
    peer.ask(3)
    peer.send(frame(PING, ACK, 0, ping.payload))
    (second,) = peer.frames()
    assert (second.kind, second.number, second.code) == (GOAWAY, 3, ErrorCode.NO_ERROR)
    peer.send(headers(5))
    assert [(found.stream_id, found.code) for found in peer.frames()] == [(5, ErrorCode.REFUSED_STREAM)]
    echo(peer.opened[1])
    assert not peer.transport.ended
    echo(peer.opened[3])
    assert [found.kind for found in peer.frames()] == [HEADERS] * 4
    assert peer.transport.ended


def test_a_client_that_ignores_draining_is_drained_all_the_same() -> None:
    """The second step comes after two seconds at the latest."""
    peer = Peer()
    peer.connection.drain()
    peer.wait(1)
    assert not peer.transport.ended
    peer.wait(3)
    assert [found.kind for found in peer.frames()] == [GOAWAY, PING, GOAWAY]
    assert peer.transport.ended
    busy = Peer()
    busy.ask(1)
    busy.connection.drain()
    busy.wait(20)
    assert [found.kind for found in busy.frames()] == [GOAWAY, PING, GOAWAY]
    assert not busy.transport.ended


def test_a_client_that_leaves_is_let_go() -> None:
    """Section 6.8: after its GOAWAY the connection ends with the last answer, and at once if there is none to give."""
    peer = Peer()
    peer.ask(1)
    peer.send(goaway(0, ErrorCode.NO_ERROR, "x" * 1000))
    assert not peer.transport.ended
    echo(peer.opened[1])
    assert peer.transport.ended
    idle = Peer()
    idle.send(goaway(0, ErrorCode.NO_ERROR))
    assert idle.transport.ended
    assert idle.frames() == []


@pytest.mark.parametrize("last", [rst_stream(1, CANCEL), window_update(1, 0), b"", frame(DATA, END_STREAM, 1, b"abc")])
def test_a_client_that_leaves_may_give_up_its_last_stream(last: bytes) -> None:
    """However that ends: cancelled, broken, given up by us, or answered."""
    peer = Peer(answers=echo)
    peer.ask(1, b"x", end=False)
    peer.send(goaway(0, ErrorCode.NO_ERROR))
    assert not peer.transport.ended
    if last:
        peer.send(last)
    else:
        peer.connection.reset(1, ErrorCode.INTERNAL_ERROR)
    assert peer.transport.ended


def test_a_connection_that_fails_tells_its_streams() -> None:
    """Section 5.4.1: they are gone; nothing more goes out, whatever is sent on them."""
    peer = Peer()
    peer.ask(1)
    peer.send(frame(DATA, 0, 0, b"x"))
    assert peer.opened[1].code == ErrorCode.PROTOCOL_ERROR
    assert peer.goaway().number == 1
    echo(peer.opened[1])
    peer.connection.reset(1, ErrorCode.CANCEL)
    assert peer.frames() == []


def test_the_end_is_read_out() -> None:
    """Closing at once would let the client's system drop what it has not read: what still comes is thrown away, for two seconds."""
    peer = Peer()
    peer.send(frame(DATA, 0, 0, b"x"))
    assert peer.transport.ended
    assert not peer.transport.closed
    peer.send(headers(1))
    assert not peer.opened
    peer.wait(1)
    assert not peer.transport.aborted
    peer.wait(3)
    assert peer.transport.aborted


def test_the_last_answer_is_not_cut_short() -> None:
    """A client that takes it slowly has as long as for any answer."""
    peer = Peer(answers=echo)
    peer.ask(1, b"abc")
    peer.send(goaway(0, ErrorCode.NO_ERROR))
    assert peer.transport.ended
    peer.connection.pause_writing()
    peer.wait(30)
    assert not peer.transport.aborted
    peer.connection.resume_writing()
    peer.wait(1)
    assert not peer.transport.aborted
    peer.wait(3)
    assert peer.transport.aborted


def test_where_one_direction_cannot_end_both_do() -> None:
    """TLS: what was written goes out first."""
    peer = Peer()
    peer.transport.half_closes = False
    peer.send(frame(DATA, 0, 0, b"x"))
    assert peer.transport.closed
    assert peer.frames()[-1].kind == GOAWAY


def test_a_lost_connection_tells_its_streams() -> None:
    """Whoever works for them may stop; what they still send goes nowhere."""
    peer = Peer()
    peer.ask(1)
    peer.ask(3, None, end=False)
    assert peer.connection.eof_received() is False
    peer.connection.connection_lost(None)
    assert (peer.opened[1].code, peer.opened[3].code) == (CANCEL, CANCEL)
    echo(peer.opened[1])
    peer.connection.resume_writing()
    peer.connection.data_received(headers(5))
    peer.run()
    assert peer.transport.writes == []


def test_a_stream_that_opens_may_be_of_any_class() -> None:
    """What ``open_stream`` gets: the connection, the stream's number, and headers whose ``note`` is kept with the block."""
    seen: list[tuple[Http2Connection, int, RequestHeaders]] = []
    peer = Peer()

    def open_stream(connection: Http2Connection, stream_id: int, headers: RequestHeaders) -> Recorder:
        seen.append((connection, stream_id, headers))
        headers.note = (headers.note or 0) + 1
        return Recorder(connection, stream_id, headers, peer)

    peer.connection._open_stream = open_stream
    peer.ask(1)
    peer.ask(3)
    assert [entry[:2] for entry in seen] == [(peer.connection, 1), (peer.connection, 3)]
    assert seen[0][2].note == 2
