"""What goes into a model and what comes out: names, dtypes, shapes, and the batch axis.

Shapes hold every dimension; -1 is one that varies. In a batched signature the first dimension of every input and output is the
batch axis and is -1; rows along it are independent of each other (packaging has checked that by a dry run, or the user said so).
"""

from __future__ import annotations

import msgspec


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One input or output."""

    name: str
    dtype: str
    """An Open Inference Protocol name: ``FP32``, ``INT64``, ``BYTES``, ..."""
    shape: tuple[int, ...]
    """Every dimension, the batch axis included; -1 varies; ``()`` is a scalar."""
    optional: bool = False
    """May be left out of a request."""
    content: str = ""
    """What the elements of a BYTES tensor are, where protocols that speak JSON must know: ``json``, a JSON document each (a client sends
    and gets the value itself); ``binary``, any bytes (base64 where a protocol says so); empty: text."""
    labels: tuple[str, ...] = ()
    """Of an output, what the classes are called that its values are scores of, by their number; empty where there is no name."""


class Signature(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Inputs and outputs in the model's own order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool = False
    """Axis 0 of every input and output is the batch, and rows are independent."""
    parameters: bool = False
    """The model looks at the parameters of a request (only Python models do)."""
    stateful: bool = False
    """The model keeps state between the requests of a sequence: each is bound to one replica, and says where it starts and ends."""
    streams: bool = False
    """The model answers in parts, any number of them, each with every output; one request at a time, never batched."""
    answers: str = ""
    """How protocols that answer with a whole table (MLflow's) lay it out: ``records``, an object with all outputs for each row;
    ``columns``, the outputs by name, each whole; empty: one value for each row where there is one output, else ``records``."""
    name: str = ""
    """What the framework calls it, where it has names for signatures; empty: what is meant where nobody says which."""
    method: str = ""
    """What the framework says it was saved for: ``classify`` or ``regress``; empty: nothing in particular."""
    further: tuple[Signature, ...] = ()
    """Others by which the same model can be run. Each has a name, and none has further ones."""

    @property
    def each(self) -> tuple[Signature, ...]:
        """This one and the further ones. The place is the number by which a batch says which one it is for."""
        return (self, *self.further)

    def input(self, name: str) -> TensorSpec | None:
        """Return the input called ``name``, or None."""
        return next((spec for spec in self.inputs if spec.name == name), None)

    def output(self, name: str) -> TensorSpec | None:
        """Return the output called ``name``, or None."""
        return next((spec for spec in self.outputs if spec.name == name), None)
