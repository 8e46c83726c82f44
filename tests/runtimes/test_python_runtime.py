"""Plain Python models: what type hints become, how predict is called, and what is refused with which words."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from headgate.errors import ModelFailed, UnsupportedModel
from headgate.runtimes.base import InvalidInput, NeedsExample, RowsFailed
from headgate.runtimes.python import PythonRuntime

HEAD = """
import asyncio
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, Optional, Sequence, TypedDict, NotRequired
import numpy as np
"""
Load = Callable[..., PythonRuntime]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    loaded = []

    def run(source: str, attribute: str = "Model", name: str = "m.py") -> PythonRuntime:
        (tmp_path / name).write_text(HEAD + textwrap.dedent(source))
        runtime = PythonRuntime()
        runtime.load(tmp_path / name, attribute=attribute, device="cpu", threads=2)
        loaded.append(runtime)
        return runtime

    yield run
    for runtime in loaded:
        runtime.unload()


def predict(arguments: str, body: str = "return 1", returns: str = "int", before: str = "") -> str:
    head = textwrap.dedent(before)
    return f"{head}\nclass Model:\n    def predict(self, {arguments}) -> {returns}:\n        {body}\n"


@pytest.mark.parametrize(
    ("hint", "dtype", "shape"),
    [
        ("int", "INT64", (-1,)),
        ("float", "FP64", (-1,)),
        ("bool", "BOOL", (-1,)),
        ("str", "BYTES", (-1,)),
        ("bytes", "BYTES", (-1,)),
        ("list[float]", "FP64", (-1, -1)),
        ("Sequence[str]", "BYTES", (-1, -1)),
        ("tuple[int, ...]", "INT64", (-1, -1)),
        ("list[list[int]]", "INT64", (-1, -1, -1)),
        ("Optional[float]", "FP64", (-1,)),
        ("float | None", "FP64", (-1,)),
        ('Annotated[np.ndarray, "FP32[30]"]', "FP32", (-1, 30)),
        ('Annotated[np.ndarray, "INT8[-1, 64]"]', "INT8", (-1, -1, 64)),
        ('Annotated[np.ndarray, "FP16"]', "FP16", (-1,)),
        ('Annotated[np.ndarray, "BF16[2]"]', "BF16", (-1, 2)),
        ('Annotated[int, "INT32"]', "INT32", (-1,)),
        ('Annotated[list[float], "FP32[4]"] | None', "FP32", (-1, 4)),
    ],
)
def test_hints_of_arguments(load: Load, hint: str, dtype: str, shape: tuple[int, ...]) -> None:
    described = load(predict(f"x: {hint}")).describe(None)
    assert described.inputs == (("x", dtype, shape, False, ""),)
    assert described.batched is True


@pytest.mark.parametrize(
    ("returns", "before", "outputs"),
    [
        ("str", "", [("output", "BYTES", (-1,))]),
        ('Annotated[np.ndarray, "FP32[2]"]', "", [("output", "FP32", (-1, 2))]),
        ("tuple[int, list[str]]", "", [("output_0", "INT64", (-1,)), ("output_1", "BYTES", (-1, -1))]),
        ("R", "class R(NamedTuple):\n    a: int\n    b: float", [("a", "INT64", (-1,)), ("b", "FP64", (-1,))]),
        ("R", "class R(TypedDict):\n    a: bool\n    b: bytes", [("a", "BOOL", (-1,)), ("b", "BYTES", (-1,))]),
        ("R", "@dataclass\nclass R:\n    a: list[int]", [("a", "INT64", (-1, -1))]),
        ("dict[str, float]", "", None),
        ("np.ndarray", "", None),
        ("Any", "", None),
    ],
)
def test_hints_of_results(load: Load, returns: str, before: str, outputs: list | None) -> None:
    found = load(predict("x: int", returns=returns, before=before)).describe(None).outputs
    assert found == (None if outputs is None else tuple((*spec, False, "") for spec in outputs))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (predict("x: complex"), "'x' in m.py:Model is hinted as complex, which is no tensor"),
        (predict("x: dict[str, int]"), "'x' in m.py:Model is hinted as dict"),
        (predict("x: int, *rest: int"), "argument 'rest' of m.py:Model.predict must be an ordinary one"),
        (predict("*, parameters: dict"), "takes no input"),
        (predict("x: 'Missing'"), "name 'Missing' is not defined"),
        (
            predict('x: Annotated[np.ndarray, "FP31[3]"]'),
            "'FP31\\[3\\]', said of 'x' in m.py:Model, is no tensor.*did you mean 'FP32'",
        ),
        (predict('x: Annotated[np.ndarray, "a picture"]'), "is no tensor: write it as"),
        ("class Model:\n    pass", "m.py:Model has no method predict"),
        ("class Modell:\n    def predict(self, x: int) -> int: ...", "no class 'Model'; did you mean 'Modell'"),
    ],
)
def test_refused_with_a_sentence(load: Load, source: str, said: str) -> None:
    with pytest.raises(UnsupportedModel, match=said):
        load(source).describe(None)


@pytest.mark.parametrize("hint", ["x", "x: Any", "x: np.ndarray"])
def test_without_hints_an_example_is_needed(load: Load, hint: str) -> None:
    runtime = load(predict(hint, "return x"))
    with pytest.raises(
        NeedsExample, match="argument 'x' of predict has no type hint that says what it takes; write one, such as x: "
    ):
        runtime.describe(None)
    assert runtime.describe({"": np.zeros((2, 3), np.float32)}).inputs == (("x", "FP32", (-1, 3), False, ""),)


def test_the_only_class_need_not_be_named(load: Load) -> None:
    assert load(predict("x: int"), attribute="").describe(None).inputs[0].name == "x"
    two = predict("x: int") + "class Other(Model): ...\n"
    with pytest.raises(UnsupportedModel, match=r"say which class of m\.py is the model, as in m\.py:Model; it has Model, Other"):
        load(two, attribute="")


def test_values_arrive_as_hinted(load: Load) -> None:
    runtime = load(
        """
        @dataclass
        class Row:
            n: int
            word: str
            raw: bytes
            words: list[str]
            array: Annotated[np.ndarray, "FP32[2]"]
            scale: float = 2.0
            tags: list[int] = field(default_factory=list)

        class Model:
            def predict(self, row: Row) -> str:
                kinds = [type(value).__name__ for value in vars(row).values()]
                return " ".join([*kinds, type(row.words[0]).__name__, str(row.array.dtype), row.word, str(row.scale)])
        """
    )
    described = runtime.describe(None)
    assert [(spec.name, spec.optional) for spec in described.inputs][-3:] == [("array", False), ("scale", True), ("tags", True)]
    words = np.array([["é".encode(), b"b"]], dtype=object)
    inputs = {"n": np.array([3]), "word": words[:, 0], "raw": words[:, 1], "words": words, "array": np.ones((1, 2), np.float32)}
    assert runtime.predict(inputs, {})["output"].tolist() == ["int str bytes list ndarray float list str float32 é 2.0"]


def test_rows_are_called_one_by_one_with_their_parameters(load: Load) -> None:
    body = "return x * 10 + len(parameters) + parameters.get('add', 0)"
    runtime = load(predict("x: int, parameters: dict[str, object]", body))
    assert runtime.describe(None).parameters
    assert runtime.predict({"x": np.array([1, 2, 3])}, {"add": 4})["output"].tolist() == [15, 25, 35]


def test_asynchronous_rows_run_together_and_all_end(load: Load) -> None:
    runtime = load(
        """
        class Model:
            ended = 0
            async def predict(self, x: int) -> int:
                if x == 2:
                    raise ValueError("two")
                await asyncio.sleep(0.2)
                Model.ended += 1
                return Model.ended
        """
    )
    begun = time.monotonic()
    assert sorted(runtime.predict({"x": np.arange(10, 20)}, {})["output"].tolist()) == list(range(1, 11))
    assert time.monotonic() - begun < 1.0
    with pytest.raises(ValueError, match="two"):
        runtime.answer({"x": np.array([1, 2, 3])})
    assert runtime.predict({"x": np.array([5])}, {})["output"].tolist() == [13]


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_rows_that_fail_are_told_apart(load: Load, kind: str) -> None:
    """Every row is called, and what the others gave is there; a result unlike the hint is its own row's failure too."""
    source = """
        class Model:
            def predict(self, x: int) -> int:
                if x == 2:
                    raise ValueError("two")
                return None if x == 3 else 10 * x
        """
    runtime = load(source.replace("def predict", f"{kind} predict"))
    with pytest.raises(RowsFailed) as failed:
        runtime.predict({"x": np.array([1, 2, 3, 4])}, {})
    assert [(row, type(error)) for row, error in failed.value.errors.items()] == [(1, ValueError), (2, ModelFailed)]
    assert failed.value.outputs["output"][[0, 3]].tolist() == [10, 40] and len(failed.value.outputs["output"]) == 4
    with pytest.raises(RowsFailed) as failed:
        runtime.predict({"x": np.array([2, 2])}, {})
    assert list(failed.value.errors) == [0, 1] and failed.value.outputs == {}


