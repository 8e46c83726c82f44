"""The data of an input, in each of its forms: JSON, a blob behind the JSON, or the whole body."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Sequence

from headgate.errors import InvalidRequest, Unsupported
from headgate.json_tensors import check_types, pack_nested, pack_values
from headgate.protocols.base import InferRequest, InputPlan, Plan
from headgate.protocols.oip.body import BytesInput, FloatInput, Input, check_parameters
from headgate.tensors import Buffer, elements, frame_bytes, unframe_bytes


def pack(tensor: Input, plan: InputPlan) -> bytes:
    """Return the bytes of an input whose data is JSON. Raises `InvalidRequest`."""
    data = tensor.data
    field = plan.field
    if data is None:
        raise InvalidRequest(
            f"{field}: Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
            "'shared_memory_region' in 'parameters'. But no field is set"
        )
    kind = type(tensor)
    if kind is Input or len(data) != math.prod(tensor.shape):
        return pack_nested(plan.dtype, tensor.shape, data, field)
    if kind is not FloatInput and kind is not BytesInput:
        check_types(plan.dtype, data, field)
    return pack_values(plan.dtype, data, field)


def pack_binary(tensor: Input, plan: InputPlan, blobs: memoryview | None, at: int, plans: Plan) -> tuple[Buffer, int]:
    """Return the bytes of an input that has parameters, and where the next blob starts."""
    parameters = tensor.parameters or {}
    if "shared_memory_region" in parameters:
        raise Unsupported(f"input '{plan.name}': Client shared memory is disabled; send the data in binary form instead")
    check_parameters(parameters)
    size = parameters.get("binary_data_size")
    if size is None:
        is_base64 = plan.dtype.kind == "bytes" and parameters.get("content_type") == "base64"
        return (_pack_base64 if is_base64 else pack)(tensor, plan), at
    if tensor.data is not None:
        raise InvalidRequest(
            f"input '{plan.name}': Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
            "'shared_memory_region' in 'parameters'. But set 'data' 'binary_data_size'"
        )
    if type(size) is not int or size < 0:
        raise InvalidRequest(f"input '{plan.name}': 'binary_data_size' must be an integer of 0 or more, got {str(size)[:50]!r}")
    if blobs is None:
        raise InvalidRequest(
            "must specify valid 'Infer-Header-Content-Length' in request header (that is Inference-Header-Content-Length) and "
            "'binary_data_size' when passing inputs in binary data format"
        )
    expected = elements(tensor.shape) * plan.item_size
    if plan.item_size and size != expected:
        raise InvalidRequest(
            f"input byte size mismatch for input '{plan.name}' for model '{plans.model}'. Expected {expected}, got {size}"
        )
    data = blobs[at : at + size]
    if len(data) != size:
        raise InvalidRequest(
            f"unexpected size for input '{plan.name}', expecting {size - len(data)} additional bytes for model '{plans.model}'"
        )
    check_blob(plan, tensor.shape, data, plans.model)
    return data, at + size


def _pack_base64(tensor: Input, plan: InputPlan) -> bytes:
    """Return the bytes of an input whose strings stand for bytes, by MLServer's content type ``base64``. Raises `InvalidRequest`."""
    try:
        return frame_bytes(
            base64.b64decode(item, validate=True) for item in unframe_bytes(pack(tensor, plan), elements(tensor.shape))
        )
    except binascii.Error as error:
        raise InvalidRequest(f"{plan.field}: its content_type is base64, and one of its strings is not: {error}") from None


def check_blob(plan: InputPlan, shape: Sequence[int], data: memoryview, model: str) -> None:
    """Refuse a BYTES blob whose framing is broken and a BOOL blob with anything but 0 and 1. Raises `InvalidRequest`."""
    if plan.dtype.kind == "bytes":
        try:
            unframe_bytes(data, elements(shape))
        except ValueError as error:
            raise InvalidRequest(
                f"incomplete string length indicator or unexpected number of string elements for inference input '{plan.name}' "
                f"for model '{model}', expecting {elements(shape)}: {error}"
            ) from None
    elif plan.dtype.kind == "bool" and bytes(data).translate(None, b"\x00\x01"):
        raise InvalidRequest(f"input '{plan.name}': BOOL bytes must be 0 or 1")


def header_length(text: str, body: int) -> int:
    """Return how many of the ``body`` bytes are JSON, by the header ``text``. Raises `InvalidRequest` if it cannot be."""
    if not text.isascii() or not text.isdecimal() or len(text) > 19:
        raise InvalidRequest(f"Unable to parse Inference-Header-Content-Length, got: {text[:50]}")
    size = int(text)
    if size > body:
        raise InvalidRequest(
            f"Unable to parse Inference-Header-Content-Length, got: {size}; inference header size should be in range (0, {body})"
        )
    return size


def read_raw(body: memoryview, plan: Plan) -> InferRequest:
    """The whole body is the one input; one row; all outputs go back in binary form."""
    if len(plan.inputs) != 1:
        raise InvalidRequest(
            f"Raw request must only have 1 input (found 1) to be deduced but got {len(plan.inputs)} inputs "
            f"in '{plan.model}' model configuration"
        )
    only = plan.inputs[0]
    if only.tail.count(-1) > 1:
        raise InvalidRequest(
            f"The shape of the raw input '{only.name}' can not be deduced because there are more than one variable-sized dimension"
        )
    request = InferRequest.of(1)
    data: Buffer = body
    if only.dtype.kind == "bytes":
        tail = [1 if size < 0 else size for size in only.tail]
        if elements(tail) != 1:
            raise InvalidRequest(f"The shape of the raw input '{only.name}' can not be deduced: a raw request carries one element")
        data = frame_bytes([bytes(body)])
    else:
        known = elements(size for size in only.tail if size >= 0) * only.item_size
        whole, rest = divmod(len(body), known) if known else (0, len(body))
        if rest or (-1 not in only.tail and whole != 1):
            raise InvalidRequest(
                f"input byte size mismatch for input '{only.name}' for model '{plan.model}'. Expected {known}, got {len(body)}"
            )
        tail = [whole if size < 0 else size for size in only.tail]
        check_blob(only, tail, body, plan.model)
    request.shapes[0] = [1, *tail] if plan.batched else tail
    request.data[0] = data
    request.outputs = [(index, True) for index in plan.outputs.values()]
    return plan.finish(request)
