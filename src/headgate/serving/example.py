"""Input examples: a JSON file becomes arrays.

Replica side: standard library and NumPy. Three forms are read: an Open Inference Protocol request (``{"inputs": [...]}``), a row or a
list of rows (``{"age": 3}``), and a bare nested list of rows for a model with one input.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headgate.errors import PackageError, did_you_mean
from headgate.runtimes.base import Arrays
from headgate.tensors import DTYPES, dtype_of


def read_example(path: Path) -> Arrays:
    """Read an example file.

    Rows give arrays with a batch axis, a bare list the single key ``""``, a request exactly its tensors. Whole numbers are int64,
    others float64, text object arrays of `bytes`. Raises `PackageError` saying what is wrong where.
    """
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        raise PackageError(f"the example {path.name} is not JSON: {error}") from error
    if isinstance(document, dict) and isinstance(document.get("inputs"), list):
        return _of_request(document["inputs"])
    rows = [document] if isinstance(document, dict) else document
    if not isinstance(rows, list) or not rows:
        raise PackageError("the example must be a row, a list of rows, or a request with 'inputs', and not be empty")
    if isinstance(rows[0], dict):
        return _of_rows(rows)
    return {"": _array(rows, "the example")}


def _of_request(tensors: list[Any]) -> Arrays:
    arrays: Arrays = {}
    for index, tensor in enumerate(tensors):
        missing = [key for key in ("name", "datatype", "shape", "data") if not isinstance(tensor, dict) or key not in tensor]
        if missing:
            raise PackageError(f"inputs[{index}] of the example lacks {', '.join(missing)}")
        name, dtype = str(tensor["name"]), str(tensor["datatype"])
        if dtype not in DTYPES:
            raise PackageError(f"input {name!r} of the example has the unknown datatype {dtype!r}{did_you_mean(dtype, DTYPES)}")
        array = _array(tensor["data"], f"input {name!r} of the example")
        if (array.dtype == object) != (dtype == "BYTES"):
            raise PackageError(f"input {name!r} of the example is said to be {dtype}, and its data is not")
        try:
            arrays[name] = array.astype("float32" if dtype == "BF16" else DTYPES[dtype].numpy).reshape(tensor["shape"])
        except (TypeError, ValueError) as error:
            raise PackageError(f"input {name!r} of the example has {array.size} elements, not shape {tensor['shape']}") from error
    return arrays


def _of_rows(rows: list[Any]) -> Arrays:
    names = list(rows[0])
    for index, row in enumerate(rows):
        if not isinstance(row, dict) or set(row) != set(names):
            raise PackageError(f"row {index} of the example must have the fields of row 0: {', '.join(names)}")
    return {name: _array([row[name] for row in rows], f"field {name!r} of the example") for name in names}


def _array(values: Sequence[Any], what: str) -> np.ndarray[Any, Any]:
    try:
        array = np.array(values)
    except ValueError as error:
        raise PackageError(f"the rows of {what} differ in shape") from error
    if array.dtype.kind == "U":
        # NumPy turns numbers between strings into strings; what was meant cannot be told.
        array = np.array(values, dtype=object)
    if any(isinstance(value, dict) for value in array.ravel().tolist()):
        return _objects(values)
    if array.dtype == object:
        array = _text_or_missing(array, what)
    if array.dtype.kind not in "bifuO":
        raise PackageError(f"{what} must be numbers, text or true and false")
    return array


def _objects(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    """Return a value for each row as it is: only an input of JSON documents can take them."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def documents(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return what an example gives for an input of JSON documents: the text of one for each row. Text that is JSON stays as it is."""
    return _objects([_document(row) for row in array.tolist()]) if array.ndim else array


def _document(value: Any) -> bytes:
    if isinstance(value, bytes):
        try:
            json.loads(value)
        except ValueError:
            return json.dumps(value.decode()).encode()
        return value
    return json.dumps(_readable(value)).encode()


def _readable(value: Any) -> Any:
    if isinstance(value, list):
        return [_readable(part) for part in value]
    return value.decode() if isinstance(value, bytes) else value


def is_tensor(array: np.ndarray[Any, Any]) -> bool:
    """Whether an array of an example holds what a tensor can: no objects."""
    return array.dtype != object or all(isinstance(value, bytes) for value in array.ravel().tolist())


def kind_of(array: np.ndarray[Any, Any]) -> str:
    """Say what an array of an example holds, for people."""
    return dtype_of(array) if is_tensor(array) else "objects"


def _text_or_missing(array: np.ndarray[Any, Any], what: str) -> np.ndarray[Any, Any]:
    kinds = {type(item) for item in array.ravel().tolist()}
    if kinds == {str}:
        text = array.copy()
        text.ravel()[:] = [item.encode() for item in array.ravel().tolist()]
        return text
    if kinds <= {int, float, type(None)}:  # null stands for a missing number
        return array.astype(np.float64)
    raise PackageError(f"{what} mixes {', '.join(sorted(kind.__name__ for kind in kinds))}")
