"""TensorFlow models: SavedModel folders and ``.keras`` files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headgate.errors import UnsupportedModel
from headgate.runtimes.base import Arrays, Described, Runtime, TensorSpec
from headgate.tensors import BY_NUMPY

_DTYPES = BY_NUMPY | {"bfloat16": "BF16", "string": "BYTES"}
_DEFAULT = "serving_default"
"""The signature that is meant where nobody says which."""
_METHODS = {"tensorflow/serving/classify": "classify", "tensorflow/serving/regress": "regress"}


class _Function(NamedTuple):
    """One signature, traced."""

    call: Callable[[dict[str, Any]], Any]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dtypes: Mapping[str, Any]
    """TensorFlow's, by input."""
    method: str = ""


class TensorflowRuntime(Runtime):
    """A SavedModel by its signatures, first of all ``serving_default``, or a Keras model.

    Names are those of the signature; for Keras, of the input and output layers.
    """

    title = "TensorFlow"
    platform = "tensorflow_savedmodel"
    suffixes = frozenset({".keras"})
    requires = ("tensorflow",)
    extra = "tensorflow"

    @classmethod
    def claims(cls, path: Path) -> bool:
        """Whether ``path`` is a folder with ``saved_model.pb`` or a ``.keras`` file."""
        return (path / "saved_model.pb").is_file() if path.is_dir() else super().claims(path)

    def load(self, path: Path, *, attribute: str, device: str, threads: int) -> None:
        """Load and trace the model. Raises `UnsupportedModel` if TensorFlow does not take it, or it has no signature to serve."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        tf = self.framework("tensorflow")
        with contextlib.suppress(RuntimeError):  # settable before its first use in a process only
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        self._tf = tf
        self._device = "/CPU:0" if device == "cpu" else f"/GPU:{device.partition(':')[2] or 0}"
        self._remarks: list[str] = []
        try:
            with tf.device(self._device):
                self._functions = self._folder(path) if path.is_dir() else self._keras(path)
        except UnsupportedModel:
            raise
        except Exception as error:
            raise self.unreadable(path, error) from error
        self._first = next(iter(self._functions.values()))

    def describe(self, example: Arrays | None) -> Described:
        """Read the signatures."""
        first, *further = (_described(name, function) for name, function in self._functions.items())
        name = "" if first.name == _DEFAULT else first.name
        return first._replace(name=name, further=tuple(further), remarks=tuple(self._remarks))

    def predict(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Call the traced function."""
        return self._run(self._first, inputs)

    def predict_by(self, signature: str, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Call that of another signature."""
        return self._run(self._functions[signature], inputs)

    def _run(self, function: _Function, inputs: Arrays) -> Arrays:
        tf = self._tf
        with tf.device(self._device):
            results = function.call({name: tf.constant(array, dtype=function.dtypes[name]) for name, array in inputs.items()})
        return {name: _array(value) for name, value in results.items()}

    def _folder(self, path: Path) -> dict[str, _Function]:
        """Return the signatures of a SavedModel that can be served, the one that is meant where nobody says which first."""
        # Kept: the functions of a signature hold their variables weakly.
        self._loaded = self._tf.saved_model.load(str(path))
        signatures = self._loaded.signatures
        # The file keeps them in a map, whose order changes from load to load, and that of a signature must not.
        names = sorted((name for name in signatures if not name.startswith("__")), key=lambda name: (name != _DEFAULT, name))
        if not names:
            raise UnsupportedModel(
                f"{path.name} has no signature: save it with "
                "tf.saved_model.save(model, folder, signatures={'serving_default': function})"
            )
        saved = self._definitions(path)
        found: dict[str, _Function] = {}
        for name in names:
            try:
                found[name] = _function(signatures[name], saved[name])
            except UnsupportedModel as error:
                if name == _DEFAULT or len(names) == 1:
                    raise
                self._remarks.append(f"the signature {name!r} is left out: {error}")
        if not found:
            raise UnsupportedModel(f"{path.name} has no signature that can be served: {'; '.join(self._remarks)}")
        first, *others = found
        if others and first != _DEFAULT:
            self._remarks.append(f"none of the signatures is called {_DEFAULT!r}, so {first!r} is meant where nobody says which")
        return found

    def _definitions(self, path: Path) -> dict[str, Any]:
        """Return the signatures as the file has them, by their names: what they were saved for is nowhere else."""
        saved = self.framework("tensorflow.core.protobuf.saved_model_pb2").SavedModel()
        file = path / "saved_model.pb"
        if file.is_file():
            saved.ParseFromString(file.read_bytes())
        else:
            self.framework("google.protobuf.text_format").Parse(file.with_suffix(".pbtxt").read_text(), saved)
        return {name: found for graph in saved.meta_graphs for name, found in graph.signature_def.items()}

    def _keras(self, path: Path) -> dict[str, _Function]:
        tf, keras = self._tf, self.framework("keras")
        model = keras.saving.load_model(str(path), compile=False, safe_mode=True)
        if not getattr(model, "inputs", None):
            raise UnsupportedModel(f"{path.name} has no fixed inputs (a subclassed model): export it with model.export(folder)")
        sequential = isinstance(model, keras.Sequential)
        structure = model.inputs[0] if sequential else model.input
        outputs = [model.layers[-1].name] if sequential else model.output_names
        specs = {tensor.name: tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name) for tensor in keras.tree.flatten(structure)}

        def call(feed: dict[str, Any]) -> dict[str, Any]:
            result = model(keras.tree.pack_sequence_as(structure, [feed[name] for name in specs]), training=False)
            return result if isinstance(result, dict) else dict(zip(outputs, keras.tree.flatten(result), strict=True))

        traced = tf.function(call, input_signature=[specs]).get_concrete_function()
        return {_DEFAULT: _described_by(traced, specs, traced.structured_outputs)}


def _function(signature: Any, saved: Any) -> _Function:
    """Return one signature of a SavedModel. Raises `UnsupportedModel` where an input or output cannot be sent."""
    for name, info in (*saved.inputs.items(), *saved.outputs.items()):
        if info.WhichOneof("encoding") != "name":
            raise UnsupportedModel(
                f"{name!r} is sparse or composed of several tensors, and no request holds such: make it dense in the model"
            )
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    if not outputs:
        raise UnsupportedModel("it has no outputs")

    def call(feed: dict[str, Any]) -> Any:
        return signature(**feed)

    return _described_by(call, dict(sorted(inputs.items())), dict(sorted(outputs.items())), _METHODS.get(saved.method_name, ""))


def _described_by(
    call: Callable[[dict[str, Any]], Any], inputs: Mapping[str, Any], outputs: Mapping[str, Any], method: str = ""
) -> _Function:
    dtypes = {name: spec.dtype for name, spec in inputs.items()}
    return _Function(call, tuple(_infos(inputs.items())), tuple(_infos(outputs.items())), dtypes, method)


def _infos(specs: Iterable[tuple[str, Any]]) -> Iterable[TensorSpec]:
    for name, spec in specs:
        dtype = _DTYPES.get(spec.dtype.name)
        if dtype is None:
            raise UnsupportedModel(
                f"{name!r} is a {spec.dtype.name}, which the Open Inference Protocol has no name for: cast it in the model"
            )
        sizes = [] if spec.shape.rank is None else spec.shape.as_list()
        yield TensorSpec(name, dtype, tuple(-1 if size is None else int(size) for size in sizes))


def _described(name: str, function: _Function) -> Described:
    infos = [*function.inputs, *function.outputs]
    unknown = [info.shape for info in infos if not info.shape]
    fixed = any(info.shape and info.shape[0] != -1 for info in infos)
    batched = False if fixed or not function.inputs else None if unknown else True
    return Described(function.inputs, function.outputs, batched, name=name, method=function.method)


def _array(value: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(value.numpy())
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
