"""What a notebook hands to ``headgate.serve`` becomes what ``headgate serve`` takes, or a clear refusal."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from headgate import assembly, errors


class Ranker:
    """A model in a file."""


def test_settings_are_the_flags_of_serve() -> None:
    """Settings in Python are flags by the same name; what is None or off is not given."""
    words = assembly._flags(
        {
            "replicas": 2,
            "max_delay": "5ms",
            "also": [1, 2],
            "idempotent": False,
            "trust_pickle": True,
            "relock": False,
            "threads": None,
        }
    )
    assert words == ["--replicas", "2", "--max-delay", "5ms", "--also", "1,2", "--no-idempotent", "--trust-pickle"]


def test_unknown_settings_are_refused() -> None:
    """A setting that does not exist is refused before anything starts, with the likely spelling."""
    with pytest.raises(errors.SpecError, match="did you mean 'replicas'"):
        assembly.serve("model.onnx", replica=2)


def test_an_address_needs_a_name() -> None:
    """What it leads to is fetched by the server, so what to call it is not known here; the refusal comes before anything starts."""
    with pytest.raises(errors.SpecError, match="name: models:/wine@champion is fetched only later; say what to call it"):
        assembly.serve("models:/wine@champion")


def test_a_path_is_served_as_it_is(tmp_path: Path) -> None:
    """A path or a target stays what it is."""
    assert assembly._target(tmp_path / "a.onnx", tmp_path) == str(tmp_path / "a.onnx")
    assert assembly._target("ranker.py:Ranker", tmp_path) == "ranker.py:Ranker"


def test_bytes_are_an_onnx_model(tmp_path: Path) -> None:
    """Serialized ONNX is written to a file."""
    target = assembly._target(b"onnx", tmp_path)
    assert Path(target).read_bytes() == b"onnx"
    assert target.endswith(".onnx")


def test_a_scikit_learn_model_is_saved_without_pickle(tmp_path: Path) -> None:
    """A live estimator is saved as .skops, which loads no code."""
    linear = pytest.importorskip("sklearn.linear_model").LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
    target = assembly._target(linear, tmp_path)
    assert target.endswith("model.skops")
    assert pytest.importorskip("skops.io").load(target).predict([[3.0]]) == pytest.approx([6.0])


def test_a_class_in_a_file_is_its_file() -> None:
    """A class at the top of a file is served from that file."""
    assert assembly._target(Ranker, Path()) == f"{__file__}:Ranker"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (type("Nowhere", (), {"__module__": "__main__"}), "write it to one .*%%writefile"),
        (Ranker(), "write a class with load"),
        (type("Net", (), {"__module__": "torch.nn"})(), r"torch\.export\.save"),
    ],
)
def test_what_cannot_be_saved_faithfully_is_refused(model: Any, message: str, tmp_path: Path) -> None:
    """A class of a notebook cell, an instance, a torch module: refused, with what to do instead."""
    with pytest.raises(errors.UnsupportedModel, match=message):
        assembly._target(model, tmp_path)


@pytest.mark.parametrize(
    ("example", "written"),
    [
        ({"age": 3}, {"age": 3}),
        ([{"x": np.arange(2)}], [{"x": [0, 1]}]),
        (np.eye(9), np.eye(9)[:5].tolist()),
        (pd.DataFrame({"age": range(9), "city": "Rome"}), [{"age": at, "city": "Rome"} for at in range(5)]),
    ],
)
def test_examples_become_a_file(example: Any, written: Any, tmp_path: Path) -> None:
    """Rows, arrays and data frames are written as the first rows of them; a file is taken as it is."""
    assert json.loads(assembly._example_file(example, tmp_path).read_text()) == written
    assert assembly._example_file("mine.csv", tmp_path) == Path("mine.csv")
