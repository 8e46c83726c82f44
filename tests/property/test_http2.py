"""HTTP/2 with whatever may come: the same events wherever the bytes are cut, windows that are kept, and garbage that does no harm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import hpack
import pytest
from http2_peer import OK, REQUEST, TRAILERS, Peer, echo
from hypothesis import given, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headgate.serving.wire.http2.flow import LARGEST_WINDOW
from headgate.serving.wire.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITIZED,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    WINDOW_UPDATE,
    frame,
    rst_stream,
    settings,
    window_update,
)
from headgate.serving.wire.http2.headers import encode_block
from headgate.serving.wire.http2.settings import INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, Http2Limits

CORPUS = Path(__file__).parent / "corpus" / "http2"
LIMITS = Http2Limits(streams=4, window=65_535, connection_window=LARGEST_WINDOW, patience=20, header_bytes=1024, headers=10)
"""Narrow, so that limits are met; but the connection's window is opened again at the end of a read, so it must not be."""
GREETING = PREFACE + settings([]) + SETTINGS_ACK


# ---- what clients send, right and wrong


@st.composite
def blocks(draw: st.DrawFn, encoder: hpack.Encoder) -> bytes:
    """A header block: mostly a request, with or without the dynamic table; sometimes too large, malformed, or with a length."""
    fields = [(":method", "POST"), (":scheme", "http"), (":path", draw(st.sampled_from(["/a", "/b/c", "/d"]))), ("te", "trailers")]
    kind = draw(st.sampled_from(["indexed"] * 6 + ["plain"] * 3 + ["large", "malformed", "length"]))
    if kind == "plain":
        return REQUEST
    if kind == "malformed":
        fields = draw(st.permutations([*fields, ("Connection", "close")]))[:4]
    if kind == "length":
        fields.append(("content-length", str(draw(st.integers(0, 20)))))
    if kind == "large":
        fields.append(("x-large", "y" * draw(st.integers(0, 3000))))
    fields += draw(st.lists(st.sampled_from([("x-a", "1"), ("x-b", "2"), ("x-c", "3" * 900)]), max_size=2))
    return encoder.encode(fields, huffman=draw(st.booleans()))


@st.composite
def headers(draw: st.DrawFn, stream_id: int, block: bytes) -> bytes:
    """A block in one frame, or padded and with a priority in two."""
    end = END_STREAM if draw(st.booleans()) else 0
    if draw(st.booleans()):
        return frame(HEADERS, END_HEADERS | end, stream_id, block)
    at = draw(st.integers(0, len(block)))
    priority = b"\0\0\0\1\7" if draw(st.booleans()) else b""
    first = frame(HEADERS, end | PADDED | (PRIORITIZED if priority else 0), stream_id, b"\2" + priority + block[:at] + b"\0\0")
    return first + frame(CONTINUATION, END_HEADERS, stream_id, block[at:])


@st.composite
def bodies(draw: st.DrawFn, stream_id: int) -> bytes:
    """A DATA frame."""
    end = END_STREAM if draw(st.booleans()) else 0
    payload = b"x" * draw(st.sampled_from([0, 1, 5, 20, 300, 20_000, 50_000]))
    if draw(st.integers(0, 3)):
        return frame(DATA, end, stream_id, payload)
    pad = draw(st.integers(0, 255))
    return frame(DATA, end | PADDED, stream_id, bytes([pad]) + payload + b"\0" * pad)


