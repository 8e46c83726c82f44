"""What predict is given is read as what it is: JSON as JSON, cells as the deployment's types, arrays as arrays."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from headgate.cli.rows import Rows, read
from headgate.client import Field, Metadata
from headgate.errors import InvalidRequest, MissingDependency

TABLE = Metadata(
    "m",
    ("1",),
    "",
    (
        Field("age", "INT64", (-1, 1)),
        Field("score", "FP32", (-1, 1)),
        Field("city", "BYTES", (-1, 1)),
        Field("vip", "BOOL", (-1, 1)),
    ),
    (),
)
MATRIX = Metadata("m", ("1",), "", (Field("x", "FP32", (-1, 3)),), ())


def csv(tmp_path: Path, text: str) -> Rows:
    """A CSV file, read."""
    path = tmp_path / "data.csv"
    path.write_text(text)
    rows = read(str(path))
    assert isinstance(rows, Rows)
    return rows


def test_cells_get_the_types_of_the_deployment(tmp_path: Path) -> None:
    """Numbers are numbers, digits in a text column stay text, a missing float is NaN, 0 and 1 are false and true."""
    rows = csv(tmp_path, "age,score,city,vip\n3,0.5,12345,1\n4,,Rome,false\n").typed(TABLE)
    assert rows[0] == {"age": 3, "score": 0.5, "city": "12345", "vip": True}
    assert np.isnan(rows[1]["score"])
    assert rows[1]["vip"] is False


def test_columns_are_the_values_of_the_only_input(tmp_path: Path) -> None:
    """For a deployment of one input of that many values, a row of the table is the input."""
    assert csv(tmp_path, "a,b,c\n1,2,3\n").typed(MATRIX) == [{"x": [1.0, 2.0, 3.0]}]


def test_an_unknown_column_is_sent(tmp_path: Path) -> None:
    """A column the deployment may not know goes along, as what it looks like, for the server to refuse by name."""
    assert csv(tmp_path, "age,other\n3,x\n").typed(TABLE) == [{"age": 3, "other": "x"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("age\nthree\n", "row 0 (line 2 of the file), column 'age': expected INT64, got 'three'"),
        ("age\n\n3\n1.5\n", "row 1 (line 4 of the file), column 'age': expected INT64, got '1.5'"),
        ("vip\nmaybe\n", "expected BOOL, got 'maybe'"),
        ("age,city\n3\n", "line 2: expected 2 cells"),
        ("age,city\n3,Rome,4\n", "line 2: expected 2 cells"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_place(text: str, message: str, tmp_path: Path) -> None:
    """A wrong cell, or a row with too few or too many, is refused with its place; nothing is sent."""
    with pytest.raises(InvalidRequest, match="nothing was sent") as raised:
        csv(tmp_path, text).typed(TABLE)
    assert message in str(raised.value)


def test_json_is_taken_as_it_is(tmp_path: Path) -> None:
    """A JSON row on the command line and one in a file are the same."""
    (tmp_path / "row.json").write_text('{"age": 3}')
    assert read('{"age": 3}') == read(str(tmp_path / "row.json")) == {"age": 3}


def test_arrays_are_arrays(tmp_path: Path) -> None:
    """A .npy file is its array."""
    np.save(tmp_path / "x.npy", np.arange(6).reshape(2, 3))
    assert read(str(tmp_path / "x.npy")).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    """A .npy file that holds pickled objects is not loaded: that could run code."""
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidRequest, match="no plain NumPy array"):
        read(str(tmp_path / "x.npy"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{age: 3}", "no JSON"),
        ("nowhere.csv", "neither JSON"),
        ("data.xlsx", r"files are \.json, \.csv, \.parquet, \.npy, not \.xlsx"),
        ("broken.npy", "no plain NumPy array"),
    ],
)
def test_what_cannot_be_read_is_refused(source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither JSON nor a file, or a file of another kind: refused with what was expected."""
    monkeypatch.chdir(tmp_path)
    for name in ("data.xlsx", "broken.npy"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InvalidRequest, match=message):
        read(source)


def test_parquet_needs_its_extra(tmp_path: Path) -> None:
    """Without pyarrow a .parquet file is refused with the line that installs it; with it, its rows are read."""
    path = tmp_path / "x.parquet"
    if importlib.util.find_spec("pyarrow") is None:
        path.write_bytes(b"PAR1")
        with pytest.raises(MissingDependency, match=r"pip install 'pyarrow>="):
            read(str(path))
        return
    parquet, arrow = importlib.import_module("pyarrow.parquet"), importlib.import_module("pyarrow")
    parquet.write_table(arrow.table({"age": [3]}), path)
    assert read(str(path)).typed(TABLE) == [{"age": 3}]
