"""MLflow model folders, by MLflow's own loader: any flavour that has a python_function.

The input schema of the model's signature is what it takes. What it returns decides what it gives, as MLflow's own server writes it:
numbers and declared text are tensors; everything else (objects, lists of different lengths, dates, missing text) is JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headgate.errors import ModelFailed, UnsupportedModel, did_you_mean
from headgate.runtimes.base import Arrays, Described, InvalidInput, NeedsExample, Runtime, TensorSpec, decoded
from headgate.tensors import dtype_of

OUTPUT = "prediction"
"""The output of a model that returns one thing without a name."""
_INPUT = "input"
_COLUMNS = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    "binary": "BYTES",
    "datetime": "BYTES",
}
"""MLflow's types of columns. Those that nest (arrays, objects, maps, any) are JSON documents."""
_PICKLES = frozenset({".pkl", ".pickle", ".joblib", ".cloudpickle", ".dill", ".pth", ".pt", ".h5", ".hdf5"})
"""Endings of files that MLflow's loaders may unpickle, or that may hold compiled Python (Lambda layers in HDF5)."""
_PROTOCOLS = frozenset(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
_HARMLESS = re.compile(r"(sklearn|numpy|lightgbm|xgboost|collections)\.[\w.]+")
_TRUSTED = re.compile(r"skops_trusted_types:([^\n]*\n(?:\s*- [^\n]*\n?)*)")
"""The list in the YAML of MLmodel, in the forms a list may have; YAML itself may not be there where the model runs."""
_BAD_REQUEST = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST"})
_BLAMES_INPUT = frozenset({"mlflow.sklearn"})
"""Loaders whose ValueErrors are about what is in the rows: all a fitted estimator can complain about."""


class MlflowRuntime(Runtime):
    """A folder with an ``MLmodel`` file, loaded by ``mlflow.pyfunc``.

    Inputs: the columns of the signature, shape [-1] (optional ones may be left out), or its tensors; without names ``input``. Outputs:
    the columns of a data frame, the keys of a dict of arrays, else ``prediction``. Parameters: those of the signature.
    """

    title = "MLflow"
    platform = "mlflow_pyfunc"
    requires = ("mlflow", "pandas")
    extra = "mlflow"

    @classmethod
    def claims(cls, path: Path) -> bool:
        """Whether ``path`` is a folder with an ``MLmodel``."""
        return (path / "MLmodel").is_file()

    @classmethod
    def runs_code(cls, path: Path) -> bool:
        """Whether the folder holds pickles, or lists types that skops is to trust and that are not a known library's."""
        return bool(cls.why_trust(path))

    @classmethod
    def why_trust(cls, path: Path) -> str:
        """Say what in the folder ``path`` runs code when it is loaded; empty where nothing does. Python source is not hidden."""
        return _hidden_code(path)

    def load(self, path: Path, *, attribute: str, device: str, threads: int) -> None:
        """Load the model. Without a pickle in the folder, MLflow and PyTorch are told to unpickle nothing."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        pyfunc = self.framework("mlflow.pyfunc")
        self._pandas = self.framework("pandas")
        self._encoder = self.framework("mlflow.utils.proto_json_utils").NumpyEncoder
        self._refusal = self.framework("mlflow.exceptions").MlflowException
        trusted = self.runs_code(path)  # packaging has refused it without --trust-pickle
        if not trusted:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
        # To MLflow a skops file is a pickle too, for the list of types it trusts; that list has been looked at.
        os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = str(trusted or any(path.rglob("*.skops"))).lower()
        self._model = pyfunc.load_model(str(path), suppress_warnings=True, model_config=_config(path, device))
        self._read_signature(self._model.metadata)
        loader = str(self._model.loader_module)
        self._blames_input = loader in _BLAMES_INPUT
        self.pure = loader.startswith("mlflow.") and not loader.startswith("mlflow.pyfunc.")
        self.contents: dict[str, str] = {}

    def _read_signature(self, metadata: Any) -> None:
        schema, gives, parameters = metadata.get_input_schema(), metadata.get_output_schema(), metadata.get_params_schema()
        self._takes = _columns(schema)
        self._tensors = schema is not None and schema.is_tensor_spec()
        self._named = schema is None or schema.has_input_names()
        self._types = {info.name: spec.type for info, spec in zip(self._takes or (), schema.inputs if schema else (), strict=True)}
        declared = {spec.name or OUTPUT: _declared(spec.type) for spec in (gives.inputs if gives else ())}
        self._declared = {name: dtype for name, dtype in declared.items() if dtype is not None}
        self._parameters = tuple(spec.name for spec in parameters.params) if parameters else ()

    def describe(self, example: Arrays | None) -> Described:
        """Turn the signature into inputs; without one, ``example``. Raises `NeedsExample` where there is neither."""
        if self._takes is not None:
            return Described(self._takes, None, None, bool(self._parameters))
        if example is None:
            raise NeedsExample("it was logged without a signature and without an input example, so it does not say what it takes")
        inputs = (TensorSpec(name or _INPUT, dtype_of(array), (-1, *array.shape[1:])) for name, array in example.items())
        return Described(tuple(inputs), None, None, bool(self._parameters))

    def predict(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Ask the model as MLflow's server does. Raises `InvalidInput` where MLflow, or scikit-learn, blames the input."""
        self._check(parameters)
        data = self._data(inputs)
        try:
            result = self._model.predict(data, params=dict(parameters) if parameters else None)
        except self._refusal as error:
            if getattr(error, "error_code", "") in _BAD_REQUEST:
                raise InvalidInput(str(error).rpartition("Error: ")[2]) from error
            raise
        except ValueError as error:
            if self._blames_input:
                raise InvalidInput(str(error).partition("\n")[0]) from error
            raise
        return self._outputs(result)

    def unload(self) -> None:
        """Drop the model."""
        del self._model

    def _check(self, parameters: Mapping[str, object]) -> None:
        for name in parameters:
            if name not in self._parameters:
                known = f"; it takes {sorted(self._parameters)}" if self._parameters else "; it takes none"
                raise InvalidInput(f"the model has no parameter {name!r}{did_you_mean(name, self._parameters) or known}")

    # ---- what goes in

    def _data(self, inputs: Arrays) -> Any:
        """Return what ``PyFuncModel.predict`` takes: an array, a dict of arrays, or a data frame."""
        specs = self._takes or tuple(TensorSpec(name, "", (0,) * array.ndim) for name, array in inputs.items())
        if self._tensors or any(len(info.shape) > 1 for info in specs):
            # A copy, since what comes in lies in memory that the next batch overwrites, and people keep what they are given.
            arrays = {info.name: decoded(info.name, inputs[info.name]).copy() for info in specs if info.name in inputs}
            bare = not self._named or (self._takes is None and arrays.keys() == {_INPUT})
            return arrays[_INPUT] if bare else arrays
        columns = {info.name: self._column(info, inputs[info.name]) for info in specs if info.name in inputs}
        frame = self._pandas.DataFrame(columns)
        return frame if self._named else frame.set_axis(range(len(frame.columns)), axis=1)

    def _column(self, info: TensorSpec, array: np.ndarray[Any, Any]) -> Any:
        if info.content == "json":
            values = [_widened(json.loads(item), self._types[info.name]) for item in array.tolist()]
            return self._pandas.Series(values, dtype=object)
        if info.content == "binary":
            return self._pandas.Series(array.tolist(), dtype=object)
        text = decoded(info.name, array)
        if self._tensors or getattr(self._types.get(info.name), "name", "") != "datetime":
            return text
        try:
            return self._pandas.to_datetime(self._pandas.Series(text.tolist()), format="ISO8601")
        except ValueError as error:
            raise InvalidInput(f"input {info.name!r} takes dates and times such as 2024-05-31T12:00:00: {error}") from error

    # ---- what comes out

    def _outputs(self, result: Any) -> Arrays:
        pandas = self._pandas
        if isinstance(result, pandas.Series):
            result = pandas.DataFrame(result)
        if isinstance(result, pandas.DataFrame):
            self.answers = "records"
            return {str(name): self._array(str(name), result[name]) for name in result.columns}
        if isinstance(result, dict) and result and all(_is_array(value) for value in result.values()):
            self.answers = "columns"
            return {str(name): self._array(str(name), value) for name, value in result.items()}
        self.answers = ""
        if isinstance(result, (list, tuple)) or _is_array(result):
            return {OUTPUT: self._array(OUTPUT, result)}
        return {OUTPUT: self._document(OUTPUT, result)}

    def _array(self, name: str, values: Any) -> np.ndarray[Any, Any]:
        """Return a tensor of the values of all rows: numbers and text where their own type, or the signature, says so, else JSON.

        The values themselves never decide: one row more must not change the type of an output.
        """
        declared = self._declared.get(name)
        if isinstance(values, (list, tuple)):
            array = _listed(values, declared)
        else:
            kind = getattr(values, "dtype", None)
            text = isinstance(kind, self._pandas.StringDtype) or (isinstance(kind, np.dtype) and kind.kind == "U")
            array = np.asarray(values) if isinstance(kind, np.dtype) and kind.kind in "biuf" else None
            if array is None and (text or (declared is not None and declared.kind == "O")):
                array = np.array(values.tolist(), dtype=object)
        if array is None:
            return self._documents(name, values.tolist() if hasattr(values, "tolist") else values)
        if array.dtype == object:
            wrong = next((row for row in array.ravel().tolist() if not isinstance(row, str)), None)
            if wrong is not None:
                raise ModelFailed(f"{name!r} should be text, and the model returned a {type(wrong).__name__}")
        self.contents.pop(name, None)
        return array

    def _documents(self, name: str, rows: Sequence[Any]) -> np.ndarray[Any, Any]:
        array = np.empty(len(rows), dtype=object)
        array[:] = [self._json(row) for row in rows]
        self.contents[name] = "json"
        return array

    def _document(self, name: str, value: Any) -> np.ndarray[Any, Any]:
        self.contents[name] = "json"
        return np.array(self._json(value), dtype=object)

    def _json(self, value: Any) -> bytes:
        try:
            return json.dumps(value, cls=self._encoder).encode()
        except TypeError as error:
            raise ModelFailed(f"the model returned a {type(value).__name__}, which makes no JSON: {error}") from error


def _hidden_code(folder: Path) -> str:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and _is_pickle(path):
            return f"{path.relative_to(folder)} is a pickle"
    for listed in _TRUSTED.findall((folder / "MLmodel").read_text(errors="replace")):
        for name in re.findall(r"[A-Za-z_][\w.]*", listed):
            if name != "null" and not _HARMLESS.fullmatch(name):
                return f"MLmodel asks to trust the type {name}"
    return ""


def _is_pickle(path: Path) -> bool:
    if path.suffix.lower() in _PICKLES:
        return True
    with path.open("rb") as file:
        return file.read(2) in _PROTOCOLS


def _config(path: Path, device: str) -> dict[str, Any] | None:
    if device == "cpu":
        return None
    if "mlflow.pytorch" not in (path / "MLmodel").read_text(errors="replace"):
        raise UnsupportedModel(f"device {device}: MLflow chooses the device of this flavour itself; leave --device out")
    return {"device": device}


def _columns(schema: Any) -> tuple[TensorSpec, ...] | None:
    """Return the inputs that an MLflow schema is. Raises `UnsupportedModel` for what no request can carry."""
    if schema is None:
        return None
    specs = list(schema.inputs)
    names = [spec.name or (_INPUT if len(specs) == 1 else f"{_INPUT}_{at}") for at, spec in enumerate(specs)]
    if schema.is_tensor_spec():
        return tuple(_tensor(name, spec) for name, spec in zip(names, specs, strict=True))
    found = []
    for name, spec in zip(names, specs, strict=True):
        kind = getattr(spec.type, "name", "")
        content = "json" if kind not in _COLUMNS else "binary" if kind == "binary" else ""
        optional = not getattr(spec, "required", True)
        found.append(TensorSpec(str(name), _COLUMNS.get(kind, "BYTES"), (-1,), optional, content))
    return tuple(found)


def _tensor(name: str, spec: Any) -> TensorSpec:
    kind = np.dtype(spec.type)
    with contextlib.suppress(TypeError):
        dtype = "BYTES" if kind.kind in "USO" else dtype_of(np.empty(0, dtype=kind))
        return TensorSpec(name, dtype, tuple(int(size) for size in spec.shape))
    raise UnsupportedModel(f"signature.inputs: {name!r} is a tensor of {kind}, which no request can carry")


def _declared(kind: Any) -> np.dtype[Any] | None:
    """Return the dtype that an output schema declares; object for text, None for what is JSON."""
    name = getattr(kind, "name", "")
    if not isinstance(kind, np.dtype):
        kind = np.dtype(object) if name == "string" else kind.to_numpy() if name in _COLUMNS else None
    if kind is None or kind.kind not in "biufUO":
        return None
    return np.dtype(object) if kind.kind in "UO" else np.dtype(kind)


def _widened(value: Any, kind: Any) -> Any:
    """Return a document with floats where its MLflow type says so: in JSON 1 stands for 1.0, too, and MLflow would refuse it."""
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value) if getattr(kind, "name", "") in ("float", "double") else value
    if isinstance(value, list) and hasattr(kind, "dtype"):
        return [_widened(part, kind.dtype) for part in value]
    if isinstance(value, dict):
        kinds = {part.name: part.dtype for part in getattr(kind, "properties", ())}
        return {key: _widened(part, kinds.get(key, getattr(kind, "value_type", None))) for key, part in value.items()}
    return value


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim > 0


def _listed(values: Sequence[Any], declared: np.dtype[Any] | None) -> np.ndarray[Any, Any] | None:
    """Return a list as an array of the declared dtype, if it is one without loss."""
    if declared is None:
        return None
    if declared.kind == "O":
        return np.array(values, dtype=object)
    try:
        array = np.asarray(values)
    except ValueError:
        return None
    return array.astype(declared) if array.dtype.kind in "biuf" and np.can_cast(array.dtype, declared, "same_kind") else None
