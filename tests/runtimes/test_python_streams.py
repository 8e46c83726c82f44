"""Plain Python models that answer in parts: what their hints become, how they are run and closed, and what the dry run takes of them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headgate.errors import ModelFailed, PackageError, UnsupportedModel
from headgate.runtimes.base import Arrays
from headgate.runtimes.python import PythonRuntime
from headgate.serving.dryrun import PARTS, dry_run

HEAD = """
import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator
from typing import Annotated, NamedTuple
import typing
import numpy as np
"""
Load = Callable[..., PythonRuntime]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """A function that loads a model from its source."""
    loaded = []

    def run(source: str) -> PythonRuntime:
        (tmp_path / "m.py").write_text(HEAD + textwrap.dedent(source))
        runtime = PythonRuntime()
        runtime.load(tmp_path / "m.py", attribute="Model", device="cpu", threads=2)
        loaded.append(runtime)
        return runtime

    yield run
    for runtime in loaded:
        runtime.unload()


def text(*words: str) -> np.ndarray[Any, Any]:
    """Return BYTES as they come off the wire."""
    return np.array([word.encode() for word in words], dtype=object)


def parts_of(runtime: PythonRuntime, most: int | None = None, **inputs: Any) -> list[Arrays]:
    """Return what the model gives."""
    return list(islice(runtime.stream(inputs, {}), most))


@pytest.mark.parametrize(
    ("start", "returns", "body"),
    [
        ("def", "Iterator[str]", "yield x"),
        ("def", "Generator[str, None, None]", "yield x"),
        ("def", "typing.Iterable[str]", "yield x"),
        ("def", "Iterator[str]", "return iter([x])"),
        ("async def", "AsyncIterator[str]", "yield x"),
        ("async def", "AsyncGenerator[str, None]", "yield x"),
        ("async def", "Iterator[str]", "return iter([x])"),
    ],
)
def test_what_yields_answers_in_parts(load: Load, start: str, returns: str, body: str) -> None:
    """Generators of either kind, and functions that are hinted to return an iterator: the hint is that of one part, a value is a list
    of one, and there is no batch axis."""
    runtime = load(f"class Model:\n    {start} predict(self, x: str) -> {returns}:\n        {body}\n")
    described = runtime.describe(None)
    assert (described.streams, described.batched) == (True, False)
    assert [(spec.name, spec.dtype, spec.shape) for spec in described.inputs] == [("x", "BYTES", (1,))]
    assert described.outputs is not None
    assert [(spec.name, spec.dtype, spec.shape) for spec in described.outputs] == [("output", "BYTES", (1,))]
    (part,) = parts_of(runtime, x=text("ja"))
    assert part["output"].tolist() == ["ja"]


def test_parts_of_several_outputs(load: Load) -> None:
    """Structured parts give named outputs with the shapes of their hints; lists and arrays keep theirs."""
    runtime = load(
        """
        class Part(NamedTuple):
            at: int
            row: list[float]
            grid: Annotated[np.ndarray, "FP32[2, -1]"]

        class Model:
            def predict(self, xs: list[float], n: int = 2) -> Iterator[Part]:
                assert type(xs) is list and type(n) is int
                for at in range(n):
                    yield Part(at, [x + at for x in xs], np.zeros((2, at), dtype="float32"))
        """
    )
    described = runtime.describe(None)
    assert [(spec.shape, spec.optional) for spec in described.inputs] == [((-1,), False), ((1,), True)]
    assert described.outputs is not None
    assert [(spec.name, spec.shape) for spec in described.outputs] == [("at", (1,)), ("row", (-1,)), ("grid", (2, -1))]
    parts = parts_of(runtime, xs=np.array([1.0, 2.0]))
    assert [(part["at"].tolist(), part["row"].tolist(), part["grid"].shape) for part in parts] == [
        ([0], [1.0, 2.0], (2, 0)),
        ([1], [2.0, 3.0], (2, 1)),
    ]


@pytest.mark.parametrize(("start", "step"), [("def", ""), ("async def", "await asyncio.sleep(0)")])
def test_the_generator_is_closed_where_nobody_waits(load: Load, start: str, step: str) -> None:
    """Closed in the middle, the model's own ``finally`` has run, once; nothing behind the part that was taken has."""
    runtime = load(
        f"""
        seen = []

        class Model:
            seen = seen

            {start} predict(self, x: int) -> {"AsyncIterator" if step else "Iterator"}[int]:
                try:
                    for at in range(x):
                        {step or "pass"}
                        seen.append(at)
                        yield at
                finally:
                    seen.append("closed")
        """
    )
    parts = runtime.stream({"x": np.array([9])}, {})
    assert next(parts)["output"].tolist() == [0]
    parts.close()
    assert runtime._model.seen == [0, "closed"]
    assert parts_of(runtime, x=np.array([0])) == []
    assert runtime._model.seen == [0, "closed", "closed"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            "def predict(self, x: int) -> str:\n        yield x",
            r"m.py:Model.predict yields, and is hinted to return str: .*Iterator\[str\]",
        ),
        ("batched = True\n    def predict(self, x: int) -> Iterator[int]:\n        yield x", "leave batched = True out"),
        ("def predict(self, x: int) -> Iterator[complex]:\n        yield x", "hinted as complex, which is no tensor"),
    ],
)
def test_refused_with_a_sentence(load: Load, source: str, said: str) -> None:
    """What cannot be meant is refused when the model is packaged."""
    with pytest.raises(UnsupportedModel, match=said):
        load(f"class Model:\n    {source}\n")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("yield 'a'; yield None", "predict yielded None, which is no tensor"),
        ("yield 1", "'output' should be text by its hint, predict returned a int"),
        ("return 5", "predict returned a int, not what its hint promises: an iterator of parts"),
    ],
)
def test_parts_unlike_their_hint(load: Load, body: str, said: str) -> None:
    """A wrong part ends the answer with a sentence; those before it have been given."""
    runtime = load(f"class Model:\n    def predict(self, x: int) -> Iterator[str]:\n        {body}\n")
    with pytest.raises(ModelFailed, match=said):
        parts_of(runtime, x=np.array([1]))


