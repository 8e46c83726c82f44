"""A Truss's ``:predict`` of a model that answers in parts: points M6, M10 and H12 of its contract."""

from __future__ import annotations

import http.client
import json
import random
from typing import Any

import msgspec
import pytest
from http2_caller import Caller
from serving import Answer, Server, answer_of, read_all

OCTETS = "application/octet-stream"
JSON = "application/json"
INTERNAL_ERROR = 2


def predict(server: Server, model: str, row: Any, verb: str = "predict", **headers: str) -> Answer:
    """Send a row; the answer has come whole."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.request("POST", f"/v1/models/{model}:{verb}", json.dumps(row).encode(), named)


@pytest.mark.parametrize("words", [[], ["one"], ["one", "two", "ä"]])
@pytest.mark.parametrize("verb", ["predict", "predict_binary"])
def test_m10_parts_are_bytes_as_they_are(streaming: Server, words: list[str], verb: str) -> None:
    """Text as UTF-8 and bytes, nothing around or between them, in as many chunks as there are parts; also for who takes anything."""
    for headers in ({}, {"accept": "*/*"}, {"accept": "application/json, text/plain"}):
        answer = predict(streaming, "spoken", {"text": " ".join(words)}, verb, **headers)
        assert (answer.status, answer.headers["content-type"]) == (200, OCTETS)
        assert answer.headers["transfer-encoding"] == "chunked"
        assert answer.body == "".join(words).encode()
    assert predict(streaming, "bytes", {"text": "ff 00 -- c3a4"}).body == b"\xff\x00\xc3\xa4"


def test_m10_an_empty_part_is_no_end(streaming: Server) -> None:
    """In chunks one without bytes would be the end of the answer; it is left out, and what follows comes."""
    body = b'{"text": "- 61 - 62 -"}'
    with streaming.connect() as sock:
        head = b"POST /v1/models/bytes:predict HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
        sock.sendall(head % len(body) + body)
        assert read_all(sock).endswith(b"\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n")


def test_m6_parts_come_as_they_are_made(streaming: Server) -> None:
    """The first is there while the model is at the second, over HTTP/1.1 and HTTP/2; the connection lives on."""
    number = random.randrange(1 << 40)
    client = streaming.client()
    client.request("POST", "/v1/models/spoken:predict", json.dumps({"text": f"first !wait{number} second"}))
    response = client.getresponse()
    assert response.read(5) == b"first"
    streaming.package_file("spoken-1", f"release{number}").touch()
    assert response.read() == b"second"
    client.request("GET", "/v2/health/live")
    assert answer_of(client.getresponse()).status == 200
    client.close()
    number = random.randrange(1 << 40)
    with Caller(streaming) as caller:
        waits = caller.ask("/v1/models/spoken:predict", json.dumps({"text": f"first !wait{number} second"}).encode())
        caller.until(waits, 5)
        assert caller.bodies[waits] == b"first"
        streaming.package_file("spoken-1", f"release{number}").touch()
        caller.until_end(waits)
        assert (caller.bodies[waits], caller.field(waits, "content-type")) == (b"firstsecond", OCTETS)


def test_m10_parts_that_are_no_bytes_are_lines_of_json(streaming: Server) -> None:
    """Numbers, and several outputs, which a Truss cannot yield: a line for each part."""
    answer = predict(streaming, "pieces-truss", {"count": 2, "size": 1})
    parts = [json.loads(line) for line in answer.body.splitlines()]
    assert [part["at"] for part in parts] == [0, 1]
    assert parts[1]["matrix"] == [[1, 1, 1], [1, 1, 1]]


def test_h12_json_is_one_text(streaming: Server) -> None:
    """Who accepts JSON and nothing else gets all parts as one text at the end; letters that were cut between parts are whole."""
    answer = predict(streaming, "spoken", {"text": 'a "b" ä'}, accept=JSON)
    assert (answer.status, answer.headers["content-type"], answer.json) == (200, JSON, 'a"b"ä')
    assert predict(streaming, "bytes", {"text": "c3 - a4"}, accept=JSON).json == "ä"
    assert predict(streaming, "spoken", {"text": ""}, accept=JSON).json == ""
    packed = predict(streaming, "spoken", {"text": "a b"}, accept=JSON, content_type="application/json; charset=utf-8")
    assert packed.json == "ab"


def test_h12_openais_client_gets_parts(streaming: Server) -> None:
    """It says that it accepts JSON whatever it wants."""
    answer = predict(streaming, "spoken", {"text": "a b"}, accept=JSON, user_agent="OpenAI/Python 1.61.0")
    assert (answer.headers["content-type"], answer.body) == (OCTETS, b"ab")


def test_h12_a_binary_request_gets_a_binary_text(streaming: Server) -> None:
    """MessagePack in, MessagePack out, where all is one answer; parts are parts."""
    raw = msgspec.msgpack.encode({"text": "a b"})
    answer = streaming.request("POST", "/v1/models/spoken:predict_binary", raw, {"content-type": OCTETS, "accept": JSON})
    assert (answer.headers["content-type"], msgspec.msgpack.decode(answer.body)) == (OCTETS, "ab")
    assert streaming.request("POST", "/v1/models/spoken:predict_binary", raw, {"content-type": OCTETS}).body == b"ab"


def test_h12_bytes_that_are_no_text_make_no_json(streaming: Server) -> None:
    """Refused with the way out."""
    answer = predict(streaming, "bytes", {"text": "61 ff"}, accept=JSON)
    assert answer.status == 400
    assert "leave out 'accept: application/json'" in answer.error


def test_h13_errors(streaming: Server) -> None:
    """Before the first part, and where all is one answer, an error has its status and Truss's headers."""
    for text, status, fault in (("!raise", 500, "600"), ("!blame", 400, "700")):
        answer = predict(streaming, "spoken", {"text": text})
        assert (answer.status, answer.headers["x-baseten-error-code"]) == (status, fault)
    assert predict(streaming, "spoken", {"text": "a !raise"}, accept=JSON).status == 500


