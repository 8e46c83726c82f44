"""Folders of Triton and TensorFlow Serving, served as they are by a real server, and asked by the clients that asked those servers.

What Triton's client asks, and why, stands in ``triton_repository_calls.py``.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from foreign import checks_of, python_of, run_checks
from onnx import TensorProto, helper
from serving_home import COMMAND, Serving, ServingHome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
"""Two frameworks are installed for the packages of this module."""

SCRIPT = Path(__file__).with_name("triton_repository_calls.py")
CHECKS = checks_of(SCRIPT)
ADDED = """
name: "added"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ 2, 2 ] reshape { shape: [ 4 ] } } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] } ]
version_policy { latest { num_versions: 2 } }
dynamic_batching { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 100 }
instance_group [ { count: 2 kind: KIND_CPU } ]
model_warmup [ { name: "w" batch_size: 8 inputs { key: "X" value { data_type: TYPE_FP32 dims: [ 2, 2 ] zero_data: true } } } ]
"""
WORDS_CONFIG = """
backend: "python"
max_batch_size: 4
input [ { name: "TEXT" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "LOUD" data_type: TYPE_STRING dims: [ 1 ] }, { name: "LENGTH" data_type: TYPE_INT32 dims: [ 1 ] } ]
"""
WORDS = """
import json
import os

import numpy as np
import triton_python_backend_utils as pb_utils
from loud import loud


class TritonPythonModel:
    def initialize(self, args):
        with open(os.path.join(args["model_repository"], "mark.txt")) as file:
            self.mark = file.read()

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        text = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
        if b"bad" in text:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("no bad words", pb_utils.TritonError.INVALID_ARG))
        mark = json.loads(request.parameters()).get("mark", self.mark)
        said = np.array([[(loud(word.decode()) + mark).encode() for word in row] for row in text], dtype=object)
        length = np.array([[len(word) for word in row] for row in text], dtype=np.int32)
        return pb_utils.InferenceResponse([pb_utils.Tensor("LOUD", said), pb_utils.Tensor("LENGTH", length)])
"""
COUNT_CONFIG = """
backend: "python"
input [ { name: "FROM" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "NEXT" data_type: TYPE_INT32 dims: [ 1 ] } ]
model_transaction_policy { decoupled: true }
"""
COUNT = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender, start = request.get_response_sender(), request.inputs()[0].as_numpy()
            for index in range(3):
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("NEXT", start + index)]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
SCRIPT_CONFIG = """
platform: "pytorch_libtorch"
max_batch_size: 8
input [ { name: "INPUT__0" data_type: TYPE_FP32 dims: [ 2 ] }, { name: "INPUT__1" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 2 ] }, { name: "OUTPUT__1" data_type: TYPE_FP32 dims: [ 2 ] } ]
"""
SAVE_SCRIPT = """
import sys, torch

class Two(torch.nn.Module):
    def forward(self, first, second):
        return first + 10 * second, first - second

torch.jit.save(torch.jit.script(Two()), sys.argv[1])
"""
SAVE_GRAPHS = """
import sys
import tensorflow as tf

class Half(tf.Module):
    def __init__(self, more):
        super().__init__()
        self.more = more

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def call(self, x):
        return {"y": x / 2 + self.more}

for path, more in zip(sys.argv[1::2], sys.argv[2::2]):
    model = Half(float(more))
    tf.saved_model.save(model, path, signatures={"serving_default": model.call})
