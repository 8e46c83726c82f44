"""What goes over the wire: tensors survive the trip, broken answers and refusals become errors that say what happened."""

import json

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays

from headgate import errors
from headgate.client.wire import Response, check, pack, read_metadata, unpack
from headgate.tensors import DTYPES

FIXED = [name for name, dtype in DTYPES.items() if dtype.size and name != "BF16"]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
TEXTS = arrays.arrays(object, SHAPES, elements=st.text(), fill=st.nothing())


@st.composite
def typed(draw: st.DrawFn) -> dict[str, tuple[str, np.ndarray]]:
    """Named arrays with their dtypes, as `pack` takes them."""
    tensors: dict[str, tuple[str, np.ndarray]] = {}
    for name in draw(st.lists(st.text(min_size=1, max_size=5), unique=True, min_size=1, max_size=4)):
        dtype = draw(st.sampled_from([*FIXED, "BYTES"]))
        array = draw(TEXTS if dtype == "BYTES" else arrays.arrays(DTYPES[dtype].numpy, SHAPES))
        tensors[name] = (dtype, array)
    return tensors


@given(typed())
def test_tensors_survive_the_trip(tensors: dict[str, tuple[str, np.ndarray]]) -> None:
    """What `pack` writes, `unpack` reads back: names in order, dtypes, shapes and every bit."""
    length, body = pack("inputs", tensors, {"id": "a"})
    head, back = unpack("inputs", str(length), body)
    assert head["id"] == "a"
    assert list(back) == list(tensors)
    for name, (_, array) in tensors.items():
        assert back[name].shape == array.shape
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


@given(typed())
def test_the_body_is_what_the_protocol_says(tensors: dict[str, tuple[str, np.ndarray]]) -> None:
    """The JSON says of every input its datatype, its shape and its bytes, and the bytes add up to the body."""
    length, body = pack("inputs", tensors, {})
    described = json.loads(body[:length])["inputs"]
    assert [(item["name"], item["datatype"]) for item in described] == [(name, dtype) for name, (dtype, _) in tensors.items()]
    assert sum(item["parameters"]["binary_data_size"] for item in described) == len(body) - length


@given(st.binary(), st.integers(-5, 400))
def test_any_bytes_give_arrays_or_an_error_of_ours(body: bytes, length: int) -> None:
    """An answer that is no answer never raises anything but a HeadgateError."""
    with pytest.raises(errors.HeadgateError):
        unpack("outputs", str(length), body)


@given(typed(), st.integers(1, 8))
def test_a_truncated_answer_is_refused(tensors: dict[str, tuple[str, np.ndarray]], missing: int) -> None:
    """An answer that lost bytes at its end is refused; it is not given to the caller as if it were whole."""
    length, body = pack("outputs", tensors, {})
    if len(body) - length < missing:
        return
    with pytest.raises(errors.HeadgateError, match="broken"):
        unpack("outputs", str(length), body[:-missing])


def test_bytes_left_over_are_refused() -> None:
    """An answer with more bytes than its outputs account for is refused."""
    length, body = pack("outputs", {"y": ("FP32", np.zeros(2, "float32"))}, {})
    with pytest.raises(errors.HeadgateError, match="4 bytes are left over"):
        unpack("outputs", str(length), body + b"more")


def test_outputs_in_the_json_are_read() -> None:
    """A server may answer some outputs, or all, as JSON: numbers and text come back as arrays of their dtype and shape."""
    outputs = [
        {"name": "y", "datatype": "FP32", "shape": [2, 1], "data": [0.5, 1.5]},
        {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["a", "ü"]},
    ]
    _, back = unpack("outputs", None, json.dumps({"outputs": outputs}).encode())
    assert back["y"].dtype == np.float32
    assert back["y"].tolist() == [[0.5], [1.5]]
    assert back["label"].tolist() == ["a", "ü"]


def test_bytes_that_are_no_text_can_be_had_back() -> None:
    """An output of bytes that are not UTF-8 comes as text from which the very bytes can be had."""
    blob = np.array([b"\xff\x00\xfe"], dtype=object)
    length, body = pack("outputs", {"y": ("BYTES", blob)}, {})
    text = unpack("outputs", str(length), body)[1]["y"][0]
    assert text.encode("utf-8", "surrogateescape") == b"\xff\x00\xfe"


def answer(status: int, body: object, **headers: str) -> Response:
    """An answer with a JSON body."""
    return Response(status, headers, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": "input 'x'", "code": "invalid_request"}, errors.InvalidRequest),
        (400, {"error": "no code"}, errors.InvalidRequest),
        (413, {"error": "too large", "code": "payload_too_large"}, errors.PayloadTooLarge),
        (401, {"error": "no key"}, errors.Unauthenticated),
        (403, {"error": "scope"}, errors.PermissionDenied),
        (404, {"error": "no such model"}, errors.NotFound),
        (422, {"error": "odd"}, errors.InvalidRequest),
        (503, {"error": "replica", "code": "replica_lost"}, errors.ReplicaLost),
        (503, {"error": "starting"}, errors.NotReady),
        (504, {"error": "late"}, errors.DeadlineExceeded),
        (500, {"error": "boom", "code": "model_failed"}, errors.ModelFailed),
    ],
)
def test_refusals_are_raised_as_their_class(status: int, body: dict[str, str], kind: type[Exception]) -> None:
    """The code of an error decides its class, else the status; its text is the server's."""
    with pytest.raises(kind, match=body["error"]) as raised:
        check(answer(status, body))
    assert type(raised.value) is kind


def test_when_to_retry_is_kept() -> None:
    """The Retry-After of a shed request is on the error, for the caller's own retry."""
    with pytest.raises(errors.Overloaded) as raised:
        check(Response(429, {"retry-after": "7"}, b'{"error": "full", "code": "overloaded"}'))
    assert raised.value.retry_after == 7.0


def test_a_refusal_without_a_reason_names_the_status() -> None:
    """An error page of something in between, which is no JSON, still becomes an error that tells the status."""
    with pytest.raises(errors.HeadgateError, match="502"):
        check(Response(502, {}, b"<html>bad gateway</html>"))


def test_metadata_is_read() -> None:
    """Inputs and outputs come with name, dtype, shape and whether they may be left out, in the deployment's order."""
    body = {
        "name": "fraud",
        "versions": ["1", "2"],
        "platform": "onnx",
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "z", "datatype": "BOOL", "shape": [-1], "optional": True},
        ],
        "outputs": [{"name": "y", "datatype": "BYTES", "shape": [-1]}],
    }
    metadata = read_metadata(answer(200, body))
    assert metadata.versions == ("1", "2")
    assert metadata.inputs == (("x", "FP32", (-1, 3), False), ("z", "BOOL", (-1,), True))
    assert metadata.outputs == (("y", "BYTES", (-1,), False),)
    assert metadata.streams is False
    assert read_metadata(answer(200, body | {"streams": True})).streams is True
