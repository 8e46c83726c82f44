"""What TensorFlow Serving calls a signature: its name, its method, and what it tells of inputs and outputs.

A deployment has one signature, and its name is ``serving_default``. Its method follows from its names, types and shapes, which for
classify and regress are fixed (tensorflow/serving, servables/tensorflow/{classifier,regressor}.cc).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headgate.errors import InvalidRequest
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base import Plan
from headgate.protocols.tfserving.dtypes import TYPES

NAME = "serving_default"
PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
EXAMPLES = "inputs"
"""The one input of classify and regress: serialized examples."""
CLASSES, SCORES = "classes", "scores"
"""Outputs of classify; one of them is enough."""
VALUES = "outputs"
"""The output of regress."""
_KINDS = {CLASSIFY: "classification", REGRESS: "regression"}
_WANTED = {
    CLASSIFY: f"one input '{EXAMPLES}' (DT_STRING, [-1]), and outputs '{CLASSES}' (DT_STRING) and '{SCORES}' (DT_FLOAT), or one of "
    "them, of shape [-1,N]",
    REGRESS: f"one input '{EXAMPLES}' (DT_STRING, [-1]) and one output '{VALUES}' (DT_FLOAT, [-1] or [-1,1])",
}


def method_of(signature: Signature) -> str:
    """Return which of the three methods a signature is made for; every signature can be asked by predict."""
    only = signature.inputs[0] if len(signature.inputs) == 1 else None
    if only is None or not signature.batched or (only.name, only.dtype, only.shape) != (EXAMPLES, "BYTES", (-1,)):
        return PREDICT
    outputs = {spec.name: (spec.dtype, spec.shape) for spec in signature.outputs}
    if outputs in ({VALUES: ("FP32", (-1,))}, {VALUES: ("FP32", (-1, 1))}):
        return REGRESS
    kinds = {CLASSES: "BYTES", SCORES: "FP32"}
    if outputs and all(kinds.get(name) == dtype and len(shape) == 2 for name, (dtype, shape) in outputs.items()):
        return CLASSIFY
    return PREDICT


def check_method(plan: Plan, name: str, wanted: str) -> None:
    """Refuse classify or regress where the signature asked for is not made for it. Raises `InvalidRequest`."""
    if name not in ("", NAME):
        raise InvalidRequest(f"No signature was found with the name: {name[:200]} (model '{plan.model}' has one, '{NAME}')")
    method = method_of(plan.signature)
    if method != wanted:
        raise InvalidRequest(
            f"Expected {_KINDS[wanted]} signature method_name to be {wanted}. Was: {method} "
            f"(such a signature has {_WANTED[wanted]}; this model can be asked by predict)"
        )


def signature_json(signature: Signature) -> dict[str, Any]:
    """Return the signature as the JSON of ``tensorflow.SignatureDef``: 64-bit numbers as strings, defaults written out."""
    return {
        "inputs": _tensors_json(signature.inputs),
        "outputs": _tensors_json(signature.outputs),
        "method_name": method_of(signature),
        "defaults": {},
    }


def _tensors_json(specs: Sequence[TensorSpec]) -> dict[str, Any]:
    return {
        spec.name: {
            "dtype": TYPES[spec.dtype].name,
            "tensor_shape": {"dim": [{"size": str(size), "name": ""} for size in spec.shape], "unknown_rank": False},
            "name": f"{spec.name}:0",
        }
        for spec in specs
    }


def fill_signature(into: Any, signature: Signature) -> None:
    """Set the message ``tensorflow.SignatureDef`` that is ``into``."""
    into.method_name = method_of(signature)
    for side, specs in ((into.inputs, signature.inputs), (into.outputs, signature.outputs)):
        for spec in specs:
            tensor = side[spec.name]
            tensor.name = f"{spec.name}:0"
            tensor.dtype = TYPES[spec.dtype].number
            tensor.tensor_shape.SetInParent()  # a scalar has a shape, too
            for size in spec.shape:
                tensor.tensor_shape.dim.add(size=size)
