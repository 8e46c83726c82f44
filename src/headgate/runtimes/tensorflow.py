"""TensorFlow models: SavedModel folders and ``.keras`` files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headgate.errors import UnsupportedModel
from headgate.runtimes.base import Arrays, Described, Runtime, TensorSpec
from headgate.tensors import BY_NUMPY

_DTYPES = BY_NUMPY | {"bfloat16": "BF16", "string": "BYTES"}


class TensorflowRuntime(Runtime):
    """A SavedModel by its signature ``serving_default`` (or its only one), or a Keras model.

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
        try:
            with tf.device(self._device):
                if path.is_dir():
                    self._load_folder(path)
                else:
                    self._load_keras(path)
        except UnsupportedModel:
            raise
        except Exception as error:
            raise self.unreadable(path, error) from error

    def describe(self, example: Arrays | None) -> Described:
        """Read the signature."""
        infos = [*self._inputs, *self._outputs]
        unknown = [info.shape for info in infos if not info.shape]
        fixed = any(info.shape and info.shape[0] != -1 for info in infos)
        return Described(self._inputs, self._outputs, False if fixed or not self._inputs else None if unknown else True)

    def predict(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Call the traced function."""
        tf = self._tf
        with tf.device(self._device):
            results = self._function({name: tf.constant(array, dtype=self._dtypes[name]) for name, array in inputs.items()})
        return {name: _array(value) for name, value in results.items()}

    def _load_folder(self, path: Path) -> None:
        # Kept: the functions of a signature hold their variables weakly.
        self._loaded = self._tf.saved_model.load(str(path))
        signatures = self._loaded.signatures
        names = [name for name in signatures if not name.startswith("__")]
        name = "serving_default" if "serving_default" in names else names[0] if len(names) == 1 else None
        if name is None:
            raise UnsupportedModel(
                f"{path.name} has the signatures {names}, and none is called 'serving_default': save it with "
                "tf.saved_model.save(model, folder, signatures={'serving_default': function})"
            )
        function = signatures[name]

        def call(feed: dict[str, Any]) -> Any:
            return function(**feed)

        self._function: Callable[[dict[str, Any]], Any] = call
        # The file keeps them in a map, whose order changes from load to load, and a signature must not.
        inputs, outputs = function.structured_input_signature[1], function.structured_outputs
        self._describe_as(dict(sorted(inputs.items())), dict(sorted(outputs.items())))

    def _load_keras(self, path: Path) -> None:
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
        self._function = traced
        self._describe_as(specs, traced.structured_outputs)

    def _describe_as(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        self._inputs, self._outputs = tuple(_infos(inputs.items())), tuple(_infos(outputs.items()))
        self._dtypes = {name: spec.dtype for name, spec in inputs.items()}


def _infos(specs: Iterable[tuple[str, Any]]) -> Iterable[TensorSpec]:
    for name, spec in specs:
        dtype = _DTYPES.get(spec.dtype.name)
        if dtype is None:
            raise UnsupportedModel(
                f"{name!r} is a {spec.dtype.name}, which the Open Inference Protocol has no name for: cast it in the model"
            )
        sizes = [] if spec.shape.rank is None else spec.shape.as_list()
        yield TensorSpec(name, dtype, tuple(-1 if size is None else int(size) for size in sizes))


def _array(value: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(value.numpy())
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
