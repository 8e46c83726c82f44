"""Scoring requests and answers as CSV: with a header as MLflow wants it, or without one as SageMaker sends it."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any

from headgate.errors import InvalidRequest
from headgate.json_tensors import encode_values, parse_json
from headgate.protocols.base import InferResponse, InputPlan, Plan
from headgate.protocols.base.rows import columns, is_one_tensor
from headgate.protocols.mlflow.frames import MALFORMED, Read, read_frame, read_positions
from headgate.tensors import Buffer

_INTEGER = re.compile(r"[+-]?\d{1,20}")
_MISSING = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"})
"""Cells that are no number, in lower case: as pandas reads them."""


def read_csv(body: Buffer, plan: Plan, header: str | None) -> Read:
    """Read rows; ``header``: ``present``, ``absent``, or None where the first line must tell. Raises `InvalidRequest`."""
    try:
        lines = (line for line in csv.reader(io.StringIO(str(body, "utf-8-sig"), newline=""), strict=True) if line)
        first = next(lines, None)
        if first is None:
            raise InvalidRequest(f"{MALFORMED}Failed to parse input as CSV: there is no line in it")
        if header == "present" or (header is None and has_header(first, plan)):
            one = is_one_tensor(plan, first)
            named = _in_order(plan, len(first)) if one else [plan.by_name.get(name) for name in first]
            return read_frame(first, _columns(lines, named), plan)
        in_order = _in_order(plan, len(first))
        columns = _columns(itertools.chain([first], lines), in_order)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequest(f"{MALFORMED}Failed to parse input as CSV: {error}") from None
    if len(plan.inputs) == 1 and len(columns) == 1 and not plan.inputs[0].tail:
        return read_positions(columns[0], plan)
    return read_positions([list(row) for row in zip(*columns, strict=True)], plan)


def _columns(lines: Iterable[Sequence[str]], inputs: Sequence[InputPlan | None]) -> list[list[Any]]:
    """Return the values of each column, line by line: a list for each line would be many times as large as the text."""
    columns: list[list[Any]] = [[] for _ in inputs]
    for at, line in enumerate(lines):
        for column, value in zip(columns, _row(line, inputs, at), strict=True):
            column.append(value)
    return columns


def has_header(first: Sequence[str], plan: Plan) -> bool:
    """Whether the first line of a CSV names the columns: it does if it names an input, or if it cannot be a row.

    Raises `InvalidRequest` where it could be both: any text is a row of text, and pandas calls columns without names 0, 1, 2, ...
    """
    if any(name in plan.by_name for name in first):
        return True
    if not _fits(first, plan):
        return True
    if all(into.dtype.kind == "bytes" for into in plan.inputs) or list(first) == [str(at) for at in range(len(first))]:
        raise InvalidRequest(
            f"{MALFORMED}the first line, {str(list(first))[:200]}, may be a header or a row; say which by the content type: "
            "text/csv; header=present or text/csv; header=absent"
        )
    return False


def _fits(line: Sequence[str], plan: Plan) -> bool:
    """Whether the cells of a line are what the inputs take, in their order."""
    inputs = _in_order(plan, len(line))
    try:
        return len(line) == len(inputs) and _row(line, inputs, 0) is not None
    except InvalidRequest:
        return False


def _in_order(plan: Plan, cells: int) -> list[InputPlan]:
    return plan.inputs if len(plan.inputs) > 1 else plan.inputs * cells


def _row(line: Sequence[str], inputs: Sequence[InputPlan | None], at: int) -> list[Any]:
    if len(line) != len(inputs):
        raise InvalidRequest(f"{MALFORMED}line {at + 1} of the data has {len(line)} cells, expected {len(inputs)}")
    return [None if into is None else _cell(text, into, at) for text, into in zip(line, inputs, strict=True)]


def _cell(text: str, into: InputPlan, at: int) -> Any:
    """Return the value of a cell, by what the input takes; an empty one is null where it is no text."""
    kind, value = into.dtype.kind, text.strip()
    if kind == "bytes":
        return parse_json(text.encode()) if into.content == "json" else text
    if value.lower() in _MISSING:
        return None
    found: Any = None
    if kind == "float":
        found = _float(value)
    elif kind == "bool":
        found = {"true": True, "false": False}.get(value.lower())
    elif _INTEGER.fullmatch(value):
        found = int(value)
    if found is None:
        raise InvalidRequest(f"row {at}: {into.field}: the cell {text[:50]!r} is no {into.dtype.name}")
    return found


def _float(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def write_csv(plan: Plan, response: InferResponse) -> bytes:
    """Return a line for each row, without a header: the values of all outputs side by side, those of a tensor flat."""
    found = columns(plan, response)
    rows = zip(*found.values(), strict=True) if plan.batched else [tuple(found.values())]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(_flat(list(row)) for row in rows)
    return text.getvalue().encode()


def _flat(values: list[Any]) -> list[Any]:
    flat: list[Any] = []
    for value in values:
        if isinstance(value, list):
            flat += _flat(value)
        else:
            flat.append(encode_values(value).decode() if isinstance(value, (dict, type(None))) else value)
    return flat
