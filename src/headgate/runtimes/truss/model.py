"""The class of a Truss: how it is found, what it is constructed with, and which of its methods a request goes through."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from headgate.errors import UnsupportedModel, did_you_mean
from headgate.runtimes.base import InvalidInput
from headgate.serving.bootstrap import CodeLoader

_SECRETS = Path("/secrets")
_STEPS = ("preprocess", "predict", "postprocess")
_ITERATORS = frozenset({"Iterator", "AsyncIterator", "Generator", "AsyncGenerator"})
_NOT_OFFERED = {
    "chat_completions": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "messages": "/v1/messages",
    "responses": "/v1/responses",
}


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


def read_entry(path: Path) -> dict[str, Any]:
    """Return what ``truss.json`` says. Raises `UnsupportedModel` where it is damaged."""
    try:
        told: dict[str, Any] = json.loads(path.read_bytes())
        return {
            key: told[key] for key in ("config", "module", "class", "packages", "data", "environment", "secrets", "concurrency")
        }
    except (ValueError, TypeError, KeyError) as error:
        raise UnsupportedModel(f"{path.name}: damaged, or of another version ({error!r}); push the Truss again") from error


def class_in(folder: Path, told: Mapping[str, Any]) -> Any:
    """Return the class that ``truss.json`` names, of the Truss in ``folder``. Raises `UnsupportedModel` where it is not there."""
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


def accepted(kind: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the constructor of ``kind`` takes of ``given``."""
    parameters = inspect.signature(kind).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return dict(given)
    return {key: value for key, value in given.items() if key in parameters}


def steps_of(model: Any) -> tuple[Step, ...]:
    """Return the methods a request goes through. Raises `UnsupportedModel` for those that cannot be called here."""
    name = type(model).__name__
    if hasattr(model, "websocket"):
        raise UnsupportedModel(f"{name}.websocket: websockets are not offered; write predict")
    if not hasattr(model, "predict"):
        others = [path for method, path in _NOT_OFFERED.items() if hasattr(model, method)]
        raise UnsupportedModel(f"{name} has no predict(self, model_input){f', and {others[0]} is not offered' if others else ''}")
    methods = [getattr(model, step) for step in _STEPS if hasattr(model, step)]
    for step in methods:
        if step.__name__ != "predict" and yields(step):
            raise UnsupportedModel(f"{name}.{step.__name__}: a generator, and only predict may be one; let it return a value")
        if step.__name__ == "postprocess" and yields(model.predict):
            raise UnsupportedModel(f"{name}.postprocess: predict answers in parts, so there is no whole to work on; leave it out")
        parameters = list(inspect.signature(step).parameters.values())
        if len(parameters) > 1 or any(_is_request(parameter.annotation) for parameter in parameters):
            raise UnsupportedModel(
                f"{name}.{step.__name__}: takes the HTTP request, which stays at the gateway; take the model's input alone"
            )
    return tuple(
        Step(step, bool(inspect.signature(step).parameters), inspect.iscoroutinefunction(step), step.__name__ == "predict")
        for step in methods
    )


def yields(step: Callable[..., Any]) -> bool:
    """Whether a method answers in parts: it is a generator, or is hinted to return an iterator."""
    if inspect.isgeneratorfunction(step) or inspect.isasyncgenfunction(step):
        return True
    hint = inspect.signature(step).return_annotation
    if isinstance(hint, str):
        return hint.partition("[")[0].rpartition(".")[2] in _ITERATORS
    return getattr(typing.get_origin(hint) or hint, "__name__", "") in _ITERATORS


def _is_request(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.rpartition(".")[2] == "Request"
    return isinstance(annotation, type) and any(kind.__module__ == "starlette.requests" for kind in annotation.__mro__)


def parser_of(step: Callable[..., Any]) -> Callable[[Any], Any]:
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
