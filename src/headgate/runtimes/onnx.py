"""ONNX models, run by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headgate.errors import MissingDependency, UnsupportedModel
from headgate.runtimes.base import Arrays, Described, InvalidInput, Runtime, TensorSpec, decoded

_DTYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
}
_MAPS = {"seq(map(int64,tensor(float)))", "seq(map(string,tensor(float)))"}


class OnnxRuntime(Runtime):
    """One ``.onnx`` file. Device ``cuda:N`` needs the package ``onnxruntime-gpu``."""

    title = "ONNX"
    platform = "onnxruntime_onnx"
    suffixes = frozenset({".onnx"})
    requires = ("onnxruntime",)
    extra = "onnx"

    def load(self, path: Path, *, attribute: str, device: str, threads: int) -> None:
        """Make the session. Raises `UnsupportedModel` if ONNX Runtime does not take the file."""
        ort = self.framework("onnxruntime")
        providers = _providers(ort, device)
        try:
            session = ort.InferenceSession(str(path), _options(ort, threads), providers=providers)
        except Exception as error:
            raise self.unreadable(path, f"ONNX Runtime says {_sentence(error)}") from error
        self._session = session
        # The public run() checks names again and builds a list: half the time of a small model. The gateway has checked them.
        self._run = getattr(session, "_sess", session).run
        self._blames_input = ort.capi.onnxruntime_pybind11_state.InvalidArgument
        self._names = [node.name for node in session.get_outputs()]
        self._maps = [index for index, node in enumerate(session.get_outputs()) if node.type in _MAPS]
        every = [*session.get_inputs(), *session.get_overridable_initializers()]
        self._strings = frozenset(node.name for node in every if node.type == "tensor(string)")

    def describe(self, example: Arrays | None) -> Described:
        """Read names, types and shapes from the graph. Raises `UnsupportedModel` for types that no tensor can carry."""
        nodes, results = self._session.get_inputs(), self._session.get_outputs()
        batched = _batched([node.shape for node in nodes], [_shape_out(node) for node in results])
        inputs = [TensorSpec(node.name, _dtype(node), _fixed(node.shape)) for node in nodes]
        if batched is False:  # a constant that a request may replace has no batch axis
            inputs += [
                TensorSpec(node.name, _dtype(node), _fixed(node.shape), True)
                for node in self._session.get_overridable_initializers()
            ]
        outputs = tuple(TensorSpec(node.name, _dtype(node), _fixed(_shape_out(node))) for node in results)
        return Described(tuple(inputs), outputs, batched)

    def predict(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Run the session. Raises `InvalidInput` where ONNX Runtime blames a value, such as an index out of range."""
        if self._strings:
            inputs = {name: decoded(name, array) if name in self._strings else array for name, array in inputs.items()}
        try:
            results = self._run(self._names, inputs, None)
        except self._blames_input as error:
            raise InvalidInput(_sentence(error)) from error
        for index in self._maps:
            results[index] = _matrix(results[index])
        return dict(zip(self._names, results, strict=True))

    def unload(self) -> None:
        """Drop the session."""
        del self._session, self._run


def _options(ort: Any, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads may spin within a run, which makes it faster, but not after it: an idle replica would burn its neighbours' cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def _providers(ort: Any, device: str) -> list[Any]:
    if device == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise MissingDependency(
            f"device {device} needs ONNX Runtime with CUDA, and this one has none. Put onnxruntime-gpu in place of onnxruntime: "
            "pip install onnxruntime-gpu, or --requirements requirements.txt that names it"
        )
    return [("CUDAExecutionProvider", {"device_id": int(device.partition(":")[2] or 0)}), "CPUExecutionProvider"]


def _dtype(node: Any) -> str:
    if node.type in _MAPS:
        return "FP32"
    name = _DTYPES.get(node.type.removeprefix("tensor(").removesuffix(")")) if node.type.startswith("tensor(") else None
    if name is None:
        raise UnsupportedModel(
            f"{node.name!r} is a {node.type}, which is no tensor that a request or answer can carry. Cast it in the model to float, "
            "an integer, bool or string, and export again"
        )
    return name


def _shape_out(node: Any) -> Sequence[Any]:
    return [None, None] if node.type in _MAPS else node.shape


def _fixed(shape: Sequence[Any]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) and size >= 0 else -1 for size in shape)


def _batched(inputs: list[Sequence[Any]], outputs: list[Sequence[Any]]) -> bool | None:
    """Judge by the first dimensions: a number anywhere means no, one symbol everywhere yes, all else is for the dry run."""
    # An output without dimensions may be a scalar or of unknown rank: the dry run sees which.
    first = [shape[0] if shape else 1 for shape in inputs] + [shape[0] for shape in outputs if shape]
    if not inputs or any(isinstance(size, int) for size in first):
        return False
    return True if len(set(first)) == 1 and first[0] is not None and all(outputs) else None


def _matrix(maps: list[dict[Any, float]]) -> np.ndarray[Any, Any]:
    """Turn the rows of a ZipMap, each class -> probability, into a matrix whose columns are the classes in ascending order."""
    if not maps:
        return np.empty((0, 0), dtype=np.float32)
    classes = sorted(maps[0])
    return np.array([[row[key] for key in classes] for row in maps], dtype=np.float32)


def _sentence(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].removeprefix("[ONNXRuntimeError] : ")
