"""The contract of a runtime: how one framework loads a model and runs a batch.

A runtime is one file on this shelf. It runs in the replica, in the package's own Python environment, which may lack everything
but NumPy and the framework: so this file and every runtime import the standard library and NumPy at most, and the framework only
inside methods. The suite `headgate.testing.runtimes` checks every runtime it finds against this contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    import numpy as np

Arrays = dict[str, "np.ndarray[Any, Any]"]


class TensorInfo(NamedTuple):
    """One input or output as the runtime reports it. -1 in ``shape`` varies; the batch axis, if any, is the first."""

    name: str
    dtype: str
    """Open Inference Protocol name."""
    shape: tuple[int, ...]
    optional: bool = False


class Described(NamedTuple):
    """What a loaded model takes and gives."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...] | None
    """None: not known without running it; the dry run fills it in."""
    batched: bool | None
    """Axis 0 of everything is a batch of independent rows; None: the dry run decides."""
    parameters: bool = False
    """``predict`` wants the request's parameters."""


class NeedsExample(Exception):
    """The model does not say what it takes: packaging must be given an input example. The text says so to the user."""


class InvalidInput(Exception):
    """Raise from ``predict`` (Python models may too) to say that the input is at fault: the client gets a 400, not a 500."""


class Runtime(ABC):
    """One loaded model. Construction is cheap; `load` does the work; one thread calls everything.

    ``predict`` must not change its inputs, and for batched models must give the same answer for a row whatever its neighbours.
    """

    title: ClassVar[str]
    """For people: ``ONNX``."""
    suffixes: ClassVar[frozenset[str]] = frozenset()
    """File name endings it loads, lower case, with the dot."""
    pickled: ClassVar[frozenset[str]] = frozenset()
    """Those of ``suffixes`` whose loading can run code: they need --trust-pickle."""
    requires: ClassVar[tuple[str, ...]] = ()
    """Modules that must be importable: ``("onnxruntime",)``."""
    extra: ClassVar[str] = ""
    """Headgate's extra that brings them: ``onnx`` for ``headgate[onnx]``."""
    pure: ClassVar[bool] = True
    """A batch may be run again after a crash. Python models say so themselves by ``idempotent``."""

    @classmethod
    def claims(cls, path: Path) -> bool:
        """Whether this runtime loads ``path`` (a file or folder), judged cheaply: by name, or by the first bytes where names clash."""
        return path.is_file() and path.suffix.lower() in cls.suffixes

    @abstractmethod
    def load(self, path: Path, *, attribute: str, device: str, threads: int) -> None:
        """Load the model.

        ``attribute`` is what followed the colon of the entry (``Ranker``), else empty. ``device`` is ``cpu`` or ``cuda:N``.
        ``threads`` is the number of compute threads; the environment variables that frameworks read are already set to it.
        Any exception is a refusal: its text is shown to the user.
        """

    @abstractmethod
    def describe(self, example: Arrays | None) -> Described:
        """Say what the loaded model takes and gives. Raises `NeedsExample` if it cannot without ``example``."""

    @abstractmethod
    def predict(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Run one batch.

        ``inputs`` have the dtypes and shapes of the signature (BYTES: object arrays of `bytes`; BF16: float32) and may be
        read-only. Optional inputs may be absent. Returns every output of the signature.
        """

    def unload(self) -> None:
        """Let go of the model. The process usually ends right after."""
        return


CONTRACT = Runtime
