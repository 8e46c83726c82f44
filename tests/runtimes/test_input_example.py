"""Input examples: the three forms, and what is wrong with those that are none of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from headgate.errors import PackageError
from headgate.serving.example import documents, is_tensor, kind_of, read_example


def read(tmp_path: Path, document: object):
    path = tmp_path / "example.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return {name: (str(array.dtype), array.tolist()) for name, array in read_example(path).items()}


@pytest.mark.parametrize(
    ("document", "arrays"),
    [
        ({"age": 3, "name": "é"}, {"age": ("int64", [3]), "name": ("object", ["é".encode()])}),
        ([{"a": 1, "b": True}, {"a": 2.5, "b": False}], {"a": ("float64", [1.0, 2.5]), "b": ("bool", [True, False])}),
        ([{"v": [1, 2]}, {"v": [3, 4]}], {"v": ("int64", [[1, 2], [3, 4]])}),
        ([[1.5, 2], [3, 4]], {"": ("float64", [[1.5, 2.0], [3.0, 4.0]])}),
        (["a", "b"], {"": ("object", [b"a", b"b"])}),
        (
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]},
            {"x": ("float32", [[1.0, 2.0]])},
        ),
        (
            {"inputs": [{"name": "s", "datatype": "BYTES", "shape": [2, 1], "data": [["a"], ["b"]]}]},
            {"s": ("object", [[b"a"], [b"b"]])},
        ),
    ],
)
def test_forms(tmp_path: Path, document: object, arrays: dict) -> None:
    assert read(tmp_path, document) == arrays


def test_an_object_is_a_document(tmp_path: Path) -> None:
    """For an input of JSON documents a value stands as it is; text that is JSON already, as requests carry it, is not quoted again."""
    (tmp_path / "example.json").write_text(json.dumps([{"a": {"b": "é"}, "c": [1, 2], "d": "x", "e": "[1]"}]))
    example = read_example(tmp_path / "example.json")
    assert not is_tensor(example["a"])
    assert kind_of(example["a"]) == "objects"
    found = {name: [json.loads(text) for text in documents(array).tolist()] for name, array in example.items()}
    assert found == {"a": [{"b": "é"}], "c": [[1, 2]], "d": ["x"], "e": [[1]]}


def test_null_is_a_missing_number(tmp_path: Path) -> None:
    dtype, values = read(tmp_path, [{"a": 1}, {"a": None}])["a"]
    assert dtype == "float64"
    assert values[0] == 1.0
    assert np.isnan(values[1])


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "example.json is not JSON"),
        ([], "must be a row, a list of rows"),
        (3, "must be a row, a list of rows"),
        ([{"a": 1}, {"b": 1}], "row 1 of the example must have the fields of row 0: a"),
        ([{"a": [1]}, {"a": [1, 2]}], "the rows of field 'a' of the example differ in shape"),
        ([{"a": 1}, {"a": "x"}], "field 'a' of the example mixes int, str"),
        ({"inputs": [{"name": "x"}]}, r"inputs\[0\] of the example lacks datatype, shape, data"),
        ({"inputs": [{"name": "x", "datatype": "FP31", "shape": [1], "data": [1]}]}, "unknown datatype 'FP31'; did you mean"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [3], "data": [1]}]}, r"has 1 elements, not shape \[3\]"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": ["a"]}]}, "said to be FP32, and its data is not"),
    ],
)
def test_what_is_wrong(tmp_path: Path, document: object, said: str) -> None:
    with pytest.raises(PackageError, match=said):
        read(tmp_path, document)
