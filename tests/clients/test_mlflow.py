"""MLflow's real scoring client, and its scoring server beside ours. What is checked, and why, stands in ``mlflow_calls.py``."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from foreign import python_of
from serving import Served, Server

SCRIPT = Path(__file__).with_name("mlflow_calls.py")
CHECKS = [
    node.name for node in ast.parse(SCRIPT.read_text()).body if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
]
MODELS = (
    Served("people", "People", max_rows=8),
    Served("flower", "Flower", max_rows=8),
    Served("blob", "Blob", content={"data": "binary", "output": "binary"}),
)


@pytest.fixture(scope="module")
def scoring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway whose deployments become the default one after the other."""
    running = Server(tmp_path_factory.mktemp("scoring"), MODELS)
    yield running
    alive, complaints = running.gateway.poll() is None, running.complaints()
    running.stop()
    assert alive, "the gateway has died"
    assert not complaints, f"the gateway met exceptions: {complaints[:10]}"


@pytest.fixture(scope="module")
def outcomes(scoring: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The outcome of every check: ``ok``, or a traceback."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MLFLOW"))}
    found: dict[str, str] = {}
    for served in MODELS:
        scoring.make_default(served.name)
        command = [str(python_of("mlflow")), str(SCRIPT), f"{scoring.address}:{scoring.port}", served.name]
        folder = tmp_path_factory.mktemp(served.name)
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=240, env=environment | {"TMPDIR": str(folder)}, cwd=folder
        )
        assert done.returncode == 0, done.stderr
        found |= json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("check", CHECKS)
def test_mlflow(outcomes: dict[str, str], check: str) -> None:
    """The promise in the docstring of the check holds."""
    assert outcomes[check] == "ok", outcomes[check]


def test_nothing_was_left_out(outcomes: dict[str, str]) -> None:
    """Every check of the script was run."""
    assert sorted(outcomes) == sorted(CHECKS)
