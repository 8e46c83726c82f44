"""The signature of an MLflow model, as far as packaging needs it: which inputs are JSON documents, and what form the answers have.

The runtime reads it again by MLflow's own classes. Source: mlflow 3.17, types/schema.py: ``inputs``, ``outputs`` and ``params`` are
JSON in strings; an entry is a tensor (``tensor-spec``) or a column (``type``, ``name``, ``required``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from headgate.errors import PackageError

_DTYPES = {
    "boolean": "BOOL", "integer": "INT32", "long": "INT64", "float": "FP32", "double": "FP64", "string": "BYTES", "binary": "BYTES",
    "datetime": "BYTES",
}  # fmt: skip


class Entry(NamedTuple):
    """One input or output."""

    name: str
    """Empty where it has none."""
    kind: str
    """Of a column: ``double``, ``string``, ``object``, ...; ``tensor``."""
    shape: tuple[int, ...] = ()
    """Of a tensor."""

    @property
    def document(self) -> bool:
        """Whether its values are JSON documents here: arrays, objects, maps and whatever else nests."""
        return self.kind != "tensor" and self.kind not in _DTYPES

    @property
    def dtype(self) -> str:
        """The Open Inference Protocol's name of a column's type."""
        return _DTYPES.get(self.kind, "BYTES")


class Schema(NamedTuple):
    """A model's signature."""

    inputs: tuple[Entry, ...]
    outputs: tuple[Entry, ...] | None
    """None: not said."""
    params: bool

    @property
    def tensors(self) -> bool:
        """Whether the inputs are tensors, not the columns of a data frame."""
        return bool(self.inputs) and all(entry.kind == "tensor" for entry in self.inputs)


def read_schema(document: Mapping[str, Any]) -> Schema | None:
    """Return the signature in an MLmodel; None where there is none. Raises `PackageError`."""
    signature = document.get("signature")
    if not signature:
        return None
    if not isinstance(signature, dict):
        raise PackageError(f"MLmodel: signature: expected inputs, outputs and params, got {type(signature).__name__}")
    inputs = _entries(signature, "inputs")
    if inputs is None:
        return None
    return Schema(inputs, _entries(signature, "outputs"), bool(_listed(signature, "params")))


def _entries(signature: Mapping[str, Any], key: str) -> tuple[Entry, ...] | None:
    listed = _listed(signature, key)
    return None if listed is None else tuple(_entry(entry, f"signature.{key}[{at}]") for at, entry in enumerate(listed))


def _listed(signature: Mapping[str, Any], key: str) -> Sequence[Any] | None:
    text = signature.get(key)
    if text is None:
        return None
    try:
        listed = json.loads(text)
    except (TypeError, ValueError) as error:
        raise PackageError(f"MLmodel: signature.{key}: expected JSON in a string: {error}") from error
    if not isinstance(listed, list):
        raise PackageError(f"MLmodel: signature.{key}: expected a list, got {type(listed).__name__}")
    return listed


def _entry(entry: Any, where: str) -> Entry:
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
        raise PackageError(f"MLmodel: {where}: expected an object with a type, got {str(entry)[:80]}")
    name = str(entry.get("name") or "")
    if entry["type"] != "tensor":
        return Entry(name, entry["type"])
    spec = entry.get("tensor-spec")
    if not isinstance(spec, dict) or not isinstance(spec.get("shape"), list):
        raise PackageError(f"MLmodel: {where}: a tensor without tensor-spec.shape")
    return Entry(name, "tensor", tuple(spec["shape"]))
