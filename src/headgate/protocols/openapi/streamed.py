"""What is said of a deployment that answers in parts: paths that give them as they come, or all in one answer."""

from __future__ import annotations

from typing import Any

from headgate.package.signature import Signature
from headgate.protocols.base.schemas import Schema, element_schema, input_schema, is_nested, nested_schema
from headgate.protocols.openapi.parts import PROBLEM_REFS, content

_EVENTS = "server-sent events, each with a line 'data: ' and a part as JSON; an error after the first part is an event, too"


def paths(name: str, dialect: str, signature: Signature, row: Any) -> dict[str, Any]:
    """Return the paths that infer. ``dialect`` is that of its ``/v1`` paths; ``row`` is an example."""
    at = f"/v2/models/{name}"
    body = {"schema": {"$ref": f"#/components/schemas/{name}.Row"}, "example": row}
    members = {"schema": _members(signature), "example": row}
    part = _part(name, signature)
    rows: Schema = {"type": "array", "items": {"$ref": f"#/components/schemas/{name}.Answer"}}
    bare = _post(name, "Predict, as the parts are or, for who wants JSON, as one text (Truss)", body, _bare())
    return {
        **({f"/v1/models/{name}:predict": bare} if dialect == "truss" else {}),
        f"/predict/{name}": _post(name, "Predict, as a list of all parts or as events", body, _answer(rows, events=True)),
        f"{at}/generate_stream": _post(name, "Generate, as events", members, _answer(None, events=True)),
        f"{at}/generate": _post(name, "Generate, where there is exactly one part", members, _answer(part, events=False)),
    }


def _post(name: str, summary: str, takes: Schema, gives: Schema) -> Schema:
    operation = {
        "summary": f"{name}: {summary}",
        "tags": [name],
        "requestBody": {"required": True, "content": {"application/json": takes}},
        "responses": {"200": gives, **PROBLEM_REFS},
    }
    return {"post": operation}


def _answer(schema: Schema | None, *, events: bool) -> Schema:
    answer = content({} if schema is None else schema, "The answer")
    if schema is None:
        answer["content"].clear()
    if events:
        answer["content"]["text/event-stream"] = {"schema": {"type": "string", "description": _EVENTS}}
    return answer


def _bare() -> Schema:
    answer = content({"type": "string"}, "The answer")
    answer["content"]["application/octet-stream"] = {"schema": {"type": "string", "description": "the parts, as they come"}}
    return answer


def _members(signature: Signature) -> Schema:
    """Return the schema of a request to generate: inputs by name, and whatever else the model is told."""
    row = input_schema(signature)
    others = {"id": {"type": "string"}, "parameters": {"type": "object", "description": "further inputs and parameters"}}
    # Inputs may as well stand in ``parameters``, so none is required here.
    return {"type": "object", "properties": others | row["properties"]}


def _part(name: str, signature: Signature) -> Schema:
    outputs: Schema = {}
    for spec in signature.outputs:
        one = element_schema(spec)
        if is_nested(spec.shape):
            outputs[spec.name] = nested_schema(one, spec.shape)
        else:
            outputs[spec.name] = one if spec.shape == (1,) else {"anyOf": [one, nested_schema(one, [-1])]}
    told = {"model_name": {"const": name}, "model_version": {"type": "string"}, "id": {"type": "string"}}
    return {"type": "object", "properties": told | outputs, "required": ["model_name", "model_version", *outputs]}
