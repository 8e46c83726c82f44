"""The real HTTP client of Triton against Headgate. What is checked, and why, stands in ``triton_calls.py``."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from pathlib import Path

import pytest
from foreign import python_of
from serving import Server

SCRIPT = Path(__file__).with_name("triton_calls.py")
CHECKS = [
    node.name for node in ast.parse(SCRIPT.read_text()).body if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
]


@pytest.fixture(scope="session")
def outcomes(server: Server) -> dict[str, str]:
    """The outcome of every check: ``ok``, or a traceback."""
    gate = server.package_file("gate-1", "")
    command = [str(python_of("tritonclient")), str(SCRIPT), f"{server.address}:{server.port}", str(gate)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("check", CHECKS)
def test_tritonclient(outcomes: dict[str, str], check: str) -> None:
    """The promise in the docstring of the check holds."""
    assert outcomes[check] == "ok", outcomes[check]


def test_nothing_was_left_out(outcomes: dict[str, str]) -> None:
    """Every check of the script was run."""
    assert sorted(outcomes) == sorted(CHECKS)
