"""Header blocks of HTTP/2: what is decoded once, what is remembered for how long, and which requests are well-formed."""

from __future__ import annotations

import hpack
import pytest
from http2_peer import REQUEST, Peer

from headgate.serving.wire.http2 import frames
from headgate.serving.wire.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    RST_STREAM,
    ConnectionFault,
    ErrorCode,
    StreamFault,
    frame,
)
from headgate.serving.wire.http2.headers import HeaderDecoder, encode_block, read_request
from headgate.serving.wire.http2.settings import Http2Limits

BASE = ((b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/v2/models/a/infer?x=1"), (b":authority", b"example.com:8080"))
INDEXED = [*BASE, (b"user-agent", b"a-client/1.0"), (b"te", b"trailers")]


def bomb(entry: int, references: int) -> bytes:
    """A block that puts ``entry`` bytes into the dynamic table and names them again and again, a byte each time."""
    return hpack.Encoder().encode([hpack.HeaderTuple(b"x", b"y" * entry)], huffman=False) + b"\xbe" * references


# ---- decoding


def test_a_request_is_read() -> None:
    """RFC 9113, section 8.3.1: the pseudo-headers are its method, scheme, authority and path; the others keep their order."""
    headers = read_request((*BASE, (b"b", b"1"), (b"a", b"\xe9"), (b"b", b""), (b"content-length", b"17")))
    assert (headers.method, headers.scheme, headers.authority) == ("POST", "https", "example.com:8080")
    assert headers.path == "/v2/models/a/infer?x=1"
    assert headers.fields == (("b", "1"), ("a", "\xe9"), ("b", ""), ("content-length", "17"))
    assert headers.length == 17
    assert read_request(BASE).length == -1
    assert read_request((BASE[0], BASE[1], BASE[2], (b"host", b"h"))).authority == "h"
    assert read_request(((b":method", b"OPTIONS"), BASE[1], (b":path", b"*"))).path == "*"


def test_a_block_that_changes_the_table_is_not_remembered() -> None:
    """RFC 7541, section 6.2.1: the same bytes would add a second entry, so they are decoded each time."""
    decoder, encoder = HeaderDecoder(Http2Limits()), hpack.Encoder()
    first = encoder.encode(INDEXED)
    headers = decoder.request(first)
    assert decoder.known == {}
    assert decoder.request(first) is not headers
    assert decoder.request(encoder.encode(INDEXED)).fields == headers.fields


def test_a_block_that_leaves_the_table_is_remembered_until_the_next_change() -> None:
    """Its bytes mean the same only while the table does: after an addition the same index is another field (RFC 7541, section 2.3.3)."""
    decoder, encoder = HeaderDecoder(Http2Limits()), hpack.Encoder()
    decoder.request(encoder.encode(INDEXED))
    block = encoder.encode(INDEXED)
    assert len(block) == len(INDEXED)
    headers = decoder.request(block)
    headers.note = "kept"
    assert decoder.request(block) is headers
    decoder.request(encoder.encode([*INDEXED, (b"x-new", b"1")]))
    moved = decoder.request(encoder.encode([*INDEXED, (b"x-new", b"1")]))
    assert moved.fields[-1] == ("x-new", "1")
    assert block not in decoder.known
    # What these bytes say now: the newest entry, in place of the one that stood there.
    with pytest.raises(StreamFault):
        decoder.request(block)


def test_trailers_and_discarded_blocks_change_the_table_too() -> None:
    """RFC 7541, section 2.2: one table for all blocks of a connection, in the order they come."""
    for name in ("trailers", "discard"):
        decoder, encoder = HeaderDecoder(Http2Limits()), hpack.Encoder()
        decoder.request(encoder.encode(INDEXED))
        decoder.request(encoder.encode(INDEXED))
        assert decoder.known
        getattr(decoder, name)(encoder.encode([(b"x-sum", b"1")]))
        assert not decoder.known
        assert decoder.request(encoder.encode([*INDEXED, (b"x-sum", b"1")])).fields[-1] == ("x-sum", "1")


def test_a_block_that_resizes_the_table_is_not_remembered() -> None:
    """RFC 7541, section 6.3: from memory it would not resize the table again."""
    decoder, encoder = HeaderDecoder(Http2Limits()), hpack.Encoder()
    decoder.request(encoder.encode(INDEXED))
    decoder.request(encoder.encode(INDEXED))
    assert decoder.known
    decoder.request(b"\x20" + REQUEST)
    assert decoder.known == {}
    assert decoder.request(REQUEST) is decoder.request(REQUEST)
    with pytest.raises(ConnectionFault) as caught:
        decoder.request(b"\xbe")  # the first entry of the table, which is empty now
    assert caught.value.code == ErrorCode.COMPRESSION_ERROR


def test_what_is_remembered_is_bounded() -> None:
    """A client that never sends the same block twice, or sends long ones, fills no memory."""
    decoder = HeaderDecoder(Http2Limits())
    for number in range(1000):
        decoder.request(REQUEST + encode_block([(b"x-id", b"%d" % number)]))
    assert 0 < len(decoder.known) <= 32
    decoder.known.clear()
    decoder.request(REQUEST + encode_block([(b"x-id", b"x" * 600)]))
    assert decoder.known == {}


@pytest.mark.parametrize("ended", [False, True])
def test_blocks_of_streams_that_are_over_change_the_table(ended: bool) -> None:
    """RFC 9113, section 5.1: what comes on a closed stream, or behind a request's end, is decoded before it is thrown away."""
    peer, encoder = Peer(), hpack.Encoder()
    peer.ask(3, b"")
    if ended:
        peer.connection.reset(3, ErrorCode.CANCEL)
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 3, encoder.encode([(b"x-late", b"1")])))
    stream = peer.ask(5, b"abc", block=encoder.encode([*BASE, (b"x-late", b"1")]))
    assert stream.headers.fields == (("x-late", "1"),)


