"""The four forms of data in a scoring request that is JSON, as MLflow names them, and what they are as rows.

Every reader returns the request, and the names of what it did not use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headgate.errors import InvalidRequest
from headgate.json_tensors import parse_json
from headgate.protocols.base import InferRequest, InputPlan, Plan
from headgate.protocols.base.rows import Row, are_rows, fill, is_one_tensor, read_rows, row_of, takes_documents, usage
from headgate.tensors import Buffer

FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
MALFORMED = "Invalid input. "
"""How MLflow begins the texts about bodies it cannot read at all."""
Read = tuple[InferRequest, list[str]]


def read_json(body: Buffer, plan: Plan) -> Read:
    """Read a body with exactly one of `FORMATS`, and perhaps ``params``. Raises `InvalidRequest`."""
    parsed = _parsed(body)
    if not isinstance(parsed, dict):
        raise InvalidRequest(
            f"{MALFORMED}The input must be a JSON dictionary with exactly one of {list(FORMATS)}, got {_named(parsed)}"
        )
    given = [key for key in FORMATS if key in parsed]
    if len(given) != 1:
        raise InvalidRequest(
            f"{MALFORMED}The input must be a JSON dictionary with exactly one of {list(FORMATS)}. Received dictionary with input fields: "
            f"{sorted(parsed)[:20]}"
        )
    infer, ignored = _READERS[given[0]](parsed[given[0]], plan)
    ignored += [key for key in parsed if key not in (*FORMATS, "params")]
    params = parsed.get("params")
    if params is not None and not isinstance(params, dict):
        raise InvalidRequest(f"params: expected a dictionary, got {_named(params)}")
    if params and not plan.parameters:
        ignored.append("params")
    elif params:
        infer.parameters = params
        plan.finish(infer)  # again: requests with other parameters may not share a batch with it
    return infer, ignored


def _read_split(frame: Any, plan: Plan) -> Read:
    if not isinstance(frame, dict) or "data" not in frame or set(frame) - {"data", "columns", "index"}:
        got = f"a dictionary with {sorted(frame)[:20]}" if isinstance(frame, dict) else _named(frame)
        raise InvalidRequest(
            f"{MALFORMED}Dataframe split format must be a dictionary with 'data' and optionally 'columns' and 'index', got {got}"
        )
    data, names = frame["data"], frame.get("columns")
    if not isinstance(data, list) or not all(isinstance(row, list) for row in data):
        raise InvalidRequest(f"{MALFORMED}dataframe_split.data: expected a list of rows, each a list of values")
    if names is None:
        return read_positions(data, plan)
    if not isinstance(names, list):
        raise InvalidRequest(f"{MALFORMED}dataframe_split.columns: expected a list of names, got {_named(names)}")
    names = [str(name) for name in names]
    if len(set(names)) < len(names):
        raise InvalidRequest(f"{MALFORMED}dataframe_split.columns: a name is there twice, so nobody can tell which column is meant")
    return read_frame(names, data, plan)


def _read_records(records: Any, plan: Plan) -> Read:
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        got = "a list with something else" if isinstance(records, list) else _named(records)
        raise InvalidRequest(f"{MALFORMED}Dataframe records format must be a list of records. Got {got}.")
    names = list(dict.fromkeys(name for record in records for name in record))
    # As in a data frame, what some records lack is missing there, and null.
    return read_frame(names, [[record.get(name) for name in names] for record in records], plan)


def _read_instances(instances: Any, plan: Plan) -> Read:
    if isinstance(instances, dict):
        return _read_inputs(instances, plan)
    if not isinstance(instances, list):
        raise InvalidRequest(f"{MALFORMED}instances: expected a list, got {_named(instances)}")
    if are_rows(instances, plan):
        return _read_records(instances, plan)
    return _from_rows([row_of(item, plan, f"instances[{at}]: ") for at, item in enumerate(instances)], plan), []


def _read_inputs(inputs: Any, plan: Plan) -> Read:
    """Columns, or the whole of the only input; a list of objects is a list of rows."""
    if isinstance(inputs, list) and are_rows(inputs, plan):
        return _read_records(inputs, plan)
    if not isinstance(inputs, dict) or (takes_documents(plan) and not are_rows([inputs], plan)):
        if len(plan.inputs) > 1:
            raise InvalidRequest(f"inputs: expected a dictionary with {sorted(plan.by_name)}, got {_named(inputs)}")
        inputs = {plan.inputs[0].name: inputs}
    if plan.batched and not any(isinstance(value, list) for value in inputs.values()):
        inputs = {name: [value] for name, value in inputs.items()}  # values of one row
    infer = InferRequest(len(plan.inputs))
    for into in (into for into in plan.inputs if into.name in inputs):
        value = inputs[into.name]
        if plan.batched and not isinstance(value, list):
            raise InvalidRequest(f"inputs.{into.name}: expected a list with a value for each row, got {_named(value)}")
        fill(infer, into, [_nan(part, into) for part in (value if plan.batched else [value])], plan)
    return plan.finish(infer), [name for name in inputs if name not in plan.by_name]


_READERS: Mapping[str, Callable[[Any, Plan], Read]] = {
    "dataframe_split": _read_split,
    "dataframe_records": _read_records,
    "instances": _read_instances,
    "inputs": _read_inputs,
}


def _parsed(body: Buffer) -> Any:
    try:
        return parse_json(body)
    except InvalidRequest as error:
        raise InvalidRequest(f"{MALFORMED}Ensure that input is a valid JSON formatted string. Error: {error}") from None


def _named(value: Any) -> str:
    return {dict: "a dictionary", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )


def read_frame(names: Sequence[str], data: Sequence[Sequence[Any]], plan: Plan) -> Read:
    """Read a data frame: by the names of its columns, or, for a model that takes one tensor, all of them side by side."""
    wrong = next((at for at, row in enumerate(data) if len(row) != len(names)), None)
    if wrong is not None:
        raise InvalidRequest(f"{MALFORMED}row {wrong} has {len(data[wrong])} values, and there are {len(names)} columns")
    if is_one_tensor(plan, names):
        return _from_rows([{plan.inputs[0].name: list(row)} for row in data], plan), []
    lacking = [into.name for into in plan.inputs if not into.optional and into.name not in names]
    if lacking:
        raise InvalidRequest(f"Model is missing inputs {lacking}; got the columns {list(names)[:20]}. {usage(plan)}")
    rows = [dict(zip(names, row, strict=True)) for row in data]
    # Nothing at all where something may be left out: a column of nulls is how a data frame leaves it out.
    absent = {into.name for into in plan.inputs if into.optional and all(row.get(into.name) is None for row in rows)}
    kept = [{name: value for name, value in row.items() if name not in absent} for row in rows] if absent else rows
    return _from_rows(kept, plan), [name for name in names if name not in plan.by_name]


def read_positions(data: Sequence[list[Any]], plan: Plan) -> Read:
    """Read rows without names: all inputs in their order, or the values of the one tensor."""
    if len(plan.inputs) == 1 and not plan.inputs[0].tail and all(len(row) == 1 for row in data):
        return _from_rows([{plan.inputs[0].name: row[0]} for row in data], plan), []
    return _from_rows([row_of(row, plan, f"row {at}: ") for at, row in enumerate(data)], plan), []


def _from_rows(rows: Sequence[Row], plan: Plan) -> InferRequest:
    if not plan.batched and len(rows) != 1:
        raise InvalidRequest(f"model '{plan.model}' has no batch axis: send one row, with its whole inputs, got {len(rows)}")
    floats = [into for into in plan.inputs if into.dtype.kind == "float"]
    return read_rows(
        plan, [{**row, **{into.name: _nan(row[into.name], into) for into in floats if into.name in row}} for row in rows]
    )


def _nan(value: Any, into: InputPlan) -> Any:
    """Return ``value`` with NaN for null, where the input is of floats."""
    if value is None and into.dtype.kind == "float":
        return float("nan")
    return [_nan(part, into) for part in value] if isinstance(value, list) else value
