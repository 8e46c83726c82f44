"""Rows of JSON values to the inputs of a request, and answers back to rows: what the protocols share that send no tensors.

A row is an object with one member per input; the value of a tensor input is a (nested) list of the row's shape, of which a list of one
may be written without its brackets. A model without a batch axis takes one row, which holds its whole inputs.

A BYTES input is text, unless its signature says more (`headgate.package.signature.TensorSpec.content`): of ``json`` the member is the
value itself, of ``binary`` a string in base64; the same holds for outputs.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any

from headgate.errors import InvalidRequest, ModelFailed, did_you_mean
from headgate.json_tensors import encode_values, pack_nested, unpack_values
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base.exchange import InferRequest, InferResponse
from headgate.protocols.base.plan import InputPlan, Plan
from headgate.tensors import DTYPES, elements, frame_bytes, unframe_bytes

Row = Mapping[str, Any]

# ---- rows to a request


def read_rows(plan: Plan, rows: Sequence[Row], *, numbered: bool = True) -> InferRequest:
    """Return the request that ``rows`` are; members no input has are not looked at. Raises `InvalidRequest`.

    ``numbered``: messages say which row is wrong.
    """
    infer = InferRequest.of(len(plan.inputs))
    for into in plan.inputs:
        missing = [at for at, row in enumerate(rows) if into.name not in row]
        if missing and len(missing) == len(rows) and into.optional:
            continue
        if missing:
            where = f"row {missing[0]}: " if numbered else ""
            said = "is missing, and other rows have it; give it for all rows or for none" if into.optional else "is missing"
            raise InvalidRequest(f"{where}{into.field} ({into.dtype.name}) {said}. {usage(plan)}")
        fill(infer, into, [row[into.name] for row in rows], plan, numbered=numbered)
    return plan.finish(infer)


def read_columns(plan: Plan, columns: Mapping[str, list[Any]]) -> InferRequest:
    """Return the request of which ``columns`` hold, by input, a value for each row; columns no input has are not looked at.

    Raises `InvalidRequest`.
    """
    infer = InferRequest.of(len(plan.inputs))
    for into in plan.inputs:
        if into.name in columns:
            fill(infer, into, columns[into.name], plan)
        elif not into.optional:
            raise InvalidRequest(f"{into.field} ({into.dtype.name}) is missing. {usage(plan)}")
    return plan.finish(infer)


def fill(infer: InferRequest, into: InputPlan, values: list[Any], plan: Plan, *, numbered: bool = True) -> None:
    """Set one input of a request: ``values`` has one for each row (without a batch axis: the one). Raises `InvalidRequest`."""
    if into.content == "json":
        values = [as_text(value) for value in values]
    if not plan.batched:
        data: Any = [values[0]] if into.tail == [1] and not isinstance(values[0], list) else values[0]
        shape = _shape_of(data, into)
    else:
        if into.tail == [1]:  # a column of width one may be written without its brackets
            values = [value if isinstance(value, list) else [value] for value in values]
        tail = _shape_of(values[0], into) if values else [max(size, 0) for size in into.tail]
        shape, data = [len(values), *tail], values
    plan.check(into, into.dtype.name, shape)
    infer.shapes[into.index] = shape
    try:
        infer.data[into.index] = _pack(into, shape, data, into.field)
    except InvalidRequest:
        for at, value in enumerate(values if plan.batched else ()):
            _pack(into, shape[1:], value, f"row {at}: {into.field}" if numbered else into.field)  # says the same of the row alone
        raise


def check_names(row: Row, where: str, plan: Plan) -> None:
    """Refuse a member that no input is called. Raises `InvalidRequest` with the likely spelling."""
    for key in row:
        if key not in plan.by_name:
            raise InvalidRequest(
                f"{where}model '{plan.model}' has no input {key[:200]!r}{did_you_mean(key, plan.by_name) or ';'} "
                f"it takes {sorted(plan.by_name)}"
            )


def row_of(value: Any, plan: Plan, where: str) -> Row:
    """Return the row that a value without names is: the one input, or a list of all inputs in their order. Raises `InvalidRequest`."""
    if len(plan.inputs) == 1:
        return {plan.inputs[0].name: value}
    if not isinstance(value, list) or len(value) != len(plan.inputs):
        got = f"a list of {len(value)}" if isinstance(value, list) else type(value).__name__
        raise InvalidRequest(
            f"{where}expected an object with the inputs {sorted(plan.by_name)}, or a list of their {len(plan.inputs)} values in the order "
            f"{list(plan.by_name)}, got {got}. {usage(plan)}"
        )
    return dict(zip(plan.by_name, value, strict=True))


def takes_documents(plan: Plan) -> bool:
    """Whether the model takes one JSON value, whatever it is, so that an object may be that value and no row."""
    return len(plan.inputs) == 1 and plan.inputs[0].content == "json"


def are_rows(items: Sequence[Any], plan: Plan) -> bool:
    """Whether these are objects with a member for each input, not values of the only one."""
    if not items or not all(isinstance(item, dict) for item in items):
        return False
    return not takes_documents(plan) or all(item.keys() == {plan.inputs[0].name} for item in items)


def is_one_tensor(plan: Plan, columns: Sequence[str]) -> bool:
    """Whether columns of these names, side by side, are the one input of a model: a tensor whose rows are lists, called otherwise."""
    return bool(columns) and len(plan.inputs) == 1 and len(plan.inputs[0].tail) == 1 and plan.inputs[0].name not in columns


# ---- answers to rows


def columns(plan: Plan, response: InferResponse) -> dict[str, Any]:
    """Return the outputs by name, as nested lists with the batch axis outermost. Raises `InvalidRequest` for text that is not UTF-8."""
    return {
        output.name: nested(_values(spec, output.data, elements(output.shape)), output.shape)
        for spec, output in zip(plan.signature.outputs, response.outputs, strict=True)
    }


def answer_rows(plan: Plan, response: InferResponse) -> list[dict[str, Any]]:
    """Return an object with all outputs for each row. Without a batch axis there is one, of whole outputs.

    In one part of an answer in parts, an output that is always a list of one is that one.
    """
    found = columns(plan, response)
    if plan.streams:
        ones = {spec.name for spec in plan.signature.outputs if spec.shape == (1,)}
        return [{name: value[0] if name in ones else value for name, value in found.items()}]
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)] if plan.batched else [found]


def predictions(plan: Plan, response: InferResponse) -> list[Any]:
    """Return one prediction for each row: the value of the only output, or an object of all. Without a batch axis there is one."""
    rows = answer_rows(plan, response)
    return rows if len(plan.outputs) > 1 else [value for row in rows for value in row.values()]


def nested(values: list[Any], shape: Sequence[int]) -> Any:
    """Return flat ``values`` as lists nested by ``shape``; the bare value for a scalar."""
    if not shape:
        return values[0]
    for size in reversed(shape[1:]):
        if size == 0:
            return [[] for _ in range(shape[0])]
        values = [values[at : at + size] for at in range(0, len(values), size)]
    return values


# ---- words for people


def usage(plan: Plan) -> str:
    """Say in a sentence what a row looks like, without what may be left out."""
    required = [into for into in plan.inputs if not into.optional] or plan.inputs
    fields = ", ".join(f'"{into.name}": {_kind(into)}' for into in required)
    return f"A request looks like {{{fields}}}"


def example_row(signature: Signature) -> dict[str, Any]:
    """Return a row that the model's signature allows, for people to start from."""
    skip = 1 if signature.batched else 0
    required = [spec for spec in signature.inputs if not spec.optional]
    shapes = {spec.name: () if signature.streams and spec.shape == (1,) else spec.shape[skip:] for spec in signature.inputs}
    return {spec.name: _example(spec, shapes[spec.name]) for spec in required or signature.inputs}


