"""Pieces of an OpenAPI document that know no deployment: what may go wrong, answers, questions, and the schemas of all."""

from __future__ import annotations

from typing import Any

from headgate.protocols.base.schemas import Schema

PROBLEMS = {
    400: "The request is wrong; the text names the field, what was expected and what came.",
    401: "This server needs a key.",
    403: "The key lacks the scope.",
    404: "No such deployment or version.",
    406: "No form of answer that the client takes.",
    408: "The request came too slowly.",
    413: "More bytes than the limit.",
    415: "A content type that is not read here.",
    421: "The Host or Origin header names somebody else.",
    429: "The queue is full; come back after Retry-After seconds.",
    500: "The model failed.",
    501: "Known, and not offered here.",
    503: "Nothing serves this now; come back after Retry-After seconds.",
    504: "Out of time.",
}
_QUESTIONS = (401, 403, 404, 408, 421, 503)
"""What may go wrong with a question that computes nothing."""


def has(name: str, schema: Schema) -> Schema:
    """Return the schema of an object with one member that must be there."""
    return {"type": "object", "properties": {name: schema}, "required": [name]}


def content(schema: Schema, description: str, media: str = "application/json") -> Schema:
    """Return an answer of one content type."""
    return {"description": description, "content": {media: {"schema": schema}}}


def get(summary: str, schema: Schema, tag: str = "server", media: str = "application/json") -> dict[str, Any]:
    """Return the path of a question that computes nothing."""
    title = summary if tag == "server" else f"{tag}: {summary}"
    problems = {str(status): PROBLEM_REFS[str(status)] for status in _QUESTIONS}
    return {"get": {"summary": title, "tags": [tag], "responses": {"200": content(schema, "The answer", media), **problems}}}


RESPONSES = {f"Problem{status}": content({"$ref": "#/components/schemas/Problem"}, text) for status, text in PROBLEMS.items()}
"""Of the components."""
PROBLEM_REFS = {str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in PROBLEMS}
"""Of a path that infers."""
_TENSORS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "datatype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}},
        },
        "required": ["name", "datatype", "shape"],
    },
}
SCHEMAS: dict[str, Schema] = {
    "Problem": {
        "type": "object",
        "properties": {"error": {"type": "string"}, "code": {"type": "string"}},
        "required": ["error"],
    },
    "MLflowProblem": {
        "type": "object",
        "properties": {"error_code": {"type": "string"}, "message": {"type": "string"}},
        "required": ["error_code", "message"],
    },
    "Ready": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "ready": {"const": True}},
        "required": ["name", "ready"],
    },
    "Metadata": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "versions": {"type": "array", "items": {"type": "string"}},
            "platform": {"type": "string"},
            "inputs": _TENSORS,
            "outputs": _TENSORS,
            "streams": {"const": True, "description": "it answers in parts"},
        },
        "required": ["name", "platform", "inputs", "outputs"],
    },
}
