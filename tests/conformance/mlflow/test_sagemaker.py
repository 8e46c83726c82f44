"""SageMaker's containers: ``/ping`` and ``/invocations``. The docstrings name the page or the part of sagemaker-inference."""

from __future__ import annotations

import json
from typing import Any

import pytest
from serving import Answer, Server

CSV = "text/csv"


@pytest.fixture
def to(dialects: Server) -> Any:
    """Sends to `/invocations` with the deployment named first as the default."""

    def send(model: str, body: Any, media: str = CSV, accept: str | None = None, **headers: str) -> Answer:
        if dialects.table.default_deployment != model:
            dialects.make_default(model)
        sent = {"content-type": media, **{key.replace("_", "-"): value for key, value in headers.items()}}
        if accept is not None:
            sent["accept"] = accept
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return dialects.request("POST", "/invocations", raw, sent)

    return send


def test_ping(dialects: Server) -> None:
    """200 to `GET /ping` says that the container is healthy ("How containers serve requests")."""
    dialects.make_default("flower")
    assert dialects.get("/ping").status == 200


@pytest.mark.parametrize(
    ("model", "body", "media", "expected"),
    [
        ("flower", b"1,2,3,4\n5,6,7,8\n", CSV, [10.0, 26.0]),
        ("flower", b"1,2,3,4", "text/csv; label_size=0", [10.0]),
        ("flower", b"0,1,2,3", "text/csv; header=absent", [6.0]),
        ("flower", b"0,1,2,3\n1,1,1,1", "text/csv;header=present", [4.0]),
        ("line", b"abc\n", "text/csv; header=absent", ["cba"]),
        ("line", b"abc\nabc\n", "text/csv; header=present", None),
        ("people", b"36,1.6,Ada,false\n", CSV, [{"score": 37.6, "label": "ADA"}]),
    ],
)
def test_csv_without_a_header(to: Any, model: str, body: bytes, media: str, expected: Any) -> None:
    """SageMaker's CSV has no header and no label ("Common data formats for inference"); a parameter says what cannot be seen."""
    answer = to(model, body, media)
    if expected is None:
        assert answer.status == 400
        assert "Model is missing inputs ['text']" in answer.json["message"]
    else:
        assert (answer.status, answer.json) == (200, {"predictions": expected})


@pytest.mark.parametrize(
    ("model", "body", "media", "expected"),
    [
        ("flower", b"1,2,3,4\n5,6,7,8\n", CSV, "10.0\n26.0\n"),
        ("people", [{"age": 36, "height": 1.5, "name": 'a,"b'}], "application/json", '37.5,"A,""B"\n'),
        ("flower", b"nan,0,0,0", CSV, "nan\n"),
        ("odd", b"0", "text/csv; header=absent", "nan,inf,-inf,nan,inf,-inf,null\n"),
        ("whole", [{"x": 1.5, "matrix": [[1, 2], [3, 4]]}], "application/json", "3.0,1.0,3.0,2.0,4.0\n"),
        ("anything", [{"a": 1}], "application/json", '"{""got"":{""a"":1}}"\n'),
    ],
)
def test_answers_in_csv(to: Any, model: str, body: Any, media: str, expected: str) -> None:
    """Accept: text/csv gives a line for each row, all outputs side by side, without a header (encoder.py)."""
    answer = to(model, {"instances": body} if isinstance(body, list) else body, media, CSV)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.body.decode() == expected


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (None, "application/json"), ("*/*", "application/json"), ("", "application/json"), ("application/json", "application/json"),
        ("application/*", "application/json"), ("text/csv, application/json", "application/json"),
        ("text/csv, application/json;q=0.5", "text/csv; charset=utf-8"), ("text/*", "text/csv; charset=utf-8"),
        ("application/json;q=0, */*", "text/csv; charset=utf-8"), ("TEXT/CSV", "text/csv; charset=utf-8"),
    ],
)  # fmt: skip
def test_which_form_the_answer_has(to: Any, accept: str | None, media: str) -> None:
    """JSON unless CSV is preferred (transformer.py: none and any are the default)."""
    assert to("flower", b"1,2,3,4", CSV, accept).headers["content-type"] == media


@pytest.mark.parametrize("accept", ["application/x-npy", "application/jsonlines", "text/csv;q=0", "nonsense;q=x"])
def test_answers_that_cannot_be_given(to: Any, accept: str) -> None:
    """Another kind of answer is 406, and nothing is computed (encoder.py: UnsupportedFormatError)."""
    answer = to("flower", b"1,2,3,4", CSV, accept)
    assert (answer.status, answer.json["error_code"]) == (406, "BAD_REQUEST")
    assert answer.json["message"].startswith("Accept: ")


def test_custom_attributes(to: Any) -> None:
    """They are the container's to use or not; it does not, and gives none back (InvokeEndpoint, CustomAttributes)."""
    answer = to("flower", b"1,2,3,4", x_amzn_sagemaker_custom_attributes="trace=1")
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith("x-amzn")]


def test_a_target_model_is_refused(to: Any) -> None:
    """The header of multi-model endpoints names a model, and this path means the default one: 501, not another model's answer."""
    answer = to("flower", b"1,2,3,4", x_amzn_sagemaker_target_model="other.tar.gz")
    assert (answer.status, answer.json["error_code"]) == (501, "NOT_IMPLEMENTED")
