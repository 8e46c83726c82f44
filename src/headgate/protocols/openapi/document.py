"""`/openapi.json`: what is deployed, as OpenAPI 3.1: each deployment's paths with its own types, its example, and what may go wrong.

Everything follows from the signatures in force; a deployment that has no revision yet is not in it. Source: OpenAPI 3.1.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import msgspec

from headgate import __version__
from headgate.errors import InvalidRequest, UnknownModel, Unsupported
from headgate.protocols.base import Catalogue, InferRequest, InferResponse, Plan, Protocol, Reply, Request, Route
from headgate.protocols.base.schemas import Schema
from headgate.protocols.openapi.deployed import deployed
from headgate.protocols.openapi.parts import PROBLEMS, RESPONSES, SCHEMAS, content, get, has
from headgate.tensors import Buffer

_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_NOT_JSON = "NaN, Infinity and -Infinity are taken, and given, as bare words, which JSON Schema has no name for."


class OpenAPI(Protocol):
    """`/openapi.json`."""

    name: ClassVar[str] = "openapi"
    routes: ClassVar[Sequence[Route]] = (Route("GET", "/openapi.json", "document"),)

    def document(self, _: Request, catalogue: Catalogue, _body: Buffer) -> Reply:
        """Everything that is deployed."""
        all_of_them = [found for view in catalogue.deployments() if (found := deployed(view)) is not None]
        paths = dict(_server_paths())
        for each in all_of_them:
            paths |= each.paths()
        paths |= _default_paths(catalogue)
        document = {
            "openapi": "3.1.0",
            "info": {"title": "Headgate", "version": __version__, "description": f"The models deployed here. {_NOT_JSON}"},
            "servers": [{"url": "/"}],
            # Whether keys are wanted is not known here: none, or one of the two.
            "security": [{}, {"bearer": []}, {"apiKey": []}],
            "tags": [{"name": "server"}, *({"name": each.name} for each in all_of_them)],
            "paths": paths,
            "components": {
                "schemas": SCHEMAS | {key: schema for each in all_of_them for key, schema in each.schemas().items()},
                "responses": RESPONSES,
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer"},
                    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
                },
            },
        }
        return Reply(msgspec.json.encode(document))

    def decode(self, request: Request, body: Buffer, plan: Plan) -> InferRequest:
        """Never called: no route infers."""
        raise Unsupported("the description takes no requests to infer")

    def encode(self, request: InferRequest, response: InferResponse) -> Reply:
        """Never called: no route infers."""
        raise Unsupported("the description takes no requests to infer")


def _server_paths() -> Iterator[tuple[str, Any]]:
    names = has("models", {"type": "array", "items": {"type": "string"}})
    yield "/v2/health/live", get("Whether the server lives", has("live", {"type": "boolean"}))
    ready = get("Whether everything deployed would compute", has("ready", {"const": True}))
    ready["get"]["responses"]["503"] = content(has("ready", {"const": False}), "Not everything would")
    yield "/v2/health/ready", ready
    yield "/v2", get("Name, version and extensions", has("name", {"type": "string"}))
    yield "/v2/models", get("Names of the deployments", names)
    yield "/v1/models", get("Names of the deployments", names)
    yield "/metrics", get("Metrics for Prometheus", {"type": "string"}, media="text/plain")
    yield "/version", get("Version of the server", {"type": "string"}, media="text/plain")


def _default_paths(catalogue: Catalogue) -> dict[str, Any]:
    """Return `/invocations` and `/ping`, with the types of the default deployment where there is one."""
    try:
        default = deployed(catalogue.deployment(None))
    except (UnknownModel, InvalidRequest):
        default = None
    if default is not None and (default.signature.streams or default.signature.stateful):
        default = None  # these paths have no form for an answer in parts, nor a place for a sequence
    taken: Schema = {"schema": {"oneOf": [has(form, {}) for form in _FORMS]}}
    given: Schema = {}
    if default is not None:
        batched, row = default.signature.batched, default.row
        taken["example"] = {"inputs": {name: [value] for name, value in row.items()} if batched else row}
        given = {"type": "array", "items": default.ref("Prediction")} if batched else default.ref("Prediction")
    table = {"text/csv": {"schema": {"type": "string"}}}
    either = {"anyOf": [{"$ref": "#/components/schemas/Problem"}, {"$ref": "#/components/schemas/MLflowProblem"}]}
    problems = {str(status): content(either, text) for status, text in PROBLEMS.items()}
    answer = content(has("predictions", given), "The answer")
    answer["content"] |= table
    operation = {
        "summary": "Score with the default deployment (MLflow, SageMaker)",
        "tags": ["server" if default is None else default.name],
        "requestBody": {"required": True, "content": {"application/json": taken, **table}},
        "responses": {"200": answer, **problems},
    }
    ping = get("Whether the default deployment would compute", {"type": "string"}, media="text/plain")
    ping["get"]["responses"] |= problems
    return {"/invocations": {"post": operation}, "/ping": ping}
