"""Triton's generate extension: plain JSON in and out; an answer in parts as server-sent events.

Source: Triton's extension_generate.md, and the Open Inference Protocol's generate_rest.yaml, which it became. The members of the
request (and those of its ``parameters``) are inputs where the model has one of that name, else parameters. Error texts follow Triton's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar

from headgate.errors import InvalidRequest
from headgate.json_tensors import encode_values, parse_json
from headgate.protocols.base import (
    EVENT_STREAM,
    InferRequest,
    InferResponse,
    InParts,
    InputPlan,
    Plan,
    Protocol,
    Reply,
    Request,
    Route,
    event,
)
from headgate.protocols.base.rows import columns, read_rows, usage
from headgate.protocols.base.schemas import is_nested
from headgate.protocols.oip.body import check_parameters, priority, timeout
from headgate.tensors import Buffer

_ONLY_ONE = (
    "generate expects model to produce exactly 1 response, use generate stream for model that generates various number of responses"
)


class OIPGenerate(Protocol):
    """``generate`` and ``generate_stream``."""

    name: ClassVar[str] = "oip_generate"
    routes: ClassVar[Sequence[Route]] = tuple(
        Route("POST", f"/v2/models/{{model}}{version}/{operation}", "infer")
        for version in ("", "/versions/{version}")
        for operation in ("generate", "generate_stream")
    )

    def decode(self, request: Request, body: Buffer, plan: Plan) -> InferRequest:
        """Read one request: the inputs of one row, by name, and parameters."""
        parsed = parse_json(body)
        if not isinstance(parsed, dict):
            raise InvalidRequest(f"expected an object with the model's inputs, got {type(parsed).__name__}. {usage(plan)}")
        row: dict[str, Any] = {}
        parameters: dict[str, Any] = {}
        request_id = None
        for key, value in _members(parsed, plan):
            into = plan.by_name.get(key)
            if key in row or key in parameters:
                raise InvalidRequest(f"'{key[:100]}' is given twice: beside 'parameters' and in it")
            if into is not None:
                row[key] = _as_list(value, into)
            elif key == "id":
                request_id = _id(value)
            else:
                parameters[key] = value
        infer = read_rows(plan, [row], numbered=False)
        infer.id = request_id
        _read_parameters(infer, parameters, plan)
        infer.wire = (plan, request.path.endswith("_stream"))
        return infer

    def encode(self, request: InferRequest, response: InferResponse) -> Reply:
        """Write the only answer there is."""
        _, stream = request.wire
        body = self.encode_part(request, response)
        return Reply(event(body), EVENT_STREAM) if stream else Reply(body)

    def in_parts(self, request: Request, infer: InferRequest) -> InParts:
        """As events, or as one answer, for which there must be exactly one part."""
        _, stream = infer.wire
        return InParts(events=stream, only=_ONLY_ONE)

    def encode_part(self, request: InferRequest, response: InferResponse) -> bytes:
        """Write one answer: outputs are members, bare where they have one element, else as a flat list.

        An output of which several sides vary is nested, whatever it holds: from a flat list nobody could tell its shape.
        """
        plan, _ = request.wire
        answer: dict[str, Any] = {"model_name": response.model, "model_version": response.version}
        if request.id is not None:
            answer["id"] = request.id
        found = columns(plan, response)
        for spec, output in zip(plan.signature.outputs, response.outputs, strict=True):
            answer[output.name] = _written(found[output.name], output.shape, spec.shape[1:] if plan.batched else spec.shape, plan)
        return encode_values(answer)


def _members(parsed: Mapping[str, Any], plan: Plan) -> Iterator[tuple[str, Any]]:
    """Yield the members of a request; those of ``parameters``, unless that is an input, as if they stood beside it."""
    for key, value in parsed.items():
        if key != "parameters" or key in plan.by_name:
            yield key, value
        elif isinstance(value, dict):
            yield from value.items()
        else:
            raise InvalidRequest(f"parameters: expected an object, got {type(value).__name__}")


def _as_list(value: Any, into: InputPlan) -> Any:
    """Return a bare value as the list of one that it stands for, where the input takes a list."""
    return [value] if len(into.tail) == 1 and not isinstance(value, list) and into.content != "json" else value


def _written(values: Any, shape: Sequence[int], declared: Sequence[int], plan: Plan) -> Any:
    """Return an output of ``shape``, whose row is declared as such, as it stands in an answer."""
    if is_nested(declared):
        return values[0] if plan.batched else values
    for _ in shape[1:]:
        values = list(chain.from_iterable(values))
    return values[0] if isinstance(values, list) and shape and len(values) == 1 else values


def _id(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"id: expected a string, got {type(value).__name__}")
    return value


def _read_parameters(infer: InferRequest, parameters: dict[str, Any], plan: Plan) -> None:
    # Lists are for those that come as such by the protocol's definition, such as words at which to stop.
    for key, value in parameters.items():
        for item in value if isinstance(value, list) else [value]:
            check_parameters({key: item}, stateful=plan.stateful)
    infer.timeout = timeout(parameters.pop("timeout", None))
    infer.priority = priority(parameters.pop("priority", 0))
    infer.parameters = parameters or None
