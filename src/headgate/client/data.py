"""Between what people hold (dicts, arrays, data frames) and what a deployment takes: named arrays of the right dtype and shape."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

from headgate.client.wire import Arrays, Field, Metadata, guess_dtype
from headgate.errors import InvalidRequest
from headgate.tensors import DTYPES

if TYPE_CHECKING:
    import numpy as np

Typed = dict[str, tuple[str, "np.ndarray[Any, Any]"]]
"""Name -> dtype of the protocol, array."""
Restore = Callable[[Arrays], Any]
"""Turns the outputs into the kind of thing the inputs were."""


def prepare(data: Any, metadata: Metadata) -> tuple[Typed, Restore]:
    """Return the arrays to send for ``data``, and how to give the answer back as the same kind.

    ``data`` is a dict of named inputs, one array where the deployment needs one input, or a pandas or polars data frame. Numbers are
    cast where nothing is lost but precision; one row (every input lacks the batch axis) is sent as a batch of one, and its answer
    comes without the axis. Raises `InvalidRequest` that names the input.
    """
    library = frame_library(data)
    if library:
        arrays = _frame_inputs(data, metadata)
        return _typed(arrays, metadata), lambda outputs: _frame(data, library, outputs)
    if isinstance(data, Mapping):
        typed, single = _lift(_typed(data, metadata), metadata)
        return typed, lambda outputs: _lower(outputs) if single else outputs
    needed = [field for field in metadata.inputs if not field.optional] if len(metadata.inputs) > 1 else metadata.inputs
    if len(needed) != 1:
        names = ", ".join(field.name for field in metadata.inputs)
        raise InvalidRequest(f"{metadata.name} takes {len(metadata.inputs)} inputs, got one array; give a dict with {names}")
    typed, single = _lift(_typed({needed[0].name: data}, metadata), metadata)
    return typed, lambda outputs: _only(_lower(outputs) if single else outputs)


def frame_library(data: Any) -> str:
    """Return ``pandas`` or ``polars`` if ``data`` is a data frame of theirs, else an empty string; imports neither."""
    library = type(data).__module__.partition(".")[0]
    return library if library in ("pandas", "polars") and hasattr(data, "columns") else ""


def _typed(data: Mapping[str, Any], metadata: Metadata) -> Typed:
    fields = {field.name: field for field in metadata.inputs}
    return {name: _as_field(name, value, fields.get(name)) for name, value in data.items()}


def _as_field(name: str, value: Any, field: Field | None) -> tuple[str, np.ndarray[Any, Any]]:
    """Return ``value`` as an array of the field's dtype; an input the deployment does not know goes as it is, for the server to refuse."""
    import numpy as np

    try:
        array = np.asarray(value)
        if field is None:
            return guess_dtype(array), array
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"input {name!r}: {error}") from None
    cast = _as_text(name, array) if field.dtype == "BYTES" else _as_numbers(name, array, field)
    return field.dtype, _with_trailing_ones(cast, field)


