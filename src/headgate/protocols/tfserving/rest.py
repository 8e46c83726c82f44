"""TensorFlow Serving's REST API: ``/v1``, in the dialect ``tfserving``.

    POST /v1/models/NAME[/versions/N|/labels/L]:predict     {"instances": [...]} -> {"predictions": [...]}
                                                            {"inputs": ...}      -> {"outputs": ...}
    POST /v1/models/NAME[/versions/N|/labels/L]:classify    {"examples": [...]}  -> {"results": [[[label, score], ...], ...]}
    POST /v1/models/NAME[/versions/N|/labels/L]:regress     {"examples": [...]}  -> {"results": [...]}
    GET  /v1/models/NAME[/versions/N|/labels/L]             the state of its versions
    GET  /v1/models/NAME[/versions/N|/labels/L]/metadata    its signature

Sources: tensorflow/serving, g3doc/api_rest.md, model_servers/http_rest_api_{handler,util}.cc and util/json_tensor.cc, whose error texts
these are. Labels are aliases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar
from urllib.parse import unquote

import msgspec

from headgate.errors import HeadgateError, InvalidRequest
from headgate.json_tensors import encode_values
from headgate.protocols.base import (
    Address,
    Catalogue,
    InferRequest,
    InferResponse,
    Plan,
    Protocol,
    Reply,
    Request,
    Route,
    error_reply,
)
from headgate.protocols.tfserving.answers import classes_of, columns_json, rows_json, values_of
from headgate.protocols.tfserving.body import parse_object, plan_asked, read_predict, signature_name
from headgate.protocols.tfserving.examples import read_examples, request_of
from headgate.protocols.tfserving.signatures import CLASSIFY, REGRESS, all_of, find_for, name_of, signature_json
from headgate.protocols.tfserving.states import check_label, states_of
from headgate.protocols.tfserving.words import worded
from headgate.tensors import Buffer

_DIALECT = "tfserving"
_PLACES = ("/v1/models/{model}", "/v1/models/{model}/versions/{version#}", "/v1/models/{model}/labels/{version}")
_LONGEST = 1000
"""Characters of an error."""
_ROWS, _COLUMNS = "rows", "columns"


class TFServing(Protocol):
    """`/v1`, as TensorFlow Serving speaks it."""

    name: ClassVar[str] = "tfserving_http"
    routes: ClassVar[Sequence[Route]] = (
        *(
            Route("POST", f"{at}:{verb}", "infer", dialect=_DIALECT)
            for verb in ("predict", "classify", "regress")
            for at in _PLACES
        ),
        *(Route("GET", at, "status", dialect=_DIALECT) for at in _PLACES),
        *(Route("GET", f"{at}/metadata", "metadata", dialect=_DIALECT) for at in _PLACES),
        *(Route("*", at, "malformed", dialect=_DIALECT) for at in ("/v1/", "/v1/{rest*}")),
    )

    def decode(self, request: Request, body: Buffer, plan: Plan) -> InferRequest:
        """Read a request of one of the three methods."""
        _check_place(request)
        parsed = parse_object(body)
        verb = unquote(request.path).rpartition(":")[2]
        if verb == "predict":
            plan = plan_asked(parsed, plan)
            infer, in_rows = read_predict(parsed, plan)
            infer.wire = (_ROWS if in_rows else _COLUMNS, plan)
            return infer
        method = CLASSIFY if verb == "classify" else REGRESS
        name = signature_name(parsed)
        examples = read_examples(parsed)
        plan = find_for(method, plan, name)
        infer = request_of(examples, plan)
        infer.wire = (method, plan)
        return infer

    def encode(self, request: InferRequest, response: InferResponse) -> Reply:
        """Write the answer in the form of the request."""
        form, plan = request.wire
        if form == _ROWS:
            return Reply(rows_json(plan, response))
        if form == _COLUMNS:
            return Reply(columns_json(plan, response))
        return Reply(encode_values({"results": classes_of(response) if form == CLASSIFY else values_of(response)}))

    def worded(self, error: HeadgateError) -> HeadgateError:
        """A model, version or label that is not served, in TensorFlow Serving's words."""
        return worded(error)

    def encode_error(self, error: HeadgateError) -> Reply:
        """``{"error": text}``."""
        error = worded(error)
        reply = error_reply(error)
        reply.body = msgspec.json.encode({"error": str(error)[:_LONGEST]})
        return reply

    # ---- what models there are

    def status(self, request: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """Which versions there are, and whether they are available."""
        states = states_of(catalogue, _address(request))
        fine = {"error_code": "OK", "error_message": ""}
        versions = [{"version": str(state.version), "state": state.name, "status": fine} for state in states]
        return Reply(msgspec.json.encode({"model_version_status": versions}))

    def metadata(self, request: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """Inputs and outputs, as signatures of TensorFlow."""
        model, version = _address(request)
        deployment = catalogue.deployment(model, version)
        spec = {"name": deployment.name, "signature_name": "", "version": str(deployment.number(version))}
        signatures = {name_of(each): signature_json(each.signature) for each in all_of(deployment.plan(version))}
        return Reply(msgspec.json.encode({"model_spec": spec, "metadata": {"signature_def": {"signature_def": signatures}}}))

    def malformed(self, request: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """Everything else. Raises `InvalidRequest`."""
        raise _malformed(request)


def _address(request: Request) -> Address:
    """Return which model, and which version or label of it, a path names. Raises `InvalidRequest`."""
    _check_place(request)
    params = request.params
    if any(":" in name for name in params.values()):
        raise _malformed(request)  # a method that wants POST
    return Address(params["model"], params.get("version"))


def _check_place(request: Request) -> None:
    """Refuse a label that cannot be one."""
    version = request.params.get("version")
    if version is not None and "/labels/" in request.path:
        check_label(version)


def _malformed(request: Request) -> InvalidRequest:
    return InvalidRequest(
        f"Malformed request: {request.method} {request.path[:200]} (there are POST "
        "/v1/models/NAME[/versions/N|/labels/L]:predict|classify|regress and GET /v1/models/NAME[/versions/N|/labels/L][/metadata])"
    )
