"""`POST /predict/{deployment}`: plain rows in, plain rows out, for a shell, a web page or a quick script.

A row is an object with one member per input: ``{"age": 3, "city": "Oslo"}``; a tensor input takes a (nested) list of the row's shape.
One row gives one row, a list of rows a list of rows. A model without a batch axis takes one object that holds its whole inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from headgate.errors import InvalidRequest
from headgate.json_tensors import encode_values, parse_json
from headgate.protocols.base import InferRequest, InferResponse, Plan, Protocol, Reply, Request, Route
from headgate.protocols.base.rows import answer_rows, check_names, read_rows, usage
from headgate.tensors import Buffer


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
                f"model '{plan.model}' has no batch axis: send one object with its inputs, not a list. {usage(plan)}"
            )
        for at, row in enumerate(rows):
            _check_row(row, f"row {at}: " if many else "", plan)
        infer = read_rows(plan, rows, numbered=many)
        infer.wire = (many, plan)
        return infer

    def encode(self, request: InferRequest, response: InferResponse) -> Reply:
        """Write one row or a list of them; outputs are the members."""
        many, plan = request.wire
        rows = answer_rows(plan, response)
        return Reply(encode_values(rows if many else rows[0]))


def _check_row(row: Any, where: str, plan: Plan) -> None:
    if not isinstance(row, dict):
        raise InvalidRequest(f"{where}expected an object with the model's inputs, got {type(row).__name__}. {usage(plan)}")
    check_names(row, where, plan)
