"""Answers in parts, as a client sees them: the request for one, server-sent events cut out of bytes, and what each of them holds.

Source for events: the HTML standard, section 9.2 (server-sent events).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from headgate.client.data import prepare
from headgate.client.wire import Field, Metadata, Request
from headgate.errors import HeadgateError, InvalidRequest, by_code
from headgate.tensors import DTYPES

if TYPE_CHECKING:
    import numpy as np


class Asked(NamedTuple):
    """An answer in parts that is to be asked for."""

    request: Request
    read: Callable[[bytes], Any]
    """Returns what the data of one event holds, as the same kind of thing as the inputs. Raises the error that it may be instead."""


class Events:
    """Cuts what comes into events."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, wherever the last ones ended; return the data of the events that are whole now."""
        *whole, self._rest = (self._rest + data).split(b"\n\n")
        lines = (b"\n".join(_data(line) for line in event.split(b"\n") if line.startswith(b"data:")) for event in whole)
        return [found for found in lines if found]


def _data(line: bytes) -> bytes:
    return line.removeprefix(b"data:").removeprefix(b" ")


def body_of(data: Any, metadata: Metadata, parameters: dict[str, object]) -> tuple[bytes, bool]:
    """Return the JSON that asks for an answer to ``data``, and whether that is a dict of inputs. Raises `InvalidRequest`."""
    typed, _ = prepare(data, metadata)
    members: dict[str, Any] = {name: _plain(name, array) for name, (_, array) in typed.items()}
    if parameters:
        members["parameters"] = parameters
    try:
        return json.dumps(members, separators=(",", ":")).encode(), isinstance(data, dict)
    except TypeError as error:
        raise InvalidRequest(f"parameters: they cannot be written as JSON ({error}); give numbers, text and truth values") from None


def _plain(name: str, array: np.ndarray[Any, Any]) -> Any:
    if array.dtype != object:
        return array.tolist()
    try:
        texts = [item.decode() for item in array.ravel().tolist()]
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"input {name!r}: is no UTF-8 text ({error}), and answers in parts are asked for by text") from None
    shaped = array.copy()
    shaped.ravel()[:] = texts
    return shaped.tolist()


def reader(metadata: Metadata, named: bool) -> Callable[[bytes], Any]:
    """Return what reads the data of one event: as a dict of outputs where ``named``, or if there are several; else as the only one."""

    def read(data: bytes) -> Any:
        try:
            answer = json.loads(data)
            if "error" in answer and not any(field.name == "error" for field in metadata.outputs):
                raise by_code(answer.get("code", ""), str(answer["error"]))
            outputs = {field.name: _value(field, answer[field.name]) for field in metadata.outputs}
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise HeadgateError(f"a part of the answer is broken ({error!r}); is this an inference port?") from error
        return outputs if named or len(outputs) != 1 else next(iter(outputs.values()))

    return read


def _value(field: Field, value: Any) -> Any:
    """Return one output: a bare value where it always is one, else an array, whose shape is known where one dimension varies at most."""
    if field.shape in ((1,), ()):
        return value
    import numpy as np

    dtype = "object" if field.dtype == "BYTES" else "float32" if field.dtype == "BF16" else DTYPES[field.dtype].numpy
    array = np.array(value, dtype=dtype)
    return array.reshape(field.shape) if field.shape.count(-1) <= 1 else array.reshape(-1)
