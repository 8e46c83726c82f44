"""What needs to know several rooms at once: a server for a notebook, and a home opened without a server.

Imported lazily, by ``headgate.serve`` and by the commands that work without a server.
"""

from __future__ import annotations

import atexit
import getpass
import importlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from headgate import plugins
from headgate.cli.api import Address, Api
from headgate.cli.connection import live_server
from headgate.cli.flags import FLAGS
from headgate.cli.targets import is_address
from headgate.cli.waiting import until_ready, until_routed
from headgate.client import Client
from headgate.errors import (
    DeadlineExceeded,
    HeadgateError,
    MissingDependency,
    NotFound,
    NotReady,
    ServerUnreachable,
    SpecError,
    UnsupportedModel,
    did_you_mean,
)
from headgate.home import Home
from headgate.package.detect import default_name
from headgate.registry.access import open_registry
from headgate.registry.registry import Origin, Registry

_STARTED = 600.0
"""Seconds a notebook waits for its server; a large model loads slowly."""
_ENDED = 45.0
_POLL = 0.05
_LOG = "serve.log"
_EXAMPLE_ROWS = 5
_PACKAGING = frozenset({"requirements", "include", "trust_pickle", "relock"})
"""Settings of `serve` that are not the deployment's."""


class HomeCatalog:
    """The registry of a home on which no server runs, with the values of the control API (see `headgate.cli.catalog.Catalog`)."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def known(self, model: str, source_digest: str) -> str | None:
        """Return the digest of the newest package of the same source."""
        version = self._registry.known(model, source_digest)
        return version.digest if version and self._registry.store.is_whole(version.digest) else None

    def staging(self) -> AbstractContextManager[Path]:
        """Give an empty folder inside the store."""
        return self._registry.store.staging()

    def store(self, folder: Path, digest: str) -> None:
        """Move the package into the store."""
        self._registry.store.add(folder)

    def register(self, model: str, fields: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        """Register a stored package."""
        origin = Origin(by=getpass.getuser(), **{key: value for key, value in fields.items() if key != "digest"})
        version, created = self._registry.register(model, fields["digest"], origin)
        return created, msgspec.to_builtins(version)

    def models(self) -> list[dict[str, Any]]:
        """Return every model."""
        return [msgspec.to_builtins(model) for model in self._registry.models()]

    def versions(self, model: str) -> list[dict[str, Any]]:
        """Return the versions of ``model``, oldest first."""
        return [msgspec.to_builtins(version) for version in self._registry.versions(model)]

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point ``alias`` at ``version``."""
        self._registry.set_alias(model, alias, version, by=getpass.getuser())

    def delete_alias(self, model: str, alias: str) -> None:
        """Remove ``alias``."""
        self._registry.delete_alias(model, alias, by=getpass.getuser())

    def all_keys(self) -> list[dict[str, Any]]:
        """Return every key, without its secret."""
        return [msgspec.to_builtins(key) for key in self._registry.keys.all()]

    def create_key(self, name: str, scopes: list[str]) -> dict[str, Any]:
        """Make a key; only this answer holds its secret."""
        key, text = self._registry.keys.create(name, scopes)
        return {**msgspec.to_builtins(key), "key": text}

    def revoke_key(self, key: str) -> None:
        """Revoke a key by its id."""
        self._registry.keys.revoke(key)


@contextmanager
def open_home(home: Home) -> Iterator[HomeCatalog]:
    """Open the registry of ``home`` directly, alone with it. Raises `Conflict` if a server runs there."""
    with open_registry(home) as registry:
        yield HomeCatalog(registry)


