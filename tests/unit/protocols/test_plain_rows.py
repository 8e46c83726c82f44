"""Plain rows: what they become, and what is wrong with the others, said with row and field."""

from __future__ import annotations

import json
import struct
from types import SimpleNamespace
from typing import Any

import pytest

from headgate.errors import InvalidRequest
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base import Batch, InferRequest, InferResponse, OutputTensor, Plan
from headgate.protocols.base.rows import example_row
from headgate.protocols.rows import Rows
from headgate.tensors import DTYPES, frame_bytes


def plan(*specs: str, batched: bool = True, max_rows: int = 4, splittable: bool = True) -> Plan:
    """A plan of inputs such as ``"x FP32 -1,3"``; a question mark after the name says optional."""
    inputs = []
    for name, dtype, shape in (spec.split(" ") for spec in specs):
        sizes = tuple(int(size) for size in shape.split(",") if size)
        inputs.append(TensorSpec(name=name.rstrip("?"), dtype=dtype, shape=sizes, optional=name.endswith("?")))
    output = TensorSpec(name="y", dtype="FP32", shape=(-1,) if batched else ())
    return Plan("m", Signature(inputs=tuple(inputs), outputs=(output,), batched=batched), max_rows=max_rows, splittable=splittable)


PERSON = plan("age INT8 -1", "city BYTES -1", "x FP32 -1,2", "top? INT64 -1")
ROW = {"age": 3, "city": "Oslo", "x": [1, 2]}


def decoded(body: Any, into: Plan = PERSON) -> InferRequest:
    """What the protocol makes of ``body``: bytes as they are, everything else as JSON."""
    return Rows().decode(SimpleNamespace(headers={}), body if isinstance(body, bytes) else json.dumps(body).encode(), into)  # type: ignore[arg-type]


def refusal(body: Any, into: Plan = PERSON) -> str:
    """The text with which ``body`` is refused."""
    with pytest.raises(InvalidRequest) as refused:
        decoded(body, into)
    return str(refused.value)


def test_rows_become_columns() -> None:
    """One column per input in the order of the signature, whatever the order of the members; what is left out is left out."""
    infer = decoded([ROW, {"x": [3, 4], "city": "Bergen", "age": -128}])
    assert infer.rows == 2
    assert infer.shapes == [[2], [2], [2, 2], None]
    assert infer.data[0] == struct.pack("<2b", 3, -128)
    assert infer.data[1] == frame_bytes([b"Oslo", b"Bergen"])
    assert infer.data[2] == struct.pack("<4f", 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("body", "into", "shape"),
    [
        ({"x": 1.5}, plan("x FP32 -1,1"), [1, 1]),
        ([{"x": [1]}, {"x": 2}], plan("x FP32 -1,1"), [2, 1]),
        ({"x": [1, 2, 3]}, plan("x FP32 -1,-1"), [1, 3]),
        ([{"x": [[1], [2]]}], plan("x FP32 -1,-1,1"), [1, 2, 1]),
        ([{"x": []}], plan("x FP32 -1,-1"), [1, 0]),
        ([], plan("x FP32 -1,3"), [0, 3]),
        ({"x": 7}, plan("x INT64 ", batched=False), []),
        ({"x": [[1, 2]]}, plan("x INT64 -1,2", batched=False), [1, 2]),
    ],
)
def test_shapes(body: Any, into: Plan, shape: list[int]) -> None:
    """A column of width one may do without brackets; dimensions that vary are as they are written; without a batch axis all is one."""
    assert decoded(body, into).shapes == [shape]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"age": "three"}, "row 1: input 'age': element 0 is \"three\", but INT8 takes integers"),
        ({"age": 3.0}, "row 1: input 'age': element 0 is 3.0, but INT8 takes integers"),
        ({"age": True}, "row 1: input 'age': element 0 is true"),
        ({"age": None}, "row 1: input 'age': element 0 is null"),
        ({"age": 128}, "row 1: input 'age': element 0 is 128, which is out of range for INT8"),
        ({"age": [3, 4]}, "row 1: input 'age': shape does not match true shape of 'data' field: shape [] holds 1 elements"),
        ({"age": [[3]]}, "row 1: input 'age'"),
        ({"city": 7}, "row 1: input 'city': element 0 is 7, but BYTES takes strings"),
        (
            {"x": [1, 2, 3]},
            "row 1: input 'x': shape does not match true shape of 'data' field: shape [2] holds 2 elements, 'data' has 3",
        ),
        ({"x": [1]}, "row 1: input 'x': shape does not match"),
        ({"x": 1}, "row 1: input 'x'"),
        ({"x": [1, [2]]}, "row 1: input 'x'"),
        ({"x": [1, 1e300]}, "row 1: input 'x': element 1 is 1e+300, which is out of range for FP32"),
        ({"agee": 3}, "row 1: model 'm' has no input 'agee'; did you mean 'age'? it takes ['age', 'city', 'top', 'x']"),
        ({"top": 3}, "row 0: input 'top' (INT64) is missing, and other rows have it; give it for all rows or for none"),
    ],
)
def test_what_a_row_has_wrong(change: dict[str, Any], said: str) -> None:
    """Wrong dtype, shape, name, range: refused with the name of the input, what was expected and what came."""
    assert said in refusal([ROW, {**ROW, **change}])