# ---- limits


@pytest.mark.parametrize(
    ("block", "kind"),
    [
        (REQUEST + encode_block([(b"x", b"y" * 16_300)]), StreamFault),
        (REQUEST + encode_block([(b"x", b"y" * 17_000)]), StreamFault),
        (REQUEST + encode_block([(b"x", b"y")] * 130), StreamFault),
        (REQUEST + encode_block([(b"x", b"y")] * 600), StreamFault),
        (REQUEST + bomb(4000, 13), StreamFault),
        (REQUEST + bomb(4000, 20), ConnectionFault),
        (REQUEST + bomb(4000, 30_000), ConnectionFault),
    ],
)
def test_headers_are_limited_inflated(block: bytes, kind: type[Exception]) -> None:
    """RFC 9113, section 10.5.1: too large a request is refused alone, and the table stays in order; a bomb ends the connection."""
    decoder = HeaderDecoder(Http2Limits())
    with pytest.raises(kind) as caught:
        decoder.request(block)
    assert caught.value.code == ErrorCode.ENHANCE_YOUR_CALM  # type: ignore[attr-defined]
    if kind is StreamFault:
        assert decoder.request(REQUEST).path == "/a.B/C"


def test_headers_at_the_limit_are_taken() -> None:
    """16 KiB with 32 for each field (RFC 9113, section 6.5.2), and 128 fields."""
    fixed = sum(len(name) + len(value) + 32 for name, value in hpack.Decoder().decode(REQUEST, raw=True))
    decoder = HeaderDecoder(Http2Limits())
    room = 16 * 1024 - fixed - 33
    assert decoder.request(REQUEST + encode_block([(b"x", b"y" * room)])).fields[-1] == ("x", "y" * room)
    with pytest.raises(StreamFault):
        decoder.request(REQUEST + encode_block([(b"x", b"y" * (room + 1))]))
    assert len(decoder.request(REQUEST + encode_block([(b"x", b"y")] * 123)).fields) == 124


def test_one_request_with_large_headers_does_not_hurt_its_neighbours() -> None:
    """RFC 9113, section 10.5.1: RST_STREAM, and the connection goes on; gRPC clients call it RESOURCE_EXHAUSTED."""
    peer = Peer()
    peer.send(frame(HEADERS, END_HEADERS, 1, REQUEST + encode_block([(b"x", b"y" * 16_300)])))
    (answer,) = peer.frames()
    assert (answer.kind, answer.stream_id, answer.code) == (RST_STREAM, 1, ErrorCode.ENHANCE_YOUR_CALM)
    assert 1 not in peer.opened
    peer.send(frame(DATA, END_STREAM, 1, b"on its way"))
    assert peer.ask(3, b"abc").body == b"abc"
    assert peer.frames() == []


def test_a_block_too_large_for_any_request_is_refused_by_its_head() -> None:
    """A HEADERS frame is kept until it has come whole, so its announced length is what is limited."""
    peer = Peer()
    peer.send(frame(HEADERS, END_HEADERS, 1, b"x" * 40_000)[:9])
    assert peer.refused(ErrorCode.ENHANCE_YOUR_CALM)


