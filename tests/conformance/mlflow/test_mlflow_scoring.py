"""MLflow's scoring protocol: point L3 of its contract, and L4 as far as it lies in requests; docstrings name the function of MLflow."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from serving import Answer, Server

import headgate

ADA = {"age": 36, "height": 1.6, "name": "Ada"}
BOB = {"age": 4, "height": 1.0, "name": "Bob"}
ADA_ANSWER = {"score": 37.6, "label": "ADA"}
BOB_ANSWER = {"score": 5.0, "label": "BOB"}
SPLIT = {"columns": ["age", "height", "name"], "index": [7, 9], "data": [[36, 1.6, "Ada"], [4, 1.0, "Bob"]]}
JSON, CSV = {"content-type": "application/json"}, {"content-type": "text/csv"}


@pytest.fixture
def to(dialects: Server) -> Any:
    """Sends to `/invocations` with the deployment named first as the default."""

    def send(model: str, body: Any, headers: dict[str, str] = JSON) -> Answer:
        if dialects.table.default_deployment != model:
            dialects.make_default(model)
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return dialects.request("POST", "/invocations", raw, headers)

    return send


def predictions(answer: Answer) -> Any:
    """The predictions of an answer that must be good."""
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert answer.json.keys() == {"predictions"}
    return answer.json["predictions"]


def refusal(answer: Answer, code: str, status: int = 400) -> str:
    """The text of an error in MLflow's form."""
    assert answer.status == status, answer.body
    assert answer.json.keys() == {"error_code", "message"}
    assert answer.json["error_code"] == code
    return str(answer.json["message"])


# ---- the four forms


@pytest.mark.parametrize(
    ("model", "body", "expected"),
    [
        ("people", {"dataframe_split": SPLIT}, [ADA_ANSWER, BOB_ANSWER]),
        ("people", {"dataframe_split": {"data": [[36, 1.6, "Ada", False]]}}, [ADA_ANSWER]),
        ("people", {"dataframe_split": {"columns": ["name", "height", "age"], "data": [["Ada", 1.6, 36]]}}, [ADA_ANSWER]),
        ("people", {"dataframe_records": [ADA, BOB]}, [ADA_ANSWER, BOB_ANSWER]),
        ("people", {"instances": [ADA, BOB]}, [ADA_ANSWER, BOB_ANSWER]),
        ("people", {"instances": [[36, 1.6, "Ada", False]]}, [ADA_ANSWER]),
        ("people", {"inputs": {"age": [36, 4], "height": [1.6, 1.0], "name": ["Ada", "Bob"]}}, [ADA_ANSWER, BOB_ANSWER]),
        ("people", {"inputs": ADA}, [ADA_ANSWER]),
        ("people", {"inputs": [ADA]}, [ADA_ANSWER]),
        ("people", {"instances": {"age": [36], "height": [1.6], "name": ["Ada"]}}, [ADA_ANSWER]),
        ("flower", {"dataframe_split": {"columns": ["a", "b", "c", "d"], "data": [[1, 2, 3, 4], [5, 6, 7, 8]]}}, [10.0, 26.0]),
        ("flower", {"dataframe_records": [{"a": 1, "b": 2, "c": 3, "d": 4}]}, [10.0]),
        ("flower", {"dataframe_split": {"columns": ["x"], "data": [[[1, 2, 3, 4]]]}}, [10.0]),
        ("flower", {"instances": [[1, 2, 3, 4], [5, 6, 7, 8]]}, [10.0, 26.0]),
        ("flower", {"inputs": [[1, 2, 3, 4]]}, [10.0]),
        ("flower", {"inputs": {"x": [[1, 2, 3, 4]]}}, [10.0]),
        ("flower", {"dataframe_split": {"columns": ["a", "b", "c", "d"], "data": []}}, []),
        ("line", {"inputs": ["abc", "de"]}, ["cba", "ed"]),
        ("line", {"inputs": "abc"}, ["cba"]),
        ("line", {"dataframe_split": {"columns": ["text"], "data": [["abc"]]}}, ["cba"]),
        ("line", {"dataframe_split": {"data": [["abc"], ["de"]]}}, ["cba", "ed"]),
        ("whole", {"inputs": {"x": 1.5, "matrix": [[1, 2], [3, 4]]}}, {"double": 3.0, "turned": [[1, 3], [2, 4]]}),
        ("whole", {"instances": [{"x": 1.5, "matrix": [[1, 2], [3, 4]]}]}, {"double": 3.0, "turned": [[1, 3], [2, 4]]}),
        ("anything", {"inputs": {"a": [1]}}, [{"got": {"a": [1]}}]),
        ("anything", {"inputs": {"model_input": 7}}, [{"got": 7}]),
    ],
)
def test_l3_the_forms_of_data(to: Any, model: str, body: Any, expected: Any) -> None:
    """Each of the four forms gives the same predictions: bare values for one output, records for several (infer_and_parse_data)."""
    assert predictions(to(model, body)) == expected


