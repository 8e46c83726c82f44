"""JSON values to the bytes of a tensor and back, strictly: what every JSON protocol shares.

Nothing is coerced silently: a number out of the dtype's range, a float where integers are due, ``true`` among numbers, or a ragged
list is an `InvalidRequest` that names the place.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any

import msgspec

from headgate.errors import InvalidRequest
from headgate.tensors import Buffer, DType, elements, frame_bytes, from_numpy, to_numpy, unframe_bytes

MAX_DEPTH = 100
"""Nesting of JSON, in every parser alike."""
TOLERANT_BYTES = 1 << 20
"""Largest JSON for which the tolerant parser (NaN and Infinity as bare tokens) is tried."""

_ENCODE = msgspec.json.Encoder().encode
_ALLOWED: dict[str, frozenset[type]] = {
    "float": frozenset({float, int}),
    "int": frozenset({int}),
    "uint": frozenset({int}),
    "bool": frozenset({bool}),
    "bytes": frozenset({str}),
}
NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec's decoders raise for text they cannot read."""
_EXPECTED = {"float": "numbers", "int": "integers", "uint": "integers of 0 or more", "bool": "true or false", "bytes": "strings"}


@cache
def _packer(typecode: str, count: int) -> struct.Struct:
    return struct.Struct(f"<{count}{typecode}")


def pack_values(dtype: DType, values: Sequence[Any], field: str) -> bytes:
    """Return the bytes of a flat list whose types have been checked. Raises `InvalidRequest` for numbers out of range."""
    if dtype.kind == "bytes":
        try:
            return frame_bytes([value.encode() for value in values])
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"{field}: a string holds a lone surrogate ({error.reason}); send such bytes in binary form"
            ) from None
    if not dtype.typecode:
        return _pack_half(dtype, values, field)
    try:
        if len(values) > 4096:  # one Struct per length is only worth keeping for small ones
            return struct.pack(f"<{len(values)}{dtype.typecode}", *values)
        return _packer(dtype.typecode, len(values)).pack(*values)
    except (struct.error, OverflowError):
        raise InvalidRequest(_out_of_range(dtype, values, field)) from None


def pack_nested(dtype: DType, shape: Sequence[int], data: Any, field: str) -> bytes:
    """Return the bytes of ``data``, a flat list in row-major order or one nested as ``shape`` says (a bare value for a scalar).

    Raises `InvalidRequest` for wrong types, raggedness, wrong counts and numbers out of range.
    """
    values = data if isinstance(data, list) else [data]
    if values and isinstance(values[0], list):
        values = _flatten(shape, values, field)
    check_types(dtype, values, field)
    if len(values) != elements(shape):
        raise InvalidRequest(
            f"{field}: shape does not match true shape of 'data' field: shape {list(shape)} holds {elements(shape)} elements, "
            f"'data' has {len(values)}"
        )
    return pack_values(dtype, values, field)


def check_types(dtype: DType, values: Sequence[Any], field: str) -> None:
    """Raise `InvalidRequest` naming the first of ``values`` that is no ``dtype``."""
    if set(map(type, values)) <= _ALLOWED[dtype.kind]:
        return
    at, value = next((at, value) for at, value in enumerate(values) if type(value) not in _ALLOWED[dtype.kind])
    shown = json.dumps(value)[:100]
    raise InvalidRequest(f"{field}: element {at} is {shown}, but {dtype.name} takes {_EXPECTED[dtype.kind]}")


def unpack_values(dtype: DType, data: Buffer, count: int, field: str) -> list[Any]:
    """Return the elements as Python values, flat. Raises `InvalidRequest` where BYTES are not UTF-8, which JSON cannot carry."""
    if dtype.typecode:
        if count <= 64:
            return list(_packer(dtype.typecode, count).unpack(data))
        view = memoryview(data).cast("B")
        return view.cast(dtype.typecode).tolist()  # type: ignore[call-overload, no-any-return]  # any typecode
    if dtype.kind == "bytes":
        try:
            return [item.decode() for item in unframe_bytes(data, count)]
        except UnicodeDecodeError:
            raise InvalidRequest(
                f"{field}: holds bytes that are not UTF-8, which JSON cannot carry; ask for it in binary form"
            ) from None
    return list(to_numpy(dtype, (count,), data).astype("float64").tolist())


