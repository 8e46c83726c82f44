"""Runs a Truss: requests of a batch side by side, or one request in parts."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from headgate.errors import ModelFailed
from headgate.runtimes.base import Arrays, Described, InvalidInput, RowsFailed, Runtime, TensorSpec
from headgate.runtimes.truss.model import Resolver, Secrets, Step, accepted, class_in, parser_of, read_entry, steps_of, yields
from headgate.runtimes.truss.values import is_binary, part_of, revived, written

INPUT, OUTPUT = "model_input", "model_output"
_ENTRY = "truss.json"
_END = object()


class TrussRuntime(Runtime):
    """A class with ``predict``, as Baseten's Truss serves it. One JSON value in, ``model_input``, and one out, ``model_output``.

    Requests of a batch run at the same time, as many as ``runtime.predict_concurrency`` says. Files: those of a Truss folder.
    """

    title = "Truss"
    platform = "truss"

    @classmethod
    def claims(cls, path: Path) -> bool:
        """Whether ``path`` is the ``truss.json`` of a package."""
        return path.is_file() and path.name == _ENTRY

    def load(self, path: Path, *, attribute: str, device: str, threads: int) -> None:
        """Import the class, construct it and call its ``load``. Raises `UnsupportedModel` for what is not offered here."""
        told = read_entry(path)
        os.environ.update(told["environment"])
        packages = path.parent / told["packages"]
        if packages.is_dir() and str(packages) not in sys.path:
            sys.path.append(str(packages))
        kind = class_in(path.parent, told)
        config = told["config"]
        secrets, data = Secrets(told["secrets"]), path.parent / told["data"]
        given = {"config": config, "data_dir": data, "secrets": secrets, "lazy_data_resolver": Resolver(data), "environment": None}
        self._model = kind(**accepted(kind, given))
        self._steps = steps_of(self._model)
        self._parse = parser_of(self._steps[0].method)
        self._streams = yields(self._model.predict)
        self.pure = False
        # One loop for the life of the model, so that what it opened in one request still works in the next.
        self._loop = asyncio.new_event_loop()
        self._turns = asyncio.Semaphore(told["concurrency"])
        self._threads = ThreadPoolExecutor(told["concurrency"], "predict") if told["concurrency"] > 1 else None
        if hasattr(self._model, "load"):
            self._model.load()

    def describe(self, example: Arrays | None) -> Described:
        """One JSON value in and one out, and requests are independent; or one in, and text or bytes out in parts."""
        if self._streams:
            document, part = TensorSpec(INPUT, "BYTES", (1,), content="json"), TensorSpec(OUTPUT, "BYTES", (1,))
            return Described((document,), (part,), False, parameters=True, streams=True)
        takes = TensorSpec(INPUT, "BYTES", (-1,), content="json")
        gives = TensorSpec(OUTPUT, "BYTES", (-1,), content="json")
        return Described((takes,), (gives,), True, parameters=True)

    def predict(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Call the model for each value. Those that failed are in `RowsFailed`: by `InvalidInput` where a pydantic model, or an
        HTTPException below 500, blames the value.
        """
        binary = is_binary(parameters)
        documents = _values(inputs, binary=binary)
        results = self._loop.run_until_complete(self._all(documents))
        errors = {number: result for number, result in enumerate(results) if isinstance(result, BaseException)}
        answers = np.empty(len(results), dtype=object)
        answers[:] = [b"" if number in errors else written(result, binary) for number, result in enumerate(results)]
        outputs = {OUTPUT: answers.reshape(inputs[INPUT].shape)}
        if errors and len(results) == 1:
            raise errors[0]
        if errors:
            raise RowsFailed(outputs, errors)
        return outputs

    def stream(self, inputs: Arrays, parameters: Mapping[str, object]) -> Generator[Arrays, None, None]:
        """Call the model once and yield what it yields; closing this closes the model's generator. Raises as `predict` does."""
        (value,) = _values(inputs, binary=is_binary(parameters))
        parts: Any = self._loop.run_until_complete(self._one(value))
        try:
            while True:
                with _blaming():
                    part = self._loop.run_until_complete(anext(parts, _END)) if hasattr(parts, "__anext__") else next(parts, _END)
                if part is _END:
                    return
                yield {OUTPUT: np.array([part_of(part)], dtype=object)}
        finally:
            if hasattr(parts, "aclose"):
                self._loop.run_until_complete(parts.aclose())
            elif hasattr(parts, "close"):
                parts.close()

    def unload(self) -> None:
        """End the threads and the loop."""
        if self._threads is not None:
            self._threads.shutdown()
        self._loop.close()

    async def _all(self, values: list[Any]) -> list[Any]:
        # All are waited for, even if one fails: none may run on into the next batch.
        return await asyncio.gather(*(self._one(value) for value in values), return_exceptions=True)

    async def _one(self, value: Any) -> Any:
        with _blaming():
            value = self._parse(value)
            for step in self._steps:
                async with self._turns if step.bounded else nullcontext():
                    value = await self._call(step, value)
            return value

    async def _call(self, step: Step, value: Any) -> Any:
        given = (value,) if step.takes_value else ()
        if step.waits or self._threads is None:
            result = step.method(*given)
            result = await result if inspect.isawaitable(result) else result
        else:
            result = await self._loop.run_in_executor(self._threads, step.method, *given)
        if self._streams and step.bounded:
            if not hasattr(result, "__next__") and not hasattr(result, "__anext__"):
                raise ModelFailed(f"predict returned a {type(result).__name__}, not what its hint promises: an iterator of parts")
        elif inspect.isgenerator(result) or inspect.isasyncgen(result):
            name = step.method.__name__
            raise ModelFailed(f"{name} returned a generator, and nothing says that it does: hint predict with -> Iterator[str]")
        return result


def _values(inputs: Arrays, *, binary: bool) -> list[Any]:
    texts = inputs[INPUT].ravel().tolist()
    return [revived(json.loads(text)) if binary else json.loads(text) for text in texts]


@contextmanager
def _blaming() -> Iterator[None]:
    """An HTTPException below 500 blames the input."""
    try:
        yield
    except Exception as error:
        status = getattr(error, "status_code", None)
        if isinstance(status, int) and 400 <= status < 500:
            raise InvalidInput(str(getattr(error, "detail", error))) from error
        raise
