"""Type hints to tensors: what the arguments and the result of predict consist of, and whether it answers in parts."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, NamedTuple

import numpy as np

from headgate.errors import UnsupportedModel, did_you_mean
from headgate.runtimes.base import Arrays, NeedsExample, named
from headgate.tensors import DTYPES, dtype_of

_SCALARS = {int: "INT64", float: "FP64", bool: "BOOL", str: "BYTES", bytes: "BYTES"}
_LISTS = (list, Sequence, typing.Sequence, tuple)
_ITERATORS = (Iterator, Generator, AsyncIterator, AsyncGenerator)
_ITERABLES = (*_ITERATORS, Iterable, AsyncIterable)
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


class Record(NamedTuple):
    """What the arguments or the result of predict consist of."""

    fields: tuple[Field, ...]
    struct: type | None = None
    """The dataclass, NamedTuple or TypedDict they come in."""
    argument: str = ""
    """The argument that takes the struct."""
    positional: bool = False
    """A tuple: by position, not by name."""


def _hints(thing: Any, where: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(thing, include_extras=True)
    except Exception as error:
        raise UnsupportedModel(f"the type hints of {where} cannot be read: {error}. Import at run time what they name") from error


def arguments_of(predict: Any, where: str) -> Record:
    """Return what predict takes. Raises `UnsupportedModel` where a hint is no tensor."""
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
        return Record(_struct_fields(struct, where), struct, arguments[0].name)
    return Record(tuple(_parsed(a.name, hints.get(a.name), a.default is not a.empty, where) for a in arguments))


def result_of(predict: Any, where: str) -> tuple[Record | None, bool]:
    """Return what the return hint promises (None if it does not say), and whether that is one part of an answer in parts."""
    hint = _hints(predict, "predict").get("return")
    bare = _bare(hint)
    origin = typing.get_origin(bare) or bare
    generates = inspect.isgeneratorfunction(predict) or inspect.isasyncgenfunction(predict)
    if origin in _ITERATORS or (generates and origin in _ITERABLES):
        return _record(next(iter(typing.get_args(bare)), None)), True
    if generates and bare not in (None, Any):
        shown = getattr(bare, "__name__", str(bare))
        raise UnsupportedModel(
            f"{where}.predict yields, and is hinted to return {shown}: hint what it yields, as in Iterator[{shown}], or return it"
        )
    return _record(hint), generates


def _record(hint: Any) -> Record | None:
    bare = _bare(hint)
    if bare in (None, Any, dict, Mapping) or typing.get_origin(bare) in (dict, Mapping):
        return None
    if _is_struct(bare):
        return Record(_struct_fields(bare, "the result"), bare, positional=issubclass(bare, tuple))
    parts = typing.get_args(bare)
    if typing.get_origin(bare) is tuple and Ellipsis not in parts:
        fields = tuple(_parsed(f"output_{index}", part, False, "the result") for index, part in enumerate(parts))
        return Record(fields, positional=True)
    return Record((_parsed("output", hint, False, "the result"),))


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


def from_example(field: Field, example: Arrays | None, batch: int) -> tuple[str, tuple[int, ...]]:
    """Return dtype and shape (without ``batch`` axes) of an argument whose hint does not say. Raises `NeedsExample`."""
    array = named(example, field.name)
    if array is None:
        fix = f'{field.name}: Annotated[np.ndarray, "FP32[30]"]' if field.array else f"{field.name}: float"
        raise NeedsExample(f"argument {field.name!r} of predict has no type hint that says what it takes; write one, such as {fix}")
    return dtype_of(array), array.shape[batch:]