def encode_values(values: Any) -> bytes:
    """Return ``values`` as JSON; NaN and the infinities as the bare tokens ``NaN``, ``Infinity`` and ``-Infinity``."""
    encoded = _ENCODE(values)
    # msgspec writes all three as null. Tensors hold no null of their own, so a "null" (or a string with it) is the rare case.
    if b"null" in encoded:
        return json.dumps(values, separators=(",", ":")).encode()
    return encoded


def check_depth(body: Buffer) -> None:
    """Raise `InvalidRequest` if ``body`` nests deeper than `MAX_DEPTH`. Cheap where few brackets are there at all."""
    data = bytes(body)
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return
    # Which kind a bracket is does not matter here (the parser sees to that); of one kind, each pass takes away exactly one level.
    brackets = _STRING.sub(b"", data).translate(_ONE_KIND, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        shorter = brackets.replace(b"[]", b"")
        if not shorter:
            return
        # A text no deeper than the limit has at least one innermost pair in every 2 * MAX_DEPTH brackets.
        if (len(brackets) - len(shorter)) * MAX_DEPTH < len(brackets):
            break
        brackets = shorter
    raise InvalidRequest(f"the JSON is nested deeper than {MAX_DEPTH} levels (or its brackets do not match)")


def parse_json(body: Buffer) -> Any:
    """Return the parsed ``body``: by msgspec, or where that refuses by the standard library, which takes NaN and Infinity.

    Raises `InvalidRequest` if neither can read it.
    """
    check_depth(body)
    try:
        return msgspec.json.decode(body)
    except NOT_JSON as error:
        return parse_tolerant(body, str(error))


def parse_tolerant(body: Buffer, reason: str) -> Any:
    """Parse with the standard library, at most `TOLERANT_BYTES`. Raises `InvalidRequest` with the place that is wrong.

    Beyond JSON it takes NaN and the infinities, but no number that only becomes one of them, and no half of a surrogate pair.
    """
    if len(body) > TOLERANT_BYTES:
        raise InvalidRequest(f"failed to parse the request JSON buffer: {reason}")
    try:
        text = str(body, "utf-8")
        parsed = json.loads(text, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise InvalidRequest(f"failed to parse the request JSON buffer: {error.msg} at {error.pos}") from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InvalidRequest(f"failed to parse the request JSON buffer: {error}") from None
    if "\\ud" in text.lower():
        _refuse_lone_surrogates(parsed)
    return parsed


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:50]} is out of range")
    return value


def _refuse_lone_surrogates(parsed: Any) -> None:
    try:
        json.dumps(parsed, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidRequest(
            "failed to parse the request JSON buffer: a string holds a lone surrogate; send such bytes in binary form"
        ) from None


_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


def _flatten(shape: Sequence[int], values: list[Any], field: str) -> list[Any]:
    level: list[Any] = [values]
    for depth, size in enumerate(shape):
        for part in level:
            if not isinstance(part, list) or len(part) != size:
                got = f"a list of {len(part)}" if isinstance(part, list) else json.dumps(part)[:50]
                raise InvalidRequest(f"{field}: expected lists of {size} at level {depth + 1} by shape {list(shape)}, got {got}")
        level = list(chain.from_iterable(level))
    return level


def _pack_half(dtype: DType, values: Sequence[Any], field: str) -> bytes:
    import numpy as np

    try:
        wide = np.array(values, dtype="float64")
    except OverflowError:
        raise InvalidRequest(_out_of_range(dtype, values, field)) from None
    with np.errstate(over="ignore"):
        packed = bytes(from_numpy(dtype, wide.astype("float32" if dtype.name == "BF16" else dtype.numpy)))
    lost = np.isfinite(wide) & ~np.isfinite(to_numpy(dtype, wide.shape, packed))
    if lost.any():
        at = int(lost.argmax())
        raise InvalidRequest(f"{field}: element {at} is {values[at]}, which is out of range for {dtype.name}")
    return packed


def _out_of_range(dtype: DType, values: Sequence[Any], field: str) -> str:
    for at, value in enumerate(values):
        try:
            struct.pack(f"<{dtype.typecode or 'd'}", value)
        except (struct.error, OverflowError):
            return f"{field}: element {at} is {str(value)[:50]}, which is out of range for {dtype.name}"
    return f"{field}: a number is out of range for {dtype.name}"
