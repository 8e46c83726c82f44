"""TensorFlow Serving's words for what is wrong: clients and their tests look for them.

Source: tensorflow/serving, util/json_tensor.cc, model_servers/{http_rest_api_util,get_model_status_impl,server_core}.cc. What Headgate
itself has to say (which versions there are, the likely spelling) follows theirs in parentheses.
"""

from __future__ import annotations

import json
from typing import Any

from headgate.errors import HeadgateError, InvalidRequest, NotFound, UnknownModel

LARGEST_VERSION = (1 << 63) - 1
_SHOWN = 256
"""Characters of a JSON value that an error shows."""
_JSON = json.JSONEncoder(separators=(",", ":"))
_KINDS = {type(None): "Null", dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}


def worded(error: HeadgateError) -> HeadgateError:
    """Return ``error`` as TensorFlow Serving would put it: a model, version or label that is not served."""
    if not isinstance(error, UnknownModel):
        return error
    model, version = error.model[:200], error.version
    if version is None:
        return NotFound(f"Servable not found for request: Latest({model}) ({error})")
    if not is_number(version):
        return unknown_label(version, str(error))
    if int(version) > LARGEST_VERSION:
        return bad_version(version)
    return NotFound(f"Servable not found for request: Specific({model}, {version}) ({error})")


def is_number(version: str) -> bool:
    """Whether ``version`` is written as a number, and not as a label."""
    return version.isascii() and version.removeprefix("-").isdecimal()


def bad_version(version: str) -> InvalidRequest:
    """Say that a version is larger than 64 bits hold."""
    return InvalidRequest(f"Failed to convert version: {version[:50]} to numeric.")


def unknown_label(label: str, known: str) -> InvalidRequest:
    """Say that a label is none; ``known`` says more."""
    return InvalidRequest(f"Unrecognized servable version label: {label[:200]} ({known})")


def shown(value: Any) -> str:
    """Return a JSON value for an error, cut where it is long."""
    text = ""
    for part in _JSON.iterencode(value):  # lazily: of a large body only the start is written
        text += part
        if len(text) > _SHOWN:
            return text[:_SHOWN]
    return text


def kind(value: Any) -> str:
    """Return what a JSON value is: ``Number``, ``Array``, ..."""
    return str(value) if isinstance(value, bool) else _KINDS[type(value)]


def not_of_type(value: Any, word: str) -> InvalidRequest:
    """Say that a JSON value is no ``word`` (``float``, ``int64``, ...), or out of its range."""
    return InvalidRequest(f"JSON Value: {shown(value)} Type: {kind(value)} is not of expected type: {word}")


def malformed(value: Any, why: str) -> InvalidRequest:
    """Say what is wrong with the form of a JSON value."""
    return InvalidRequest(f"JSON Value: {shown(value)} {why}")
