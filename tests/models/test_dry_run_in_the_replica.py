"""Before a replica says that it is ready it runs the package's own example, as the deployment's dry run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_server import Server

from headgate.errors import ModelFailed
from headgate.runtimes.base import Arrays, Described, Runtime
from headgate.serving import worker

SIGNATURE = {
    "inputs": [
        {"name": "x", "dtype": "FP32", "shape": [-1, 2]},
        {"name": "word", "dtype": "BYTES", "shape": [-1], "optional": True},
    ],
    "outputs": [{"name": "y", "dtype": "FP32", "shape": [-1, 3]}],
    "batched": True,
}
GOOD = np.zeros((2, 3), np.float32)


class Recorded(Runtime):
    """Gives what it is told to, and keeps what it was run on."""

    title = "recorded"

    def __init__(self) -> None:
        self.seen: list[Arrays] = []
        self.gives: Any = {"y": GOOD}
        self.knows: Arrays | None = None

    def load(self, path: Path, *, attribute: str, device: str, threads: int) -> None:
        """Load nothing."""

    def describe(self, example: Arrays | None) -> Described:
        raise NotImplementedError

    def sample(self) -> Arrays | None:
        return self.knows

    def predict(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        self.seen.append(inputs)
        if isinstance(self.gives, Exception):
            raise self.gives
        given: Arrays = self.gives
        return given


def load(folder: Path, monkeypatch: pytest.MonkeyPatch, example: object = None, **runtime: object) -> Recorded:
    """Load a package with that example by a worker whose runtime is a `Recorded`; return the runtime."""
    (folder / "manifest.json").write_text(json.dumps({"entry": "m.any", "runtime": "recorded", "signature": SIGNATURE}))
    if example is not None:
        (folder / "example.json").write_text(json.dumps(example))
    recorded = Recorded()
    vars(recorded).update(runtime)
    monkeypatch.setattr(worker.plugins, "load", lambda shelf, name: lambda: recorded)
    worker.Worker(folder, device="cpu", threads=1).load()
    return recorded


ROWS = [{"x": [1, 2]}, {"x": [3, 4]}]


def test_the_example_is_run_as_the_signature_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its whole numbers become the floats of the signature, its rows one batch, and what it leaves out stays out."""
    (inputs,) = load(tmp_path, monkeypatch, ROWS).seen
    assert list(inputs) == ["x"] and inputs["x"].dtype == np.float32
    assert inputs["x"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("gives", "said"),
    [
        (RuntimeError("no memory"), "fails on the package's own example: RuntimeError: no memory"),
        ({}, "no output 'y'"),
        ({"y": GOOD[:1]}, "shape"),
        ({"y": np.zeros((2, 4), np.float32)}, r"shape \[2, 4\], its signature promises \[2, 3\]"),
        ({"y": GOOD.astype(np.float64)}, "is FP64, its signature promises FP32"),
    ],
    ids=["raises", "missing", "rows", "width", "dtype"],
)
def test_an_example_that_breaks_the_signature_refuses_the_load(
    gives: object, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was promised when the model was packaged must hold where it is served."""
    with pytest.raises(ModelFailed, match=said) as caught:
        load(tmp_path, monkeypatch, ROWS, gives=gives)
    assert "package's own example" in str(caught.value)


def test_what_the_model_knows_warms_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an example, rows that the runtime knows the model takes come before made-up ones."""
    known = {"x": np.full((3, 2), 7, np.float32)}
    assert load(tmp_path, monkeypatch, knows=known).seen == [known]


def test_made_up_input_may_be_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ones are tried, and a model that does not take them is served all the same, with one line in its log."""
    (inputs,) = load(tmp_path, monkeypatch, gives=ValueError("not like that")).seen
    assert inputs["x"].tolist() == [[1, 1]] and "word" not in inputs
    assert capsys.readouterr().out.splitlines() == [
        "warm-up on made-up input failed, which may be right: ValueError: not like that"
    ]


CODE = """
from pathlib import Path


class Fickle:
    def predict(self, x: float) -> float:
        if Path("FLAG").exists():
            raise RuntimeError("the licence has run out")
        return 2 * x
"""


def test_a_deployment_whose_example_fails_is_not_ready(server: Server, tmp_path: Path) -> None:
    """What ran when it was packaged fails in the replica: the deployment fails with those words, and the one before serves on."""
    flag = tmp_path / "flag"
    (tmp_path / "fickle.py").write_text(CODE.replace("FLAG", str(flag)))
    (tmp_path / "example.json").write_text('[{"x": 1.0}]')
    example = ("--example", tmp_path / "example.json")
    server.deploy(f"{tmp_path}/fickle.py:Fickle", *example)
    (tmp_path / "fickle.py").write_text(CODE.replace("FLAG", str(flag)).replace("2 * x", "3 * x"))
    assert server.run("push", f"{tmp_path}/fickle.py:Fickle", *example).returncode == 0
    flag.touch()
    refused = server.run("deploy", "fickle@2")
    flag.unlink()
    assert refused.returncode != 0
    assert "package's own example: RuntimeError: the licence has run out" in refused.stderr
    assert server.client.predict("fickle", [{"x": 2.0}]) == [{"output": 4.0}]
