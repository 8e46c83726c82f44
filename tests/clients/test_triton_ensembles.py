"""Ensembles of a Triton repository, served by a real server and asked by Triton's clients.

What is asked, and why, stands in ``triton_ensemble_calls.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign import checks_of, run_checks
from onnx import TensorProto, helper, numpy_helper
from serving_home import Serving, ServingHome

SCRIPT = Path(__file__).with_name("triton_ensemble_calls.py")
CHECKS = [f"{check}-{transport}" for check in checks_of(SCRIPT) for transport in ("http", "grpc")]
PIPE = """
name: "pipe"
platform: "ensemble"
max_batch_size: 8
input [ { name: "RAW" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "SCORE" data_type: TYPE_FP32 dims: [ 3 ] } ]
ensemble_scheduling {
  step [
    { model_name: "score" model_version: -1 input_map { key: "X" value: "scaled" } output_map { key: "Y" value: "SCORE" } },
    { model_name: "scale" model_version: -1 input_map { key: "X" value: "RAW" } output_map { key: "Y" value: "scaled" } }
  ]
}
"""
SCALE_CONFIG = """
backend: "python"
max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 2 ] } ]
"""
SCALE = """
import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    idempotent = True

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
        if np.isnan(x).any():
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("not a number", pb_utils.TritonError.INVALID_ARG))
        by = np.float32(json.loads(request.parameters()).get("by", 10))
        return pb_utils.InferenceResponse([pb_utils.Tensor("Y", x * by)])
"""
SCORE_CONFIG = """
backend: "onnxruntime"
max_batch_size: 16
input [ { name: "X" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "labels.txt" } ]
"""


def write(path: Path, content: str) -> Path:
    """Write a file with the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def save_score(folder: Path, weights: list[list[float]]) -> None:
    """Save a model that multiplies two numbers by ``weights``."""
    folder.mkdir(parents=True)
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size]) for name, size in (("X", 2), ("Y", 3))]
    node = helper.make_node("MatMul", ["X", "w"], ["Y"])
    graph = helper.make_graph([node], "g", tensors[:1], tensors[1:], [numpy_helper.from_array(np.float32(weights), "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx")


def repository(folder: Path) -> Path:
    """Make a repository with the ensemble and its two models."""
    write(folder / "pipe" / "config.pbtxt", PIPE)
    (folder / "pipe" / "1").mkdir()
    write(folder / "scale" / "config.pbtxt", SCALE_CONFIG)
    write(folder / "scale" / "1" / "model.py", SCALE)
    write(folder / "score" / "config.pbtxt", SCORE_CONFIG)
    write(folder / "score" / "labels.txt", "cat\na dog: small\n")
    save_score(folder / "score" / "1", [[1, 0, 1], [0, 1, 1]])
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingHome]:
    """A home for all of them."""
    made = ServingHome(tmp_path_factory.mktemp("ensembles"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def serving(home: ServingHome) -> Serving:
    """A server with the whole repository."""
    serving = home.serve(str(repository(home.folder / "repository")), "--threads", "1")
    return serving.until_ready("pipe", "scale", "score").until_settled()


@pytest.fixture(scope="module")
def outcomes(serving: Serving) -> dict[str, str]:
    """The outcome of every check: ``ok``, or a traceback."""
    return run_checks("tritonclient", SCRIPT, serving.url.partition("://")[2])


@pytest.mark.parametrize("check", CHECKS)
def test_triton_ensemble(outcomes: dict[str, str], check: str) -> None:
    """The promise in the docstring of the check holds."""
    assert outcomes[check] == "ok", outcomes[check]


def test_nothing_was_left_out(outcomes: dict[str, str]) -> None:
    """Every check of the script was run over both transports."""
    assert sorted(outcomes) == sorted(CHECKS)


def test_rows(serving: Serving) -> None:
    """Rows in the house's own form go through the steps, too, and a failing step is named."""
    assert serving.ask("pipe", {"RAW": [1, 2]}).json == {"SCORE": [10.0, 20.0, 30.0]}
    assert "step[1] (scale): not a number" in serving.request("POST", "/predict/pipe", b'{"RAW": [NaN, 1]}').error


def test_an_ensemble_by_itself(home: ServingHome, serving: Serving) -> None:
    """Its folder is enough to name: the models of its steps are found beside it, and need not be deployed."""
    folder = repository(home.folder / "alone")
    write(folder / "single" / "config.pbtxt", PIPE.replace('name: "pipe"', ""))
    home.done("deploy", str(folder / "single"))
    assert serving.ask("single", {"RAW": [1, 2]}).json == {"SCORE": [10.0, 20.0, 30.0]}


def test_a_newer_model_makes_a_newer_ensemble(home: ServingHome, serving: Serving) -> None:
    """The same repository has the same versions; a newer version of a model makes the next one of the ensemble that takes the newest."""
    folder = repository(home.folder / "growing")
    (folder / "pipe").rename(folder / "grown")
    write(folder / "grown" / "config.pbtxt", PIPE.replace('name: "pipe"', ""))
    target = str(folder / "grown")
    assert [home.done("push", target).split() for _ in range(2)] == [["grown@1"], ["grown@1"]]
    save_score(folder / "score" / "2", [[0, 0, 0], [0, 0, 0]])
    assert home.done("deploy", target).split()[0].startswith("grown")
    assert serving.ask("grown", {"RAW": [1, 2]}).json == {"SCORE": [0.0, 0.0, 0.0]}
    assert serving.get("/v2/models/grown").json["versions"] == ["2"]


@pytest.mark.slow
def test_models_with_requirements_share_an_environment(home: ServingHome, serving: Serving) -> None:
    """What each Python model needs, and the framework of the others, is installed together; where they contradict, the push is refused."""
    folder = repository(home.folder / "together")
    for name, needs in (("scale", "wcwidth==0.2.13\n"), ("after", "attrs==25.3.0\n")):
        write(folder / name / "config.pbtxt", SCALE_CONFIG)
        module = needs.partition("=")[0].replace("attrs", "attr")
        write(folder / name / "1" / "model.py", SCALE.replace("import numpy", f"import {module}\nimport numpy", 1))
        write(folder / name / "requirements.txt", needs)
    again = 'step { model_name: "after" input_map { key: "X" value: "RAW" } output_map { key: "Y" value: "more" } }'
    config = (
        PIPE.replace('name: "pipe"', "").replace('"RAW" } output', '"more" } output').replace("  step [", f"  {again}\n  step [")
    )
    write(folder / "both" / "config.pbtxt", config)
    home.done("deploy", str(folder / "both"))
    assert serving.ask("both", {"RAW": [1, 2]}).json == {"SCORE": [100.0, 200.0, 300.0]}
    write(folder / "after" / "requirements.txt", "wcwidth==0.2.12\n")
    refused = home.run("push", str(folder / "both"))
    assert "one environment has what after and scale require" in refused.stderr
    assert refused.returncode != 0 and "wcwidth==0.2.12" in refused.stderr and "wcwidth==0.2.13" in refused.stderr
    assert [entry["number"] for entry in json.loads(home.done("versions", "both", "--output", "json"))] == [1]
