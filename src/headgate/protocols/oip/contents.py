"""The tensors and the parameters of a request that came as a protocol buffer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headgate.errors import InvalidRequest, PayloadTooLarge, Unsupported
from headgate.json_tensors import pack_values
from headgate.protocols.base import InputPlan
from headgate.protocols.base.wireformat import fields, tag, varint
from headgate.protocols.oip.body import check_parameters
from headgate.protocols.oip.inputs import check_blob
from headgate.tensors import Buffer, elements, frame_bytes

SLOTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip
"""Datatype -> the field of ``InferTensorContents`` that holds it. FP16 and BF16 have none."""
_WIDEST = {slot: dtype for dtype, slot in SLOTS.items()}
_INPUTS, _CONTENTS, _RAW = 5, 5, 7
"""Numbers of the fields on the way to a tensor: ``inputs`` of the request, ``contents`` of an input, ``raw_input_contents``."""
_MOST_TYPED = 4 << 20
"""Elements of a tensor that may come one by one: each costs the gateway time, and up to eight bytes where it came as one."""
_MOST_FIELDS = 1024
"""Fields of a message up to which it is looked at by hand."""
_AS_THEY_ARE = {"FP32": 6, "FP64": 7}
"""Datatypes that are packed in their binary form, and the numbers of their slots."""


def check_raw(data: Buffer, shape: Sequence[int], plan: InputPlan, model: str) -> Buffer:
    """Return a tensor that came raw, having checked it. Raises `InvalidRequest`."""
    expected = elements(shape) * plan.item_size
    if plan.item_size and len(data) != expected:
        raise InvalidRequest(
            f"input byte size mismatch for input '{plan.name}' for model '{model}'. Expected {expected}, got {len(data)}"
        )
    if plan.dtype.kind in ("bool", "bytes"):
        check_blob(plan, shape, memoryview(data), model)
    return data


def pack_typed(contents: Any, shape: Sequence[int], plan: InputPlan, model: str) -> bytes:
    """Return the bytes of a tensor whose elements stand in a slot of ``contents``. Raises `InvalidRequest`, `PayloadTooLarge`."""
    filled = contents.ListFields()
    count = elements(shape)
    if not filled:
        if count:
            raise InvalidRequest(no_data(plan.name, model))
        return b""
    slot = SLOTS.get(plan.dtype.name)
    for field, _ in filled:
        if field.name != slot:
            raise InvalidRequest(_misplaced(field.name, plan, model))
    values = filled[0][1]
    if len(values) != count:
        raise InvalidRequest(_miscounted(len(values), shape, plan, model))
    if plan.dtype.name in _AS_THEY_ARE:
        written: bytes = contents.SerializeToString()
        size = count * plan.item_size
        head = tag(_AS_THEY_ARE[plan.dtype.name]) + varint(size)
        if written.startswith(head):  # else a field that we do not know stands before it
            return written[len(head) : len(head) + size]
    if count > _MOST_TYPED:
        raise PayloadTooLarge(
            f"input '{plan.name}': '{slot}' has {count} elements, {_MOST_TYPED} may come one by one; send them in raw_input_contents"
        )
    if plan.dtype.kind == "bytes":
        return frame_bytes(values)
    return pack_values(plan.dtype, values, f"input '{plan.name}'")


def no_data(name: str, model: str) -> str:
    """Say that an input has come without data."""
    return f"unable to find data for input tensor '{name}' for model '{model}' in request."


def _misplaced(found: str, plan: InputPlan, model: str) -> str:
    slot = SLOTS.get(plan.dtype.name)
    place = f"'{slot}', not '{found}'" if slot else "'raw_input_contents': no typed field holds this datatype"
    return (
        f"unexpected explicit tensor data for input tensor '{plan.name}' for model '{model}' of type '{_WIDEST[found]}', "
        f"expected datatype '{plan.dtype.name}'; it belongs into {place}"
    )


def _miscounted(got: int, shape: Sequence[int], plan: InputPlan, model: str) -> str:
    count = elements(shape)
    if plan.dtype.kind == "bytes":
        return (
            f"unexpected number of string elements {got} for inference input '{plan.name}' for model '{model}', expecting {count}"
        )
    return (
        f"input byte size mismatch for input '{plan.name}' for model '{model}'. Expected {count * plan.item_size}, got "
        f"{got * plan.item_size}: shape {list(shape)} holds {count} elements, '{SLOTS[plan.dtype.name]}' has {got}"
    )


def read_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as Python values, having checked them. Raises `InvalidRequest` or `Unsupported`."""
    values = {}
    for key, value in given.items():
        kind = value.WhichOneof("parameter_choice")
        if kind is None:
            raise InvalidRequest(f"parameter '{key[:100]}': it has no value; set one of bool_param, int64_param, string_param, ...")
        values[key] = getattr(value, kind)
    return values


def check_input_parameters(name: str, given: Mapping[str, Any]) -> None:
    """Refuse the parameters of an input that mean something we do not offer. Raises `InvalidRequest` or `Unsupported`."""
    if "shared_memory_region" in given:
        raise Unsupported(f"input '{name}': Client shared memory is disabled; send the data in raw_input_contents instead")
    check_parameters(read_parameters(given))


# ---- where the bytes of the tensors lie


def split_raw(message: Buffer) -> tuple[bytes, list[memoryview]]:
    """Return a request without its ``raw_input_contents``, and those, uncopied.

    Raises `ValueError` where it is broken, or has so many fields that a message class had better read it.
    """
    view = memoryview(message)
    rest, blobs, at = [], [], 0
    for count, field in enumerate(fields(message)):
        if count == _MOST_FIELDS:
            raise ValueError(f"more than {_MOST_FIELDS} fields")
        if field.number == _RAW and field.delimited:
            rest.append(view[at : field.at])
            blobs.append(view[field.start : field.stop])
            at = field.stop
    return b"".join((*rest, view[at:])), blobs


def find_tensors(message: Buffer) -> list[tuple[int, int]]:
    """Return where the tensors of a request start and stop, in the order of its inputs.

    They are its ``raw_input_contents``; where it has none, the floats in the contents of each input. Raises `ValueError`.
    """
    found = [field for field in fields(message) if field.delimited]
    blobs = [(field.start, field.stop) for field in found if field.number == _RAW]
    if blobs:
        return blobs
    return [
        (slot.start, slot.stop)
        for tensor in found
        if tensor.number == _INPUTS
        for contents in fields(message, tensor.start, tensor.stop)
        if contents.delimited and contents.number == _CONTENTS
        for slot in fields(message, contents.start, contents.stop)
        if slot.delimited and slot.number in _AS_THEY_ARE.values()
    ]
