"""`POST /predict/{deployment}` of a model that answers in parts: rows as events, or all of them as a list."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from serving import Answer, Server


def predict(server: Server, model: str, row: Any, **headers: str) -> Answer:
    """Send a row."""
    return server.request("POST", f"/predict/{model}", json.dumps(row).encode(), headers)


def events(answer: Answer) -> list[Any]:
    """Return the rows of an event stream."""
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    return [json.loads(line.removeprefix(b"data: ")) for line in answer.body.splitlines() if line]


@pytest.mark.parametrize("words", [[], ["one"], ["one", "two"]])
def test_all_parts_are_a_list(streaming: Server, words: list[str]) -> None:
    """Without a wish for events the answer is the list of all parts, once it has ended; perhaps an empty one."""
    answer = predict(streaming, "words", {"text": " ".join(words)})
    assert (answer.status, answer.json) == (200, [{"output": word} for word in words])


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json;q=0.5, Text/Event-Stream ; q=0.9"])
def test_each_part_is_an_event(streaming: Server, accept: str) -> None:
    """For a client that takes events each part is one, with its shape; a list of one is written without its brackets."""
    found = events(predict(streaming, "pieces", {"count": 2, "size": 2, "start": [0.5]}, accept=accept))
    assert found == [{"at": at, "values": [at + 0.5, at + 1.5], "matrix": [[at] * 3, [at] * 3]} for at in range(2)]


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/event-stream;q=0", "text/event-streams"])
def test_no_events_for_whom_does_not_name_them(streaming: Server, accept: str) -> None:
    """Taking anything is no wish for events."""
    assert predict(streaming, "words", {"text": "a"}, accept=accept).json == [{"output": "a"}]


def test_errors(streaming: Server) -> None:
    """Before the first event, or where all parts are one answer, an error has its status; later it is an event."""
    assert predict(streaming, "words", {"text": "a !raise"}).status == 500
    assert predict(streaming, "words", {"text": "!blame"}, accept="text/event-stream").status == 400
    late = events(predict(streaming, "words", {"text": "a !raise"}, accept="text/event-stream"))
    assert late[0] == {"output": "a"}
    assert late[1]["code"] == "model_failed"
    many = predict(streaming, "words", [{"text": "a"}])
    assert many.status == 400
    assert "has no batch axis" in many.error


def test_too_many_parts_for_one_answer(streaming: Server) -> None:
    """What would fill the gateway's memory is refused with the way out, and the model is stopped."""
    answer = predict(streaming, "pieces", {"count": 1000, "size": 1_000_000})
    assert answer.status == 400
    assert "more than 67108864 bytes together; take them one by one, as events (accept: text/event-stream)" in answer.error
    assert predict(streaming, "pieces", {"count": 0, "size": 1}).json == []


def test_rows_of_whole_answers_as_events(streaming: Server) -> None:
    """Each row of an answer that is no answer in parts is an event, too, for a client that wants them."""
    row = {"a": [1.0] * 16, "b": [2.0] * 16}
    assert len(events(predict(streaming, "sum", [row, row], accept="text/event-stream"))) == 2
    assert isinstance(predict(streaming, "sum", row).json, dict)


def test_an_event_is_sent_when_it_is_made(streaming: Server) -> None:
    """The first is there while the model is at the second."""
    number = random.randrange(1 << 40)
    client = streaming.client()
    client.request("POST", "/predict/words", json.dumps({"text": f"a !wait{number} b"}), {"accept": "text/event-stream"})
    response = client.getresponse()
    assert response.readline() == b'data: {"output":"a"}\n'
    streaming.package_file("words-1", f"release{number}").touch()
    assert response.read() == b'\ndata: {"output":"b"}\n\n'
    client.close()
