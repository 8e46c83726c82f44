"""A model is ``base/<number>/saved_model.pb``; several lie in one folder, or are listed in a ``model_config_list``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from headgate.errors import PackageError, UnsupportedModel
from headgate.package.detect import default_name
from headgate.package.folder import regular_files
from headgate.package.folders.base import Asked, Folder, ModelSource, VersionSource
from headgate.package.numbered import left_out, misnumbered, numbered, served
from headgate.package.textproto import TextProto
from headgate.spec import check_name

_ENTRY = "saved_model"
_GRAPHS = ("saved_model.pb", "saved_model.pbtxt")
_WARM_UP = "assets.extra/tf_serving_warmup_requests"
_SERVER_CONFIG = TextProto("headgate.package.folders.tfserving", "tensorflow.serving.ModelServerConfig")
_LIST = re.compile(rb"^\s*model_config_list\b", re.MULTILINE)
_SNIFFED = 1 << 16
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://")


class TensorFlowServing(Folder):
    """``headgate serve half_plus_two``, ``headgate serve models`` (a folder of such), ``headgate serve models.config``."""

    title = "TensorFlow Serving (<model>/<number>/saved_model.pb, or a model_config_list file)"

    @classmethod
    def claims(cls, path: Path) -> bool:
        """Whether there are numbered SavedModels in ``path`` or in folders of it, or it is a text file with a ``model_config_list``."""
        if path.is_dir():
            return _is_model(path) or any(_is_model(entry) for entry in path.iterdir() if _readable(entry))
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            head = file.read(_SNIFFED)
        return b"\0" not in head and bool(_LIST.search(head))

    @classmethod
    def adapt(cls, path: Path, asked: Asked) -> tuple[ModelSource, ...]:
        """Return the models, each with the versions that its policy serves; without one, the newest."""
        if path.is_file():
            return tuple(_listed(path))
        if _is_model(path):
            return (_model(default_name(path), path),)
        bases = sorted(entry for entry in path.iterdir() if _readable(entry) and _is_model(entry))
        return tuple(_model(check_name(base.name, str(base)), base) for base in bases)


def _readable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)


def _is_model(path: Path) -> bool:
    return any(_graph(folder) for folder in numbered(path, padded=True).values())


def _graph(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _GRAPHS)


def _listed(file: Path) -> Iterator[ModelSource]:
    """Yield the models of a ``model_config_list``."""
    entries = _SERVER_CONFIG.read(file).model_config_list.config
    if not entries:
        raise PackageError(f"{file.name}: model_config_list has no config, so there is nothing to serve; correct it")
    names: set[str] = set()
    for index, entry in enumerate(entries):
        where = f"{file.name}: model_config_list.config[{index}]."
        name = check_name(entry.name, f"{where}name")
        if name in names:
            raise PackageError(f"{where}name: {name!r} is there twice; every model needs a name of its own")
        names.add(name)
        _check_platform(entry, where)
        base = _base(entry.base_path, file, where)
        warnings = [f"{where}logging_config: requests are not written down by it"] if entry.HasField("logging_config") else []
        yield _model(name, base, entry.model_version_policy, dict(entry.version_labels), warnings)


def _check_platform(entry: Any, where: str) -> None:
    if entry.model_platform not in ("", "tensorflow"):
        raise UnsupportedModel(
            f"{where}model_platform: {entry.model_platform!r} is not served from such a file, only 'tensorflow' is"
        )
    if entry.model_type == entry.DESCRIPTOR.fields_by_name["model_type"].enum_type.values_by_name["OTHER"].number:
        raise UnsupportedModel(f"{where}model_type: OTHER is not served from such a file, only TENSORFLOW is")


def _base(path: str, file: Path, where: str) -> Path:
    """Return the folder of a model; a relative path begins where the file lies."""
    if _ADDRESS.match(path):
        raise UnsupportedModel(f"{where}base_path: {path!r} lies elsewhere; download it, and name the folder it is in")
    base = file.parent / path
    if not path or not base.is_dir():
        raise PackageError(f"{where}base_path: there is no folder {str(base) if path else path!r}; correct the path")
    return base


def _model(
    name: str, base: Path, policy: Any = None, labels: Mapping[str, int] | None = None, warnings: Iterable[str] = ()
) -> ModelSource:
    there, labels = numbered(base, padded=True), labels or {}
    live = served(policy, there, name)
    for label, number in labels.items():
        _check_label(name, label, number, live)
    said = [*warnings, *left_out(there, live)]
    said += [f"{wrong}: not served, since versions are numbered from 1" for wrong in misnumbered(base, there)]
    said += [f"{there[number].name}/{_WARM_UP}: not run" for number in live if (there[number] / _WARM_UP).is_file()]
    return ModelSource(
        name=name,
        versions=tuple(_version(name, number, there[number]) for number in live),
        aliases=labels,
        settings={"also": list(live[:-1])},
        warnings=tuple(said),
    )


def _check_label(name: str, label: str, number: int, live: tuple[int, ...]) -> None:
    check_name(label, f"{name}: version_labels")
    if label.isdecimal():
        raise PackageError(f"{name}: version_labels: {label!r} is a number, and those are versions; call it something else")
    if number not in live:
        raise PackageError(
            f"{name}: version_labels: {label!r} is version {number}, and the version policy serves {list(live)}; correct one of them"
        )


def _version(name: str, number: int, folder: Path) -> VersionSource:
    if not _graph(folder):
        raise PackageError(f"{name}/{number}: there is no {_GRAPHS[0]} in it, so it is no SavedModel; copy it again, or remove it")
    return VersionSource(
        title=f"{name}/{number}",
        runtime="tensorflow",
        entry=_ENTRY,
        files={f"{_ENTRY}/{path}": source for path, source in regular_files(folder).items()},
        origin="tfserving",
        number=number,
        note=str(folder.absolute()),
    )
