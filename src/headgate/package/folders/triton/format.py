"""A model is a folder of numbered versions with, or without, ``config.pbtxt``; a repository is a folder of models."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from headgate.errors import PackageError, UnsupportedModel, did_you_mean
from headgate.package.environment import read_requirements
from headgate.package.folder import regular_files
from headgate.package.folders.base import Asked, Folder, ModelSource, VersionSource
from headgate.package.folders.triton.backends import BACKENDS, OTHER_FILES, Backend, choose, parameters
from headgate.package.folders.triton.ensemble import ENSEMBLE, Composed, compose, is_ensemble, steps_of, with_steps
from headgate.package.folders.triton.entry import entry
from headgate.package.folders.triton.fields import judged, plain
from headgate.package.folders.triton.labels import label_files, labels
from headgate.package.folders.triton.sequences import sequence_of, sequence_settings
from headgate.package.folders.triton.settings import settings_of
from headgate.package.manifest import REQUIREMENTS
from headgate.package.numbered import left_out, misnumbered, numbered, served
from headgate.package.textproto import TextProto
from headgate.spec import check_name

CONFIG = "config.pbtxt"
MODEL_CONFIG = TextProto("headgate.package.folders.triton", "inference.ModelConfig")
ENTRY_SUFFIX = ".triton"

_KNOWN_FILES = (*(backend.file for backend in BACKENDS.values()), *OTHER_FILES)


class TritonRepository(Folder):
    """``headgate serve repository``, ``headgate serve repository/fraud``."""

    title = "Triton model repository (<model>/config.pbtxt, <model>/<number>/model.onnx)"

    @classmethod
    def claims(cls, path: Path) -> bool:
        """Whether ``path`` is a folder with ``config.pbtxt``, or with versions that hold ``model.onnx`` or the like, or holds such."""
        return path.is_dir() and (_is_model(path) or any(_is_model(entry) for entry in path.iterdir() if _readable(entry)))

    @classmethod
    def adapt(cls, path: Path, asked: Asked) -> tuple[ModelSource, ...]:
        """Return the models, each with the versions that its policy serves; without one, the newest."""
        if _is_model(path):
            return (_model(path, asked),)
        folders = sorted(entry for entry in path.iterdir() if _readable(entry) and not entry.name.startswith("."))
        first, *others = _said_once([_model(folder, asked) for folder in folders if _is_model(folder)])
        stray = [f"{folder.name}: no model, so it is left out" for folder in folders if not _is_model(folder)]
        return (msgspec.structs.replace(first, warnings=(*stray, *first.warnings)), *others)


def _readable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)


def _is_model(path: Path) -> bool:
    return (path / CONFIG).is_file() or any((folder / name).exists() for folder in numbered(path).values() for name in _KNOWN_FILES)


def _said_once(models: Sequence[ModelSource]) -> Iterator[ModelSource]:
    """Yield the models; an ensemble does not repeat what is said of a model that is served by itself, too."""
    said = {f"{model.name}: {warning}" for model in models for warning in model.warnings}
    for model in models:
        yield msgspec.structs.replace(model, warnings=tuple(warning for warning in model.warnings if warning not in said))


def _model(folder: Path, asked: Asked, within: tuple[str, ...] = ()) -> ModelSource:
    """Return the model in ``folder``; ``within`` are the ensembles, the outermost first, for which it is read."""
    where = f"{folder.name}/{CONFIG}: "
    path = folder / CONFIG
    config = MODEL_CONFIG.read(path, f"{folder.name}/{CONFIG}") if path.is_file() else MODEL_CONFIG.new()
    if config.name and config.name != folder.name:
        raise PackageError(f"{where}name: {config.name!r}, and the folder is {folder.name!r}; give both one name, or leave it out")
    config.name = check_name(folder.name, f"{folder.name}: name")
    warnings = list(judged(config, where))
    ensemble = is_ensemble(config, where)
    # The versions of an ensemble hold nothing, and empty folders get lost on the way.
    there = numbered(folder) or ({1: folder} if ensemble else {})
    live = served(config.version_policy, there, folder.name)
    backend = ENSEMBLE if ensemble else choose(config, {number: there[number] for number in live}, where)
    text = _requirements(folder, backend, asked)
    settings, unlike = settings_of(config, where)
    asks, unfollowed = parameters(backend, config, where, has_requirements=asked.requirements or text is not None)
    stateful, limited = sequence_settings(config, backend, settings.get("scale", {}).get("min_replicas", 1), where)
    warnings += [*unlike, *limited, *unfollowed, *left_out(there, live), *_not_used(folder, there)]
    if config.model_transaction_policy.decoupled and backend.runtime:
        raise UnsupportedModel(f"{where}model_transaction_policy.decoupled: only Python models answer in parts; leave it out")
    settings = {**_both(asks, settings), **stateful, "also": list(live[:-1])}
    if ensemble:
        return _ensemble(folder, config, live, _composed(folder, config, asked, within), settings, warnings)
    sources = _Sources(folder, config, backend, text)
    return ModelSource(
        name=folder.name,
        versions=tuple(sources.version(number, there[number]) for number in live),
        settings=settings,
        warnings=tuple(warnings),
    )


def _composed(folder: Path, config: Any, asked: Asked, within: tuple[str, ...]) -> Composed:
    """Return what the steps of the ensemble in ``folder`` come to; their models lie beside it."""
    repository, path = folder.absolute().parent, (*within, folder.name)

    def read(name: str, where: str) -> ModelSource:
        if name in path:
            circle = " of ".join((*path[path.index(name) :], name)[::-1])
            raise PackageError(f"{where}model_name: {name!r} would be a step of itself ({circle}); correct it")
        beside = [entry.name for entry in repository.iterdir() if _readable(entry) and _is_model(entry)]
        if name not in beside:
            hint = did_you_mean(name, beside) or "."
            raise PackageError(
                f"{where}model_name: there is no model {name!r} beside {folder.name!r}{hint} Correct it, or copy it there"
            )
        return _model(repository / name, asked, path)

    where = f"{folder.name}/{CONFIG}: "
    return compose(steps_of(config, where), read, where)


def _ensemble(
    folder: Path, config: Any, live: Sequence[int], composed: Composed, settings: Mapping[str, Any], warnings: Iterable[str]
) -> ModelSource:
    """Return the ensemble in ``folder``."""
    where, target = f"{folder.name}/{CONFIG}: ", f"{config.name}{ENTRY_SUFFIX}"
    own = label_files(config, folder, where)

    def version(number: int) -> VersionSource:
        told = with_steps(entry(config, ENSEMBLE, number, "", where), composed)
        return VersionSource(
            title=f"{config.name}/{number}",
            runtime="triton",
            entry=target,
            files={**composed.files, **{path: folder / path for path in own.values()}, target: told},
            origin="triton",
            requirements=composed.requirements,
            # It changes whenever a newer version of one of its models is there, and what a number stands for never does.
            number=None if live == (1,) else number,
            labels={**composed.labels, **{name: labels(folder / path, where) for name, path in own.items()}},
            config={"backend": "", "ensemble_scheduling": plain(config.ensemble_scheduling)},
        )

    return ModelSource(
        name=folder.name,
        versions=tuple(version(number) for number in live),
        settings=_both(composed.settings, settings),
        warnings=(*warnings, *_unused(folder, live), *composed.warnings),
    )


def _unused(folder: Path, live: Sequence[int]) -> Iterator[str]:
    """Yield a sentence for each version of an ensemble that holds something."""
    for path in (folder / str(number) for number in live):
        if path.is_dir() and any(not entry.name.startswith(".") for entry in path.iterdir()):
            yield f"{path.name}: an ensemble has no files of its own, so what lies there is left out"


def _both(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    resources = {**one.get("resources", {}), **other.get("resources", {})}
    return {**one, **other, **({"resources": resources} if resources else {})}


def _requirements(folder: Path, backend: Backend, asked: Asked) -> str | None:
    """Return the requirements that lie beside a Python model, unless the user gives others."""
    path = folder / REQUIREMENTS
    return read_requirements(path) if not backend.runtime and not asked.requirements and path.is_file() else None


def _not_used(folder: Path, there: Mapping[int, Path]) -> list[str]:
    said = [
        f"{wrong}: not served, since versions are numbered from 1, without leading zeros" for wrong in misnumbered(folder, there)
    ]
    if (folder / "configs").is_dir():
        said.append(f"configs: not looked into; {CONFIG} is what counts")
    return said


class _Sources:
    """What the packages of one model's versions are made of."""

    def __init__(self, folder: Path, config: Any, backend: Backend, requirements: str | None) -> None:
        self._folder = folder
        self._config = config
        self._backend = backend
        self._requirements = requirements

    def version(self, number: int, folder: Path) -> VersionSource:
        """Return the version that lies in ``folder``. Raises `PackageError` where the model is not in it."""
        where = f"{self._folder.name}/{CONFIG}: "
        name = self._config.default_model_filename or self._backend.file
        if not (folder / name).exists() or Path(name).name != name:
            field = "default_model_filename" if self._config.default_model_filename else "backend"
            raise PackageError(
                f"{where}{field}: version {number} should hold {name!r}, and does not; copy it again, or correct the name"
            )
        target = f"{self._config.name}{ENTRY_SUFFIX}"
        files: dict[str, Path | bytes] = dict(self._files(number, folder))
        named = label_files(self._config, self._folder, where)
        files |= {path: self._folder / path for path in named.values()}
        sequence = sequence_of(self._config, self._backend, where)
        files[target] = entry(self._config, self._backend, number, self._model_file(number, folder / name), where, sequence)
        return VersionSource(
            title=f"{self._config.name}/{number}",
            runtime="triton",
            entry=target,
            files=files,
            origin="triton",
            requirements=self._requirements,
            number=number,
            labels={output: labels(self._folder / path, where) for output, path in named.items()},
        )

    def _model_file(self, number: int, model: Path) -> str:
        """Return the path of the model's file in the package. ONNX may be a folder, for the weights beside the graph."""
        inner = model / model.name
        return f"{number}/{model.name}" + (f"/{model.name}" if self._backend.runtime == "onnx" and inner.is_file() else "")

    def _files(self, number: int, folder: Path) -> Mapping[str, Path]:
        """Return the files of one version by their path in the package, as in the repository; a Python model may read all of them."""
        own = {f"{number}/{path}": source for path, source in regular_files(folder).items() if "__pycache__/" not in path}
        beside: dict[str, Path] = {}
        for entry_ in self._folder.iterdir():
            data = entry_.name in ("warmup", "initial_state")
            wanted = data if self._backend.runtime else entry_.name not in (CONFIG, REQUIREMENTS, "configs")
            if not wanted or entry_.name.isdecimal() or entry_.name.startswith((".", "__pycache__")):
                continue
            below = regular_files(entry_) if entry_.is_dir() else {"": entry_}
            beside |= {f"{entry_.name}/{path}".rstrip("/"): source for path, source in below.items()}
        return {**beside, **own}
