"""Bad input: each mistake is a 4xx whose text names the field, what was expected and what came; never a 500, never a neighbour's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from serving import Server, answer_of, tensor

A = '{"name":"a","datatype":"FP32","shape":[1,16],"data":[%s]}'
ONES = ",".join(["1"] * 16)
B = A.replace('"a"', '"b"') % ONES


class Mistake(NamedTuple):
    """One bad request and what its error must say."""

    name: str
    model: str
    body: str
    says: tuple[str, ...]
    status: int = 400


def first(data: str) -> str:
    """Return a request to ``sum`` whose first element of ``a`` is ``data``."""
    return f'{{"inputs":[{A % ",".join([data] + ["1"] * 15)},{B}]}}'


def of_a(text: str) -> str:
    """Return a request to ``sum`` with ``text`` for the input ``a``."""
    return f'{{"inputs":[{text},{B}]}}'


def types(name: str, *data: str, dtype: str = "", shape: str = "[1,2]") -> str:
    """Return a request to ``types``."""
    return f'{{"inputs":[{{"name":"{name}","datatype":"{dtype or name.upper()}","shape":{shape},"data":[{",".join(data)}]}}]}}'


def whole(**more: Any) -> str:
    """Return a good request to ``sum`` with more keys."""
    return json.dumps({"inputs": [json.loads(A % ONES), json.loads(B)], **more})


MISTAKES = [
    Mistake("a string among floats", "sum", first('"x"'), ("input 'a'", "element 0", '"x"', "FP32", "numbers")),
    Mistake("true among floats", "sum", first("true"), ("input 'a'", "element 0 is true", "FP32")),
    Mistake("null among floats", "sum", first("null"), ("input 'a'", "element 0 is null", "FP32")),
    Mistake("an object among floats", "sum", first('{"b64":"AA=="}'), ("input 'a'", "element 0", "b64")),
    Mistake("a list among floats", "sum", of_a(A % f"1,[1],{ONES[4:]}"), ("input 'a'", "element 1 is [1]")),
    Mistake("a float too large for FP32", "sum", first("1e39"), ("input 'a'", "element 0 is 1e+39", "out of range for FP32")),
    Mistake("a float too large for FP64", "types", types("fp64", "1e400", "0"), ("1e400", "out of range")),
    Mistake("a float too large, negative", "types", types("fp64", "0", "-1e999"), ("-1e999", "out of range")),
    Mistake(
        "an integer too large for a float",
        "types",
        types("fp64", "0", "1" * 400),
        ("input 'fp64'", "element 1", "out of range for FP64"),
    ),
    Mistake("a number of 10,000 digits", "types", types("int64", "0", "1" * 10_000), ("digits",)),
    Mistake("a number of 10,000 digits for floats", "sum", first("1" * 10_000), ("digits",)),
    Mistake("a float of 10,000 digits", "types", types("fp64", "0", "1" * 10_000 + ".5"), ("out of range",)),
    Mistake("a number of 10,000 digits for half floats", "types", types("fp16", "0", "1" * 4000), ("'fp16'", "out of range")),
    Mistake("NaN among integers", "types", types("int32", "NaN", "1"), ("input 'int32'", "element 0", "INT32")),
    Mistake("NaN for a truth value", "types", types("bool", "NaN", "true"), ("input 'bool'", "BOOL")),
    Mistake(
        "a number among strings",
        "text",
        types("text", "1", dtype="BYTES", shape="[1,1]"),
        ("input 'text'", "element 0 is 1", "strings"),
    ),
    Mistake("null among strings", "types", types("bytes", "null", '"a"'), ("input 'bytes'", "element 0 is null")),
    Mistake("a lone surrogate", "text", types("text", '"\\ud800"', dtype="BYTES", shape="[1,1]"), ("lone surrogate", "binary")),
    Mistake("half a pair turned round", "types", types("bytes", '"\\udc00\\ud800"', '""'), ("lone surrogate",)),
    Mistake("a lone surrogate in an input's name", "sum", of_a((A % ONES).replace('"a"', '"\\ud800"')), ("surrogate",)),
    Mistake("a lone surrogate in the id", "sum", whole(id="\ud800"), ("surrogate",)),
    Mistake("a lone surrogate in a parameter", "sum", whole(parameters={"\ud800": 1}), ("surrogate",)),
    Mistake("a lone surrogate in an output's name", "sum", whole(outputs=[{"name": "\udfff"}]), ("surrogate",)),
    Mistake("data that is a string", "sum", of_a((A % "").replace("[]", '"abc"')), ("input 'a'",)),
    Mistake("data that is an object", "sum", of_a((A % "").replace("[]", '{"0":1}')), ("input 'a'",)),
    Mistake("data that is null", "sum", of_a((A % "").replace("[]", "null")), ("input 'a'", "no field is set")),
    Mistake("a shape that is a number", "sum", of_a((A % ONES).replace("[1,16]", "16")), ("shape", "array")),
    Mistake("a shape with a float", "sum", of_a((A % ONES).replace("[1,16]", "[1,16.5]")), ("shape",)),
    Mistake("a shape with a string", "sum", of_a((A % ONES).replace("[1,16]", '[1,"16"]')), ("shape",)),
    Mistake("a shape with null", "sum", of_a((A % ONES).replace("[1,16]", "[null,16]")), ("shape",)),
    Mistake("a shape with a huge size", "sum", of_a((A % ONES).replace("[1,16]", f"[{'9' * 400},16]")), ("'a'",)),
    Mistake(
        "a shape of 10,000 sizes",
        "sum",
        of_a((A % ONES).replace("[1,16]", f"[{'1,' * 9999}16]")),
        ("input 'a'", "Expected [-1,16]"),
    ),
    Mistake("a datatype in lower case", "sum", of_a((A % ONES).replace("FP32", "fp32")), ("'a'", "'fp32'", "'FP32'")),
    Mistake("a datatype that is a number", "sum", of_a((A % ONES).replace('"FP32"', "32")), ("datatype",)),
    Mistake("a name that is null", "sum", of_a((A % ONES).replace('"a"', "null")), ("name",)),
    Mistake("an input that is a string", "sum", of_a('"a"'), ("inputs[0]",)),
    Mistake("an input that is null", "sum", of_a("null"), ("inputs[0]",)),
    Mistake("inputs that are null", "sum", '{"inputs":null}', ("inputs",)),
    Mistake("a body that is a list", "sum", "[]", ("object",)),
    Mistake("a body that is a number", "sum", "1", ("object",)),
    Mistake("a body that is NaN", "sum", "NaN", ("object",)),
    Mistake("parameters that are a list", "sum", whole(parameters=[]), ("parameters",)),
    Mistake("outputs that are an object", "sum", whole(outputs={}), ("outputs",)),
    Mistake("an output that is a string", "sum", whole(outputs=["sum"]), ("outputs[0]",)),
    Mistake("an output without a name", "sum", whole(outputs=[{}]), ("outputs[0].name",)),
    Mistake("an output's name of 10,000 letters", "sum", whole(outputs=[{"name": "x" * 10_000}]), ("unexpected inference output",)),
    Mistake(
        "an input's name of 10,000 letters",
        "sum",
        of_a((A % ONES).replace('"a"', f'"{"x" * 10_000}"')),
        ("unexpected inference input",),
    ),
    Mistake(
        "classes below none", "sum", whole(outputs=[{"name": "sum", "parameters": {"classification": -2}}]), ("classification",)
    ),
    Mistake("two values for one row", "ragged", types("x", "256", "1", dtype="UINT8"), ("input 'x'", "element 0 is 256", "UINT8")),
    Mistake(
        "rows that differ in number", "plane", types("x", "1", dtype="FP32", shape="[2,1,1]"), ("input 'x'", "2 elements", "has 1")
    ),
    Mistake("a comma too many", "sum", '{"inputs":[],}', ("failed to parse", " at ")),
    Mistake("single quotes", "sum", "{'inputs':[]}", ("failed to parse", " at 1")),
    Mistake("a comment", "sum", '{"inputs":[]/**/}', ("failed to parse",)),
    Mistake("cut in the middle", "sum", whole()[:-20], ("failed to parse",)),
    Mistake("UTF-16", "sum", whole().encode("utf-16").decode("latin-1"), ("failed to parse",)),
    Mistake("a byte order mark", "sum", "\u00ef\u00bb\u00bf" + whole(), ("failed to parse",)),
    Mistake("a control character in a string", "sum", whole(id="?").replace("?", "\n"), ("failed to parse",)),
]


@pytest.fixture
def neighbour(server: Server) -> Iterator[list[int]]:
    """A client that sends good requests to the same models all the while; it must never notice."""
    seen: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        client = server.client()
        body = whole()
        while not stop.is_set():
            client.request("POST", "/v2/models/sum/infer", body)
            seen.append(answer_of(client.getresponse()).status)
        client.close()

    thread = threading.Thread(target=ask)
    thread.start()
    yield seen
    stop.set()
    thread.join()


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.name for mistake in MISTAKES])
def test_a_mistake_is_explained(server: Server, mistake: Mistake) -> None:
    """Its status, and an error that names field, expected and got, in a text of bounded length."""
    answer = server.infer(mistake.model, mistake.body.encode("latin-1"))
    assert answer.status == mistake.status, answer.body[:300]
    for text in mistake.says:
        assert text in answer.error, answer.error[:500]
    assert len(answer.body) < 1500
    assert "Traceback" not in answer.error and "site-packages" not in answer.error


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.name for mistake in MISTAKES])
def test_the_same_mistake_in_a_long_body(server: Server, mistake: Mistake) -> None:
    """Long bodies take another way through the parser: they must come to the same end."""
    answer = server.infer(mistake.model, mistake.body.encode("latin-1").ljust(8192))
    assert answer.status == mistake.status, answer.body[:300]
    for text in mistake.says:
        assert text in answer.error, answer.error[:500]


def test_neighbours_never_notice(server: Server, neighbour: list[int]) -> None:
    """While all these mistakes come in, who asks rightly is answered 200, every time."""
    for mistake in MISTAKES:
        server.infer(mistake.model, mistake.body.encode("latin-1"))
    assert len(neighbour) > 1
    assert set(neighbour) == {200}


def test_one_connection_survives_all_mistakes(server: Server) -> None:
    """A mistake in a body costs the request, not the connection."""
    client = server.client()
    client.connect()
    sock = client.sock
    for mistake in MISTAKES:
        client.request("POST", f"/v2/models/{mistake.model}/infer", mistake.body.encode("latin-1"))
        assert answer_of(client.getresponse()).status == mistake.status
    client.request("POST", "/v2/models/sum/infer", whole())
    assert answer_of(client.getresponse()).status == 200
    assert client.sock is sock
    client.close()


def test_of_equal_keys_the_last_counts(server: Server) -> None:
    """JSON leaves it open; here it is the last one, in short bodies, long ones and those with NaN alike."""
    row = '{"name":"fp32","name":"fp64","datatype":"FP64","shape":[1,1],"shape":[1,2],"data":[7,7],"data":[1,'
    for value, pad in (("2", 0), ("2", 9000), ("Infinity", 0)):
        answer = server.infer("types", f'{{"inputs":[],"inputs":[{row}{value}]}}]}}'.encode().ljust(pad))
        assert answer.data("same_fp64") == [1.0, float(value)]


def test_models_that_are_not_there(server: Server) -> None:
    """The name is said, at most part of a long one, and what is there."""
    for name in ("nobody", "SUM", "sum%20", "x" * 3000, "..", "%2e%2e", "sum%00"):
        answer = server.infer(name, whole())
        assert answer.status == 404, name
        assert "unknown model" in answer.error
        assert len(answer.error) < 1000


@pytest.mark.parametrize("size", [0, 1, 3, 4, 100])
def test_lying_binary_lengths(server: Server, size: int) -> None:
    """Whatever a binary input claims, the bytes are counted."""
    body = {"inputs": [tensor("x", "FP32", [1, 1], binary_data_size=size)]}
    answer = server.infer("two", body, blobs=bytes(4))
    assert answer.status == (200 if size == 4 else 400)
    if size != 4:
        assert "'x'" in answer.error and f"got {size}" in answer.error
