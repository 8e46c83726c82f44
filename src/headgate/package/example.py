"""An input example: what the user has (JSON, CSV, NumPy) as the ``example.json`` of a package.

``example.json`` is one row (an object), a list of rows, a bare nested list of rows for a model with one input, or an Open Inference
Protocol request (``{"inputs": [...]}``). An array becomes a request, which keeps its dtype; the name of its input is left empty.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from headgate.errors import NotFound, PackageError, did_you_mean
from headgate.tensors import dtype_of

MAX_BYTES = 4 << 20
"""Largest example: it is kept in the package, and shown in the documentation of the endpoint."""


def read_example(path: Path) -> bytes:
    """Return the example in the file at ``path`` as JSON. Raises `NotFound`, or `PackageError` if it cannot be read as one."""
    readers = {".json": _json, ".csv": _csv, ".npy": _npy}
    reader = readers.get(path.suffix.lower())
    if not path.is_file():
        there = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise NotFound(f"--example {path}: there is no such file{did_you_mean(path.name, there)}")
    if reader is None:
        raise PackageError(
            f"--example {path.name}: expected {', '.join(readers)}, got {path.suffix or 'no ending'!r}; save it as one of them"
        )
    if path.stat().st_size > MAX_BYTES:
        raise PackageError(
            f"--example {path.name}: {path.stat().st_size} bytes, at most {MAX_BYTES >> 20} MiB; a few rows are enough"
        )
    try:
        example = reader(path)
    except (ValueError, csv.Error, RecursionError) as error:
        raise PackageError(f"--example {path.name}: not {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(example, dict | list) or not example:
        raise PackageError(
            f"--example {path.name}: expected a row (an object), a list of rows or a list of numbers, got {str(example)[:80]!r}"
        )
    return json.dumps(example, ensure_ascii=False, separators=(",", ":")).encode()


def _json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _csv(path: Path) -> list[dict[str, Any]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file, strict=True))
    if any(None in row or None in row.values() for row in rows):
        raise ValueError("a row has more or fewer values than the first line has names")
    columns = {name: _typed([row[name] for row in rows]) for name in (rows[0] if rows else ())}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _typed(texts: list[str]) -> list[Any]:
    """Return a column as integers if all its values are, else as numbers if they are, else as text."""
    for kind in (int, float):
        try:
            return [kind(text) for text in texts]
        except ValueError:
            continue
    return texts


def _npy(path: Path) -> Any:
    import numpy as np

    array = np.load(path, allow_pickle=False)
    try:
        dtype = dtype_of(array)
    except TypeError as error:
        raise ValueError(str(error)) from error
    return {"inputs": [{"name": "", "datatype": dtype, "shape": list(array.shape), "data": array.ravel().tolist()}]}
