"""A whole list of models, as clients of TensorFlow Serving send it: which deployments it asks for.

Models come from the registry. The folder that an entry names is compared with where its versions were registered from, and never read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple, Protocol

import msgspec

from headgate.control.model import Deployment
from headgate.errors import FailedPrecondition, InvalidRequest
from headgate.journal import WishedModel
from headgate.registry.registry import Registry, Version, check_alias
from headgate.spec import DeploymentSpec, check_name, parse_reference


class Known(Protocol):
    """What was deployed, and is."""

    def deployment(self, name: str) -> Deployment | None:
        """Return a deployment, also one that was deleted, or None."""
        ...


class Listed(NamedTuple):
    """What one entry asks for."""

    spec: DeploymentSpec
    labels: tuple[tuple[str, int], ...]

    @property
    def model(self) -> str:
        """The registered model, of which the labels are aliases."""
        return parse_reference(self.spec.model)[0]


def listed(models: Iterable[WishedModel], known: Known, registry: Registry) -> list[Listed]:
    """Return what a list asks for. Raises `HeadgateError` naming the field, and then nothing of it may be done."""
    return [_listed(entry, f"model_config_list.config[{at}].", known, registry) for at, entry in enumerate(models)]


def spec_of(name: str, known: Deployment | None) -> DeploymentSpec:
    """Return the settings that a deployment had when it ended, if it was of that model, else those of a new one."""
    if known is not None and (not known.deleted or parse_reference(known.spec.model)[0] == name):
        return known.spec
    return DeploymentSpec(name=name, model=name)


def _listed(entry: WishedModel, where: str, known: Known, registry: Registry) -> Listed:
    before = known.deployment(check_name(entry.name, f"{where}name"))
    spec = spec_of(entry.name, before)
    model = parse_reference(spec.model)[0]
    numbers = _numbers(entry, where, model, registry)
    if numbers:
        spec = msgspec.structs.replace(spec, model=f"{model}@{numbers[-1]}", also=numbers[:-1])
    elif before is None or before.deleted:
        spec = msgspec.structs.replace(spec, model=registry.version(model).reference)
    served = [registry.version(spec.model), *(registry.version(f"{model}@{number}") for number in spec.also)]
    _check_base(entry.base_path, where, served)
    for label, number in entry.labels:
        check_alias(label)
        if number not in [version.number for version in served]:
            raise FailedPrecondition(
                f"Request to assign label to version {number} of model {entry.name}, which is not currently available for inference "
                f"({where}version_labels: {label!r}; the list has {sorted(version.number for version in served)} of it served)"
            )
    return Listed(spec, entry.labels)


def _numbers(entry: WishedModel, where: str, model: str, registry: Registry) -> tuple[int, ...]:
    """Return the versions that the entry's policy serves, ascending; none where it has no policy."""
    if not entry.newest and not entry.versions:
        return ()
    there = [version.number for version in registry.versions(model)]
    if entry.newest:
        return tuple(there[-entry.newest :])
    missing = sorted(set(entry.versions) - set(there))
    if missing:
        raise InvalidRequest(
            f"{where}model_version_policy.specific.versions: {missing} are not registered; {model} has {there}. Push them first"
        )
    return tuple(sorted(set(entry.versions)))


def _check_base(path: str, where: str, served: Sequence[Version]) -> None:
    """Refuse a folder that is not the one from which every version that would be served was registered."""
    if not path:
        return
    for version in served:
        if PurePosixPath(version.note).parent != PurePosixPath(path):
            raise InvalidRequest(
                f"{where}base_path: {version.reference} was not registered from {path[:200]!r}, and no model is loaded from a folder that "
                "a client names; push it with 'headgate push', or leave base_path empty"
            )
