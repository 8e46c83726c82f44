"""KServe V1: point 78 of the checklist and the errors of point 79; other docstrings name the part of KServe's server they are from."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from serving import Answer, Server

ADA = {"age": 36, "height": 1.6, "name": "Ada"}
BOB = {"age": 4, "height": 1.0, "name": "Bob"}
ADA_ANSWER = {"score": 37.6, "label": "ADA"}
BOB_ANSWER = {"score": 5.0, "label": "BOB"}
EVENT = {"specversion": "1.0", "id": "e-1", "source": "here", "type": "org.example", "time": "2026-01-02T03:04:05Z"}


def predict(server: Server, model: str, body: Any, headers: dict[str, str] | None = None) -> Answer:
    """POST to the model's predict path: ``body`` as JSON, bytes as they are."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return server.request("POST", f"/v1/models/{model}:predict", raw, headers)


def predictions(server: Server, model: str, body: Any) -> Any:
    """The predictions of a request that must succeed."""
    answer = predict(server, model, body)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert answer.json.keys() == {"predictions"}
    return answer.json["predictions"]


# ---- health and listing


def test_p78_models_are_listed(dialects: Server) -> None:
    """`GET /v1/models` names every deployment, whatever its dialect."""
    answer = dialects.get("/v1/models")
    assert answer.status == 200
    names = {"plain", "people", "anything", "no-kserve", "no-truss"}
    assert answer.json.keys() == {"models"}
    assert names <= set(answer.json["models"])


def test_p78_a_ready_model(dialects: Server) -> None:
    """`GET /v1/models/{m}` is 200 with name and ready."""
    answer = dialects.get("/v1/models/people")
    assert (answer.status, answer.json) == (200, {"name": "people", "ready": True})


def test_p78_p79_a_model_that_is_not_ready(dialects: Server) -> None:
    """Without a replica it is 503 in KServe's words, and a prediction is refused the same way."""
    answer = dialects.get("/v1/models/no-kserve")
    assert answer.status == 503
    assert answer.error.startswith("Model with name no-kserve is not ready.")
    assert predict(dialects, "no-kserve", {"instances": [[1, 2, 3, 4]]}).status == 503


def test_p78_liveness(dialects: Server) -> None:
    """`GET /` says that the server lives."""
    answer = dialects.get("/")
    assert (answer.status, answer.json) == (200, {"status": "alive"})


def test_p78_metrics(dialects: Server) -> None:
    """`GET /metrics` counts what came by this protocol."""
    before = dialects.metric("headgate_requests_total", protocol="kserve_v1", status="200")
    predictions(dialects, "flower", {"instances": [[1, 2, 3, 4]]})
    assert dialects.metric("headgate_requests_total", protocol="kserve_v1", status="200") == before + 1


def test_p78_explain_is_refused_clearly(dialects: Server) -> None:
    """`:explain` is 501 and says what there is instead."""
    answer = dialects.request("POST", "/v1/models/people:explain", b'{"instances": []}')
    assert answer.status == 501
    assert "explain is not implemented" in answer.error
    assert "/v1/models/people:predict" in answer.error


@pytest.mark.parametrize("path", ["/v1/models/people:predict", "/v1/models/people:explain"])
def test_wrong_verb(dialects: Server, path: str) -> None:
    """A known path with another verb is 405 with the verbs it has (FastAPI's routing, which KServe's server uses)."""
    answer = dialects.get(path)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


# ---- instances


@pytest.mark.parametrize(
    ("model", "instances", "expected"),
    [
        ("flower", [[1, 2, 3, 4], [0.5, 0, 0, 0]], [10.0, 0.5]),
        ("flower", [{"x": [1, 2, 3, 4]}], [10.0]),
        ("people", [ADA, BOB], [ADA_ANSWER, BOB_ANSWER]),
        ("people", [[36, 1.6, "Ada", False]], [ADA_ANSWER]),
        ("people", [{**ADA, "vip": True}], [{"score": 1037.6, "label": "ADA"}]),
        ("line", ["abc", "äö"], ["cba", "öä"]),
        ("line", [{"text": "abc"}], ["cba"]),
        ("flower", [], []),
    ],
)
def test_p78_rows(dialects: Server, model: str, instances: list[Any], expected: list[Any]) -> None:
    """An instance is a value, an object, or a list of the inputs in order; one output gives bare values, several give objects."""
    assert predictions(dialects, model, {"instances": instances}) == expected


def test_p78_inputs_for_instances(dialects: Server) -> None:
    """`inputs` means the same (utils.get_predict_input), and is looked at first."""
    assert predictions(dialects, "flower", {"inputs": [[1, 2, 3, 4]], "instances": 3}) == [10.0]


