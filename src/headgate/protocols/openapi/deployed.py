"""What is said of one deployment: its own paths, with its own types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from headgate.errors import NotReady
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base import DeploymentView
from headgate.protocols.base.schemas import (
    Schema,
    element_schema,
    input_schema,
    nested_schema,
    output_schema,
    prediction_schema,
)
from headgate.protocols.base.shown import WHOLE_SEQUENCE, shown_row
from headgate.protocols.openapi import streamed
from headgate.protocols.openapi.parts import PROBLEM_REFS, content, get, has

_SEQUENCE: Schema = {
    "type": "object",
    "properties": {
        "sequence_id": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "minLength": 1}]},
        "sequence_start": {"type": "boolean", "description": "it is the first of its sequence"},
        "sequence_end": {"type": "boolean", "description": "it is the last"},
    },
    "required": ["sequence_id"],
    "description": "among others, such as timeout (microseconds), the sequence that the request belongs to",
}


class Deployed(NamedTuple):
    """One deployment and the signature it has now."""

    name: str
    dialect: str
    signature: Signature
    row: Any
    """An example."""

    def ref(self, kind: str) -> Schema:
        """Return a reference to one of its schemas."""
        return {"$ref": f"#/components/schemas/{self.name}.{kind}"}

    def schemas(self) -> dict[str, Schema]:
        """Return the schemas of its rows, by the names they have among the components."""
        return {
            f"{self.name}.Row": input_schema(self.signature),
            f"{self.name}.Answer": output_schema(self.signature),
            f"{self.name}.Prediction": prediction_schema(self.signature),
        }

    def paths(self) -> dict[str, Any]:
        """Return its paths."""
        at = f"/v2/models/{self.name}"
        return {
            **self._inferring(at),
            at: get("Inputs, outputs and versions", {"$ref": "#/components/schemas/Metadata"}, self.name),
            f"{at}/ready": get("Whether a request would be computed now", {"$ref": "#/components/schemas/Ready"}, self.name),
        }

    def _inferring(self, at: str) -> dict[str, Any]:
        if self.signature.streams:
            return streamed.paths(self.name, self.dialect, self.signature, self.row)
        tensors = self.post("Infer (Open Inference Protocol)", self._tensors(), self._tensor_example(), self._answer())
        dialect = _DIALECTS.get(self.dialect, _nothing)(self)
        if self.signature.stateful:
            # Rows have no place for the sequence that a request belongs to, so the paths that take them refuse.
            return {
                f"{at}/infer": tensors,
                **{path: operations for path, operations in dialect.items() if "post" not in operations},
            }
        rows = self.post("Predict rows", self.rows("Row"), self.row, self.rows("Answer"))
        return {f"/predict/{self.name}": rows, f"{at}/infer": tensors, **dialect}

    def post(self, summary: str, takes: Schema, example: Any, gives: Schema) -> Schema:
        """Return the operation of a path that infers."""
        return {
            "post": {
                "summary": f"{self.name}: {summary}",
                "tags": [self.name],
                "requestBody": {"required": True, "content": {"application/json": {"schema": takes, "example": example}}},
                "responses": {"200": content(gives, "The answer"), **PROBLEM_REFS},
            }
        }

    def rows(self, kind: str) -> Schema:
        """Return the schema of one of its schemas, or a list of them where there is a batch axis."""
        one = self.ref(kind)
        return {"oneOf": [one, {"type": "array", "items": one}]} if self.signature.batched else one

    def _tensors(self) -> Schema:
        inputs = self.signature.inputs
        members: Schema = {
            "id": {"type": ["string", "null"]},
            "parameters": {
                "type": ["object", "null"],
                "description": "among them timeout (microseconds), priority and binary_data_output",
            },
            "inputs": {
                "type": "array",
                "items": {"oneOf": [_tensor(spec, nested=True) for spec in inputs]},
                "minItems": max(1, sum(not spec.optional for spec in inputs)),
                "maxItems": len(inputs),
            },
            "outputs": {
                "type": ["array", "null"],
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"enum": [spec.name for spec in self.signature.outputs]},
                        "parameters": {"type": ["object", "null"]},
                    },
                    "required": ["name"],
                },
            },
        }
        if self.signature.stateful:
            members["parameters"] = _SEQUENCE
        return {
            "type": "object",
            "properties": members,
            "required": ["inputs", *(["parameters"] if self.signature.stateful else [])],
        }

    def _tensor_example(self) -> Any:
        signature, row = self.signature, self.row
        inputs = [_tensor_of(spec, row[spec.name], signature.batched) for spec in signature.inputs if spec.name in row]
        return {"inputs": inputs, "parameters": WHOLE_SEQUENCE} if signature.stateful else {"inputs": inputs}

    def _answer(self) -> Schema:
        outputs = {"type": "array", "items": {"oneOf": [_tensor(spec, nested=False) for spec in self.signature.outputs]}}
        members = {
            "model_name": {"const": self.name},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": outputs,
        }
        return {"type": "object", "properties": members, "required": ["model_name", "model_version", "outputs"]}


def deployed(deployment: DeploymentView) -> Deployed | None:
    """Return what is known of a deployment; None while it has no revision."""
    try:
        signature, example = deployment.plan(None).signature, deployment.example()
    except NotReady:
        return None
    return Deployed(deployment.name, deployment.dialect, signature, shown_row(example, signature))


def _tensor(spec: TensorSpec, *, nested: bool) -> Schema:
    """Return the schema of a tensor of the Open Inference Protocol; ``nested``: the data may be nested, too."""
    plain = TensorSpec(name=spec.name, dtype=spec.dtype, shape=spec.shape)  # here JSON documents and bytes are strings
    flat = nested_schema(element_schema(plain), [-1])
    deep = [nested_schema(element_schema(plain), spec.shape)] if nested and len(spec.shape) > 1 else []
    shape = nested_schema({"type": "integer", "minimum": 0}, [len(spec.shape)])
    return {
        "type": "object",
        "properties": {
            "name": {"const": spec.name},
            "datatype": {"const": spec.dtype},
            "shape": {**shape, "description": f"{list(spec.shape)}, where -1 is any size"},
            "data": {"anyOf": [flat, *deep]} if deep else flat,
        },
        "required": ["name", "datatype", "shape", "data"],
    }


def _tensor_of(spec: TensorSpec, value: Any, batched: bool) -> Any:
    if spec.content == "json":
        value = msgspec.json.encode(value).decode()
    tail, shape = spec.shape[1:] if batched else spec.shape, _sizes(value)
    shape += [1] * (len(tail) - len(shape))  # a column of width one, written without its brackets
    return {"name": spec.name, "datatype": spec.dtype, "shape": [1, *shape] if batched else shape, "data": _flat(value)}


def _sizes(value: Any) -> list[int]:
    return [len(value), *(_sizes(value[0]) if value else ())] if isinstance(value, list) else []


def _flat(value: Any) -> list[Any]:
    return [item for part in value for item in _flat(part)] if isinstance(value, list) else [value]


# ---- the /v1 paths of each dialect


def _instances(it: Deployed) -> Schema:
    """Return the schema of a list of rows, or of values of the only input; without a batch axis it holds one."""
    length = {} if it.signature.batched else {"minItems": 1, "maxItems": 1}
    kinds = [it.ref("Row")]
    if len(it.signature.inputs) == 1:
        kinds += input_schema(it.signature)["properties"].values()
    return has("instances", {"anyOf": [{"type": "array", "items": kind, **length} for kind in kinds]})


def _tfserving(it: Deployed) -> dict[str, Any]:
    batched, row = it.signature.batched, it.row
    columns = has("inputs", {"description": "the whole inputs, by name; the value alone where there is one"})
    gives = {"oneOf": [has("predictions", {"type": "array"}), has("outputs", {})]}
    takes = {"oneOf": [_instances(it), columns]} if batched else columns
    at = f"/v1/models/{it.name}"
    return {
        f"{at}:predict": it.post(
            "Predict (TensorFlow Serving)", takes, {"instances": [row]} if batched else {"inputs": row}, gives
        ),
        at: get("State of the versions (TensorFlow Serving)", has("model_version_status", {"type": "array"}), it.name),
    }


def _kserve(it: Deployed) -> dict[str, Any]:
    at = f"/v1/models/{it.name}"
    return {
        f"{at}:predict": it.post(
            "Predict (KServe V1)",
            _instances(it),
            {"instances": [it.row]},
            has("predictions", {"type": "array", "items": it.ref("Prediction")}),
        ),
        at: get("Whether a request would be computed now (KServe V1)", {"$ref": "#/components/schemas/Ready"}, it.name),
    }


def _truss(it: Deployed) -> dict[str, Any]:
    inputs, outputs = it.signature.inputs, it.signature.outputs
    at = f"/v1/models/{it.name}"
    takes, gives, example = it.rows("Row"), it.rows("Answer"), it.row
    if len(inputs) == 1 and inputs[0].content == "json":
        takes, example = element_schema(inputs[0]), example[inputs[0].name]
        gives = {} if len(outputs) == 1 and outputs[0].content == "json" else it.ref("Prediction")
    return {
        f"{at}:predict": it.post("Predict (Truss)", takes, example, gives),
        at: get("Whether a request would be computed now (Truss)", {"type": "object"}, it.name),
    }


def _nothing(it: Deployed) -> dict[str, Any]:
    return {}


_DIALECTS: Mapping[str, Callable[[Deployed], dict[str, Any]]] = {"tfserving": _tfserving, "kserve": _kserve, "truss": _truss}
