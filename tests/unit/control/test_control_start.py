"""What control loads at its start: memory and time that every server pays."""

from __future__ import annotations

import subprocess
import sys


def test_control_starts_light():
    """Neither NumPy nor a client, a migration tool or a framework is imported by starting control."""
    heavy = ("numpy", "httpx", "alembic", "pydantic", "onnxruntime", "sklearn", "pandas")
    code = f"import sys, headgate.control.main; print([name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
