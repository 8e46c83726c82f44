"""JSON Schema of what a signature says: rows, answers and single tensors.

Source: JSON Schema 2020-12, which OpenAPI 3.1 uses. Two things it cannot say: that the sizes of varying dimensions must agree, and
that NaN, Infinity and -Infinity are taken, and given, as bare words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headgate.package.signature import Signature, TensorSpec
from headgate.tensors import DTYPES

Schema = dict[str, Any]

_BOUNDS = {"FP16": 65520.0, "BF16": 3.3961775292304957e38, "FP32": 3.4028235677973366e38}
"""The smallest number that is rounded to infinity."""
_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"


def element_schema(spec: TensorSpec) -> Schema:
    """Return the schema of one element of a tensor, as it stands in JSON."""
    dtype = DTYPES[spec.dtype]
    if spec.content == "json":
        return {"description": "any JSON value"}
    if dtype.kind == "bytes":
        return {"type": "string", **({"contentEncoding": "base64", "pattern": _BASE64} if spec.content == "binary" else {})}
    if dtype.kind == "bool":
        return {"type": "boolean"}
    if dtype.kind == "float":
        bound = _BOUNDS.get(spec.dtype)
        return {"type": "number", **({} if bound is None else {"exclusiveMinimum": -bound, "exclusiveMaximum": bound})}
    bits = 8 * dtype.size - (dtype.kind == "int")
    return {"type": "integer", "minimum": -(1 << bits) if dtype.kind == "int" else 0, "maximum": (1 << bits) - 1}


def nested_schema(element: Schema, shape: Sequence[int]) -> Schema:
    """Return the schema of nested lists of ``shape``, whose elements are ``element``; -1 is any length."""
    for size in reversed(shape):
        length = {} if size < 0 else {"minItems": size, "maxItems": size}
        element = {"type": "array", "items": element, **length}
    return element


def is_nested(shape: Sequence[int]) -> bool:
    """Whether a tensor of ``shape`` must be written as nested lists: where several sides vary, a flat one does not tell its shape."""
    return sum(size < 0 for size in shape) > 1


def input_schema(signature: Signature) -> Schema:
    """Return the schema of a row: an object with a member for each input."""
    required = [spec.name for spec in signature.inputs if not spec.optional]
    return _object({spec.name: _value(spec, signature) for spec in signature.inputs}, required)


def output_schema(signature: Signature) -> Schema:
    """Return the schema of the answer to a row: an object with a member for each output."""
    outputs = {spec.name: nested_schema(element_schema(spec), _answer(spec, signature)) for spec in signature.outputs}
    return _object(outputs, list(outputs))


def prediction_schema(signature: Signature) -> Schema:
    """Return the schema of one of ``predictions``: the value of the only output, or an object of all."""
    answer = output_schema(signature)
    only: Schema = next(iter(answer["properties"].values()))
    return only if len(signature.outputs) == 1 else answer


def _value(spec: TensorSpec, signature: Signature) -> Schema:
    shape, element = _row(spec, signature), element_schema(spec)
    value = nested_schema(element, shape)
    # A list of one may be written without its brackets.
    return {"anyOf": [element, value]} if tuple(shape) == (1,) else value


def _row(spec: TensorSpec, signature: Signature) -> Sequence[int]:
    return spec.shape[1:] if signature.batched else spec.shape


def _answer(spec: TensorSpec, signature: Signature) -> Sequence[int]:
    # In one part of an answer in parts, a list of one is written without its brackets.
    return () if signature.streams and spec.shape == (1,) else _row(spec, signature)


def _object(properties: dict[str, Schema], required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