def test_the_table_keeps_to_its_size() -> None:
    """RFC 7541, section 4.2: no client may make it larger than the 4,096 bytes we allow."""
    decoder = HeaderDecoder(Http2Limits())
    assert decoder.request(b"\x3f\xe1\x1f" + REQUEST).method == "POST"
    with pytest.raises(ConnectionFault) as caught:
        decoder.request(b"\x3f\xe2\x1f" + REQUEST)
    assert caught.value.code == ErrorCode.COMPRESSION_ERROR


def test_a_block_may_not_resize_the_table_without_end() -> None:
    """RFC 7541, section 4.2 knows a use for two changes at its beginning; ten thousand are a way to keep us busy."""
    assert HeaderDecoder(Http2Limits()).request(b"\x20\x3f\xe1\x1f" + REQUEST).method == "POST"
    for resizes in (b"\x20" * 10_000, b"\x20\x20\x20", b"\x3f\xe1\x1f" * 3, b"\x20\x3f\x80\x80\x00\x20"):
        with pytest.raises(ConnectionFault) as caught:
            HeaderDecoder(Http2Limits()).request(resizes + REQUEST)
        assert caught.value.code == ErrorCode.COMPRESSION_ERROR


@pytest.mark.parametrize(
    "block", [b"\x80", b"\xff\xff\xff\xff\xff\xff\xff", b"\x40", b"\x00\x05ab", b"\xc5", b"\x00\x82\xff\xff\x00"]
)
def test_a_block_that_cannot_be_decoded_ends_the_connection(block: bytes) -> None:
    """RFC 9113, section 4.3: the table of both sides may differ from now on."""
    peer = Peer()
    peer.send(frame(HEADERS, END_HEADERS, 1, block))
    assert peer.refused(ErrorCode.COMPRESSION_ERROR)


# ---- CONTINUATION


def test_a_block_in_parts_is_one_block() -> None:
    """RFC 9113, section 6.10: cut anywhere, also into nothing; END_STREAM is that of the HEADERS frame."""
    peer = Peer()
    peer.send(frame(HEADERS, END_STREAM, 1, REQUEST[:3]) + frame(CONTINUATION, 0, 1, b"") + frame(CONTINUATION, 0, 1, REQUEST[3:9]))
    assert not peer.opened
    peer.send(frame(CONTINUATION, END_HEADERS, 1, REQUEST[9:]))
    assert peer.opened[1].events == [("ended",)]
    assert peer.opened[1].headers.path == "/a.B/C"


@pytest.mark.parametrize(
    "between",
    [
        frame(DATA, 0, 5, b"x"),
        frame(HEADERS, END_HEADERS, 9, REQUEST),
        frame(CONTINUATION, END_HEADERS, 5, REQUEST),
        frame(PING, 0, 0, b"12345678"),
        frame(0xFA, 0, 1, b""),
        frames.window_update(0, 1),
    ],
)
def test_nothing_comes_between_the_parts_of_a_block(between: bytes) -> None:
    """RFC 9113, section 6.2: a connection error of type PROTOCOL_ERROR; also for types that nobody knows (section 5.5)."""
    peer = Peer()
    peer.ask(5, None, end=False)
    peer.send(frame(HEADERS, 0, 7, REQUEST[:3]) + between)
    assert peer.refused(ErrorCode.PROTOCOL_ERROR)


@pytest.mark.parametrize("part", [b"", b"\x10\x01a\x7f\xff\x07"])
def test_continuations_are_limited(part: bytes) -> None:
    """CVE-2024-27316: a block without an end is refused after a few frames, and holds no memory."""
    peer = Peer()
    peer.send(frame(HEADERS, 0, 1, REQUEST))
    for _ in range(8):
        peer.send(frame(CONTINUATION, 0, 1, part))
    assert peer.frames() == []
    peer.send(frame(CONTINUATION, 0, 1, part))
    assert peer.refused(ErrorCode.ENHANCE_YOUR_CALM)


def test_continuations_are_limited_in_bytes() -> None:
    """CVE-2024-27316: also where there are few of them."""
    peer = Peer()
    peer.send(frame(HEADERS, 0, 1, REQUEST) + frame(CONTINUATION, 0, 1, b"x" * 20_000))
    assert peer.frames() == []
    peer.send(frame(CONTINUATION, 0, 1, b"x" * 20_000))
    assert peer.refused(ErrorCode.ENHANCE_YOUR_CALM)


