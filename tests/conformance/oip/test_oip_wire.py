"""HTTP/1.1 on the wire: framing, what is refused so that no proxy in front can see other boundaries, and the life of a connection."""

from __future__ import annotations

import json
import re
import socket
import struct

import pytest
from serving import Server, eventually, read_all, read_answer, tensor

BODY = json.dumps({"inputs": [tensor("x", "FP32", [1, 1], [0])]}).encode()
INFER = b"POST /v2/models/two/infer HTTP/1.1\r\nHost: localhost\r\n"
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = LIVE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


def post(body: bytes = BODY, *headers: bytes) -> bytes:
    """Return a whole request."""
    return INFER + b"".join(header + b"\r\n" for header in headers) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """Return a request with a chunked body."""
    return INFER + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def statuses(data: bytes) -> list[int]:
    """Return the statuses of the answers in ``data``, in order."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]


def test_the_plain_forms_are_understood(server: Server) -> None:
    """What the other tests break works when it is whole."""
    assert statuses(server.raw(LIVE + LAST)) == [200, 200]
    assert statuses(server.raw(post() + LAST)) == [200, 200]
    assert statuses(server.raw(chunked(BODY[:5], BODY[5:]) + LAST)) == [200, 200]


SMUGGLING = {
    "length and chunked": INFER + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": INFER + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": INFER + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n123456",
    "the same length twice": INFER + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a list of lengths": INFER + b"Content-Length: 2, 2\r\n\r\n{}",
    "a negative length": INFER + b"Content-Length: -2\r\n\r\n{}",
    "a signed length": INFER + b"Content-Length: +2\r\n\r\n{}",
    "a hexadecimal length": INFER + b"Content-Length: 0x2\r\n\r\n{}",
    "an empty length": INFER + b"Content-Length:\r\n\r\n",
    "a length beyond 64 bits": INFER + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
    "space before the colon": INFER + b"Content-Length : 2\r\n\r\n{}",
    "space before the name": INFER + b" Content-Length: 2\r\n\r\n{}",
    "a folded header": INFER + b"X-A: b\r\n c\r\nContent-Length: 2\r\n\r\n{}",
    "bare LF after a header": INFER + b"X-A: b\nContent-Length: 2\r\n\r\n{}",
    "bare LF after the request line": b"POST /v2/models/two/infer HTTP/1.1\nHost: localhost\r\n\r\n",
    "bare CR in a header": INFER + b"X-A: b\rContent-Length: 2\r\n\r\n{}",
    "a null byte in a header": INFER + b"X-A: b\x00c\r\n\r\n",
    "no colon": INFER + b"Nonsense\r\n\r\n",
    "an empty name": INFER + b": b\r\n\r\n",
    "unknown coding": INFER + b"Transfer-Encoding: gzip\r\n\r\n",
    "two codings": INFER + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": INFER + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked in two headers": INFER + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked with a tab": INFER + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": INFER.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two hosts": INFER + b"Host: localhost\r\nContent-Length: 2\r\n\r\n{}",
    "no host": b"GET /v2/health/live HTTP/1.1\r\n\r\n",
    "HTTP/9.9": b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    "no version": b"GET /v2/health/live\r\n\r\n",
    "an unknown verb": b"FOO /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a proxy's verb": b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a target without a host": LIVE.replace(b" /v2/", b" http:///v2/"),
    "a target with a user": LIVE.replace(b" /v2/", b" http://localhost:80@localhost/v2/"),
    "a target of another scheme": LIVE.replace(b" /v2/", b" ftp://localhost/v2/"),
    "spaces in the path": b"GET /v2 /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "bytes beyond ASCII in the path": b"GET /v2/\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "bytes beyond ASCII in a name": b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX-\xe9: 1\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(32) + b"\r\n\r\n",
    "nonsense": b"hello\r\n\r\n",
    "chunk size: sign": chunked(end=b"+2\r\n{}\r\n0\r\n\r\n"),
    "chunk size: prefix": chunked(end=b"0x2\r\n{}\r\n0\r\n\r\n"),
    "chunk size: space": chunked(end=b"2 \r\n{}\r\n0\r\n\r\n"),
    "chunk size: none": chunked(end=b"\r\n{}\r\n0\r\n\r\n"),
    "chunk size: bare LF": chunked(end=b"2\n{}\r\n0\r\n\r\n"),
    "chunk size: bare CR": chunked(end=b"2\r;a\r\n{}\r\n0\r\n\r\n"),
    "chunk size: beyond 64 bits": chunked(end=b"fffffffffffffffff\r\n{}"),
    "chunk: too short": chunked(end=b"3\r\n{}\r\n0\r\n\r\n"),
    "chunk: too long": chunked(end=b"1\r\n{}\r\n0\r\n\r\n"),
    "chunk: ends in LF": chunked(end=b"2\r\n{}\n0\r\n\r\n"),
    "chunk: ends in CR CR": chunked(end=b"2\r\n{}\r\r0\r\n\r\n"),
    "chunk extension: endless": chunked(end=b"2;" + b"a" * 5000 + b"\r\n{}\r\n0\r\n\r\n"),
    "trailer: bare LF": chunked(BODY, end=b"0\r\nA: b\nC: d\r\n\r\n"),
    "trailers: endless": chunked(BODY, end=b"0\r\n" + b"A: b\r\n" * 5000 + b"\r\n"),
}


@pytest.mark.parametrize("shape", SMUGGLING)
def test_ambiguous_framing_is_refused_and_the_connection_closed(server: Server, shape: str) -> None:
    """One 4xx with an error text, then the end: nothing behind it on the connection is ever read as a request."""
    answer = server.raw(SMUGGLING[shape] + LIVE)
    assert len(statuses(answer)) == 1, answer
    assert 400 <= statuses(answer)[0] < 500
    assert b"connection: close" in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


def test_bare_lf_alone_never_ends_a_head(narrow: Server) -> None:
    """A head of bare LFs is no head: it is refused when its time is over."""
    with narrow.connect() as sock:
        sock.sendall(LIVE.replace(b"\r\n", b"\n"))
        assert statuses(read_all(sock)) == [408]


def test_odd_forms_that_are_allowed(server: Server) -> None:
    """An empty line before a request, white space around values, chunk extensions, trailers, sizes with zeros, methods' own spelling."""
    assert statuses(server.raw(b"\r\n" + LIVE + LAST)) == [200, 200]
    assert statuses(server.raw(LIVE.replace(b"Host: localhost", b"hOsT:\t localhost \t") + LAST)) == [200, 200]
    size = b"00%X" % len(BODY)
    assert statuses(server.raw(chunked(end=size + b";name=value\r\n" + BODY + b"\r\n0;last\r\nX-Sum: 1\r\n\r\n") + LAST)) == [
        200,
        200,
    ]


