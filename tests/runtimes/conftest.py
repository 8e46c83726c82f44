"""Fixtures of the runtimes' tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runtime_samples import bootstrap, python_of


@pytest.fixture
def describe(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """``describe(runtime, path, attribute="", example=None)``: what `headgate.serving.describe` prints, in that runtime's environment."""

    def run(runtime: str, path: Path, attribute: str = "", example: object = None) -> dict[str, Any]:
        config: dict[str, Any] = {"path": str(path), "attribute": attribute, "runtime": runtime, "device": "cpu", "example": None}
        if example is not None:
            file = tmp_path / "example.json"
            file.write_text(json.dumps(example))
            config["example"] = str(file)
        done = bootstrap(python_of(runtime), "describe", config)
        lines = done.stdout.splitlines()
        assert len(lines) == 1, (done.stdout, done.stderr[-3000:])
        answer = json.loads(lines[0])
        assert done.returncode == (1 if "error" in answer else 0)
        return answer

    return run
