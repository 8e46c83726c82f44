"""Trusses: the class of Baseten's model server, with ``load``, ``preprocess``, ``predict`` and ``postprocess``.

What it is called with is read from ``truss.json``, which packaging writes from config.yaml. One request is one JSON value, and so is its
answer: each travels as one element of a BYTES tensor. In a request that was binary (parameter ``binary``), arrays, dates and the like are
objects that say so, ``{"__ndarray__": {"dtype", "shape", "base64"}}`` and ``{"__dt_datetime_iso__": true, "data": ...}``, both ways; in one
that was JSON, what the model returns is written as Truss's own server writes it.

Source: truss 0.18 (templates/server/model_wrapper.py, templates/shared/serialization.py and secrets_resolver.py).
"""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import inspect
import json
import os
import sys
import types
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headgate.errors import ModelFailed, UnsupportedModel, did_you_mean
from headgate.runtimes.base import Arrays, Described, InvalidInput, RowsFailed, Runtime, TensorSpec
from headgate.serving.bootstrap import CodeLoader

INPUT, OUTPUT = "model_input", "model_output"
_ENTRY = "truss.json"
_SECRETS = Path("/secrets")
_STEPS = ("preprocess", "predict", "postprocess")
_NOT_OFFERED = {
    "chat_completions": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "messages": "/v1/messages",
    "responses": "/v1/responses",
}
_BINARY = "binary"


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
        told = _read(path)
        os.environ.update(told["environment"])
        packages = path.parent / told["packages"]
        if packages.is_dir() and str(packages) not in sys.path:
            sys.path.append(str(packages))
        kind = _class_in(path.parent, told)
        config = told["config"]
        secrets, data = Secrets(told["secrets"]), path.parent / told["data"]
        given = {"config": config, "data_dir": data, "secrets": secrets, "lazy_data_resolver": Resolver(data), "environment": None}
        self._model = kind(**_accepted(kind, given))
        self._steps = _steps(self._model)
        self._parse = _parser(self._steps[0].method)
        self.pure = False
        # One loop for the life of the model, so that what it opened in one request still works in the next.
        self._loop = asyncio.new_event_loop()
        self._turns = asyncio.Semaphore(told["concurrency"])
        self._threads = ThreadPoolExecutor(told["concurrency"], "predict") if told["concurrency"] > 1 else None
        if hasattr(self._model, "load"):
            self._model.load()

    def describe(self, example: Arrays | None) -> Described:
        """One JSON value in and one out; requests are independent."""
        takes = TensorSpec(INPUT, "BYTES", (-1,), content="json")
        gives = TensorSpec(OUTPUT, "BYTES", (-1,), content="json")
        return Described((takes,), (gives,), True, parameters=True)

    def predict(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Call the model for each value. Those that failed are in `RowsFailed`: by `InvalidInput` where a pydantic model, or an
        HTTPException below 500, blames the value.
        """
        binary = _is_binary(parameters)
        documents = [_revived(json.loads(text)) if binary else json.loads(text) for text in inputs[INPUT].ravel().tolist()]
        results = self._loop.run_until_complete(self._all(documents))
        errors = {number: result for number, result in enumerate(results) if isinstance(result, BaseException)}
        answers = np.empty(len(results), dtype=object)
        answers[:] = [b"" if number in errors else _written(result, binary) for number, result in enumerate(results)]
        outputs = {OUTPUT: answers.reshape(inputs[INPUT].shape)}
        if errors and len(results) == 1:
            raise errors[0]
        if errors:
            raise RowsFailed(outputs, errors)
        return outputs

    def unload(self) -> None:
        """End the threads and the loop."""
        if self._threads is not None:
            self._threads.shutdown()
        self._loop.close()

    async def _all(self, values: list[Any]) -> list[Any]:
        # All are waited for, even if one fails: none may run on into the next batch.
        return await asyncio.gather(*(self._one(value) for value in values), return_exceptions=True)

    async def _one(self, value: Any) -> Any:
        try:
            value = self._parse(value)
            for step in self._steps:
                async with self._turns if step.bounded else nullcontext():
                    value = await self._call(step, value)
            return value
        except Exception as error:
            status = getattr(error, "status_code", None)
            if isinstance(status, int) and 400 <= status < 500:
                raise InvalidInput(str(getattr(error, "detail", error))) from error
            raise

    async def _call(self, step: Step, value: Any) -> Any:
        given = (value,) if step.takes_value else ()
        if step.waits or self._threads is None:
            result = step.method(*given)
            result = await result if inspect.isawaitable(result) else result
        else:
            result = await self._loop.run_in_executor(self._threads, step.method, *given)
        if inspect.isgenerator(result) or inspect.isasyncgen(result):
            raise ModelFailed("the model returned a generator: streaming answers are not offered yet")
        return result


class Step(NamedTuple):
    """One method that a request goes through."""

    method: Callable[..., Any]
    takes_value: bool
    waits: bool
    """It is a coroutine function: it needs no thread to let others run."""
    bounded: bool
    """At most ``predict_concurrency`` requests are in it at a time."""


class Secrets(Mapping[str, str]):
    """Secrets by name, for the model: from the file ``/secrets/NAME``, the variable ``TRUSS_SECRET_NAME``, or config.yaml."""

    def __init__(self, declared: Mapping[str, str | None]) -> None:
        self._declared = declared

    def __getitem__(self, key: str) -> str:
        if key not in self._declared:
            raise LookupError(f"secret {key!r} is not in the secrets of config.yaml{did_you_mean(key, self._declared)}")
        file = _SECRETS / key
        value = file.read_text() if file.is_file() else os.environ.get(f"TRUSS_SECRET_{key}", self._declared[key])
        if not value:
            raise LookupError(f"secret {key!r} is not set: set TRUSS_SECRET_{key} where 'headgate serve' is started")
        return value

    def __iter__(self) -> Iterator[str]:
        raise NotImplementedError("secrets are asked for by name, and cannot be listed")

    def __len__(self) -> int:
        return len(self._declared)


class Resolver:
    """Stands for what a Truss downloads while it starts: nothing is, so there is nothing to wait for."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def block_until_download_complete(self, *_: object, **__: object) -> None:
        """Return at once: the data are in the package."""

    def raise_if_not_collected(self) -> None:
        """Return at once."""


# ---- the class


def _read(path: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(path.read_bytes())
        return {
            key: told[key] for key in ("config", "module", "class", "packages", "data", "environment", "secrets", "concurrency")
        }
    except (ValueError, TypeError, KeyError) as error:
        raise UnsupportedModel(f"{path.name}: damaged, or of another version ({error!r}); push the Truss again") from error


def _class_in(folder: Path, told: Mapping[str, Any]) -> Any:
    path = folder / told["module"]
    # A class in model/model.py must not hide the package that model/ is: the model imports its other files from that.
    name = f"{path.parent.name}.{path.stem}" if path.parent.name == path.stem else path.stem
    spec = importlib.util.spec_from_file_location(name, path, loader=CodeLoader(name, str(path)))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__package__ = None
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, ImportError) and "relative import" in str(error):
            raise UnsupportedModel(
                f"{told['module']}: relative imports in the model's own file are not supported by Truss either: from "
                f"{path.parent.name}.other import ..."
            ) from error
        raise
    kind = getattr(module, told["class"], None)
    if not isinstance(kind, type):
        there = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise UnsupportedModel(f"{told['module']}: there is no class {told['class']!r} in it{did_you_mean(told['class'], there)}")
    return kind


def _accepted(kind: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the constructor of ``kind`` takes of ``given``."""
    parameters = inspect.signature(kind).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return dict(given)
    return {key: value for key, value in given.items() if key in parameters}


def _steps(model: Any) -> tuple[Step, ...]:
    """Return the methods a request goes through. Raises `UnsupportedModel` for those that cannot be called here."""
    name = type(model).__name__
    if hasattr(model, "websocket"):
        raise UnsupportedModel(f"{name}.websocket: websockets are not offered; write predict")
    if not hasattr(model, "predict"):
        others = [path for method, path in _NOT_OFFERED.items() if hasattr(model, method)]
        raise UnsupportedModel(f"{name} has no predict(self, model_input){f', and {others[0]} is not offered' if others else ''}")
    methods = [getattr(model, step) for step in _STEPS if hasattr(model, step)]
    for step in methods:
        if inspect.isgeneratorfunction(step) or inspect.isasyncgenfunction(step):
            raise UnsupportedModel(f"{name}.{step.__name__}: a generator: streaming answers are not offered yet")
        parameters = list(inspect.signature(step).parameters.values())
        if len(parameters) > 1 or any(_is_request(parameter.annotation) for parameter in parameters):
            raise UnsupportedModel(
                f"{name}.{step.__name__}: takes the HTTP request, which stays at the gateway; take the model's input alone"
            )
    return tuple(
        Step(step, bool(inspect.signature(step).parameters), inspect.iscoroutinefunction(step), step.__name__ == "predict")
        for step in methods
    )


def _is_request(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.rpartition(".")[2] == "Request"
    return isinstance(annotation, type) and any(kind.__module__ == "starlette.requests" for kind in annotation.__mro__)


def _parser(step: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return what makes the first step's argument of a value: pydantic, where it is hinted as one of its models."""
    parameters = list(inspect.signature(step).parameters.values())
    hint = parameters[0].annotation if parameters else None
    if isinstance(hint, str):
        hint = getattr(sys.modules.get(getattr(step, "__module__", "")), hint, None)
    validate = getattr(hint, "model_validate", None) or getattr(hint, "parse_obj", None)
    if not isinstance(hint, type) or validate is None:
        return lambda value: value
    failed = getattr(sys.modules.get("pydantic"), "ValidationError", ())

    def parse(value: Any) -> Any:
        try:
            return validate(value)
        except failed as error:
            raise InvalidInput(_blamed(error)) from error

    return parse


def _blamed(error: Any) -> str:
    parts = [f"{'.'.join(map(str, entry['loc'])) or 'input'}: {entry['msg']}" for entry in error.errors()]
    return f"Input Parsing Error: {'; '.join(parts)}"


# ---- values


def _is_binary(parameters: Mapping[str, object]) -> bool:
    for name in parameters:
        if name != _BINARY:
            raise InvalidInput(f"a Truss has no parameter {name!r}; what it takes is in its input")
    return bool(parameters.get(_BINARY))


_TAGS: Mapping[str, Callable[[Any], Any]] = types.MappingProxyType(
    {
        "__dt_datetime_iso__": datetime.fromisoformat,
        "__dt_date_iso__": date.fromisoformat,
        "__dt_time_iso__": time.fromisoformat,
        "__dt_timedelta__": lambda parts: timedelta(*parts),
        "__decimal__": Decimal,
        "__uuid__": uuid.UUID,
    }
)


def _revived(value: Any) -> Any:
    """Return a value of a binary request as the model gets it: arrays, bytes and dates for the objects that stand for them."""
    if isinstance(value, list):
        return [_revived(part) for part in value]
    if not isinstance(value, dict):
        return value
    try:
        if value.keys() == {"__bytes__"}:
            return base64.b64decode(value["__bytes__"])
        if value.keys() == {"__ndarray__"}:
            array = value["__ndarray__"]
            return np.frombuffer(base64.b64decode(array["base64"]), dtype=array["dtype"]).reshape(array["shape"]).copy()[()]
        for tag, revive in _TAGS.items():
            if value.keys() == {tag, "data"}:
                return revive(_revived(value["data"]))
    except (ValueError, TypeError, KeyError, ArithmeticError) as error:
        raise InvalidInput(f"{next(iter(value))}: no such value: {error}") from error
    return {key: _revived(part) for key, part in value.items()}


def _written(value: Any, binary: bool) -> bytes:
    """Return what the model returned as JSON. Raises `ModelFailed` for what makes none."""
    if hasattr(value, "model_dump_json"):
        value = value.model_dump() if binary else json.loads(value.model_dump_json())
    try:
        return json.dumps(value, default=_tagged if binary else _plain).encode()
    except (TypeError, ValueError) as error:
        raise ModelFailed(f"predict returned what makes no JSON: {error}") from error


def _plain(value: Any) -> Any:
    """Return what JSON has for a value of NumPy's, as Truss's server does."""
    if isinstance(value, (np.integer, np.floating, np.ndarray)):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is no JSON; return numbers, text, lists and objects, or arrays")


def _tagged(value: Any) -> Any:
    """Return the object that stands for a value in the answer to a binary request."""
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
        return {"__ndarray__": {"dtype": array.dtype.str, "shape": list(array.shape), "base64": data}}
    if isinstance(value, bytes):
        return {"__bytes__": base64.b64encode(value).decode()}
    if isinstance(value, timedelta):
        return {"__dt_timedelta__": True, "data": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, datetime):
        return {"__dt_datetime_iso__": True, "data": value.isoformat().replace("+00:00", "Z")}
    names: dict[type, str] = {date: "__dt_date_iso__", time: "__dt_time_iso__", Decimal: "__decimal__", uuid.UUID: "__uuid__"}
    if type(value) in names:
        return {names[type(value)]: True, "data": value.isoformat() if isinstance(value, (date, time)) else str(value)}
    return _plain(value)