def test_h13_an_error_in_the_middle_breaks_the_answer_off(streaming: Server) -> None:
    """Bytes have no place for it: what came before arrives, the end does not, and no client takes half an answer for a whole one."""

    def failures() -> float:
        return streaming.metric("headgate_requests_total", deployment="spoken", protocol="truss", status="500")

    before = failures()
    client = streaming.client()
    client.request("POST", "/v1/models/spoken:predict", json.dumps({"text": "half !raise"}))
    response = client.getresponse()
    with pytest.raises(http.client.IncompleteRead) as raised:
        response.read()
    assert raised.value.partial == b"half"
    client.close()
    with Caller(streaming) as caller:
        broken = caller.ask("/v1/models/spoken:predict", json.dumps({"text": "half !raise"}).encode())
        caller.until_end(broken)
        assert caller.codes == {broken: INTERNAL_ERROR}
        after = caller.ask("/v1/models/spoken:predict", b'{"text": "whole"}')
        caller.until_end(after)
        assert caller.bodies[after] == b"whole", "its neighbours on the connection go on"
    assert failures() - before == 2


def test_h14_a_client_that_goes_away_stops_the_model(streaming: Server) -> None:
    """Its replica is there for others."""
    client = streaming.client()
    client.request("POST", "/v1/models/spoken:predict", json.dumps({"text": "!many1000001"}))
    assert client.getresponse().read(1000)
    client.close()
    assert predict(streaming, "spoken", {"text": "next"}).body == b"next"


def test_h4_the_schema_says_that_it_streams(streaming: Server) -> None:
    """``supports_streaming``, and OpenAPI describes both forms of the answer."""
    assert streaming.get("/v1/models/spoken/schema").json["supports_streaming"] is True
    content = streaming.get("/openapi.json").json["paths"]["/v1/models/spoken:predict"]["post"]["responses"]["200"]["content"]
    assert set(content) == {JSON, OCTETS}
