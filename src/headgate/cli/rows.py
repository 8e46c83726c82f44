"""What ``headgate predict`` is given, read: JSON as it is, tables as rows, arrays as arrays."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headgate.errors import InvalidRequest, MissingDependency

if TYPE_CHECKING:
    from headgate.client import Field, Metadata


class Rows:
    """Rows of a table whose cells may still be text: they get their types from the deployment.

    ``lines`` are those of the file on which the rows end, where it has lines.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], lines: Sequence[int] = ()) -> None:
        self._rows = rows
        self._lines = lines

    def typed(self, metadata: Metadata) -> list[dict[str, Any]]:
        """Return the rows as the deployment takes them.

        Raises `InvalidRequest` naming the row (counted from 0, as the server does) and column of a cell that does not fit.
        """
        fields = {field.name: field for field in metadata.inputs}
        first = metadata.inputs[0]
        columns = self._rows[0].keys() if self._rows else ()
        rows = enumerate(self._rows)
        if len(fields) == 1 and first.name not in columns and len(first.shape) == 2 and first.shape[1] in (-1, len(columns)):
            return [{first.name: [self._cell(value, first, at, key) for key, value in row.items()]} for at, row in rows]
        return [{key: self._cell(value, fields.get(key), at, key) for key, value in row.items()} for at, row in rows]

    def _cell(self, value: Any, field: Field | None, row: int, column: str) -> Any:
        try:
            return _typed(value, field)
        except (ValueError, KeyError):
            line = f" (line {self._lines[row]} of the file)" if self._lines else ""
            kind = field.dtype if field else ""
            raise InvalidRequest(f"row {row}{line}, column {column!r}: expected {kind}, got {value!r}; nothing was sent") from None


def read(source: str) -> Any:
    """Return what ``source`` (JSON, a file's name, or ``-``) holds: plain JSON values, `Rows`, or a NumPy array."""
    if source == "-":
        if sys.stdin.isatty():
            raise InvalidRequest("DATA: nothing is given; give a JSON row such as '{\"age\": 3}', a file, or pipe JSON in")
        return _json(sys.stdin.read(), "standard input")
    if source.lstrip().startswith(("{", "[")):
        return _json(source, "DATA")
    path = Path(source)
    if not path.is_file():
        raise InvalidRequest(f"DATA: {source!r} is neither JSON (an object or a list) nor a file; see 'headgate predict --help'")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InvalidRequest(f"DATA: {source}: files are {', '.join(_READERS)}, not {path.suffix or 'without an ending'}")
    return reader(path)


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"{where}: no JSON: {error}") from None


def _read_json(path: Path) -> Any:
    return _json(path.read_text(encoding="utf-8"), str(path))


def _read_csv(path: Path) -> Rows:
    with open(path, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, strict=True)
        rows, lines = [], []
        try:
            for row in reader:
                if None in row or None in row.values():
                    expected = len(reader.fieldnames or ())
                    where = f"{path}, line {reader.line_num}"
                    raise InvalidRequest(f"{where}: expected {expected} cells, as in the first line; nothing was sent")
                rows.append(row)
                lines.append(reader.line_num)
        except (csv.Error, UnicodeDecodeError) as error:
            raise InvalidRequest(f"{path}, line {reader.line_num}: no CSV: {error}") from None
    return Rows(rows, lines)


def _read_parquet(path: Path) -> Rows:
    try:
        import pyarrow.parquet
    except ImportError:
        from headgate import plugins

        install = plugins.install_command("parquet", "pyarrow")
        raise MissingDependency(f"{path}: reading .parquet needs pyarrow; install it: {install}") from None
    try:
        return Rows(pyarrow.parquet.read_table(path).to_pylist())
    except (pyarrow.ArrowException, OSError) as error:
        raise InvalidRequest(f"{path}: no Parquet file: {error}") from None


def _read_array(path: Path) -> Any:
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InvalidRequest(f"{path}: no plain NumPy array: {error}") from None


_READERS: dict[str, Callable[[Path], Any]] = {
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".npy": _read_array,
}


def _typed(value: Any, field: Field | None) -> Any:
    """Return a cell as the input it is for takes it. An empty one is NaN among floats; of an unknown input, what it looks like.

    Raises `ValueError` or `KeyError` for one that does not fit.
    """
    if not isinstance(value, str) or (field is not None and field.dtype == "BYTES"):
        return value
    if field is None:
        return _guess(value)
    if field.dtype == "BOOL":
        return _TRUTH[value.strip().lower()]
    if field.dtype.startswith(("FP", "BF")):
        return float(value) if value.strip() else float("nan")
    return int(value)


_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def _guess(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
