"""Answers in parts as a client sees them: what is asked for, events cut out of bytes, and what each of them holds."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from headgate.client import steps
from headgate.client.parts import Asked, Events
from headgate.client.steps import Options
from headgate.client.wire import Request, Response
from headgate.errors import DeadlineExceeded, HeadgateError, InvalidRequest, UnknownModel, Unsupported


def described(*, streams: bool = True, **shapes: tuple[str, list[int]]) -> Response:
    """Return the metadata of a deployment; ``out_`` before a name makes an output of it, ``opt_`` an optional input."""
    fields: dict[str, Any] = {"name": "m", "versions": ["1"], "platform": "python", "inputs": [], "outputs": []}
    for name, (dtype, shape) in shapes.items():
        kind, _, rest = name.rpartition("_")
        field = {"name": rest, "datatype": dtype, "shape": shape} | ({"optional": True} if kind == "opt" else {})
        fields["outputs" if kind == "out" else "inputs"].append(field)
    return Response(200, {}, json.dumps(fields | ({"streams": True} if streams else {})).encode())


CHAT = described(prompt=("BYTES", [1]), opt_top=("INT64", [1]), out_text=("BYTES", [1]))


def asked(data: Any, metadata: Response = CHAT, **options: Any) -> Asked:
    """Return what a client would send."""
    work = steps.stream({}, "m", data, Options(**options))
    assert next(work).path.startswith("/v2/models/m")
    with pytest.raises(StopIteration) as end:
        work.send(metadata)
    found: Asked = end.value.value
    return found


def body(request: Request) -> Any:
    """Return what is sent."""
    return json.loads(request.body)


def test_text_stands_for_the_only_input_that_must_be_there() -> None:
    """One value in, one value out of each part; what is optional need not be named."""
    found = asked("hello", version=3, request_id="r", timeout=2.0, parameters={"stop": ["x"]})
    assert found.request.path == "/v2/models/m/versions/3/generate_stream"
    assert body(found.request) == {"prompt": ["hello"], "parameters": {"stop": ["x"]}}
    assert found.request.headers["x-headgate-timeout-ms"] == "2000"
    assert found.request.headers["x-request-id"] == "r"
    assert found.read(b'{"model_name":"m","text":"hi"}') == "hi"


def test_a_dict_stays_a_dict() -> None:
    """Names in, names out; numbers are cast to what the deployment takes."""
    found = asked({"prompt": "hello", "top": np.int8(3)})
    assert body(found.request) == {"prompt": ["hello"], "top": [3]}
    assert found.read(b'{"model_name":"m","text":"hi"}') == {"text": "hi"}


def test_arrays_have_their_shapes_again() -> None:
    """Flat lists become arrays of the dtype and shape of the output; with two dimensions that vary they stay flat."""
    metadata = described(
        x=("FP32", [-1, 2]), out_a=("FP32", [2, -1]), out_b=("BYTES", [-1]), out_c=("INT8", [-1, -1]), out_d=("FP64", [1])
    )  # fmt: skip
    found = asked(np.zeros((1, 2)), metadata)
    assert body(found.request) == {"x": [[0.0, 0.0]]}
    part = found.read(b'{"a":[1,2,3,4],"b":"one","c":[1,2],"d":0.5}')
    assert part["a"].tolist() == [[1, 2], [3, 4]]
    assert part["a"].dtype == np.float32
    assert part["b"].tolist() == ["one"]
    assert (part["c"].shape, part["c"].dtype) == ((2,), np.int8)
    assert part["d"] == 0.5


def test_an_error_in_the_middle_is_raised_as_itself() -> None:
    """With its class and text; nonsense is an error, too."""
    read = asked("x").read
    with pytest.raises(DeadlineExceeded, match="too late"):
        read(b'{"error":"too late","code":"deadline_exceeded"}')
    for nonsense in (b"{", b"[]", b'{"other":1}'):
        with pytest.raises(HeadgateError, match="a part of the answer is broken"):
            read(nonsense)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"prompt": 3}, "input 'prompt': expected text, got 3"),
        ({"prompt": b"\xff"}, "input 'prompt': is no UTF-8 text"),
        ([["a"]], "more than one"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(data: Any, said: str) -> None:
    """Before anything is sent, where the client can tell."""
    if said == "more than one":  # a shape is the server's to refuse, with its own words
        assert body(asked(data).request) == {"prompt": [["a"]]}
        return
    with pytest.raises(InvalidRequest, match=said):
        asked(data)


def test_parameters_that_are_no_json() -> None:
    """They are named."""
    with pytest.raises(InvalidRequest, match="parameters: they cannot be written as JSON"):
        asked("x", parameters={"a": object()})


def test_each_kind_has_its_method() -> None:
    """predict() of a model that answers in parts, and stream() of one that does not, say which it is, and send nothing."""
    whole = described(streams=False, prompt=("BYTES", [1]), out_text=("BYTES", [1]))
    for begin, metadata, said in (
        (steps.predict, CHAT, "m gives its answer in parts: iterate over stream"),
        (steps.stream, whole, "m gives its answer as a whole: call predict"),
    ):
        work: Any = begin({}, "m", {"prompt": ["x"]}, Options())
        next(work)
        with pytest.raises(Unsupported, match=said):
            work.send(metadata)


def test_what_is_known_is_asked_for_again_before_it_refuses() -> None:
    """The deployment may have moved on to a model of the other kind."""
    known: steps.Known = {}
    whole = described(streams=False, prompt=("BYTES", [1]), out_text=("BYTES", [1]))
    first: Any = steps.predict(known, "m", {"prompt": ["x"]}, Options())
    next(first)
    assert first.send(whole).path == "/v2/models/m/infer"
    again: Any = steps.stream(known, "m", {"prompt": ["x"]}, Options())
    assert next(again).path == "/v2/models/m"
    with pytest.raises(StopIteration):
        again.send(CHAT)
    third: Any = steps.stream(known, "m", {"prompt": ["x"]}, Options())
    with pytest.raises(StopIteration) as end:
        next(third)
    assert end.value.value.request.path == "/v2/models/m/generate_stream"


def test_a_refusal_of_the_metadata_is_raised() -> None:
    """A deployment that is not there is not streamed from."""
    work = steps.stream({}, "m", "x", Options())
    next(work)
    with pytest.raises(UnknownModel):
        work.send(Response(404, {}, b'{"error":"nobody","code":"unknown_model"}'))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_cut_wherever_bytes_end(size: int) -> None:
    """Lines that are no data are skipped, lines of one event are joined."""
    data = b'data: {"a":1}\n\n: nothing\n\nevent: x\ndata:one\ndata: two\n\ndata: \xc3\xb8\n\n'
    events = Events()
    found = [event for at in range(0, len(data), size) for event in events.feed(data[at : at + size])]
    assert found == [b'{"a":1}', b"one\ntwo", "ø".encode()]
