"""schemathesis, an independent reader of OpenAPI, against what `/openapi.json` promises."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from foreign import python_of
from serving import Answer, Served, Server

EXAMPLES = 10
"""Made-up requests for each operation and phase; always the same ones."""
DEPLOYMENTS = (
    Served("plain", "Flower", max_rows=8),
    Served("people", "People", v1="kserve", max_rows=8, example={"age": 36, "height": 1.6, "name": "Ada"}),
    Served("line", "Line", v1="kserve"),
    Served("whole", "Scalar", v1="kserve"),
    Served("anything", "Anything", v1="truss", content={"model_input": "json", "output": "json"}),
    Served("blob", "Blob", v1="truss", content={"data": "binary", "output": "binary"}),
)
STATEFUL = Served("running", "Running", idempotent=False)
"""Its only path that infers is that of the Open Inference Protocol."""
CONFIG = """
[phases.stateful]
enabled = false  # no operation makes anything that another could use

[checks]
positive_data_acceptance.enabled = false

[[operations]]
# Here a schema says everything about a request. Elsewhere sizes must fit together, which JSON Schema cannot say, or integers are due,
# of which it thinks that 1.0 is one.
include-path-regex = "^/predict/(plain|line|blob|anything)$"
checks.positive_data_acceptance.enabled = true

[[operations]]
# These paths take more than is described here: the forms that clients of other servers send.
include-path-regex = "^/(v1|invocations)"
checks.negative_data_rejection.enabled = false

[[operations]]
# TensorFlow Serving answers 400 to a verb that a path does not have.
include-path-regex = "^/v1/models(/(plain|running).*)?$"
checks.unsupported_method.enabled = false
"""


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway with deployments of all dialects, one of them the default."""
    running = Server(tmp_path_factory.mktemp("described"), (*DEPLOYMENTS, STATEFUL))
    running.make_default("people")
    yield running
    alive, complaints = running.gateway.poll() is None, running.complaints()
    running.stop()
    assert alive, "the gateway has died"
    assert not complaints, f"the gateway met exceptions: {complaints[:10]}"


@pytest.fixture(scope="module")
def document(described: Server) -> Answer:
    """What the server says of itself."""
    return described.get("/openapi.json")


def test_the_document_is_valid(document: Answer, tmp_path: Path) -> None:
    """It is OpenAPI 3.1 by the schema of its authors."""
    file = tmp_path / "openapi.json"
    file.write_bytes(document.body)
    command = [str(python_of("schemathesis")), "-m", "openapi_spec_validator", "--schema", "3.1.0", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_deployment_has_its_paths(document: Answer) -> None:
    """Rows, tensors, and the path of its dialect, each with an example."""
    for served in DEPLOYMENTS:
        for path in (f"/predict/{served.name}", f"/v2/models/{served.name}/infer", f"/v1/models/{served.name}:predict"):
            assert "example" in document.json["paths"][path]["post"]["requestBody"]["content"]["application/json"]


def test_examples_are_answered(described: Server, document: Answer) -> None:
    """Every example that the document gives is a request that succeeds."""
    count = 0
    for path, operations in document.json["paths"].items():
        content = operations.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json")
        if content is not None:
            body = json.dumps(content["example"]).encode()
            answer = described.request("POST", path, body, {"content-type": "application/json"})
            assert answer.status == 200, (path, answer.body)
            count += 1
    assert count == 3 * len(DEPLOYMENTS) + 2


def test_what_is_promised_holds(described: Server, tmp_path: Path) -> None:
    """No request, right or wrong, gets a 500 or an answer unlike its description; wrong ones are refused, right ones accepted."""
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    python = str(python_of("schemathesis"))
    command = [python, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run", "--no-color"]
    command += ["--generation-deterministic", "--max-examples", str(EXAMPLES)]
    command += [f"http://{described.address}:{described.port}/openapi.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
