"""The models that the conformance tests serve: plain Python classes, each made to show one thing.

This file is copied into every package and runs in the replica; `serving.Served` names the class.
"""

import time
from pathlib import Path
from typing import Annotated, NamedTuple, TypedDict

import numpy as np

from headgate.runtimes.base import InvalidInput

DTYPES = "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 BYTES BF16".split()


def _pair(dtype):
    kind = bytes if dtype == "BYTES" else np.ndarray
    return Annotated[kind, f"{dtype}[2]"]


Given = TypedDict("Given", {name.lower(): _pair(name) for name in DTYPES}, total=False)
Same = TypedDict("Same", {f"same_{name.lower()}": _pair(name) for name in DTYPES})


class Types:
    """Gives every input back as ``same_<dtype>``; all are optional, and what is left out comes back as zeros or empty strings."""

    batched = True
    idempotent = True

    def predict(self, tensors: Given) -> Same:
        rows = len(next(iter(tensors.values())))
        return {f"same_{name.lower()}": tensors.get(name.lower(), self._blank(name, rows)) for name in DTYPES}

    def _blank(self, name, rows):
        kinds = {"BOOL": "bool", "BYTES": "object", "BF16": "float32", "FP16": "float16", "FP32": "float32", "FP64": "float64"}
        blank = np.zeros((rows, 2), dtype=kinds.get(name, name.lower()))
        return np.full((rows, 2), b"", dtype=object) if name == "BYTES" else blank


class Sums(NamedTuple):
    sum: Annotated[np.ndarray, "FP32[16]"]
    difference: Annotated[np.ndarray, "FP32[16]"]


class Sum:
    """Two inputs, two outputs, all floats."""

    batched = True
    idempotent = True

    def predict(self, a: Annotated[np.ndarray, "FP32[16]"], b: Annotated[np.ndarray, "FP32[16]"]) -> Sums:
        return Sums(a + b, a - b)


class Parts(NamedTuple):
    double: float
    turned: Annotated[np.ndarray, "FP32[-1, 2]"]


class Scalar:
    """No batch axis: a bare number, and a matrix with one side that varies."""

    batched = False
    idempotent = True

    def predict(self, x: float, matrix: Annotated[np.ndarray, "FP32[2, -1]"]) -> Parts:
        return Parts(2 * x, np.asarray(matrix).T)


class Ragged:
    """Rows of any length; a batch holds rows of one length."""

    batched = True
    idempotent = True

    def predict(self, x: Annotated[np.ndarray, "UINT8[-1]"]) -> Annotated[np.ndarray, "UINT8[-1]"]:
        return x[:, ::-1]


class Plane:
    """Two sides that vary: its raw form cannot be told."""

    batched = True
    idempotent = True

    def predict(self, x: Annotated[np.ndarray, "FP32[-1, -1]"]) -> Annotated[np.ndarray, "FP32[-1, -1]"]:
        return x


class Text:
    """Turns byte strings round; they need not be UTF-8."""

    batched = True
    idempotent = True

    def predict(self, text: Annotated[bytes, "BYTES[1]"]) -> Annotated[bytes, "BYTES[1]"]:
        return np.array([[item[::-1]] for item in text[:, 0].tolist()], dtype=object).reshape(len(text), 1)


class Odd(NamedTuple):
    wide: Annotated[np.ndarray, "FP64[3]"]
    half: Annotated[np.ndarray, "FP16[3]"]
    word: Annotated[bytes, "BYTES[1]"]


class Special:
    """NaN, Infinity and -Infinity, and a word that JSON writers take for one of them."""

    batched = True
    idempotent = True

    def predict(self, x: Annotated[np.ndarray, "FP32[1]"]) -> Odd:
        odd = np.array([[np.nan, np.inf, -np.inf]] * len(x))
        return Odd(odd, odd.astype("float16"), np.array([[b"null"]] * len(x), dtype=object))


class Gate:
    """Writes down what it computes; a negative value holds it until the file ``release<value>`` lies beside it.

    13 is an exception, 14 an `InvalidInput`.
    """

    batched = True
    idempotent = True

    def load(self):
        self.folder = Path(__file__).parent

    def predict(self, x: Annotated[np.ndarray, "INT64[1]"]) -> Annotated[np.ndarray, "INT64[1]"]:
        values = x[:, 0].tolist()
        with open(self.folder / "executed", "a") as file:
            file.write("".join(f"{value}\n" for value in values))
        while not all((self.folder / f"release{value}").exists() for value in values if value < 0):
            time.sleep(0.005)
        if 13 in values:
            raise ValueError("thirteen")
        if 14 in values:
            raise InvalidInput("input 'x': fourteen is not taken")
        return x


class Tagged(NamedTuple):
    number: Annotated[np.ndarray, "INT64[1]"]
    text: Annotated[bytes, "BYTES[1]"]
    rows: Annotated[np.ndarray, "INT64[1]"]


class Tags:
    """Gives every row its own number and text back, marked, and says how many rows there were in the batch."""

    batched = True
    idempotent = True

    def predict(self, number: Annotated[np.ndarray, "INT64[1]"], text: Annotated[bytes, "BYTES[1]"]) -> Tagged:
        marked = [[b"<" + item + b">"] for item in text[:, 0].tolist()]
        rows = len(number)
        time.sleep(0.001)
        return Tagged(number * 2, np.array(marked, dtype=object).reshape(rows, 1), np.full((rows, 1), rows, dtype="int64"))


class One:
    """Version 1 of a deployment with two."""

    batched = True
    idempotent = True
    answer = 1

    def predict(self, x: Annotated[np.ndarray, "FP32[1]"]) -> Annotated[np.ndarray, "INT64[1]"]:
        return np.full(x.shape, self.answer)


class Two(One):
    """Version 2 of it."""

    answer = 2


class Asked:
    """Says which parameters its request had."""

    batched = True
    idempotent = True

    def predict(self, x: Annotated[np.ndarray, "FP32[1]"], parameters: dict) -> Annotated[bytes, "BYTES[1]"]:
        said = ",".join(f"{key}={value!r}" for key, value in sorted(parameters.items())).encode()
        return np.array([[said]] * len(x), dtype=object)
