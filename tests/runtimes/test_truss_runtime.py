"""Trusses as the runtime loads them: what is refused, how requests share a replica, and values that JSON has no name for."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headgate.errors import ModelFailed, UnsupportedModel
from headgate.runtimes.base import InvalidInput
from headgate.runtimes.truss import TrussRuntime

Load = Callable[..., TrussRuntime]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Loads a class from ``model/model.py``."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    loaded: list[TrussRuntime] = []

    def go(source: str, *, file: str = "model", concurrency: int = 1, secrets: Any = None, **files: str) -> TrussRuntime:
        told = {"config": {}, "module": f"model/{file}.py", "class": "Model", "packages": "packages", "data": "data"}
        told |= {"environment": {}, "secrets": secrets or {}, "concurrency": concurrency}
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / f"{file}.py").write_text(textwrap.dedent(source))
        for name, text in files.items():
            (tmp_path / "model" / f"{name}.py").write_text(text)
        (tmp_path / "truss.json").write_text(json.dumps(told))
        runtime = TrussRuntime()
        runtime.load(tmp_path / "truss.json", attribute="", device="cpu", threads=1)
        loaded.append(runtime)
        return runtime

    yield go
    for runtime in loaded:
        runtime.unload()
    for name in [name for name in sys.modules if name.partition(".")[0] == "model"]:
        del sys.modules[name]


def ask(runtime: TrussRuntime, *values: Any, **parameters: object) -> list[Any]:
    """What the model answers to each value."""
    inputs = {"model_input": np.array([json.dumps(value).encode() for value in values], dtype=object)}
    return [json.loads(text) for text in runtime.predict(inputs, parameters)["model_output"].tolist()]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "def predict(self, x): return x\n    def preprocess(self, x):\n        yield 1",
            "Model.preprocess: a generator, and only predict",
        ),
        (
            "def predict(self, x):\n        yield 1\n    def postprocess(self, x): return x",
            "Model.postprocess: predict answers in parts, so there is no whole to work on",
        ),
        ("def websocket(self, ws): ...", "Model.websocket: websockets are not offered"),
        ("def chat_completions(self, x): ...", r"no predict\(self, model_input\), and /v1/chat/completions is not offered"),
        ("def other(self): ...", r"Model has no predict\(self, model_input\)"),
        ("def predict(self, x, request): ...", "Model.predict: takes the HTTP request, which stays at the gateway"),
        ("def predict(self, request: 'fastapi.Request'): ...", "Model.predict: takes the HTTP request"),
    ],
)
def test_what_is_not_offered_is_refused(body: str, said: str, load: Load) -> None:
    """In one sentence that names the class and its method, when the model is packaged."""
    with pytest.raises(UnsupportedModel, match=said):
        load(f"class Model:\n    {body}\n")


def test_a_class_that_is_not_there(load: Load) -> None:
    """The refusal has the likely spelling."""
    with pytest.raises(UnsupportedModel, match=r"model/model\.py: there is no class 'Model' in it; did you mean 'Modle'\?"):
        load("class Modle:\n    def predict(self, x): ...\n")


def test_relative_imports_are_as_little_supported_as_by_truss(load: Load) -> None:
    """The refusal shows the import that works."""
    with pytest.raises(UnsupportedModel, match=r"relative imports.*from model\.other import"):
        load("from .helper import x\nclass Model:\n    def predict(self, x): ...\n", file="mine", helper="x = 1\n")


def test_the_models_folder_is_a_package(load: Load) -> None:
    """``model/model.py`` does not hide it."""
    source = "from model.helper import shout\nclass Model:\n    def predict(self, x):\n        return shout(x)\n"
    assert ask(load(source, helper="def shout(text):\n    return text.upper()\n"), "a") == ["A"]


def test_requests_share_a_replica_as_far_as_the_config_says(load: Load) -> None:
    """With ``predict_concurrency: 2`` two plain functions run at the same time, and never three; pre- and postprocess are not counted."""
    source = """
    import threading
    import time

    class Model:
        def __init__(self):
            self._two = threading.Barrier(2)
            self._inside = self._most = 0
            self._lock = threading.Lock()

        def preprocess(self, x):
            return x

        def predict(self, x):
            with self._lock:
                self._inside += 1
                self._most = max(self._most, self._inside)
            self._two.wait(20)
            with self._lock:
                self._inside -= 1
            return x

        def postprocess(self, x):
            return [x, self._most]
    """
    answers = ask(load(source, concurrency=2), 1, 2, 3, 4)
    assert [value for value, _ in answers] == [1, 2, 3, 4]
    assert max(most for _, most in answers) == 2


def test_what_is_opened_in_one_request_works_in_the_next(load: Load) -> None:
    """Coroutines of all requests run on one loop, as they do in Truss's own server."""
    source = """
    import asyncio

    class Model:
        lock = None

        async def predict(self, x):
            self.lock = self.lock or asyncio.Lock()
            async with self.lock:
                await asyncio.sleep(0)
            return id(asyncio.get_running_loop())
    """
    runtime = load(source, concurrency=4)
    assert len({*ask(runtime, 1, 2, 3), *ask(runtime, 1)}) == 1