class Server:
    """A server of its own for a notebook or a script: see `serve`. Use it as a context manager, or `stop` it; it ends with Python."""

    def __init__(self, name: str, home: Home, process: subprocess.Popen[bytes], temporary: Path) -> None:
        self.name = name
        """The deployment."""
        self.home = home
        self._process = process
        self._temporary = temporary
        atexit.register(self.stop)

    @cached_property
    def url(self) -> str:
        """The inference port."""
        return str(self._urls()["inference_url"])

    @cached_property
    def client(self) -> Client:
        """A client of it: ``server.client.predict(server.name, rows)``."""
        return Client(self.url)

    def predict(self, data: Any, **options: Any) -> Any:
        """Run the model on ``data``: see `headgate.Client.predict`."""
        return self.client.predict(self.name, data, **options)

    def stop(self) -> None:
        """Finish what is under way and end the server. Again is no error."""
        atexit.unregister(self.stop)
        if "client" in self.__dict__:
            self.client.close()
        self._process.terminate()
        try:
            self._process.wait(_ENDED)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def wait(self) -> None:
        """Return once the model can be asked. Raises what the server said where it cannot."""
        end = time.monotonic() + _STARTED
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise HeadgateError(f"the server has ended (exit code {self._process.returncode}): {self._said()}")
            with suppress(LookupError, NotFound, NotReady, ServerUnreachable):
                api = Api(Address(self._urls()["control_url"], os.environ.get("HEADGATE_API_KEY")))
                until_ready(api, self.name, None, end - time.monotonic())
                until_routed(Api(Address(self.url, os.environ.get("HEADGATE_API_KEY"))), self.name)
                return
            time.sleep(_POLL)
        raise DeadlineExceeded(f"the server has not begun to serve {self.name} within {_STARTED:g} s: {self._said()}")

    def _urls(self) -> dict[str, Any]:
        running = live_server(self.home)
        if running is None:
            raise LookupError("not yet")
        return running

    def _said(self) -> str:
        """Return what the server printed: the errors, else the last lines."""
        lines = (self._temporary / _LOG).read_text(errors="replace").splitlines()
        errors = [line.removeprefix("headgate: ") for line in lines if line.startswith("headgate: ")]
        return "\n".join(errors or lines[-20:])

    def __repr__(self) -> str:
        return f"<headgate.Server {self.name} at {self.url}>" if live_server(self.home) else f"<headgate.Server {self.name}, ended>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def serve(
    model: Any,
    *,
    name: str | None = None,
    port: int = 0,
    home: str | os.PathLike[str] | None = None,
    example: Any = None,
    **settings: Any,
) -> Server:
    """Serve ``model`` in a server of its own and return it once it answers.

    ``model`` is what ``headgate serve`` takes (a path, ``file.py:Class``, or, with a ``name``, ``models:/wine@champion``), or a live
    object: a scikit-learn estimator, an XGBoost, LightGBM or Keras model, an ONNX model (or its bytes), or a class that stands in a file.
    ``port`` 0 is any free one; without a ``home`` nothing is kept. ``example`` is a row, a list of rows, an array, a data frame or a
    file, for models that do not say what they take. ``settings`` are the flags of ``headgate serve``: ``replicas=2, max_delay="5ms"``.
    Raises `UnsupportedModel` for an object that cannot be saved faithfully, saying what to do, and `HeadgateError` with the server's words.
    """
    flags = _flags(settings)
    temporary = Path(tempfile.mkdtemp(prefix="headgate-serve-"))
    try:
        target = _target(model, temporary)
        if is_address(target) and name is None:
            raise SpecError(f"name: {target} is fetched only later; say what to call it, as in serve({target!r}, name='wine')")
        flags += ["--example", str(_example_file(example, temporary))] if example is not None else []
        name = name or default_name(Path(target.rpartition(":")[0] or target))
        place = Home(home if home is not None else temporary / "home")
        process = _start([target, "--name", name, "--home", str(place.path), "--port", str(port), *flags], temporary / _LOG)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    server = Server(name, place, process, temporary)
    try:
        server.wait()
    except BaseException:
        server.stop()
        raise
    return server


def _start(words: list[str], log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-m", "headgate.cli.main", "serve", *words, "--control-port", "0", "--drain-delay", "0"]
    with open(log, "wb") as output:
        # A session of its own: Ctrl-C in a notebook interrupts the cell, not the server.
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)


