"""Triton's classification extension: of an output, the largest values of each row, as ``value:index`` or ``value:index:label``."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from headgate.errors import InvalidRequest
from headgate.json_tensors import unpack_values
from headgate.protocols.base import OutputTensor, Plan
from headgate.tensors import DTYPES, elements, frame_bytes

_BYTES = DTYPES["BYTES"]


class Classes(NamedTuple):
    """What a request asks for, of one output."""

    most: int
    """Values of each row."""
    batched: bool
    """The output has a batch axis; else all of it is one row."""
    labels: Sequence[str] = ()
    """What they are called, by index."""


def wanted(value: Any, index: int, plan: Plan) -> Classes | None:
    """Return what the parameter ``classification`` of the output ``index`` asks for; 0 is nothing. Raises `InvalidRequest`."""
    spec = plan.signature.outputs[index]
    if type(value) is not int or not 0 <= value < 1 << 31:
        raise InvalidRequest(
            f"output '{spec.name}': parameter 'classification': expected the number of classes as an integer of 0 or more, got "
            f"{str(value)[:50]!r}"
        )
    if value and DTYPES[spec.dtype].kind in ("bytes", "bool"):
        raise InvalidRequest(f"class result not available for output '{spec.name}' due to unsupported type '{spec.dtype}'")
    return Classes(value, plan.batched, spec.labels) if value else None


def with_classes(outputs: Sequence[OutputTensor], wanted: Mapping[int, Classes]) -> list[OutputTensor]:
    """Return all outputs, and in place of those that are ``wanted`` their classes."""
    return [classified(output, wanted[index]) if index in wanted else output for index, output in enumerate(outputs)]


def classified(output: OutputTensor, classes: Classes) -> OutputTensor:
    """Return the largest values of each row of ``output``, the largest first, and of equal ones that with the lower index.

    Each is the text ``value:index`` (floats with six digits), and ``:label`` where it has one. So the shape is ``[batch, n]``, or ``[n]``
    without a batch axis; ``n`` is the number of values of a row where fewer were asked for than there are.
    """
    values = unpack_values(output.dtype, output.data, elements(output.shape), f"output '{output.name}'")
    rows = output.shape[0] if classes.batched else 1
    size = len(values) // rows if rows else elements(output.shape[1:])
    most = min(classes.most, size)
    form = "%f:%d" if output.dtype.kind == "float" else "%d:%d"
    texts = [
        (form % (values[at], at - start) + _label(classes.labels, at - start)).encode()
        for start in range(0, rows * size, size or 1)
        for at in heapq.nsmallest(most, range(start, start + size), key=lambda at: _order(values[at]))
    ]
    return OutputTensor(output.name, _BYTES, [rows, most] if classes.batched else [most], frame_bytes(texts))


def _label(labels: Sequence[str], index: int) -> str:
    return f":{labels[index]}" if index < len(labels) and labels[index] else ""


def _order(value: float) -> tuple[bool, float]:
    """The largest first; what is not a number is larger than nothing."""
    return value != value, -value
