"""The JSON of a request: its structs, how it is parsed, and its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.errors import InvalidRequest, Unsupported
from headgate.json_tensors import NOT_JSON, check_depth, parse_json, parse_tolerant
from headgate.protocols.base import Plan
from headgate.protocols.oip.classification import Classes, wanted
from headgate.tensors import Buffer

_SEQUENCE = ("sequence_id", "sequence_start", "sequence_end")


class Output(msgspec.Struct, gc=False):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] | None = None


class Input(msgspec.Struct, gc=False):
    """An input of any kind."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: Any = None


class FloatInput(Input, gc=False):
    """The input of a model that takes only floats."""

    data: list[float] | None = None


class IntInput(Input, gc=False):
    """Only integers."""

    data: list[int] | None = None


class BytesInput(Input, gc=False):
    """Only strings."""

    data: list[str] | None = None


class Body(msgspec.Struct, gc=False):
    """A whole request."""

    inputs: list[Input]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[Output] | None = None


class _FloatBody(Body, gc=False):
    inputs: list[FloatInput]  # type: ignore[assignment]  # narrowed on purpose: types are checked while parsing


class _IntBody(Body, gc=False):
    inputs: list[IntInput]  # type: ignore[assignment]


class _BytesBody(Body, gc=False):
    inputs: list[BytesInput]  # type: ignore[assignment]


_DECODERS = {
    "float": msgspec.json.Decoder(_FloatBody).decode,
    "int": msgspec.json.Decoder(_IntBody).decode,
    "bytes": msgspec.json.Decoder(_BytesBody).decode,
}


def parse(body: Buffer, plan: Plan) -> Body:
    """Read the JSON of a request for ``plan``. Raises `InvalidRequest`."""
    decode = _DECODERS.get(plan.kind)
    if decode is not None and len(body) < 4096:
        try:
            return decode(body)  # the short way: types are checked by the parser; deep nesting cannot fit its structs
        except NOT_JSON:
            pass  # nested data, NaN, or a mistake the long way explains
    check_depth(body)
    try:
        return decode(body) if decode is not None else _convert(parse_json(body))
    except msgspec.ValidationError:
        return _convert(parse_json(body))
    except NOT_JSON as error:
        return _convert(parse_tolerant(body, str(error)))


def _convert(parsed: Any) -> Body:
    try:
        return msgspec.convert(parsed, Body)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        place = path.rstrip("`").lstrip(".")
        missing = text.partition("required field `")[2].rstrip("`")
        where = f"{place}.{missing}".lstrip(".") if missing else place or "request"
        raise InvalidRequest(f"Unable to parse '{where}': {'it is missing' if missing else text[:1].lower() + text[1:]}") from None


def check_parameters(parameters: Mapping[str, Any], *, stateful: bool = False) -> None:
    """Refuse parameters the protocol has no room for, and those that are reserved. Raises `InvalidRequest` or `Unsupported`.

    ``stateful``: they are those of a request to a model that keeps state, to which sequences mean something.
    """
    for key, value in parameters.items():
        if key.startswith("triton_"):
            raise InvalidRequest(
                f"parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified: '{key[:100]}'"
            )
        if type(value) not in (str, int, float, bool):
            raise InvalidRequest(f"parameter '{key[:100]}': expected a string, number or boolean, got {type(value).__name__}")
        if key in _SEQUENCE and not stateful:
            raise Unsupported(
                f"parameter '{key}': sequences are for requests to models that keep state, and this is none; leave it out"
            )
        if key == "shared_memory_region":
            raise Unsupported(f"parameter '{key}': Client shared memory is disabled: this server does not offer it; leave it out")
        if key == "classification":
            raise InvalidRequest("parameter 'classification': it is one of a requested output, not of a request or an input")


def output_parameters(given: Mapping[str, Any] | None, index: int, plan: Plan) -> tuple[Mapping[str, Any], Classes | None]:
    """Return the parameters of a requested output, checked, without ``classification``; and what that asks for. Raises as they do."""
    if not given:
        return {}, None
    parameters = dict(given)
    classes = wanted(parameters.pop("classification", 0), index, plan)
    check_parameters(parameters)
    return parameters, classes


def flag(value: Any, name: str) -> bool:
    """Return the truth value of a parameter. Raises `InvalidRequest` if it is none."""
    if type(value) is not bool:
        raise InvalidRequest(f"parameter '{name}': expected true or false, got {str(value)[:50]!r}")
    return value


def timeout(value: Any) -> float | None:
    """Return the seconds of a ``timeout`` in microseconds; 0 is none. Raises `InvalidRequest` if it is no such number."""
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise InvalidRequest(f"parameter 'timeout': expected microseconds as an integer of 0 or more, got {str(value)[:50]!r}")
    return value / 1e6 or None


def priority(value: Any) -> int:
    """Return a ``priority``. Raises `InvalidRequest` if it is none."""
    if type(value) is not int or not 0 <= value < 1 << 32:
        raise InvalidRequest(
            f"parameter 'priority': expected an integer of 0 (default) or more, 1 being the highest, got {str(value)[:50]!r}"
        )
    return value
