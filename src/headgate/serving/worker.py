"""The worker: a loaded model, and one batch after the other through it, or one answer in parts.

Replica side: standard library, NumPy and the runtimes. It knows no socket.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headgate import plugins
from headgate.errors import HeadgateError, InvalidRequest, ModelFailed
from headgate.runtimes.base import Arrays, BySignature, InvalidInput, RowsFailed, Runtime, named, said
from headgate.serving.dryrun import first_parts
from headgate.serving.example import documents, read_example
from headgate.serving.link import Message, Packed
from headgate.tensors import BY_CODE, DTYPES, DType, dtype_of, elements, from_numpy, to_numpy

_KINDS = {"bool": "b", "int": "iub", "uint": "iub", "float": "fiub", "bytes": "OSU"}
"""Kind of a dtype that was promised -> NumPy's kinds that become it without loss; sizes are the model's own matter."""


class Computed(NamedTuple):
    """What became of one batch."""

    outputs: list[Packed]
    """None where every row failed."""
    nanoseconds: int
    """That the model took."""
    faults: Mapping[int, HeadgateError]
    """By row, of a model that is called for each; the outputs have anything at all in their place."""
    invalid: list[int]
    """Rows with NaN or infinity in an output, if that was asked."""


class _Signed:
    """One signature of the model, and the model as it is run by it."""

    def __init__(self, signature: Mapping[str, Any], runtime: Runtime) -> None:
        self.runtime = runtime
        self.inputs: Sequence[Mapping[str, Any]] = signature["inputs"]
        self.names: list[str] = [spec["name"] for spec in self.inputs]
        self.outputs = [(spec["name"], DTYPES[spec["dtype"]], tuple(spec["shape"])) for spec in signature["outputs"]]
        self.batched: bool = signature.get("batched", False)


class Worker:
    """The model of one package."""

    def __init__(self, package: Path, *, device: str, threads: int) -> None:
        manifest: dict[str, Any] = json.loads((package / "manifest.json").read_bytes())
        self._package = package
        self._entry: str = manifest["entry"]
        self._device = device
        self._threads = threads
        signature: dict[str, Any] = manifest["signature"]
        self.streams: bool = signature.get("streams", False)
        """The model answers in parts: `stream` is called, not `run`."""
        self._runtime: Runtime = plugins.load("headgate.runtimes", manifest["runtime"])()
        further = [_Signed(each, BySignature(self._runtime, each["name"])) for each in signature.get("further", ())]
        self._signatures = [_Signed(signature, self._runtime), *further]
        """By their numbers."""

    def load(self) -> None:
        """Load the model and run it once, so that the first request finds it warm. Whatever it raises is why it cannot be served.

        The package's input example must run and give what the signature promises; made-up input may be refused.
        """
        path, _, attribute = self._entry.partition(":")
        self._runtime.load(self._package / "files" / path, attribute=attribute, device=self._device, threads=self._threads)
        first, *further = self._signatures
        example = self._package / "example.json"
        if example.exists():
            self._dry_run(first, read_example(example))
        else:
            self._warm_up(first)
        for each in further:
            self._warm_up(each)

    def run(self, message: Message, *, check: bool = False) -> Computed:
        """Run one batch; ``check`` looks for NaN and infinity in what comes out.

        Raises `InvalidRequest` if the model blames the input and `ModelFailed` for everything else it raises, or if what it returns is
        not what the signature promises.
        """
        by = self._signatures[message.signature]
        inputs, parameters = _read(message, by)
        faults: dict[int, HeadgateError] = {}
        started = time.perf_counter_ns()
        try:
            outputs = by.runtime.predict(inputs, parameters)
        except RowsFailed as failed:
            outputs, faults = failed.outputs, {row: _fault(error) for row, error in failed.errors.items()}
        except Exception as error:
            fault = _fault(error)
            raise fault from fault.__cause__
        taken = time.perf_counter_ns() - started
        found = _pack_all(outputs, by, message.rows if by.batched else None) if outputs or not faults else []
        return Computed(found, taken, faults, _invalid(outputs, by.batched) if check else [])

    def stream(self, message: Message) -> Generator[tuple[list[Packed], int], None, int]:
        """Run one request of a model that answers in parts; ``message`` must stay valid to the end.

        Yields the outputs of each part, and the nanoseconds the model took so far; returns those of the whole. Raises as `run` does.
        Closing it closes the model's generator.
        """
        by = self._signatures[message.signature]
        inputs, parameters = _read(message, by)
        taken = 0
        parts = by.runtime.stream(inputs, parameters)
        try:
            while True:
                started = time.perf_counter_ns()
                try:
                    outputs = next(parts, None)
                except Exception as error:
                    fault = _fault(error)
                    raise fault from fault.__cause__
                taken += time.perf_counter_ns() - started
                if outputs is None:
                    return taken
                yield _pack_all(outputs, by, None), taken
        finally:
            _close(parts)

    def unload(self) -> None:
        """Let go of the model."""
        self._runtime.unload()

    def _dry_run(self, by: _Signed, example: Arrays) -> None:
        """Run the package's example. Raises `ModelFailed` if that fails, or if the answer is not what the signature promises."""
        inputs = {spec["name"]: _as_input(spec, array) for spec in by.inputs if (array := named(example, spec["name"])) is not None}
        rows = len(next(iter(inputs.values()))) if by.batched and inputs else None
        try:
            answers = self._try(by.runtime, inputs)
        except Exception as error:
            raise ModelFailed(f"the model fails on the package's own example: {said(error)}") from error
        for outputs in answers:
            try:
                _pack_all(outputs, by, rows)
                for name, dtype, _ in by.outputs:
                    _check_dtype(name, dtype, outputs[name])
            except (ModelFailed, TypeError, ValueError) as error:
                raise ModelFailed(f"on the package's own example: {error}") from error

    def _try(self, runtime: Runtime, inputs: Arrays) -> list[Arrays]:
        """Run the model, and return its answer, or the first parts of it."""
        return first_parts(runtime, inputs) if self.streams else [runtime.answer(inputs)]

    def _warm_up(self, by: _Signed) -> None:
        """One batch of what the model says it takes, else of ones. It may refuse what is made up: only a crash or a hang counts here."""
        try:
            self._try(by.runtime, by.runtime.sample() or _ones(by.inputs))
        except Exception as error:
            print(f"warm-up on made-up input failed, which may be right: {type(error).__name__}: {error}", flush=True)