@pytest.mark.parametrize("name", ["age", "city", "x"])
def test_what_a_row_lacks(name: str) -> None:
    """A missing input is named with its row, and the text shows what a request looks like, without what may be left out."""
    said = refusal([ROW, {key: value for key, value in ROW.items() if key != name}])
    assert said.startswith(f"row 1: input '{name}' (")
    assert said.endswith('is missing. A request looks like {"age": <INT8>, "city": <BYTES>, "x": [<FP32> x2]}')


@pytest.mark.parametrize(
    ("body", "into", "said"),
    [
        (b"", PERSON, "failed to parse the request JSON"),
        (b'{"age": 3', PERSON, "failed to parse the request JSON"),
        (b'{"age": \xff}', PERSON, "failed to parse the request JSON"),
        (b"[" * 200 + b"]" * 200, PERSON, "nested deeper than 100 levels"),
        (7, PERSON, "expected an object with the model's inputs, got int"),
        ([ROW, 7], PERSON, "row 1: expected an object with the model's inputs, got int"),
        ({}, PERSON, "input 'age' (INT8) is missing"),
        ({"inputs": []}, PERSON, "model 'm' has no input 'inputs'"),
        ([{"x": 1}], plan("x INT64 ", batched=False), "model 'm' has no batch axis: send one object with its inputs, not a list"),
        ([{"x": 1}] * 5, plan("x INT64 -1", splittable=False), "batch-size must be <= 4 for 'm', got 5"),
        ({}, plan("a? INT64 -1"), "expected at least 1 input for model 'm', got none; it takes ['a']"),
        ([{"a": 1}, {}], plan("a? INT64 -1"), 'give it for all rows or for none. A request looks like {"a": <INT64>}'),
        ([{"x": [[1]]}, {"x": [[1, 2]]}], plan("x INT64 -1,-1,-1"), "row 1: input 'x': expected lists of 1 at level 2"),
        ({"x": [1, "a"]}, plan("x INT64 -1,2"), "input 'x': element 1 is \"a\""),
        ({"x": [1, "a"]}, plan("x INT64 2", batched=False), "input 'x': element 1 is \"a\""),
        (b'{"x": 1e999}', plan("x FP64 -1"), "out of range"),
    ],
)
def test_what_a_body_has_wrong(body: Any, into: Plan, said: str) -> None:
    """Broken, too deep or misplaced JSON, and rows that make no batch, are refused with the reason."""
    assert said in refusal(body, into)


def test_answers_have_the_form_of_the_question() -> None:
    """A row gives a row, a list a list of as many, no rows none; without a batch axis the answer is one object of whole outputs."""
    two = InferResponse("m", "1", [OutputTensor("y", DTYPES["FP32"], [2], struct.pack("<2f", 1, 2))], Batch(0.0, 2, 0.0))
    one = InferResponse("m", "1", [OutputTensor("y", DTYPES["FP32"], [1], struct.pack("<f", 1))], Batch(0.0, 1, 0.0))
    none = InferResponse("m", "1", [OutputTensor("y", DTYPES["FP32"], [0], b"")], Batch(0.0, 0, 0.0))

    def encoded(body: Any, response: InferResponse, into: Plan = PERSON) -> Any:
        return json.loads(bytes(Rows().encode(decoded(body, into), response).body))

    assert encoded([ROW, ROW], two) == [{"y": 1.0}, {"y": 2.0}]
    assert encoded([ROW], one) == [{"y": 1.0}]
    assert encoded(ROW, one) == {"y": 1.0}
    assert encoded([], none) == []
    assert encoded({"x": 1}, two, plan("x INT64 ", batched=False)) == {"y": [1.0, 2.0]}


def test_the_example_of_the_documentation_is_accepted() -> None:
    """What the page offers to send decodes, and has nothing that may be left out; where all may be, it has all."""
    whole = plan("a? INT8 -1", "b? BYTES -1,-1")
    for into, names in ((PERSON, {"age", "city", "x"}), (whole, {"a", "b"}), (plan("x BOOL 2,-1", batched=False), {"x"})):
        row = example_row(into.signature)
        assert row.keys() == names
        decoded(row, into)
