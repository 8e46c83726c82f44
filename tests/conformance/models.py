"""The models that the conformance tests serve: plain Python classes, each made to show one thing.

This file is copied into every package and runs in the replica; `serving.Served` names the class.
"""

import asyncio
import base64
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple, NotRequired, TypedDict

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


class Half:
    """Half plus two, the first model of everybody who serves TensorFlow."""

    batched = True
    idempotent = True

    def predict(self, x: Annotated[np.ndarray, "FP32"]) -> Annotated[np.ndarray, "FP32"]:
        return x / 2 + 2


class Labelled(NamedTuple):
    classes: Annotated[bytes, "BYTES[2]"]
    scores: Annotated[np.ndarray, "FP32[2]"]


class Classifier:
    """Takes serialized examples, as classify sends them, and gives them back as the first label; the first score is their length."""

    batched = True
    idempotent = True

    def predict(self, inputs: bytes) -> Labelled:
        labels = [[base64.b64encode(item), b"twin"] for item in inputs.tolist()]
        scores = [[len(item), 0.2] for item in inputs.tolist()]
        return Labelled(np.array(labels, dtype=object).reshape(-1, 2), np.array(scores, dtype="float32").reshape(-1, 2))


class Scored(NamedTuple):
    scores: Annotated[np.ndarray, "FP32[3]"]


class Scores:
    """Takes serialized examples and has scores without labels."""

    batched = True
    idempotent = True

    def predict(self, inputs: bytes) -> Scored:
        return Scored(np.full((len(inputs), 3), 0.5, dtype="float32"))


class Valued(NamedTuple):
    outputs: Annotated[np.ndarray, "FP32"]


class Regressor:
    """Takes serialized examples, as regress sends them, and says how long they are."""

    batched = True
    idempotent = True

    def predict(self, inputs: bytes) -> Valued:
        return Valued(np.array([len(item) for item in inputs.tolist()], dtype="float32"))


class Picture(NamedTuple):
    image_bytes: bytes
    name: bytes


class Pictures:
    """Any bytes in, any bytes out, beside bytes that should be text."""

    batched = True
    idempotent = True

    def predict(self, image: bytes) -> Picture:
        return Picture(image, image)


class Person(TypedDict):
    age: int
    height: float
    name: str
    vip: NotRequired[bool]


class Judged(NamedTuple):
    score: float
    label: str


class People:
    """Named columns of several types, one of them optional, as a data frame has them; two outputs."""

    batched = True
    idempotent = True

    def predict(self, rows: Person) -> Judged:
        vip = rows.get("vip", np.zeros(len(rows["age"]), dtype=bool))
        score = rows["age"] + rows["height"] + 1000.0 * vip
        return Judged(score, np.array([name.upper() for name in rows["name"].tolist()], dtype=object))


class Flower:
    """One tensor of four numbers, one number out."""

    batched = True
    idempotent = True

    def predict(self, x: Annotated[np.ndarray, "FP32[4]"]) -> float:
        return x.astype("float64").sum(axis=1)


class Line:
    """A text for a text."""

    batched = True
    idempotent = True

    def predict(self, text: str) -> str:
        return np.array([item[::-1] for item in text.tolist()], dtype=object)


class Anything:
    """One JSON value in, one out, as a Truss takes them: the keys, or what the value asks for by ``"give"``."""

    idempotent = True

    def predict(self, model_input: str) -> str:
        value = json.loads(model_input)
        if isinstance(value, dict) and "give" in value:
            return value["give"] if isinstance(value["give"], str) else json.dumps(value["give"])
        return json.dumps({"got": value})


class Blob:
    """Any bytes in, the same turned round out."""

    batched = True
    idempotent = True

    def predict(self, data: bytes) -> bytes:
        return np.array([item[::-1] for item in data.tolist()], dtype=object)


class Kinds(NamedTuple):
    double: Annotated[np.ndarray, "FP32[2]"]
    total: int
    name: str


class Mixed:
    """A tensor, a number and a text."""

    batched = True
    idempotent = True

    def predict(self, pair: Annotated[np.ndarray, "FP32[2]"], name: str) -> Kinds:
        return Kinds(pair * 2, pair.sum(axis=1).astype("int64"), name)


