"""KServe's V1 protocol: ``/v1/models``, in the dialect ``kserve``.

    GET  /v1/models                  the names of all deployments, whatever their dialect
    GET  /v1/models/NAME             {"name", "ready": true}; 503 while it is not
    POST /v1/models/NAME:predict     {"instances": [...]} (or "inputs") -> {"predictions": [...]}
    POST /v1/models/NAME:explain     501: there are no explainers here

An instance is a row: the value of the one input, an object with a member for each input, a list of all inputs in their order, or, as
KServe's own servers read it, an object of columns (``{"age": [3, 4]}`` is two rows) or a list of objects. Columns of a model that
takes one tensor are put side by side. A request may be a CloudEvent, binary or structured; then the answer is one, too.

Sources: the V1 protocol of the KServe documentation; python/kserve of kserve 0.21 (protocol/rest/v1_endpoints.py, protocol/dataplane.py,
utils/utils.py, errors.py), whose error texts these are; the HTTP binding of CloudEvents 1.0.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import msgspec

from headgate.errors import HeadgateError, InvalidRequest, NotReady, UnknownModel, Unsupported
from headgate.json_tensors import encode_values, parse_json
from headgate.protocols.base import (
    Catalogue,
    InferRequest,
    InferResponse,
    InputPlan,
    Plan,
    Protocol,
    Reply,
    Request,
    Route,
    error_reply,
)
from headgate.protocols.base.rows import (
    are_rows,
    check_names,
    is_one_tensor,
    predictions,
    read_columns,
    row_of,
    takes_documents,
    usage,
)
from headgate.tensors import Buffer

_EVENT_HEADERS = ("ce-specversion", "ce-id", "ce-source", "ce-type")
"""With all of them a request is a binary CloudEvent."""
_EVENT_MEMBERS = ("specversion", "id", "source", "type", "time", "data")
"""With all of them a body is a structured one, whatever its content type."""
_STRUCTURED = "application/cloudevents+json"
_ANSWER_TYPE = "io.kserve.inference.response"


class Event(NamedTuple):
    """The CloudEvent that a request came in."""

    id: str
    version: str
    structured: bool


class Wire(NamedTuple):
    """What the answer must know of the request."""

    plan: Plan
    event: Event | None


class KServeV1(Protocol):
    """`/v1`, as KServe speaks it."""

    name: ClassVar[str] = "kserve_v1"
    routes: ClassVar[Sequence[Route]] = (
        Route("GET", "/", "alive", "open"),
        Route("GET", "/v1/models", "models"),
        Route("GET", "/v1/models/{model}", "model_ready", dialect="kserve"),
        Route("POST", "/v1/models/{model}:predict", "infer", dialect="kserve"),
        Route("POST", "/v1/models/{model}:explain", "explain", dialect="kserve"),
    )

    def decode(self, request: Request, body: Buffer, plan: Plan) -> InferRequest:
        """Read the instances of a request."""
        event, parsed = _opened(request.headers, body)
        infer = _read(parsed, plan)
        infer.wire = Wire(plan, event)
        return infer

    def encode(self, request: InferRequest, response: InferResponse) -> Reply:
        """Write the predictions, as an event where the request was one."""
        wire: Wire = request.wire
        body = encode_values({"predictions": predictions(wire.plan, response)})
        if wire.event is None:
            return Reply(body)
        # The pair of source and id is what makes an event itself: our source is another, so the id may stay and tells the two apart.
        attributes = {
            "specversion": wire.event.version,
            "id": wire.event.id,
            "source": f"io.kserve.inference.{response.model}",
            "type": _ANSWER_TYPE,
        }
        if wire.event.structured:
            envelope = msgspec.json.encode({**attributes, "datacontenttype": "application/json"})
            return Reply(envelope[:-1] + b',"data":' + body + b"}", _STRUCTURED.encode())
        headers = b"".join(b"ce-%b: %b\r\n" % (key.encode(), value.encode("latin-1")) for key, value in attributes.items())
        return Reply(body, headers=headers)

    def encode_error(self, error: HeadgateError) -> Reply:
        """``{"error": text}``, an unknown model in KServe's words."""
        if isinstance(error, UnknownModel) and error.version is None and error.model:
            text = f"Model with name {error.model[:200]} does not exist. {error}"
            body = msgspec.json.encode({"error": text, "code": error.code})
            return msgspec.structs.replace(error_reply(error), body=body)
        return error_reply(error)

    # ---- health and listing

    def alive(self, _: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """The process answers."""
        return Reply(b'{"status":"alive"}')

    def models(self, _: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """Every deployment, whatever its dialect."""
        return Reply(msgspec.json.encode({"models": [deployment.name for deployment in catalogue.deployments()]}))

    def model_ready(self, request: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """Whether a request for this deployment would be computed now."""
        deployment = catalogue.deployment(request.params["model"])
        if not deployment.ready:
            raise NotReady(f"Model with name {deployment.name} is not ready. No replica of it answers; retry later")
        return Reply(msgspec.json.encode({"name": deployment.name, "ready": True}))

    def explain(self, request: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """Refused: an explainer is a model of its own."""
        deployment = catalogue.deployment(request.params["model"])
        raise Unsupported(
            f"{deployment.name}: explain is not implemented: a deployment has no explainer here. Deploy the explainer as a model of its "
            f"own and ask it with :predict; predictions are at /v1/models/{deployment.name}:predict"
        )


# ---- events


def _opened(headers: Mapping[str, str], body: Buffer) -> tuple[Event | None, Any]:
    """Return the event that a request is, if it is one, and its data as parsed JSON."""
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    parsed = _parsed(body)
    if all(name in headers for name in _EVENT_HEADERS):
        return _event(headers["ce-id"], headers["ce-specversion"], structured=False), parsed
    if media == _STRUCTURED:
        if not isinstance(parsed, dict):
            raise InvalidRequest(f"Cloud Event Exceptions: a structured event is an object, got {type(parsed).__name__}")
        missing = [name for name in _EVENT_MEMBERS if name not in parsed and name != "time"]
        if missing:
            raise InvalidRequest(
                f"Cloud Event Exceptions: the structured event lacks {missing}; data must be JSON, not data_base64"
            )
        return _event(parsed["id"], parsed["specversion"], structured=True), parsed["data"]
    if isinstance(parsed, dict) and all(name in parsed for name in _EVENT_MEMBERS):
        return None, parsed["data"]  # KServe takes it for an event too, and answers it plainly
    return None, parsed


def _event(identity: Any, version: Any, *, structured: bool) -> Event:
    if version not in ("1.0", "0.3"):
        raise InvalidRequest(f"Cloud Event Exceptions: specversion: expected '1.0' or '0.3', got {str(version)[:50]!r}")
    if not isinstance(identity, str) or not identity:
        raise InvalidRequest(f"Cloud Event Exceptions: id: expected a string that is not empty, got {str(identity)[:50]!r}")
    return Event(identity, version, structured)


def _parsed(body: Buffer) -> Any:
    try:
        return parse_json(body)
    except InvalidRequest as error:
        raise InvalidRequest(f"Unrecognized request format: {error}") from None


# ---- instances


class _Table:
    """The rows of all instances, by input: a dictionary for each row would be many times as large as what was sent."""

    def __init__(self, plan: Plan) -> None:
        self.rows = 0
        self.columns: dict[str, list[Any]] = {}
        self._plan = plan

    def add(self, part: Mapping[str, list[Any]], rows: int, where: str) -> None:
        """Append ``rows`` rows. Raises `InvalidRequest` where they have other inputs than the rows before."""
        for into in self._plan.inputs:
            if into.name not in part:
                self._check_left_out(into, where)
            elif self.rows and into.name not in self.columns:
                raise InvalidRequest(
                    f"{where}{into.field} is here, and the rows before leave it out; give it for all rows or for none"
                )
            else:
                self.columns.setdefault(into.name, []).extend(part[into.name])
        self.rows += rows

    def _check_left_out(self, into: InputPlan, where: str) -> None:
        if not into.optional or into.name in self.columns:
            said = "; other rows have it: give it for all rows or for none" if into.optional else ""
            raise InvalidRequest(f"{where}{into.field} ({into.dtype.name}) is missing{said}. {usage(self._plan)}")


def _read(parsed: Any, plan: Plan) -> InferRequest:
    if not isinstance(parsed, dict):
        raise InvalidRequest(f'Expected an object with "instances", got {type(parsed).__name__}')
    key = "inputs" if "inputs" in parsed else "instances"
    if key not in parsed:
        raise InvalidRequest(f'Expected "instances" (or "inputs"), got an object with {sorted(parsed)[:20]}')
    items = parsed[key]
    if not isinstance(items, list):
        raise InvalidRequest(f'Expected "{key}" to be a list, got {type(items).__name__}')
    table = _Table(plan)
    for at, item in enumerate(items):
        _add(table, item, f"{key}[{at}]: ", plan)
    if not plan.batched and table.rows != 1:
        raise InvalidRequest(
            f"model '{plan.model}' has no batch axis: \"{key}\" must hold one instance, with its whole inputs, got {table.rows}"
        )
    columns = table.columns or {into.name: [] for into in plan.inputs}
    return read_columns(plan, {name: _with_base64(values, plan.by_name[name]) for name, values in columns.items()})


def _add(table: _Table, item: Any, where: str, plan: Plan) -> None:
    """Add the rows of one instance."""
    if isinstance(item, list) and are_rows(item, plan):
        for part in item:
            _add(table, part, where, plan)
    elif not isinstance(item, dict) or _is_value(item, plan):
        table.add({name: [value] for name, value in row_of(item, plan, where).items()}, 1, where)
    elif is_one_tensor(plan, list(item)):
        columns, rows = _unrolled(item, set(item), where)
        table.add({plan.inputs[0].name: [list(row) for row in zip(*columns.values(), strict=True)]}, rows, where)
    else:
        check_names(item, where, plan)
        table.add(*_unrolled(item, {name for name in item if _is_column(plan.by_name[name], plan)}, where), where)


def _is_value(item: dict[str, Any], plan: Plan) -> bool:
    """Whether an object is the value of the one input, not a row: base64, or where the model takes objects."""
    if takes_documents(plan):
        return not are_rows([item], plan)
    only = plan.inputs[0]
    return len(plan.inputs) == 1 and only.dtype.kind == "bytes" and only.name not in item and _is_base64(item)


def _unrolled(item: dict[str, Any], may_be: set[str], where: str) -> tuple[dict[str, list[Any]], int]:
    """Return the columns and the number of rows of a data frame; ``may_be``: whose lists are columns. Without one it is a row."""
    lists = {key for key in may_be if isinstance(item[key], list)}
    lengths = {len(item[key]) for key in lists}
    if len(lengths) > 1:
        raise InvalidRequest(f"{where}the columns {sorted(lists)} differ in length: {sorted(lengths)}")
    rows = lengths.pop() if lengths else 1
    return {key: value if key in lists else [value] * rows for key, value in item.items()}, rows


def _is_column(into: InputPlan, plan: Plan) -> bool:
    """Whether a list is several rows of an input, since one row of it is a single value."""
    return plan.batched and into.tail in ([], [1]) and into.content != "json"


# ---- base64


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _with_base64(values: list[Any], into: InputPlan) -> list[Any]:
    """Unwrap ``{"b64": "..."}``, which is how V1 clients send bytes that are no text."""
    if into.dtype.kind != "bytes" or into.content == "json":
        return values
    return [_unwrapped(value, into) for value in values]


def _unwrapped(value: Any, into: InputPlan) -> Any:
    if isinstance(value, list):
        return [_unwrapped(part, into) for part in value]
    if not _is_base64(value):
        return value
    if into.content == "binary":
        return value["b64"]
    try:
        return base64.b64decode(value["b64"], validate=True).decode()
    except ValueError as error:
        raise InvalidRequest(f"{into.field}: 'b64' must be base64 of UTF-8 text, which this model takes: {error}") from None
