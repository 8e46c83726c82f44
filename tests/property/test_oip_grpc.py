"""What the gRPC side of the Open Inference Protocol does by hand, a message class would do no otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, example, given, settings, strategies as st
from hypothesis.extra import numpy as npst

from headgate.errors import HeadgateError
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base import Batch, InferRequest, InferResponse, OutputTensor, Plan
from headgate.protocols.base.skeletons import LONGEST, MOST_KEPT, Skeletons
from headgate.protocols.base.wireformat import delimited, fields, varint
from headgate.protocols.oip import OIPGrpc
from headgate.protocols.oip.contents import SLOTS, find_tensors, split_raw
from headgate.tensors import DTYPES, elements, frame_bytes, from_numpy

REQUEST = OIPGrpc.messages.message("inference.ModelInferRequest")
RESPONSE = OIPGrpc.messages.message("inference.ModelInferResponse")
STREAMED = OIPGrpc.messages.message("inference.ModelStreamInferResponse")
SIGNATURE = Signature(
    inputs=tuple(TensorSpec(name=name.lower(), dtype=name, shape=(-1, -1), optional=True) for name in DTYPES),
    outputs=tuple(TensorSpec(name=f"out{index}", dtype="FP32", shape=(-1, 1)) for index in range(3)),
    batched=True,
    parameters=True,
)
PARAMETERS = {
    "bool_param": st.booleans(),
    "int64_param": st.integers(-9, 9),
    "string_param": st.text(max_size=3),
    "double_param": st.floats(),
}


class Call:
    """The request around a message."""

    method, query, params, headers = "POST", "", {}, {}  # type: ignore[var-annotated]
    path = "/inference.GRPCInferenceService/ModelInfer"


def new_plan() -> Plan:
    """Return a plan that has seen nothing."""
    return Plan("m", SIGNATURE, max_rows=8, splittable=False)


def outcome(protocol: OIPGrpc, plan: Plan, body: bytes) -> object:
    """Return all that becomes of a request: which model it is for and what is queued, or its refusal."""
    try:
        incoming = protocol.parse(Call(), body)
        address = protocol.address(Call(), incoming)
        infer = protocol.decode(Call(), incoming, plan)
    except HeadgateError as error:
        return type(error), str(error)
    data = [None if data is None else bytes(data) for data in infer.data]
    shapes = [None if shape is None else list(shape) for shape in infer.shapes]
    wishes = (infer.outputs, repr(infer.parameters), infer.timeout, infer.priority)
    return address, shapes, data, infer.id, wishes, infer.rows, infer.key


@st.composite
def requests(draw: st.DrawFn) -> Any:
    """Requests as clients send them: typed or raw, any datatypes, with or without id, parameters and requested outputs."""
    names = draw(st.lists(st.sampled_from(list(DTYPES)), max_size=3, unique=True))
    raw = draw(st.booleans())
    message = REQUEST(
        model_name=draw(st.text(max_size=4)), model_version=draw(st.sampled_from(["", "1"])), id=draw(st.sampled_from(["", "i"]))
    )
    for name in names:
        shape = draw(st.sampled_from([[1, 1], [1, 2], [2, 1], [0, 3]]))
        tensor = message.inputs.add(name=name.lower(), datatype=name, shape=shape)
        array = draw(
            npst.arrays(object, shape, elements=st.binary(max_size=3), fill=st.nothing())
            if name == "BYTES"
            else npst.arrays(DTYPES[name].numpy if name != "BF16" else "float32", shape)
        )
        if raw:
            message.raw_input_contents.append(bytes(from_numpy(DTYPES[name], array)))
        elif name in SLOTS:
            getattr(tensor.contents, SLOTS[name]).extend(array.ravel().tolist())
    for key in draw(st.lists(st.sampled_from(["priority", "user", "timeout"]), max_size=1)):
        field = draw(st.sampled_from(list(PARAMETERS)))
        setattr(message.parameters[key], field, draw(PARAMETERS[field]))
    for index in draw(st.permutations(range(3)))[: draw(st.integers(0, 2))]:
        message.outputs.add(name=f"out{index}")
    return message


@given(requests(), st.data())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_what_is_known_is_read_no_otherwise(message: Any, data: st.DataObject) -> None:
    """A protocol that has seen a message says of any other of its length just what one says that has seen nothing."""
    warm, plan = OIPGrpc(), new_plan()
    body = message.SerializeToString()
    first = outcome(warm, plan, body)
    assert outcome(warm, plan, body) == first == outcome(OIPGrpc(), new_plan(), body)
    for _ in range(3):
        other = bytearray(body)
        for _ in range(data.draw(st.integers(1, 4)) if other else 0):
            other[data.draw(st.integers(0, len(other) - 1))] = data.draw(st.integers(0, 255))
        assert outcome(warm, plan, bytes(other)) == outcome(OIPGrpc(), new_plan(), bytes(other))
        assert outcome(warm, new_plan(), bytes(other)) == outcome(OIPGrpc(), new_plan(), bytes(other))


@given(requests())
def test_requests_are_what_their_message_says(message: Any) -> None:
    """What is queued is read off the message by hand, field for field, where the request is not refused."""
    got = outcome(OIPGrpc(), new_plan(), message.SerializeToString())
    if isinstance(got, tuple) and len(got) == 2:
        return
    (model, version), shapes, tensors, identified, *_ = got  # type: ignore[misc]
    assert (model, version or "", identified or "") == (message.model_name, message.model_version, message.id)
    raw = iter(message.raw_input_contents)
    for tensor in message.inputs:
        index = list(DTYPES).index(tensor.datatype)
        assert shapes[index] == list(tensor.shape)
        if message.raw_input_contents:
            assert tensors[index] == next(raw)
        elif elements(tensor.shape):
            values = getattr(tensor.contents, SLOTS[tensor.datatype])
            kind = DTYPES[tensor.datatype]
            expected = frame_bytes(values) if kind.kind == "bytes" else memoryview(tensors[index]).cast(kind.typecode)  # type: ignore[call-overload]
            assert tensors[index] == expected if kind.kind == "bytes" else repr(list(expected)) == repr(list(values))


OUTPUTS = st.lists(
    st.tuples(
        st.text(min_size=1, max_size=5),
        st.sampled_from(list(DTYPES)),
        st.lists(st.integers(0, 2**40), max_size=3),
        st.binary(max_size=400),
    ),
    max_size=3,
)
"""Name, datatype, shape and bytes: whether they fit each other does not matter to who writes them."""


@given(
    st.text(min_size=1, max_size=5),
    st.none() | st.text(min_size=1, max_size=300),
    OUTPUTS,
    st.none() | st.lists(st.integers(0, 2), max_size=3),
)
def test_answers_are_what_the_message_class_writes(
    model: str, identified: str | None, given_outputs: list[tuple[str, str, list[int], bytes]], wanted: list[int] | None
) -> None:
    """Byte for byte, alone and on a stream, the first time and from what is kept."""
    request = InferRequest.of(0)
    request.id = identified
    request.outputs = None if wanted is None else [index for index in wanted if index < len(given_outputs)]
    outputs = [OutputTensor(name, DTYPES[dtype], shape, data) for name, dtype, shape, data in given_outputs]
    chosen = outputs if request.outputs is None else [outputs[index] for index in request.outputs]
    expected = RESPONSE(model_name=model, model_version="3", id=identified or "")
    for output in chosen:
        expected.outputs.add(name=output.name, datatype=output.dtype.name, shape=output.shape)
        expected.raw_output_contents.append(bytes(output.data))
    response = InferResponse(model, "3", outputs, Batch(0.0, 1, 0.0))
    protocol = OIPGrpc()
    for _ in range(2):
        assert protocol.encode(request, response).body == expected.SerializeToString(deterministic=True)
    expected.parameters["triton_final_response"].bool_param = True
    streamed = STREAMED(infer_response=expected)
    assert protocol.encode_streamed(request, response) == streamed.SerializeToString(deterministic=True)


@given(requests(), st.binary(max_size=6), st.data())
def test_taking_the_tensors_out_changes_nothing_else(message: Any, tail: bytes, data: st.DataObject) -> None:
    """Of any bytes: what the walk takes, the message class takes too, and reads the same out of the rest."""
    body = bytearray(message.SerializeToString() + tail)
    for _ in range(data.draw(st.integers(0, 3)) if body else 0):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        rest, blobs = split_raw(body)
    except ValueError:
        return
    whole, parts = read(bytes(body)), read(rest)
    assert (whole is None) == (parts is None)
    if whole is not None:
        assert list(whole.raw_input_contents) == [bytes(blob) for blob in blobs]
        assert not parts.raw_input_contents
        parts.raw_input_contents.extend([bytes(blob) for blob in blobs])
        assert parts.SerializeToString(deterministic=True) == whole.SerializeToString(deterministic=True)


ODD = {
    "cut off in a tensor": b"\x3a\x05abc",
    "cut off behind a tag": b"\x3a",
    "cut off in a length": b"\x3a\x80",
    "a tag in five bytes": b"\xba\x80\x80\x80\x00\x01a",
    "a tag in six bytes": b"\xba\x80\x80\x80\x80\x00\x01a",
    "a tag beyond all numbers": b"\xba\x80\x80\x80\x10\x01a",
    "a length in five bytes": b"\x3a\x81\x80\x80\x80\x00a",
    "a length in six bytes": b"\x3a\x81\x80\x80\x80\x80\x00a",
    "a number where the tensor should be": b"\x38\x01\x3a\x01a",
    "a field nobody knows": b"\xc2\x3e\x01x\x3a\x01a",
    "a group around a tensor": b"\xc3\x3e\x3a\x01a\xc4\x3e",
    "field zero": b"\x02\x01a\x3a\x01a",
    "tensors between other fields": b"\x3a\x01a\x0a\x01m\x3a\x01b\x1a\x01i",
}


@pytest.mark.parametrize("name", ODD)
def test_odd_messages_are_taken_as_the_message_class_takes_them(name: str) -> None:
    """Either both read them, and the same, or the message class explains what is wrong with the whole."""
    whole = read(ODD[name])
    try:
        rest, blobs = split_raw(ODD[name])
    except ValueError:
        rest, blobs = ODD[name], []
    parts = read(rest)
    assert (whole is None) == (parts is None)
    if whole is not None:
        assert [*blobs, *parts.raw_input_contents] == list(whole.raw_input_contents)
        assert (parts.model_name, parts.id) == (whole.model_name, whole.id)


def read(body: bytes) -> Any:
    """Return the message, or None."""
    try:
        return REQUEST.FromString(body)
    except DecodeError:
        return None


@given(st.integers(0, 2**63 - 1), st.integers(1, 2**28), st.binary(max_size=300))
@example(127, 15, b"")
@example(128, 16, bytes(128))
def test_fields_are_found_where_they_were_written(value: int, number: int, content: bytes) -> None:
    """Numbers in as few bytes as they need; a field's content lies between its ends, whatever stands around it."""
    assert len(varint(value)) == max(1, -(-value.bit_length() // 7))
    body = (
        varint(5 << 3) + varint(value) + delimited(number, content) + varint(6 << 3 | 5) + bytes(4) + varint(7 << 3 | 1) + bytes(8)
    )
    found = list(fields(body))
    assert [field.number for field in found] == [5, number, 6, 7]
    assert [field.delimited for field in found] == [False, True, False, False]
    assert body[found[1].start : found[1].stop] == content
    assert [field.at for field in found[1:]] == [field.stop for field in found[:-1]]


def test_what_is_known_stays_bounded() -> None:
    """However many messages there are, and however long: the store holds so many, and none that is longer outside its tensors."""
    known: Skeletons[int] = Skeletons()
    for number in range(3 * MOST_KEPT):
        assert known.keep(b"%06d" % number + bytes(9), [(6, 15)], number)
        assert known.find(b"%06d" % number + b"any bytes") == number
    assert sum(known.find(b"%06d" % number + bytes(9)) is not None for number in range(3 * MOST_KEPT)) <= MOST_KEPT
    assert not known.keep(bytes(LONGEST + 2), [(0, 1)], 1)
    assert known.find(bytes(LONGEST + 2)) is None


def test_one_length_cut_in_two_ways() -> None:
    """Messages of one length whose tensors lie elsewhere are told apart; a tensor may be empty, or first, or all there is."""
    known: Skeletons[str] = Skeletons()
    assert known.keep(b"aaXXbb", [(2, 4)], "middle")
    assert known.keep(b"YYcccc", [(0, 2)], "first")
    assert known.keep(b"ddddZZ", [(2, 2), (4, 6)], "last")
    assert known.keep(b"eeeeee", [(0, 6)], "all") is True
    assert known.keep(b"aaXXcc", [(3, 4)], "one too many") is False
    assert known.find(b"aa..bb") == "middle"
    assert known.find(b"..cccc") == "first"
    assert known.find(b"dddd..") == "last"


def test_tensors_are_found_in_the_order_of_the_inputs() -> None:
    """Raw ones behind each other; typed floats inside their inputs."""
    message = REQUEST(model_name="m", raw_input_contents=[b"one", b"", b"three"])
    body = message.SerializeToString()
    assert [body[start:stop] for start, stop in find_tensors(body)] == [b"one", b"", b"three"]
    typed = REQUEST(model_name="m")
    typed.inputs.add(name="a").contents.fp32_contents.extend([1.0])
    typed.inputs.add(name="b").contents.int64_contents.extend([1])
    typed.inputs.add(name="c").contents.fp64_contents.extend([1.0])
    body = typed.SerializeToString()
    assert [body[start:stop] for start, stop in find_tensors(body)] == [b"\x00\x00\x80\x3f", b"\x00" * 6 + b"\xf0\x3f"]
