"""A Triton repository of models that keep state from request to request, for tests of real servers."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

ADDING = """
backend: "onnxruntime"
max_batch_size: 4
input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "TOTAL" data_type: TYPE_FP32 dims: [ 1 ] } ]
sequence_batching {
  max_sequence_idle_microseconds: 60000000
  control_input [ { name: "START" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } ] } ]
  state [ { input_name: "BEFORE" output_name: "AFTER" data_type: TYPE_FP32 dims: [ 1 ] } ]
}
instance_group { count: 2 }
"""
TELLING = """
backend: "python"
max_batch_size: 4
input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "TOTAL" data_type: TYPE_FP32 dims: [ 1 ] }, { name: "SEQUENCE" data_type: TYPE_STRING dims: [ 1 ] } ]
sequence_batching {
  max_sequence_idle_microseconds: 60000000
  oldest { max_candidate_sequences: 2 preferred_batch_size: 4 }
  control_input [ { name: "ID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING } ] } ]
}
"""
TELLING_CODE = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.totals = {}

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        key, flags = request.correlation_id(), request.flags()
        told = pb_utils.get_input_tensor_by_name(request, "ID").as_numpy()
        assert told.tolist() == [[str(key).encode()]], told
        if flags & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START:
            self.totals[key] = np.zeros((1, 1), np.float32)
        self.totals[key] = self.totals[key] + pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
        total = self.totals.pop(key) if flags & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END else self.totals[key]
        said = np.array([[f"{type(key).__name__} {key} {flags}".encode()]], dtype=object)
        return pb_utils.InferenceResponse([pb_utils.Tensor("TOTAL", total), pb_utils.Tensor("SEQUENCE", said)])
"""


def sequence_repository(folder: Path) -> Path:
    """Make it: ``adding``, an ONNX graph whose state is declared, and ``telling``, a Python model that keeps its own."""
    for name, config in (("adding", ADDING), ("telling", TELLING)):
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(config)
    (folder / "telling" / "1" / "model.py").write_text(TELLING_CODE)
    tensors = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 1]) for name in "X START BEFORE TOTAL AFTER".split()
    }
    nodes = [
        helper.make_node("Sub", ["one", "START"], ["goes_on"]),
        helper.make_node("Mul", ["BEFORE", "goes_on"], ["kept"]),
        helper.make_node("Add", ["X", "kept"], ["AFTER"]),
        helper.make_node("Identity", ["AFTER"], ["TOTAL"]),
    ]
    inputs, outputs = [tensors[name] for name in ("X", "START", "BEFORE")], [tensors["TOTAL"], tensors["AFTER"]]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "adding" / "1" / "model.onnx")
    return folder
