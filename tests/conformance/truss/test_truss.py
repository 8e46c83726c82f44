"""The HTTP paths of a Truss: points H1 to H17 of its contract, named by their numbers."""

from __future__ import annotations

import json
import struct
from typing import Any

import msgspec
import pytest
from serving import Answer, Server, answer_of

OCTETS = {"content-type": "application/octet-stream"}


def predict(server: Server, model: str, body: Any, *, binary: bool = False, verb: str = "predict") -> Answer:
    """POST to the model's predict path: ``body`` as JSON or MessagePack, bytes as they are."""
    encode = msgspec.msgpack.encode if binary else msgspec.json.encode
    raw = body if isinstance(body, bytes) else encode(body)
    return server.request("POST", f"/v1/models/{model}:{verb}", raw, OCTETS if binary else None)


def array(dtype: str, shape: list[int], data: bytes) -> dict[bytes, Any]:
    """An array as msgpack-numpy writes it."""
    return {b"nd": True, b"type": dtype, b"kind": b"", b"shape": shape, b"data": data}


def unpacked(answer: Answer) -> Any:
    """The value of a binary answer that must be good."""
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/octet-stream"
    return msgspec.msgpack.decode(answer.body)


# ---- readiness and schema


def test_h1_liveness(dialects: Server) -> None:
    """`GET /` is 200."""
    assert dialects.get("/").status == 200


@pytest.mark.parametrize("path", ["", "/loaded"])
def test_h2_h3_readiness(dialects: Server, path: str) -> None:
    """`{}` while a replica answers, 503 in Truss's words while none does."""
    answer = dialects.get(f"/v1/models/anything{path}")
    assert (answer.status, answer.json) == (200, {})
    answer = dialects.get(f"/v1/models/no-truss{path}")
    assert answer.status == 503
    assert answer.error.startswith("Model with name no-truss is not ready.")
    assert answer.headers["x-baseten-error-code"] == "600"


def test_h4_schema(dialects: Server) -> None:
    """A typed model has schemas; one that takes any JSON is 404, one that is not ready 503."""
    found = dialects.get("/v1/models/mixed/schema").json
    assert found["supports_streaming"] is False
    assert found["input_schema"]["required"] == ["pair", "name"]
    assert found["input_schema"]["properties"]["pair"]["minItems"] == 2
    assert found["output_schema"]["properties"]["total"]["type"] == "integer"
    answer = dialects.get("/v1/models/anything/schema")
    assert answer.status == 404
    assert "No schema found" in answer.error
    assert dialects.get("/v1/models/no-truss/schema").status == 503


# ---- predict


@pytest.mark.parametrize("value", [{"a": [1, {"b": None}]}, [1, 2], "text", 7, 1.5, True, None, {"äö": "ß"}, {"data": 1}])
@pytest.mark.parametrize("verb", ["predict", "predict_binary"])
def test_h5_the_body_is_the_input(dialects: Server, value: Any, verb: str) -> None:
    """Any JSON, without an envelope, and so is the answer; without the binary content type both paths take JSON."""
    answer = predict(dialects, "anything", value, verb=verb)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {"got": value}


def test_h5_nothing_changes_on_the_way(dialects: Server) -> None:
    """Numbers, and the order of members, arrive as they were sent, and leave as the model wrote them."""
    body = b'{"b": 1.10, "a": 123456789012345678901234567890, "n": NaN}'
    assert predict(dialects, "anything", body).body == (b'{"got": {"b": 1.1, "a": 123456789012345678901234567890, "n": NaN}}')
    assert predict(dialects, "anything", {"give": '{"x":1.10,"a":2}'}).body == b'{"x":1.10,"a":2}'


def test_h5_typed_models_take_rows(dialects: Server) -> None:
    """A typed signature takes a row or a list of rows, and answers in kind."""
    row = {"pair": [1, 2], "name": "a"}
    expected = {"double": [2.0, 4.0], "total": 3, "name": "a"}
    assert predict(dialects, "mixed", row).json == expected
    assert predict(dialects, "mixed", [row, row]).json == [expected, expected]
    assert predict(dialects, "mixed", []).json == []


