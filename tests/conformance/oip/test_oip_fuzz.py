"""Any bytes at all: the gateway answers 4xx or closes, and serves on. What it logs is looked at when the server ends."""

from __future__ import annotations

import json
import re
import socket
from typing import Any

from hypothesis import example, given, strategies as st
from serving import Server, answer_of, read_all, tensor

GOOD = json.dumps({"inputs": [tensor("x", "FP32", [1, 1], [0])]}).encode()
PIECES = st.sampled_from(
    [
        b"GET ", b"POST ", b"/v2/models/two/infer", b"/v2", b"?a=b", b"%zz", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\n", b"\r", b"\r\n\r\n",
        b":",
        b"Host: localhost", b"Content-Length: 2", b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Expect: 100-continue",
        b"{}",
        b"Connection: close", b"Connection: upgrade", b"Upgrade: h2c", b"Content-Encoding: gzip", b"Inference-Header-Content-Length: 0",
        b"0\r\n\r\n", b"2\r\n{}\r\n", b"ffffffffffffffff\r\n", b"\x00", b"\xff", GOOD, b"%d" % len(GOOD), b" ", b"\t",
        b"X-A: " + b"a" * 300,
    ]
)  # fmt: skip
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["a", "FP32", "BYTES", "sum", "x"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("name shape datatype data parameters id".split()), inner)
    ),
    max_leaves=12,
)


def alive(server: Server) -> None:
    """Assert that the gateway still computes."""
    assert server.infer("two", GOOD).data("output") == [2]


def statuses(data: bytes) -> set[int]:
    """Return the statuses of all answers in ``data``."""
    return {int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)}


@given(st.lists(PIECES | st.binary(max_size=20), max_size=25).map(b"".join))
@example(b"POST /v2/models/two/infer HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}")
def test_random_bytes_on_the_socket(server: Server, data: bytes) -> None:
    """Pieces of HTTP in any order: refused, or answered where they happen to be a request, or closed."""
    assert all(status < 500 or status in (501, 503) for status in statuses(server.raw(data, shut=True)))
    alive(server)


@given(st.binary(max_size=200), st.integers(0, 220), st.sampled_from(["types", "text", "two", "ragged", "scalar", "special"]))
def test_random_bytes_as_a_body(server: Server, data: bytes, length: int, model: str) -> None:
    """With any claim about where the JSON ends."""
    answer = server.request("POST", f"/v2/models/{model}/infer", data, {"Inference-Header-Content-Length": str(length)})
    assert answer.status in (200, 400)
    alive(server)


@given(JSON, JSON, st.sampled_from(["types", "sum", "text", "ragged", "plane", "scalar"]))
def test_random_json(server: Server, described: Any, more: Any, model: str) -> None:
    """Anything that is JSON, in the place of a request and in the place of its inputs."""
    for body in (described, {"inputs": [described], "parameters": more}, {"inputs": described, "outputs": more, "id": "1"}):
        answer = server.infer(model, json.dumps(body).encode())
        assert answer.status in (200, 400, 501), answer.body
        assert answer.status == 200 or answer.error
    alive(server)


@given(st.data())
def test_a_binary_body_that_lies(server: Server, data: st.DataObject) -> None:
    """Shapes, sizes and blobs that agree or not: computed if they do, else refused with the input's name."""
    inputs, blobs = [], b""
    for _ in range(data.draw(st.integers(1, 3))):
        name, dtype = data.draw(
            st.sampled_from([("fp32", "FP32"), ("bytes", "BYTES"), ("bool", "BOOL"), ("bf16", "BF16"), ("int64", "INT64")])
        )
        shape = data.draw(st.lists(st.sampled_from([0, 1, 2, 3, 9, -1, 2**31, 2**62, 2**70]), max_size=3) | st.just([1, 2]))
        blob = data.draw(st.binary(max_size=40) | st.just(b"\x01\x00\x00\x00a\x00\x00\x00\x00") | st.just(bytes(16)))
        size = data.draw(st.just(len(blob)) | st.integers(0, 50))
        inputs.append(tensor(name, dtype, shape, binary_data_size=size))
        blobs += blob
    body = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    length = data.draw(st.just(len(body)) | st.integers(0, len(body) + len(blobs)))
    answer = server.request("POST", "/v2/models/types/infer", body + blobs, {"Inference-Header-Content-Length": str(length)})
    assert answer.status in (200, 400), answer.body
    alive(server)


@given(st.lists(st.integers(1, 400), max_size=8), st.booleans())
def test_any_cut_of_a_pipeline(server: Server, cuts: list[int], chunked: bool) -> None:
    """Three requests in pieces of any sizes are three requests."""
    head = b"POST /v2/models/two/infer HTTP/1.1\r\nHost: localhost\r\n"
    body = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" if chunked else b"Content-Length: %d\r\n\r\n%b"
    stream = (head + body % (len(GOOD), GOOD)) * 3
    with server.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        at = 0
        for cut in cuts:
            sock.sendall(stream[at : at + cut])
            at += cut
        sock.sendall(stream[at:] + b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = read_all(sock)
    assert re.findall(rb"HTTP/1\.1 (\d{3}) ", answer) == [b"200"] * 4
    assert answer.count(b'"data":[2]') == 3


def test_many_connections_that_send_nothing_useful(server: Server) -> None:
    """A hundred half-sent requests take nothing from who sends a whole one."""
    socks = [server.connect() for _ in range(100)]
    for number, sock in enumerate(socks):
        sock.sendall(b"POST /v2/models/two/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"[: number + 1])
    client = server.client()
    for _ in range(20):
        client.request("POST", "/v2/models/two/infer", GOOD)
        assert answer_of(client.getresponse()).status == 200
    client.close()
    for sock in socks:
        sock.close()
