"""Ensembles: models of the repository that follow each other, and the tensors that go from one to the next.

The package of an ensemble holds everything: each model of a step lies in a folder of its name, as it would in a package of its own, and
the entry lists the steps in the order in which they can run. What can be said without loading a model is checked here; whether names,
dtypes and shapes fit those of the models, the replica's side sees (`headgate.runtimes.triton.ensemble`).

Source: triton-inference-server/server, docs/user_guide/ensemble_models.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from headgate import plugins
from headgate.errors import PackageError, UnsupportedModel, did_you_mean
from headgate.package.folders.base import ModelSource, VersionSource
from headgate.package.folders.triton.backends import Backend

ENSEMBLE = Backend("ensemble", "ensemble", "ensemble_scheduling", "triton", False)
"""What stands in the place of a back end: the models of the steps are loaded by the runtime that loads any model of a repository."""

Read = Callable[[str, str], ModelSource]
"""Returns the model of the repository that has this name; what it raises begins with the second."""


class Step(NamedTuple):
    """One model in its place."""

    field: str
    """``ensemble_scheduling.step[0]``"""
    model: str
    version: int
    """-1: the newest."""
    inputs: Mapping[str, str]
    """Input of the model -> tensor of the ensemble."""
    outputs: Mapping[str, str]
    """Output of the model -> tensor of the ensemble."""


class Composed(NamedTuple):
    """What the steps of an ensemble come to."""

    steps: tuple[Mapping[str, Any], ...]
    """As the entry of the package has them."""
    files: Mapping[str, Path | bytes]
    requirements: str | None
    labels: Mapping[str, tuple[str, ...]]
    """By tensor, of those that a model gives labels to."""
    settings: Mapping[str, Any]
    warnings: tuple[str, ...]


def is_ensemble(config: Any, where: str) -> bool:
    """Whether the configuration is that of an ensemble. Raises `PackageError` where it is so by half."""
    scheduled = config.HasField("ensemble_scheduling")
    named = {"platform": config.platform, "backend": config.backend}
    other = next((field for field, word in named.items() if word not in ("", ENSEMBLE.name)), "")
    if scheduled and other:
        raise PackageError(f"{where}{other}: {named[other]!r}, and ensemble_scheduling makes it an ensemble; leave one of them out")
    if not scheduled and ENSEMBLE.name in named.values():
        raise PackageError(f"{where}ensemble_scheduling: it is missing, and an ensemble is nothing but its steps; declare them")
    if scheduled and config.model_warmup:
        raise UnsupportedModel(f"{where}model_warmup: an ensemble has none; the models of its steps have theirs")
    return bool(scheduled)


def steps_of(config: Any, where: str) -> list[Step]:
    """Return the steps in an order in which each finds what it takes; of several that could run, the one declared first.

    Raises `PackageError` where there is no such order, a tensor comes from nowhere or from two places, or nobody takes it.
    """
    steps = [_step(step, f"ensemble_scheduling.step[{at}]", where) for at, step in enumerate(config.ensemble_scheduling.step)]
    if not steps:
        raise PackageError(
            f"{where}ensemble_scheduling.step: there is none, and an ensemble is nothing but its steps; declare them"
        )
    makers = _makers(config, steps, where)
    _check_ends(config, steps, makers, where)
    ordered: list[Step] = []
    there = {tensor.name for tensor in config.input}
    while len(ordered) < len(steps):
        waiting = [step for step in steps if step not in ordered]
        step = next((step for step in waiting if there.issuperset(step.inputs.values())), None)
        if step is None:
            raise PackageError(f"{where}{_circle(waiting, makers)}")
        ordered.append(step)
        there.update(step.outputs.values())
    return ordered


def compose(steps: Iterable[Step], read: Read, where: str) -> Composed:
    """Return what the package holds for ``steps``. Raises `PackageError` for a model or version that is not there, and as ``read`` does."""
    models: dict[str, ModelSource] = {}
    parts: dict[str, VersionSource] = {}
    entries: list[Mapping[str, Any]] = []
    labels: dict[str, tuple[str, ...]] = {}
    for step in steps:
        if step.model not in models:
            models[step.model] = read(step.model, f"{where}{step.field}.")
        part = _version(models[step.model], step, where)
        entry = f"{step.model}/{part.number or 1}.triton"
        parts[entry] = part
        entries.append(
            {
                "field": step.field,
                "model": step.model,
                "entry": entry,
                "input_map": dict(sorted(step.inputs.items())),
                "output_map": dict(sorted(step.outputs.items())),
            }
        )
        labels |= {step.outputs[name]: words for name, words in part.labels.items() if name in step.outputs}
    settings, warnings = _settings(models.values(), where)
    demanding = [name for name, model in models.items() if any(part.requirements is not None for part in model.versions)]
    if demanding and len(models) > 1:
        warnings.append(f"{where}ensemble_scheduling: one environment has what {' and '.join(demanding)} require, for all steps")
    return Composed(tuple(entries), _files(parts), _requirements(parts.values()), labels, settings, tuple(warnings))


def with_steps(entry: bytes, composed: Composed) -> bytes:
    """Return the entry of an ensemble's package: what ``entry`` says of any model, and the steps."""
    return json.dumps({**json.loads(entry), "steps": composed.steps}, indent=1, sort_keys=True).encode()


