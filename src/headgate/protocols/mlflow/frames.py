"""The four forms of data in a scoring request that is JSON, as MLflow names them, and what they are as rows.

Every reader returns the request, and the names of what it did not use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headgate.errors import InvalidRequest
from headgate.json_tensors import parse_json
from headgate.protocols.base import InferRequest, Plan
from headgate.protocols.base.rows import are_rows, is_one_tensor, read_columns, row_of, takes_documents, usage
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
        # A frame of one column, for a model whose only input is one value a row: the row is that value.
        alone = plan.batched and len(plan.inputs) == 1 and not plan.inputs[0].tail
        return read_positions([row[0] if alone and len(row) == 1 else row for row in data], plan)
    if not isinstance(names, list):
        raise InvalidRequest(f"{MALFORMED}dataframe_split.columns: expected a list of names, got {_named(names)}")
    wrong = next((at for at, row in enumerate(data) if len(row) != len(names)), None)
    if wrong is not None:
        raise InvalidRequest(f"{MALFORMED}row {wrong} has {len(data[wrong])} values, and there are {len(names)} columns")
    return read_frame([str(name) for name in names], [[row[at] for row in data] for at in range(len(names))], plan)


def _read_records(records: Any, plan: Plan) -> Read:
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        got = "a list with something else" if isinstance(records, list) else _named(records)
        raise InvalidRequest(f"{MALFORMED}Dataframe records format must be a list of records. Got {got}.")
    names = list(dict.fromkeys(name for record in records for name in record))
    # As in a data frame, what some records lack is missing there, and null.
    return read_frame(names, [[record.get(name) for record in records] for name in names], plan)


def _read_instances(instances: Any, plan: Plan) -> Read:
    if isinstance(instances, dict):
        return _read_inputs(instances, plan)
    if not isinstance(instances, list):
        raise InvalidRequest(f"{MALFORMED}instances: expected a list, got {_named(instances)}")
    if are_rows(instances, plan):
        return _read_records(instances, plan)
    return read_positions(instances, plan, "instances[{}]: ")


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
    for name, value in inputs.items() if plan.batched else ():
        if name in plan.by_name and not isinstance(value, list):
            raise InvalidRequest(f"inputs.{name[:200]}: expected a list with a value for each row, got {_named(value)}")
    whole = inputs if plan.batched else {name: [value] for name, value in inputs.items()}
    return _from_columns(whole, plan), [name for name in inputs if name not in plan.by_name]


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


def read_frame(names: Sequence[str], columns: Sequence[list[Any]], plan: Plan) -> Read:
    """Read a data frame: by the names of its columns, or, for a model that takes one tensor, all of them side by side."""
    if len(set(names)) < len(names):
        raise InvalidRequest(f"{MALFORMED}a column is there twice, so nobody can tell which one is meant: {list(names)[:20]}")
    if is_one_tensor(plan, names):
        return _from_columns({plan.inputs[0].name: [list(row) for row in zip(*columns, strict=True)]}, plan), []
    table = dict(zip(names, columns, strict=True))
    lacking = [into.name for into in plan.inputs if not into.optional and into.name not in table]
    if lacking:
        raise InvalidRequest(f"Model is missing inputs {lacking}; got the columns {list(names)[:20]}. {usage(plan)}")
    # A column of nulls is how a data frame leaves out what may be left out.
    for into in plan.inputs:
        if into.optional and all(value is None for value in table.get(into.name, ())):
            table.pop(into.name, None)
    if not plan.batched and all(into.shape == [-1] for into in plan.inputs):
        table = {name: [values] for name, values in table.items()}  # the frame is the input: each column a whole tensor
    return _from_columns(table, plan), [name for name in names if name not in plan.by_name]


def read_positions(rows: Sequence[Any], plan: Plan, where: str = "row {}: ") -> Read:
    """Read rows without names: the value of the only input each, or a list of all inputs in their order."""
    if len(plan.inputs) == 1:
        return _from_columns({plan.inputs[0].name: list(rows)}, plan), []
    for at, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(plan.inputs):
            row_of(row, plan, where.format(at))  # says what is wrong
    return _from_columns({name: [row[at] for row in rows] for at, name in enumerate(plan.by_name)}, plan), []


def _from_columns(table: Mapping[str, list[Any]], plan: Plan) -> InferRequest:
    rows = max((len(values) for values in table.values()), default=0)
    if not plan.batched and rows != 1:
        raise InvalidRequest(f"model '{plan.model}' has no batch axis: send one row, with its whole inputs, got {rows}")
    floats = [into.name for into in plan.inputs if into.dtype.kind == "float" and into.name in table]
    return read_columns(plan, {**table, **{name: [_nan(value) for value in table[name]] for name in floats}})


def _nan(value: Any) -> Any:
    """Return ``value`` with NaN for null."""
    if value is None:
        return float("nan")
    return [_nan(part) for part in value] if isinstance(value, list) else value
