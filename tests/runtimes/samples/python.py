"""Plain Python models: per row, asynchronous, batched, with a struct, without hints, and without a batch axis."""

import json
import textwrap
from pathlib import Path

import numpy as np

from headgate.testing.runtimes import write_sample


def _spec(name, dtype, shape, **more):
    return {"name": name, "dtype": dtype, "shape": shape, **more}


def _write(folder, name, kind, source, inputs, expected, takes, gives, batched=True, parameters=False, **rest):
    (folder / f"{name}.py").write_text(textwrap.dedent(source))
    signature = {"inputs": takes, "outputs": gives, "batched": batched, "parameters": parameters}
    more = {"path": f"{name}.py", "attribute": kind, "signature": signature, **rest}
    write_sample(folder, name, runtime="python", inputs=inputs, expected=expected, **more)


_NEAREST = """
    import asyncio
    from typing import Annotated, NamedTuple

    import numpy as np


    class Match(NamedTuple):
        name: str
        distance: float


    class Nearest:
        idempotent = True

        async def load(self):
            await asyncio.sleep(0)
            with np.load(__file__.removesuffix(".py") + ".weights.npz") as weights:
                self.centres, self.names = weights["centres"], weights["names"].tolist()

        async def predict(self, point: Annotated[np.ndarray, "FP32[2]"], parameters: dict) -> Match:
            distances = np.linalg.norm(self.centres - point, axis=1)
            await asyncio.sleep(0.002 if distances[0] < distances[1] else 0)
            nearest = int(distances.argmin())
            return Match(self.names[nearest], float(distances[nearest]))
"""


def _nearest(folder: Path) -> None:
    random = np.random.default_rng(0)
    points = np.concatenate([random.normal(centre, 0.3, (50, 2)) for centre in ((0, 0), (3, 3), (0, 4))])
    centres = points[[0, 60, 120]]
    for _ in range(10):  # Lloyd's algorithm: a model that is really trained, with NumPy alone
        nearest = np.linalg.norm(points[:, None] - centres, axis=2).argmin(1)
        centres = np.array([points[nearest == index].mean(0) for index in range(3)])
    names = np.array(["low", "right", "højt"])
    np.savez(folder / "nearest.weights.npz", centres=centres, names=names)
    rows = points[::30].astype(np.float32)
    distances = np.linalg.norm(rows[:, None] - centres, axis=2)
    expected = {"name": names[distances.argmin(1)].astype(object), "distance": distances.min(1)}
    gives = [_spec("name", "BYTES", [-1]), _spec("distance", "FP64", [-1])]
    takes = [_spec("point", "FP32", [-1, 2])]
    _write(folder, "nearest", "Nearest", _NEAREST, {"point": rows}, expected, takes, gives, parameters=True)


_SCORER = """
    from dataclasses import dataclass


    @dataclass
    class Applicant:
        age: int
        city: str
        incomes: list[float]
        married: bool = False


    class Scorer:
        def predict(self, applicant: Applicant) -> tuple[float, list[str]]:
            score = applicant.age / 100 + sum(applicant.incomes) + applicant.married
            return score, [applicant.city.upper(), str(applicant.married)]
"""


def _scorer(folder: Path) -> None:
    inputs = {
        "age": np.array([20, 30, 40, 50]),
        "city": np.array(["Oslo", "Zürich", "Lima", ""], dtype=object),
        "incomes": np.arange(8, dtype=np.float64).reshape(4, 2),
        "married": np.array([True, False, True, False]),
    }
    cities = np.array([["OSLO", "True"], ["ZÜRICH", "False"], ["LIMA", "True"], ["", "False"]], dtype=object)
    expected = {"output_0": np.array([2.2, 5.3, 10.4, 13.5]), "output_1": cities}
    takes = [_spec("age", "INT64", [-1]), _spec("city", "BYTES", [-1]), _spec("incomes", "FP64", [-1, -1])]
    takes.append(_spec("married", "BOOL", [-1], optional=True))
    gives = [_spec("output_0", "FP64", [-1]), _spec("output_1", "BYTES", [-1, -1])]
    _write(folder, "scorer", "Scorer", _SCORER, inputs, expected, takes, gives)


_BATCHED = """
    from typing import Annotated, TypedDict

    import numpy as np


    class Answer(TypedDict):
        total: Annotated[np.ndarray, "FP32"]
        loud: str


    class Together:
        batched = True
        idempotent = True

        def predict(self, values: Annotated[np.ndarray, "FP32[3]"], word: str) -> Answer:
            assert values.ndim == 2 and word.dtype == object
            return {"total": values.sum(axis=1), "loud": np.array([item.upper() for item in word], dtype=object)}
"""

_UNTYPED = """
    class Untyped:
        def predict(self, x, y):
            return {"sum": [a + b for a, b in zip(x, y)], "first": x[0]}
"""

_WHOLE = """
    class Whole:
        batched = False

        def predict(self, words: list[str], top: int = 2) -> list[str]:
            return sorted(words)[:top]
"""


def _others(folder: Path) -> None:
    values, words = np.arange(12, dtype=np.float32).reshape(4, 3), np.array(["a", "bé", "", "d"], dtype=object)
    expected = {"total": values.sum(1), "loud": np.array(["A", "BÉ", "", "D"], dtype=object)}
    takes = [_spec("values", "FP32", [-1, 3]), _spec("word", "BYTES", [-1])]
    gives = [_spec("total", "FP32", [-1]), _spec("loud", "BYTES", [-1])]
    _write(folder, "together", "Together", _BATCHED, {"values": values, "word": words}, expected, takes, gives)

    x = np.arange(8, dtype=np.float64).reshape(4, 2)
    (folder / "untyped.json").write_text(json.dumps([{"x": [1.5, 2.5], "y": [3, 4]}, {"x": [0.5, 2.5], "y": [3, 5]}]))
    inputs, expected = {"x": x, "y": x.astype(np.int64)}, {"sum": x + x, "first": x[:, 0]}
    takes, gives = (
        [_spec("x", "FP64", [-1, 2]), _spec("y", "INT64", [-1, 2])],
        [_spec("sum", "FP64", [-1, 2]), _spec("first", "FP64", [-1])],
    )
    _write(folder, "untyped", "Untyped", _UNTYPED, inputs, expected, takes, gives, example="untyped.json")

    inputs = {"words": np.array(["pear", "fig", "apple"], dtype=object), "top": np.array(1)}
    takes, gives = [_spec("words", "BYTES", [-1]), _spec("top", "INT64", [], optional=True)], [_spec("output", "BYTES", [-1])]
    _write(folder, "whole", "Whole", _WHOLE, inputs, {"output": np.array(["apple"], dtype=object)}, takes, gives, batched=False)


def build(folder: Path) -> None:
    for make in (_nearest, _scorer, _others):
        make(folder)