def test_a_target_may_be_a_whole_url(server: Server) -> None:
    """RFC 9112, section 3.2.2: what clients send to a proxy is understood; its host counts, whatever the Host header says."""
    whole = post().replace(b" /v2", b" http://localhost:80/v2").replace(b"Host: localhost", b"Host: elsewhere.test")
    assert statuses(server.raw(whole + LAST)) == [200, 200]
    queried = LIVE.replace(b" /v2/health/live", b" HTTPS://[::1]/v2/health/live?a=http://b/c")
    assert statuses(server.raw(queried + LAST)) == [200, 200]
    bare, root = (server.raw(LIVE.replace(b" /v2/health/live", target) + LAST) for target in (b" http://localhost", b" /"))
    assert statuses(bare) == statuses(root)
    assert statuses(server.raw(LIVE.replace(b" /v2/", b" http://elsewhere.test/v2/") + LAST)) == [421, 200]


def test_an_offer_to_upgrade_is_not_taken_up(server: Server) -> None:
    """``curl --http2`` offers h2c with every request: it gets its answer in HTTP/1.1."""
    offer = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__")
    assert statuses(server.raw(post(BODY, *offer) + LAST)) == [200, 200]
    get = LIVE.replace(b"\r\n\r\n", b"\r\n" + b"\r\n".join(offer) + b"\r\n\r\n")
    assert statuses(server.raw(get + LAST)) == [200, 200]


def test_bodies_in_any_pieces(server: Server) -> None:
    """Wherever the network cuts a request, it is the same request: every cut of a plain and of a chunked one."""
    for request in (post(), chunked(BODY[:7], BODY[7:])):
        with server.connect() as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for cut in range(1, len(request), 3):
                sock.sendall(request[:cut])
                server.get("/v2/health/live")  # by now the first piece has been read
                sock.sendall(request[cut:])
                assert read_answer(sock).data("output") == [2]


def test_pipelining_keeps_the_order(server: Server) -> None:
    """Requests sent without waiting are answered one by one, in order; mistakes among them cost only themselves."""
    requests = []
    for number in range(50):
        body = json.dumps({"id": str(number), "inputs": [tensor("x", "FP32", [1, 1], [0] if number % 7 else ["?"])]}).encode()
        requests.append(post(body))
    with server.connect() as sock:
        sock.sendall(b"".join(requests) + LAST)
        data = read_all(sock)
    assert statuses(data) == [200 if number % 7 else 400 for number in range(50)] + [200]
    ids = [part.partition(b'"')[0] for part in data.split(b'"id":"')[1:]]
    assert ids == [b"%d" % number for number in range(50) if number % 7]


