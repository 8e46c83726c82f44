"""The parts of Triton's extensions that need no server: classes of an output, and messages as JSON."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from google.protobuf import json_format
from hypothesis import given, strategies as st

from headgate.protocols.base import OutputTensor
from headgate.protocols.oip.classification import Classes, classified
from headgate.protocols.oip.messages import MESSAGES, plain
from headgate.tensors import DTYPES, unframe_bytes

SHAPES = st.tuples(st.integers(0, 4), st.integers(0, 7))


def texts(dtype: str, array: np.ndarray, classes: Classes) -> tuple[list[int], list[str]]:
    """Return the shape and the texts of the classes of an array."""
    found = classified(OutputTensor("y", DTYPES[dtype], array.shape, array.tobytes()), classes)
    assert found.dtype.name == "BYTES" and found.name == "y"
    count = int(np.prod(found.shape))
    return list(found.shape), [item.decode() for item in unframe_bytes(found.data, count)]


@given(st.data(), SHAPES, st.integers(1, 9))
def test_classes_are_the_largest_values_of_each_row(data: st.DataObject, shape: tuple[int, int], most: int) -> None:
    """As a stable sort by falling value gives them, whatever the values are."""
    rows, size = shape
    values = data.draw(st.lists(st.integers(-3, 3), min_size=rows * size, max_size=rows * size))
    array = np.array(values, dtype=np.int32).reshape(rows, size)
    expected = [f"{row[at]}:{at}" for row in array for at in np.argsort(-row, kind="stable")[:most]]
    assert texts("INT32", array, Classes(most, True)) == ([rows, min(most, size)], expected)


def test_numbers_that_are_none_come_last() -> None:
    """NaN is larger than nothing; the infinities are what they are; zeros of either sign are equal."""
    array = np.array([[np.nan, 1.5, np.inf, -np.inf, -0.0, 0.0]], dtype=np.float32)
    shape, found = texts("FP32", array, Classes(6, True))
    assert shape == [1, 6]
    assert found == ["inf:2", "1.500000:1", "-0.000000:4", "0.000000:5", "-inf:3", "nan:0"]


def test_every_dimension_of_a_row_counts() -> None:
    """A row is flat, however many dimensions it has; without a batch axis all of it is one row."""
    array = np.arange(12, dtype=np.uint16).reshape(2, 3, 2)
    assert texts("UINT16", array, Classes(1, True)) == ([2, 1], ["5:5", "11:5"])
    assert texts("UINT16", array, Classes(2, False)) == ([2], ["11:11", "10:10"])
    assert texts("FP64", np.array(2.5), Classes(3, False)) == ([1], ["2.500000:0"])


def test_classes_have_their_labels() -> None:
    """By their number; a class without one, or with an empty one, is told by its number alone."""
    array = np.array([[1, 2, 3, 4]], dtype=np.int64)
    _, found = texts("INT64", array, Classes(4, True, ("cat", "", "zwölf: dogs")))
    assert found == ["4:3", "3:2:zwölf: dogs", "2:1", "1:0:cat"]


@pytest.mark.parametrize(("dtype", "form"), [("FP16", "e"), ("BF16", None), ("INT8", "b"), ("UINT64", "Q")])
def test_classes_of_other_numbers(dtype: str, form: str | None) -> None:
    """Halves are written as floats, integers as such, at any width."""
    data = struct.pack(f"<2{form}", 1, 2) if form else b"\x80\x3f\x00\x40"
    found = classified(OutputTensor("y", DTYPES[dtype], [1, 2], data), Classes(1, True))
    assert unframe_bytes(found.data, 1) == [b"2:1" if dtype in ("INT8", "UINT64") else b"2.000000:1"]


def test_a_message_as_json_is_what_protobuf_makes_of_it() -> None:
    """Names, defaults, enums, maps, choices and what is absent as its own JSON has them; only large numbers are numbers here."""
    message = MESSAGES.message("inference.ModelConfig")(
        name="m",
        max_batch_size=8,
        input=[{"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 3]}],
        version_policy={"specific": {"versions": [1, 2]}},
        dynamic_batching={"priority_queue_policy": {3: {"max_queue_size": 4}}},
        parameters={"a": {"string_value": "b"}},
        cc_model_filenames={"7": "f"},
        instance_group=[{"kind": "KIND_GPU", "gpus": [0]}],
    )
    reference = json_format.MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)

    written = json.loads(json.dumps(plain(message)))
    assert _strings(written) == _strings(reference)
    assert plain(message)["input"][0]["dims"] == [-1, 3]
    assert "ensemble_scheduling" not in written and "optimization" not in written


def _strings(value: object) -> object:
    """Return a value with its numbers as text: protobuf's JSON writes those of 64 bits so."""
    if isinstance(value, dict):
        return {key: _strings(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strings(item) for item in value]
    return str(value) if type(value) is int else value