class Words:
    """Gives the words of its text one by one, and does what some of them say.

    ``!raise`` and ``!blame`` fail, ``!wait7`` waits for the file ``release7`` beside the code, ``!many9`` gives nine parts of a thousand
    bytes, ``!die`` ends the process. Writes down what it has given, and that it was closed.
    """

    idempotent = True

    def load(self):
        self.folder = Path(__file__).parent

    def predict(self, text: str, parameters: dict) -> Iterator[str]:
        try:
            for word in text.split():
                yield from self._parts(word)
            yield from (f"{key}={value!r}" for key, value in sorted(parameters.items()))
        finally:
            self._note("ended", text)

    def _parts(self, word):
        order, number = re.fullmatch(r"(\D*)(\d*)", word).groups()
        if order == "!raise":
            raise ValueError("told to")
        if order == "!blame":
            raise InvalidInput("input 'text': told to")
        if order == "!die":
            os.kill(os.getpid(), signal.SIGKILL)
        if order == "!wait":
            self._note("waits", number)
            while not (self.folder / f"release{number}").exists():
                time.sleep(0.005)
        elif order == "!many":
            for at in range(int(number)):
                self._note("given", f"{at}")
                yield f"{at:<1000}"
        else:
            yield word

    def _note(self, name, text):
        with open(self.folder / name, "a") as file:
            file.write(f"{text}\n")


class AsyncWords:
    """The same for words that order nothing, asynchronously, and told to what by hints of its own."""

    async def load(self):
        self.lock = asyncio.Lock()

    async def predict(self, text_input: Annotated[str, "BYTES[-1]"], repeat: int = 1) -> AsyncIterator[Annotated[str, "BYTES[-1]"]]:
        async with self.lock:
            for word in " ".join(text_input).split() * repeat:
                await asyncio.sleep(0)
                yield [word]


class Piece(NamedTuple):
    at: int
    values: Annotated[np.ndarray, "FP32[-1]"]
    matrix: Annotated[np.ndarray, "INT32[2, -1]"]


class Pieces:
    """Parts of several outputs, small and large: as many as it is told, of the size it is told."""

    idempotent = True

    def predict(self, count: int, size: int, start: list[float] | None = None) -> Generator[Piece, None, None]:
        for at in range(count):
            first = 0 if start is None else start[0]
            yield Piece(at, np.arange(size, dtype=np.float32) + at + first, np.full((2, 3), at, dtype=np.int32))


class Bytes:
    """Gives the bytes that its hexadecimal words are, one by one; ``-`` is none."""

    idempotent = True

    def predict(self, text: str) -> Iterator[bytes]:
        for word in text.split():
            if word == "!raise":
                raise ValueError("told to")
            yield bytes.fromhex(word.strip("-"))


class Grown(NamedTuple):
    plane: Annotated[np.ndarray, "INT32[-1, -1]"]
    row: Annotated[np.ndarray, "INT32[1, -1]"]


class Planes:
    """Parts of which two sides vary: n is of shape [n, 2], and 0 has none."""

    idempotent = True

    def predict(self, sizes: Annotated[np.ndarray, "INT32[-1]"]) -> Iterator[Grown]:
        for size in sizes.tolist():
            yield Grown(np.arange(2 * size, dtype=np.int32).reshape(size, 2), np.arange(size, dtype=np.int32).reshape(1, size))


class Total(NamedTuple):
    total: Annotated[np.ndarray, "INT64[1]"]
    replica: Annotated[np.ndarray, "INT64[1]"]


class Running:
    """Adds up the numbers of each sequence, and says in which process; a negative one holds it as it holds `Gate`, and 13 is an exception.

    It knows only the sequences whose START it has seen.
    """

    batched = True
    stateful = True

    def load(self):
        self.folder = Path(__file__).parent
        self.totals = {}

    def predict(self, x: Annotated[np.ndarray, "INT64[1]"], parameters: dict) -> Total:
        value, sequence = int(x[0, 0]), parameters["sequence_id"]
        while value < 0 and not (self.folder / f"release{value}").exists():
            time.sleep(0.005)
        if value == 13:
            raise ValueError("thirteen")
        if parameters["sequence_start"]:
            self.totals[sequence] = 0
        self.totals[sequence] += value
        total = self.totals.pop(sequence) if parameters["sequence_end"] else self.totals[sequence]
        return Total(np.array([[total]]), np.array([[os.getpid()]]))
