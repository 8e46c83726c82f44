"""Values of Truss's binary requests: MessagePack with arrays, dates and the like, and how each of them looks in JSON.

The same value has three forms. In MessagePack, as Truss's clients and servers write it (truss 0.18, templates/shared/serialization.py,
and msgpack-numpy): an object with bytes for keys stands for an array (``nd``) or a date (``__dt_datetime_iso__`` and so on). Here: `Array`
and `Tagged`. And in the JSON that passes between us and a model that takes any JSON value: ``{"__ndarray__": {"dtype", "shape",
"base64"}}``, ``{"__bytes__": base64}`` and ``{"__dt_datetime_iso__": true, "data": ...}``, so that nothing is lost on the way.
"""

from __future__ import annotations

import base64
import math
import struct
from typing import Any, NamedTuple

import msgspec

from headgate.errors import InvalidRequest, PayloadTooLarge
from headgate.json_tensors import MAX_DEPTH, NOT_JSON
from headgate.protocols.base.rows import nested
from headgate.tensors import Buffer

TAGS = ("__dt_datetime_iso__", "__dt_date_iso__", "__dt_time_iso__", "__dt_timedelta__", "__decimal__", "__uuid__")
_CODES = {
    "b1": "?",
    "i1": "b",
    "u1": "B",
    "i2": "h",
    "u2": "H",
    "i4": "i",
    "u4": "I",
    "i8": "q",
    "u8": "Q",
    "f2": "e",
    "f4": "f",
    "f8": "d",
}
"""NumPy's kind and size -> struct's letter."""
_LARGEST_EMPTY = 1 << 20
"""Lists that an array without elements may be written as: its shape costs nothing to send."""
_LIGHT = 4 << 20
"""Bytes up to which MessagePack does not matter, whatever it holds: as much as JSON may have."""
_MOST_VALUES = 1 << 18
"""Values in a larger one, those in lists and objects included: a list without any takes one byte there and sixty in memory."""


class Array(NamedTuple):
    """A NumPy array, or one number of it."""

    dtype: str
    """NumPy's spelling: ``<f4``."""
    shape: tuple[int, ...]
    data: bytes

    def plain(self) -> Any:
        """Return it as nested lists, or a number. Raises `InvalidRequest` for dtypes that are no numbers, booleans or text."""
        order, kind = (self.dtype[:1], self.dtype[1:]) if self.dtype[:1] in "<>|=" else ("<", self.dtype)
        order = ">" if order == ">" else "<"
        count = math.prod(self.shape)
        if any(size < 0 for size in self.shape) or (not count and math.prod(size or 1 for size in self.shape) > _LARGEST_EMPTY):
            raise InvalidRequest(f"an array has the shape {list(self.shape)[:20]}, which is none")
        values = self._numbers(order, kind, count) if kind in _CODES else self._strings(order, kind, count)
        return nested(values, self.shape)

    def _numbers(self, order: str, kind: str, count: int) -> list[Any]:
        size = int(kind[1:]) * count
        if size != len(self.data):
            raise InvalidRequest(f"an array of {self.dtype}, shape {list(self.shape)}, has {size} bytes, got {len(self.data)}")
        return list(struct.unpack(f"{order}{count}{_CODES[kind]}", self.data))

    def _strings(self, order: str, kind: str, count: int) -> list[Any]:
        width = int(kind[1:]) if kind[:1] in ("U", "S") and kind[1:].isdecimal() and len(kind) < 9 else 0
        size = width * (4 if kind[:1] == "U" else 1)
        if not size or size * count != len(self.data):
            raise InvalidRequest(
                f"an array of {self.dtype[:50]!r}, shape {list(self.shape)[:20]}, cannot be read; send numbers or text"
            )
        coding = "utf-8" if kind[0] == "S" else "utf-32-be" if order == ">" else "utf-32-le"
        try:
            parts = [self.data[at : at + size].decode(coding) for at in range(0, len(self.data), size)]
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"an array of {self.dtype} holds what is no text: {error}") from None
        return [part.rstrip("\0") for part in parts]


class Tagged(NamedTuple):
    """A date, time, span, decimal or UUID, as its text (a span: days, seconds, microseconds)."""

    tag: str
    data: Any


# ---- MessagePack


def unpack(body: Buffer) -> Any:
    """Return the value that the MessagePack ``body`` is. Raises `InvalidRequest`, and `PayloadTooLarge` for what would unfold too far."""
    if len(body) > _LIGHT and count_values(body, _MOST_VALUES) > _MOST_VALUES:
        raise PayloadTooLarge(
            f"MessagePack of more than {_LIGHT} bytes may hold {_MOST_VALUES} values one by one, and this one exceeds that; send arrays as "
            "bytes (msgpack-numpy), or fewer at once"
        )
    try:
        return _revived(msgspec.msgpack.decode(body), 0)
    except NOT_JSON as error:
        raise InvalidRequest(f"Invalid MessagePack payload: {error}") from None


_WIDTHS = {
    0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4,
}  # fmt: skip
"""First byte of bytes, extensions and text -> width of their length, which follows."""
_FIXED = {
    0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
    0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4,
}  # fmt: skip
"""First byte of numbers, small extensions, lists and objects -> bytes that follow it, without what is in a list or an object."""


