"""The client package of TensorFlow Serving against Headgate. What is checked, and why, stands in ``tensorflow_serving_calls.py``."""

from __future__ import annotations

import os
import subprocess
from itertools import permutations
from pathlib import Path

import pytest
from foreign import checks_of, python_of, run_checks
from serving import Served
from tensorflow_server import TensorFlowServer

import headgate

SCRIPT = Path(__file__).with_name("tensorflow_serving_calls.py")
MODELS = SCRIPT.with_name("tensorflow_models.py")
MESSAGES = Path(headgate.__file__).parent / "protocols" / "tfserving" / "messages.binpb"
CHECKS = checks_of(SCRIPT)
ENVIRONMENT = "tensorflow-serving"
SERVED = (
    Served("half", "half", version=123, aliases={"stable": 123}),
    *(Served(name, name) for name in ("prices", "classifier", "regressor", "several")),
    Served("plane", "Plane"),
    Served("types", "Types"),
    Served("two", "One", version=1),
    Served("two", "Two", version=2, aliases={"champion": 2, "before": 1}),
)
IMPORTS = {
    "tritonclient": "import tritonclient.grpc, tritonclient.http",
    "tensorflow_serving": "from tensorflow_serving.apis import model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc",
    "headgate": "import headgate.protocols.oip, headgate.protocols.tfserving",
}
USE = """
from headgate.protocols.oip import OIPGrpc
from headgate.protocols.tfserving.messages import PREDICT_REQUEST
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tritonclient.grpc.service_pb2 import ModelInferRequest

theirs = PredictRequest(output_filter=["y"])
theirs.inputs["x"].float_val.append(1.5)
ours = PREDICT_REQUEST.FromString(theirs.SerializeToString())
assert PredictRequest.FromString(ours.SerializeToString()) == theirs and ours.inputs["x"].float_val == [1.5]

theirs = ModelInferRequest(model_name="m", raw_input_contents=[b"1"])
ours = OIPGrpc.messages.message("inference.ModelInferRequest").FromString(theirs.SerializeToString())
assert ModelInferRequest.FromString(ours.SerializeToString()) == theirs and ours.model_name == "m"
print("fine")
"""


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The outcome of every check: ``ok``, or a traceback."""
    python = python_of(ENVIRONMENT)
    saved = tmp_path_factory.mktemp("saved")
    made = subprocess.run([str(python), str(MODELS), str(saved)], capture_output=True, text=True, timeout=240)
    assert made.returncode == 0, made.stderr[-3000:]
    server = TensorFlowServer(tmp_path_factory.mktemp("tensorflow"), SERVED, saved, python)
    try:
        found = run_checks(ENVIRONMENT, SCRIPT, f"{server.address}:{server.port}", str(saved), str(MESSAGES))
        assert server.gateway.poll() is None, "the gateway has died"
        assert not server.complaints(), f"the gateway met exceptions: {server.complaints()[:10]}"
    finally:
        server.stop()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
def test_tensorflow_serving(outcomes: dict[str, str], check: str) -> None:
    """The promise in the docstring of the check holds."""
    assert outcomes[check] == "ok", outcomes[check]


@pytest.mark.slow
def test_nothing_was_left_out(outcomes: dict[str, str]) -> None:
    """Every check of the script was run."""
    assert sorted(outcomes) == sorted(CHECKS)


@pytest.mark.slow
@pytest.mark.parametrize("order", list(permutations(IMPORTS)), ids="-".join)
def test_imports_in_any_order(order: tuple[str, ...]) -> None:
    """Headgate and the two clients that register messages of the same names can be imported together, whoever comes first, and each
    understands the other's messages."""
    source = str(Path(headgate.__file__).resolve().parents[1])
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"PYTHONPATH": source, "TF_CPP_MIN_LOG_LEVEL": "3"}
    code = "\n".join([*(IMPORTS[name] for name in order), USE])
    done = subprocess.run(
        [str(python_of(ENVIRONMENT)), "-c", code], capture_output=True, text=True, timeout=240, env=environment, cwd="/"
    )
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr[-3000:]
