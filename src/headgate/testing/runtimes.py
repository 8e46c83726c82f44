"""The conformance suite of the shelf ``headgate.runtimes``: what every runtime owes, checked on real models.

A `Sample` is a trained model, rows of input, and what its framework itself answers to them. Each function in `CHECKS` takes one and
raises `AssertionError` with a sentence. `write_sample` and `read_samples` keep samples in a folder, since they are made by a framework
that lives in an environment of its own; there ``bootstrap.py conform`` runs all checks and prints a line of JSON for each.
Standard library and NumPy, no pytest.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headgate import plugins
from headgate.errors import HeadgateError
from headgate.runtimes.base import Arrays, Runtime
from headgate.serving.describe import describe, load
from headgate.serving.dryrun import same

CALLS = 1000
_GROWTH = 8 << 20
"""Bytes of resident memory by which `CALLS` calls may grow: allocators keep some, leaks of one small batch a call are more."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A model, and what it answers to some rows."""

    name: str
    runtime: str
    """Name on the shelf."""
    path: Path
    inputs: Arrays
    """At least four different rows along axis 0, or one call of a model without a batch axis."""
    expected: Arrays
    """What the framework answers to ``inputs`` when it is called directly."""
    signature: dict[str, Any]
    """What packaging should find out: ``inputs``, ``outputs``, ``batched``, ``parameters``."""
    attribute: str = ""
    example: Path | None = None
    tolerance: float = 1e-5
    """Relative to the size of the answers."""

    @property
    def rows(self) -> int:
        """The number of rows of a batched model."""
        return len(next(iter(self.inputs.values())))

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of `headgate.serving.describe`."""
        example = None if self.example is None else str(self.example)
        common = {"path": str(self.path), "attribute": self.attribute, "runtime": self.runtime, "device": "cpu", "threads": 1}
        return {**common, "example": example}

    def loaded(self) -> Runtime:
        """Return the model, freshly loaded."""
        runtime: Runtime = plugins.load("headgate.runtimes", self.runtime)()
        load(runtime, self.path, self.config)
        return runtime


def write_sample(folder: Path, name: str, *, inputs: Arrays, expected: Arrays, **rest: Any) -> None:
    """Write a sample into ``folder``, where its model file lies; ``rest`` as in `Sample`, with file names relative to it."""
    arrays = {f"in.{key}": _plain(array) for key, array in inputs.items()} | {
        f"out.{key}": _plain(a) for key, a in expected.items()
    }
    with (folder / f"{name}.npz").open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    (folder / f"{name}.sample.json").write_text(json.dumps({"name": name, **rest}, indent=1))


def read_samples(folder: Path) -> Iterator[Sample]:
    """Read the samples in ``folder``, in the order of their names."""
    for path in sorted(folder.glob("*.sample.json")):
        rest = json.loads(path.read_text())
        rest["path"] = folder / rest["path"]
        rest["example"] = folder / rest["example"] if rest.get("example") else None
        with np.load(folder / f"{rest['name']}.npz") as arrays:
            inputs = {key[3:]: _objects(array) for key, array in arrays.items() if key.startswith("in.")}
            expected = {key[4:]: _objects(array) for key, array in arrays.items() if key.startswith("out.")}
        yield Sample(inputs=inputs, expected=expected, **rest)


def _plain(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array if array.dtype != object else array.astype(str)


def _objects(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if array.dtype.kind != "U":
        return array
    objects = np.empty(array.size, dtype=object)
    objects[:] = [item.encode() for item in array.ravel().tolist()]
    return objects.reshape(array.shape)


def claims_its_file(sample: Sample) -> None:
    """The shelf finds the file, and no other runtime takes it too."""
    found = [name for name, runtime in plugins.load_all("headgate.runtimes") if runtime.claims(sample.path)]
    assert found == [sample.runtime], f"{sample.path.name} is claimed by {found}"


def answers_as_its_framework(sample: Sample) -> None:
    """The answers are those of the framework called directly."""
    _assert_same(sample.loaded().predict(sample.inputs, {}), sample.expected, sample.tolerance, "the framework itself")


def is_described_as_it_behaves(sample: Sample) -> None:
    """The signature is the one that was promised, and what predict returns keeps to it."""
    found = describe(sample.config)["signature"]
    assert found == sample.signature, f"described as {found}, expected {sample.signature}"
    answer = sample.loaded().predict(sample.inputs, {})
    assert set(answer) == {spec["name"] for spec in found["outputs"]}, f"returns {sorted(answer)}, described as {found['outputs']}"
    for spec in found["outputs"]:
        shape, promised = answer[spec["name"]].shape, spec["shape"]
        fits = len(shape) == len(promised) and all(said in (-1, size) for said, size in zip(promised, shape, strict=True))
        assert fits, f"output {spec['name']!r} has shape {shape}, described as {promised}"


def keeps_rows_in_order(sample: Sample) -> None:
    """As many rows out as in, in the order they came, whatever that is."""
    runtime, order = sample.loaded(), np.random.default_rng(1).permutation(sample.rows)
    answer = runtime.predict({name: array[order] for name, array in sample.inputs.items()}, {})
    _assert_same(
        answer, {name: array[order] for name, array in sample.expected.items()}, sample.tolerance, "the same rows shuffled"
    )


def answers_a_row_alike_in_any_batch(sample: Sample) -> None:
    """A row gives the same answer alone, with one neighbour, and with all."""
    runtime = sample.loaded()
    for size in {1, 2, 3}:
        for start in range(0, sample.rows - size + 1, size):
            answer = runtime.predict({name: array[start : start + size] for name, array in sample.inputs.items()}, {})
            expected = {name: array[start : start + size] for name, array in sample.expected.items()}
            _assert_same(answer, expected, sample.tolerance, f"rows {start} to {start + size} in a batch of all")


def leaves_its_inputs_alone(sample: Sample) -> None:
    """Predict does not write into its inputs, and takes them when they cannot be written to."""
    runtime = sample.loaded()
    given = {name: array.copy() for name, array in sample.inputs.items()}
    runtime.predict(given, {})
    for name, array in given.items():
        unchanged = (
            array.tolist() == sample.inputs[name].tolist()
            if array.dtype == object
            else array.tobytes() == sample.inputs[name].tobytes()
        )
        assert unchanged, f"input {name!r} was changed"
        array.setflags(write=False)
    _assert_same(runtime.predict(given, {}), sample.expected, sample.tolerance, "writable inputs")


def loads_twice(sample: Sample) -> None:
    """Two copies in one process do not disturb each other, and one outlives the other."""
    one, other = sample.loaded(), sample.loaded()
    _assert_same(one.predict(sample.inputs, {}), sample.expected, sample.tolerance, "the framework itself")
    one.unload()
    del one
    gc.collect()
    _assert_same(other.predict(sample.inputs, {}), sample.expected, sample.tolerance, "the first copy")


def keeps_its_memory(sample: Sample) -> None:
    """A thousand calls leave no more memory in use than a few."""
    runtime = sample.loaded()
    few = {name: array[:2] for name, array in sample.inputs.items()} if sample.signature["batched"] else sample.inputs
    for _ in range(CALLS // 4):
        runtime.predict(few, {})
    gc.collect()
    before = _resident()
    for _ in range(CALLS):
        runtime.predict(few, {})
    gc.collect()
    grown = _resident() - before
    assert grown < _GROWTH, f"{CALLS} calls took {grown / 1024:.0f} KiB of memory and kept it"


def refuses_damaged_files(sample: Sample) -> None:
    """A file that is cut, empty or of something else is refused in a sentence that names it."""
    with tempfile.TemporaryDirectory() as folder:
        for kind, damage in _DAMAGES.items():
            path = Path(folder) / kind / sample.path.name
            _damaged(sample.path, path, damage)
            runtime: Runtime = plugins.load("headgate.runtimes", sample.runtime)()
            try:
                load(runtime, path, sample.config)
            except HeadgateError as error:
                text = str(error)
                assert sample.path.stem in text and "Traceback" not in text and len(text) < 1000, f"a file that is {kind}: {text}"
            else:
                raise AssertionError(f"a file that is {kind} was loaded")


_DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[: len(data) // 2] + (b"\n(" if data.isascii() else b""),  # half of a program may be a program
    "empty": lambda data: b"",
    "else": lambda data: b"\x00\xff" * 999,
}


def _damaged(source: Path, target: Path, damage: Callable[[bytes], bytes]) -> None:
    target.parent.mkdir()
    if source.is_file():
        target.write_bytes(damage(source.read_bytes()))
        return
    shutil.copytree(source, target)
    for path in (*target.glob("*.pb"), *target.glob("MLmodel")):
        path.write_bytes(damage(path.read_bytes()))


Check = Callable[[Sample], None]
CHECKS: tuple[Check, ...] = (
    claims_its_file,
    answers_as_its_framework,
    is_described_as_it_behaves,
    leaves_its_inputs_alone,
    loads_twice,
    keeps_its_memory,
    keeps_rows_in_order,
    answers_a_row_alike_in_any_batch,
    refuses_damaged_files,
)
BATCHED_ONLY: frozenset[Check] = frozenset({keeps_rows_in_order, answers_a_row_alike_in_any_batch})
"""Checks that say nothing of a model without a batch axis."""


def checks_of(sample: Sample) -> list[Check]:
    """Return the checks that apply to ``sample``."""
    return [check for check in CHECKS if sample.signature["batched"] or check not in BATCHED_ONLY]


def main() -> int:
    """Run all checks on the samples in the folder that ``HEADGATE_CONFIG`` names, a line of JSON each. Returns 1 if one failed."""
    answer_fd = os.dup(1)
    os.dup2(2, 1)
    failed = False
    for sample in read_samples(Path(json.loads(os.environ["HEADGATE_CONFIG"])["samples"])):
        for check in checks_of(sample):
            started = time.perf_counter()
            message = _outcome(check, sample)
            failed |= message is not None
            line = {"sample": sample.name, "check": check.__name__, "failure": message, "seconds": time.perf_counter() - started}
            os.write(answer_fd, json.dumps(line).encode() + b"\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(failed))  # some frameworks crash while they are taken down


def _outcome(check: Check, sample: Sample) -> str | None:
    try:
        check(sample)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    return None


def _assert_same(found: Arrays, expected: Arrays, tolerance: float, what: str) -> None:
    if not same(expected, found, tolerance):
        worst = {name: _difference(found.get(name), array) for name, array in expected.items()}
        raise AssertionError(
            f"differs from {what}: returns {sorted(found)}, expected {sorted(expected)}; largest differences {worst}"
        )


def _difference(found: np.ndarray[Any, Any] | None, expected: np.ndarray[Any, Any]) -> object:
    if found is None or found.shape != expected.shape or expected.dtype.kind not in "fiu":
        return f"{None if found is None else (found.dtype, found.shape)} for {(expected.dtype, expected.shape)}"
    return float(np.abs(found.astype(np.float64) - expected).max())


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
