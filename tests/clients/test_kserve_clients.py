"""KServe's real client, CloudEvents and msgpack-numpy. What is checked, and why, stands in ``kserve_calls.py``."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from pathlib import Path

import pytest
from foreign import python_of
from serving import Served, Server

SCRIPT = Path(__file__).with_name("kserve_calls.py")
CHECKS = [
    node.name for node in ast.parse(SCRIPT.read_text()).body if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
]
KSERVE = (Served("flower", "Flower", v1="kserve"), Served("people", "People", v1="kserve"))
TRUSS = (
    Served("mixed", "Mixed", v1="truss"),
    Served("anything", "Anything", v1="truss", content={"model_input": "json", "output": "json"}),
)
OF_TRUSS = {"check_arrays_of_a_typed_model", "check_anything_comes_back_as_it_went"}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The outcome of every check: ``ok``, or a traceback. Each dialect has a server of its own, as its clients know it."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    found: dict[str, str] = {}
    absent = [Served("absent", "Flower", v1="kserve")]
    for models, missing, own in ((KSERVE, absent, set(CHECKS) - OF_TRUSS), (TRUSS, [], OF_TRUSS)):
        running = Server(tmp_path_factory.mktemp("served"), models, absent=missing)
        try:
            command = [str(python_of("kserve")), str(SCRIPT), f"{running.address}:{running.port}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
            assert done.returncode == 0, done.stderr
            found |= {name: said for name, said in json.loads(done.stdout.splitlines()[-1]).items() if name in own}
            assert not running.complaints()
        finally:
            running.stop()
    return found


@pytest.mark.parametrize("check", CHECKS)
def test_kserve_clients(outcomes: dict[str, str], check: str) -> None:
    """The promise in the docstring of the check holds."""
    assert outcomes[check] == "ok", outcomes[check]


def test_nothing_was_left_out(outcomes: dict[str, str]) -> None:
    """Every check of the script was run."""
    assert sorted(outcomes) == sorted(CHECKS)
