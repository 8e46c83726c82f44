"""Checklist X18 and point 77: generate and generate_stream, over HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import http.client
import json
import random
import re
import time
from collections.abc import Mapping
from typing import Any

import pytest
from http2_caller import Caller
from serving import Answer, Server, eventually, read_all

ONLY_ONE = (
    "generate expects model to produce exactly 1 response, use generate stream for model that generates various number of responses"
)
EVENTS = "text/event-stream; charset=utf-8"


def ask(
    server: Server, model: str, body: Any, *, stream: bool = True, version: str = "", headers: Mapping[str, str] = {}
) -> Answer:
    """Send one request, and return its answer once it has ended."""
    place = f"/versions/{version}" if version else ""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return server.request("POST", f"/v2/models/{model}{place}/{'generate_stream' if stream else 'generate'}", raw, headers)


def events(answer: Answer) -> list[Any]:
    """Return what the events of an answer hold; every one is a line ``data: {json}`` and an empty line."""
    assert (answer.status, answer.headers["content-type"]) == (200, EVENTS)
    assert re.fullmatch(rb"(data: \{[^\n]*\}\n\n)*", answer.body), answer.body
    return [json.loads(line[6:]) for line in answer.body.splitlines() if line]


def outputs(answer: Answer, name: str = "output") -> list[Any]:
    """Return one output of each event; of an error its text."""
    return [part.get(name, part.get("error")) for part in events(answer)]


def release(server: Server, revision: str, number: int) -> None:
    """Let the model ``Words`` go on."""
    server.package_file(revision, f"release{number}").touch()


# ---- generate_stream


@pytest.mark.parametrize("words", [[], ["one"], ["one", "two", "three"]])
def test_x18_every_part_is_an_event(streaming: Server, words: list[str]) -> None:
    """0, 1 or more events, each with model, version and the outputs as members."""
    answer = ask(streaming, "words", {"text": " ".join(words)})
    assert events(answer) == [{"model_name": "words", "model_version": "1", "output": word} for word in words]
    assert "content-length" not in answer.headers
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-request-id"]


def test_x18_events_come_as_they_are_made(streaming: Server) -> None:
    """The head and the first event are there while the model is still at the next one; the connection lives on behind the last."""
    number = random.randrange(1 << 40)
    client = streaming.client()
    for _ in range(2):
        client.request("POST", "/v2/models/words/generate_stream", json.dumps({"text": f"first !wait{number} second"}))
        response = client.getresponse()
        assert response.status == 200
        assert json.loads(response.readline()[6:])["output"] == "first"
        assert response.readline() == b"\n"
        release(streaming, "words-1", number)
        assert json.loads(response.read()[6:])["output"] == "second"
    client.close()


def test_x18_the_status_is_fixed_by_the_first_part(streaming: Server) -> None:
    """An error before it has its own status; a later one is an event, and the last one."""
    first = ask(streaming, "words", {"text": "!raise"})
    assert (first.status, first.error) == (500, "the model raised ValueError: told to")
    assert first.headers["content-type"] == "application/json"
    assert ask(streaming, "words", {"text": "!blame"}).status == 400
    later = events(ask(streaming, "words", {"text": "a b !raise c"}))
    assert [part.get("output") for part in later] == ["a", "b", None]
    assert later[2] == {"error": "the model raised ValueError: told to", "code": "model_failed"}
    assert outputs(ask(streaming, "words", {"text": "a !blame"})) == ["a", "input 'text': told to"]


def test_x18_keys_are_inputs_or_parameters(streaming: Server) -> None:
    """Members named like an input are that input, wherever they stand; all others are parameters, lists of words among them."""
    body = {"text": "a", "temperature": 0.5, "parameters": {"stop": ["x", "y"], "stream": False, "max_tokens": 3}}
    given = ["a", "max_tokens=3", "stop=['x', 'y']", "stream=False", "temperature=0.5"]
    assert outputs(ask(streaming, "words", body)) == given
    assert outputs(ask(streaming, "async", {"parameters": {"repeat": 2}, "text_input": "a"})) == ["a", "a"]


def test_x18_scalars_are_lists_of_one(streaming: Server) -> None:
    """A bare value is shape [1], for an input of one element and for one of any number; lists are what they are."""
    for value in ("a", ["a"]):
        assert outputs(ask(streaming, "words", {"text": value})) == ["a"]
    assert outputs(ask(streaming, "async", {"text_input": "a b"})) == ["a", "b"]
    assert outputs(ask(streaming, "async", {"text_input": ["a", "b"]})) == ["a", "b"]
    (part,) = events(ask(streaming, "pieces", {"count": 1, "size": 1, "start": 2}))
    assert (part["at"], part["values"]) == (0, 2.0), "one element comes without its list"


def test_x18_arrays_are_flat_lists(streaming: Server) -> None:
    """Outputs of more than one element are flat; large ones arrive whole, each as it was made."""
    (part,) = events(ask(streaming, "pieces", {"count": 1, "size": 3}))
    assert (part["values"], part["matrix"]) == ([0.0, 1.0, 2.0], [0] * 6)
    large = events(ask(streaming, "pieces", {"count": 5, "size": 60_000}))
    assert [(part["at"], part["values"][0], part["values"][-1], len(part["values"])) for part in large] == [
        (at, float(at), at + 59_999.0, 60_000) for at in range(5)
    ]


def test_x18_outputs_of_which_several_sides_vary_are_nested(streaming: Server) -> None:
    """From a flat list nobody could tell their shape; one with a single side that varies is flat as ever, and bare where it is one."""
    parts = events(ask(streaming, "planes", {"sizes": [2, 1, 0]}))
    assert [part["plane"] for part in parts] == [[[0, 1], [2, 3]], [[0, 1]], []]
    assert [part["row"] for part in parts] == [[0, 1], 0, []]
    (whole,) = events(ask(streaming, "plane", {"x": [[1, 2, 3]]}))
    assert whole["output"] == [[1.0, 2.0, 3.0]]
    document = streaming.get("/openapi.json").json["paths"]["/v2/models/planes/generate"]["post"]
    schema = document["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["plane"]
    assert schema["type"] == schema["items"]["type"] == "array"


@pytest.mark.parametrize(
    ("model", "body", "said"),
    [
        ("words", b"[1]", "expected an object with the model's inputs, got list"),
        ("words", b"{", "failed to parse the request JSON buffer"),
        ("words", {}, "input 'text' (BYTES) is missing"),
        ("words", {"text": 3}, "input 'text': element 0 is 3, but BYTES takes strings"),
        (
            "words",
            {"text": ["a", "b"]},
            "input 'text': shape does not match true shape of 'data' field: shape [1] holds 1 elements, 'data' has 2",
        ),
        ("pieces", {"count": 1.5, "size": 1}, "input 'count': element 0 is 1.5, but INT64 takes integers"),
        ("words", {"text": "a", "parameters": [1]}, "parameters: expected an object, got list"),
        ("words", {"text": "a", "parameters": {"text": "b"}}, "'text' is given twice"),
        ("words", {"text": "a", "t": 1, "parameters": {"t": 2}}, "'t' is given twice"),
        ("words", {"text": "a", "deep": {"a": 1}}, "parameter 'deep': expected a string, number or boolean, got dict"),
        ("words", {"text": "a", "stop": [["a"]]}, "parameter 'stop': expected a string, number or boolean, got list"),
        ("words", {"text": "a", "triton_x": 1}, "parameter keys starting with 'triton_' are reserved"),
        ("words", {"text": "a", "priority": "high"}, "parameter 'priority': expected an integer"),
        ("words", {"text": "a", "id": 3}, "id: expected a string, got int"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_x18_bad_requests(streaming: Server, model: str, body: Any, said: str, stream: bool) -> None:
    """Each is a 400 that names the field, what was expected and what came; nothing is computed."""
    answer = ask(streaming, model, body, stream=stream)
    assert answer.status == 400
    assert said in answer.error


def test_x18_unknown_models_and_versions(streaming: Server) -> None:
    """404, as for infer; point 77: the path with a version reaches it."""
    assert ask(streaming, "nobody", {"text": "a"}).status == 404
    assert ask(streaming, "two", {"text": "a"}, version="9").status == 404
    assert outputs(ask(streaming, "two", {"text_input": "one"}, version="1")) == ["one"]
    assert events(ask(streaming, "two", {"text": "two"}, version="2"))[0]["model_version"] == "2"
    assert streaming.get("/v2/models/words/generate").status == 405


# ---- generate


def test_x18_generate_gives_the_only_part(streaming: Server) -> None:
    """One JSON object, with the id of the request where it has one."""
    answer = ask(streaming, "words", {"text": "only", "id": "42"}, stream=False)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json == {"model_name": "words", "model_version": "1", "id": "42", "output": "only"}


@pytest.mark.parametrize("text", ["", "a b", "!many100000"])
def test_x18_generate_wants_exactly_one_part(streaming: Server, text: str) -> None:
    """None or several is Triton's error; at the second part the model is stopped."""
    given = streaming.package_file("words-1", "given")
    given.unlink(missing_ok=True)
    answer = ask(streaming, "words", {"text": text}, stream=False)
    assert (answer.status, answer.error) == (400, ONLY_ONE)
    assert outputs(ask(streaming, "words", {"text": "next"})) == ["next"]
    assert not given.exists() or len(given.read_text().splitlines()) < 10_000