@st.composite
def other_frames(draw: st.DrawFn, stream_id: int) -> bytes:
    """A frame that carries no request."""
    kind = draw(st.sampled_from([RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, WINDOW_UPDATE, WINDOW_UPDATE, PRIORITY, 0xFA]))
    if kind == RST_STREAM:
        return rst_stream(stream_id, draw(st.integers(0, 20)))
    if kind == SETTINGS:
        pairs = st.sampled_from(
            [(1, 0), (INITIAL_WINDOW_SIZE, 0), (INITIAL_WINDOW_SIZE, 70_000), (MAX_FRAME_SIZE, 20_000), (99, 99)]
        )
        return settings(draw(st.lists(pairs, max_size=3)))
    if kind == WINDOW_UPDATE:
        return window_update(draw(st.sampled_from([0, stream_id])), draw(st.sampled_from([1, 1000, 100_000])))
    if kind == PING:
        return frame(PING, draw(st.sampled_from([0, 1])), 0, b"12345678")
    return frame(kind, draw(st.integers(0, 255)), stream_id, b"12345")


@st.composite
def rude_frames(draw: st.DrawFn, stream_id: int) -> bytes:
    """Something that breaks a rule, or most probably does."""
    return draw(
        st.one_of(
            st.binary(max_size=30),
            st.builds(frame, st.integers(0, 11), st.integers(0, 255), st.sampled_from([0, 2, stream_id]), st.binary(max_size=12)),
            st.builds(frame, st.just(HEADERS), st.just(END_HEADERS), st.just(stream_id), st.binary(max_size=12)),
            st.sampled_from(
                [
                    window_update(stream_id, 0),
                    window_update(0, LARGEST_WINDOW),
                    settings([(INITIAL_WINDOW_SIZE, 1 << 31)]),
                    frame(GOAWAY, 0, 0, b"12345678"),
                    frame(DATA, PADDED, stream_id, b"\3a"),
                    frame(HEADERS, 0, stream_id, b"\x88"),
                ]
            ),
        )
    )


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """All that a client sends on one connection: polite for the most part, since who breaks a rule at once is not listened to any more."""
    encoder = hpack.Encoder()
    parts = [draw(st.sampled_from([GREETING] * 15 + [PREFACE + settings([]), b""]))]
    begun, rude = [1], draw(st.sampled_from([0, 0, 1, 4]))
    for _ in range(draw(st.integers(0, 16))):
        stream_id = draw(st.sampled_from(begun))
        kind = draw(st.sampled_from(["request"] * 6 + ["body"] * 5 + ["other"] * 4 + ["trailers"] + ["rude"] * rude))
        if kind == "request" or len(begun) == 1:
            begun.append(begun[-1] + 2)
            parts.append(draw(headers(begun[-1], draw(blocks(encoder)))))
        elif kind == "body":
            parts.append(draw(bodies(stream_id)))
        elif kind == "trailers":
            parts.append(draw(headers(stream_id, encoder.encode([("x-sum", "1")]))))
        else:
            parts.append(draw(other_frames(stream_id) if kind == "other" else rude_frames(stream_id)))
    return b"".join(parts)


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """``data`` in pieces."""
    at = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:stop] for start, stop in pairwise(at)]


# ---- what came of it


def outcome(reads: Sequence[bytes]) -> dict[str, Any]:
    """Let bytes arrive, and return everything that does not depend on where reads ended.

    That a window is opened again is looked for at the end of a read; and of a body that breaks a rule more or less has been passed on
    by then. All else is the same.
    """
    peer = Peer(LIMITS, answers=echo, greet=False)
    for read in reads:
        if read:
            peer.send(read)
        check_bounds(peer)
    found = [part for part in peer.frames() if part.kind != WINDOW_UPDATE]
    streams = {
        stream_id: (stream.headers.path, stream.complete, stream.code, stream.body if stream.complete else None)
        for stream_id, stream in peer.opened.items()
    }
    fault = peer.connection.fault
    return {"frames": found, "streams": streams, "fault": fault and (fault.code, str(fault)), "ended": peer.transport.ended}


