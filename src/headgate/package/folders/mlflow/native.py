"""Flavours whose file a runtime of ours reads, where its answers are those of MLflow's own loader.

They are not for scikit-learn, XGBoost and LightGBM: their runtimes here give a classifier's label and its probabilities, and MLflow one
of the two. They are for models of tensors: of a data frame MLflow takes the columns by name, and a runtime that knows one matrix would
take them as they come.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headgate.package.external import external_files
from headgate.package.folders.mlflow.schema import Schema

Ready = dict[str, Any]
"""Fields of a `VersionSource`: runtime, entry, files, answers."""


def native(folder: Path, flavors: Mapping[str, Any], schema: Schema | None) -> Ready | None:
    """Return the source of a model in ``folder`` that needs no MLflow; None where it does."""
    if schema is None or not schema.tensors or schema.params:
        return None
    for flavor, read in _READERS.items():
        if flavor in flavors and (found := read(folder, flavors[flavor], schema)):
            return found
    return None


def _onnx(folder: Path, flavor: Mapping[str, Any], schema: Schema) -> Ready | None:
    """MLflow answers with the graph's outputs by name."""
    file = folder / str(flavor.get("data", "model.onnx"))
    if flavor.get("onnx_session_options") or file.parent != folder or not file.is_file():
        return None
    return {"runtime": "onnx", "entry": file.name, "files": {file.name: file, **external_files(file)}, "answers": "columns"}


def _keras(folder: Path, flavor: Mapping[str, Any], schema: Schema) -> Ready | None:
    """MLflow calls ``model.predict``, which a traced function equals; several outputs come back in forms of Keras' own."""
    file = folder / str(flavor.get("data", "data")) / "model.keras"
    beside = file.parent / "global_custom_objects.cloudpickle", file.parent / "custom_objects.cloudpickle"
    if not file.is_file() or not _one_output(schema) or any(path.exists() for path in beside):
        return None
    return {"runtime": "tensorflow", "entry": file.name, "files": {file.name: file}}


def _torch(folder: Path, flavor: Mapping[str, Any], schema: Schema) -> Ready | None:
    """MLflow calls the exported program with its one tensor."""
    file = folder / str(flavor.get("model_data", "data")) / "model.pt2"
    if not file.is_file() or not _one_output(schema) or len(schema.inputs) != 1 or flavor.get("code"):
        return None
    return {"runtime": "torch", "entry": file.name, "files": {file.name: file}}


def _one_output(schema: Schema) -> bool:
    return schema.outputs is not None and len(schema.outputs) == 1 and schema.outputs[0].kind == "tensor"


_READERS = {"onnx": _onnx, "tensorflow": _keras, "pytorch": _torch}