def test_l3_exactly_one_form(to: Any) -> None:
    """None, or two of them, is BAD_REQUEST, which names what came (infer_and_parse_data)."""
    for body in ({}, {"inputs": [[1, 2, 3, 4]], "instances": [[1, 2, 3, 4]]}, {"messages": []}):
        said = refusal(to("flower", body), "BAD_REQUEST")
        assert "exactly one of" in said
        assert str(sorted(body)) in said


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "Ensure that input is a valid JSON formatted string"),
        (b"{", "Ensure that input is a valid JSON formatted string"),
        (b'{"inputs": \xff}', "Ensure that input is a valid JSON formatted string"),
        ([1], "got a list"),
        (7, "got a number"),
        ("x", "got a string"),
        (None, "got null"),
        ({"dataframe_records": ADA}, "Dataframe records format must be a list of records. Got a dictionary"),
        ({"dataframe_records": [1]}, "must be a list of records"),
        ({"dataframe_split": [ADA]}, "Dataframe split format must be a dictionary"),
        ({"dataframe_split": {"columns": ["age"]}}, "must be a dictionary with 'data'"),
        ({"dataframe_split": {"data": [], "names": []}}, "got a dictionary with ['data', 'names']"),
        ({"dataframe_split": {"data": [1]}}, "dataframe_split.data: expected a list of rows"),
        ({"dataframe_split": {"data": [], "columns": "a"}}, "dataframe_split.columns: expected a list of names, got a string"),
        ({"dataframe_split": {"data": [], "columns": ["a", "a"]}}, "a column is there twice"),
        ({"dataframe_split": {"data": [[1], [1, 2]], "columns": ["a"]}}, "row 1 has 2 values, and there are 1 columns"),
        ({"instances": 7}, "instances: expected a list, got a number"),
    ],
)
def test_l3_bodies_that_cannot_be_read(to: Any, body: Any, said: str) -> None:
    """They are BAD_REQUEST, with MLflow's beginning (_decode_json_input, dataframe_from_parsed_json)."""
    text = refusal(to("people", body), "BAD_REQUEST")
    assert text.startswith("Invalid input. ")
    assert said in text


