"""`POST /predict/{deployment}`: plain rows in, plain rows out, for a shell, a web page or a quick script.

A row is an object with one member per input: ``{"age": 3, "city": "Oslo"}``; a tensor input takes a (nested) list of the row's shape.
One row gives one row, a list of rows a list of rows. A model without a batch axis takes one object that holds its whole inputs. A model
that answers in parts gives the list of all its parts, once it has come to the end. A client that takes ``text/event-stream`` gets each
row, or each part as it comes, as a server-sent event.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from headgate.errors import InvalidRequest
from headgate.json_tensors import encode_values, parse_json
from headgate.protocols.base import (
    EVENT_STREAM,
    InferRequest,
    InferResponse,
    InParts,
    Plan,
    Protocol,
    Reply,
    Request,
    Route,
    event,
)
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
        infer.wire = (many, plan, _takes_events(request.headers.get("accept", "")))
        return infer

    def encode(self, request: InferRequest, response: InferResponse) -> Reply:
        """Write one row or a list of them; outputs are the members."""
        many, plan, events = request.wire
        rows = answer_rows(plan, response)
        if events:
            return Reply(b"".join(event(encode_values(row)) for row in rows), EVENT_STREAM)
        return Reply(encode_values(rows if many else rows[0]))

    def in_parts(self, request: Request, infer: InferRequest) -> InParts:
        """As events where the client takes them, else all parts as a list."""
        return InParts(events=infer.wire[2])

    def encode_part(self, request: InferRequest, response: InferResponse) -> bytes:
        """Write one part: the outputs are members."""
        return encode_values(answer_rows(request.wire[1], response)[0])

    def encode_parts(self, request: InferRequest, responses: Sequence[InferResponse]) -> Reply:
        """Write a list of all parts."""
        return Reply(encode_values([answer_rows(request.wire[1], response)[0] for response in responses]))


def _takes_events(accept: str) -> bool:
    """Whether the header names server-sent events, and does not refuse them by a weight of 0 (RFC 9110, section 12.5.1)."""
    accept = accept.lower()
    if "event-stream" not in accept:
        return False
    for kind in accept.split(","):
        name, *options = (word.strip() for word in kind.split(";"))
        if name == "text/event-stream":
            return not any(re.fullmatch(r"q\s*=\s*0(\.0*)?", option) for option in options)
    return False


def _check_row(row: Any, where: str, plan: Plan) -> None:
    if not isinstance(row, dict):
        raise InvalidRequest(f"{where}expected an object with the model's inputs, got {type(row).__name__}. {usage(plan)}")
    check_names(row, where, plan)