def test_a_long_pipeline_is_read_as_fast_as_it_is_answered(server: Server) -> None:
    """More than the gateway keeps for one connection waits in the network, and nothing is lost."""
    with server.connect() as sock:
        body = BODY.ljust(20_000)
        for _ in range(30):
            sock.sendall(post(body))
        sock.sendall(LAST)
        assert statuses(read_all(sock)) == [200] * 31


def test_head(server: Server) -> None:
    """HEAD is GET without the body: the same status and length, and the connection stays in step."""
    with server.connect() as sock:
        for path, status in ((b"/v2", 200), (b"/v2/models/two", 200), (b"/v2/models/nobody", 404)):
            sock.sendall(b"HEAD %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
            head = read_answer(sock, "HEAD")
            sock.sendall(b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
            get = read_answer(sock)
            assert head.status == get.status == status
            assert head.body == b""
            assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.body))
    assert server.request("HEAD", "/v2/models/two/infer").status == 405


def test_expect_100_continue(server: Server) -> None:
    """Who asks is told to go on, then answered; who would be refused is refused before sending the body."""
    with server.connect() as sock:
        sock.sendall(INFER + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(BODY)
        assert read_answer(sock).status == 200
    with server.connect() as sock:
        sock.sendall(INFER.replace(b"two", b"two/x") + b"Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n")
        assert statuses(read_all(sock)) == [404]
    with server.connect() as sock:  # HTTP/1.0 knows no 100
        sock.sendall(INFER.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY))
        sock.sendall(BODY)
        assert statuses(read_all(sock)) == [200]


def test_keep_alive_by_version(server: Server) -> None:
    """HTTP/1.1 stays open unless told to close, HTTP/1.0 closes unless told to stay, and says so."""
    old = LIVE.replace(b"HTTP/1.1", b"HTTP/1.0")
    with server.connect() as sock:
        sock.sendall(old.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"))
        assert read_answer(sock).headers["connection"] == "keep-alive"
        sock.sendall(old)
        assert b"connection: close" in read_all(sock)
    with server.connect() as sock:
        for _ in range(3):
            sock.sendall(LIVE)
            assert "connection" not in read_answer(sock).headers
        sock.sendall(LAST)
        assert b"connection: close" in read_all(sock)


def test_a_client_that_shuts_its_half_has_gone(server: Server) -> None:
    """Part of a request and no more: the connection ends. What has been answered by then arrives."""
    for data in (post()[:-1], INFER, chunked(BODY, end=b"5\r\n"), b""):
        assert server.raw(data, shut=True) == b""
    assert statuses(server.raw(LIVE + INFER, shut=True)) == [200]


def test_a_reset_connection_leaves_nothing_behind(server: Server) -> None:
    """Connections cut in the middle of anything are counted out again."""
    before = server.metric("headgate_connections")
    for data in (b"", INFER, post()[:-1], post(), chunked(BODY, end=b"5\r\n")):
        sock = server.connect()
        sock.sendall(data)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    eventually(lambda: server.metric("headgate_connections") <= before, "all five are counted out")


@pytest.mark.parametrize("text", ["caller-7", "a b/c:d=%20", "x" * 200])
def test_request_ids_come_back(server: Server, text: str) -> None:
    """``x-request-id`` is the caller's, on answers and on errors."""
    for model in ("two", "nobody"):
        assert server.infer(model, BODY, {"X-Request-Id": text}).headers["x-request-id"] == text


def test_request_ids_are_made_where_none_is_given(server: Server) -> None:
    """Each answer has one of its own, also where the same bytes are sent again."""
    seen = {server.infer("two", BODY).headers["x-request-id"] for _ in range(20)}
    assert len(seen) == 20


@pytest.mark.parametrize("text", ["x" * 201, "", "a\x7fb", "caf\u00e9"])
def test_bad_request_ids_are_refused(server: Server, text: str) -> None:
    """Too long, empty, or with characters that do not belong into a log line."""
    answer = server.infer("two", BODY, {"X-Request-Id": text})
    assert answer.status == 400
    assert "x-request-id" in answer.error or "header value" in answer.error


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "evil.example:80", "[::2]", "local host"]
)
def test_hosts_that_are_not_ours(server: Server, host: str) -> None:
    """A page that made its name point here (DNS rebinding) gets 421 and nothing else."""
    answer = server.get("/v2", {"Host": host})
    assert answer.status in (400, 421)
    assert "headgate" not in answer.json.get("name", "")


def test_origins_that_are_not_ours(server: Server) -> None:
    """A page of another site may not use this server from a browser; one of the server's own host may."""
    assert server.infer("two", BODY, {"Origin": "https://evil.example"}).status == 421
    assert server.infer("two", BODY, {"Origin": "null"}).status == 421
    assert server.infer("two", BODY, {"Origin": f"http://localhost:{server.port}"}).status == 200
