"""Ensembles: the models of all steps in one process, each run on a whole batch when what it takes is there.

The entry of the package (`headgate.package.folders.triton.entry`) lists the steps in an order in which they can run. A tensor of the
ensemble is an array under the name that the maps give it: it comes with the request or from a step, and goes to any number of steps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Never

import numpy as np

from headgate import plugins
from headgate.errors import HeadgateError, UnsupportedModel, did_you_mean
from headgate.runtimes.base import Arrays, Described, InvalidInput, Runtime, TensorSpec, said
from headgate.runtimes.triton.declared import Declared
from headgate.tensors import DTYPES, dtype_of


class StepFailed(Exception):
    """A model failed in its step. The text names both."""


class Known(NamedTuple):
    """What is known of a tensor before anything has run."""

    dtype: str
    """Open Inference Protocol name; empty: not known."""
    shape: tuple[int, ...]
    """Every dimension; -1 varies. Empty: not known, or a scalar."""
    batched: bool
    """Its first dimension is a batch."""
    optional: bool = False
    """A request may lack it."""

    @property
    def numpy(self) -> str:
        """NumPy's name for the dtype, empty likewise; BF16 comes as float32."""
        return "float32" if self.dtype == "BF16" else DTYPES[self.dtype].numpy if self.dtype else ""

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


class Link(NamedTuple):
    """One line of a map."""

    key: str
    """The model's name for it."""
    tensor: str
    """The ensemble's."""
    lead: int = 0
    """The model's form has a batch of one in front that the ensemble's lacks (1), lacks one that this has (-1), or is the same (0)."""


