"""Sequences: what a model with ``sequence_batching`` is fed beside what its client sends, and the state that is kept for it.

The gateway brings the requests of a sequence to one replica, one by one, from its START on (`headgate.serving.sequences`). It does not
say that a sequence is over because nobody went on with it. So as many are kept here as may be open at a time, and one that starts takes
the place of the one that nobody has gone on with for longest. If that was not over after all, it must be started again: no sequence
is ever answered from the state of another.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headgate.errors import ModelFailed, UnsupportedModel
from headgate.runtimes.base import Arrays, InvalidInput, said
from headgate.runtimes.triton.declared import Declared
from headgate.runtimes.triton.warmup import made
from headgate.tensors import DTYPES, dtype_of

ID, START, END = "sequence_id", "sequence_start", "sequence_end"
"""Parameters of a request."""
_ALONE = {ID: 0, START: True, END: True}
"""What a dry run and a warm-up are: a sequence of one request, under an id that no client has."""
KEPT = 1024
"""Sequences whose state one replica keeps."""
Key = int | str


class Control(NamedTuple):
    """An input by which the model is told of the sequence: one element a row."""

    name: str
    kind: str
    """``start``, ``end``, ``ready`` or ``id``."""
    dtype: str
    values: list[Any]
    """What says no and what says yes; of an id, nothing."""

    def array(self, key: Key, start: bool, end: bool, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """Return the input. Raises `InvalidInput` for an id that is a text where the model takes numbers."""
        if self.kind != "id":
            yes = {"start": start, "end": end, "ready": True}[self.kind]
            return np.full(shape, self.values[yes], DTYPES[self.dtype].numpy)
        if self.dtype == "BYTES":
            return np.full(shape, str(key).encode(), object)
        if isinstance(key, str):
            raise InvalidInput(
                f"parameter '{ID}': the model takes numbers ({self.name!r} is {self.dtype}), got the text {key[:50]!r}"
            )
        # As Triton does, the low bits of a number that the type has no room for.
        return np.full(shape, key, np.uint64).astype(DTYPES[self.dtype].numpy)


class State(NamedTuple):
    """An output that is the input of the sequence's next request."""

    input: str
    output: str
    dtype: str
    dims: tuple[int, ...]
    """Without the batch axis; -1 varies."""
    first: np.ndarray[Any, Any]
    """What a sequence starts with, one row without a batch axis."""

    def start(self, lead: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """Return the input of a first request, an array of its own: models may write to it."""
        return np.broadcast_to(self.first, (*lead, *self.first.shape)).copy()

    def taken(self, found: Arrays, lead: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """Return the state that a model has given, copied out of whatever memory it lies in. Raises `ModelFailed` if it is none."""
        if self.output not in found:
            raise ModelFailed(f"the model gave no state {self.output!r}, which config.pbtxt declares; it gave {sorted(found)}")
        array = np.array(found[self.output])
        wanted, given = (*lead, *self.dims), dtype_of(array)
        if given != ("FP32" if self.dtype == "BF16" else self.dtype):
            raise ModelFailed(f"the model gave the state {self.output!r} as {given}, config.pbtxt declares {self.dtype}")
        if array.ndim != len(wanted) or any(want not in (-1, size) for want, size in zip(wanted, array.shape, strict=True)):
            raise ModelFailed(f"the model gave the state {self.output!r} with shape {list(array.shape)}, not {list(wanted)}")
        return array


class Turn(NamedTuple):
    """One request of a sequence."""

    key: Key
    ends: bool
    inputs: Arrays
    """What no client sends: controls and state."""
    parameters: Mapping[str, object]
    """Those of the request, with the sequence that it belongs to."""


class Sequences:
    """The sequences of one loaded model; ``sequence`` of the package's entry says what it wants to know of them."""

    def __init__(self, fields: Mapping[str, Any], folder: Path, *, batched: bool) -> None:
        """Read the initial states. Raises `UnsupportedModel` where a file is not there, or is too short or too long."""
        self._controls = [Control(**control) for control in fields["controls"]]
        self._states = [_state(state, folder) for state in fields["states"]]
        self._lead = (1,) if batched else ()
        """The batch axis: a request of a sequence has one row."""
        self._most: int = fields["slots"] or (KEPT if self._states else 0)
        """0: the model keeps what it wants to, under the ids it is told."""
        self._kept: OrderedDict[Key, Arrays] = OrderedDict()
        """The state inputs of each sequence's next request; the one that was used last stands last."""
        self.inputs = tuple(
            [Declared(control.name, control.dtype, (1,)) for control in self._controls]
            + [Declared(state.input, state.dtype, state.dims) for state in self._states]
        )
        """Of the model, that no client sends."""
        self.outputs = tuple(Declared(state.output, state.dtype, state.dims) for state in self._states)
        """Of the model, that are its state."""

    def turn(self, parameters: Mapping[str, object]) -> Turn:
        """Take a request in. Raises `InvalidInput` for one that goes on with a sequence that is not kept."""
        told: dict[str, Any] = {**_ALONE, **parameters}
        key, start, end = told[ID], told[START], told[END]
        controls = {control.name: control.array(key, start, end, (*self._lead, 1)) for control in self._controls}
        if self._most and not start and key not in self._kept:
            raise InvalidInput(
                f"inference request for sequence {key} must specify the START flag on the first request of the sequence: a replica keeps "
                f"{self._most} at a time, and has given its place to another"
            )
        state = {state.input: state.start(self._lead) for state in self._states} if start else self._kept.get(key, {})
        if self._most:
            self._keep(key, state)
        if end:
            self._kept.pop(key, None)
        return Turn(key, end, {**controls, **state}, told)

    def answered(self, turn: Turn, found: Arrays) -> None:
        """Keep the state that the model has given, for the next request. Raises `ModelFailed` if it is not what was declared."""
        state = {state.input: state.taken(found, self._lead) for state in self._states}
        if state and not turn.ends:
            self._keep(turn.key, state)

    def _keep(self, key: Key, state: Arrays) -> None:
        self._kept[key] = state
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)


def _state(fields: Mapping[str, Any], folder: Path) -> State:
    try:
        first = made({"dtype": fields["dtype"], **fields["first"]}, (), folder)
    except (OSError, ValueError) as error:
        raise UnsupportedModel(f"sequence_batching.state[{fields['input']!r}].initial_state: {said(error)}") from error
    return State(fields["input"], fields["output"], fields["dtype"], tuple(fields["dims"]), first)