@pytest.mark.parametrize(
    ("model", "instance", "expected"),
    [
        ("people", {"age": [36, 4], "height": [1.6, 1.0], "name": ["Ada", "Bob"]}, [ADA_ANSWER, BOB_ANSWER]),
        ("people", {"age": [36], "height": [1.6], "name": ["Ada"]}, [ADA_ANSWER]),
        ("people", {"age": [36, 36], "height": 1.6, "name": "Ada"}, [ADA_ANSWER, ADA_ANSWER]),
        ("people", [ADA, BOB], [ADA_ANSWER, BOB_ANSWER]),
        ("flower", {"a": [1, 5], "b": [2, 6], "c": [3, 7], "d": [4, 8]}, [10.0, 26.0]),
        ("flower", {"a": 1, "b": 2, "c": 3, "d": 4}, [10.0]),
    ],
)
def test_an_instance_is_a_data_frame(dialects: Server, model: str, instance: Any, expected: list[Any]) -> None:
    """An object of columns is as many rows, a list of objects too (utils.get_predict_input makes data frames of both).

    Columns that the model's one tensor is not called after stand side by side in it.
    """
    assert predictions(dialects, model, {"instances": [instance]}) == expected


def test_columns_of_unequal_length(dialects: Server) -> None:
    """They make no data frame: 400 with the columns."""
    body = {"instances": [{"age": [36, 4], "height": [1.6], "name": ["Ada", "Bob"]}]}
    answer = predict(dialects, "people", body)
    assert answer.status == 400
    assert "differ in length" in answer.error


def test_more_rows_than_a_batch(dialects: Server) -> None:
    """A request above the largest batch is split and joined in order."""
    rows = [[float(at), 0, 0, 0] for at in range(30)]
    assert predictions(dialects, "flower", {"instances": rows}) == [float(at) for at in range(30)]


def test_a_model_without_a_batch_axis(dialects: Server) -> None:
    """One instance holds the whole inputs; two are refused."""
    instance = {"x": 1.5, "matrix": [[1, 2], [3, 4]]}
    assert predictions(dialects, "whole", {"instances": [instance]}) == [{"double": 3.0, "turned": [[1, 3], [2, 4]]}]
    answer = predict(dialects, "whole", {"instances": [instance, instance]})
    assert answer.status == 400
    assert "has no batch axis" in answer.error


def test_nan_goes_in_and_out(dialects: Server) -> None:
    """NaN and the infinities are bare words both ways, as Python's json writes and reads them."""
    answer = predict(dialects, "flower", b'{"instances": [[NaN, 0, 0, 0], [Infinity, 0, 0, 0]]}')
    assert answer.body == b'{"predictions":[NaN,Infinity]}'
    assert predictions(dialects, "odd", {"instances": [[0]]})[0]["word"] == ["null"]


def test_base64_of_text_and_bytes(dialects: Server) -> None:
    """``{"b64": ...}`` stands for bytes, as in the API of TensorFlow that V1 is (V1 protocol, "Predict")."""
    assert predictions(dialects, "line", {"instances": [{"b64": base64.b64encode(b"abc").decode()}]}) == ["cba"]
    data = base64.b64encode(bytes(range(256))).decode()
    turned = base64.b64encode(bytes(range(255, -1, -1))).decode()
    assert predictions(dialects, "blob", {"instances": [{"b64": data}, {"data": {"b64": data}}, data]}) == [turned] * 3
    answer = predict(dialects, "line", {"instances": [{"b64": "/w=="}]})
    assert answer.status == 400
    assert "'b64' must be base64 of UTF-8 text" in answer.error


def test_a_model_that_takes_any_json(dialects: Server) -> None:
    """An instance is the value itself, also where it is an object or looks like base64; a row only where it has the input's name alone."""
    values = [{"a": [1]}, {"b64": "YWJj"}, [1, 2], "text", None, {"model_input": 1, "b": 2}]
    assert predictions(dialects, "document", {"instances": values}) == [{"got": value} for value in values]
    assert predictions(dialects, "document", {"instances": [{"model_input": {"a": 1}}]}) == [{"got": {"a": 1}}]


def test_base64_within_lists(dialects: Server) -> None:
    """Wherever a text may stand, bytes may stand for it."""
    text = {"b64": base64.b64encode(b"abc").decode()}
    assert predictions(dialects, "line", {"instances": [[text], {"text": [text]}]}) == ["cba", "cba"]


# ---- errors


