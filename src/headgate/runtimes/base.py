"""The contract of a runtime: how one framework loads a model and runs a batch.

A runtime is one file on this shelf. It runs in the replica, in the package's own Python environment, which may lack everything
but NumPy and the framework: so this file and every runtime import the standard library and NumPy at most, and the framework only
inside methods. The suite `headgate.testing.runtimes` checks every runtime it finds against this contract.
"""

from __future__ import annotations

import importlib
import os
import traceback
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from headgate import plugins
from headgate.errors import MissingDependency, UnsupportedModel

if TYPE_CHECKING:
    import numpy as np

Arrays = dict[str, "np.ndarray[Any, Any]"]


class TensorSpec(NamedTuple):
    """One input or output as the runtime reports it. -1 in ``shape`` varies; the batch axis, if any, is the first."""

    name: str
    dtype: str
    """Open Inference Protocol name."""
    shape: tuple[int, ...]
    optional: bool = False
    content: str = ""
    """What the elements of BYTES are, where it is not text: ``json``, a document each; ``binary``, any bytes."""


class Described(NamedTuple):
    """What a loaded model takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...] | None
    """None: not known without running it; the dry run fills it in."""
    batched: bool | None
    """Axis 0 of everything is a batch of independent rows; None: the dry run decides."""
    parameters: bool = False
    """``predict`` wants the request's parameters."""
    streams: bool = False
    """It answers in parts: `Runtime.stream` is called, for one request at a time, and there is no batch axis."""
    stateful: bool = False
    """It keeps state between the requests of a sequence, and its parameters say to which one a request belongs."""
    name: str = ""
    """Of the signature, where the framework has names for them; empty: what is meant where nobody says which."""
    method: str = ""
    """What the framework says the signature was saved for: ``classify`` or ``regress``."""
    further: tuple[Described, ...] = ()
    """The other signatures by which the model can be run (`Runtime.predict_by`); each has a name."""
    remarks: tuple[str, ...] = ()
    """Sentences about the signatures, for people: which cannot be served, and why."""


class NeedsExample(Exception):
    """The model does not say what it takes: packaging must be given an input example. The text says so to the user."""


class InvalidInput(Exception):
    """Raise from ``predict`` (Python models may too) to say that the input is at fault: the client gets a 400, not a 500.

    It says too that nothing has been done with the input yet: a batch that is refused so is run again without the one at fault, also
    where the model is not declared idempotent.
    """


class RowsFailed(Exception):
    """Raised by `Runtime.predict` of a model that is called for each row: some rows failed, and the others have their answers."""

    def __init__(self, outputs: Arrays, errors: Mapping[int, BaseException]) -> None:
        """``outputs`` has every row, anything at all in place of those that failed; empty where all did. ``errors``: by row, not empty."""
        super().__init__(outputs, errors)
        self.outputs = outputs
        self.errors = errors


def said(error: BaseException | None) -> str:
    """Return in words what a model raised, and where in its own code; of a file that is not there, what brings it into the package."""
    here = f"{os.getcwd()}/"  # the folder of the model's code: see `headgate.serving.bootstrap`
    frames = traceback.extract_tb(error.__traceback__ if error else None)
    own = [f" [{frame.filename.removeprefix(here)}, line {frame.lineno}]" for frame in frames if frame.filename.startswith(here)]
    text = f"{type(error).__name__}: {error}{own[-1] if own else ''}"
    if isinstance(error, FileNotFoundError):
        text += "; data files go into the package only where they are named (--include FILE), and keep their place beside the code"
    return text


def named(example: Arrays | None, name: str) -> np.ndarray[Any, Any] | None:
    """Return what ``example`` gives for the input ``name``, or None.

    An example that is a bare list names no input: its only key is the empty string, and it stands for whichever input is asked for.
    """
    if example is None:
        return None
    return example.get("") if set(example) == {""} else example.get(name)


