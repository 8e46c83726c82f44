"""The row that people are shown first."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base.shown import shown_row


def signature(*inputs: TensorSpec, batched: bool = True) -> Signature:
    """A signature of those inputs."""
    output = TensorSpec(name="y", dtype="FP32", shape=(-1,) if batched else ())
    return Signature(inputs=inputs, outputs=(output,), batched=batched)


X = TensorSpec(name="x", dtype="FP32", shape=(-1, 2))
AGE = TensorSpec(name="age", dtype="INT64", shape=(-1,))
CITY = TensorSpec(name="city", dtype="BYTES", shape=(-1,))
TOP = TensorSpec(name="top", dtype="INT64", shape=(-1,), optional=True)
ASK = TensorSpec(name="ask", dtype="BYTES", shape=(-1,), content="json")


def tensor(name: str, dtype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    """A tensor of a request of the Open Inference Protocol."""
    return {"name": name, "datatype": dtype, "shape": shape, "data": data}


@pytest.mark.parametrize(
    ("inputs", "example", "row"),
    [
        ((AGE, CITY), {"age": 3, "city": "Oslo"}, {"age": 3, "city": "Oslo"}),
        ((AGE, CITY), [{"age": 3, "city": "Oslo"}, {"age": 4, "city": "Ulm"}], {"age": 3, "city": "Oslo"}),
        ((AGE, TOP), {"age": 3}, {"age": 3}),
        ((X,), [[1.5, 2], [3, 4]], {"x": [1.5, 2]}),
        ((X, TOP), [[1.5, 2]], {"x": [1.5, 2]}),
        ((X,), {"inputs": [tensor("", "FP32", [2, 2], [1, 2, 3, 4])]}, {"x": [1, 2]}),
        (
            (AGE, CITY),
            {"inputs": [tensor("age", "INT64", [1], [3]), tensor("city", "BYTES", [1], ["Ulm"])]},
            {"age": 3, "city": "Ulm"},
        ),
        ((ASK,), {"inputs": [tensor("ask", "BYTES", [1], ['{"a": [1]}'])]}, {"ask": {"a": [1]}}),
    ],
)
def test_every_form_of_an_example_becomes_a_row(inputs: tuple[TensorSpec, ...], example: Any, row: Any) -> None:
    """The first row of it, as /predict takes it: values, not the text of JSON, where an input takes any JSON."""
    assert shown_row(example, signature(*inputs)) == row


def test_without_a_batch_axis_the_whole_is_the_row() -> None:
    """A bare list, or a request, is one row of whole inputs."""
    whole = signature(TensorSpec(name="words", dtype="BYTES", shape=(-1,)), batched=False)
    assert shown_row(["a", "b"], whole) == {"words": ["a", "b"]}
    assert shown_row({"inputs": [tensor("words", "BYTES", [2], ["a", "b"])]}, whole) == {"words": ["a", "b"]}


@pytest.mark.parametrize(
    "example",
    [None, [], 3, [1.5], {"other": 1}, {"age": 3, "mystery": 1}, {"inputs": [tensor("nobody", "FP32", [1], [1])]}],
)
def test_what_does_not_fit_is_made_up(example: Any) -> None:
    """A row that the signature allows takes the place of an example that is none for it."""
    assert shown_row(example, signature(AGE, CITY)) == {"age": 1, "city": "text"}