class Step:
    """A loaded model in its place."""

    def __init__(self, fields: Mapping[str, Any], runtime: Runtime) -> None:
        """``fields`` are those of the entry. Raises `UnsupportedModel` for a model that cannot be a step."""
        self._field, self._model = fields["field"], fields["model"]
        self.name = f"{self._field.rpartition('.')[2]} ({self._model})"
        self._runtime = runtime
        self.described = runtime.describe(None)
        self._inputs = [Link(key, tensor) for key, tensor in fields["input_map"].items()]
        self._outputs = [Link(key, tensor) for key, tensor in fields["output_map"].items()]
        self._gives: dict[str, Known] = {}
        """By output."""
        kind = "decoupled, so it answers any number of times" if self.described.streams else ""
        kind = "stateful, and a batch mixes the requests of many clients" if self.described.stateful else kind
        if kind:
            raise UnsupportedModel(f"{self._field}.model_name: {self._model} is {kind}; a step answers once: call it by itself")

    def connect(self, tensors: dict[str, Known], batched: bool) -> None:
        """Check the maps against the model and what is known of ``tensors``, and add those that the model gives.

        ``batched``: the ensemble has a batch axis. Raises `UnsupportedModel` for what does not fit.
        """
        takes = {spec.name: _known(spec, self.described) for spec in self.described.inputs}
        for link in self._inputs:
            if link.key not in takes:
                raise self._unknown("input", link.key, takes)
        for name, wanted in takes.items():
            if not wanted.optional and name not in [link.key for link in self._inputs]:
                raise UnsupportedModel(f"{self._field}.input_map: {self._model} takes {name!r}, which is not mapped; map it")
        self._inputs = [
            link._replace(lead=self._fit(link, tensors[link.tensor], takes[link.key], batched)) for link in self._inputs
        ]
        gives = {spec.name: _known(spec, self.described) for spec in self.described.outputs or ()}
        for link in self._outputs:
            if link.key not in gives and self.described.outputs is not None:
                raise self._unknown("output", link.key, gives)
            self._gives[link.key] = tensors[link.tensor] = gives.get(link.key, Known("", (), False))

    def run(self, tensors: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Return the tensors that the model gives. Raises `InvalidInput` where it blames its input, else `StepFailed`."""
        try:
            given = {link.key: led(tensors[link.tensor], link.lead) for link in self._inputs if link.tensor in tensors}
            found = self._runtime.predict(given, parameters)
            return {link.tensor: self._taken(link.key, found) for link in self._outputs}
        except InvalidInput as error:
            raise InvalidInput(f"{self.name}: {error}") from error
        except Exception as error:
            raise StepFailed(f"{self.name} raised {said(error)}") from error

    def unload(self) -> None:
        """Let go of the model."""
        self._runtime.unload()

    def _unknown(self, what: str, key: str, known: Mapping[str, Known]) -> UnsupportedModel:
        hint = did_you_mean(key, known) or "."
        return UnsupportedModel(
            f"{self._field}.{what}_map[{key!r}]: {self._model} has no such {what}, but {list(known)}{hint} Correct it"
        )

    def _fit(self, link: Link, tensor: Known, wanted: Known, batched: bool) -> int:
        path = f"{self._field}.input_map[{link.key!r}]"
        if tensor.optional and not wanted.optional:
            raise UnsupportedModel(
                f"{path}: a request may lack {link.tensor!r}, and {self._model} needs it; take 'optional' from the ensemble's input"
            )
        lead = fit(tensor, wanted, batched)
        if lead is None:
            raise UnsupportedModel(
                f"{path}: {self._model} takes {wanted}, and {link.tensor!r} is {tensor}; correct the map or the dims"
            )
        return lead

    def _taken(self, key: str, found: Arrays) -> np.ndarray[Any, Any]:
        """Return an output as the next model may get it: as declared, in one piece, and not to be written to."""
        if key not in found:
            raise ValueError(f"it gave no output {key!r}, but {sorted(found)}")
        array = np.asarray(found[key], order="C")
        array = _text(array) if array.dtype.kind in "OSU" else array.view()
        wanted = self._gives[key].numpy
        if wanted and array.dtype != wanted:
            raise TypeError(f"output {key!r} is {dtype_of(array)}, and it is declared as {self._gives[key].dtype}")
        array.flags.writeable = False
        return array


class EnsembleModel:
    """The models of an ensemble."""

    platform = "ensemble"

    def __init__(self, entry: Mapping[str, Any], folder: Path, *, device: str, threads: int) -> None:
        """Load the models, each once, however many steps it has. Raises `UnsupportedModel`, and what they raise."""
        _check_modules(entry, folder)
        kind: type[Runtime] = plugins.load("headgate.runtimes", entry["runtime"])
        self._loaded: dict[str, Runtime] = {}
        self._steps: list[Step] = []
        self._leads: dict[str, int] = {}
        for fields in entry["steps"]:
            if fields["entry"] not in self._loaded:
                self._loaded[fields["entry"]] = kind()
                _load(
                    self._loaded[fields["entry"]],
                    folder / fields["entry"],
                    f"{fields['field']} ({fields['model']})",
                    device,
                    threads,
                )
            self._steps.append(Step(fields, self._loaded[fields["entry"]]))
        self.pure = all(runtime.pure for runtime in self._loaded.values())
        self.parameters = any(step.described.parameters for step in self._steps)

    def found_out(self) -> Never:
        """An ensemble declares what it takes, always."""
        raise UnsupportedModel("input: it is missing, and no step says it; declare it in config.pbtxt")

    def declare(
        self, inputs: tuple[Declared, ...], outputs: tuple[Declared, ...], batched: bool
    ) -> tuple[tuple[Declared, ...], tuple[Declared, ...]]:
        """Take what is declared, and connect the steps. Raises `UnsupportedModel` where dtypes or shapes do not fit."""
        tensors = {spec.name: _own(spec, batched) for spec in inputs}
        for step in self._steps:
            step.connect(tensors, batched)
        for spec in outputs:
            given, wanted = tensors[spec.name], _own(spec, batched)
            lead = fit(given, wanted, batched)
            if lead is None:
                raise UnsupportedModel(
                    f"output: config.pbtxt declares {spec.name!r} as {wanted}, and its step gives {given}; correct it"
                )
            self._leads[spec.name] = lead
        return inputs, outputs

    def run(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Run one batch through all steps, and return every tensor there is then. Raises as `Step.run` does."""
        tensors = dict(inputs)
        for step in self._steps:
            tensors |= step.run(tensors, parameters)
        return tensors

    def answers(self, outputs: tuple[Declared, ...], found: Arrays) -> Arrays:
        """Return the outputs among the tensors that `run` gave. Raises `StepFailed` for a batch where one answer is declared."""
        return {spec.name: led(found[spec.name], self._leads[spec.name]) for spec in outputs}

    def close(self) -> None:
        """Let go of the models."""
        for runtime in self._loaded.values():
            runtime.unload()


def fit(tensor: Known, wanted: Known, batched: bool) -> int | None:
    """Return the `Link.lead` by which a model takes ``tensor`` for what it wants; None: it cannot.

    A batch of one is put in front, or taken away, only where the ensemble has no batch axis: elsewhere it has as many rows as come.
    """
    if tensor.dtype and wanted.dtype != tensor.dtype:
        return None
    if not tensor.shape or not wanted.shape or _agree(tensor.shape, wanted.shape):
        return 0
    if batched or tensor.batched == wanted.batched:
        return None
    lead = 1 if wanted.batched else -1
    return lead if _agree(tensor.shape[tensor.batched :], wanted.shape[wanted.batched :]) else None


def led(array: np.ndarray[Any, Any], lead: int) -> np.ndarray[Any, Any]:
    """Return an array with a batch of one put in front (1), taken away (-1), or as it is (0). Raises `StepFailed` for another batch."""
    if lead < 0 and len(array) != 1:
        raise StepFailed(f"a batch of {len(array)} came where one answer without a batch axis is declared")
    return array[None] if lead > 0 else array[0] if lead < 0 else array


def _agree(one: Sequence[int], other: Sequence[int]) -> bool:
    return len(one) == len(other) and all(-1 in pair or len(set(pair)) == 1 for pair in zip(one, other, strict=True))


def _known(spec: TensorSpec, described: Described) -> Known:
    return Known(spec.dtype, tuple(spec.shape), bool(described.batched), spec.optional)


def _own(spec: Declared, batched: bool) -> Known:
    return Known(spec.dtype, (-1, *spec.within) if batched else spec.within, batched, spec.optional)


def _text(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return text as models take it: `bytes` in an object array."""
    items = np.empty(array.size, dtype=object)
    items[:] = [item if isinstance(item, bytes) else str(item).encode() for item in array.ravel().tolist()]
    return items.reshape(array.shape)


def _load(runtime: Runtime, path: Path, step: str, device: str, threads: int) -> None:
    """Load the model of a step. Raises what it raises, with the step in front."""
    try:
        runtime.load(path, attribute="", device=device, threads=threads)
    except ModuleNotFoundError:
        raise
    except HeadgateError as error:
        raise type(error)(f"{step}: {error}") from error
    except Exception as error:
        raise UnsupportedModel(f"{step} cannot be loaded: {said(error)}") from error


def _check_modules(entry: Mapping[str, Any], folder: Path) -> None:
    """Raise `UnsupportedModel` where two Python models have modules of one name beside them that differ: a process imports only one."""
    found: dict[str, tuple[Path, dict[str, bytes]]] = {}
    for place, own in _python_folders(entry, folder):
        for path in sorted(place.iterdir()):
            code = {str(file.relative_to(place)): file.read_bytes() for file in _code(path)} if path.name != own else {}
            if not code:
                continue
            other, text = found.setdefault(path.stem, (path, code))
            if text != code:
                raise UnsupportedModel(
                    f"ensemble_scheduling: {other.relative_to(folder)} and {path.relative_to(folder)} have one name and are not the same, "
                    "and the models of an ensemble share one process, which imports one of them; rename the other"
                )


def _code(path: Path) -> list[Path]:
    """Return the Python files that a name beside a model stands for: a module, or the modules of a package."""
    return sorted(path.rglob("*.py")) if path.is_dir() else [path] if path.suffix == ".py" else []


def _python_folders(entry: Mapping[str, Any], folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the folder and the name of the file of every Python model among the steps, and those of the ensembles among them."""
    for path in sorted({step["entry"] for step in entry["steps"]}):
        inner = json.loads((folder / path).read_bytes())
        here = (folder / path).parent
        if "steps" in inner:
            yield from _python_folders(inner, here)
        elif inner["backend"] == "python":
            yield (here / inner["file"]).parent, Path(inner["file"]).name
