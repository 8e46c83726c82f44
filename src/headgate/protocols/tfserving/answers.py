"""Outputs to JSON: rows (``predictions``), columns (``outputs``), and the results of classify and regress.

Numbers are those that TensorFlow Serving writes: a float as its shortest form of six digits if that is the same float, else as that of
nine. Written out in full, as a double, 0.2 would be 0.20000000298023224.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Any

from headgate.errors import InvalidRequest
from headgate.json_tensors import encode_values, unpack_values
from headgate.protocols.base import InferResponse, OutputTensor, Plan
from headgate.protocols.base.rows import nested
from headgate.protocols.tfserving.signatures import CLASSES, SCORES, VALUES
from headgate.tensors import elements, unframe_bytes

SHORTENED = 4096
"""Floats of one output up to which they are shortened: of more nobody reads the digits, and others would wait."""
BYTES_SUFFIX = "_bytes"
"""Of the names of outputs that hold any bytes, not text."""


def rows_json(plan: Plan, response: InferResponse) -> bytes:
    """Return ``{"predictions": [...]}``. Raises `InvalidRequest` where the outputs have no common first axis."""
    rows = -1
    for output in response.outputs:
        if not output.shape:
            raise InvalidRequest(f"Tensor name: {output.name} has no shape information (it is a scalar: ask with 'inputs')")
        if rows not in (-1, output.shape[0]):
            raise InvalidRequest(
                f"Tensor name: {output.name} has inconsistent batch size: {output.shape[0]} expecting: {rows} (ask with 'inputs')"
            )
        rows = output.shape[0]
    columns = _columns(plan, response)
    if len(columns) == 1:
        return encode_values({"predictions": next(iter(columns.values()))})
    return encode_values({"predictions": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]})


def columns_json(plan: Plan, response: InferResponse) -> bytes:
    """Return ``{"outputs": ...}``: the only output's value, or an object of all of them."""
    columns = _columns(plan, response)
    return encode_values({"outputs": next(iter(columns.values())) if len(columns) == 1 else columns})


def classes_of(response: InferResponse) -> list[list[tuple[str, float]]]:
    """Return label and score of every class for every row. Raises `InvalidRequest` if a label is not UTF-8."""
    found = {output.name: output for output in response.outputs}
    shape = response.outputs[0].shape
    count = elements(shape)
    labels: list[Any] = _text(found[CLASSES], count) if CLASSES in found else [""] * count
    scores: list[Any] = shortest(found[SCORES]) if SCORES in found else [0.0] * count
    width = shape[1]
    pairs = list(zip(labels, scores, strict=True))
    return [pairs[row * width : (row + 1) * width] for row in range(shape[0])]


def values_of(response: InferResponse) -> list[float]:
    """Return the value of every row."""
    return shortest(next(output for output in response.outputs if output.name == VALUES))


def shortest(output: OutputTensor) -> list[float]:
    """Return the elements of an FP32 output as the doubles whose digits are the shortest."""
    count = elements(output.shape)
    values: list[Any] = memoryview(output.data).cast("B").cast("f").tolist() if count else []
    if not 0 < count <= SHORTENED:
        return values
    six = _rounded(values, "%.6g ")
    missed = [at for at, (short, value) in enumerate(zip(_single(six), values, strict=True)) if short != value]
    if missed:
        for at, value in zip(missed, _rounded([values[at] for at in missed], "%.9g "), strict=True):
            six[at] = value
    return six


def _rounded(values: Sequence[float], form: str) -> list[float]:
    return list(map(float, (form * len(values) % tuple(values)).split()))


def _single(values: Sequence[float]) -> Sequence[float]:
    """Return doubles as the nearest single-precision numbers."""
    form = f"<{len(values)}f"
    try:
        return struct.unpack(form, struct.pack(form, *values))
    except OverflowError:  # six digits of the largest ones round to more than there is
        return [float("nan")] * len(values)


def _columns(plan: Plan, response: InferResponse) -> dict[str, Any]:
    return {
        output.name: nested(_elements(output, spec.content == "binary"), output.shape)
        for spec, output in zip(plan.signature.outputs, response.outputs, strict=True)
    }


def _elements(output: OutputTensor, binary: bool) -> list[Any]:
    count = elements(output.shape)
    if output.dtype.name == "FP32":
        return shortest(output)
    if output.dtype.kind != "bytes":
        return unpack_values(output.dtype, output.data, count, f"output '{output.name}'")
    if binary or output.name.endswith(BYTES_SUFFIX):
        return [{"b64": base64.b64encode(item).decode()} for item in unframe_bytes(output.data, count)]
    return _text(output, count)


def _text(output: OutputTensor, count: int) -> list[str]:
    try:
        return [item.decode() for item in unframe_bytes(output.data, count)]
    except UnicodeDecodeError:
        raise InvalidRequest(
            f"output '{output.name}' holds bytes that are not UTF-8, which JSON cannot carry; ask over gRPC, or give the output a name "
            f"that ends in {BYTES_SUFFIX}"
        ) from None
