"""Points 34 to 39 of the TensorFlow Serving checklist: the JSON of a predict answer."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Sequence
from typing import Any

import pytest
from tfserving_client import Client

from headgate.errors import InvalidRequest
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base import Batch, InferResponse, OutputTensor, Plan
from headgate.protocols.tfserving.answers import SHORTENED, columns_json, rows_json, shortest
from headgate.tensors import DTYPES, frame_bytes


def response(*outputs: tuple[str, str, Sequence[int], bytes], content: str = "") -> tuple[Plan, InferResponse]:
    """Return what a replica gave (name, datatype, shape and bytes of each output), and before it the plan that it fits."""
    found = [OutputTensor(name, DTYPES[dtype], shape, data) for name, dtype, shape, data in outputs]
    specs = tuple(TensorSpec(name=one.name, dtype=one.dtype.name, shape=(-1,) * len(one.shape), content=content) for one in found)
    plan = Plan("m", Signature(inputs=(), outputs=specs), max_rows=8, splittable=False)
    return plan, InferResponse("m", "1", found, Batch(0.0, 1, 0.0))


def floats(*values: float) -> bytes:
    """Return FP32 bytes."""
    return struct.pack(f"<{len(values)}f", *values)


def test_p34_rows_need_a_first_axis_that_all_outputs_share() -> None:
    """Outputs of unlike length and scalars cannot be told in rows; the error names the output and the way out."""
    uneven = response(("x", "FP32", (2,), floats(1, 2)), ("y", "FP32", (1,), floats(1)))
    with pytest.raises(InvalidRequest, match=r"^Tensor name: y has inconsistent batch size: 1 expecting: 2 .*'inputs'"):
        rows_json(*uneven)
    with pytest.raises(InvalidRequest, match=r"^Tensor name: s has no shape information .*'inputs'"):
        rows_json(*response(("s", "FP32", (), floats(1))))
    assert json.loads(columns_json(*uneven)) == {"outputs": {"x": [1.0, 2.0], "y": [1.0]}}


def test_p34_a_model_with_a_scalar_output_is_asked_in_columns(client: Client) -> None:
    """Whole way: the model runs, and its scalar is refused in rows only. Its scalar input has no place in a row either."""
    assert "Expected [], got [1]" in client.refused("scalar", {"instances": [{"x": 1, "matrix": [1, 2]}]})
    assert client.ask("scalar", {"inputs": {"x": 1, "matrix": [[1], [2]]}})["outputs"]["double"] == 2.0


def test_p35_one_output_is_bare_and_several_are_named(client: Client) -> None:
    """Rows: values, or objects. Columns: a value, or an object of values."""
    row = [1.0] * 16
    assert client.ask("plane", {"instances": [[[1]], [[2]]]}) == {"predictions": [[[1.0]], [[2.0]]]}
    assert client.ask("plane", {"inputs": [[[1]], [[2]]]}) == {"outputs": [[[1.0]], [[2.0]]]}
    rows = client.ask("sum", {"instances": [{"a": row, "b": row}]})["predictions"]
    columns = client.ask("sum", {"inputs": {"a": [row], "b": [row]}})["outputs"]
    assert rows == [{name: value[0] for name, value in columns.items()}]
    assert list(columns) == ["sum", "difference"]


def test_p36_floats_are_written_in_as_few_digits_as_six_or_nine(client: Client) -> None:
    """A single-precision number comes as what was meant by it, and whole numbers remain floats."""
    values = [0.2, 1.0, 1 / 3, 9_000_000.0, 3.0e-05, 16777216.0, 123456.7, -0.0, 3.4028235e38, 1e-45]
    found = shortest(OutputTensor("x", DTYPES["FP32"], (len(values),), floats(*values)))
    assert found == [0.2, 1.0, 0.333333343, 9e6, 3e-05, 16777216.0, 123456.703, -0.0, 3.40282347e38, 1.4013e-45]
    assert floats(*found) == floats(*values), "read as single precision they are the same numbers"
    body = client.post("half", {"instances": [0.4, 2]}).body
    assert body == b'{"predictions":[2.2,3.0]}'


def test_p36_doubles_are_written_so_that_they_come_back(client: Client) -> None:
    """All the digits that it takes."""
    pair = [0.1, 1 / 3]
    assert client.ask("types", {"instances": [{"fp64": pair}]})["predictions"][0]["same_fp64"] == pair


def test_p36_large_answers_keep_all_their_digits() -> None:
    """A deliberate difference: of an output with thousands of numbers nobody reads the digits, and shortening them takes time."""
    data = floats(0.2) * (SHORTENED + 1)
    many = OutputTensor("x", DTYPES["FP32"], (SHORTENED + 1,), data)
    assert shortest(many)[0] == struct.unpack("<f", floats(0.2))[0] != 0.2
    assert floats(*shortest(many)) == data
    assert shortest(OutputTensor("x", DTYPES["FP32"], (SHORTENED,), data[4:]))[0] == 0.2


def test_p37_64_bit_integers_are_numbers(client: Client) -> None:
    """Not strings, unlike in the state of versions."""
    row: dict[str, Any] = {"int64": [-(2**63), 2**63 - 1], "uint64": [0, 2**64 - 1]}
    found = client.ask("types", {"instances": [row]})["predictions"][0]
    assert {name: found[f"same_{name}"] for name in row} == row


def test_p38_strings_and_bytes(client: Client) -> None:
    """Outputs whose name ends in _bytes are base64; others are text."""
    word = "h\u00e9"
    found = client.ask("pictures", {"instances": [word]})["predictions"]
    assert found == [{"image_bytes": {"b64": base64.b64encode(word.encode()).decode()}, "name": word}]


def test_p38_outputs_that_the_signature_calls_binary() -> None:
    """Beyond TensorFlow Serving: where the signature says so, the name need not."""
    found = json.loads(rows_json(*response(("x", "BYTES", (1,), frame_bytes([b"\xff"])), content="binary")))
    assert found == {"predictions": [{"b64": "/w=="}]}


def test_p38_bytes_that_are_no_text_are_refused(client: Client) -> None:
    """A deliberate difference: TensorFlow Serving writes them raw, and clients cannot read the JSON."""
    text = client.refused("pictures", {"instances": [{"b64": "/w=="}]})
    assert "output 'name' holds bytes that are not UTF-8" in text and "_bytes" in text


def test_p39_no_rows() -> None:
    """An output without rows gives an empty list, whatever the rest of its shape."""
    assert rows_json(*response(("x", "FP32", (0, 3), b""))) == b'{"predictions":[]}'
    assert rows_json(*response(("x", "FP32", (0,), b""), ("y", "BYTES", (0, 0), b""))) == b'{"predictions":[]}'
    assert json.loads(columns_json(*response(("x", "FP32", (2, 0), b"")))) == {"outputs": [[], []]}


def test_p39_no_rows_in(client: Client) -> None:
    """Columns may be empty, where a row has no further dimensions."""
    assert client.ask("half", {"inputs": []}) == {"outputs": []}
