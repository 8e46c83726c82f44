"""A Python class as a model: loaded from its file, and called per row, per batch, or for an answer in parts."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import sys
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headgate.errors import ModelFailed, UnsupportedModel, did_you_mean
from headgate.runtimes.base import Arrays, Described, RowsFailed, Runtime, TensorSpec
from headgate.runtimes.python.hints import Field, arguments_of, from_example, result_of
from headgate.runtimes.python.values import as_rows, joined, taken_apart, to_arrays, whole
from headgate.serving.bootstrap import CodeLoader

_ALONE = {"sequence_id": 0, "sequence_start": True, "sequence_end": True}
"""What a model that keeps state is told by a dry run: a sequence of one request, under an id that no client has."""


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
        where = f"{path.name}:{kind.__name__}"
        self._takes = arguments_of(kind.predict, where)
        self._gives, self._streams = result_of(kind.predict, where)
        if self._streams and self._batched:
            raise UnsupportedModel(
                f"{where} gives its answer in parts, which is done for one request at a time: leave batched = True out"
            )
        self._parameters = "parameters" in inspect.signature(kind.predict).parameters
        self._stateful = bool(getattr(kind, "stateful", False))
        if self._stateful:
            _check_stateful(where, parameters=self._parameters, streams=self._streams, pure=self.pure)
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
        batch = () if self._batched is False or self._streams else (-1,)
        inputs = []
        for field in self._takes.fields:
            dtype, shape = (field.dtype, field.shape) if field.dtype is not None else from_example(field, example, len(batch))
            inputs.append(TensorSpec(field.name, dtype, self._shape(batch, shape), field.optional))
        outputs = None
        if self._gives is not None and all(field.dtype is not None for field in self._gives.fields):
            outputs = tuple(
                TensorSpec(field.name, str(field.dtype), self._shape(batch, field.shape)) for field in self._gives.fields
            )
        return Described(tuple(inputs), outputs, bool(batch), self._parameters, self._streams, self._stateful)

    def predict(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Call the model: per row, per batch, or once. Raises what the model raises, and `ModelFailed` for results unlike their hints."""
        extra = self._extra(parameters)
        fields = self._given(inputs)
        if self._batched is None:
            columns = [as_rows(field, inputs[field.name]) for field in fields]
            names = [field.name for field in fields]
            calls = [self._bound(dict(zip(names, row, strict=True)), extra) for row in zip(*columns, strict=True)]
            return self._joined(self._run(calls))
        if self._batched:
            values: dict[str, Any] = {field.name: whole(field, inputs[field.name]) for field in fields}
        else:
            values = {field.name: as_rows(field, inputs[field.name][None])[0] for field in fields}
        (result,) = self._run([self._bound(values, extra)])
        if isinstance(result, BaseException):
            raise result
        return to_arrays(self._gives, result)

    def stream(self, inputs: Arrays, parameters: Mapping[str, object]) -> Generator[Arrays, None, None]:
        """Call the model once and yield what it yields; closing this closes the model's generator. Raises as `predict` does."""
        values = {field.name: self._one(field, inputs[field.name]) for field in self._given(inputs)}
        parts = self._model.predict(**self._bound(values, self._extra(parameters)))
        if inspect.isawaitable(parts):
            parts = self._wait(parts)
        steps = self._awaited(parts) if hasattr(parts, "__anext__") or hasattr(parts, "__aiter__") else _steps(parts)
        try:
            for part in steps:
                arrays = to_arrays(self._gives, part, "yielded")
                yield {name: np.atleast_1d(array) for name, array in arrays.items()}
        finally:
            steps.close()

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

    def _awaited(self, parts: Any) -> Generator[Any, None, None]:
        """Yield what an asynchronous iterator yields; nothing of it runs while a part is on its way."""
        iterator: AsyncIterator[Any] = aiter(parts)
        try:
            while True:
                try:
                    part = self._wait(anext(iterator))
                except StopAsyncIteration:
                    return
                yield part
        finally:
            if hasattr(iterator, "aclose"):
                self._wait(iterator.aclose())

    def _shape(self, batch: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return a shape of the signature. In a model that answers in parts, one value is a list of one, as its clients send it."""
        return (*batch, *shape) or ((1,) if self._streams else ())

    def _one(self, field: Field, array: np.ndarray[Any, Any]) -> Any:
        """Return what predict gets for the only row there is."""
        return as_rows(field, array if not field.shape and array.shape == (1,) else array[None])[0]

    def _given(self, inputs: Arrays) -> list[Field]:
        return [field for field in self._takes.fields if field.name in inputs]

    def _extra(self, parameters: Mapping[str, object]) -> dict[str, Any]:
        if not self._parameters:
            return {}
        return {"parameters": {**_ALONE, **parameters} if self._stateful else dict(parameters)}

    def _bound(self, values: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        if self._takes.struct is None:
            return {**values, **extra}
        return {self._takes.argument: self._takes.struct(**values), **extra}

    def _run(self, calls: list[dict[str, Any]]) -> list[Any]:
        """Return what each call gave, or the exception it raised."""
        if self._async:
            results: list[Any] = self._wait(_gathered(self._model.predict, calls))
            return results
        return [_called(self._model.predict, call) for call in calls]

    def _joined(self, results: list[Any]) -> Arrays:
        """Return the results of calls for one row each. Raises `RowsFailed` for those that raised, or are not what was promised."""
        rows: list[dict[str, Any]] = []
        errors: dict[int, BaseException] = {}
        for number, result in enumerate(results):
            if isinstance(result, BaseException):
                errors[number] = result
                continue
            try:
                rows.append(taken_apart(self._gives, result))
            except ModelFailed as error:
                errors[number] = error
        if not errors:
            return joined(rows, self._gives)
        if len(results) == 1:
            raise errors[0]
        filled = iter(rows)
        whole = [rows[0] if number in errors else next(filled) for number in range(len(results))] if rows else []
        raise RowsFailed(joined(whole, self._gives), errors)


def _check_stateful(where: str, *, parameters: bool, streams: bool, pure: bool) -> None:
    """Refuse what a model that keeps state cannot be. Raises `UnsupportedModel`."""
    if not parameters:
        raise UnsupportedModel(
            f"{where} says stateful = True, so its predict must take an argument 'parameters': it holds sequence_id, sequence_start and "
            "sequence_end"
        )
    if streams:
        raise UnsupportedModel(f"{where} says stateful = True and gives its answer in parts; it can do one of these")
    if pure:
        raise UnsupportedModel(
            f"{where} says stateful = True and idempotent = True: a request that has changed the state must not be run again; leave one out"
        )


def _called(predict: Callable[..., Any], call: dict[str, Any]) -> Any:
    try:
        return predict(**call)
    except Exception as error:
        return error


async def _gathered(predict: Callable[..., Any], calls: list[dict[str, Any]]) -> list[Any]:
    # All are waited for, even if one fails: none may run on into the next batch.
    return await asyncio.gather(*(predict(**call) for call in calls), return_exceptions=True)


def _steps(parts: Any) -> Generator[Any, None, None]:
    """Yield what any iterable yields, and close it at the end if it can be closed."""
    try:
        iterator: Iterator[Any] = iter(parts)
    except TypeError:
        raise ModelFailed(f"predict returned a {type(parts).__name__}, not what its hint promises: an iterator of parts") from None
    try:
        yield from iterator
    finally:
        if hasattr(iterator, "close"):
            iterator.close()


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
