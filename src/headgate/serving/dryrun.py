"""The dry run: a loaded model is run on a few rows, and what it does decides what its signature says.

Replica side: standard library and NumPy. One row, then three different ones: the rows of a batch must come back in order and equal
to what each gives alone, else the model is served without a batch axis. Of a model that answers in parts, the first few are taken.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from headgate.errors import PackageError, did_you_mean
from headgate.runtimes.base import Arrays, BySignature, Described, Runtime, TensorSpec, named, said
from headgate.serving.example import documents, is_tensor, kind_of
from headgate.tensors import DTYPES, dtype_of

ROWS = 3
PARTS = 3
"""Taken of an answer in parts, which may have no end."""
_SIZES = (8, 64, 224)
"""Tried for dimensions that vary: small first; images below some size do not survive their convolutions."""
_TOLERANCE = 1e-3
_WORDS = {"varied": (b"a", b"some text", b"42"), "zeros": (b"0",), "ones": (b"1",)}
_DOCUMENTS = {"varied": (b'"a"', b'"some text"', b'"42"'), "zeros": (b"{}",), "ones": (b"[1]",)}


class Outcome(NamedTuple):
    """What the dry run found."""

    described: Described
    """With outputs and batched filled in."""
    warning: str = ""
    """Why the model was not run, if it was not; for people."""


class _Failed(Exception):
    """The model raised."""


def dry_run(runtime: Runtime, described: Described, example: Arrays | None) -> Outcome:
    """Run the model on ``example``, or on made-up input, and complete ``described``.

    Raises `PackageError` if the example does not fit or fails, or if made-up input fails and the signature is not known without.
    """
    given = None if example is None else _fitted(described.inputs, example)
    if described.streams:
        return _parts_run(runtime, described, given)
    last = None
    if described.batched is not False and all(info.shape for info in described.inputs):
        try:
            return Outcome(_rows_run(runtime, described, given))
        except _Failed as failed:
            last = failed.__cause__
    for inputs in [given] if given is not None else _made_up(described.inputs, None):
        try:
            seen = [_predict(runtime, inputs), *_other_sizes(runtime, described, None)]
        except _Failed as failed:
            last = failed.__cause__
            continue
        return Outcome(described._replace(outputs=_outputs(described, seen, False), batched=False))
    return Outcome(*_not_run(described, given, last))


def further_runs(runtime: Runtime, described: Described, example: Arrays | None) -> tuple[Described, list[str]]:
    """Run the model by each of its further signatures too, on ``example`` where it fits, and complete them in ``described``.

    Returns a sentence for each that is left out, since nothing can be said of it, and for each that was not run.
    """
    kept: list[Described] = []
    sentences = list(described.remarks)
    for each in described.further:
        try:
            outcome = dry_run(BySignature(runtime, each.name), each, _if_it_fits(each.inputs, example))
        except PackageError as error:
            sentences.append(f"the signature {each.name!r} is left out: {error}")
            continue
        kept.append(outcome.described)
        sentences += [f"the signature {each.name!r}: {outcome.warning}"] if outcome.warning else []
    return described._replace(further=tuple(kept)), sentences


def _if_it_fits(infos: Sequence[TensorSpec], example: Arrays | None) -> Arrays | None:
    """Return the example, which was made for another signature, where it is one for these inputs too."""
    try:
        return None if example is None or not _fitted(infos, example) else example
    except PackageError:
        return None


def first_parts(runtime: Runtime, inputs: Arrays) -> list[Arrays]:
    """Return the first parts of an answer, at most `PARTS`. Raises what the model raises."""
    with closing(runtime.stream(inputs, {})) as parts:
        return list(islice(parts, PARTS))


def _parts_run(runtime: Runtime, described: Described, given: Arrays | None) -> Outcome:
    """Complete the description of a model that answers in parts. Raises `PackageError`."""
    last: Exception | None = None
    for inputs in [given] if given is not None else _made_up(described.inputs, None):
        try:
            seen = first_parts(runtime, inputs)
        except Exception as error:
            last = error
            continue
        if seen:
            return Outcome(described._replace(outputs=_outputs(described, seen, False)))
        if described.outputs is not None:
            return Outcome(described)
    if last is None:
        raise PackageError(
            "the model gave no part of an answer, and no type hint says what one is: hint what it yields, such as Iterator[str], or give "
            "it input that it answers: --example FILE"
        )
    return Outcome(*_not_run(described, given, last))


def _rows_run(runtime: Runtime, described: Described, given: Arrays | None) -> Described:
    """Run one row and three. Raises `_Failed` if no single row runs."""
    alone: list[Arrays] = []
    cause = None
    for rows in _candidates(runtime, described, given):
        try:
            alone.append(_predict(runtime, _slice(rows, 0)))
            together = _predict(runtime, rows)
        except _Failed as failed:
            cause = failed.__cause__
            continue
        batched = _independent(runtime, rows, alone[-1], together)
        seen = [alone[-1], together, *_other_sizes(runtime, described, ROWS)]
        return described._replace(outputs=_outputs(described, seen, batched), batched=batched)
    if not alone:
        raise _Failed from cause
    print(f"served without a batch axis: one row runs, {ROWS} do not: {cause}", file=sys.stderr)
    return described._replace(outputs=_outputs(described, alone[-1:], False), batched=False)


def _candidates(runtime: Runtime, described: Described, given: Arrays | None) -> Iterator[Arrays]:
    if given is not None:
        yield _three(given, 0.01)
        yield _three(given, 0.0)
        return
    known = runtime.sample()
    if known is not None:
        yield known
    yield from _made_up(described.inputs, ROWS)


def _independent(runtime: Runtime, rows: Arrays, first: Arrays, together: Arrays) -> bool:
    """Whether each row of ``together`` is there, in its place, and as it is alone."""
    if any(array.ndim == 0 or array.shape[0] != ROWS for array in together.values()):
        return False
    if any(array.ndim == 0 or array.shape[0] != 1 for array in first.values()):
        return False
    if not same(_predict(runtime, _slice(rows, 0)), first):
        return True  # it draws lots: values say nothing, shapes are right
    for index in range(ROWS):
        if not same(_predict(runtime, _slice(rows, index)), _slice(together, index)):
            print(f"served without a batch axis: row {index} of a batch differs from the same row alone", file=sys.stderr)
            return False
    return True


def same(one: Arrays, other: Arrays, tolerance: float = _TOLERANCE) -> bool:
    """Whether two answers are equal: floats within ``tolerance`` of their size, all else exactly."""
    if set(one) != set(other):
        return False
    return all(_close(array, other[name], tolerance) for name, array in one.items())


def _close(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any], tolerance: float) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind != "f":
        return bool(np.array_equal(_bytes(one), _bytes(other)))
    # Half precision has eleven bits.
    tolerance = max(tolerance, 1e-2) if one.dtype.itemsize == 2 else tolerance
    finite = np.abs(one[np.isfinite(one)])
    scale = float(finite.max()) if finite.size else 0.0
    return bool(np.allclose(one, other, rtol=tolerance, atol=tolerance * scale, equal_nan=True))


def _bytes(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype.kind not in "OUS":
        return array
    items = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel().tolist()]
    return np.array(items, dtype=object).reshape(array.shape)


def _predict(runtime: Runtime, inputs: Arrays) -> Arrays:
    try:
        return runtime.answer(inputs)
    except Exception as error:
        raise _Failed from error


def _slice(arrays: Arrays, row: int) -> Arrays:
    return {name: array[row : row + 1] for name, array in arrays.items()}


def _three(given: Arrays, change: float) -> Arrays:
    """Repeat the rows of an example up to three, repeated floats changed a little so that rows differ."""
    rows: Arrays = {}
    for name, array in given.items():
        index = np.arange(ROWS)
        taken = array[index % len(array)]
        if taken.dtype.kind == "f":
            factor = 1 + change * (index // len(array))
            taken = (taken * factor.reshape(-1, *[1] * (taken.ndim - 1))).astype(taken.dtype)
        rows[name] = taken
    return rows


def _made_up(infos: Sequence[TensorSpec], rows: int | None) -> Iterator[Arrays]:
    """Yield inputs, each a little likelier to be refused by nobody: varied, zeros, ones; ``rows`` replaces the first dimension."""
    wanted = [info for info in infos if not info.optional]
    varies = any(-1 in (info.shape if rows is None else info.shape[1:]) for info in wanted)
    for size in _SIZES if varies else _SIZES[:1]:
        for fill in ("varied", "zeros", "ones"):
            yield {info.name: _fill(info, rows, size, fill) for info in wanted}


def _fill(info: TensorSpec, rows: int | None, size: int, fill: str) -> np.ndarray[Any, Any]:
    shape = [size if dim < 0 else dim for dim in info.shape]
    if rows is not None:
        shape[0] = rows
    if info.dtype == "BYTES":
        words = (_DOCUMENTS if info.content == "json" else _WORDS)[fill]
        array = np.empty(int(np.prod(shape)), dtype=object)
        array[:] = [words[index % len(words)] for index in range(array.size)]
        return array.reshape(shape)
    numpy = _numpy_of(info)
    if fill != "varied":
        return np.full(shape, fill == "ones", dtype=numpy)
    random = np.random.default_rng(0)
    return random.random(shape).astype(numpy) if DTYPES[info.dtype].kind == "float" else random.integers(0, 3, shape).astype(numpy)


def _numpy_of(info: TensorSpec) -> str:
    return "float32" if info.dtype == "BF16" else DTYPES[info.dtype].numpy


def _other_sizes(runtime: Runtime, described: Described, rows: int | None) -> list[Arrays]:
    """Run once more with other sizes, to see which dimensions of undeclared outputs follow them."""
    inner = [info.shape if rows is None else info.shape[1:] for info in described.inputs]
    if described.outputs is not None or not any(-1 in shape for shape in inner):
        return []
    wanted = [info for info in described.inputs if not info.optional]
    for size in (_SIZES[0] + 3, _SIZES[1] + 3):
        try:
            return [_predict(runtime, {info.name: _fill(info, rows, size, "varied") for info in wanted})]
        except _Failed:
            continue
    return []


def _outputs(described: Described, seen: list[Arrays], batched: bool) -> tuple[TensorSpec, ...]:
    """Say of each output what was seen of it; a dimension that is declared to vary does, whatever was seen."""
    declared = None if described.outputs is None else {info.name: info for info in described.outputs}
    names = list(seen[0]) if declared is None else list(declared)
    if not names:
        raise PackageError("the model returned no output")
    absent = [name for name in names if any(name not in answer for answer in seen)]
    if absent:
        raise PackageError(f"the model did not always return {absent}; it returned {[sorted(answer) for answer in seen]}")
    return tuple(
        _output(name, [np.asarray(answer[name]) for answer in seen], None if declared is None else declared[name], batched)
        for name in names
    )


def _output(name: str, arrays: list[np.ndarray[Any, Any]], declared: TensorSpec | None, batched: bool) -> TensorSpec:
    shapes = {array.shape for array in arrays}
    if len({len(shape) for shape in shapes}) != 1:
        raise PackageError(f"output {name!r} has different numbers of dimensions from call to call: {sorted(shapes)}")
    shape = tuple(sizes[0] if len(set(sizes)) == 1 else -1 for sizes in zip(*shapes, strict=True))
    if declared is not None and len(declared.shape) == len(shape):
        shape = tuple(-1 if said < 0 else size for said, size in zip(declared.shape, shape, strict=True))
    if batched:
        shape = (-1, *shape[1:])
    try:
        dtype = dtype_of(arrays[0])
    except TypeError as error:
        raise PackageError(f"output {name!r}: {error}") from error
    half = declared is not None and declared.dtype == "BF16" and dtype == "FP32"
    return TensorSpec(name, "BF16" if half else dtype, shape, content="" if declared is None else declared.content)


def _not_run(described: Described, given: Arrays | None, cause: BaseException | None) -> tuple[Described, str]:
    why = said(cause)
    if given is not None:
        raise PackageError(f"the model fails on the input example: {why}") from cause
    if described.outputs is None or described.batched is None:
        raise PackageError(
            f"the model cannot be run on made-up input ({why}), and it must be run once. Give it real input: --example FILE"
        )
    return described, f"the model was not run, since it refuses made-up input ({why}); with real input it would be: --example FILE"


def _fitted(infos: Sequence[TensorSpec], example: Arrays) -> Arrays:
    """Give an example the dtypes and ranks of the signature. Raises `PackageError` where it does not fit."""
    known = {info.name for info in infos}
    for name in example:
        if name and name not in known:
            raise PackageError(
                f"the example has {name!r}, which is no input of the model: it takes {sorted(known)}{did_you_mean(name, known)}"
            )
    if "" in example and len([info for info in infos if not info.optional]) > 1:
        raise PackageError(
            f"the example is a bare list, and the model takes {len(infos)} inputs: name them, as in {{'{infos[0].name}': ...}}"
        )
    fitted: Arrays = {}
    for info in infos:
        array = named(example, info.name)
        if array is not None:
            fitted[info.name] = _as_input(info, array)
        elif not info.optional:
            raise PackageError(f"the example lacks the input {info.name!r}")
    return fitted


def _as_input(info: TensorSpec, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    rank = len(info.shape)
    array = documents(array) if info.content == "json" else array
    if array.ndim == rank + 1 and array.shape[0] == 1:  # one row, and the model has no batch axis
        array = array[0]
    elif array.ndim == rank - 1:  # one row without its batch axis
        array = array[None]
    if array.ndim != rank or any(said not in (-1, size) for said, size in zip(info.shape, array.shape, strict=True)):
        raise PackageError(f"input {info.name!r} of the example has shape {list(array.shape)}, the model takes {list(info.shape)}")
    if (array.dtype == object) != (info.dtype == "BYTES") or not is_tensor(array):
        raise PackageError(f"input {info.name!r} of the example is {kind_of(array)}, the model takes {info.dtype}")
    cast = array.astype(_numpy_of(info))
    if cast.dtype.kind in "iu" and array.dtype.kind == "f" and not np.array_equal(cast, array):
        raise PackageError(f"input {info.name!r} of the example holds fractions, the model takes {info.dtype}")
    return cast
