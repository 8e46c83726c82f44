"""Nested JSON lists to the bytes of a tensor, by TensorFlow Serving's rules and in its words.

The shape is read off the first element at every level; everything else must agree with it.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any

from headgate.errors import InvalidRequest
from headgate.json_tensors import pack_values
from headgate.protocols.base import InputPlan
from headgate.protocols.tfserving.dtypes import TYPES
from headgate.protocols.tfserving.words import malformed, not_of_type, shown
from headgate.tensors import DType, frame_bytes

_ALLOWED: dict[str, frozenset[type]] = {
    "float": frozenset({float, int}),
    "int": frozenset({int}),
    "uint": frozenset({int}),
    "bool": frozenset({bool}),
    "bytes": frozenset({str}),
}


def shape_of(value: Any) -> list[int]:
    """Return the shape that the first elements of nested lists have; ``[]`` for anything but a list."""
    shape: list[int] = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def pack(value: Any, shape: Sequence[int], into: InputPlan) -> bytes:
    """Return the bytes of nested lists of ``shape``. Raises `InvalidRequest` where lists or elements are not what they should be."""
    leaves = _leaves(value, shape)
    dtype = into.dtype
    if set(map(type, leaves)) <= _ALLOWED[dtype.kind]:
        try:
            return pack_values(dtype, leaves, into.field)
        except InvalidRequest:
            return _pack_outside(dtype, leaves, into.field)
    if dtype.kind == "bytes":
        return frame_bytes([_bytes_of(leaf, len(shape)) for leaf in leaves])
    wrong = next(leaf for leaf in leaves if type(leaf) not in _ALLOWED[dtype.kind])
    _refuse_list(wrong, len(shape))
    raise not_of_type(wrong, TYPES[dtype.name].word)


def is_base64(value: Any) -> bool:
    """Whether a JSON value is ``{"b64": "..."}``, and nothing else."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def from_base64(value: dict[str, str]) -> bytes:
    """Return the bytes of ``{"b64": "..."}``. Raises `InvalidRequest`."""
    text = "".join(value["b64"].split())
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)  # whoever leaves the padding out is understood
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"Unable to base64 decode ({error}): {shown(value)}") from None


def _leaves(value: Any, shape: Sequence[int]) -> list[Any]:
    level = [value]
    for depth, size in enumerate(shape):
        for part in level:
            if type(part) is not list:
                raise InvalidRequest(
                    f"JSON Value: {shown(part)} found at incorrect level: {depth + 1} in the JSON DOM. Expected at level: {len(shape)}"
                )
            if len(part) != size:
                raise InvalidRequest(f"Encountered list at unexpected size: {len(part)} at level: {depth} expected size: {size}")
        level = list(chain.from_iterable(level))
    return level


def _refuse_list(leaf: Any, rank: int) -> None:
    if isinstance(leaf, list):
        raise InvalidRequest(f"Encountered list at unexpected level: {rank} expected < {rank}")


def _bytes_of(leaf: Any, rank: int) -> bytes:
    _refuse_list(leaf, rank)
    if isinstance(leaf, str):
        return leaf.encode()
    if is_base64(leaf):
        return from_base64(leaf)
    if isinstance(leaf, dict):
        raise malformed(leaf, "not formatted correctly for base64 data")
    raise not_of_type(leaf, TYPES["BYTES"].word)


def _pack_outside(dtype: DType, values: list[Any], field: str) -> bytes:
    """Pack numbers of which some are out of range: floats become infinite, all others are refused."""
    if dtype.kind == "float":
        return pack_values(dtype, [nearest(dtype, value) for value in values], field)
    if dtype.kind in ("int", "uint"):
        bits = 8 * dtype.size
        low, high = (0, (1 << bits) - 1) if dtype.kind == "uint" else (-(1 << bits - 1), (1 << bits - 1) - 1)
        raise not_of_type(next(value for value in values if not low <= value <= high), TYPES[dtype.name].word)
    return pack_values(dtype, values, field)


def nearest(dtype: DType, value: float) -> float:
    """Return ``value``, or infinity where a float of ``dtype`` cannot hold it."""
    try:
        struct.pack({"FP16": "<e", "FP64": "<d"}.get(dtype.name, "<f"), value)
    except (OverflowError, struct.error):
        return math.inf if value > 0 else -math.inf
    return value
