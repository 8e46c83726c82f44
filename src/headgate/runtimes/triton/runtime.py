"""The runtime of a package whose entry describes a model of a Triton repository; `headgate.package.folders.triton.entry` says how."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headgate.errors import UnsupportedModel
from headgate.runtimes.base import Arrays, Described, Runtime, said
from headgate.runtimes.triton.declared import Declared, declared
from headgate.runtimes.triton.ensemble import EnsembleModel
from headgate.runtimes.triton.frameworks import FrameworkModel, lacking
from headgate.runtimes.triton.python_models import PythonModel
from headgate.runtimes.triton.sequences import Sequences
from headgate.runtimes.triton.warmup import made

ENTRY_SUFFIX = ".triton"


class TritonRuntime(Runtime):
    """ONNX, TorchScript and SavedModels by the runtimes that load them, ``TritonPythonModel`` by itself, ensembles of all of these."""

    title = "Triton"

    @classmethod
    def claims(cls, path: Path) -> bool:
        """Whether ``path`` is the entry of such a package; the ending is not told to users, who have no such file to name."""
        return path.is_file() and path.suffix == ENTRY_SUFFIX

    def load(self, path: Path, *, attribute: str, device: str, threads: int) -> None:
        """Load the model that the entry at ``path`` names, and run its warm-up. Raises `UnsupportedModel` where they contradict."""
        entry: dict[str, Any] = json.loads(path.read_bytes())
        folder = path.resolve().parent
        if "steps" in entry:
            self._model: EnsembleModel | FrameworkModel | PythonModel = EnsembleModel(entry, folder, device=device, threads=threads)
        elif entry["runtime"]:
            self._model = FrameworkModel(entry, folder, device=device, threads=threads)
        else:
            self._model = PythonModel(entry, folder, device=device)
            entry = self._model.entry
        self.pure, self.platform = self._model.pure, self._model.platform  # type: ignore[misc]
        self._streams: bool = entry["decoupled"]
        self._most: int = entry["max_batch_size"] or 0
        self._found: Described | None = None
        self._sequences: Sequences | None = None
        inputs, self._outputs = (tuple(map(declared, entry[key])) for key in ("input", "output"))
        if "sequence" in entry:
            self._keep_state(entry["sequence"], inputs, folder)
        elif entry["max_batch_size"] is None:
            self._found = self._model.found_out()
        else:
            inputs, self._outputs = self._model.declare(inputs, self._outputs, self._most > 0)
        self._inputs = {spec.name: spec for spec in inputs}
        self._shaped = any(spec.reshape is not None for spec in (*self._inputs.values(), *self._outputs))
        for sample in entry["warmup"]:
            self._warm_up(sample, folder)

    def describe(self, example: Arrays | None) -> Described:
        """Say what is declared; where nothing is, what the model says of itself."""
        if self._found is not None:
            return self._found
        batched = self._most > 0
        inputs = tuple(spec.spec(batched) for spec in self._inputs.values())
        outputs = tuple(spec.spec(batched) for spec in self._outputs)
        stateful = self._sequences is not None
        # A model that answers in parts has no batch axis; what its clients send has one all the same.
        return Described(
            inputs, outputs, batched and not self._streams, stateful or self._model.parameters, self._streams, stateful
        )

    def predict(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Run one batch, at most ``max_batch_size`` rows at a time, and of a sequence one, in the shapes that the model wants."""
        rows = len(next(iter(inputs.values()))) if self._most and inputs else 0
        most = self._most if self._sequences is None else 1
        if rows <= most:
            return self._run(inputs, parameters)
        starts = range(0, rows, most)
        parts = [self._run({name: a[at : at + most] for name, a in inputs.items()}, parameters) for at in starts]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def stream(self, inputs: Arrays, parameters: Mapping[str, object]) -> Generator[Arrays, None, None]:
        """Run one request of a decoupled model."""
        assert isinstance(self._model, PythonModel)
        for found in self._model.parts(self._inwards(inputs), parameters):
            yield self._outwards(found)

    def unload(self) -> None:
        """Close the model: Python's ``finalize``."""
        self._model.close()

    def _run(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        if self._found is not None:
            return self._model.run(inputs, parameters)
        inwards = self._inwards(inputs)
        if self._sequences is not None:
            return self._outwards(self._go_on(self._sequences, inwards, parameters))
        return self._outwards(self._model.answers(self._outputs, self._model.run(inwards, parameters)))

    def _keep_state(self, fields: Mapping[str, Any], inputs: tuple[Declared, ...], folder: Path) -> None:
        """Be a model with sequences. Raises `UnsupportedModel` for what it cannot be besides, and where the model is another."""
        if self._streams or (self.pure and isinstance(self._model, PythonModel)):
            what = "answer in parts (decoupled)" if self._streams else "be run again (idempotent = True)"
            raise UnsupportedModel(
                f"sequence_batching: a model that keeps state from request to request cannot {what}; leave one out"
            )
        if not inputs or not self._outputs:
            what = "output" if inputs else "input"
            raise UnsupportedModel(f"{what}: it is missing; with sequence_batching, what clients send and get must be declared")
        self.pure = False
        self._sequences = Sequences(fields, folder, batched=self._most > 0)
        shown = {spec.name for spec in self._outputs}
        self._given = (*self._outputs, *(spec for spec in self._sequences.outputs if spec.name not in shown))
        self._model.declare((*inputs, *self._sequences.inputs), self._given, self._most > 0)

    def _go_on(self, sequences: Sequences, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Run one request of a sequence. What a warm-up gives for a control stands before what it would be."""
        turn = sequences.turn(parameters)
        found = self._model.answers(self._given, self._model.run({**turn.inputs, **inputs}, turn.parameters))
        sequences.answered(turn, found)
        return {spec.name: found[spec.name] for spec in self._outputs if spec.name in found}

    def _inwards(self, inputs: Arrays) -> Arrays:
        if not self._shaped:
            return inputs
        own = {name: self._inputs[name].inwards(inputs[name], self._most > 0) for name in self._inputs if name in inputs}
        return {**inputs, **own}

    def _outwards(self, found: Arrays) -> Arrays:
        for spec in self._outputs:
            if spec.name not in found:
                raise lacking(spec.name, found)
        if not self._shaped:
            return found
        return {spec.name: spec.outwards(found[spec.name], self._most > 0) for spec in self._outputs}

    def _warm_up(self, sample: Mapping[str, Any], folder: Path) -> None:
        """Run one warm-up sample. Raises `UnsupportedModel` if it fails: the model would not be warm, or does not work."""
        try:
            controls = [] if self._sequences is None else [spec.name for spec in self._sequences.inputs]
            unknown = sorted(set(sample["inputs"]) - {*self._inputs, *controls})
            if unknown:
                raise ValueError(f"there is no input {unknown[0]!r}, but {sorted(self._inputs)}")
            rows = (sample["rows"],) if self._most else ()
            inputs = {name: made(given, rows, folder) for name, given in sample["inputs"].items()}
            for _ in range(sample["count"]):
                if self._streams:
                    list(self.stream(inputs, {}))
                else:
                    self.predict(inputs, {})
        except Exception as error:
            raise UnsupportedModel(f"model_warmup[{sample['name']!r}] fails: {said(error)}") from error
