"""The paths of a Truss's own server: ``/v1/models/NAME``, in the dialect ``truss``.

    GET  /v1/models/NAME            {}; 503 while no replica answers. /loaded says the same
    GET  /v1/models/NAME/schema     JSON Schema of input and output; 404 where the model takes any JSON
    POST /v1/models/NAME:predict    the body is the model's input, without an envelope; so is the answer
    POST /v1/models/NAME:predict_binary

A body of ``Content-Type: application/octet-stream`` is MessagePack, on both paths, and so is its answer. A model that takes one JSON value
(its only input has the content ``json``: a Truss folder's) gets the body itself; one with a typed signature takes a row, or a list of
rows, as ``/predict`` does.

A model that answers in parts gives them as they come, as bytes without anything around them: the text or the bytes that a part is, or a
line of JSON. ``Accept: application/json`` gets all of them as one text, at the end.

Source: truss 0.18 (templates/server/truss_server.py and model_wrapper.py, _truss_common/errors.py). Not here: the paths of OpenAI's API,
websockets and hot reload.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import msgspec

from headgate.errors import HeadgateError, InvalidRequest, ModelFailed, NotFound, NotReady, PayloadTooLarge, UnknownModel
from headgate.json_tensors import NOT_JSON, encode_values, parse_json
from headgate.protocols.base import (
    Catalogue,
    DeploymentView,
    InferRequest,
    InferResponse,
    InParts,
    InputPlan,
    OutputTensor,
    Plan,
    Protocol,
    Reply,
    Request,
    Route,
    error_reply,
)
from headgate.protocols.base.rows import answer_rows, as_text, check_names, predictions, read_rows, takes_documents, usage
from headgate.protocols.base.schemas import input_schema, output_schema
from headgate.protocols.truss.values import Array, count_elements, from_document, pack, plain, to_document, unpack
from headgate.tensors import Buffer, elements, frame_bytes, unframe_bytes

_OCTETS = b"application/octet-stream"
_JSON = "application/json"
_SOURCE = b"x-baseten-error-source: 04\r\nx-baseten-error-code: %d\r\n"
_UNEXPECTED, _MODEL, _CLIENT = 500, 600, 700
_MODEL_FAILED = "Internal Server Error (in model/chainlet)."
_MOST_ELEMENTS = 1 << 21
"""Of the arrays in a request with rows, which become numbers one by one: as many as JSON of the largest size has."""
_NUMPY = {
    "BOOL": "|b1", "UINT8": "|u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "|i1", "INT16": "<i2", "INT32": "<i4",
    "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
"""dtypes that NumPy has, so that a tensor may go back as an array."""


class Wire(NamedTuple):
    """What the answer must know of the request."""

    plan: Plan
    binary: bool
    many: bool


class Truss(Protocol):
    """`/v1`, as a Truss speaks it."""

    name: ClassVar[str] = "truss"
    routes: ClassVar[Sequence[Route]] = (
        Route("GET", "/v1/models/{model}", "model_ready", dialect="truss"),
        Route("GET", "/v1/models/{model}/loaded", "model_ready", dialect="truss"),
        Route("GET", "/v1/models/{model}/schema", "schema", dialect="truss"),
        Route("POST", "/v1/models/{model}:predict", "infer", binary=True, dialect="truss"),
        Route("POST", "/v1/models/{model}:predict_binary", "infer", binary=True, dialect="truss"),
    )

    def decode(self, request: Request, body: Buffer, plan: Plan) -> InferRequest:
        """Read the model's input."""
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        binary = media == _OCTETS.decode()
        if takes_documents(plan):
            infer, many = _document(_json_of(body) if binary else _checked(body), plan, binary), False
        else:
            infer, many = _rows(_unpacked(body, plan) if binary else _parsed(body), plan)
        infer.wire = Wire(plan, binary, many)
        return infer

    def encode(self, request: InferRequest, response: InferResponse) -> Reply:
        """Write the model's output."""
        wire: Wire = request.wire
        if _gives_document(wire.plan):
            return _document_reply(response.outputs[0], wire)
        if takes_documents(wire.plan):
            value = predictions(wire.plan, response)[0]
        else:
            rows = answer_rows(wire.plan, response)
            rows = _with_arrays(rows, wire.plan, response) if wire.binary else rows
            value = rows if wire.many else rows[0]
        return Reply(pack(value), _OCTETS) if wire.binary else Reply(encode_values(value))

    def in_parts(self, request: Request, infer: InferRequest) -> InParts:
        """As they come, unless the client wants JSON; OpenAI's client always says that it does, and does not mean it."""
        together = request.headers.get("accept") == _JSON and "openai" not in request.headers.get("user-agent", "").lower()
        return InParts() if together else InParts(media=_OCTETS)

    def encode_part(self, request: InferRequest, response: InferResponse) -> bytes:
        """Write one part: the bytes that it is, or a line of JSON."""
        plan: Plan = request.wire.plan
        only = plan.signature.outputs[0]
        if len(response.outputs) == 1 and only.dtype == "BYTES" and only.content != "json":
            output = response.outputs[0]
            return b"".join(unframe_bytes(output.data, elements(output.shape)))
        return encode_values(predictions(plan, response)[0]) + b"\n"

    def encode_parts(self, request: InferRequest, responses: Sequence[InferResponse]) -> Reply:
        """Write all parts as one text. Raises `InvalidRequest` where they are none."""
        try:
            text = b"".join(self.encode_part(request, response) for response in responses).decode()
        except UnicodeDecodeError as error:
            raise InvalidRequest(
                f"the parts of the answer are no text, so they make no JSON: {error}; leave out 'accept: {_JSON}'"
            ) from None
        return Reply(pack(text), _OCTETS) if request.wire.binary else Reply(msgspec.json.encode(text))

    def encode_error(self, error: HeadgateError) -> Reply:
        """``{"error": text}`` with the headers that say whose fault it is."""
        reply = error_reply(error)
        fault = _CLIENT if isinstance(error, InvalidRequest) else _UNEXPECTED
        if isinstance(error, (ModelFailed, NotReady, NotFound)):
            fault = _MODEL
        body = reply.body
        if isinstance(error, ModelFailed):
            body = msgspec.json.encode({"error": f"{_MODEL_FAILED} {msgspec.json.decode(body)['error']}", "code": error.code})
        if isinstance(error, UnknownModel) and error.model and error.version is None:
            text = f"Model with name {error.model[:200]} does not exist. {error}"
            body = msgspec.json.encode({"error": text, "code": error.code})
        return msgspec.structs.replace(reply, body=body, headers=reply.headers + _SOURCE % fault)

    # ---- readiness and schema

    def model_ready(self, request: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """Whether a request for this deployment would be computed now."""
        _ready(catalogue, request)
        return Reply(b"{}")

    def schema(self, request: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """JSON Schema of what it takes and gives."""
        deployment = _ready(catalogue, request)
        signature = deployment.plan(None).signature
        if any(spec.content == "json" for spec in (*signature.inputs, *signature.outputs)):
            raise NotFound(f"No schema found: {deployment.name} takes and gives any JSON")
        schemas = {"input_schema": input_schema(signature), "output_schema": output_schema(signature)}
        return Reply(msgspec.json.encode({**schemas, "supports_streaming": signature.streams}))


def _ready(catalogue: Catalogue, request: Request) -> DeploymentView:
    deployment = catalogue.deployment(request.params["model"])
    if not deployment.ready:
        raise NotReady(f"Model with name {deployment.name} is not ready. No replica of it answers; retry later")
    return deployment


# ---- models that take any JSON value


def _document(text: Buffer, plan: Plan, binary: bool) -> InferRequest:
    infer = InferRequest.of(1)
    if binary and plan.parameters:
        infer.parameters = {"binary": True}  # so that the model's arrays, too, come back as what they are
    infer.shapes[0] = [1] * len(plan.inputs[0].shape)
    infer.data[0] = frame_bytes([bytes(text)])
    return plan.finish(infer)


def _checked(body: Buffer) -> Buffer:
    _parsed(body)
    return body  # as it came: no number or order of members changes


def _json_of(body: Buffer) -> bytes:
    return as_text(to_document(unpack(body))).encode()


def _gives_document(plan: Plan) -> bool:
    outputs = plan.signature.outputs
    return takes_documents(plan) and len(outputs) == 1 and outputs[0].content == "json"


def _document_reply(output: OutputTensor, wire: Wire) -> Reply:
    (text,) = unframe_bytes(output.data, elements(output.shape))
    try:
        value = parse_json(text)
        if wire.binary:
            return Reply(pack(from_document(value)), _OCTETS)
        if b"__" not in text:
            return Reply(text)  # as the model wrote it: no number or order of members changes
        return Reply(encode_values(_text_of_bytes(plain(from_document(value)))))
    except (InvalidRequest, ValueError, TypeError, OverflowError) as error:
        raise ModelFailed(f"the model returned what makes no answer: {error}") from None


def _text_of_bytes(value: Any) -> Any:
    """Return ``value`` with base64 for bytes, which JSON does not have."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [_text_of_bytes(part) for part in value]
    return {key: _text_of_bytes(part) for key, part in value.items()} if isinstance(value, dict) else value


# ---- models with a typed signature


def _parsed(body: Buffer) -> Any:
    try:
        return parse_json(body)
    except InvalidRequest as error:
        raise InvalidRequest(f"Invalid JSON payload: {error}") from None


def _unpacked(body: Buffer, plan: Plan) -> Any:
    value = unpack(body)
    if count_elements(value) > _MOST_ELEMENTS:
        raise PayloadTooLarge(
            f"arrays of more than {_MOST_ELEMENTS} elements are not taken as rows; send them as tensors to /v2/models/{plan.model}/infer"
        )
    return plain(value)


def _rows(value: Any, plan: Plan) -> tuple[InferRequest, bool]:
    many = isinstance(value, list)
    if many and not plan.batched:
        raise InvalidRequest(f"model '{plan.model}' has no batch axis: send one object with its inputs, not a list. {usage(plan)}")
    rows = [_row(row, f"row {at}: " if many else "", plan) for at, row in enumerate(value if many else [value])]
    return read_rows(plan, rows, numbered=many), many


def _row(row: Any, where: str, plan: Plan) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise InvalidRequest(f"{where}expected an object with the model's inputs, got {type(row).__name__}. {usage(plan)}")
    check_names(row, where, plan)
    return {name: _unbytes(value, plan.by_name[name], where) for name, value in row.items()}


def _unbytes(value: Any, into: InputPlan, where: str) -> Any:
    """Return ``value`` with text for bytes, as the input takes it in JSON."""
    if isinstance(value, list):
        return [_unbytes(part, into, where) for part in value]
    if isinstance(value, dict):
        return {key: _unbytes(part, into, where) for key, part in value.items()}
    if not isinstance(value, bytes):
        return value
    if into.content == "binary":
        return base64.b64encode(value).decode()
    try:
        return value.decode()
    except NOT_JSON as error:
        raise InvalidRequest(f"{where}{into.field}: takes text, and these bytes are not UTF-8: {error}") from None


def _with_arrays(rows: list[dict[str, Any]], plan: Plan, response: InferResponse) -> list[dict[str, Any]]:
    """Put arrays and bytes for lists of numbers and base64: MessagePack has both."""
    for spec, output in zip(plan.signature.outputs, response.outputs, strict=True):
        shape = list(output.shape[1:] if plan.batched else output.shape)
        numpy = _NUMPY.get(spec.dtype)
        if numpy is not None and shape:
            size = elements(shape) * output.dtype.size
            data = memoryview(output.data).cast("B")
            for at, row in enumerate(rows):
                row[spec.name] = Array(numpy, tuple(shape), bytes(data[at * size : (at + 1) * size]))
        elif spec.content == "binary":
            for row in rows:
                row[spec.name] = _bytes_of(row[spec.name])
    return rows


def _bytes_of(value: Any) -> Any:
    return [_bytes_of(part) for part in value] if isinstance(value, list) else base64.b64decode(value)
