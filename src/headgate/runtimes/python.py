"""Plain Python: a class in ``file.py:Class`` whose type hints are the signature.

    class Ranker:
        idempotent = True                      # a batch may be run again after a crash
        def load(self): ...                    # optional; may ask for device and threads
        def predict(self, text: str, top: int = 3) -> list[float]: ...

Hints describe one row: ``int`` INT64, ``float`` FP64, ``bool`` BOOL, ``str`` and ``bytes`` BYTES; ``list[float]`` FP64 [-1]; and
``Annotated[np.ndarray, "FP32[30]"]`` whatever it says. A single dataclass or TypedDict argument stands for its fields. So does the
result; a tuple gives ``output_0``, ``output_1``; one value gives ``output``. An argument ``parameters`` gets the request's parameters.

The class attribute ``batched`` says how predict is called: without it, once per row (the rows of a batch at the same time if it is
async); True: once per batch, each argument an array with a leading batch axis; False: the model has no batch axis at all. The arrays
that predict gets are its own: it may keep and change them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.util
import inspect
import re
import sys
import types
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headgate.errors import ModelFailed, UnsupportedModel, did_you_mean
from headgate.runtimes.base import Arrays, Described, NeedsExample, Runtime, TensorSpec, decoded, named
from headgate.serving.bootstrap import CodeLoader
from headgate.tensors import DTYPES, dtype_of

_SCALARS = {int: "INT64", float: "FP64", bool: "BOOL", str: "BYTES", bytes: "BYTES"}
_LISTS = (list, Sequence, typing.Sequence, tuple)
_ANNOTATION = re.compile(r"\s*([A-Z0-9]+)\s*(?:\[\s*([-\d\s,]*)\]\s*)?")


class Field(NamedTuple):
    """One argument, or one part of the result, of one row."""

    name: str
    dtype: str | None
    """Open Inference Protocol name; None: the hint does not say."""
    shape: tuple[int, ...] = ()
    """Without the batch axis."""
    array: bool = False
    """Passed as a NumPy array, not as Python values."""
    raw: bool = False
    """BYTES are passed as `bytes`, not decoded to `str`."""
    optional: bool = False


class Parts(NamedTuple):
    """What the arguments or the result of predict consist of."""

    fields: tuple[Field, ...]
    struct: type | None = None
    """The dataclass, NamedTuple or TypedDict they come in."""
    argument: str = ""
    """The argument that takes the struct."""
    positional: bool = False
    """A tuple: by position, not by name."""


class PythonRuntime(Runtime):
    """A class with ``predict`` and perhaps ``load``."""

    title = "Python"
    platform = "python"
    suffixes = frozenset({".py"})

    def load(self, path: Path, *, attribute: str, device: str, threads: int) -> None:
        """Import the file, construct the class, and call its ``load``. Raises `UnsupportedModel` if its hints cannot be a signature."""
        kind = _class_in(_module(path), attribute, path.name)
        self.pure = bool(getattr(kind, "idempotent", False))
        self._batched: bool | None = getattr(kind, "batched", None)
        self._takes = _arguments(kind.predict, f"{path.name}:{kind.__name__}")
        self._gives = _result(kind.predict)
        self._parameters = "parameters" in inspect.signature(kind.predict).parameters
        self._loop: asyncio.AbstractEventLoop | None = None
        self._model = kind()
        self._async = inspect.iscoroutinefunction(self._model.predict)
        loading = getattr(self._model, "load", None)
        if loading is not None:
            wanted = inspect.signature(loading).parameters
            given = {key: value for key, value in (("device", device), ("threads", threads)) if key in wanted}
            result = loading(**given)
            if inspect.isawaitable(result):
                self._wait(result)

    def describe(self, example: Arrays | None) -> Described:
        """Turn the hints into a signature. Raises `NeedsExample` for arguments whose hints do not say, unless ``example`` does."""
        batch = () if self._batched is False else (-1,)
        inputs = []
        for field in self._takes.fields:
            dtype, shape = (field.dtype, field.shape) if field.dtype is not None else _from_example(field, example, len(batch))
            inputs.append(TensorSpec(field.name, dtype, (*batch, *shape), field.optional))
        outputs = None
        if self._gives is not None and all(field.dtype is not None for field in self._gives.fields):
            outputs = tuple(TensorSpec(field.name, str(field.dtype), (*batch, *field.shape)) for field in self._gives.fields)
        return Described(tuple(inputs), outputs, self._batched is not False, self._parameters)

    def predict(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Call the model: per row, per batch, or once. Raises what the model raises, and `ModelFailed` for results unlike their hints."""
        extra = {"parameters": dict(parameters)} if self._parameters else {}
        fields = [field for field in self._takes.fields if field.name in inputs]
        if self._batched is None:
            columns = [_values(field, inputs[field.name]) for field in fields]
            names = [field.name for field in fields]
            calls = [self._bound(dict(zip(names, row, strict=True)), extra) for row in zip(*columns, strict=True)]
            return _joined([_taken(self._gives, result) for result in self._run(calls)], self._gives)
        as_arrays = {field.name: _batch(field, inputs[field.name]) for field in fields}
        if self._batched is False:
            as_arrays = {field.name: _values(field, inputs[field.name][None])[0] for field in fields}
        (result,) = self._run([self._bound(as_arrays, extra)])
        return {name: _array(name, value, _field(self._gives, name)) for name, value in _taken(self._gives, result).items()}

    def unload(self) -> None:
        """Call the model's own ``unload``, if it has one."""
        if hasattr(self._model, "unload"):
            self._model.unload()
        if self._loop is not None:
            self._loop.close()

    def _wait(self, awaitable: Awaitable[Any]) -> Any:
        """Run on the one loop of this model, so that what its load opened there still works in predict."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(awaitable)

    def _bound(self, values: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        if self._takes.struct is None:
            return {**values, **extra}
        return {self._takes.argument: self._takes.struct(**values), **extra}

    def _run(self, calls: list[dict[str, Any]]) -> list[Any]:
        if not self._async:
            return [self._model.predict(**call) for call in calls]
        results: list[Any] = self._wait(_gathered(self._model.predict, calls))
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results


async def _gathered(predict: Callable[..., Any], calls: list[dict[str, Any]]) -> list[Any]:
    # All are waited for, even if one fails: none may run on into the next batch.
    return await asyncio.gather(*(predict(**call) for call in calls), return_exceptions=True)


def _module(path: Path) -> types.ModuleType:
    taken = path.stem in sys.stdlib_module_names or path.stem in sys.modules
    name = f"headgate_model_{path.stem}" if taken else path.stem
    spec = importlib.util.spec_from_file_location(name, path, loader=CodeLoader(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _class_in(module: types.ModuleType, attribute: str, file: str) -> Any:
    own = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__ and callable(getattr(value, "predict", None))
    }
    if not attribute and len(own) == 1:
        return next(iter(own.values()))
    if not attribute:
        found = f"it has {', '.join(own)}" if own else "and it has none with a predict method"
        raise UnsupportedModel(f"say which class of {file} is the model, as in {file}:{next(iter(own), 'Model')}; {found}")
    kind = getattr(module, attribute, None)
    if not isinstance(kind, type):
        raise UnsupportedModel(f"{file} has no class {attribute!r}{did_you_mean(attribute, own)}")
    if not callable(getattr(kind, "predict", None)):
        raise UnsupportedModel(f"{file}:{attribute} has no method predict(self, ...)")
    return kind


def _hints(thing: Any, where: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(thing, include_extras=True)
    except Exception as error:
        raise UnsupportedModel(f"the type hints of {where} cannot be read: {error}. Import at run time what they name") from error


def _arguments(predict: Any, where: str) -> Parts:
    hints = _hints(predict, where)
    arguments = [p for p in list(inspect.signature(predict).parameters.values())[1:] if p.name != "parameters"]
    for argument in arguments:
        if argument.kind not in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY):
            raise UnsupportedModel(
                f"argument {argument.name!r} of {where}.predict must be an ordinary one, with a name and a type hint"
            )
    if not arguments:
        raise UnsupportedModel(f"{where}.predict takes no input: give it arguments with type hints")
    struct = _bare(hints.get(arguments[0].name))
    if len(arguments) == 1 and _is_struct(struct):
        return Parts(_struct_fields(struct, where), struct, arguments[0].name)
    return Parts(tuple(_parsed(a.name, hints.get(a.name), a.default is not a.empty, where) for a in arguments))


def _result(predict: Any) -> Parts | None:
    """Return what the return hint promises; None if it does not say."""
    hint = _hints(predict, "predict").get("return")
    bare = _bare(hint)
    if bare in (None, Any, dict, Mapping) or typing.get_origin(bare) in (dict, Mapping):
        return None
    if _is_struct(bare):
        return Parts(_struct_fields(bare, "the result"), bare, positional=issubclass(bare, tuple))
    parts = typing.get_args(bare)
    if typing.get_origin(bare) is tuple and Ellipsis not in parts:
        fields = tuple(_parsed(f"output_{index}", part, False, "the result") for index, part in enumerate(parts))
        return Parts(fields, positional=True)
    return Parts((_parsed("output", hint, False, "the result"),))


def _is_struct(hint: Any) -> bool:
    if not isinstance(hint, type):
        return False
    return dataclasses.is_dataclass(hint) or typing.is_typeddict(hint) or (issubclass(hint, tuple) and hasattr(hint, "_fields"))


def _struct_fields(struct: Any, where: str) -> tuple[Field, ...]:
    hints = _hints(struct, struct.__name__)
    if typing.is_typeddict(struct):
        optional = set(struct.__optional_keys__)
    elif dataclasses.is_dataclass(struct):
        missing = dataclasses.MISSING
        given = [field for field in dataclasses.fields(struct) if field.init]
        optional = {field.name for field in given if field.default is not missing or field.default_factory is not missing}
        hints = {field.name: hints[field.name] for field in given}
    else:
        optional = set(struct._field_defaults)
    return tuple(_parsed(name, hint, name in optional, where) for name, hint in hints.items())


def _bare(hint: Any) -> Any:
    """Strip Annotated, Required and ``| None``."""
    while True:
        origin, parts = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Annotated, typing.Required, typing.NotRequired):
            hint = parts[0]
        elif origin in (typing.Union, types.UnionType) and len([part for part in parts if part is not type(None)]) == 1:
            hint = next(part for part in parts if part is not type(None))
        else:
            return hint


def _parsed(name: str, hint: Any, optional: bool, where: str) -> Field:
    bare = _bare(hint)
    said = next((text for text in _metadata(hint) if isinstance(text, str)), None)
    field = _of_hint(name, bare, optional, where)
    if said is None:
        return field
    match = _ANNOTATION.fullmatch(said)
    if match is None or match[1] not in DTYPES:
        known = did_you_mean(match[1], DTYPES) if match else ""
        raise UnsupportedModel(
            f"{said!r}, said of {name!r} in {where}, is no tensor: write it as 'FP32[30]', 'INT64[-1, 2]' or 'BYTES'{known}"
        )
    return field._replace(dtype=match[1], shape=tuple(int(size) for size in (match[2] or "").split(",") if size.strip()))


def _metadata(hint: Any) -> list[Any]:
    found: list[Any] = []
    while typing.get_origin(hint) is not None:
        found += getattr(hint, "__metadata__", ())
        parts = [part for part in typing.get_args(hint) if part is not type(None)]
        if typing.get_origin(hint) not in (typing.Annotated, typing.Required, typing.NotRequired, typing.Union, types.UnionType):
            break
        hint = parts[0]
    return found


def _of_hint(name: str, hint: Any, optional: bool, where: str) -> Field:
    if hint in (None, Any):
        return Field(name, None, optional=optional)
    if isinstance(hint, type) and hint in _SCALARS:
        return Field(name, _SCALARS[hint], raw=hint is bytes, optional=optional)
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is np.ndarray or origin is np.ndarray:
        return Field(name, None, array=True, optional=optional)
    if origin in _LISTS and parts and (origin is not tuple or parts[1:] == (Ellipsis,)):
        inner = _of_hint(name, parts[0], optional, where)
        return inner._replace(shape=(-1, *inner.shape))
    shown = getattr(hint, "__name__", str(hint))
    raise UnsupportedModel(
        f"{name!r} in {where} is hinted as {shown}, which is no tensor. Use int, float, bool, str, bytes, lists of these, or "
        'Annotated[np.ndarray, "FP32[30]"]'
    )


def _from_example(field: Field, example: Arrays | None, batch: int) -> tuple[str, tuple[int, ...]]:
    array = named(example, field.name)
    if array is None:
        fix = f'{field.name}: Annotated[np.ndarray, "FP32[30]"]' if field.array else f"{field.name}: float"
        raise NeedsExample(f"argument {field.name!r} of predict has no type hint that says what it takes; write one, such as {fix}")
    return dtype_of(array), array.shape[batch:]


def _batch(field: Field, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    # A copy, since what comes in lies in memory that the next batch overwrites, and people keep what they are given.
    return array.copy() if field.raw or array.dtype != object else decoded(field.name, array)


def _values(field: Field, array: np.ndarray[Any, Any]) -> list[Any]:
    """Return what predict gets for each row."""
    as_array = field.array or (field.dtype is None and array.ndim > 1)
    if as_array and array.ndim > 1:
        return list(_batch(field, array))
    values: list[Any] = (array if field.raw else decoded(field.name, array)).tolist()
    return values


def _field(gives: Parts | None, name: str) -> Field | None:
    return None if gives is None else next((field for field in gives.fields if field.name == name), None)


def _taken(gives: Parts | None, result: Any) -> dict[str, Any]:
    """Take one result of predict apart."""
    if result is None:
        raise ModelFailed("predict returned None: is there a return missing?")
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
        raise ModelFailed(f"predict returned a {type(result).__name__}, not what its hint promises, {names}: {error}") from error
    return {"output": result}


def _joined(rows: list[dict[str, Any]], gives: Parts | None) -> Arrays:
    return {name: _array(name, [row[name] for row in rows], _field(gives, name)) for name in (rows[0] if rows else ())}


def _array(name: str, value: Any, field: Field | None) -> np.ndarray[Any, Any]:
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
