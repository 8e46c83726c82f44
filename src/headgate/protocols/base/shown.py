"""The row that people are shown first: of the package's example, in whatever form it is, else one that the signature allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.errors import InvalidRequest
from headgate.json_tensors import parse_json
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base.rows import example_row, nested

WHOLE_SEQUENCE = {"sequence_id": 1, "sequence_start": True, "sequence_end": True}
"""Parameters of a request that is a sequence by itself, for models that keep state."""


def shown_row(example: Any, signature: Signature) -> dict[str, Any]:
    """Return one row to start from, as ``/predict`` takes it.

    ``example`` is a row, a list of rows, a bare list for a model with one input, or a request of the Open Inference Protocol, as
    `headgate.package.example` describes them; None where the package has none.
    """
    row = _first_row(example, signature)
    names = {spec.name for spec in signature.inputs}
    required = {spec.name for spec in signature.inputs if not spec.optional}
    return row if row is not None and required <= row.keys() <= names else example_row(signature)


def _first_row(example: Any, signature: Signature) -> dict[str, Any] | None:
    if isinstance(example, dict):
        listed = example.get("inputs")
        return _of_request(listed, signature) if isinstance(listed, list) else example
    if not isinstance(example, list) or not example:
        return None
    if isinstance(example[0], dict):
        return example[0]
    one = [spec for spec in signature.inputs if not spec.optional] or signature.inputs
    return {one[0].name: example[0] if signature.batched else example} if len(one) == 1 else None


def _of_request(tensors: list[Any], signature: Signature) -> dict[str, Any] | None:
    row: dict[str, Any] = {}
    for tensor in tensors:
        spec = signature.input(tensor["name"]) if tensor["name"] or len(signature.inputs) > 1 else signature.inputs[0]
        if spec is None:
            return None
        row[spec.name] = _value(tensor, spec, signature.batched)
    return row


def _value(tensor: Mapping[str, Any], spec: TensorSpec, batched: bool) -> Any:
    data: Any = tensor["data"]
    if spec.content == "json":
        try:
            data = [parse_json(text.encode()) for text in data]
        except InvalidRequest:
            return data
    value = nested(data, tensor["shape"])
    return value[0] if batched and value else value
