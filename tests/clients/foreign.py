"""Where foreign clients live."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import subprocess
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]


def python_of(environment: str) -> Path:
    """Return the Python of a client's environment, making it where it is missing."""
    spec = importlib.util.spec_from_file_location("environments_build", TESTS / "environments" / "build.py")
    assert spec is not None and spec.loader is not None
    build: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    return Path(build.build(environment))


def checks_of(script: Path) -> list[str]:
    """Return the names of the checks in a client's script: its functions ``check_*``, in order."""
    body = ast.parse(script.read_text()).body
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node.name for node in body if isinstance(node, kinds) and node.name.startswith("check_")]


def run_checks(environment: str, script: Path, *arguments: str) -> dict[str, str]:
    """Run a client's script in its environment and return the outcome of each check: ``ok``, or a traceback."""
    command = [str(python_of(environment)), str(script), *arguments]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=clean)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found