def check_bounds(peer: Peer) -> None:
    """What a connection keeps for its client is bounded, whatever that sends; and each callback comes when it may."""
    connection = peer.connection
    assert len(connection._rest) < 9 + 2 * LIMITS.header_bytes
    assert len(connection.streams) <= LIMITS.streams
    assert len(connection._decoder.known) <= 32
    assert sum(map(len, connection._out)) < 1_000_000
    assert connection.fault is not None or 0 <= connection._room <= LIMITS.connection_window
    for stream in peer.opened.values():
        assert 0 <= stream.room <= LIMITS.window
        kinds = [event[0] for event in stream.events]
        assert kinds.count("reset") <= 1
        assert "reset" not in kinds[:-1], "nothing follows a reset"
        ends = [at for at, event in enumerate(stream.events) if event == ("ended",) or (event[0] == "data" and event[2])]
        assert len(ends) <= 1
        assert not ends or "data" not in kinds[ends[0] + 1 :]
        assert all(event[1] for event in stream.events if event[0] == "data"), "no empty parts"
    if connection.fault is not None:
        assert peer.transport.ended


@given(data=conversations(), places=st.lists(st.integers(0, 1 << 20), max_size=20))
def test_where_reads_end_means_nothing(data: bytes, places: list[int]) -> None:
    """TCP is a stream: however it is cut, the same requests, resets, answers and errors come of it."""
    assert outcome(cut(data, places)) == outcome([data])


@given(data=conversations().filter(lambda data: len(data) < 3000))
def test_bytes_may_come_one_by_one(data: bytes) -> None:
    """The smallest pieces there are."""
    assert outcome([data[at : at + 1] for at in range(len(data))]) == outcome([data])


@given(garbage=st.lists(st.binary(min_size=1, max_size=200), max_size=8), greeted=st.booleans())
def test_garbage_does_no_harm(garbage: list[bytes], greeted: bool) -> None:
    """Nothing is raised: it means something, or it is answered with GOAWAY and the end."""
    outcome([GREETING if greeted else b"", *garbage])


@given(
    heads=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40)), max_size=12),
    lengths=st.lists(st.integers(-3, 3), max_size=12),
)
def test_frames_of_garbage_do_no_harm(heads: list[tuple[int, int, int, bytes]], lengths: list[int]) -> None:
    """Types, flags, streams, payloads and lengths at random."""
    reads = [GREETING + frame(HEADERS, END_HEADERS, 1, REQUEST)]
    for number, (kind, flags, stream_id, payload) in enumerate(heads):
        data = frame(kind, flags, stream_id, payload)
        length = max(0, len(payload) + (lengths[number] if number < len(lengths) else 0))
        reads.append(length.to_bytes(3, "big") + data[3:])
    assert outcome(reads) == outcome([b"".join(reads)])


@given(block=st.binary(max_size=200), flags=st.sampled_from([END_HEADERS, END_HEADERS | END_STREAM]))
def test_blocks_of_garbage_do_no_harm(block: bytes, flags: int) -> None:
    """HPACK of random bytes is a request, a malformed one, or the end of the connection; the neighbours' table is never half changed."""
    peer = Peer(LIMITS)
    peer.send(frame(HEADERS, flags, 1, block))
    if peer.connection.fault is None:
        assert peer.ask(3).complete
    else:
        assert peer.transport.ended


# ---- the corpus


def read_corpus(path: Path) -> bytes:
    """Bytes written as hexadecimal digits; what follows a # is a remark."""
    return bytes.fromhex("".join(line.partition("#")[0] for line in path.read_text().splitlines()))