def decoded(name: str, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a BYTES array as an object array of `str`; all others as they are. Raises `InvalidInput` if it is not UTF-8."""
    if array.dtype != object:
        return array
    text = array.copy()
    try:
        text.ravel()[:] = [item.decode() if isinstance(item, bytes) else item for item in array.ravel().tolist()]
    except UnicodeDecodeError as error:
        raise InvalidInput(f"input {name!r} is not UTF-8 text: {error}") from error
    return text


def codes(name: str, array: np.ndarray[Any, Any], known: Mapping[object, int]) -> np.ndarray[Any, Any]:
    """Return the numbers that ``known`` gives to the categories in ``array``, as float32; NaN for those it does not know."""
    import numpy as np

    numbers = [known.get(item, np.nan) for item in decoded(name, array).ravel().tolist()]
    return np.array(numbers, dtype=np.float32).reshape(array.shape)


class Runtime(ABC):
    """One loaded model. Construction is cheap; `load` does the work; one thread calls everything.

    ``predict`` must not change its inputs, and for batched models must give the same answer for a row whatever its neighbours.
    """

    title: ClassVar[str]
    """For people: ``ONNX``."""
    platform: ClassVar[str] = ""
    """The ``platform`` of Open Inference Protocol metadata, ``<project>_<format>``; empty: the name on the shelf."""
    suffixes: ClassVar[frozenset[str]] = frozenset()
    """File name endings it loads, lower case, with the dot."""
    pickled: ClassVar[frozenset[str]] = frozenset()
    """Those of ``suffixes`` whose loading can run code: they need --trust-pickle."""
    safer: ClassVar[str] = ""
    """What to save instead of a pickle, one sentence for the refusal: ``Save it with skops.io.dump(model, "model.skops").``"""
    requires: ClassVar[tuple[str, ...]] = ()
    """Modules that must be importable: ``("onnxruntime",)``."""
    extra: ClassVar[str] = ""
    """Headgate's extra that brings them, as in pyproject.toml: ``onnx``."""
    pure: bool = True
    """A batch may be run again after a crash. Python models say so themselves by ``idempotent``; valid once loaded."""
    answers: str = ""
    """How tables of answers are laid out, as in the package's signature; valid once the model has run."""
    contents: Mapping[str, str] = MappingProxyType({})
    """`TensorSpec.content` of the outputs that `describe` does not declare; valid once the model has run."""

    @classmethod
    def claims(cls, path: Path) -> bool:
        """Whether this runtime loads ``path`` (a file or folder), judged cheaply: by name, or by the first bytes where names clash."""
        return path.is_file() and path.suffix.lower() in cls.suffixes

    @classmethod
    def runs_code(cls, path: Path) -> bool:
        """Whether loading ``path``, which this runtime claims, can run code that is in it: then it needs --trust-pickle."""
        return path.suffix.lower() in cls.pickled

    @classmethod
    def framework(cls, module: str) -> Any:
        """Import ``module``. Raises `MissingDependency`, naming the command that installs it."""
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            missing = (error.name or module).partition(".")[0]
            own = missing in {name.partition(".")[0] for name in cls.requires}
            install = plugins.install_command(cls.extra, missing) if own else f"pip install {missing}"
            raise MissingDependency(
                f"{cls.title} models need the Python module {missing!r}, which is not installed where this model runs. Install it beside "
                f"Headgate: {install}; or name it in the model's requirements, and it gets an environment of its own: --requirements FILE"
            ) from error

    @classmethod
    def unreadable(cls, path: Path, words: object) -> UnsupportedModel:
        """Return the refusal of a file that the framework does not take, with the first line of what it says."""
        line = str(words).strip().partition("\n")[0][:300].rstrip(".")
        return UnsupportedModel(
            f"{cls.title} cannot load {path.name}: {line}. Is it damaged, half copied or of another version? Save or copy it again"
        )

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

    def sample(self) -> Arrays | None:
        """Return rows (axis 0) that the loaded model surely takes, where it knows some, such as the categories it was trained on."""
        return None

    @abstractmethod
    def predict(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Run one batch.

        ``inputs`` have the dtypes and shapes of the signature (BYTES: object arrays of `bytes`; BF16: float32) and may be
        read-only. Optional inputs may be absent. Returns every output of the signature (BYTES: object arrays of `bytes` or `str`).
        Raises `RowsFailed` where some rows alone failed, `InvalidInput` where the input is at fault, else whatever it likes.
        """

    def answer(self, inputs: Arrays) -> Arrays:
        """Return what `predict` gives for ``inputs``, all rows of it: the first row's error is raised as it is."""
        try:
            return self.predict(inputs, {})
        except RowsFailed as failed:
            raise next(iter(failed.errors.values())) from None

    def predict_by(self, signature: str, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Run one batch by the further signature of that name, as `predict` does by the first."""
        raise NotImplementedError(f"{self.title} models have one signature")

    def stream(self, inputs: Arrays, parameters: Mapping[str, object]) -> Generator[Arrays, None, None]:
        """Run one request of a model that is described as one that answers in parts; ``inputs`` as for `predict`, valid to the end.

        Yields any number of parts, each with every output of the signature. It is closed early where nobody waits for further ones.
        """
        raise NotImplementedError(f"{self.title} models give their answer as a whole")

    def unload(self) -> None:
        """Let go of the model. The process usually ends right after."""
        return


class BySignature(Runtime):
    """A loaded model as it is run by one of its further signatures. Nothing is loaded twice: it is there as long as the model is."""

    title = "one signature of a model"

    def __init__(self, model: Runtime, name: str) -> None:
        self._model = model
        self._name = name

    def load(self, path: Path, *, attribute: str, device: str, threads: int) -> None:
        """Nothing to do."""

    def describe(self, example: Arrays | None) -> Described:
        """Return what the model says of this signature."""
        return next(each for each in self._model.describe(example).further if each.name == self._name)

    def predict(self, inputs: Arrays, parameters: Mapping[str, object]) -> Arrays:
        """Run one batch by this signature."""
        return self._model.predict_by(self._name, inputs, parameters)


CONTRACT = Runtime