# ---- what is well-formed


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        # section 8.2.1: names and values
        ((*BASE, (b"Upper", b"1")), "Upper"),
        ((*BASE, (b"", b"1")), "token"),
        ((*BASE, (b"a b", b"1")), "a b"),
        ((*BASE, (b"a:b", b"1")), "a:b"),
        ((*BASE, (b"\xe9", b"1")), "token"),
        ((*BASE, (b"a", b"1\r\nb: 2")), "control"),
        ((*BASE, (b"a", b"1\0")), "control"),
        ((*BASE, (b"a", b" 1")), "space"),
        ((*BASE, (b"a", b"1\t")), "space"),
        # section 8.2.2: fields of a connection
        ((*BASE, (b"connection", b"close")), "connection"),
        ((*BASE, (b"transfer-encoding", b"chunked")), "transfer-encoding"),
        ((*BASE, (b"upgrade", b"h2c")), "upgrade"),
        ((*BASE, (b"keep-alive", b"1")), "keep-alive"),
        ((*BASE, (b"proxy-connection", b"close")), "proxy-connection"),
        ((*BASE, (b"te", b"gzip")), "te"),
        # section 8.3: pseudo-headers
        ((*BASE, (b":path", b"/b")), ":path"),
        ((*BASE, (b":status", b"200")), ":status"),
        ((*BASE, (b":protocol", b"websocket")), ":protocol"),
        ((*BASE[:3], (b"a", b"1"), BASE[3]), ":authority"),
        # section 8.3.1: requests
        (BASE[1:], ":method"),
        ((BASE[0], *BASE[2:]), ":scheme"),
        (BASE[:2], ":path"),
        (((b":method", b""), *BASE[1:]), ":method"),
        (((b":method", b"PO ST"), *BASE[1:]), ":method"),
        ((BASE[0], (b":scheme", b"HTTP"), BASE[2]), ":scheme"),
        ((*BASE[:2], (b":path", b"")), ":path"),
        ((*BASE[:2], (b":path", b"v2")), ":path"),
        ((*BASE[:2], (b":path", b"*")), ":path"),
        ((*BASE[:2], (b":path", b"/a b")), ":path"),
        ((*BASE[:2], (b":path", b"/a#b")), ":path"),
        ((*BASE[:2], (b":path", b"/\xc3\xa9")), ":path"),
        ((*BASE[:3], (b":authority", b"user@host")), ":authority"),
        ((*BASE[:3], (b":authority", b"a b")), ":authority"),
        ((*BASE, (b"host", b"other")), "host"),
        ((*BASE, (b"host", b"example.com:8080"), (b"host", b"example.com:8080")), "host"),
        # section 8.5: CONNECT
        (((b":method", b"CONNECT"), BASE[3]), "proxy"),
        # section 8.1.1: the length
        ((*BASE, (b"content-length", b"+1")), "content-length"),
        ((*BASE, (b"content-length", b"")), "content-length"),
        ((*BASE, (b"content-length", b"1, 1")), "content-length"),
        ((*BASE, (b"content-length", b"1"), (b"content-length", b"2")), "content-length"),
        ((*BASE, (b"content-length", b"9" * 30)), "content-length"),
    ],
)
def test_a_malformed_request_is_refused(fields: tuple[tuple[bytes, bytes], ...], where: str) -> None:
    """RFC 9113, section 8.1.1: a stream error of type PROTOCOL_ERROR; the connection and the table go on."""
    with pytest.raises(StreamFault, match="malformed request") as caught:
        read_request(fields)
    assert caught.value.code == ErrorCode.PROTOCOL_ERROR
    assert where in str(caught.value)
    peer = Peer()
    peer.send(frame(HEADERS, END_HEADERS, 1, encode_block(fields)))
    (answer,) = peer.frames()
    assert (answer.kind, answer.stream_id, answer.code) == (RST_STREAM, 1, ErrorCode.PROTOCOL_ERROR)
    assert peer.ask(3, b"abc").body == b"abc"


@pytest.mark.parametrize(
    "fields",
    [
        (*BASE, (b"te", b"trailers")),
        (*BASE, (b"host", b"EXAMPLE.com:8080")),
        (*BASE, (b"content-length", b"1"), (b"content-length", b"1")),
        (*BASE, (b"a", b""), (b"b", b"x y\tz"), (b"cookie", b"a=1"), (b"cookie", b"b=2")),
        (*BASE[:3], (b":authority", b"[::1]:8080")),
        ((b":method", b"PATCH"), BASE[1], (b":path", b'/%C3%A9"{}|')),
        (BASE[3], BASE[2], BASE[1], BASE[0]),
    ],
)
def test_a_well_formed_request_is_taken(fields: tuple[tuple[bytes, bytes], ...]) -> None:
    """RFC 9113, section 8.3: pseudo-headers in any order, and what the grammar of fields allows."""
    assert dict(read_request(fields).fields) == {name.decode(): value.decode() for name, value in fields if name[:1] != b":"}