def test_x18_generate_of_whole_answers(streaming: Server) -> None:
    """A model that answers as a whole gives one part, by either path; the request is one row."""
    row = {"a": list(range(16)), "b": [1] * 16}
    expected = {
        "model_name": "sum",
        "model_version": "1",
        "sum": [at + 1.0 for at in range(16)],
        "difference": [at - 1.0 for at in range(16)],
    }
    assert ask(streaming, "sum", row, stream=False).json == expected
    assert events(ask(streaming, "sum", row)) == [expected]
    scalar = ask(streaming, "scalar", {"x": 2, "matrix": [[1], [2]]}, stream=False).json
    assert scalar == {"model_name": "scalar", "model_version": "1", "double": 4.0, "turned": [1.0, 2.0]}


# ---- times, and who waits for whom


def test_the_deadline_counts_to_the_last_part(streaming: Server) -> None:
    """It ends the answer with an event, and stops the model; the times of a request are told up to the first part."""
    number = random.randrange(1 << 40)
    headers = {"x-headgate-timeout-ms": "300", "x-headgate-timing": "1"}
    begun = time.monotonic()
    answer = ask(streaming, "patient", {"text": f"a !wait{number} b"}, headers=headers)
    assert time.monotonic() - begun < 10
    first, last = events(answer)
    assert (first["output"], last["code"]) == ("a", "deadline_exceeded")
    assert float(answer.headers["x-headgate-compute-ms"]) < 300
    assert answer.headers["x-headgate-batch-rows"] == "1"
    release(streaming, "patient-1", number)
    path = streaming.package_file("patient-1", "ended")
    eventually(lambda: f"a !wait{number} b" in path.read_text().splitlines(), "the generator is closed")