def _as_text(name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    encoded = np.empty(array.size, dtype=object)
    for at, item in enumerate(array.ravel().tolist()):
        if not isinstance(item, str | bytes):
            kind = type(item).__name__
            raise InvalidRequest(f"input {name!r}: expected text, got {item!r} ({kind}) at position {at}; convert it with str()")
        encoded[at] = item.encode("utf-8", "surrogateescape") if isinstance(item, str) else item
    return encoded.reshape(array.shape)


def _as_numbers(name: str, array: np.ndarray[Any, Any], field: Field) -> np.ndarray[Any, Any]:
    import numpy as np

    wanted = np.dtype("float32" if field.dtype == "BF16" else DTYPES[field.dtype].numpy)
    if array.dtype == wanted:
        return array
    if array.dtype.kind == "O":
        return _as_numbers(name, _of_objects(name, array, field), field)
    if array.dtype.kind in "iu" and wanted.kind in "iu":
        _check_range(name, array, field)
    elif array.size and not np.can_cast(array.dtype, wanted, "same_kind"):
        cast = f".astype({wanted.name!r})"
        raise InvalidRequest(f"input {name!r}: expected {field.dtype}, got {array.dtype}; cast it with {cast} if that is meant")
    with np.errstate(over="ignore"):
        numbers = array.astype(wanted)
    if array.size and wanted.kind == "f" and not np.array_equal(np.isfinite(numbers), np.isfinite(array)):
        worst = array[np.isfinite(array) & ~np.isfinite(numbers)][0]
        raise InvalidRequest(f"input {name!r}: {worst} does not fit {field.dtype}")
    return numbers


def _of_objects(name: str, array: np.ndarray[Any, Any], field: Field) -> np.ndarray[Any, Any]:
    """Return an array of Python's numbers as one of NumPy's; None is a missing one, NaN."""
    import numpy as np

    items = array.ravel().tolist()
    for at, item in enumerate(items):
        if item is not None and not isinstance(item, Real | np.bool_):
            raise InvalidRequest(
                f"input {name!r}: expected {field.dtype}, got {str(item)[:100]!r} ({type(item).__name__}) at position {at}"
            )
    numbers = np.array([np.nan if item is None else item for item in items])
    if numbers.dtype.kind == "O":
        raise InvalidRequest(
            f"input {name!r}: expected {field.dtype}, got numbers that no dtype holds; make them float or int first"
        )
    return numbers.reshape(array.shape)


def _check_range(name: str, array: np.ndarray[Any, Any], field: Field) -> None:
    import numpy as np

    limits = np.iinfo(DTYPES[field.dtype].numpy)
    if array.size and not (limits.min <= int(array.min()) and int(array.max()) <= limits.max):
        worst = int(array.max()) if int(array.max()) > limits.max else int(array.min())
        raise InvalidRequest(f"input {name!r}: {worst} does not fit {field.dtype} ({limits.min} to {limits.max})")


def _with_trailing_ones(array: np.ndarray[Any, Any], field: Field) -> np.ndarray[Any, Any]:
    """Return a column of n values as ``(n, 1)``, and one value as ``(1,)``, where that is how the deployment takes a column, or a value."""
    rest = field.shape[1:]
    if array.ndim == 0 and field.shape == (1,):
        return array.reshape(1)
    if rest and all(size == 1 for size in rest) and array.ndim < 2:
        return array.reshape(*array.shape, *rest)
    return array


def _lift(typed: Typed, metadata: Metadata) -> tuple[Typed, bool]:
    """Add the batch axis where every input lacks it and the deployment has one; say whether that was so."""
    ranks = {field.name: len(field.shape) for field in metadata.inputs}
    batched = all(field.shape[:1] == (-1,) for field in (*metadata.inputs, *metadata.outputs))
    rows = [name for name, (_, array) in typed.items() if array.ndim == ranks.get(name, 0) - 1]
    if not batched or not rows:
        return typed, False
    if len(rows) != len(typed):
        whole = next(name for name in typed if name not in rows)
        raise InvalidRequest(
            f"input {rows[0]!r} is one row, but {whole!r} is not; give every input for one row, or every one for a batch"
        )
    return {name: (dtype, array[None]) for name, (dtype, array) in typed.items()}, True


def _lower(outputs: Arrays) -> dict[str, Any]:
    return {name: array[0] for name, array in outputs.items()}


def _only(outputs: Mapping[str, Any]) -> Any:
    """Return the only output, or all of them by name where there are several."""
    return next(iter(outputs.values())) if len(outputs) == 1 else dict(outputs)


def _frame_inputs(frame: Any, metadata: Metadata) -> Arrays:
    """Return the columns of a data frame by name, or as one matrix where the deployment takes one input of that many columns."""
    import numpy as np

    columns = {str(name): frame[name].to_numpy() for name in frame.columns}
    first = metadata.inputs[0]
    if len(metadata.inputs) == 1 and first.name not in columns and len(first.shape) == 2 and first.shape[1] in (-1, len(columns)):
        return {first.name: np.column_stack(list(columns.values()))}
    return columns


def _frame(like: Any, library: str, outputs: Arrays) -> Any:
    """Return the outputs as a data frame of the same library, row for row; pandas keeps the index."""
    columns: dict[str, Any] = {}
    for name, array in outputs.items():
        if array.shape[:1] != (len(like),):
            shape = list(array.shape)
            raise InvalidRequest(
                f"output {name!r} has shape {shape}, not one entry for each of {len(like)} rows; send a dict of arrays"
            )
        columns.update(_columns(name, array))
    if library == "pandas":
        return importlib.import_module(library).DataFrame(columns, index=like.index)
    return importlib.import_module(library).DataFrame(columns)


def _columns(name: str, array: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return an output as columns: one for each of its values in a row; beyond two dimensions a column of nested lists."""
    if array.ndim == 1:
        return {name: array}
    if array.ndim == 2:
        return {name if array.shape[1] == 1 else f"{name}_{at}": array[:, at] for at in range(array.shape[1])}
    return {name: array.tolist()}
