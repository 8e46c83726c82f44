"""Where foreign clients live."""

from __future__ import annotations

import importlib.util
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