"""


def write(path: Path, content: str) -> Path:
    """Write a file with the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def add_onnx(folder: Path, more: float) -> None:
    """Save a model that adds ``more`` to four numbers."""
    folder.mkdir(parents=True)
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in "XY"]
    node = helper.make_node("Add", ["X", "more"], ["Y"])
    graph = helper.make_graph([node], "g", tensors[:1], tensors[1:], [helper.make_tensor("more", TensorProto.FLOAT, [1], [more])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx")


def repository(folder: Path) -> Path:
    """Make a repository of ONNX and Python models."""
    for version in (1, 3, 7):
        add_onnx(folder / "added" / str(version), version)
    write(folder / "added" / "config.pbtxt", ADDED)
    add_onnx(folder / "bare" / "1", 10)
    write(folder / "words" / "config.pbtxt", WORDS_CONFIG)
    write(folder / "words" / "1" / "model.py", WORDS)
    write(folder / "words" / "1" / "loud.py", "def loud(text):\n    return text.upper()\n")
    write(folder / "words" / "mark.txt", "!")
    write(folder / "count" / "config.pbtxt", COUNT_CONFIG)
    write(folder / "count" / "1" / "model.py", COUNT)
    return folder


def run_python(environment: str, folder: Path, source: str, *arguments: object) -> None:
    """Run a program in the environment of a framework."""
    program = write(folder / "program.py", source)
    done = subprocess.run([python_of(environment), program, *map(str, arguments)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]


def deploy(home: ServingHome, target: Path, requirements: str) -> None:
    """Deploy a folder with the framework that it needs, which may have to be fetched."""
    given = write(home.folder / "requirements.txt", requirements)
    command = [*COMMAND, "deploy", str(target), "--requirements", str(given), "--threads", "1"]
    done = subprocess.run(command, env=home.environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingHome]:
    """A home for all of them."""
    made = ServingHome(tmp_path_factory.mktemp("folders"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def serving(home: ServingHome) -> Serving:
    """A server with everything: the repository from the start, what needs a framework of its own deployed beside it."""
    folder = home.folder
    serving = home.serve(str(repository(folder / "repository")), "--threads", "1")
    serving.until_ready("added", "bare", "words", "count").until_settled()
    (folder / "script" / "1").mkdir(parents=True)
    run_python("torch", folder, SAVE_SCRIPT, folder / "script" / "1" / "model.pt")
    write(folder / "script" / "config.pbtxt", SCRIPT_CONFIG)
    deploy(home, folder / "script", "torch==2.13.0\n")
    graphs = {"graph/1/model.savedmodel": 2, "half/1": 1, "half/122": 2, "half/123": 3}
    run_python("tensorflow", folder, SAVE_GRAPHS, *(word for path, more in graphs.items() for word in (folder / path, more)))
    listed = f"""model_config_list {{ config {{
        name: "half_plus" base_path: "{folder}/half" model_platform: "tensorflow"
        model_version_policy {{ specific {{ versions: 122 versions: 123 }} }}
        version_labels {{ key: "stable" value: 122 }} version_labels {{ key: "canary" value: 123 }}
    }} }}"""
    for target in (folder / "graph", write(folder / "models.config", listed)):
        deploy(home, target, "tensorflow-cpu==2.21.0\n")
    return serving


@pytest.fixture(scope="module")
def outcomes(serving: Serving) -> dict[str, str]:
    """The outcome of every check of Triton's client: ``ok``, or a traceback."""
    return run_checks("tritonclient", SCRIPT, serving.url.partition("://")[2])


@pytest.mark.parametrize("check", CHECKS)
def test_triton_repository(outcomes: dict[str, str], check: str) -> None:
    """The promise in the docstring of the check holds."""
    assert outcomes[check] == "ok", outcomes[check]


def test_decoupled_models_stream(serving: Serving) -> None:
    """Each response of a decoupled Python model is an event of its own."""
    answer = serving.request("POST", "/v2/models/count/generate_stream", {"FROM": 5})
    assert answer.status == 200, answer.body
    events = [json.loads(line.removeprefix("data: ")) for line in answer.body.decode().splitlines() if line.startswith("data: ")]
    assert [event["NEXT"] for event in events] == [5, 6, 7]


def post(serving: Serving, path: str, value: float) -> Any:
    """Predict one row."""
    answer = serving.request("POST", f"/v1/models/half_plus{path}:predict", {"instances": [value]})
    return answer.json.get("predictions", answer.json)


def test_tensorflow_serving_folder(serving: Serving) -> None:
    """Versions answer under their own numbers, labels under their names, and what the policy leaves out is not there."""
    assert post(serving, "", 4) == [5.0]
    assert (post(serving, "/versions/122", 4), post(serving, "/versions/123", 4)) == ([4.0], [5.0])
    assert (post(serving, "/labels/stable", 4), post(serving, "/labels/canary", 4)) == ([4.0], [5.0])
    assert serving.request("POST", "/v1/models/half_plus/versions/1:predict", {"instances": [4]}).status == 404
    status = serving.get("/v1/models/half_plus").json["model_version_status"]
    assert sorted((entry["version"], entry["state"]) for entry in status) == [("122", "AVAILABLE"), ("123", "AVAILABLE")]
    assert serving.get("/v1/models/half_plus/metadata").json["model_spec"]["version"] == "123"


def test_pushing_again_changes_nothing(home: ServingHome, serving: Serving) -> None:
    """The same folder has the same versions; other content under a number that is taken is refused, and nothing moves."""
    target = str(home.folder / "repository" / "added")
    again = home.run("push", target)
    assert again.stdout.split() == ["added@3", "added@7"] and "nothing has changed: added@7" in again.stderr
    config = home.folder / "repository" / "added" / "config.pbtxt"
    config.write_text(ADDED.replace("count: 2", "count: 1"))
    assert home.done("push", target).split() == ["added@3", "added@7"]
    config.write_text(ADDED.replace("dims: [ 2, 2 ] reshape", "dims: [ 1, 4 ] reshape"))
    refused = home.run("push", target)
    assert refused.returncode != 0 and "added@3 is another package" in refused.stderr
    assert serving.ask("added", {"X": [[1, 2], [3, 4]]}).json == {"Y": [8.0, 9.0, 10.0, 11.0]}