def test_there_is_a_corpus() -> None:
    """It moves with its test, or the next one would pass by finding nothing."""
    assert len(list(CORPUS.glob("*.hex"))) > 30


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.hex")), ids=lambda path: path.stem)
def test_the_corpus_does_no_harm(path: Path) -> None:
    """Conversations that mattered once, as a whole, byte by byte, and with every byte of them broken."""
    data = read_corpus(path)
    assert data, "an empty conversation tests nothing"
    assert outcome([data[at : at + 1] for at in range(len(data))]) == outcome([data])
    for at in range(0, len(data), 1 + len(data) // 200):
        for byte in (0x00, 0x80, 0xFF, data[at] ^ 1):
            outcome([data[:at] + bytes([byte]) + data[at + 1 :]])


# ---- windows


class Windows(RuleBasedStateMachine):
    """A client that counts what it has granted and been granted, and a server that sends whenever it likes."""

    @initialize(initial=st.sampled_from([0, 1, 100, 65_535, 1 << 20]))
    def begin(self, initial: int) -> None:
        """Greet, with some initial window."""
        self.peer = Peer(Http2Limits(window=65_535, connection_window=200_000, patience=1_000_000))
        self.initial, self.largest = 65_535, 16_384
        self.unread: list[tuple[int, int]] = []
        """Settings that the server has not acknowledged: until then it counts with the old ones."""
        self.window = 65_535
        """What the server may still send on all streams."""
        self.windows: dict[int, int] = {}
        self.sent: dict[int, bytes] = {}
        """What the server was told to send."""
        self.got: dict[int, bytes] = {}
        self.room, self.rooms = 200_000, dict[int, int]()
        """What the client may still send; on streams whose request has not ended."""
        self.put: dict[int, int] = {}
        self.over: set[int] = set()
        """Streams the server was told to end."""
        self.next = 1
        self.set(initial, 16_384)
        self.look()

    def look(self) -> None:
        """Read what the server has written, and hold it to the windows."""
        for found in self.peer.frames():
            if found.kind == DATA:
                assert len(found.payload) <= self.largest
                self.window -= len(found.payload)
                self.windows[found.stream_id] -= len(found.payload)
                assert found.payload, "the end is told by trailers here, so no frame is empty"
                assert self.window >= 0
                assert self.windows[found.stream_id] >= 0
                self.got[found.stream_id] += found.payload
            elif found.kind == WINDOW_UPDATE and not found.stream_id:
                self.room += found.number
                assert self.room <= 200_000
            elif found.kind == WINDOW_UPDATE:
                self.rooms[found.stream_id] += found.number
                assert self.rooms[found.stream_id] <= 65_535
            elif found.kind == SETTINGS:
                initial, self.largest = self.unread.pop(0)
                for stream_id in self.windows:
                    self.windows[stream_id] += initial - self.initial
                self.initial = initial
            elif found.kind == HEADERS and found.flags & END_STREAM:
                assert self.got[found.stream_id] == self.sent[found.stream_id]
                assert found.stream_id in self.over
            else:
                assert found.kind in (HEADERS, RST_STREAM)

    @rule()
    def ask(self) -> None:
        """A new stream; at most 40 of them."""
        if self.next < 80:
            stream_id, self.next = self.next, self.next + 2
            self.peer.ask(stream_id, None, end=False)
            self.peer.connection.send_headers(stream_id, OK)
            self.windows[stream_id], self.rooms[stream_id] = self.initial, 65_535
            self.sent[stream_id] = self.got[stream_id] = b""
            self.put[stream_id] = 0

    def open_streams(self) -> list[int]:
        """Those the server may still send on."""
        return [stream_id for stream_id in self.sent if stream_id not in self.over]

    @precondition(lambda self: self.open_streams())
    @rule(data=st.data(), size=st.sampled_from([0, 1, 99, 16_384, 16_385, 70_000]), end=st.booleans())
    def send(self, data: st.DataObject, size: int, end: bool) -> None:
        """The server sends, perhaps the end."""
        stream_id = data.draw(st.sampled_from(self.open_streams()))
        part = bytes([len(self.sent[stream_id]) % 251]) * size
        self.sent[stream_id] += part
        self.peer.connection.send_data(stream_id, part)
        if end:
            self.over.add(stream_id)
            self.peer.connection.send_headers(stream_id, TRAILERS, end=True)

    @rule(by=st.sampled_from([1, 1000, 100_000]))
    def widen(self, by: int) -> None:
        """The client grants more for all streams."""
        self.window += by
        self.peer.widen(0, by)

    @precondition(lambda self: self.windows)
    @rule(data=st.data(), by=st.sampled_from([1, 1000, 100_000]))
    def widen_stream(self, data: st.DataObject, by: int) -> None:
        """The client grants more for one."""
        stream_id = data.draw(st.sampled_from(sorted(self.windows)))
        self.windows[stream_id] += by
        self.peer.widen(stream_id, by)

    @rule(initial=st.sampled_from([0, 1, 100, 65_535, 1 << 20]), largest=st.sampled_from([16_384, 20_000, 1 << 20]))
    def set(self, initial: int, largest: int) -> None:
        """The client changes its settings."""
        self.unread.append((initial, largest))
        self.peer.send(settings([(INITIAL_WINDOW_SIZE, initial), (MAX_FRAME_SIZE, largest)]))

    @rule(stuck=st.booleans())
    def transport(self, stuck: bool) -> None:
        """The transport is stuck for a while."""
        if stuck:
            self.peer.connection.pause_writing()
        else:
            self.peer.connection.resume_writing()

    @precondition(lambda self: self.peer.connection.streams)
    @rule(data=st.data(), size=st.sampled_from([1, 5000, 30_000, 65_535]), held=st.booleans())
    def put_data(self, data: st.DataObject, size: int, held: bool) -> None:
        """The client sends what it may, on a stream that may be held."""
        stream_id = data.draw(st.sampled_from(sorted(self.peer.connection.streams)))
        size = min(size, self.room, self.rooms[stream_id])
        (self.peer.connection.hold if held else self.peer.connection.release)(stream_id)
        self.room -= size
        self.rooms[stream_id] -= size
        if stream_id not in self.over:  # what comes behind the end of the answer is nobody's
            self.put[stream_id] += size
        if size:
            self.peer.send(frame(DATA, 0, stream_id, b"x" * size))

    @invariant()
    def windows_are_kept(self) -> None:
        """Neither side exceeds what the other has granted, and both count the same."""
        if not hasattr(self, "peer"):
            return
        self.look()
        connection = self.peer.connection
        assert connection.fault is None
        assert connection._room == self.room or connection._stuck
        for stream_id, stream in connection.streams.items():
            assert stream.room == self.rooms[stream_id] or connection._stuck
            assert len(self.peer.opened[stream_id].body) == self.put[stream_id]
            if not connection._stuck:
                assert stream.window == self.windows[stream_id] and not self.unread
                waits = self.sent[stream_id] != self.got[stream_id]
                assert not waits or connection._window <= 0 or stream.window <= 0, "nothing waits without a reason"

    def teardown(self) -> None:
        """Once there is room, everything arrives, whole and in order."""
        if not hasattr(self, "peer"):
            return
        self.transport(stuck=False)
        self.look()
        self.widen(1 << 24)
        for stream_id in self.windows:
            if self.windows[stream_id] < 1 << 24:
                self.windows[stream_id] += 1 << 24
                self.peer.widen(stream_id, 1 << 24)
        self.look()
        assert self.got == self.sent
        assert set(self.peer.connection.streams) == set(self.open_streams())


TestWindows = Windows.TestCase


@given(
    fields=st.lists(st.tuples(st.sampled_from([b":status", b"x-a", b"grpc-message", b"date"]), st.binary(max_size=300)), max_size=8)
)
def test_our_blocks_are_read_as_they_were_written(fields: list[tuple[bytes, bytes]]) -> None:
    """RFC 7541: by any decoder, again and again, with nothing left in its table."""
    decoder = hpack.Decoder(1 << 20)
    block = encode_block(fields)
    assert list(decoder.decode(block, raw=True)) == list(decoder.decode(block, raw=True)) == fields
    assert not decoder.header_table.dynamic_entries