def test_one_request_that_fails_waits_for_the_others(load: Load) -> None:
    """None of a batch runs on into the next; what the model raised is what is raised."""
    source = """
    class Model:
        done = 0

        async def predict(self, x):
            import asyncio
            if x is None:
                raise KeyError("x")
            await asyncio.sleep(0.05)
            Model.done += 1
            return Model.done
    """
    runtime = load(source, concurrency=4)
    with pytest.raises(KeyError, match="x"):
        runtime.answer({"model_input": np.array([b"null", b"1", b"2"], dtype=object)})
    assert ask(runtime, 3) == [3]


def test_a_generator_that_comes_back_is_the_models_failure(load: Load) -> None:
    """A function may return one although nothing says so before it is called."""
    with pytest.raises(
        ModelFailed, match=r"predict returned a generator, and nothing says that it does: hint predict with -> Iterator"
    ):
        ask(load("class Model:\n    def predict(self, x):\n        return (part for part in x)\n"), [1])


def test_an_http_exception_below_500_blames_the_input(load: Load) -> None:
    """Its detail is what the client reads; 500 and above is the model's own failure."""
    source = """
    class HTTPException(Exception):
        def __init__(self, status_code, detail):
            self.status_code, self.detail = status_code, detail

    class Model:
        def predict(self, x):
            raise HTTPException(x, "no such thing")
    """
    runtime = load(source)
    with pytest.raises(InvalidInput, match=r"^no such thing$"):
        ask(runtime, 422)
    with pytest.raises(Exception, match="no such thing") as caught:
        ask(runtime, 503)
    assert not isinstance(caught.value, InvalidInput)


def test_a_hint_of_a_validating_class_is_followed(load: Load) -> None:
    """As pydantic's models do: the value becomes one before the first step, and the result is dumped by its own method."""
    source = """
    class Point:
        def __init__(self, x):
            self.x = x

        @classmethod
        def model_validate(cls, value):
            return cls(value["x"])

        def model_dump_json(self):
            return '{"x": %d}' % self.x

    class Model:
        def predict(self, point: Point):
            return Point(point.x * 2)
    """
    assert ask(load(source), {"x": 3}) == [{"x": 6}]