# ---- binary


@pytest.mark.parametrize("verb", ["predict", "predict_binary"])
def test_h6_any_value_in_messagepack(dialects: Server, verb: str) -> None:
    """The content type makes it MessagePack, in and out."""
    value = {"a": [1, 2.5, None, True, "ä"], "b": {"c": {}}}
    assert unpacked(predict(dialects, "anything", value, binary=True, verb=verb)) == {"got": value}


def test_h6_arrays_bytes_and_dates_survive(dialects: Server) -> None:
    """They go to the model as JSON that loses nothing, and what the model gives in that form goes back as it came."""
    matrix = array("<f4", [2, 2], struct.pack("<4f", 1, 2, 3, 4))
    when = {b"__dt_datetime_iso__": True, b"data": "2026-01-02T03:04:05Z"}
    one = {b"nd": False, b"type": "<f4", b"data": struct.pack("<f", 2.5)}
    sent = {"image": matrix, "raw": b"\xff\x00", "when": when, "list": [matrix], "one": one}
    assert unpacked(predict(dialects, "anything", sent, binary=True)) == {"got": sent}


def test_h6_json_clients_get_lists_of_them(dialects: Server) -> None:
    """An answer with arrays, dates and bytes has lists, text and base64 in JSON."""
    matrix = {"__ndarray__": {"dtype": "<i2", "shape": [1, 2], "base64": "AQACAA=="}}
    given = {"image": matrix, "when": {"__dt_date_iso__": True, "data": "2026-01-02"}, "raw": {"__bytes__": "/wA="}}
    answer = predict(dialects, "anything", {"give": given})
    assert answer.json == {"image": [[1, 2]], "when": "2026-01-02", "raw": "/wA="}


def test_h6_typed_models(dialects: Server) -> None:
    """Arrays are rows of tensors; tensors go back as arrays, bare numbers and text as they are."""
    row = {"pair": array("<f8", [2], struct.pack("<2d", 1, 2)), "name": "a"}
    expected = {"double": array("<f4", [2], struct.pack("<2f", 2, 4)), "total": 3, "name": "a"}
    assert unpacked(predict(dialects, "mixed", row, binary=True)) == expected
    assert unpacked(predict(dialects, "mixed", [row, row], binary=True)) == [expected, expected]
    assert unpacked(predict(dialects, "blobs", {"data": b"\xff\x00"}, binary=True)) == {"output": b"\x00\xff"}
    assert unpacked(predict(dialects, "mixed", {"pair": [1.0, 2.0], "name": b"a"}, binary=True)) == expected


@pytest.mark.parametrize(
    ("pair", "accepted"),
    [
        (array("|b1", [2], b"\0\1"), False),
        (array(">i4", [2], struct.pack(">2i", 1, 2)), True),
        (array("<f2", [2], struct.pack("<2e", 1, 2)), True),
        (array("u1", [2], b"\1\2"), True),
        (array("<f4", [3], b"\0" * 12), False),
        (array("<f4", [2], b"\0" * 9), False),
        (array("<f4", [-2], b""), False),
        (array("<f4", [1 << 40, 0], b""), False),
        (array("<c16", [2], b"\0" * 32), False),
        (array("<U1", [2], "ab".encode("utf-32-le")), False),
        (array("<f4", [2], struct.pack("<2f", 1, 2)) | {b"kind": b"O"}, False),
        (array("<f4", [2], struct.pack("<2f", 1, 2)) | {b"kind": "V"}, False),
        ({b"nd": True, b"type": "<f4", b"shape": "2", b"data": b""}, False),
        ({b"nd": True, b"type": "<f4", b"shape": ["2"], b"data": b""}, False),
        ({b"nd": True}, False),
        ({b"other": 1}, False),
        ({1: 2}, False),
        (b"\xff", False),
    ],
)
def test_h6_arrays_that_are_read(dialects: Server, pair: Any, accepted: bool) -> None:
    """Numbers of any width and byte order; what is no array of numbers is the client's mistake, never the server's."""
    answer = predict(dialects, "mixed", {"pair": pair, "name": "a"}, binary=True)
    if accepted:
        assert unpacked(answer)["total"] == 3
    else:
        assert answer.status == 400
        assert answer.headers["x-baseten-error-code"] == "700"