def test_each_replica_answers_one_request_at_a_time(streaming: Server) -> None:
    """Of three requests to two replicas, two have begun, and the third waits for one of them."""
    number = random.randrange(1 << 40)
    clients = [streaming.client() for _ in range(3)]
    for client in clients:
        client.request("POST", "/v2/models/patient/generate_stream", json.dumps({"text": f"a !wait{number} b"}))
    for client in clients[:2]:
        assert client.getresponse().status == 200
    assert streaming.metric("headgate_queue_rows", deployment="patient") == 1
    release(streaming, "patient-1", number)
    assert clients[2].getresponse().read().count(b"data: ") == 2
    for client in clients:
        client.close()


def test_metrics_count_a_request_once(streaming: Server) -> None:
    """Whatever its parts; and the time to the first one where there was one."""

    def counted() -> tuple[float, ...]:
        labels = {"deployment": "async"}
        return (
            streaming.metric("headgate_requests_total", **labels, protocol="oip_generate", status="200"),
            streaming.metric("headgate_request_seconds_count", **labels, protocol="oip_generate"),
            streaming.metric("headgate_first_part_seconds_count", **labels),
            streaming.metric("headgate_compute_seconds_count", **labels),
        )

    before = counted()
    ask(streaming, "async", {"text_input": "a b c d"})
    ask(streaming, "async", {"text_input": ""})
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [2, 2, 1, 2]


def test_p77_the_provisional_protocol_of_generate(streaming: Server) -> None:
    """Text in and out under the version's path, its parameters beside it; errors have a status and an ``error``."""
    asked = {"text_input": "a b", "parameters": {"temperature": 0.5, "max_tokens": 9, "top_p": 1.0, "stop": ["."], "details": True}}
    for version in ("", "1"):
        (first, second) = events(ask(streaming, "async", asked, version=version))
        assert (first["output"], second["output"]) == ("a", "b")
        assert (first["model_name"], first["model_version"]) == ("async", "1")
    answer = ask(streaming, "async", {"text_input": "a"}, stream=False, version="1")
    assert (answer.status, answer.json["output"]) == (200, "a")
    for body, status in ((b"{", 400), ({"text_input": ["a", 7]}, 400), ({"text_input": "a b"}, 400)):
        answer = ask(streaming, "async", body, stream=False)
        assert (answer.status, bool(answer.error)) == (status, True)