def test_trailers_end_a_request() -> None:
    """RFC 9113, section 8.1: after them nothing comes, and what they say is held to the rules of fields."""
    peer = Peer()
    stream = peer.ask(1, b"abc", end=False)
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, encode_block([(b"x-sum", b"1")])))
    assert stream.events == [("data", b"abc", False), ("ended",)]
    assert peer.frames() == []


@pytest.mark.parametrize(
    ("flags", "block"),
    [
        (END_HEADERS, encode_block([(b"x-sum", b"1")])),
        (END_HEADERS | END_STREAM, encode_block([(b":path", b"/b")])),
        (END_HEADERS | END_STREAM, encode_block([(b"connection", b"close")])),
        (END_HEADERS | END_STREAM, encode_block([(b"X", b"1")])),
    ],
)
def test_malformed_trailers_end_the_stream(flags: int, block: bytes) -> None:
    """RFC 9113, section 8.1: no END_STREAM, a pseudo-header, or a field that may not be there."""
    peer = Peer()
    stream = peer.ask(1, b"abc", end=False)
    peer.send(frame(HEADERS, flags, 1, block))
    assert stream.code == ErrorCode.PROTOCOL_ERROR
    assert [(answer.kind, answer.code) for answer in peer.frames()] == [(RST_STREAM, ErrorCode.PROTOCOL_ERROR)]


@pytest.mark.parametrize(
    ("parts", "fits"), [([b"abc"], True), ([b"a", b"bc"], True), ([b"ab"], False), ([b"ab", b"cd"], False), ([], False)]
)
@pytest.mark.parametrize("trailers", [False, True])
def test_the_announced_length_is_held_to(parts: list[bytes], fits: bool, trailers: bool) -> None:
    """RFC 9113, section 8.1.1: Content-Length is the sum of the DATA; else the request is malformed."""
    peer = Peer()
    stream = peer.ask(1, None, end=False, block=REQUEST + encode_block([(b"content-length", b"3")]))
    for part in parts:
        peer.send(frame(DATA, 0, 1, part))
    if trailers:
        peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, encode_block([(b"x-sum", b"1")])))
    else:
        peer.send(frame(DATA, END_STREAM, 1, b""))
    assert stream.complete is fits
    assert [answer.code for answer in peer.frames()] == ([] if fits else [ErrorCode.PROTOCOL_ERROR])


def test_a_length_without_a_body_is_malformed() -> None:
    """RFC 9113, section 8.1.1: headers that end the stream and announce bytes."""
    peer = Peer()
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, REQUEST + encode_block([(b"content-length", b"3")])))
    assert [answer.code for answer in peer.frames()] == [ErrorCode.PROTOCOL_ERROR]
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 3, REQUEST + encode_block([(b"content-length", b"0")])))
    assert peer.opened[3].events == [("ended",)]


# ---- blocks of ours


@pytest.mark.parametrize("secret", [False, True])
def test_our_blocks_are_constants(secret: bool) -> None:
    """RFC 7541, section 6.2: fields of the static table and literals, so that any decoder, at any time, reads the same."""
    fields = [
        (b":status", b"200"), (b":status", b"418"), (b"content-type", b"application/grpc"), (b"x" * 200, b"y" * 70_000), (b"a", b""),
    ]  # fmt: skip
    block = encode_block(fields, secret=secret)
    decoder = hpack.Decoder(1 << 20)
    for _ in range(2):
        found = list(decoder.decode(block, raw=True))
        assert found == fields
        assert all(field.indexable is not secret for field in found[1:])
    assert len(decoder.header_table.dynamic_entries) == 0
    assert encode_block([(b":status", b"200")]) == b"\x88"


def test_the_first_block_says_that_we_use_no_table() -> None:
    """RFC 7541, section 4.2: a client that allows a smaller table than 4,096 bytes waits for that, and once is enough."""
    peer = Peer()
    for stream_id in (1, 3):
        peer.ask(stream_id, b"abc")
        peer.connection.send_headers(stream_id, encode_block([(b":status", b"200")]), end=True)
    assert [answer.payload for answer in peer.frames()] == [b"\x20\x88", b"\x88"]
