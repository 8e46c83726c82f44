"""Values as a Truss's class gets and gives them, and the JSON that stands for them on the way."""

from __future__ import annotations

import base64
import json
import types
import uuid
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np

from headgate.errors import ModelFailed
from headgate.runtimes.base import InvalidInput

_BINARY = "binary"


def is_binary(parameters: Mapping[str, object]) -> bool:
    """Return whether a request was binary. Raises `InvalidInput` for parameters of any other name."""
    for name in parameters:
        if name != _BINARY:
            raise InvalidInput(f"a Truss has no parameter {name!r}; what it takes is in its input")
    return bool(parameters.get(_BINARY))


_TAGS: Mapping[str, Callable[[Any], Any]] = types.MappingProxyType(
    {
        "__dt_datetime_iso__": datetime.fromisoformat,
        "__dt_date_iso__": date.fromisoformat,
        "__dt_time_iso__": time.fromisoformat,
        "__dt_timedelta__": lambda parts: timedelta(*parts),
        "__decimal__": Decimal,
        "__uuid__": uuid.UUID,
    }
)


def revived(value: Any) -> Any:
    """Return a value of a binary request as the model gets it: arrays, bytes and dates for the objects that stand for them."""
    if isinstance(value, list):
        return [revived(part) for part in value]
    if not isinstance(value, dict):
        return value
    try:
        if value.keys() == {"__bytes__"}:
            return base64.b64decode(value["__bytes__"])
        if value.keys() == {"__ndarray__"}:
            array = value["__ndarray__"]
            return np.frombuffer(base64.b64decode(array["base64"]), dtype=array["dtype"]).reshape(array["shape"]).copy()[()]
        for tag, revive in _TAGS.items():
            if value.keys() == {tag, "data"}:
                return revive(revived(value["data"]))
    except (ValueError, TypeError, KeyError, ArithmeticError) as error:
        raise InvalidInput(f"{next(iter(value))}: no such value: {error}") from error
    return {key: revived(part) for key, part in value.items()}


def written(value: Any, binary: bool) -> bytes:
    """Return what the model returned as JSON. Raises `ModelFailed` for what makes none."""
    if hasattr(value, "model_dump_json"):
        value = value.model_dump() if binary else json.loads(value.model_dump_json())
    try:
        return json.dumps(value, default=_tagged if binary else _plain).encode()
    except (TypeError, ValueError) as error:
        raise ModelFailed(f"predict returned what makes no JSON: {error}") from error


def part_of(value: Any) -> bytes:
    """Return what the model yielded as bytes. Raises `ModelFailed` for what is neither bytes nor text."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    raise ModelFailed(
        f"predict yielded a {type(value).__name__}; a Truss streams text or bytes: yield json.dumps(...) for other values"
    )


def _plain(value: Any) -> Any:
    """Return what JSON has for a value of NumPy's, as Truss's server does."""
    if isinstance(value, (np.integer, np.floating, np.ndarray)):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is no JSON; return numbers, text, lists and objects, or arrays")


def _tagged(value: Any) -> Any:
    """Return the object that stands for a value in the answer to a binary request."""
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
        return {"__ndarray__": {"dtype": array.dtype.str, "shape": list(array.shape), "base64": data}}
    if isinstance(value, bytes):
        return {"__bytes__": base64.b64encode(value).decode()}
    if isinstance(value, timedelta):
        return {"__dt_timedelta__": True, "data": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, datetime):
        return {"__dt_datetime_iso__": True, "data": value.isoformat().replace("+00:00", "Z")}
    names: dict[type, str] = {date: "__dt_date_iso__", time: "__dt_time_iso__", Decimal: "__decimal__", uuid.UUID: "__uuid__"}
    if type(value) in names:
        return {names[type(value)]: True, "data": value.isoformat() if isinstance(value, (date, time)) else str(value)}
    return _plain(value)