def _step(step: Any, field: str, where: str) -> Step:
    path = f"{where}{field}."
    if not step.model_name:
        raise PackageError(f"{path}model_name: it is missing; name the model of the repository that runs in this step")
    for name in ("input_map", "output_map"):
        links = getattr(step, name)
        if not links:
            raise PackageError(f"{path}{name}: it is missing; say which tensors of the ensemble {step.model_name!r} works on")
        empty = [key for key in links if not key or not links[key]]
        if empty:
            raise PackageError(f"{path}{name}[{empty[0]!r}]: a name is missing; key is the model's, value the ensemble's")
    if step.model_version < -1:
        raise PackageError(f"{path}model_version: expected a version, or -1 for the newest, got {step.model_version}")
    # What is left out is 0 in protocol buffers, and no version has that number.
    return Step(field, step.model_name, step.model_version or -1, dict(step.input_map), dict(step.output_map))


def _makers(config: Any, steps: Iterable[Step], where: str) -> dict[str, Step | None]:
    """Return where each tensor comes from: a step, or None for the request. Raises `PackageError` if that is two places."""
    makers: dict[str, Step | None] = {tensor.name: None for tensor in config.input}
    for step in steps:
        for output, tensor in step.outputs.items():
            if tensor in makers:
                other = makers[tensor]
                what = "it comes with the request" if other is None else f"{other.field} ({other.model}) gives it"
                raise PackageError(
                    f"{where}{step.field}.output_map[{output!r}]: {tensor!r} is there already: {what}; use another name"
                )
            makers[tensor] = step
    return makers


def _check_ends(config: Any, steps: Iterable[Step], makers: Mapping[str, Step | None], where: str) -> None:
    """Raise `PackageError` for a tensor that nobody gives, or that nobody takes."""
    for step in steps:
        for key, tensor in step.inputs.items():
            if tensor not in makers:
                hint = did_you_mean(tensor, makers) or "."
                raise PackageError(
                    f"{where}{step.field}.input_map[{key!r}]: no input or step gives {tensor!r}{hint} Correct the name"
                )
    for at, output in enumerate(config.output):
        if makers.get(output.name) is None:
            hint = did_you_mean(output.name, [name for name, maker in makers.items() if maker]) or "."
            raise PackageError(f"{where}output[{at}].name: no step gives {output.name!r}{hint} Name it in an output_map")
    taken = {tensor for step in steps for tensor in step.inputs.values()} | {output.name for output in config.output}
    for at, tensor in enumerate(config.input):
        if tensor.name not in taken:
            raise PackageError(f"{where}input[{at}].name: no step takes {tensor.name!r}; name it in an input_map, or leave it out")
    for step in steps:
        for key, tensor in step.outputs.items():
            if tensor not in taken:
                raise PackageError(
                    f"{where}{step.field}.output_map[{key!r}]: nobody takes {tensor!r}; leave it out, or name it where"
                )