@pytest.mark.parametrize(
    ("model", "body", "said"),
    [
        ("people", {"dataframe_records": [{"age": 3}]}, "Model is missing inputs ['height', 'name']"),
        (
            "people",
            {"dataframe_records": [{**ADA, "age": "old"}]},
            "row 0: input 'age': element 0 is \"old\", but INT64 takes integers",
        ),
        ("people", {"dataframe_records": [ADA, {**BOB, "age": 4.5}]}, "row 1: input 'age': element 0 is 4.5"),
        ("people", {"dataframe_records": [{**ADA, "age": None}]}, "row 0: input 'age': element 0 is null"),
        ("people", {"dataframe_records": [{**ADA, "name": 7}]}, "row 0: input 'name': element 0 is 7, but BYTES takes strings"),
        ("people", {"inputs": {"age": [1, 2], "height": [1.0], "name": ["a", "b"]}}, "batch size does not match"),
        ("people", {"inputs": {"age": 1, "height": [1.0], "name": ["a"]}}, "inputs.age: expected a list with a value for each row"),
        ("people", {"inputs": [[1]]}, "inputs: expected a dictionary with ['age', 'height', 'name', 'vip'], got a list"),
        ("people", {"instances": [[1]]}, "instances[0]: expected an object with the inputs"),
        ("flower", {"inputs": [[1, 2, 3]]}, "row 0: input 'x'"),
        ("flower", {"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}}, "row 0: input 'x'"),
        ("whole", {"inputs": {"x": 1.0}}, "input 'matrix' (FP32) is missing"),
        ("whole", {"instances": []}, "has no batch axis: send one row"),
        ("flower", {"inputs": [[1, 2, 3, 4]], "params": [1]}, "params: expected a dictionary, got a list"),
    ],
)
def test_l4_data_unlike_the_signature(to: Any, model: str, body: Any, said: str) -> None:
    """It is INVALID_PARAMETER_VALUE, with row, input, and what it takes (mlflow.models.utils._enforce_schema)."""
    assert said in refusal(to(model, body), "INVALID_PARAMETER_VALUE")


# ---- what MLflow adds


def test_more_columns_than_inputs(to: Any) -> None:
    """Columns no input is called, and keys nobody knows, are left out as in MLflow; a header of the answer names them."""
    answer = to("people", {"dataframe_records": [{**ADA, "id\r\nx: y": 1, "ü\x7f": 2}], "signature_name": "s"})
    assert predictions(answer) == [ADA_ANSWER]
    assert json.loads(answer.headers["x-headgate-ignored"]) == ["id\r\nx: y", "ü\x7f", "signature_name"]
    assert "x-headgate-ignored" not in to("people", {"dataframe_records": [ADA]}).headers


def test_null_is_nan_and_nan_is_nan(to: Any) -> None:
    """null in a column of floats is NaN, as in a data frame; NaN and Infinity are bare words both ways (json.loads, json.dumps)."""
    assert to("flower", {"inputs": [[None, 0, 0, 0]]}).body == b'{"predictions":[NaN]}'
    assert to("flower", b'{"inputs": [[NaN, 0, 0, 0], [-Infinity, 0, 0, 0]]}').body == b'{"predictions":[NaN,-Infinity]}'
    assert b"NaN" in to("people", {"dataframe_records": [{**ADA, "height": None}]}).body
    split = {"columns": ["age", "height", "name", "vip"], "data": [[36, 1.6, "Ada", None]]}
    assert predictions(to("people", {"dataframe_split": split})) == [ADA_ANSWER]


def test_binary_columns_are_base64(to: Any) -> None:
    """Bytes come and go in base64, with MIME's line breaks or without (cast_df_types_according_to_schema, NumpyEncoder)."""
    data, broken = base64.b64encode(bytes(range(256))).decode(), base64.encodebytes(bytes(range(256))).decode()
    turned = base64.b64encode(bytes(range(255, -1, -1))).decode()
    for body in ({"inputs": [data]}, {"inputs": [broken]}, {"dataframe_split": {"columns": ["data"], "data": [[data]]}}):
        assert predictions(to("blob", body)) == [turned]
    said = refusal(to("blob", {"inputs": ["not base64!"]}), "INVALID_PARAMETER_VALUE")
    assert "its strings are base64" in said


def test_tables_are_laid_out_as_the_model_gives_them(to: Any) -> None:
    """A data frame of one column is records all the same, a dictionary of arrays is columns (predictions_to_json)."""
    assert predictions(to("records", {"inputs": [[1, 2, 3, 4]]})) == [{"output": 10.0}]
    assert predictions(to("columns", {"instances": [ADA, BOB]})) == {"score": [37.6, 5.0], "label": ["ADA", "BOB"]}


def test_params(to: Any) -> None:
    """They reach a model that looks at parameters; one that does not is told of in a header (PyFuncModel.predict)."""
    answer = to("asked", {"inputs": [[0.0]], "params": {"top": 3, "words": ["a"]}})
    assert predictions(answer) == [["top=3,words=['a']"]]
    assert "x-headgate-ignored" not in answer.headers
    answer = to("flower", {"inputs": [[1, 2, 3, 4]], "params": {"top": 3}})
    assert predictions(answer) == [10.0]
    assert json.loads(answer.headers["x-headgate-ignored"]) == ["params"]


def test_a_failing_model(to: Any) -> None:
    """What the model raises is 500 INTERNAL_ERROR; an input it refuses is 400."""
    assert "thirteen" in refusal(to("fails", {"inputs": [[13]]}), "INTERNAL_ERROR", 500)
    assert "fourteen" in refusal(to("fails", {"inputs": [[14]]}), "INVALID_PARAMETER_VALUE")


# ---- CSV


@pytest.mark.parametrize(
    ("model", "body", "expected"),
    [
        ("people", "age,height,name\n36,1.6,Ada\n4,1,Bob\n", [ADA_ANSWER, BOB_ANSWER]),
        ("people", "name,height,age\r\nAda,1.6,36\r\n\r\n", [ADA_ANSWER]),
        ("people", ',age,height,name,vip\n0,36,1.6,"Ada",\n', [ADA_ANSWER]),
        ("people", "age,height,name,vip\n36,1.6,Ada,True\n", [{"score": 1036 + 1.6, "label": "ADA"}]),
        ("people", '\ufeffage,height,name\n36,1.6,"a, ""b"""\n', [{"score": 37.6, "label": 'A, "B"'}]),
        ("flower", "a,b,c,d\n1,2,3,4\n5,6,7,8", [10.0, 26.0]),
        ("line", "text\nabc\n", ["cba"]),
        ("flower", "a,b,c,d\n", []),
    ],
)
def test_l3_csv_with_a_header(to: Any, model: str, body: str, expected: Any) -> None:
    """A data frame as pandas writes it, with an index or without (parse_csv_input); cells have the types of the inputs."""
    assert predictions(to(model, body.encode(), CSV)) == expected


def test_csv_has_nan(to: Any) -> None:
    """Empty cells, and what pandas takes for missing, are NaN in floats."""
    answer = to("flower", b"a,b,c,d\n,0,0,0\nNA,0,0,0\nnan,0,0,0\n", CSV)
    assert answer.body == b'{"predictions":[NaN,NaN,NaN]}'


@pytest.mark.parametrize(
    ("model", "body", "said"),
    [
        ("flower", b"", "there is no line in it"),
        ("flower", b"\xff", "Failed to parse input as CSV"),
        ("flower", b'a,b,c,d\n"1,2,3,4', "Failed to parse input as CSV"),
        ("flower", b"a,b,c,d\n1,2,3\n", "line 1 of the data has 3 cells, expected 4"),
        ("flower", b"1,2,3,4\n1,2,3,4,5\n", "line 2 of the data has 5 cells, expected 4"),
        ("people", b"age,height,name,age\n1,1,a,2\n", "a column is there twice"),
        ("flower", b"0,1,2,3\n1,2,3,4\n", "may be a header or a row"),
        ("line", b"abc\n", "may be a header or a row"),
    ],
)
def test_csv_that_cannot_be_read(to: Any, model: str, body: bytes, said: str) -> None:
    """It is BAD_REQUEST; what may be a header or a row is not guessed."""
    assert said in refusal(to(model, body, CSV), "BAD_REQUEST")


@pytest.mark.parametrize(
    ("model", "body", "said"),
    [
        ("people", b"age,height,name\nold,1,Ada\n", "row 0: input 'age': the cell 'old' is no INT64"),
        ("people", b"age,height,name\n3.5,1,Ada\n", "row 0: input 'age': the cell '3.5' is no INT64"),
        ("people", b"age,height,name\n3,1_0,Ada\n", "row 0: input 'height': the cell '1_0' is no FP64"),
        ("people", b"age,height,name,vip\n3,1,Ada,perhaps\n", "row 0: input 'vip': the cell 'perhaps' is no BOOL"),
        ("people", b"age,name\n3,Ada\n", "Model is missing inputs ['height']"),
        ("people", b"age,height,name\n,1,Ada\n", "row 0: input 'age': element 0 is null"),
        ("people", b"years,metres,called\n3,1,Ada\n", "Model is missing inputs ['age', 'height', 'name']"),
    ],
)
def test_csv_unlike_the_signature(to: Any, model: str, body: bytes, said: str) -> None:
    """It is INVALID_PARAMETER_VALUE, with row, input and cell."""
    assert said in refusal(to(model, body, CSV), "INVALID_PARAMETER_VALUE")


# ---- content types


@pytest.mark.parametrize(
    "media",
    ["text/plain", "application/vnd.apache.parquet", "application/x-www-form-urlencoded", "application/json; charset=latin-1",
     "application/json; header=present", "text/csv; label_size=1", "text/csv; x", ""],
)  # fmt: skip
def test_l3_other_content_types(to: Any, media: str) -> None:
    """They, other charsets and unknown parameters are 415 (invocations)."""
    said = refusal(to("flower", b"{}", {"content-type": media}), "BAD_REQUEST", 415)
    assert said.startswith("Content-Type: ")


def test_l3_content_types_that_are_read(to: Any) -> None:
    """UTF-8 may be said, the type may be written in capitals, and JSON may be left unsaid."""
    body = {"inputs": [[1, 2, 3, 4]]}
    for headers in ({"content-type": "Application/JSON; charset=UTF-8"}, {}):
        assert predictions(to("flower", body, headers)) == [10.0]
    assert predictions(to("flower", b"a,b,c,d\n1,2,3,4", {"content-type": 'text/csv; charset="utf-8"'})) == [10.0]


# ---- health and version


def test_l3_ping_and_health(dialects: Server, to: Any) -> None:
    """200 while the default deployment would compute, 503 while it would not (ping)."""
    to("flower", {})
    for path in ("/ping", "/health"):
        answer = dialects.get(path)
        assert (answer.status, answer.body) == (200, b"\n")
    dialects.make_default("no-kserve")
    for path in ("/ping", "/health"):
        refusal(dialects.get(path), "TEMPORARILY_UNAVAILABLE", 503)


def test_l3_version(dialects: Server) -> None:
    """The server's version as text; it depends on no deployment."""
    answer = dialects.get("/version")
    assert (answer.status, answer.body.decode()) == (200, headgate.__version__)
    assert answer.headers["content-type"].startswith("text/plain")


def test_errors_of_the_server(dialects: Server, to: Any) -> None:
    """Whatever the error, it has MLflow's form: a default deployment nobody knows, and one without replicas."""
    assert "is not found" in refusal(to("nobody", {}), "RESOURCE_DOES_NOT_EXIST", 404)
    answer = to("no-kserve", {"inputs": [[1, 2, 3, 4]]})
    refusal(answer, "TEMPORARILY_UNAVAILABLE", 503)
    assert int(answer.headers["retry-after"]) >= 1
