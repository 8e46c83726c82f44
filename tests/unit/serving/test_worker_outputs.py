"""What a model returns is held against its signature before anyone sees it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from headgate.errors import ModelFailed
from headgate.serving.link import Message, Unpacked
from headgate.serving.worker import Worker, packed
from headgate.tensors import DTYPES

CODE = """
from typing import Annotated
import numpy as np

class Model:
    batched = True
    def predict(self, n: int) -> Annotated[np.ndarray, "FP32[4]"]:
        wrong = int(n[0])
        if wrong == 9:
            return np.zeros((len(n) + 1, 4), "float32")
        return np.zeros((len(n), wrong), "float32")
"""


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    """A model whose output is as wide as its first input says, and 4 by its signature."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "model.py").write_text(CODE)
    signature = {
        "inputs": [{"name": "n", "dtype": "INT64", "shape": [-1]}],
        "outputs": [{"name": "output", "dtype": "FP32", "shape": [-1, 4]}],
        "batched": True,
    }
    manifest = {"runtime": "python", "entry": "model.py:Model", "signature": signature, "files": {}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    made = Worker(tmp_path, device="cpu", threads=1)
    made.load()
    return made


def message(*values: int) -> Message:
    """A batch of these rows."""
    data = memoryview(np.array(values, "int64").tobytes())
    return Message(len(values), 0, b"", [Unpacked(0, DTYPES["INT64"].code, (len(values),), data)])


def test_what_fits_the_signature_is_packed(worker: Worker) -> None:
    """The right shape goes out as it is."""
    outputs = worker.run(message(4, 1)).outputs
    assert [tuple(output.shape) for output in outputs] == [(2, 4)]


@pytest.mark.parametrize(
    ("wrong", "said"), [(3, r"has shape \[2, 3\], its signature promises \[2, 4\]"), (9, r"has shape \[3, 4\]")]
)
def test_what_does_not_is_the_models_failure(worker: Worker, wrong: int, said: str) -> None:
    """A wrong width or number of rows is an error that names both shapes, never an answer."""
    with pytest.raises(ModelFailed, match=said):
        worker.run(message(wrong, 1))


@pytest.mark.parametrize(
    ("returned", "promised", "kept"),
    [
        ("float64", "INT64", False),
        ("int64", "BOOL", False),
        ("object", "FP32", False),
        ("complex64", "FP32", False),
        ("int32", "FP64", True),
        ("int32", "INT64", True),
        ("bool", "INT64", True),
        ("float32", "FP64", True),
    ],
)
def test_no_answer_is_cut_to_fit(returned: str, promised: str, kept: bool) -> None:
    """A model that returns fractions where whole numbers are promised fails; one whose kind holds them is cast."""
    array = np.ones(2, dtype=returned)
    if not kept:
        with pytest.raises(ModelFailed, match=f"output 'y' is {returned}, its signature promises {promised}"):
            packed(0, "y", DTYPES[promised], (-1,), {"y": array}, 2)
        return
    found = packed(0, "y", DTYPES[promised], (-1,), {"y": array}, 2)
    (data,) = found.parts
    assert np.frombuffer(data, dtype=DTYPES[promised].numpy).tolist() == [1, 1]