@pytest.mark.parametrize("data", [{"a": 1}, None, 1.5, [1, "a"], b"2026"])
def test_h6_dates_that_are_none(dialects: Server, data: Any) -> None:
    """A date is its text, a span its numbers; anything else under such a name is the client's mistake."""
    answer = predict(dialects, "anything", {"when": {b"__dt_datetime_iso__": True, b"data": data}}, binary=True)
    assert (answer.status, answer.headers["x-baseten-error-code"]) == (400, "700")


def test_h6_text_in_arrays(dialects: Server) -> None:
    """Arrays of text of fixed width are lists of text, in which the padding is gone."""
    names = array("<U3", [2], "ab\0cde".encode("utf-32-le"))
    bytes_ = array("|S2", [2], b"a\0bc")
    for name, expected in ((names, ["ab", "cde"]), (bytes_, ["a", "bc"])):
        rows = [{"pair": [1, 2], "name": part} for part in expected]
        answer = predict(dialects, "mixed", rows, binary=True)
        assert [row["name"] for row in unpacked(answer)] == expected
        refused = predict(dialects, "mixed", {"pair": [1, 2], "name": name}, binary=True)
        assert refused.status == 400
        assert "input 'name'" in refused.error


@pytest.mark.parametrize(
    "body",
    [
        b"", b"\xc1", b"\x01\x02", b"\xdd\xff\xff\xff\xff", b"\xa1\xff", b"\x91" * 5000 + b"\x01", b"\x91" * 200 + b"\x01", b"\xd4\x05a",
    ],
)  # fmt: skip
@pytest.mark.parametrize("model", ["anything", "mixed"])
def test_h6_broken_messagepack(dialects: Server, model: str, body: bytes) -> None:
    """Truncated, malformed, too deep or extended MessagePack is 400."""
    assert predict(dialects, model, body, binary=True).status == 400


def test_h6_a_binary_body_has_the_limit_of_binary_bodies(dialects: Server) -> None:
    """64 MiB, where JSON has 4; on both paths, announced or in chunks. What says that it is JSON, or says nothing, keeps its own."""
    image = array("|u1", [5 << 20], bytes(5 << 20))
    for verb in ("predict", "predict_binary"):
        assert unpacked(predict(dialects, "anything", {"image": image}, binary=True, verb=verb)) == {"got": {"image": image}}
        large = msgspec.json.encode("x" * (5 << 20))
        for headers in ({}, {"content-type": "application/json"}, {"content-type": "application/octet-streams"}):
            answer = dialects.request("POST", f"/v1/models/anything:{verb}", large, headers)
            assert (answer.status, "4194304" in answer.error) == (413, True)
    client = dialects.client()
    chunks = iter([msgspec.msgpack.encode({"image": image})])
    client.request("POST", "/v1/models/anything:predict", chunks, {**OCTETS, "Transfer-Encoding": "chunked"}, encode_chunked=True)
    assert unpacked(answer_of(client.getresponse())) == {"got": {"image": image}}
    client.close()
    answer = dialects.request("POST", "/v1/models/anything:predict_binary", b"", {**OCTETS, "Content-Length": str((64 << 20) + 1)})
    assert (answer.status, "67108864" in answer.error) == (413, True)


def test_h6_the_limit_is_of_these_paths_only(dialects: Server) -> None:
    """Elsewhere a Content-Type makes no body binary: it would be parsed as JSON."""
    body = b'{"instances": [' + b" " * (5 << 20) + b"]}"
    for path in ("/v1/models/flower:predict", "/predict/mixed", "/v2/models/mixed/infer"):
        assert dialects.request("POST", path, body, OCTETS).status == 413, path


