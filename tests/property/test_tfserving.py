"""What TensorFlow Serving's protocol does by hand, a message class or NumPy would do no otherwise; and whatever comes in is answered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import numpy as np
from hypothesis import example, given, strategies as st
from hypothesis.extra import numpy as npst

from headgate.errors import HeadgateError, InvalidRequest
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base import Batch, InferRequest, InferResponse, OutputTensor, Plan
from headgate.protocols.tfserving import PredictionService, TFServing
from headgate.protocols.tfserving.answers import shortest
from headgate.protocols.tfserving.dtypes import TYPES
from headgate.protocols.tfserving.incoming import _without_contents
from headgate.protocols.tfserving.messages import MESSAGES, PREDICT_REQUEST
from headgate.tensors import DTYPES, from_numpy, to_numpy

RESPONSE = MESSAGES.message("tensorflow.serving.PredictResponse")
SIGNATURE = Signature(
    inputs=tuple(TensorSpec(name=name.lower(), dtype=name, shape=(-1, -1), optional=True) for name in DTYPES),
    outputs=tuple(TensorSpec(name=f"out{index}", dtype="FP32", shape=(-1, 1)) for index in range(3)),
    batched=True,
)
BINARY = {"FP32": "float_val", "FP64": "double_val"}
SHAPES = npst.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=4)
WORDS = st.binary(max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just({"b64": "YQ=="}),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["b64", *map(str.lower, DTYPES)]), inner, max_size=3)
    ),
    max_leaves=12,
)


class Call:
    """The request around a message or a body."""

    method, query = "POST", ""
    params: Mapping[str, str] = MappingProxyType({})
    headers = params

    def __init__(self, path: str) -> None:
        self.path = path


PREDICT = Call("/tensorflow.serving.PredictionService/Predict")


def new_plan() -> Plan:
    """Return a plan that has seen nothing."""
    return Plan("m", SIGNATURE, max_rows=8, splittable=False)


@st.composite
def arrays(draw: st.DrawFn) -> tuple[str, np.ndarray[Any, Any]]:
    """An Open Inference Protocol's datatype and an array of it."""
    name = draw(st.sampled_from(list(DTYPES)))
    shape = draw(SHAPES)
    if name == "BYTES":
        flat = draw(st.lists(WORDS, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
        array = np.empty(len(flat), object)
        array[:] = flat
        return name, array.reshape(shape)
    wide = "float32" if name == "BF16" else DTYPES[name].numpy
    return name, draw(npst.arrays(wide, shape))


@st.composite
def requests(draw: st.DrawFn) -> Any:
    """A PredictRequest, its tensors as content or as elements."""
    message = PREDICT_REQUEST(output_filter=draw(st.lists(st.sampled_from(["out0", "out1", "none"]), max_size=2)))
    message.model_spec.name = draw(st.sampled_from(["m", ""]))
    for name, array in draw(st.lists(arrays(), max_size=3)):
        tensor = message.inputs[name.lower()]
        tensor.dtype = TYPES[name].number
        for size in array.shape:
            tensor.tensor_shape.dim.add(size=size)
        data = bytes(from_numpy(DTYPES[name], array))
        if name != "BYTES" and draw(st.booleans()):
            tensor.tensor_content = data
        else:
            bits = np.frombuffer(data, "uint16") if name in ("FP16", "BF16") else array.ravel()
            getattr(tensor, TYPES[name].field).extend(bits.tolist())
    return message


def outcome(protocol: PredictionService, plan: Plan, body: bytes) -> object:
    """Return all that is queued of a request, or the error it ends in."""
    try:
        message = protocol.parse(PREDICT, body)
        address = protocol.address(PREDICT, message)
        infer = protocol.decode(PREDICT, message, plan)
    except HeadgateError as error:
        return type(error), str(error)
    data = [None if one is None else bytes(one) for one in infer.data]
    shapes = [None if shape is None else list(shape) for shape in infer.shapes]
    return address, data, shapes, infer.rows, infer.key, infer.outputs, infer.wire


@given(st.lists(requests(), min_size=1, max_size=4), st.data())
def test_messages_that_are_known_mean_what_they_say(messages: list[Any], data: st.DataObject) -> None:
    """A service that has seen many messages reads each as one that has seen none, whatever was changed in it."""
    seasoned, plan = PredictionService(), new_plan()
    bodies = [message.SerializeToString() for message in messages]
    for _ in range(3):
        body = bytearray(data.draw(st.sampled_from(bodies)))
        for _ in range(data.draw(st.integers(0, 2)) if body else 0):
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        expected = outcome(PredictionService(), new_plan(), bytes(body))
        assert outcome(seasoned, plan, bytes(body)) == expected
        assert outcome(seasoned, plan, bytes(body)) == expected


@given(requests())
def test_messages_without_their_contents_are_otherwise_the_same(message: Any) -> None:
    """Cutting the contents out and putting them back leaves the message as it was."""
    rest, contents = _without_contents(message.SerializeToString())
    again = PREDICT_REQUEST.FromString(rest)
    assert not any(tensor.tensor_content for tensor in again.inputs.values())
    for name, content in contents.items():
        again.inputs[name].tensor_content = bytes(content)
    assert again == message


@given(st.binary(max_size=60))
def test_bytes_of_any_kind_are_answered(body: bytes) -> None:
    """What is no message is the client's mistake, for every method."""
    service = PredictionService()
    for method in ("Predict", "Classify", "Regress"):
        call = Call(f"/tensorflow.serving.PredictionService/{method}")
        with suppress(InvalidRequest):
            service.address(call, service.parse(call, body))


@given(st.lists(arrays(), min_size=1, max_size=3))
def test_answers_are_what_the_message_class_reads(given_arrays: list[tuple[str, np.ndarray[Any, Any]]]) -> None:
    """Every output comes back with its name, datatype, shape and elements."""
    outputs = [
        OutputTensor(f"out{index}", DTYPES[name], array.shape, bytes(from_numpy(DTYPES[name], array)))
        for index, (name, array) in enumerate(given_arrays)
    ]
    request = InferRequest.of(0)
    request.wire = "tensorflow/serving/predict", "serving_default"
    reply = PredictionService().encode(request, InferResponse("m", "3", outputs, Batch(0.0, 1, 0.0)))
    answer = RESPONSE.FromString(bytes(reply.body))
    assert set(answer.outputs) == {output.name for output in outputs} and answer.model_spec.version.value == 3
    for (name, array), output in zip(given_arrays, outputs, strict=True):
        tensor = answer.outputs[output.name]
        assert tensor.dtype == TYPES[name].number
        assert [dim.size for dim in tensor.tensor_shape.dim] == list(array.shape)
        values = list(getattr(tensor, TYPES[name].field))
        if name == "BYTES":
            assert values == array.ravel().tolist()
        else:
            kind = "uint16" if name in ("FP16", "BF16") else DTYPES[name].numpy
            assert np.array(values, kind).tobytes() == output.data or any(value != value for value in values)


@given(st.lists(st.floats(width=32), max_size=30))
@example([3.4028234663852886e38, 1e-45, -0.0])
def test_shortened_floats_are_the_same_floats(values: list[float]) -> None:
    """Read as single precision they are what they were, and none has more than nine digits."""
    array = np.array(values, "float32")
    found = shortest(OutputTensor("x", DTYPES["FP32"], array.shape, array.tobytes()))
    assert np.array_equal(np.array(found, "float32"), array, equal_nan=True)
    assert all(value != value or value in (float("inf"), float("-inf")) or float(f"{value:.9g}") == value for value in found)


@given(st.sampled_from(["instances", "inputs", "examples"]), JSON, st.sampled_from(["predict", "classify", "regress"]))
@example("instances", [{"b64": 1}], "predict")
def test_json_of_any_kind_is_answered(key: str, value: Any, verb: str) -> None:
    """Whatever stands in a request, it is taken or refused as the client's mistake."""
    with suppress(InvalidRequest):
        infer = TFServing().decode(Call(f"/v1/models/m:{verb}"), json.dumps({key: value}).encode(), new_plan())
        assert verb == "predict" and infer.rows >= 0


@given(arrays())
def test_json_means_what_numpy_reads(given_array: tuple[str, np.ndarray[Any, Any]]) -> None:
    """Rows and columns of numbers become the same tensor that NumPy makes of them."""
    name, array = given_array
    if name == "BYTES" or not array.size:
        return
    plan, call = new_plan(), Call("/v1/models/m:predict")
    index = plan.by_name[name.lower()].index
    rows = {"instances": [{name.lower(): row} for row in array.tolist()]}
    for body in (rows, {"inputs": {name.lower(): array.tolist()}}):
        infer = TFServing().decode(call, json.dumps(body).encode(), plan)
        expected = to_numpy(DTYPES[name], array.shape, bytes(from_numpy(DTYPES[name], array)))
        assert np.array_equal(to_numpy(DTYPES[name], infer.shapes[index], infer.data[index]), expected, equal_nan=name[0] in "FB")
