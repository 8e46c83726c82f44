"""A framework's model under the names and shapes that ``config.pbtxt`` declares."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headgate import plugins
from headgate.errors import ModelFailed, UnsupportedModel, did_you_mean
from headgate.runtimes.base import Arrays, Described, Runtime, TensorSpec
from headgate.runtimes.triton.declared import Declared

_INDEXED = re.compile(r".*__(\d+)")
"""Names that say by their number which argument or result they are: ``INPUT__0``."""


class FrameworkModel:
    """A model that another runtime of the shelf loads."""

    pure = True
    parameters = False

    def __init__(self, entry: Mapping[str, Any], folder: Path, *, device: str, threads: int) -> None:
        """Load it. Raises `UnsupportedModel` where the file is a pickle: Triton's back ends load none."""
        kind: type[Runtime] = plugins.load("headgate.runtimes", entry["runtime"])
        path = folder / entry["file"]
        if kind.runs_code(path):
            raise UnsupportedModel(f"{entry['file']} is a pickle, which is no format of this back end; save it with torch.jit.save")
        self._runtime = kind()
        self._runtime.load(path, attribute="", device=device, threads=threads)
        self._positional = entry["backend"] == "pytorch"
        self.platform = "pytorch_libtorch" if self._positional else kind.platform
        self._in_order = "sequence" not in entry
        self._inner: dict[str, str] = {}

    def found_out(self) -> Described:
        """Say what the model says of itself."""
        return self._runtime.describe(None)

    def declare(
        self, inputs: tuple[Declared, ...], outputs: tuple[Declared, ...], batched: bool
    ) -> tuple[tuple[Declared, ...], tuple[Declared, ...]]:
        """Take what is declared, and return it with what is not filled in from the model. Raises `UnsupportedModel` if they contradict."""
        if self._positional:
            # A bare example stands for every argument: only their names matter here, the rest is declared.
            arguments = self._runtime.describe({"": np.ones(1, np.float32)}).inputs
            names = [spec.name for spec in inputs]
            self._inner = _by_position(names, [spec.name for spec in arguments], "input", in_order=self._in_order)
            return inputs, outputs
        found = self.found_out()
        inputs = _completed(inputs, found.inputs, batched, "input")
        missing = [spec.name for spec in found.inputs if not spec.optional and spec.name not in {own.name for own in inputs}]
        if missing:
            raise UnsupportedModel(f"input: the model wants {missing[0]!r} too, which config.pbtxt does not declare; declare it")
        return inputs, _completed(outputs, found.outputs or (), batched, "output")

    def run(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Run one batch, under the model's own names and shapes."""
        feed = {self._inner[name]: array for name, array in inputs.items()} if self._inner else inputs
        return self._runtime.predict(feed, {})

    def answers(self, outputs: tuple[Declared, ...], found: Arrays) -> Arrays:
        """Return the declared outputs of what `run` gave."""
        if not self._positional:
            return {spec.name: found[spec.name] for spec in outputs if spec.name in found}
        inner = _by_position([spec.name for spec in outputs], list(found), "output", in_order=self._in_order)
        return {spec.name: found[inner[spec.name]] for spec in outputs}

    def close(self) -> None:
        """Let go of it."""
        self._runtime.unload()


def _by_position(names: list[str], inner: list[str], what: str, *, in_order: bool) -> dict[str, str]:
    """Return the model's own name of each declared one: the same, else the one that its number says, else, ``in_order``, by order."""
    if set(names) <= set(inner):
        return {name: name for name in names}
    numbers = [int(match[1]) if (match := _INDEXED.fullmatch(name)) else None for name in names]
    if None in numbers and not in_order:
        # What the client sends, what the sequence adds and what is kept are declared apart, so they have no order between them.
        raise UnsupportedModel(
            f"{what}: with sequence_batching the names {names} must be the model's own, {inner}, or end in their number, as in X__0"
        )
    places = list(range(len(names))) if None in numbers else [number for number in numbers if number is not None]
    if len(set(places)) != len(places) or max(places) >= len(inner):
        raise UnsupportedModel(f"{what}: config.pbtxt declares {names}, and the model has {len(inner)}: {inner}; correct the names")
    return {name: inner[place] for name, place in zip(names, places, strict=True)}


def _completed(own: tuple[Declared, ...], found: tuple[TensorSpec, ...], batched: bool, what: str) -> tuple[Declared, ...]:
    """Return what is declared, checked against the model; where nothing is, what the model says."""
    known = {spec.name: spec for spec in found}
    if not own:
        return tuple(Declared(spec.name, spec.dtype, _dims(spec, batched), optional=spec.optional) for spec in found)
    for spec in own:
        if spec.name not in known:
            hint = did_you_mean(spec.name, known) or "."
            raise UnsupportedModel(
                f"{what}: config.pbtxt declares {spec.name!r}, and the model has {sorted(known)}{hint} Correct it"
            )
        _check(spec, known[spec.name], batched, what)
    return own


def _dims(spec: TensorSpec, batched: bool) -> tuple[int, ...]:
    if batched and (not spec.shape or spec.shape[0] != -1):
        raise UnsupportedModel(
            f"max_batch_size: {spec.name!r} of the model has the shape {list(spec.shape)}, whose first size does not vary; set it to 0"
        )
    return spec.shape[1:] if batched else spec.shape


def _check(own: Declared, found: TensorSpec, batched: bool, what: str) -> None:
    if own.dtype != found.dtype:
        raise UnsupportedModel(
            f"{what}: config.pbtxt declares {own.name!r} as {own.dtype}, and the model has {found.dtype}; correct it"
        )
    if not found.shape:  # of unknown rank, or a scalar: the dry run sees
        return
    dims = _dims(found, batched)
    if len(dims) != len(own.within) or any(-1 not in pair and len(set(pair)) > 1 for pair in zip(dims, own.within, strict=True)):
        raise UnsupportedModel(
            f"{what}: config.pbtxt declares {own.name!r} with the shape {list(own.within)}, and the model has {list(dims)}"
            f"{' behind the batch axis' if batched else ''}; correct dims, or max_batch_size"
        )


def lacking(name: str, found: Arrays) -> ModelFailed:
    """Return the error of an answer without a declared output."""
    return ModelFailed(f"the model gave no output {name!r}, which config.pbtxt declares; it gave {sorted(found)}")
