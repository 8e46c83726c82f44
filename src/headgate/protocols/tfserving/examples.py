"""Examples for classify and regress: JSON features to serialized ``tensorflow.Example`` messages, which is what such models take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headgate.errors import InvalidRequest
from headgate.protocols.base import InferRequest, Plan
from headgate.protocols.tfserving.messages import EXAMPLE
from headgate.protocols.tfserving.nesting import from_base64, is_base64, nearest
from headgate.protocols.tfserving.words import kind, malformed
from headgate.tensors import DTYPES, frame_bytes

_LARGEST, _LEAST = (1 << 63) - 1, -(1 << 63)


def read_examples(parsed: dict[str, Any]) -> list[bytes]:
    """Return the examples of a request, with the features of its context in each. Raises `InvalidRequest`."""
    context = _example(parsed["context"]) if "context" in parsed else b""
    if "examples" not in parsed:
        raise malformed(parsed, "When method is classify, key 'examples' is expected and was not found")
    examples = parsed["examples"]
    if not isinstance(examples, list):
        raise malformed(parsed, "Expecting 'examples' value to be an list/array")
    if not examples:
        raise malformed(parsed, "'examples' value is an empty array")
    # Two messages of one kind, written one after the other, are one with the fields of both.
    return [context + _example(example) for example in examples]


def request_of(examples: Sequence[bytes], plan: Plan) -> InferRequest:
    """Return the request to infer with ``examples``; the plan's only input takes them."""
    infer = InferRequest.of(1)
    infer.shapes[0], infer.data[0] = [len(examples)], frame_bytes(examples)
    return plan.finish(infer)


def _example(features: Any) -> bytes:
    if not isinstance(features, dict):
        raise InvalidRequest(f"Example must be JSON object but got JSON {kind(features)}")
    example = EXAMPLE()
    for name, value in features.items():
        _fill(example.features.feature[name], name, value if isinstance(value, list) else [value])
    return bytes(example.SerializeToString())


def _fill(feature: Any, name: str, values: list[Any]) -> None:
    slot = ""
    for value in values:
        found, element = _element(name, value)
        if slot not in ("", found):
            raise InvalidRequest(f"Unexpected element type in feature: {name[:200]} expecting type: {slot.removesuffix('_list')}")
        slot = found
        getattr(feature, slot).value.append(element)


def _element(name: str, value: Any) -> tuple[str, Any]:
    """Return which list of a feature a JSON value belongs into, and the value there."""
    if isinstance(value, bool):
        return "int64_list", int(value)
    if isinstance(value, int) and _LEAST <= value <= _LARGEST:
        return "int64_list", value
    if isinstance(value, int) and 0 < value < 1 << 64:
        raise InvalidRequest(f"Feature: {name[:200]} has uint64_t element. Only int64_t is supported.")
    if isinstance(value, int):
        return "float_list", nearest(DTYPES["FP64"], value)
    if isinstance(value, float):
        return "float_list", value
    if isinstance(value, str):
        return "bytes_list", value.encode()
    if is_base64(value):
        return "bytes_list", from_base64(value)
    raise InvalidRequest(f"Feature: {name[:200]} has element with unexpected JSON type: {kind(value)}")
