"""Python classes that keep state between the requests of a sequence."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pytest

from headgate.errors import UnsupportedModel
from headgate.runtimes.python import PythonRuntime
from headgate.serving.describe import describe
from headgate.serving.dryrun import dry_run

COUNTER = """
class Counter:
    stateful = True

    def load(self):
        self.counts = {}

    def predict(self, x: int, parameters: dict) -> int:
        key = parameters["sequence_id"]
        if parameters["sequence_start"]:
            self.counts[key] = 0
        self.counts[key] += x
        return self.counts.pop(key) if parameters["sequence_end"] else self.counts[key]
"""


def load(folder: Path, source: str) -> PythonRuntime:
    """Load the only class of a source."""
    (folder / "m.py").write_text(textwrap.dedent(source))
    runtime = PythonRuntime()
    runtime.load(folder / "m.py", attribute="", device="cpu", threads=1)
    return runtime


def test_the_signature_says_so(tmp_path: Path) -> None:
    """Packaging finds out that it keeps state and wants parameters, and that no batch may be run again."""
    (tmp_path / "m.py").write_text(COUNTER)
    found = describe({"path": str(tmp_path / "m.py"), "attribute": "Counter", "runtime": "python"})
    assert found["signature"]["stateful"] is True and found["signature"]["parameters"] is True
    assert found["signature"]["batched"] is True and found["idempotent"] is False


def test_a_model_without_state_does_not(tmp_path: Path) -> None:
    """The signature of all others is what it was."""
    (tmp_path / "m.py").write_text("class Plain:\n    def predict(self, x: int) -> int:\n        return x\n")
    found = describe({"path": str(tmp_path / "m.py"), "attribute": "Plain", "runtime": "python"})
    assert "stateful" not in found["signature"]


def test_a_dry_run_is_a_sequence_of_its_own(tmp_path: Path) -> None:
    """It starts and ends with its request, so nothing is left of it, and rows do not depend on each other."""
    runtime = load(tmp_path, COUNTER)
    outcome = dry_run(runtime, runtime.describe(None), None)
    assert outcome.described.batched is True and outcome.described.stateful is True
    assert runtime._model.counts == {}


def test_parameters_reach_the_model_as_they_are(tmp_path: Path) -> None:
    """A number or a text as id, START and END, and whatever else the client says."""
    runtime = load(tmp_path, COUNTER)
    for key in (7, "seven"):
        start = {"sequence_id": key, "sequence_start": True, "sequence_end": False}
        assert runtime.predict({"x": np.array([2])}, start)["output"].tolist() == [2]
        end = {"sequence_id": key, "sequence_start": False, "sequence_end": True}
        assert runtime.predict({"x": np.array([3])}, end)["output"].tolist() == [5]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (COUNTER.replace(", parameters: dict", ""), "must take an argument 'parameters'"),
        (COUNTER.replace("stateful = True", "stateful = idempotent = True"), "idempotent = True"),
        (COUNTER.replace("-> int", "-> Iterator[int]").replace("class", "from typing import Iterator\nclass", 1), "in parts"),
    ],
    ids=["no parameters", "idempotent", "in parts"],
)
def test_what_contradicts_state(tmp_path: Path, source: str, text: str) -> None:
    """Refused when the class is loaded, with the reason."""
    with pytest.raises(UnsupportedModel, match=text):
        load(tmp_path, source)