def test_secrets_are_looked_up_when_they_are_asked_for(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable comes before what config.yaml says; one that is not declared, or not set, is explained; none can be listed."""
    source = """
    class Model:
        def __init__(self, secrets):
            self._secrets = secrets

        def predict(self, name):
            try:
                return list(self._secrets) if name is None else self._secrets[name]
            except (LookupError, NotImplementedError) as error:
                return {"error": str(error)}
    """
    runtime = load(source, secrets={"token": None, "other": "default"})
    assert ask(runtime, "other") == ["default"]
    assert "set TRUSS_SECRET_token where" in ask(runtime, "token")[0]["error"]
    monkeypatch.setenv("TRUSS_SECRET_token", "abc")
    assert ask(runtime, "token") == ["abc"]
    assert "did you mean 'token'?" in ask(runtime, "tokn")[0]["error"]
    assert "cannot be listed" in ask(runtime, None)[0]["error"]


@pytest.mark.parametrize(
    ("returned", "written"),
    [
        ("np.array([[1, 2]], dtype=np.int32)", [[1, 2]]),
        ("np.float32(0.5)", 0.5),
        ("{'a': np.arange(2), 'b': (1, None, True)}", {"a": [0, 1], "b": [1, None, True]}),
    ],
)
def test_arrays_become_lists(returned: str, written: object, load: Load) -> None:
    """In an answer of JSON, as Truss's own server writes it."""
    assert ask(load(f"import numpy as np\nclass Model:\n    def predict(self):\n        return {returned}\n"), None) == [written]


@pytest.mark.parametrize("returned", ["b'x'", "object()", "{1, 2}", "1j"])
def test_what_makes_no_json_is_the_models_failure(returned: str, load: Load) -> None:
    """The error says what kind of thing it was."""
    with pytest.raises(ModelFailed, match=r"makes no JSON: a (bytes|object|set|complex) is no JSON"):
        ask(load(f"class Model:\n    def predict(self, x):\n        return {returned}\n"), 1)


BINARY = [
    {"__ndarray__": {"dtype": "<f4", "shape": [2, 1], "base64": "AACAPwAAAEA="}},
    {"__bytes__": "AP8="},
    {"__dt_date_iso__": True, "data": "2024-05-31"},
    {"__dt_datetime_iso__": True, "data": "2024-05-31T12:00:00Z"},
    {"__dt_time_iso__": True, "data": "12:00:00"},
    {"__dt_timedelta__": True, "data": [1, 2, 3]},
    {"__decimal__": True, "data": "1.50"},
    {"__uuid__": True, "data": "00000000-0000-0000-0000-000000000001"},
    {"nested": [{"__bytes__": ""}, 1.5, None]},
]


def test_values_of_binary_requests_arrive_and_return_as_what_they_are(load: Load) -> None:
    """The model gets arrays, bytes and dates; what it gives back is written as it came."""
    source = "class Model:\n    def predict(self, x):\n        return {'value': x, 'kind': type(x).__name__}\n"
    answers = ask(load(source), *BINARY, binary=True)
    assert [answer["value"] for answer in answers] == BINARY
    kinds = ["ndarray", "bytes", "date", "datetime", "time", "timedelta", "Decimal", "UUID", "dict"]
    assert [answer["kind"] for answer in answers] == kinds


def test_only_binary_requests_have_such_values(load: Load) -> None:
    """What looks like one in JSON is an object like any other."""
    source = "class Model:\n    def predict(self, x):\n        return type(x).__name__\n"
    assert ask(load(source), *BINARY) == ["dict"] * len(BINARY)


@pytest.mark.parametrize(
    "value",
    [
        {"__ndarray__": {"dtype": "O", "shape": [1], "base64": "AAAAAAAAAAA="}},
        {"__ndarray__": {"dtype": "<f4", "shape": [7], "base64": "AACAPw=="}},
        {"__dt_date_iso__": True, "data": date(2024, 5, 31).isoformat()[:4]},
        {"__decimal__": True, "data": "x"},
    ],
)
def test_a_value_that_is_none_blames_the_input(value: object, load: Load) -> None:
    """An array of objects, or one whose bytes are not its shape's, is a 400."""
    with pytest.raises(InvalidInput, match="no such value"):
        ask(load("class Model:\n    def predict(self, x):\n        return 1\n"), value, binary=True)


def test_other_parameters_are_refused(load: Load) -> None:
    """What a Truss takes is in its input."""
    with pytest.raises(InvalidInput, match="a Truss has no parameter 'temperature'"):
        ask(load("class Model:\n    def predict(self, x):\n        return 1\n"), 1, temperature=1)


# ---- answers in parts (M6, M10)


def parts(runtime: TrussRuntime, value: Any, **parameters: object) -> list[bytes]:
    """What the model yields for a value."""
    given = {"model_input": np.array([json.dumps(value).encode()], dtype=object)}
    return [part["model_output"].tolist()[0] for part in runtime.stream(given, parameters)]


@pytest.mark.parametrize(
    "body",
    [
        "def predict(self, x):\n        yield from x",
        "async def predict(self, x):\n        for part in x:\n            yield part",
        "def predict(self, x) -> Iterator[str]:\n        return iter(x)",
        "async def predict(self, x) -> 'typing.AsyncGenerator[str, None]':\n        return self.each(x)\n"
        "    async def each(self, x):\n        for part in x:\n            yield part",
    ],
)
def test_m6_what_yields_answers_in_parts(body: str, load: Load) -> None:
    """Generators, asynchronous ones, and functions that are hinted to return one; text as UTF-8; preprocess comes first."""
    before = "import typing\nfrom collections.abc import Iterator\nclass Model:\n    def preprocess(self, x): return x['words']\n"
    runtime = load(f"{before}    {body}\n")
    described = runtime.describe(None)
    assert described.streams and described.batched is False
    assert described.outputs is not None and (described.outputs[0].shape, described.outputs[0].content) == ((1,), "")
    assert parts(runtime, {"words": ["a", "", "\u00e4"]}) == [b"a", b"", b"\xc3\xa4"]
    assert parts(runtime, {"words": []}) == []


def test_m10_bytes_are_parts_and_nothing_else_is(load: Load) -> None:
    """What a Truss cannot stream is the model's failure, after the parts before it."""
    runtime = load("class Model:\n    def predict(self, x):\n        yield b'\\xff'\n        yield {'a': 1}\n")
    found = runtime.stream({"model_input": np.array([b"1"], dtype=object)}, {})
    assert next(found)["model_output"].tolist() == [b"\xff"]
    with pytest.raises(ModelFailed, match="predict yielded a dict; a Truss streams text or bytes"):
        next(found)


def test_m10_a_hint_is_a_promise(load: Load) -> None:
    """A function that returns something whole, and says otherwise, has failed."""
    runtime = load("class Model:\n    def predict(self, x) -> 'Iterator[str]':\n        return 'text'\n")
    with pytest.raises(ModelFailed, match="predict returned a str, not what its hint promises"):
        parts(runtime, 1)


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_stream_that_nobody_wants_is_closed(kind: str, load: Load) -> None:
    """Where it yields, so that its ``finally`` is run; the next request works."""
    source = f"""
    class Model:
        closed = 0

        {kind} predict(self, x):
            try:
                while True:
                    yield str(self.closed)
            finally:
                self.closed += 1
    """
    runtime = load(source)
    for number in (b"0", b"1"):
        found = runtime.stream({"model_input": np.array([b"1"], dtype=object)}, {})
        assert next(found)["model_output"].tolist() == [number]
        found.close()


def test_errors_of_a_stream(load: Load) -> None:
    """An HTTPException below 500 blames the input, before the first part and after it; what the model raises is what is raised."""
    source = """
    class HTTPException(Exception):
        def __init__(self, status_code, detail):
            self.status_code, self.detail = status_code, detail

    class Model:
        def predict(self, x):
            if x < 0:
                raise HTTPException(400, "not below 0")
            yield "a"
            raise KeyError("x") if x else HTTPException(422, "not 0")
    """
    runtime = load(source)
    for value, kind, said in ((-1, InvalidInput, "not below 0"), (0, InvalidInput, "not 0"), (1, KeyError, "x")):
        with pytest.raises(kind, match=said):
            parts(runtime, value)


def test_a_binary_request_may_be_answered_in_parts(load: Load) -> None:
    """The model gets arrays; parts are the bytes that they are."""
    runtime = load("class Model:\n    def predict(self, x):\n        yield x.tobytes()\n")
    array = {"__ndarray__": {"dtype": "|u1", "shape": [2], "base64": "AQI="}}
    assert parts(runtime, array, binary=True) == [b"\x01\x02"]
