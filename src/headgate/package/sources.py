"""From what the user names to what packages are made of: a model file, Python code, another tool's folder, or an address of one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from headgate import plugins
from headgate.errors import InvalidRequest, UnsupportedModel
from headgate.package import environment
from headgate.package.code import code_files, included
from headgate.package.detect import FOLDERS, Target, detect, required
from headgate.package.example import read_example
from headgate.package.external import external_files
from headgate.package.folder import regular_files
from headgate.package.folders.base import Asked, Fetched, ModelSource, Say, VersionSource
from headgate.package.manifest import REQUIREMENTS
from headgate.package.options import Options
from headgate.spec import check_name

_ADDRESS = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*):/.+")


def find(target: str, options: Options, scratch: Path, say: Say) -> tuple[ModelSource, ...]:
    """Return the models that ``target`` names: one for a file or code, perhaps several for another tool's folder.

    What an address leads to is brought into ``scratch``, an empty folder that must last as long as the answer is used. Nothing is
    loaded. Raises `NotFound`, `InvalidRequest`, and `PackageError` and those below it.
    """
    fetched = _fetched(target, scratch, say)
    kind = _format(fetched.path) if fetched else _format(Path(target).expanduser().absolute())
    if fetched is None and kind is None:
        models: tuple[ModelSource, ...] = (_file(detect(target, trust_pickle=options.trust_pickle), options),)
    else:
        path = fetched.path if fetched else required(target)
        kind = kind or _not_a_folder(target, path)
        asked = Asked(fetched.name if fetched else "", options.trust_pickle, options.requirements is not None)
        models = kind.adapt(path, asked)
        models = tuple(_with_options(model, path, options, fetched.note if fetched else "") for model in models)
    return _named(models, options.name, target)


def _fetched(target: str, scratch: Path, say: Say) -> Fetched | None:
    match = _ADDRESS.fullmatch(target)
    if match is None or Path(target).exists():
        return None
    formats = dict(plugins.load_all(FOLDERS))
    for kind in formats.values():
        if match["scheme"] in kind.schemes:
            say(f"fetching {target}")
            fetched: Fetched = kind.fetch(target, scratch, say)
            return fetched
    known = ", ".join(sorted(f"{scheme}:/" for kind in formats.values() for scheme in kind.schemes))
    raise UnsupportedModel(
        f"{target}: addresses that are fetched here begin with {known}; download it, and name the folder it is in. Nothing was done"
    )


def _format(path: Path) -> Any:
    """Return the folder format that takes ``path``, or None. Raises `UnsupportedModel` if several do."""
    found = {name: kind for name, kind in plugins.load_all(FOLDERS) if kind.claims(path)}
    if len(found) > 1:
        raise UnsupportedModel(f"{path.name}: {' and '.join(found)} both take this folder; remove from it what belongs to only one")
    return next(iter(found.values()), None)


def _not_a_folder(target: str, path: Path) -> Any:
    there = ", ".join(sorted(entry.name for entry in path.iterdir())[:10]) if path.is_dir() else "a file"
    known = ", ".join(kind.title for _, kind in plugins.load_all(FOLDERS))
    raise UnsupportedModel(f"{target}: what is there is no folder of a format known here ({known}), but {there or 'empty'}")


def _named(models: tuple[ModelSource, ...], name: str | None, target: str) -> tuple[ModelSource, ...]:
    if name is not None and len(models) > 1:
        raise InvalidRequest(
            f"--name: names one model, but there are {len(models)} in {target}: {', '.join(model.name for model in models)}; leave it out"
        )
    if name is not None:
        models = (msgspec.structs.replace(models[0], name=name),)
    for model in models:
        check_name(model.name, "--name")
    return models


def _with_options(model: ModelSource, path: Path, options: Options, note: str) -> ModelSource:
    """Lay what the user says over what the folder says."""
    if options.example and len(model.versions) > 1:
        raise InvalidRequest(f"{model.name}: has {len(model.versions)} versions, and --example is one's; push them one by one")
    changes: dict[str, Any] = {}
    if options.example is not None:
        changes["example"] = read_example(options.example)
    if options.requirements is not None:
        changes["requirements"] = environment.read_requirements(options.requirements)
    beside = {name: source for include in options.include for name, source in included(include, path.parent).items()}
    versions = tuple(
        msgspec.structs.replace(version, files={**beside, **version.files}, note=version.note or note, **changes)
        for version in model.versions
    )
    return msgspec.structs.replace(model, versions=versions)


# ---- a model file, or code


def _file(target: Target, options: Options) -> ModelSource:
    requirements = _requirements(target, options)
    source = VersionSource(
        title=target.path.name,
        runtime=target.runtime,
        entry=target.entry,
        files=_files(target, options),
        origin="python" if target.attribute else "file",
        requirements=None if requirements is None else environment.read_requirements(requirements),
        example=None if options.example is None else read_example(options.example),
        runs_code=target.runs_code,
    )
    return ModelSource(name=target.name, versions=(source,))


def _files(target: Target, options: Options) -> dict[str, Path]:
    """Return the files of the package by their path below ``files/``."""
    path = target.path
    if target.attribute:
        return code_files(path, options.include)
    if path.is_dir():
        files = {f"{path.name}/{name}": source for name, source in regular_files(path).items()}
    else:
        files = {path.name: path, **(external_files(path) if path.suffix.lower() == ".onnx" else {})}
    for include in options.include:
        files = {**included(include, path.parent), **files}
    return files


def _requirements(target: Target, options: Options) -> Path | None:
    """Return the requirements file: the one given, or that beside code or in a folder. A bare model file takes none by itself."""
    if options.requirements is not None:
        return options.requirements
    beside = (target.path if target.path.is_dir() else target.path.parent) / REQUIREMENTS
    own = target.attribute or target.path.is_dir()
    return beside if own and beside.is_file() else None
