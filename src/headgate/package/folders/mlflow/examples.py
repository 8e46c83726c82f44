"""The input example of an MLflow model folder, as the ``example.json`` of a package.

Source: mlflow 3.17, models/utils.py. ``serving_input_example.json`` is the body of a scoring request; folders of earlier versions have
``input_example.json`` alone, in one of the same forms. Its parameters are left out: what runs by itself runs with the defaults.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headgate.errors import PackageError
from headgate.package.folders.mlflow.schema import Entry, Schema

Columns = dict[str, list[Any]]


def read(folder: Path, document: Mapping[str, Any], schema: Schema | None) -> bytes | None:
    """Return the model's input example, if it has one. Raises `PackageError` where it is in a form that nobody knows."""
    about = document.get("saved_input_example_info")
    if not isinstance(about, dict):
        return None
    path = folder / str(about.get("serving_input_path") or about.get("artifact_path") or "")
    if not path.is_file():
        raise PackageError(
            f"MLmodel: saved_input_example_info: there is no {path.name or 'file'} in the folder; log the model again"
        )
    if path.suffix != ".json":
        return None  # a sparse matrix, which no request can carry
    try:
        body = json.loads(path.read_bytes())
    except ValueError as error:
        raise PackageError(f"{path.name}: no JSON: {error}; log the model again") from error
    example = _example(body, about, schema, path.name)
    return None if example is None else json.dumps(example, ensure_ascii=False, separators=(",", ":")).encode()


def _example(body: Any, about: Mapping[str, Any], schema: Schema | None, name: str) -> Any:
    if isinstance(body, dict) and "dataframe_split" in body:
        return _frame(_split(body["dataframe_split"], name), schema)
    if isinstance(body, dict) and about.get("type") == "dataframe" and {"columns", "data"} <= body.keys():
        return _frame(_split(body, name), schema)
    if isinstance(body, dict) and len(body.keys() & {"inputs", "instances"}) == 1:
        body = body.get("inputs", body.get("instances"))
    return _values(body, schema)


def _split(frame: Any, name: str) -> Columns:
    if not isinstance(frame, dict) or not isinstance(frame.get("data"), list) or not frame["data"]:
        raise PackageError(f"{name}: dataframe_split: expected columns and data; log the model again")
    width = len(frame["data"][0])
    columns = [str(column) for column in frame.get("columns") or range(width)]
    return {column: [row[at] for row in frame["data"]] for at, column in enumerate(columns)}


def _values(value: Any, schema: Schema | None) -> Any:
    """Return an example that is no frame: rows of the one tensor, tensors by name, or values of the one column."""
    if schema is not None and not schema.tensors:
        if len(schema.inputs) == 1 and not (isinstance(value, dict) and schema.inputs[0].name in value):
            rows = value if isinstance(value, list) else [value]
            return _frame({schema.inputs[0].name or "input": rows}, schema)
        if isinstance(value, dict):
            lists = all(isinstance(part, list) for part in value.values())
            documents = any(entry.document for entry in schema.inputs)
            return _frame(value if lists and not documents else {key: [part] for key, part in value.items()}, schema)
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            return _frame({key: [row.get(key) for row in value] for key in value[0]}, schema)
    if isinstance(value, dict) and value and all(isinstance(part, list) for part in value.values()):
        return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=False)]
    return value if isinstance(value, list) and value else None


def _frame(columns: Columns, schema: Schema | None) -> Any:
    """Return columns as a list of rows, or, where some are documents, as a request that says so."""
    if schema is None or not any(entry.document for entry in schema.inputs):
        kept = {key: values for key, values in columns.items() if schema is None or _is_input(key, schema)}
        present = {key: values for key, values in kept.items() if not all(value is None for value in values)}
        return [dict(zip(present, row, strict=True)) for row in zip(*present.values(), strict=True)]
    inputs = [_tensor(entry, columns[entry.name or "input"]) for entry in schema.inputs if (entry.name or "input") in columns]
    return {"inputs": inputs}


def _is_input(key: str, schema: Schema) -> bool:
    return key == "input" or any(entry.name == key for entry in schema.inputs)


def _tensor(entry: Entry, values: Sequence[Any]) -> dict[str, Any]:
    data = [json.dumps(value) for value in values] if entry.document else list(values)
    return {"name": entry.name or "input", "datatype": entry.dtype, "shape": [len(data)], "data": data}
