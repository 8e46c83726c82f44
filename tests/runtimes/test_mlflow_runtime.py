"""MLflow models of every kind, in MLflow's own environment: see ``mlflow_checks.py``."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from functools import cache
from pathlib import Path

import pytest
from runtime_samples import HERE, python_of

SCRIPT = HERE / "mlflow_checks.py"
CHECKS = [node.name for node in ast.parse(SCRIPT.read_text()).body if isinstance(node, ast.FunctionDef) and "check_" in node.name]
pytestmark = pytest.mark.slow


@cache
def outcomes(folder: Path) -> dict[str, str]:
    """The outcome of every check: ``ok``, or a traceback."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")} | {"PYTHONPATH": str(HERE)}
    command = [python_of("mlflow"), SCRIPT, folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the models are saved."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.mark.parametrize("check", CHECKS)
def test_mlflow(check: str, folder: Path) -> None:
    """The promise in the docstring of the check holds."""
    assert outcomes(folder)[check] == "ok", outcomes(folder)[check]