@pytest.mark.parametrize(
    ("model", "body", "said"),
    [
        ("flower", b"{", "Unrecognized request format: "),
        ("flower", b"", "Unrecognized request format: "),
        ("flower", b"\xff", "Unrecognized request format: "),
        ("flower", b"[" * 200 + b"]" * 200, "nested deeper than 100"),
        ("flower", [1], 'Expected an object with "instances"'),
        ("flower", {"instance": []}, 'Expected "instances"'),
        ("flower", {"instances": {"x": 1}}, 'Expected "instances" to be a list'),
        ("flower", {"inputs": "x"}, 'Expected "inputs" to be a list'),
        ("flower", {"instances": [[1, 2, 3]]}, "row 0: input 'x'"),
        ("flower", {"instances": [[1, 2, 3, 4], [1, 2, 3, "4"]]}, "row 1: input 'x': element 3 is \"4\""),
        ("flower", {"instances": [{"a": 1, "b": 2}]}, "row 0: input 'x'"),
        ("flower", {"instances": [[1, 2, 3, 1e39]]}, "out of range for FP32"),
        ("people", {"instances": [{**ADA, "agee": 3}]}, "instances[0]: model 'people' has no input 'agee'; did you mean 'age'?"),
        ("people", {"instances": [{"age": 3}]}, "instances[0]: input 'height' (FP64) is missing"),
        ("people", {"instances": [[1, 2]]}, "instances[0]: expected an object with the inputs"),
        (
            "people",
            {"instances": [ADA, {**BOB, "vip": True}]},
            "instances[1]: input 'vip' is here, and the rows before leave it out",
        ),
        ("people", {"instances": [{**ADA, "vip": True}, BOB]}, "instances[1]: input 'vip' (BOOL) is missing; other rows have it"),
        ("people", {"instances": [7]}, "instances[0]: expected an object with the inputs"),
        ("people", {"instances": [{**ADA, "age": 3.5}]}, "row 0: input 'age': element 0 is 3.5, but INT64 takes integers"),
        ("people", {"instances": [{**ADA, "age": None}]}, "row 0: input 'age': element 0 is null"),
    ],
)
def test_p79_invalid_input(dialects: Server, model: str, body: Any, said: str) -> None:
    """InvalidInput is 400 with ``{"error": text}``, which names the place."""
    answer = predict(dialects, model, body)
    assert answer.status == 400
    assert said in answer.error


def test_a_failing_model(dialects: Server) -> None:
    """What the model raises is 500, an input it refuses 400 (errors.generic_exception_handler and invalid_input_handler)."""
    failed, refused = (predict(dialects, "fails", {"instances": [[number]]}) for number in (13, 14))
    assert (failed.status, refused.status) == (500, 400)
    assert "thirteen" in failed.error
    assert "fourteen is not taken" in refused.error


# ---- events


def binary(**changed: str | None) -> dict[str, str]:
    """The headers of a binary CloudEvent."""
    headers = {f"ce-{key}": value for key, value in {**EVENT, **changed}.items() if value is not None}
    return {**headers, "content-type": "application/json"}


def test_p78_a_binary_event(dialects: Server) -> None:
    """Attributes in headers, the data in the body; the answer is an event of KServe's type and source."""
    answer = predict(dialects, "flower", {"instances": [[1, 2, 3, 4]]}, binary())
    assert (answer.status, answer.json) == (200, {"predictions": [10.0]})
    attributes = {key: value for key, value in answer.headers.items() if key.startswith("ce-")}
    assert attributes == {
        "ce-specversion": "1.0", "ce-id": "e-1", "ce-source": "io.kserve.inference.flower", "ce-type": "io.kserve.inference.response",
    }  # fmt: skip


def test_p78_a_structured_event(dialects: Server) -> None:
    """The whole event in the body; so is the answer."""
    body = {**EVENT, "data": {"instances": [[1, 2, 3, 4]]}}
    answer = predict(dialects, "flower", body, {"content-type": "application/cloudevents+json"})
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/cloudevents+json"
    assert answer.json["data"] == {"predictions": [10.0]}
    assert answer.json["type"] == "io.kserve.inference.response"
    assert answer.json["source"] == "io.kserve.inference.flower"


def test_an_event_in_plain_json(dialects: Server) -> None:
    """A body with all attributes is read as an event whatever its content type, and answered plainly (dataplane.encode)."""
    body = {**EVENT, "data": {"instances": [[1, 2, 3, 4]]}}
    answer = predict(dialects, "flower", body, {"content-type": "application/json"})
    assert (answer.headers["content-type"], answer.json) == ("application/json", {"predictions": [10.0]})


def test_a_part_of_an_event_is_none(dialects: Server) -> None:
    """Without all four attributes the headers mean nothing (cloudevents' has_binary_headers)."""
    answer = predict(dialects, "flower", {"instances": [[1, 2, 3, 4]]}, binary(type=None))
    assert answer.status == 200
    assert "ce-id" not in answer.headers


@pytest.mark.parametrize(
    ("body", "headers", "said"),
    [
        (
            {**EVENT, "specversion": "2.0", "data": {}},
            {"content-type": "application/cloudevents+json"},
            "specversion: expected '1.0'",
        ),
        ({**EVENT, "id": 7, "data": {}}, {"content-type": "application/cloudevents+json"}, "id: expected a string"),
        (EVENT, {"content-type": "application/cloudevents+json"}, "lacks ['data']"),
        ([], {"content-type": "application/cloudevents+json"}, "a structured event is an object"),
        ({"instances": []}, binary(specversion="0.2"), "specversion: expected '1.0'"),
        ({"instances": []}, binary(id=""), "id: expected a string"),
    ],
)
def test_broken_events(dialects: Server, body: Any, headers: dict[str, str], said: str) -> None:
    """An event that is none is 400 in the words of KServe (dataplane.get_binary_cloudevent)."""
    answer = predict(dialects, "flower", body, headers)
    assert answer.status == 400
    assert answer.error.startswith("Cloud Event Exceptions: ")
    assert said in answer.error
