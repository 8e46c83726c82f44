"""Point 80 of the Open Inference Protocol checklist: MLServer's ``infer_stream``, tensors in events."""

from __future__ import annotations

import json
from typing import Any

from serving import Answer, Server, tensor
from test_generate import events

TEXT = {"inputs": [tensor("text", "BYTES", [1], ["a b"])], "id": "7"}


def ask(server: Server, model: str, body: Any, version: str = "") -> Answer:
    """Send one request, and return its answer once it has ended."""
    return server.request("POST", f"/v2/models/{model}{version}/infer_stream", json.dumps(body).encode())


def test_p80_every_part_is_an_answer_of_infer(streaming: Server) -> None:
    """With the id of the request, and the outputs that it asks for, as tensors."""
    for version in ("", "/versions/1"):
        found = events(ask(streaming, "words", TEXT, version))
        assert found == [
            {
                "model_name": "words",
                "model_version": "1",
                "id": "7",
                "outputs": [{"name": "output", "datatype": "BYTES", "shape": [1], "data": [word]}],
            }
            for word in "ab"
        ]
    asked = {"inputs": [tensor("count", "INT64", [1], [2]), tensor("size", "INT64", [1], [3])], "outputs": [{"name": "values"}]}
    (first, second) = events(ask(streaming, "pieces", asked))
    assert [output["name"] for output in first["outputs"]] == ["values"]
    assert second["outputs"][0]["data"] == [1.0, 2.0, 3.0]


def test_p80_a_whole_answer_is_one_event(streaming: Server) -> None:
    """The same that ``infer`` gives."""
    body = {"inputs": [tensor(name, "FP32", [1, 16], [1.0] * 16) for name in "ab"]}
    assert events(ask(streaming, "sum", body)) == [streaming.infer("sum", body).json]


def test_p80_errors(streaming: Server) -> None:
    """Before the first part an error has its status; a later one is an event. Binary tensors have no place in events."""
    assert ask(streaming, "words", {"inputs": []}).status == 400
    assert ask(streaming, "nobody", TEXT).status == 404
    late = events(ask(streaming, "words", {"inputs": [tensor("text", "BYTES", [1], ["a !raise"])]}))
    assert late[0]["outputs"][0]["data"] == ["a"] and "told to" in late[1]["error"]
    answer = ask(streaming, "words", TEXT | {"parameters": {"binary_data_output": True}})
    assert answer.status == 400 and "events are text and hold no binary tensors" in answer.error


def test_p80_paths_of_mlservers_own_documentation_are_not_there(streaming: Server) -> None:
    """They are 404, and not half of something; /docs and /openapi.json are what there is instead."""
    assert streaming.get("/v2/docs").status == 404
    assert streaming.get("/v2/models/words/docs/dataplane.json").status == 404
    assert streaming.get("/docs").status == 200
