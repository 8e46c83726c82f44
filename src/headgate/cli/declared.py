"""Deployments as a file declares them: read, checked, and held against what is deployed.

What is declared is all there is: a setting that is left out has its default, whatever it had before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec

from headgate.cli.api import Api, segment
from headgate.errors import Conflict, NotFound, PackageError, SpecError, did_you_mean
from headgate.package.folders.base import read_yaml_documents
from headgate.spec import DeploymentSpec, parse_reference, parse_spec, spec_fields
from headgate.units import duration_text, size_text

_WRITTEN: dict[str, Callable[[Any], str]] = {"duration": duration_text, "size": size_text}


class Declared(NamedTuple):
    """One document."""

    where: str
    """``deployments.yaml, document 2``."""
    spec: DeploymentSpec


class Change(NamedTuple):
    """One setting that is another than the one in force; in plain JSON values."""

    path: str
    old: Any
    new: Any


class Plan(NamedTuple):
    """What a document comes to."""

    spec: DeploymentSpec
    """With the version its model means now."""
    generation: int
    """Of the deployment that it was held against; 0: there is none."""
    changes: tuple[Change, ...]
    """Against what is deployed, else against the defaults."""

    @property
    def fields(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        changes = [change._asdict() for change in self.changes]
        return {"name": self.spec.name, "generation": self.generation, "changes": changes}


def plain(spec: DeploymentSpec) -> dict[str, Any]:
    """Return ``spec`` as JSON says it, lists for tuples, so that it can be held against what the control API says."""
    fields: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(spec_fields(spec)))
    return fields


def read(data: bytes, name: str) -> list[Declared]:
    """Return what the YAML (or JSON) documents in ``data`` declare; ``name`` is the file's, for messages.

    Raises `SpecError` naming file, document and path for whatever makes no sense.
    """
    try:
        documents = read_yaml_documents(data, name)
    except PackageError as error:
        raise SpecError(f"{error}; nothing was deployed") from None
    found = [
        _declared(document, f"{name}, document {number}")
        for number, document in enumerate(documents, 1)
        if document is not None  # an empty one, as a file that ends with --- has
    ]
    if not found:
        raise SpecError(f"{name}: expected at least one deployment (name, model, ...), it is empty; nothing was deployed")
    taken: dict[str, str] = {}
    for declared in found:
        first = taken.setdefault(declared.spec.name, declared.where)
        if first != declared.where:
            raise SpecError(f"{declared.where}: name: {declared.spec.name!r} is declared by {first} already; nothing was deployed")
    return found


def plan(api: Api, declared: Declared) -> Plan:
    """Return what ``declared`` changes.

    Raises `NotFound` where there is no such version, `Conflict` where a deployment of that name serves another model.
    """
    spec = _resolved(api, declared)
    status = _deployed(api, spec.name)
    if status is None:
        defaults = plain(DeploymentSpec(name=spec.name, model=""))
        return Plan(spec, 0, tuple(_changes({**defaults, "model": None}, plain(spec))))
    present, asked = (parse_reference(reference)[0] for reference in (status["model"], spec.model))
    if present != asked:
        raise Conflict(
            f"{declared.where}: model: deployment {spec.name!r} serves the model {present!r}, and a deployment has one model; nothing was "
            f"changed. Declare {asked!r} under another name, or first end this one with 'headgate stop {spec.name}'"
        )
    return Plan(spec, status["generation"], tuple(_changes(status["spec"], plain(spec))))


def text(plans: list[Plan]) -> str:
    """Return what ``plans`` would change, for people."""
    if not any(planned.changes for planned in plans):
        return "nothing would change"
    return "\n".join(line for planned in plans for line in _lines(planned))


def _lines(planned: Plan) -> Iterator[str]:
    name = planned.spec.name
    if not planned.changes:
        yield f"{name}: nothing would change"
        return
    yield f"{name} would {'change' if planned.generation else 'be new'}"
    units = dict(_units(DeploymentSpec, ""))
    for path, old, new in planned.changes:
        before = f"{_written(old, units.get(path))} -> " if planned.generation or path != "model" else ""
        yield f"  {path}: {before}{_written(new, units.get(path))}"


def _declared(document: Any, where: str) -> Declared:
    if not isinstance(document, dict):
        raise SpecError(f"{where}: expected settings (name, model, ...), got {type(document).__name__}; nothing was deployed")
    try:
        return Declared(where, parse_spec(document))
    except SpecError as error:
        raise SpecError(f"{where}: {error}; nothing was deployed") from None


def _resolved(api: Api, declared: Declared) -> DeploymentSpec:
    """Return the spec with a version: a model's name alone is its newest, as it is for a deploy."""
    spec = declared.spec
    model, selector = parse_reference(spec.model)
    try:
        versions = api.get(f"/models/{segment(model)}/versions")
    except NotFound as error:
        raise NotFound(f"{declared.where}: model: {error}; nothing was changed") from None
    numbers = [version["number"] for version in versions]
    known = {*numbers, *(alias for version in versions for alias in version["aliases"])}
    for path, wanted in (("model", selector), *(("also", number) for number in spec.also)):
        if wanted is not None and wanted not in known:
            there = sorted(map(str, known))
            hint = did_you_mean(str(wanted), there) or "."
            raise NotFound(
                f"{declared.where}: {path}: there is no {model}@{wanted}{hint} There are: {', '.join(there)}; nothing was changed"
            )
    return spec if selector is not None else msgspec.structs.replace(spec, model=f"{model}@{max(numbers)}")


def _deployed(api: Api, name: str) -> dict[str, Any] | None:
    try:
        status: dict[str, Any] = api.get(f"/deployments/{segment(name)}")
    except NotFound:
        return None
    # What is ending is not there any more: asking for its name begins anew.
    return None if status["state"] == "stopping" else status


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], path: str = "") -> Iterator[Change]:
    for key in dict.fromkeys((*new, *old)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) or isinstance(after, dict):
            yield from _changes(before or {}, after or {}, f"{path}{key}.")
        elif before != after:
            yield Change(path + key, before, after)


def _units(kind: type[msgspec.Struct], path: str) -> Iterator[tuple[str, str]]:
    """Yield the settings that are written with a unit."""
    for field, hint in get_type_hints(kind, include_extras=True).items():
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            yield from _units(hint, f"{path}{field}.")
        for part in (hint, *get_args(hint)):
            for meta in getattr(part, "__metadata__", ()):
                yield path + field, meta.extra["unit"]


def _written(value: Any, unit: str | None) -> str:
    """Return a value as it stands in a file."""
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_written(each, unit) for each in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    if unit and isinstance(value, int | float):
        return _WRITTEN[unit](value)
    return f"{value:g}" if isinstance(value, float) else str(value)