def _read(message: Message, by: _Signed) -> tuple[Arrays, dict[str, Any]]:
    """Return what a message holds: inputs and parameters."""
    inputs: Arrays = {}
    try:
        for index, dtype, shape, data in message.tensors:
            inputs[by.names[index]] = to_numpy(BY_CODE[dtype], shape, data)
    except ValueError as error:
        raise InvalidRequest(f"an input cannot be read as the array its shape says: {error}") from error
    return inputs, json.loads(message.extra) if message.extra else {}


def _pack_all(outputs: Arrays, by: _Signed, rows: int | None) -> list[Packed]:
    return [packed(index, name, dtype, shape, outputs, rows) for index, (name, dtype, shape) in enumerate(by.outputs)]


def packed(index: int, name: str, dtype: DType, shape: tuple[int, ...], outputs: Arrays, rows: int | None) -> Packed:
    """Return output ``name`` of an answer, ``rows`` of them where there is a batch axis. Raises `ModelFailed` if it is not as promised."""
    array = outputs.get(name)
    if array is None:
        raise ModelFailed(f"the model returned no output {name!r}, which its signature promises; it returned {sorted(outputs)}")
    if array.shape != shape:
        promised = shape if rows is None else (rows, *shape[1:])
        if array.ndim != len(shape) or any(want not in (-1, size) for want, size in zip(promised, array.shape, strict=True)):
            raise ModelFailed(f"output {name!r} has shape {list(array.shape)}, its signature promises {list(promised)}")
    if array.dtype.kind not in _KINDS[dtype.kind]:
        raise ModelFailed(f"output {name!r} is {array.dtype}, its signature promises {dtype.name}: nothing is cut to fit")
    data = from_numpy(dtype, array)
    return Packed(index, dtype.code, array.shape, (data,), len(data))


def _ones(specs: Sequence[Mapping[str, Any]]) -> Arrays:
    inputs: Arrays = {}
    for spec in specs:
        if spec.get("optional"):
            continue
        dtype, shape = DTYPES[spec["dtype"]], [1 if size < 0 else size for size in spec["shape"]]
        if dtype.size:
            inputs[spec["name"]] = np.ones(shape, dtype=_numpy_of(dtype))
        else:
            word = b"{}" if spec.get("content") == "json" else b"a"
            inputs[spec["name"]] = np.array([word] * elements(shape), dtype=object).reshape(shape)
    return inputs


def _fault(error: BaseException) -> HeadgateError:
    """Return what is said of what a model raised, its cause being what goes to the log: nothing where it is the caller's fault."""
    if isinstance(error, InvalidInput):
        return InvalidRequest(str(error))
    failed = ModelFailed(f"the model raised {type(error).__name__}: {error}")
    failed.__cause__ = error
    return failed


def _invalid(outputs: Arrays, batched: bool) -> list[int]:
    """Return the rows in which an output is NaN or infinite; of a model without a batch axis, which is one row, 0."""
    rows: set[int] = set()
    for array in outputs.values():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1) if batched and array.size else np.array([True])
            rows.update(np.flatnonzero(bad).tolist())
    return sorted(rows)


def _close(parts: Generator[Arrays, None, None]) -> None:
    """Close what a model yields; nobody waits for what it raises meanwhile, so that goes to the log."""
    try:
        parts.close()
    except Exception:
        traceback.print_exc()


def _as_input(spec: Mapping[str, Any], array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Give one input of an example the rank and dtype of the signature; packaging has checked that it fits."""
    rank = len(spec["shape"])
    array = documents(array) if spec.get("content") == "json" else array
    if array.ndim == rank + 1:  # one row, and the model has no batch axis
        array = array[0]
    elif array.ndim == rank - 1:  # one row without its batch axis
        array = array[None]
    return array.astype(_numpy_of(DTYPES[spec["dtype"]]))


def _check_dtype(name: str, dtype: DType, array: np.ndarray[Any, Any]) -> None:
    """Check what is cast in every batch, and not looked at there. Raises `ModelFailed`."""
    given = dtype_of(array)
    if given != ("FP32" if dtype.name == "BF16" else dtype.name):
        raise ModelFailed(f"output {name!r} is {given}, its signature promises {dtype.name}")


def _numpy_of(dtype: DType) -> str:
    return "float32" if dtype.name == "BF16" else dtype.numpy