def test_load_gets_device_and_threads_and_may_be_asynchronous(load: Load) -> None:
    runtime = load(
        """
        class Model:
            idempotent = True
            async def load(self, threads, device):
                await asyncio.sleep(0)
                self.said = f"{device} {threads}"
            def predict(self, x: int) -> str:
                return self.said
        """
    )
    assert runtime.predict({"x": np.array([1])}, {})["output"].tolist() == ["cpu 2"]
    assert runtime.pure is True
    assert load(predict("x: int"), name="n.py").pure is False


@pytest.mark.parametrize(
    ("returns", "body", "said"),
    [
        ("int", "return 1.5", "'output' should be INT64 by its hint, predict returned float64"),
        ("int", "return 'one'", "should be INT64"),
        ("int", "pass", "predict returned None"),
        ("list[float]", "return [1.0] * x", "differ in shape.*batched = False"),
        ("str", "return 3", "'output' should be text by its hint, predict returned a int"),
        ("list[str]", "return ['a'] * x", "rows of unequal length"),
        ("tuple[int, int]", "return 1, 2, 3", "not what its hint promises"),
        ("tuple[int, int]", "return 1", "predict returned a int, not what its hint promises"),
    ],
)
def test_results_unlike_their_hint(load: Load, returns: str, body: str, said: str) -> None:
    with pytest.raises(ModelFailed, match=said):
        load(predict("x: int", body, returns)).answer({"x": np.array([1, 2])})


def test_whole_numbers_are_floats_too(load: Load) -> None:
    answer = load(predict("x: int", "return x", "float")).predict({"x": np.array([1, 2])}, {})["output"]
    assert answer.dtype == np.float64


def test_the_model_may_blame_the_input(load: Load) -> None:
    runtime = load("from headgate.runtimes.base import InvalidInput\n" + predict("x: int", "raise InvalidInput('x is odd')"))
    with pytest.raises(InvalidInput, match="x is odd"):
        runtime.predict({"x": np.array([1])}, {})
    with pytest.raises(InvalidInput, match="input 's' is not UTF-8"):
        load(predict("s: str"), name="s.py").predict({"s": np.array([b"\xff"], dtype=object)}, {})


def test_unload_is_the_models_own(load: Load, tmp_path: Path) -> None:
    source = predict("x: int") + "    def unload(self):\n        open(__file__ + '.gone', 'w').close()\n"
    load(source).unload()
    assert (tmp_path / "m.py.gone").exists()


def test_a_file_named_like_a_module_hides_nothing(load: Load) -> None:
    import json

    runtime = load(predict("x: int"), name="json.py")
    assert runtime.predict({"x": np.array([1])}, {})["output"].tolist() == [1]
    import json as again

    assert again is json