def _example(spec: TensorSpec, shape: Sequence[int]) -> Any:
    kind = spec.content or DTYPES[spec.dtype].kind
    value: Any = {"float": 0.5, "bool": True, "bytes": "text", "binary": "AAEC", "json": {"key": "value"}}.get(kind, 1)
    for size in reversed(shape):
        value = [value] * (2 if size < 0 else size)
    return value


def _kind(into: InputPlan) -> str:
    text = f"<{into.dtype.name}>"
    for size in reversed(into.tail):
        text = f"[{text}{f' x{size}' if size >= 0 else ', ...'}]"
    return text


# ---- one tensor


def _shape_of(value: Any, into: InputPlan) -> list[int]:
    """Return the shape of one row's value: as declared where that is fixed, else as it is written."""
    if into.fixed:
        return into.tail
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape + [0] * (len(into.tail) - len(shape)) if shape and shape[-1] == 0 else shape


def _pack(into: InputPlan, shape: Sequence[int], data: Any, field: str) -> bytes:
    packed = pack_nested(into.dtype, shape, data, field)
    if into.content != "binary":
        return packed
    try:
        items = [item.translate(None, b"\r\n") for item in unframe_bytes(packed, elements(shape))]  # MIME breaks its lines
        return frame_bytes(base64.b64decode(item, validate=True) for item in items)
    except binascii.Error as error:
        raise InvalidRequest(f"{field}: holds any bytes, so its strings are base64, and one of them is not: {error}") from None


def _values(spec: TensorSpec, data: Any, count: int) -> list[Any]:
    if spec.content == "binary":
        return [base64.b64encode(item).decode() for item in unframe_bytes(data, count)]
    values = unpack_values(DTYPES[spec.dtype], data, count, f"output '{spec.name}'")
    return [_document(spec, text) for text in values] if spec.content == "json" else values


def as_text(value: Any) -> str:
    """Return a JSON value as JSON."""
    try:
        return encode_values(value).decode()
    except OverflowError:  # an integer beyond 64 bits
        return json.dumps(value, separators=(",", ":"))


def _document(spec: TensorSpec, text: str) -> Any:
    try:
        value = json.loads(text)
        encode_values(value)
    except (ValueError, RecursionError) as error:
        raise ModelFailed(f"output '{spec.name}': the model returned text that should be JSON and is not: {error}") from None
    except OverflowError:
        raise ModelFailed(f"output '{spec.name}': the model returned an integer beyond 64 bits") from None
    return value
