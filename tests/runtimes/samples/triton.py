"""Models of a Triton repository: ONNX under other shapes and with its outputs turned round, a TritonPythonModel, and an ensemble."""

import numpy as np
from onnx import TensorProto, helper, save

from headgate.package.folders.base import Asked
from headgate.package.folders.triton import TritonRepository
from headgate.testing.runtimes import write_sample

_SHAPED = """
backend: "onnxruntime"
max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 2, 2 ] } } ]
output [ { name: "SUM" data_type: TYPE_FP32 dims: [ 2 ] }, { name: "DOUBLE" data_type: TYPE_FP32 dims: [ 2, 2 ] } ]
"""
_WORDS = """
backend: "python"
max_batch_size: 3
input [ { name: "TEXT" data_type: TYPE_STRING dims: [ 2 ] }, { name: "TIMES" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "SAID" data_type: TYPE_STRING dims: [ 1 ] } ]
"""
_MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    idempotent = True

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        text = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
        times = pb_utils.get_input_tensor_by_name(request, "TIMES").as_numpy()
        said = np.array([[b" ".join(row) * int(count)] for row, (count,) in zip(text, times)], dtype=object)
        return pb_utils.InferenceResponse([pb_utils.Tensor("SAID", said)])
"""

_NAMING = """
backend: "python"
max_batch_size: 5
input [ { name: "NUMBERS" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "NAMED" data_type: TYPE_STRING dims: [ 1 ] } ]
"""
_NAMING_MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    idempotent = True

    def execute(self, requests):
        return [self.answer(request.inputs()[0].as_numpy()) for request in requests]

    def answer(self, numbers):
        named = np.array([["more" if row.sum() > 2 else "less"] for row in numbers])
        return pb_utils.InferenceResponse([pb_utils.Tensor("NAMED", named)])
"""
_ENSEMBLE = """
platform: "ensemble"
max_batch_size: 8
input [ { name: "RAW" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "CLASS" data_type: TYPE_STRING dims: [ 1 ] }, { name: "TOTAL" data_type: TYPE_FP32 dims: [ 2 ] } ]
ensemble_scheduling {
  step [
    { model_name: "naming" input_map { key: "NUMBERS" value: "TOTAL" } output_map { key: "NAMED" value: "CLASS" } },
    { model_name: "shaped" model_version: -1 input_map { key: "X" value: "RAW" } output_map { key: "SUM" value: "TOTAL" } }
  ]
}
"""


def _write(folder, name, inputs, expected, takes, gives):
    """Write the sample of the model that lies in ``folder/repository/name``: its files as in a package."""
    (model,) = TritonRepository.adapt(folder / "repository" / name, Asked(""))
    (version,) = model.versions
    for file, content in version.files.items():
        path = folder / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    python = any(file.endswith("1/model.py") for file in version.files)
    signature = {"inputs": takes, "outputs": gives, "batched": True, "parameters": python}
    write_sample(
        folder, name, runtime="triton", path=f"{name}/{version.entry}", inputs=inputs, expected=expected, signature=signature
    )


def _spec(name, dtype, *shape):
    return {"name": name, "dtype": dtype, "shape": [-1, *shape]}


def _shaped(folder):
    place = folder / "repository" / "shaped" / "1"
    place.mkdir(parents=True)
    (place.parent / "config.pbtxt").write_text(_SHAPED)
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2, 2]) for name in ("X", "DOUBLE")]
    total = helper.make_tensor_value_info("SUM", TensorProto.FLOAT, ["N", 2])
    nodes = [helper.make_node("Add", ["X", "X"], ["DOUBLE"]), helper.make_node("ReduceSum", ["X", "axis"], ["SUM"], keepdims=0)]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [2])
    graph = helper.make_graph(nodes, "shaped", tensors[:1], [tensors[1], total], [axis])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), place / "model.onnx")
    rows = np.random.default_rng(0).random((12, 4)).astype(np.float32)
    within = rows.reshape(12, 2, 2)
    expected = {"SUM": within.sum(axis=2), "DOUBLE": 2 * within}
    _write(
        folder, "shaped", {"X": rows}, expected, [_spec("X", "FP32", 4)], [_spec("SUM", "FP32", 2), _spec("DOUBLE", "FP32", 2, 2)]
    )


def _words(folder):
    place = folder / "repository" / "words" / "1"
    place.mkdir(parents=True)
    (place.parent / "config.pbtxt").write_text(_WORDS)
    (place / "model.py").write_text(_MODEL)
    text = np.array([[word.encode(), b"x"] for word in "some words that twelve people say".split()], dtype=object)
    times = np.arange(len(text), dtype=np.int32).reshape(-1, 1)
    said = np.array([[b" ".join(row) * int(count)] for row, (count,) in zip(text, times, strict=True)], dtype=object)
    takes = [_spec("TEXT", "BYTES", 2), _spec("TIMES", "INT32", 1)]
    _write(folder, "words", {"TEXT": text, "TIMES": times}, {"SAID": said}, takes, [_spec("SAID", "BYTES", 1)])


def _ensemble(folder):
    place = folder / "repository" / "naming" / "1"
    place.mkdir(parents=True)
    (place.parent / "config.pbtxt").write_text(_NAMING)
    (place / "model.py").write_text(_NAMING_MODEL)
    (folder / "repository" / "ensemble").mkdir()
    (folder / "repository" / "ensemble" / "config.pbtxt").write_text(_ENSEMBLE)
    rows = np.random.default_rng(0).random((12, 4)).astype(np.float32)
    total = rows.reshape(12, 2, 2).sum(axis=2)
    named = np.array([[b"more" if row.sum() > 2 else b"less"] for row in total], dtype=object)
    gives = [_spec("CLASS", "BYTES", 1), _spec("TOTAL", "FP32", 2)]
    _write(folder, "ensemble", {"RAW": rows}, {"CLASS": named, "TOTAL": total}, [_spec("RAW", "FP32", 4)], gives)


def build(folder):
    """Write the samples."""
    _shaped(folder)
    _words(folder)
    _ensemble(folder)
