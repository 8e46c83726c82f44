"""Headgate and the clients it serves live in one process, whoever is imported first; ``import_order.py`` says why that is a question."""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path

import pytest
from foreign import python_of

import headgate

SCRIPT = Path(__file__).with_name("import_order.py")
ORDERS = list(itertools.permutations(("headgate", "tritonclient", "shelf")))


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_any_order(order: tuple[str, ...]) -> None:
    """Everything that is imported works, also after the last of them has come."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment["PYTHONPATH"] = str(Path(headgate.__file__).parents[1])
    command = [str(python_of("tritonclient")), str(SCRIPT), *order]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, "ok"), done.stderr
