"""`POST /predict/{deployment}`: plain rows in, plain rows out, for a shell, a web page or a quick script.

A row is an object with one member per input: ``{"age": 3, "city": "Oslo"}``; a tensor input takes a (nested) list of the row's shape.
One row gives one row, a list of rows a list of rows. A model without a batch axis takes one object that holds its whole inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from headgate.errors import InvalidRequest, did_you_mean
from headgate.json_tensors import encode_values, pack_nested, parse_json, unpack_values
from headgate.protocols.base import InferRequest, InferResponse, InputPlan, OutputTensor, Plan, Protocol, Reply, Request, Route
from headgate.tensors import Buffer, elements


class Rows(Protocol):
    """`/predict`."""

    name: ClassVar[str] = "rows"
    routes: ClassVar[Sequence[Route]] = (
        Route("POST", "/predict/{model}", "infer"),
        Route("POST", "/predict/{model}/versions/{version}", "infer"),
    )

    def decode(self, request: Request, body: Buffer, plan: Plan) -> InferRequest:
        """Read one row or a list of rows."""
        parsed = parse_json(body)
        many = isinstance(parsed, list)
        rows = parsed if many else [parsed]
        if many and not plan.batched:
            raise InvalidRequest(
                f"model '{plan.model}' has no batch axis: send one object with its inputs, not a list. {_usage(plan)}"
            )
        for at, row in enumerate(rows):
            _check_row(row, f"row {at}: " if many else "", plan)
        infer = InferRequest(len(plan.inputs))
        infer.wire = (many, plan.batched)
        for into in plan.inputs:
            _fill(infer, into, rows, plan, many)
        return plan.finish(infer)

    def encode(self, request: InferRequest, response: InferResponse) -> Reply:
        """Write one row or a list of them; outputs are the members."""
        names = [output.name for output in response.outputs]
        columns = [_column(output) for output in response.outputs]
        many, batched = request.wire
        if many:
            return Reply(encode_values([dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]))
        return Reply(encode_values(dict(zip(names, [column[0] for column in columns] if batched else columns, strict=True))))


def _check_row(row: Any, where: str, plan: Plan) -> None:
    if not isinstance(row, dict):
        raise InvalidRequest(f"{where}expected an object with the model's inputs, got {type(row).__name__}. {_usage(plan)}")
    for key in row:
        if key not in plan.by_name:
            raise InvalidRequest(
                f"{where}model '{plan.model}' has no input {key[:200]!r}{did_you_mean(key, plan.by_name) or ';'} "
                f"it takes {sorted(plan.by_name)}"
            )


def _fill(infer: InferRequest, into: InputPlan, rows: list[Any], plan: Plan, many: bool) -> None:
    missing = [at for at, row in enumerate(rows) if into.name not in row]
    if missing and len(missing) == len(rows) and into.optional:
        return
    if missing:
        where = f"row {missing[0]}: " if many else ""
        said = "is missing, and other rows have it; give it for all rows or for none" if into.optional else "is missing"
        raise InvalidRequest(f"{where}input '{into.name}' ({into.dtype.name}) {said}. {_usage(plan)}")
    values = [row[into.name] for row in rows]
    field = f"input '{into.name}'"
    if not plan.batched:
        shape = _shape_of(values[0], into)
        data: Any = values[0]
    else:
        if into.tail == [1]:  # a column of width one may be written without its brackets
            values = [value if isinstance(value, list) else [value] for value in values]
        tail = _shape_of(values[0], into) if values else [max(size, 0) for size in into.tail]
        shape, data = [len(rows), *tail], values
    plan.check(into, into.dtype.name, shape)
    infer.shapes[into.index] = shape
    try:
        infer.data[into.index] = pack_nested(into.dtype, shape, data, field)
    except InvalidRequest:
        for at, value in enumerate(values if plan.batched else ()):
            pack_nested(into.dtype, shape[1:], value, f"row {at}: {field}" if many else field)  # says the same of the row alone
        raise


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


def _column(output: OutputTensor) -> Any:
    values = unpack_values(output.dtype, output.data, elements(output.shape), f"output '{output.name}'")
    return nested(values, output.shape)


def nested(values: list[Any], shape: Sequence[int]) -> Any:
    """Return flat ``values`` as lists nested by ``shape``; the bare value for a scalar."""
    if not shape:
        return values[0]
    for size in reversed(shape[1:]):
        if size == 0:
            return [[] for _ in range(shape[0])]
        values = [values[at : at + size] for at in range(0, len(values), size)]
    return values


def _usage(plan: Plan) -> str:
    required = [into for into in plan.inputs if not into.optional] or plan.inputs
    fields = ", ".join(f'"{into.name}": {_kind(into)}' for into in required)
    return f"A request looks like {{{fields}}}"


def _kind(into: InputPlan) -> str:
    text = f"<{into.dtype.name}>"
    for size in reversed(into.tail):
        text = f"[{text}{f' x{size}' if size >= 0 else ', ...'}]"
    return text