@pytest.mark.parametrize(
    "body",
    [
        b"\xdd\x00\x50\x00\x00" + b"\x90" * (5 << 20),  # lists without anything
        b"\xdd\x00\x28\x00\x00" + b"\xc4\x00" * (5 << 19),  # bytes without any
        b"\xdd\x00\x10\x00\x00" + b"\xcb" + b"\xcb".join([bytes(8)] * (1 << 20)),  # numbers
    ],
)
def test_h6_messagepack_that_unfolds(dialects: Server, body: bytes) -> None:
    """A byte there may be sixty in memory: of a large body no more than some hundred thousand values are taken, and it is said how else."""
    answer = predict(dialects, "anything", body, binary=True)
    assert (answer.status, "send arrays as bytes" in answer.error) == (413, True)


def test_h6_large_arrays_are_no_rows(dialects: Server) -> None:
    """Those of a typed model become numbers one by one, so their elements are limited; as tensors they are not."""
    answer = predict(dialects, "mixed", {"pair": array("|u1", [3 << 20], bytes(3 << 20)), "name": "a"}, binary=True)
    assert (answer.status, "/v2/models/mixed/infer" in answer.error) == (413, True)


# ---- errors


@pytest.mark.parametrize(
    ("model", "body", "said"),
    [
        ("anything", b"{", "Invalid JSON payload: "),
        ("anything", b"", "Invalid JSON payload: "),
        ("mixed", b"[" * 200, "nested deeper than 100"),
        ("mixed", 7, "expected an object with the model's inputs, got int"),
        ("mixed", {"pair": [1, 2], "nam": "a"}, "has no input 'nam'; did you mean 'name'?"),
        ("mixed", [{"pair": [1, 2], "name": "a"}, {"pair": [1], "name": "a"}], "row 1: input 'pair'"),
    ],
)
def test_h13_bad_input(dialects: Server, model: str, body: Any, said: str) -> None:
    """It is 400 with ``{"error": text}`` and the headers that blame the client."""
    answer = predict(dialects, model, body)
    assert answer.status == 400
    assert said in answer.error
    assert (answer.headers["x-baseten-error-source"], answer.headers["x-baseten-error-code"]) == ("04", "700")


def test_h13_a_failing_model(dialects: Server) -> None:
    """It is 500 in Truss's words, and the headers blame the model; so does an answer that is no JSON."""
    answer = predict(dialects, "broken", {"x": [13]})
    assert answer.status == 500
    assert answer.error.startswith("Internal Server Error (in model/chainlet).")
    assert answer.headers["x-baseten-error-code"] == "600"
    for given in ("{", '{"__bytes__": "?"}', '{"__ndarray__": {"dtype": 1, "shape": 2, "base64": 3}}'):
        answer = predict(dialects, "anything", {"give": given})
        assert answer.status == 500, given
        assert "makes no answer" in answer.error


def test_h13_not_ready(dialects: Server) -> None:
    """It is 503, and the client is told when to come back."""
    answer = predict(dialects, "no-truss", {"x": [1, 2, 3, 4]})
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1


def test_h7_h8_h10_what_is_not_offered(dialects: Server) -> None:
    """The paths of OpenAI's API, the websocket and hot reload are 404, so that nobody takes them for working."""
    for method, path in (
        ("POST", "/v1/chat/completions"), ("POST", "/v1/embeddings"), ("GET", "/v1/websocket"), ("POST", "/hot-reload"),
    ):  # fmt: skip
        assert dialects.request(method, path, b"{}").status in (400, 404), path


def test_h11_metrics(dialects: Server) -> None:
    """A Truss has them at `/metrics/`; here they are at both spellings, without a redirect."""
    for path in ("/metrics/", "/metrics"):
        answer = dialects.get(path)
        assert answer.status == 200
        assert b"# TYPE headgate_requests_total counter" in answer.body


def test_h9_sagemaker(dialects: Server) -> None:
    """`/ping` and `/invocations` reach it as the default deployment; the latter in MLflow's forms, which all deployments have there."""
    dialects.make_default("anything")
    assert dialects.get("/ping").status == 200
    body = json.dumps({"inputs": {"a": 1}}).encode()
    answer = dialects.request("POST", "/invocations", body, {"content-type": "application/json"})
    assert answer.json == {"predictions": [{"got": {"a": 1}}]}
