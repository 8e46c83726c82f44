"""The JSON of a predict request: rows (``instances``) or columns (``inputs``)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from headgate.errors import InvalidRequest
from headgate.json_tensors import parse_json
from headgate.protocols.base import InferRequest, InputPlan, Plan
from headgate.protocols.tfserving.nesting import is_base64, pack, shape_of
from headgate.protocols.tfserving.signatures import find, listed
from headgate.protocols.tfserving.words import malformed, shown
from headgate.tensors import Buffer, elements

_PLACE = re.compile(r" at (\d+)$")


def parse_object(body: Buffer) -> dict[str, Any]:
    """Return the object that a body is. Raises `InvalidRequest`."""
    if not body:
        raise InvalidRequest("JSON Parse error: The document is empty")
    try:
        parsed = parse_json(body)
    except InvalidRequest as error:
        text = str(error).partition("JSON buffer: ")[2] or str(error)
        text = _PLACE.sub(r" at offset: \1", text.replace("Expecting value", "Invalid value."))
        raise InvalidRequest(f"JSON Parse error: {text}") from None
    if not isinstance(parsed, dict):
        raise malformed(parsed, "Is not object")
    return parsed


def signature_name(parsed: dict[str, Any]) -> str:
    """Return which signature a request names; empty: none. Raises `InvalidRequest`."""
    name = parsed.get("signature_name", "")
    if not isinstance(name, str):
        raise malformed(parsed, "not formatted correctly. 'signature_name' key must be a string value.")
    return name


def plan_asked(parsed: dict[str, Any], plan: Plan) -> Plan:
    """Return the plan of the signature that a request to predict names, of those of the model. Raises `InvalidRequest`."""
    name = signature_name(parsed)
    found = find(plan, name)
    if found is None:
        raise InvalidRequest(f'Serving signature name: "{name[:200]}" not found in signature def ({listed(plan)})')
    return found


def read_predict(parsed: dict[str, Any], plan: Plan) -> tuple[InferRequest, bool]:
    """Return the request to infer, and whether it came in rows. Raises `InvalidRequest`."""
    infer = InferRequest.of(len(plan.inputs))
    if "instances" in parsed:
        if "inputs" in parsed:
            raise malformed(parsed, "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ")
        _read_rows(_instances(parsed), plan, infer)
    elif "inputs" in parsed:
        _read_columns(parsed["inputs"], plan, infer)
    else:
        raise InvalidRequest("Missing 'inputs' or 'instances' key")
    return plan.finish(infer), "instances" in parsed


def _set(infer: InferRequest, into: InputPlan, plan: Plan, shape: list[int], data: bytes) -> None:
    plan.check(into, into.dtype.name, shape)
    infer.shapes[into.index], infer.data[into.index] = shape, data


# ---- columns


def _read_columns(inputs: Any, plan: Plan, infer: InferRequest) -> None:
    if not isinstance(inputs, dict) or is_base64(inputs):
        if len(plan.inputs) != 1:
            raise InvalidRequest(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map "
                f"(its inputs are {','.join(sorted(plan.by_name))})"
            )
        inputs = {plan.inputs[0].name: inputs}
    for into in plan.inputs:  # names that are no input are not looked at
        if into.name in inputs:
            shape = shape_of(inputs[into.name])
            _set(infer, into, plan, shape, pack(inputs[into.name], shape, into))
        elif not into.optional:
            raise InvalidRequest(f"Missing named input: {into.name} in 'inputs' object.")


# ---- rows


def _instances(parsed: dict[str, Any]) -> list[Any]:
    instances = parsed["instances"]
    if not isinstance(instances, list):
        raise malformed(parsed, "Excepting 'instances' to be an list/array")
    if not instances:
        raise malformed(parsed, "No values in 'instances' array")
    return instances


def _read_rows(instances: list[Any], plan: Plan, infer: InferRequest) -> None:
    first = instances[0]
    if not _is_row(first) and len(plan.inputs) != 1:
        raise InvalidRequest(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map "
            f"(its inputs are {','.join(sorted(plan.by_name))})"
        )
    if _is_row(first):
        _check_keys(instances, plan)
        columns = {name: [row[name] for row in instances] for name in first}
    else:
        _check_values(instances)
        columns = {plan.inputs[0].name: instances}
    for name, values in columns.items():
        into = plan.by_name[name]
        shape = [len(values), *shape_of(values[0])]
        try:
            data = pack(values, shape, into)
        except InvalidRequest:
            _explain(values, into, f"key: {name} of" if _is_row(first) else "of")
            raise
        _set(infer, into, plan, shape, data)


def _is_row(item: Any) -> bool:
    """Whether an instance is an object of named inputs."""
    return isinstance(item, dict) and not is_base64(item)


def _check_values(instances: list[Any]) -> None:
    for at, item in enumerate(instances):
        if isinstance(item, dict) and not is_base64(item):
            raise InvalidRequest(f"Expecting value/list but got object at item {at} of input list")


def _check_keys(instances: list[Any], plan: Plan) -> None:
    """Refuse rows of which one lacks an input, has another, or is no object. Inputs that may be left out are so in all rows or none."""
    keys = instances[0].keys()
    if not {into.name for into in plan.inputs if not into.optional} <= keys <= plan.by_name.keys():
        keys = plan.by_name.keys()
    for at, row in enumerate(instances):
        if not _is_row(row):
            raise InvalidRequest(f"Expecting object but got list at item {at} of input list")
        if row.keys() == keys:
            continue
        for key in row:
            if key not in plan.by_name:
                raise InvalidRequest(
                    f"Failed to process element: {at} key: {key[:200]} of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does "
                    f"not have named input: {key[:200]} (inputs are {','.join(sorted(plan.by_name))})"
                )
        raise InvalidRequest(
            f"Failed to process element: {at} of 'instances' list. JSON object: {shown(row)} keys must be equal to: "
            f"{','.join(sorted(keys))}"
        )


def _explain(values: Sequence[Any], into: InputPlan, where: str) -> None:
    """Look for the row that is wrong, and say what is wrong with it. Raises `InvalidRequest`."""
    shape = shape_of(values[0])
    for at, value in enumerate(values):
        found = shape_of(value)
        try:
            pack(value, found, into)
            if found != shape:
                raise InvalidRequest(_other_shape(shape, found))
        except InvalidRequest as error:
            raise InvalidRequest(
                f"Failed to process element: {at} {where} 'instances' list. Error: INVALID_ARGUMENT: {error}"
            ) from None


def _other_shape(first: list[int], found: list[int]) -> str:
    if elements(first) != elements(found):
        return f"Expecting tensor size: {elements(first)} but got: {elements(found)}"
    return f"Expecting shape [{','.join(map(str, first))}] but got: [{','.join(map(str, found))}]"