# ---- what carries it


def test_over_http2(streaming: Server) -> None:
    """The same events, as they are made, on a stream of HTTP/2; errors in the middle and at the beginning likewise."""
    number = random.randrange(1 << 40)
    path, headers = "/v2/models/words/generate_stream", {"content-type": "application/json"}
    with Caller(streaming) as caller:
        waits = caller.ask(path, json.dumps({"text": f"first !wait{number} !raise"}).encode(), headers)
        caller.until(waits, 10)
        assert caller.bodies[waits].endswith(b'"output":"first"}\n\n')
        fields = dict(caller.headers[waits])
        assert (fields[":status"], fields["content-type"]) == ("200", EVENTS)
        assert "content-length" not in fields
        release(streaming, "words-1", number)
        caller.until_end(waits)
        assert b'data: {"error":"the model raised' in caller.bodies[waits]
        refused = caller.ask(path, b"{}", headers)
        caller.until_end(refused)
        assert caller.field(refused, ":status") == "400"


def test_over_http_1_0(streaming: Server) -> None:
    """A client that knows no chunks gets the events as they are, and the end of the connection is the end."""
    body = json.dumps({"text": "a b"}).encode()
    head = b"POST /v2/models/words/generate_stream HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: %d\r\n\r\n" % len(body)
    with streaming.connect() as sock:
        sock.sendall(head + body)
        head, _, rest = read_all(sock).partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert b"connection: close" in head.lower()
    assert rest.count(b"data: ") == 2
    assert rest.startswith(b"data: {")


def test_what_is_pipelined_behind_is_answered_in_turn(streaming: Server) -> None:
    """The next request on the connection waits for the end of the answer, and gets its own."""
    body = json.dumps({"text": "a b"}).encode()
    one = b"POST /v2/models/words/generate_stream HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    last = b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    with streaming.connect() as sock:
        sock.sendall(one + one + last)
        data = read_all(sock)
    assert data.count(b"HTTP/1.1 200 OK") == 3
    assert data.count(b"\r\n0\r\n\r\n") == 2
    assert data.endswith(b'{"live":true}')


def test_a_client_that_goes_away_stops_the_model(streaming: Server) -> None:
    """The generator is closed at its next part, and the replica is there for others."""
    given = streaming.package_file("words-1", "given")
    given.unlink(missing_ok=True)
    client = streaming.client()
    client.request("POST", "/v2/models/words/generate_stream", json.dumps({"text": "!many1000001"}))
    response: http.client.HTTPResponse = client.getresponse()
    assert response.readline().startswith(b"data: ")
    response.close()
    client.close()
    path = streaming.package_file("words-1", "ended")
    eventually(lambda: path.read_text().splitlines()[-1:] == ["!many1000001"], "the generator is closed")
    assert len(given.read_text().splitlines()) < 100_000
    assert outputs(ask(streaming, "words", {"text": "next"})) == ["next"]


def test_metadata_tells_that_a_model_streams(streaming: Server) -> None:
    """So that clients know how to ask."""
    assert streaming.get("/v2/models/words").json["streams"] is True
    assert "streams" not in streaming.get("/v2/models/sum").json


def test_openapi_describes_the_paths_for_parts(streaming: Server) -> None:
    """Of a model that answers in parts those that give them, with events; the paths that would refuse are not in it."""
    paths = streaming.get("/openapi.json").json["paths"]
    stream = paths["/v2/models/pieces/generate_stream"]["post"]
    assert list(stream["responses"]["200"]["content"]) == ["text/event-stream"]
    assert set(stream["requestBody"]["content"]["application/json"]["schema"]["properties"]) >= {"count", "size", "parameters"}
    example = stream["requestBody"]["content"]["application/json"]["example"]
    assert ask(streaming, "pieces", example).status == 200
    rows = paths["/predict/pieces"]["post"]["responses"]["200"]["content"]
    assert rows["application/json"]["schema"]["type"] == "array"
    assert "text/event-stream" in rows
    (part,) = events(ask(streaming, "pieces", {"count": 1, "size": 1}))
    schema = paths["/v2/models/pieces/generate"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert set(part) <= set(schema["properties"])
    assert set(schema["required"]) <= set(part)
    assert "/v2/models/pieces/infer" not in paths
    assert "/v1/models/pieces:predict" not in paths
    assert "/v2/models/sum/infer" in paths
    assert "generate_stream" in streaming.get("/docs").body.decode()
