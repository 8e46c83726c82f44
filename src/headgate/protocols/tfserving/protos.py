"""``tensorflow.TensorProto`` to the bytes of a tensor, and back.

The elements stand in ``tensor_content``, in binary form, or one by one in the field of their type; of the latter there may be fewer
than the shape says, and the last one then stands for the rest (tensorflow/core/framework/tensor.cc). Answers have them one by one,
as TensorFlow Serving writes them; floats and booleans are packed in their binary form there, too.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from headgate.errors import InvalidRequest, PayloadTooLarge
from headgate.json_tensors import pack_values
from headgate.protocols.base import InputPlan, OutputTensor, Plan
from headgate.protocols.base.wireformat import delimited, tag, varint
from headgate.protocols.tfserving.dtypes import BY_NUMBER, TYPES
from headgate.protocols.tfserving.messages import TENSOR
from headgate.tensors import Buffer, DType, elements, frame_bytes, unframe_bytes

LARGEST = 64 << 20
"""Bytes to which elements may be repeated: what a message may have that holds them all."""
_AS_THEY_ARE = {"FP32": 5, "FP64": 6, "BOOL": 11}
"""Datatypes that are packed in their binary form, and the numbers of their fields."""
_NOTHING: dict[str, Any] = {"bool": False, "bytes": b""}


def read_tensor(tensor: Any, content: Buffer, into: InputPlan, plan: Plan) -> tuple[list[int], Buffer]:
    """Return shape and bytes of the message ``tensor``, whose ``tensor_content`` is ``content``. Raises `InvalidRequest`."""
    wanted = TYPES[into.dtype.name]
    if tensor.dtype != wanted.number:
        found = BY_NUMBER.get(tensor.dtype)
        given = found.name if found else f"the DataType {tensor.dtype}"
        raise InvalidRequest(f"input '{into.name}' of model '{plan.model}' is expected to be {wanted.name}, got {given}")
    if tensor.tensor_shape.unknown_rank:
        raise InvalidRequest(f"input '{into.name}': tensor parsing error: its shape says unknown_rank; give all its dimensions")
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    plan.check(into, into.dtype.name, shape)
    count = elements(shape)
    if len(content):
        return shape, _read_content(content, count, shape, into)
    return shape, _read_elements(getattr(tensor, wanted.field), count, shape, into)


def _read_content(content: Buffer, count: int, shape: Sequence[int], into: InputPlan) -> Buffer:
    if into.dtype.kind == "bytes":
        return _read_strings(content, count, into)
    if len(content) != count * into.item_size:
        raise InvalidRequest(
            f"input '{into.name}': tensor parsing error: tensor_content has {len(content)} bytes; shape {list(shape)} of "
            f"{TYPES[into.dtype.name].name} takes {count * into.item_size}"
        )
    if into.dtype.kind == "bool" and bytes(content).translate(None, b"\x00\x01"):
        raise InvalidRequest(f"input '{into.name}': tensor parsing error: the bytes of DT_BOOL must be 0 or 1")
    return content


def _read_strings(content: Buffer, count: int, into: InputPlan) -> bytes:
    """Read strings in ``tensor_content``: the lengths of all of them as varints, then all of them."""
    data, at, lengths = bytes(content), 0, []
    for _ in range(min(count, len(data) + 1)):  # each has a byte at least; who claims more is refused below
        length = shift = 0
        while at < len(data):
            byte = data[at]
            at, length, shift = at + 1, length | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80 or shift > 35:
                break
        lengths.append(length)
    if len(lengths) != count or at + sum(lengths) != len(data):
        raise InvalidRequest(
            f"input '{into.name}': tensor parsing error: tensor_content does not hold {count} strings; send them in string_val"
        )
    items = []
    for length in lengths:
        items.append(data[at : at + length])
        at += length
    return frame_bytes(items)


def _read_elements(values: Any, count: int, shape: Sequence[int], into: InputPlan) -> bytes:
    kind = TYPES[into.dtype.name]
    given = list(values)
    if len(given) > count:
        raise InvalidRequest(
            f"input '{into.name}': tensor parsing error: {kind.field} has {len(given)} elements, shape {list(shape)} holds {count}"
        )
    if len(given) < count:
        last = given[-1] if given else _NOTHING.get(into.dtype.kind, 0)
        width = into.item_size or 4 + len(last)
        if count * width > LARGEST:
            raise PayloadTooLarge(
                f"input '{into.name}': {kind.field} has {len(given)} elements, and repeating the last one for shape {list(shape)} "
                f"would take more than the maximum allowed, {LARGEST} bytes"
            )
        given += [last] * (count - len(given))
    if into.dtype.kind == "bytes":
        return frame_bytes(given)
    if kind.field == "half_val":
        return struct.pack(f"<{count}H", *[bits & 0xFFFF for bits in given])
    try:
        return pack_values(into.dtype, given, f"input '{into.name}' ({kind.name})")
    except InvalidRequest as error:
        raise InvalidRequest(f"tensor parsing error: {kind.field}: {error}") from None


# ---- answers


def output_entry(output: OutputTensor) -> list[Buffer]:
    """Return, in parts, an entry of the map ``outputs`` of a ``PredictResponse``."""
    name = delimited(1, output.name.encode())
    head, data = _head(output.dtype.name, tuple(output.shape)), _written(output)
    front = tag(2) + varint(len(head) + sum(map(len, data)))
    size = len(name) + len(front) + len(head) + sum(map(len, data))
    return [tag(1) + varint(size) + name + front + head, *data]


@lru_cache(10_000)
def _head(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Return datatype and shape, as they stand in front of the elements."""
    tensor = TENSOR(dtype=TYPES[dtype].number)
    tensor.tensor_shape.SetInParent()  # a scalar has a shape, too
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return bytes(tensor.SerializeToString())


def _written(output: OutputTensor) -> list[Buffer]:
    """Return the elements as a field of the message, in parts."""
    if not len(output.data):
        return []
    number = _AS_THEY_ARE.get(output.dtype.name)
    if number is not None:
        return [tag(number), varint(len(output.data)), output.data]
    tensor = TENSOR()
    getattr(tensor, TYPES[output.dtype.name].field).extend(_elements(output.dtype, output))
    return [tensor.SerializeToString()]


def _elements(dtype: DType, output: OutputTensor) -> list[Any]:
    if dtype.kind == "bytes":
        return unframe_bytes(output.data, elements(output.shape))
    return list(memoryview(output.data).cast("B").cast(dtype.typecode or "H"))  # type: ignore[call-overload]  # any typecode