def _flags(settings: Mapping[str, Any]) -> list[str]:
    """Return settings given in Python as flags. Raises `SpecError` for one that does not exist."""
    known = {flag.flag.removeprefix("--").replace("-", "_") for flag in FLAGS} | _PACKAGING
    words: list[str] = []
    for key, value in settings.items():
        if key not in known:
            raise SpecError(
                f"{key}: there is no such setting{did_you_mean(key, known) or '.'} Known here: {', '.join(sorted(known))}"
            )
        flag = f"--{key.replace('_', '-')}"
        if isinstance(value, bool):
            words += [flag] if value else ([] if key in _PACKAGING else [flag.replace("--", "--no-", 1)])
        elif key == "include":
            words += [word for path in value for word in (flag, str(path))]
        elif value is not None:
            words += [flag, ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)]
    return words


def _target(model: Any, folder: Path) -> str:
    """Return what ``headgate serve`` is given for ``model``; a live object is saved in ``folder`` first."""
    if isinstance(model, str | os.PathLike):
        return os.fspath(model)
    if isinstance(model, type):
        return _class_target(model)
    if isinstance(model, bytes):
        (folder / "model.onnx").write_bytes(model)
        return str(folder / "model.onnx")
    origins = {kind.__module__.partition(".")[0] for kind in type(model).__mro__}
    for library, (file, save) in _SAVES.items():
        if library in origins:
            save(model, folder / file)
            return str(folder / file)
    advice = _ADVICE["torch"] if "torch" in origins else _ADVICE[""]
    raise UnsupportedModel(f"a {type(model).__module__}.{type(model).__qualname__} cannot be served as it is: {advice}")


def _class_target(kind: type) -> str:
    """Return ``file.py:Class`` of a class. Raises `UnsupportedModel` if it stands in no file that a server could load it from."""
    try:
        # The source itself, too: a class of a notebook cell claims to stand in whatever file the notebook was started from.
        file = inspect.getsourcefile(kind) if inspect.getsource(kind) else None
    except (TypeError, OSError):
        file = None
    if file is None or not file.endswith(".py") or "." in kind.__qualname__:
        raise UnsupportedModel(
            f"class {kind.__qualname__} is not at the top of a .py file, so the server, which is another process, cannot load it; write it "
            "to one (in a notebook: %%writefile model.py) and serve 'model.py:" + kind.__name__ + "'"
        )
    return f"{file}:{kind.__name__}"


def _save_sklearn(model: Any, path: Path) -> None:
    try:
        dump = importlib.import_module("skops.io").dump
    except ImportError:
        install = plugins.install_command("sklearn", "skops")
        raise MissingDependency(f"saving a scikit-learn model needs skops; install it: {install}") from None
    dump(model, path)


def _save_lightgbm(model: Any, path: Path) -> None:
    getattr(model, "booster_", model).save_model(str(path))


_SAVES: Mapping[str, tuple[str, Callable[[Any, Path], object]]] = {
    # XGBoost's and LightGBM's estimators are scikit-learn's too, and their own formats hold them better: the order matters.
    "xgboost": ("model.ubj", lambda model, path: model.save_model(str(path))),
    "lightgbm": ("model.txt", _save_lightgbm),
    "sklearn": ("model.skops", _save_sklearn),
    "keras": ("model.keras", lambda model, path: model.save(str(path))),
    "onnx": ("model.onnx", lambda model, path: path.write_bytes(model.SerializeToString())),
}
"""Library -> the file a live model of it is saved as, and how."""

_ADVICE = {
    "torch": "export it, which also fixes what it takes: torch.export.save(torch.export.export(model, (example,)), 'model.pt2')",
    "": "save it as a file that 'headgate serve' takes, or write a class with load() and predict() in a .py file and serve that",
}


def _example_file(example: Any, folder: Path) -> Path:
    """Return a file with the example: the one that was named, or one with its first rows."""
    if isinstance(example, str | os.PathLike):
        return Path(example)
    if hasattr(example, "to_dict") and hasattr(example, "head"):
        example = example.head(_EXAMPLE_ROWS).to_dict("records")
    elif hasattr(example, "tolist"):
        example = example[:_EXAMPLE_ROWS].tolist()
    path = folder / "example.json"
    path.write_text(json.dumps(example, default=lambda value: value.tolist()))
    return path
