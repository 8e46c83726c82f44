"""What TensorFlow Serving calls a signature: its name, its method, and what it tells of inputs and outputs.

Of a SavedModel there may be several; every other model has one, and its name is ``serving_default``. The method is what the SavedModel
says, else what follows from names, types and shapes, which for classify and regress are fixed (tensorflow/serving,
servables/tensorflow/{classifier,regressor}.cc).
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
_SAVED_FOR = {"classify": CLASSIFY, "regress": REGRESS}
_KINDS = {CLASSIFY: "classification", REGRESS: "regression"}
_WANTED = {
    CLASSIFY: f"one input '{EXAMPLES}' (DT_STRING, [-1]), and outputs '{CLASSES}' (DT_STRING) and '{SCORES}' (DT_FLOAT), or one of "
    "them, of shape [-1,N]",
    REGRESS: f"one input '{EXAMPLES}' (DT_STRING, [-1]) and one output '{VALUES}' (DT_FLOAT, [-1] or [-1,1])",
}


def name_of(plan: Plan) -> str:
    """Return what the signature of ``plan`` is called."""
    return plan.signature.name or NAME


def all_of(plan: Plan) -> Sequence[Plan]:
    """Return the plans of all signatures of a model."""
    return plan.each or (plan,)


def find(plan: Plan, name: str) -> Plan | None:
    """Return the plan of the model's signature called ``name`` (empty: of the one that is meant then), or None."""
    if not name:
        return plan
    return next((each for each in all_of(plan) if name_of(each) == name), None)


def listed(plan: Plan) -> str:
    """Say which signatures a model has."""
    names = ", ".join(f'"{name_of(each)}"' for each in all_of(plan))
    return f"model '{plan.model}' has {names}" if plan.each else f"model '{plan.model}' has one, {names}"


def method_of(signature: Signature) -> str:
    """Return which of the three methods a signature is made for; every signature can be asked by predict."""
    return _SAVED_FOR.get(signature.method) or _made_for(signature)


def _made_for(signature: Signature) -> str:
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


def find_for(wanted: str, plan: Plan, name: str) -> Plan:
    """Return the plan of the signature called ``name`` for classify or regress. Raises `InvalidRequest` if it is not made for that."""
    found = find(plan, name)
    if found is None:
        raise InvalidRequest(f"No signature was found with the name: {name[:200]} ({listed(plan)})")
    method = method_of(found.signature)
    if method != wanted:
        fitting = [name_of(each) for each in plan.each if method_of(each.signature) == wanted]
        hint = f"signature_name may be {', '.join(fitting)}" if fitting else f"such a signature has {_WANTED[wanted]}"
        raise InvalidRequest(
            f"Expected {_KINDS[wanted]} signature method_name to be {wanted}. Was: {method} ({hint}; this one can be asked by predict)"
        )
    if _made_for(found.signature) != wanted:
        raise InvalidRequest(
            f"the signature '{name_of(found)}' was saved for {wanted}, and does not have {_WANTED[wanted]}; ask it by predict"
        )
    return found


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
