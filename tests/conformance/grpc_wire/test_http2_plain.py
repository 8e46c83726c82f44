"""Plain HTTP over HTTP/2: the same paths and answers as over HTTP/1.1, and clients that take a large answer slowly or not at all."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Iterator, Mapping

import pytest
from serving import Server, tensor
from wire_calls import INFER, Outcome, Wire, both, infer, message

PLAIN = {"content-type": "application/json", "te": ""}
PATH = "/v2/models/sum/infer"
JSON = json.dumps({"inputs": [tensor(name, "FP32", [1, 16], list(range(16))) for name in "ab"]}).encode()
SUM = [2.0 * number for number in range(16)]


@pytest.fixture
def wire(server: Server) -> Iterator[Wire]:
    """A connection, on which the next call must be fine whatever came before."""
    with Wire(server) as connection:
        yield connection
        assert infer(connection).status == 0


def ask(wire: Wire, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = {}) -> Outcome:
    """Send a request of plain HTTP, and wait for the end of its answer."""
    stream_id = wire.begin(path, {**PLAIN, **headers}, method=method, end=not body)
    if body:
        wire.pour(stream_id, body)
    return wire.outcome(stream_id)


def test_infer_in_json_and_binary(wire: Wire) -> None:
    """Both forms, small and of 602 KB, with an id."""
    outcome = ask(wire, "POST", PATH, JSON, {"x-request-id": "mine"})
    assert outcome.fields[":status"] == "200" and outcome.fields["x-request-id"] == "mine"
    assert json.loads(outcome.body)["outputs"][0]["data"] == SUM
    for rows in (1, 4700):
        raw = struct.pack("<16f", *range(16)) * rows
        asked = [tensor(name, "FP32", [rows, 16], binary_data_size=len(raw)) for name in "ab"]
        head = json.dumps({"inputs": asked, "parameters": {"binary_data_output": True}}).encode()
        outcome = ask(wire, "POST", PATH, head + raw + raw, {"inference-header-content-length": str(len(head))})
        answer = outcome.body[int(outcome.fields["inference-header-content-length"]) :]
        assert answer == struct.pack("<16f", *SUM) * rows + bytes(64 * rows)


def test_other_paths_and_methods(wire: Wire) -> None:
    """HEAD has the length and no body; metrics and documentation are there; what is not is a 404, a wrong verb a 405."""
    got = ask(wire, "GET", "/v2/health/live")
    head = ask(wire, "HEAD", "/v2/health/live")
    assert (got.fields[":status"], head.fields[":status"], head.body) == ("200", "200", b"")
    assert head.fields["content-length"] == str(len(got.body))
    assert b"headgate_queue_rows" in ask(wire, "GET", "/metrics").body
    assert b"<html" in ask(wire, "GET", "/docs").body.lower()
    assert ask(wire, "GET", "/nothing").fields[":status"] == "404"
    wrong = ask(wire, "DELETE", PATH)
    assert wrong.fields[":status"] == "405" and wrong.fields["allow"] == "POST"
    assert ask(wire, "GET", "/v2/health/live", headers={"x-request-id": "x" * 201}).fields[":status"] == "400"


def test_bodies_with_a_coding(wire: Wire) -> None:
    """gzip and deflate, both ways; one that is not known is refused with those that are."""
    for coding, packed in (("gzip", gzip.compress(JSON)), ("deflate", zlib.compress(JSON))):
        asked = {"content-encoding": coding, "accept-encoding": coding}
        outcome = ask(wire, "POST", PATH, packed, asked)
        assert json.loads(outcome.body)["outputs"][0]["data"] == SUM, "short answers stay as they are"
        outcome = ask(wire, "GET", "/openapi.json", headers=asked | {"content-encoding": ""})
        assert outcome.fields["content-encoding"] == coding
        assert json.loads(zlib.decompress(outcome.body, 31 if coding == "gzip" else 15))["openapi"]
    outcome = ask(wire, "POST", PATH, JSON, {"content-encoding": "br"})
    assert outcome.fields[":status"] == "501" and outcome.fields["accept-encoding"] == "gzip, deflate"


def test_a_body_beyond_its_limit_is_refused_in_the_middle(wire: Wire) -> None:
    """413 as soon as the limit is passed, not at the end that never comes; what is announced, at the latest then."""
    stream_id = wire.begin(PATH, PLAIN)
    wire.pour(stream_id, b" " * (5 << 20), end=False)
    outcome = wire.outcome(stream_id)
    assert outcome.fields[":status"] == "413" and b"exceeds the maximum allowed" in outcome.body
    stream_id = wire.begin(PATH, {**PLAIN, "content-length": str(1 << 40)})
    wire.pour(stream_id, b" " * (5 << 20), end=False)
    assert wire.outcome(stream_id).fields[":status"] == "413"


def test_a_large_answer_waits_for_its_client(server: Server) -> None:
    """It comes as they are granted and no faster, while others on the connection are answered; a client that goes leaves nothing."""
    rows = 8000
    with Wire(server, window=65535) as wire:
        calls = [wire.begin(INFER) for _ in range(2)]
        for stream_id in calls:
            wire.pour(stream_id, message(both(rows)))
            wire.until(stream_id, 65535)
        infer(wire)
        assert [len(wire.bodies[stream_id]) for stream_id in calls] == [65535, 65535]
        wire.reset(calls[0])
        wire.grant(calls[1], 1 << 18)
        wire.until(calls[1], 65535 + (1 << 18))
        infer(wire)
        assert len(wire.bodies[calls[1]]) == 65535 + (1 << 18)
        wire.grant(calls[1], 1 << 20)
        answer = wire.outcome(calls[1]).answer
        assert [len(blob) for blob in answer.raw_output_contents] == [64 * rows] * 2
        assert len(wire.bodies[calls[0]]) == 65535
    with Wire(server, window=1) as wire:
        for _ in range(4):
            wire.pour(wire.begin(INFER), message(both(2000)))
    with Wire(server) as wire:
        assert infer(wire).status == 0


def test_p71_tensors_of_602_kilobytes(wire: Wire) -> None:
    """Both ways, several at once."""
    rows = 2350
    calls = [wire.begin(INFER) for _ in range(3)]
    for stream_id in calls:
        wire.pour(stream_id, message(both(rows)))
    for stream_id in calls:
        assert wire.outcome(stream_id).answer.raw_output_contents[0] == struct.pack("<16f", *SUM) * rows
