"""The shipped suite finds what it is there to find: for each check, a model that breaks it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from headgate.runtimes.base import Arrays
from headgate.runtimes.python import PythonRuntime
from headgate.testing import runtimes as suite

HEAD = """
import os
from typing import Annotated
import numpy as np
Rows = Annotated[np.ndarray, "FP64[2]"]
"""
GOOD = "return x.sum(axis=1)"
BREAKS = {
    "answers_as_its_framework": "return x.sum(axis=1) + 0.001",
    "is_described_as_it_behaves": "return x.sum(axis=1, keepdims=True)",
    "loads_twice": "os.environ['CALLS'] += 'x'\n        return x.sum(axis=1) + (len(os.environ['CALLS']) > 1)",
    "keeps_its_memory": "Model.kept.append(np.ones(4000))\n        return x.sum(axis=1)",
    "keeps_rows_in_order": "return np.sort(x.sum(axis=1))",
    "answers_a_row_alike_in_any_batch": "return (x - x.mean(0)).sum(axis=1) + x[:4].sum()",
}


def sample(folder: Path, body: str, name: str = "model.py") -> suite.Sample:
    source = f"class Model:\n    batched = True\n    kept = []\n    def predict(self, x: Rows):\n        {body}\n"
    (folder / name).write_text(HEAD + source)
    x = np.arange(10.0).reshape(5, 2)
    signature = {
        "inputs": [{"name": "x", "dtype": "FP64", "shape": [-1, 2]}],
        "outputs": [{"name": "output", "dtype": "FP64", "shape": [-1]}],
        "batched": True,
        "parameters": False,
    }
    expected = {"output": x.sum(axis=1)}
    return suite.Sample(
        name="m", runtime="python", path=folder / name, attribute="Model", inputs={"x": x}, expected=expected, signature=signature
    )


@pytest.mark.parametrize("check", suite.CHECKS, ids=lambda check: check.__name__)
def test_a_sound_model_passes(tmp_path: Path, check: suite.Check) -> None:
    check(sample(tmp_path, GOOD))


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_one_does_not(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLS", "")  # what copies of a model share
    with pytest.raises((AssertionError, ValueError)):
        getattr(suite, name)(sample(tmp_path, BREAKS[name]))


def test_a_runtime_that_changes_its_inputs_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = PythonRuntime.predict

    def changing(self: PythonRuntime, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        answer = sound(self, inputs, parameters)
        if inputs["x"].flags.writeable:
            inputs["x"][0] = -1
        return answer

    monkeypatch.setattr(PythonRuntime, "predict", changing)
    with pytest.raises(AssertionError, match="input 'x' was changed"):
        suite.leaves_its_inputs_alone(sample(tmp_path, GOOD))


def test_a_file_nobody_claims(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="is claimed by"):
        suite.claims_its_file(sample(tmp_path, GOOD, "model.pyx"))


def test_a_damaged_file_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(suite._DAMAGES, "cut", lambda data: data)
    with pytest.raises(AssertionError, match="a file that is cut was loaded"):
        suite.refuses_damaged_files(sample(tmp_path, GOOD))


def test_samples_are_read_as_they_were_written(tmp_path: Path) -> None:
    words = np.array(["é", ""], dtype=object)
    rest = {"runtime": "python", "path": "m.py", "signature": {"batched": True}, "attribute": "Model", "tolerance": 0.5}
    suite.write_sample(tmp_path, "m", inputs={"w": words}, expected={"n": np.array([1, 2])}, **rest)
    (found,) = suite.read_samples(tmp_path)
    assert found.inputs["w"].tolist() == ["é".encode(), b""]
    assert found.expected["n"].tolist() == [1, 2]
    assert (found.path, found.attribute, found.tolerance, found.rows) == (tmp_path / "m.py", "Model", 0.5, 2)