def test_the_dry_run_takes_the_first_parts(load: Load) -> None:
    """Without a hint of what is yielded the first parts say it, dimensions that differ vary, and an answer without end is left there."""
    runtime = load(
        """
        class Model:
            taken = 0

            def predict(self, x: float):
                while True:
                    self.taken += 1
                    yield {"text": "a", "values": [x] * self.taken}
        """
    )
    described = dry_run(runtime, runtime.describe(None), None).described
    assert described.outputs is not None
    assert [(spec.name, spec.dtype, spec.shape) for spec in described.outputs] == [
        ("text", "BYTES", (1,)),
        ("values", "FP64", (-1,)),
    ]
    assert (described.streams, described.batched, runtime._model.taken) == (True, False, PARTS)


def test_the_dry_run_of_answers_without_parts(load: Load) -> None:
    """No part is an answer, too, where the hint says what one would be; else the model cannot be described."""
    hinted = load("class Model:\n    def predict(self, x: int) -> Iterator[str]:\n        yield from ()\n")
    assert dry_run(hinted, hinted.describe(None), None).described.outputs == hinted.describe(None).outputs
    silent = load("class Model:\n    def predict(self, x: int):\n        yield from ()\n")
    with pytest.raises(PackageError, match="gave no part of an answer, and no type hint says what one is"):
        dry_run(silent, silent.describe(None), None)


def test_the_dry_run_on_the_packages_example(load: Load) -> None:
    """The example is what it is run on; where the model fails on it, that is said."""
    runtime = load("class Model:\n    def predict(self, x: str) -> Iterator[str]:\n        yield {'good': 'x'}[x]\n")
    outcome = dry_run(runtime, runtime.describe(None), {"x": text("good")})
    assert not outcome.warning
    with pytest.raises(PackageError, match="the model fails on the input example: KeyError: 'bad'"):
        dry_run(runtime, runtime.describe(None), {"x": text("bad")})
    assert "refuses made-up input" in dry_run(runtime, runtime.describe(None), None).warning
