"""Between the arrays of a batch and what predict takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headgate.errors import ModelFailed
from headgate.runtimes.base import Arrays, decoded
from headgate.runtimes.python.hints import Field, Record
from headgate.tensors import DTYPES


def whole(field: Field, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return one input of a whole batch, as predict gets it."""
    # A copy, since what comes in lies in memory that the next batch overwrites, and people keep what they are given.
    return array.copy() if field.raw or array.dtype != object else decoded(field.name, array)


def as_rows(field: Field, array: np.ndarray[Any, Any]) -> list[Any]:
    """Return what predict gets for each row."""
    as_array = field.array or (field.dtype is None and array.ndim > 1)
    if as_array and array.ndim > 1:
        return list(whole(field, array))
    values: list[Any] = (array if field.raw else decoded(field.name, array)).tolist()
    return values


def field_of(gives: Record | None, name: str) -> Field | None:
    """Return what the hint says of one output, if it says anything."""
    return None if gives is None else next((field for field in gives.fields if field.name == name), None)


def taken_apart(gives: Record | None, result: Any, gave: str = "returned") -> dict[str, Any]:
    """Return one result of predict by output. Raises `ModelFailed` if it is not what the hint promises; ``gave`` is for its words."""
    if result is None:
        raise ModelFailed(f"predict {gave} None{': is there a return missing?' if gave == 'returned' else ', which is no tensor'}")
    if gives is None:
        return dict(result) if isinstance(result, Mapping) else {"output": result}
    names = [field.name for field in gives.fields]
    try:
        if gives.positional:
            return dict(zip(names, result, strict=True))
        if gives.struct is not None:
            by_key = isinstance(result, Mapping)
            return {name: result[name] if by_key else getattr(result, name) for name in names}
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ModelFailed(f"predict {gave} a {type(result).__name__}, not what its hint promises, {names}: {error}") from error
    return {"output": result}


def to_arrays(gives: Record | None, result: Any, gave: str = "returned") -> Arrays:
    """Return one result of predict as arrays. Raises `ModelFailed`."""
    return {name: to_array(name, value, field_of(gives, name)) for name, value in taken_apart(gives, result, gave).items()}


def joined(rows: list[dict[str, Any]], gives: Record | None) -> Arrays:
    """Return the results of rows as arrays with a batch axis. Raises `ModelFailed`."""
    return {name: to_array(name, [row[name] for row in rows], field_of(gives, name)) for name in (rows[0] if rows else ())}


def to_array(name: str, value: Any, field: Field | None) -> np.ndarray[Any, Any]:
    """Make a tensor of ``value``, of the dtype that was promised, without losing anything."""
    if field is not None and field.dtype == "BYTES":
        array = _text(name, value)
    else:
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise ModelFailed(
                f"the rows of {name!r} differ in shape, so they make no tensor. Return equal lengths, or set batched = False on the "
                "class: then each request is one row"
            ) from error
    if field is None or field.dtype is None or field.dtype == "BYTES":
        return array
    wanted = np.dtype("float32" if field.dtype == "BF16" else DTYPES[field.dtype].numpy)
    if not np.can_cast(array.dtype, wanted, "same_kind"):
        raise ModelFailed(f"{name!r} should be {field.dtype} by its hint, predict returned {array.dtype}")
    return array.astype(wanted, copy=False)


def _text(name: str, value: Any) -> np.ndarray[Any, Any]:
    array = np.array(value, dtype=object)
    wrong = next((item for item in array.ravel().tolist() if not isinstance(item, (str, bytes))), None)
    if wrong is not None:
        raise ModelFailed(
            f"{name!r} should be text by its hint, predict returned a {type(wrong).__name__}, or rows of unequal length"
        )
    return array