def count_values(body: Buffer, most: int) -> int:
    """Return how many values the MessagePack ``body`` holds, counting no further than one above ``most``.

    Where ``body`` is malformed, the count is that of what could be told. Source: github.com/msgpack/msgpack/blob/master/spec.md.
    """
    at = count = 0
    while at < len(body) and count <= most:
        code = body[at]
        count += 1
        at += 1
        if 0xA0 <= code <= 0xBF:
            at += code & 0x1F
        elif code in _WIDTHS:
            after = at + _WIDTHS[code]
            at = after + int.from_bytes(body[at:after], "big") + (0xC7 <= code <= 0xC9)
        else:
            at += _FIXED.get(code, 0)
    return count


def count_elements(value: Any) -> int:
    """Return how many elements the arrays in ``value`` have, by their shapes."""
    if isinstance(value, Array):
        return math.prod(value.shape)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(map(count_elements, parts))


def pack(value: Any) -> bytes:
    """Return ``value`` as MessagePack."""
    return msgspec.msgpack.encode(_packable(value))


def _revived(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"the payload is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, list):
        return [_revived(part, depth + 1) for part in value]
    if isinstance(value, dict):
        return _revived_object(value, depth)
    if value is None or isinstance(value, (str, bytes, bool, int, float)):
        return value
    raise InvalidRequest(f"the payload holds a MessagePack extension ({type(value).__name__}), which is not read here")


def _revived_object(value: dict[Any, Any], depth: int) -> Any:
    if b"nd" in value:
        return _array(value)
    for tag in TAGS:
        if tag.encode() in value:
            if not _is_said(value.get(b"data")):
                raise InvalidRequest(f"the payload holds a {tag.strip('_')} without its text")
            return Tagged(tag, value[b"data"])
    if not all(isinstance(key, str) for key in value):
        wrong = next(key for key in value if not isinstance(key, str))
        raise InvalidRequest(f"the payload holds an object with the key {str(wrong)[:50]!r}, which is no text")
    return {key: _revived(part, depth + 1) for key, part in value.items()}


def _is_said(data: Any) -> bool:
    """Whether this is what `Tagged` holds."""
    return isinstance(data, str) or (isinstance(data, list) and all(type(part) is int for part in data))


def _array(value: dict[Any, Any]) -> Array:
    if value.get(b"kind") in (b"O", b"V", "O", "V"):
        raise InvalidRequest("the payload holds an array of objects or records, which is not read; send arrays of numbers or text")
    dtype, data, shape = value.get(b"type"), value.get(b"data"), value.get(b"shape", [])
    dtype = dtype.decode("latin-1") if isinstance(dtype, bytes) else dtype
    if not isinstance(dtype, str) or not isinstance(data, bytes) or not isinstance(shape, list):
        raise InvalidRequest("the payload holds an array without type, data or shape")
    if not all(type(size) is int for size in shape):
        raise InvalidRequest(f"the payload holds an array of the shape {str(shape)[:100]}, which is none")
    return Array(dtype, tuple(shape), data)


def _packable(value: Any) -> Any:
    if isinstance(value, Array) and not value.shape:  # one number of NumPy's
        return {b"nd": False, b"type": value.dtype, b"data": value.data}
    if isinstance(value, Array):
        return {b"nd": True, b"type": value.dtype, b"kind": b"", b"shape": list(value.shape), b"data": value.data}
    if isinstance(value, Tagged):
        return {value.tag.encode(): True, b"data": value.data}
    if isinstance(value, list):
        return [_packable(part) for part in value]
    return {key: _packable(part) for key, part in value.items()} if isinstance(value, dict) else value


# ---- JSON


def plain(value: Any) -> Any:
    """Return ``value`` with lists for arrays and text for dates; bytes stay. Raises `InvalidRequest`."""
    if isinstance(value, Array):
        return value.plain()
    if isinstance(value, Tagged):
        return value.data
    if isinstance(value, list):
        return [plain(part) for part in value]
    return {key: plain(part) for key, part in value.items()} if isinstance(value, dict) else value


def to_document(value: Any) -> Any:
    """Return ``value`` as JSON that loses nothing."""
    if isinstance(value, Array):
        data = base64.b64encode(value.data).decode()
        return {"__ndarray__": {"dtype": value.dtype, "shape": list(value.shape), "base64": data}}
    if isinstance(value, Tagged):
        return {value.tag: True, "data": value.data}
    if isinstance(value, bytes):
        return {"__bytes__": base64.b64encode(value).decode()}
    if isinstance(value, list):
        return [to_document(part) for part in value]
    return {key: to_document(part) for key, part in value.items()} if isinstance(value, dict) else value


def from_document(value: Any) -> Any:
    """Undo `to_document`. What only looks like one of its forms stays as it is."""
    if isinstance(value, list):
        return [from_document(part) for part in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and isinstance(value.get("__bytes__"), str):
        return base64.b64decode(value["__bytes__"], validate=True)
    described = value.get("__ndarray__") if len(value) == 1 else None
    if isinstance(described, dict) and described.keys() == {"dtype", "shape", "base64"}:
        return Array(described["dtype"], tuple(described["shape"]), base64.b64decode(described["base64"], validate=True))
    if len(value) == 2 and _is_said(value.get("data")):
        for tag in TAGS:
            if tag in value:
                return Tagged(tag, value["data"])
    return {key: from_document(part) for key, part in value.items()}