def _circle(waiting: list[Step], makers: Mapping[str, Step | None]) -> str:
    """Say which of ``waiting``, none of which can run first, wait for each other."""
    path = [waiting[0]]
    while path[-1] not in path[:-1]:
        needed = (makers[tensor] for tensor in path[-1].inputs.values())
        path.append(next(step for step in needed if step in waiting))
    circle = path[path.index(path[-1]) :]
    words = " waits for ".join(f"{step.field.rpartition('.')[2]} ({step.model})" for step in circle)
    return f"{circle[0].field}.input_map: {words}, so none of them can be first; correct the maps"


def _version(model: ModelSource, step: Step, where: str) -> VersionSource:
    there = {part.number or 1: part for part in model.versions}
    if step.version == -1:
        return model.versions[-1]
    if step.version not in there:
        raise PackageError(
            f"{where}{step.field}.model_version: {step.model!r} does not serve version {step.version}, but {sorted(there)}: correct it, or "
            f"the version_policy of {step.model!r}"
        )
    return there[step.version]


def _files(parts: Mapping[str, VersionSource]) -> dict[str, Path | bytes]:
    """Return the files of all models, each in the folder of its name; two versions of one model share what is beside them."""
    files: dict[str, Path | bytes] = {}
    for entry, part in parts.items():
        folder = entry.partition("/")[0]
        files |= {(entry if path == part.entry else f"{folder}/{path}"): content for path, content in part.files.items()}
    return files


def _requirements(parts: Iterable[VersionSource]) -> str | None:
    """Return the requirements of all models together, and what loads those that bring none; None: the server's own Python runs them."""
    texts = [part.requirements for part in parts if part.requirements is not None]
    if not texts:
        return None
    runtimes = sorted({name for part in parts for name in _runtimes(part)})
    needed = [line for name in runtimes for line in plugins.requirements(plugins.load("headgate.runtimes", name).extra)]
    return "".join(f"{line}\n" for line in dict.fromkeys([*(line for text in texts for line in text.splitlines()), *needed]))


def _runtimes(part: VersionSource) -> set[str]:
    """Return the runtimes that a version needs on the shelf, of its steps too."""
    entries = [content for path, content in part.files.items() if path.endswith(".triton") and isinstance(content, bytes)]
    return {json.loads(entry)["runtime"] for entry in entries} - {"", ENSEMBLE.runtime}


def _settings(models: Iterable[ModelSource], where: str) -> tuple[dict[str, Any], list[str]]:
    """Return what the models ask of the deployment of the ensemble, and a sentence for what of it does not reach that."""
    warnings: list[str] = []
    devices: list[str] = []
    for model in models:
        warnings += [f"{model.name}: {said}" for said in model.warnings]
        resources = model.settings.get("resources", {})
        devices += [resources["device"]] if "device" in resources else []
        own = {
            "instance_group": "scale" in model.settings,
            "dynamic_batching": "max_delay" in model.settings.get("batching", {}),
            "intra_op_thread_count": "threads" in resources,
        }
        if unheard := " and ".join(field for field, there in own.items() if there):
            warnings.append(
                f"{where}{model.name}: {unheard}: only where it is called by itself; the ensemble goes by flags of its own"
            )
    if len(set(devices)) > 1:
        warnings.append(f"{where}instance_group.gpus: one device computes all steps, and its models ask for {sorted(devices)}")
    return {"resources": {"device": devices[0]}} if devices else {}, warnings
