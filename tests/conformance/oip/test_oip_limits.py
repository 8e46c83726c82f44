"""Limits of size and time, on a gateway where they are low."""

from __future__ import annotations

import json
import select
import socket
from contextlib import suppress

import pytest
from serving import Server, eventually, read_all, tensor

SUM = json.dumps({"inputs": [tensor("a", "FP32", [1, 16], [1.0] * 16), tensor("b", "FP32", [1, 16], [2.0] * 16)]}).encode()
HEAD = b"POST /v2/models/sum/infer HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def refusal(server: Server, *pieces: bytes) -> tuple[int, str]:
    """Send ``pieces``, and return status and error of the one answer before the server closes."""
    with server.connect() as sock:
        for piece in pieces:
            sock.sendall(piece)
        head, _, body = read_all(sock).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


def is_cut(sock: socket.socket, data: bytes) -> bool:
    """Send ``data``, or as much as is taken; whether the connection has been reset."""
    try:
        sock.sendall(data)
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return False


def test_what_fits_is_taken(narrow: Server) -> None:
    """The limits refuse only what is beyond them."""
    assert narrow.infer("sum", SUM.ljust(65536)).status == 200
    assert narrow.infer("sum", SUM, {f"X-{number}": "v" * 700 for number in range(10)}).status == 200


@pytest.mark.parametrize("length", [65_537, 10**12, 2**63])
def test_a_huge_body_is_refused_before_it_is_read(narrow: Server, length: int) -> None:
    """By what the head says: nothing of the body has been sent."""
    status, error = refusal(narrow, HEAD + b"Content-Length: %d\r\n\r\n" % length)
    assert status == 413
    assert str(length) in error and "65536" in error and "binary" in error


def test_the_limit_of_binary_bodies_is_higher(narrow: Server) -> None:
    """Bodies with binary tensors have their own, and the JSON before the tensors keeps its own."""
    status, error = refusal(narrow, HEAD + b"Inference-Header-Content-Length: 100\r\nContent-Length: 262145\r\n\r\n")
    assert (status, "262144" in error) == (413, True)
    status, error = refusal(narrow, HEAD + b"Inference-Header-Content-Length: 65537\r\nContent-Length: 70000\r\n\r\n")
    assert (status, "the JSON before the tensors" in error) == (413, True)
    rows = 900
    body = {"inputs": [tensor(name, "FP32", [rows, 16], binary_data_size=rows * 64) for name in "ab"]}
    assert narrow.infer("sum", body, blobs=bytes(rows * 128)).status == 200


def test_who_sends_on_still_reads_the_refusal(narrow: Server) -> None:
    """A client that writes its whole body before it reads gets the answer, not a reset connection."""
    for _ in range(10):
        with narrow.connect() as sock:
            sock.sendall(HEAD + b"Content-Length: 3000000\r\n\r\n")
            sock.sendall(b" " * 3_000_000)
            sock.shutdown(socket.SHUT_WR)
            assert read_all(sock).startswith(b"HTTP/1.1 413")


def test_a_refused_client_that_never_ends_is_cut(narrow: Server) -> None:
    """After a moment the connection is closed, whatever still comes."""
    with narrow.connect() as sock:
        sock.sendall(HEAD + b"Content-Length: 3000000\r\n\r\n")
        assert read_all(sock).startswith(b"HTTP/1.1 413")
        eventually(lambda: is_cut(sock, b" "), "the connection is cut")


def test_a_chunked_body_is_counted_as_it_comes(narrow: Server) -> None:
    """Past the limit it is refused, without waiting for its end."""
    status, error = refusal(narrow, CHUNKED, *[b"4000\r\n" + b" " * 0x4000 + b"\r\n"] * 4, b"1\r\n")
    assert (status, "65536" in error) == (413, True)


def test_too_many_chunks(narrow: Server) -> None:
    """A body in crumbs is refused by their number."""
    fits = b"1\r\n \r\n" * 31 + b"%x\r\n%b\r\n0\r\n\r\n" % (len(SUM), SUM)
    assert narrow.raw(CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") + fits).startswith(b"HTTP/1.1 200")
    status, error = refusal(narrow, CHUNKED, b"1\r\n \r\n" + fits)
    assert (status, "chunks" in error) == (413, True)


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
def test_a_head_too_long(narrow: Server, end: bytes) -> None:
    """431, whether its end has come or not, in one header or in many."""
    for headers in (b"X-A: " + b"a" * 9000, b"X-A: b\r\n" * 1200, b"X" * 9000):
        status, error = refusal(narrow, HEAD + headers + end)
        assert (status, "8192" in error) == (431, True)


def test_a_slow_head(narrow: Server) -> None:
    """From its first byte on a head has its time; bytes that trickle in do not give it more."""
    with narrow.connect() as sock:
        sock.sendall(b"P")
        for byte in HEAD[1:]:
            if select.select([sock], [], [], 0.1)[0]:
                break
            sock.sendall(bytes([byte]))
        head, _, body = read_all(sock).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")
    assert b"the head did not arrive within 0.5 s" in body


def test_a_head_that_stops(narrow: Server) -> None:
    """A head that never ends is answered 408."""
    status, error = refusal(narrow, HEAD)
    assert (status, error) == (408, "the head did not arrive within 0.5 s")


@pytest.mark.parametrize("start", [HEAD + b"Content-Length: 100\r\n\r\n{", CHUNKED + b"5\r\n{", CHUNKED])
def test_a_body_that_stops(narrow: Server, start: bytes) -> None:
    """A body that never ends is answered 408, plain or chunked."""
    status, error = refusal(narrow, start)
    assert (status, error) == (408, "the body did not arrive within 0.5 s")


def test_an_idle_connection_is_closed(narrow: Server) -> None:
    """Without a word, as HTTP wants it: before the first request and after one."""
    with narrow.connect() as sock:
        assert read_all(sock) == b""
    with narrow.connect() as sock:
        sock.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_all(sock).startswith(b"HTTP/1.1 200")


def test_too_many_connections(narrow: Server) -> None:
    """Beyond the limit new ones are closed at once, without an answer; those there are go on; afterwards there is room again."""
    live = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def ask(sock: socket.socket) -> bool:
        try:
            sock.sendall(live)
            return sock.recv(4096).startswith(b"HTTP/1.1 200")
        except ConnectionError:
            return False

    there = [narrow.connect() for _ in range(60)]
    assert all(ask(sock) for sock in there)
    more = [narrow.connect() for _ in range(20)]
    assert sum(ask(sock) for sock in more) <= 4
    assert all(ask(sock) for sock in there)
    for sock in there + more:
        sock.close()
    eventually(lambda: ask_anew(narrow, live), "there is room again")


def ask_anew(narrow: Server, request: bytes) -> bool:
    """Whether a new connection is answered."""
    with narrow.connect() as sock, suppress(ConnectionError):
        sock.sendall(request)
        return sock.recv(4096).startswith(b"HTTP/1.1 200")
    return False


def test_a_client_that_does_not_read_is_cut(narrow: Server) -> None:
    """Its answers wait for a while, then its connection is ended; others are served all the time."""
    rows = 900
    body = json.dumps({"inputs": [tensor(name, "FP32", [rows, 16], binary_data_size=rows * 64) for name in "ab"]}).encode()
    request = HEAD + b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n" % (len(body), len(body) + rows * 128)
    request += body + bytes(rows * 128)
    with narrow.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(0.2)

        def cut() -> bool:
            assert narrow.get("/v2/health/live").status == 200
            return is_cut(sock, request)

        eventually(cut, "the connection is cut")
