"""Points 62 to 76 of the Open Inference Protocol checklist, without a socket: what a message becomes, and what becomes of an answer."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from google.protobuf import descriptor_pool
from unwired import INFER, ROW, SUM, TYPES, Call, OneModel, Wire, answer, ask, plan, sums

from headgate import plugins
from headgate.errors import HeadgateError, InvalidRequest, PayloadTooLarge, Unsupported
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base.grpc import GrpcProtocol
from headgate.protocols.base.wireformat import delimited
from headgate.protocols.oip import OIP, OIPGrpc, OIPGrpcExtensions
from headgate.protocols.oip.contents import split_raw
from headgate.tensors import DTYPES, frame_bytes

PAIRS = TensorSpec(name="fp32", dtype="FP32", shape=(-1, 2))
RAGGED = TensorSpec(name="fp64", dtype="FP64", shape=(-1, -1))
SERVICE = "/inference.GRPCInferenceService/"
VALUES: dict[str, tuple[str, list[Any], bytes]] = {
    "BOOL": ("bool_contents", [True, False], b"\x01\x00"),
    "INT8": ("int_contents", [-128, 127], b"\x80\x7f"),
    "INT16": ("int_contents", [-32768, 32767], struct.pack("<2h", -32768, 32767)),
    "INT32": ("int_contents", [-(2**31), 2**31 - 1], struct.pack("<2i", -(2**31), 2**31 - 1)),
    "INT64": ("int64_contents", [-(2**63), 2**63 - 1], struct.pack("<2q", -(2**63), 2**63 - 1)),
    "UINT8": ("uint_contents", [0, 255], b"\x00\xff"),
    "UINT16": ("uint_contents", [0, 65535], struct.pack("<2H", 0, 65535)),
    "UINT32": ("uint_contents", [0, 2**32 - 1], struct.pack("<2I", 0, 2**32 - 1)),
    "UINT64": ("uint64_contents", [0, 2**64 - 1], struct.pack("<2Q", 0, 2**64 - 1)),
    "FP32": ("fp32_contents", [1.5, float("-inf")], struct.pack("<2f", 1.5, float("-inf"))),
    "FP64": ("fp64_contents", [0.1, float("inf")], struct.pack("<2d", 0.1, float("inf"))),
    "BYTES": ("bytes_contents", [b"", b"\xff\x00"], frame_bytes([b"", b"\xff\x00"])),
}
"""Datatype -> its slot, two values at the edges of its range, and their binary form."""


@pytest.fixture
def wire() -> Wire:
    """A protocol of its own for each test: what one has seen cannot help the next."""
    return Wire()


@pytest.fixture
def types() -> Wire:
    """The same for the model with an optional input of each datatype."""
    return Wire(TYPES)


def refused(wire: Wire, message: Any, *texts: str, kind: type[HeadgateError] = InvalidRequest) -> None:
    """Assert that a request is refused with all of ``texts``, and that seeing it again changes nothing."""
    for _ in range(2):
        with pytest.raises(kind) as raised:
            wire.decode(message)
        for text in texts:
            assert text in str(raised.value)


def test_p62_every_published_method_has_a_route() -> None:
    """All methods of the service, the extensions' too, by their full names, and ModelStreamInfer as a stream."""
    routes = {route.path: route for route in (*OIPGrpc.routes, *OIPGrpcExtensions.routes)}
    methods = OIPGrpc.messages.service(OIPGrpc.service).methods
    assert set(routes) == {SERVICE + method.name for method in methods}
    assert {path for path, route in routes.items() if route.streaming} == {SERVICE + "ModelStreamInfer"}
    assert all(route.transport == "grpc" and route.method == "POST" for route in routes.values())


def test_p63_health_is_a_bool(wire: Wire) -> None:
    """Live, ready, and ready of one model, with and without a version; a model that is not there is not ready."""
    message = wire.protocol.messages.message
    assert ask(wire.protocol, SERVICE + "ServerLive", message("inference.ServerLiveRequest")()).live is True
    assert ask(wire.protocol, SERVICE + "ServerReady", message("inference.ServerReadyRequest")()).ready is True
    unready = OneModel()
    unready.ready = False
    assert ask(wire.protocol, SERVICE + "ServerReady", message("inference.ServerReadyRequest")(), unready).ready is False
    for name, version, ready in (("sum", "", True), ("sum", "2", True), ("sum", "1", False), ("sum", "9", False), ("x", "", False)):
        asked = message("inference.ModelReadyRequest")(name=name, version=version)
        assert ask(wire.protocol, SERVICE + "ModelReady", asked).ready is ready, (name, version)


def test_p64_an_empty_version_is_the_servers_choice(wire: Wire) -> None:
    """No version: as the split decides; else a number or an alias; the model is the one that is named, even if its name is empty."""
    for version, expected in (("", None), ("2", "2"), ("champion", "champion")):
        incoming = wire.protocol.parse(Call(INFER), wire.both(model_version=version).SerializeToString())
        assert wire.protocol.address(Call(INFER), incoming) == ("sum", expected)
    nameless = wire.protocol.parse(Call(INFER), wire.message("").SerializeToString())
    assert wire.protocol.address(Call(INFER), nameless) == ("", None)


def test_p65_typed_and_raw_exclude_each_other(wire: Wire) -> None:
    """One input with contents in a request that has raw contents is refused, and named."""
    message = wire.both()
    message.inputs[1].contents.fp32_contents.extend([0.0] * 16)
    refused(wire, message, "contents field must not be specified when using raw_input_contents for 'b' for model 'sum'")


def test_p65_empty_contents_are_contents(wire: Wire) -> None:
    """A contents message that was sent, though nothing stands in it, is one too many beside raw contents."""
    message = wire.both()
    message.inputs[0].contents.SetInParent()
    refused(wire, message, "contents field must not be specified when using raw_input_contents for 'a'")


def test_p66_raw_contents_follow_the_order_of_the_inputs(wire: Wire) -> None:
    """The first blob is the first input's, whatever the model's own order."""
    message = wire.message(raw_input_contents=[b"b" * 64, b"a" * 64])
    for name in "ba":
        message.inputs.add(name=name, datatype="FP32", shape=[1, 16])
    for _ in range(2):
        assert [bytes(data) for data in wire.decode(message).data] == [b"a" * 64, b"b" * 64]


def test_p66_one_blob_for_each_input(wire: Wire) -> None:
    """Too few are missing data, too many are refused, and none at all is missing data too."""
    few, many, none = wire.both(), wire.both(), wire.both()
    del few.raw_input_contents[1]
    many.raw_input_contents.append(b"")
    del none.raw_input_contents[:]
    refused(wire, few, "unable to find data for input tensor 'b' for model 'sum' in request.")
    refused(wire, many, "unexpected additional input data for model 'sum'", "3 raw_input_contents for 2 inputs")
    refused(wire, none, "unable to find data for input tensor 'a' for model 'sum' in request.")


def test_p66_the_size_of_a_blob_is_that_of_its_shape(wire: Wire) -> None:
    """More or fewer bytes than shape and datatype say are refused with both numbers."""
    for data in (b"", ROW[:-1], ROW + b"\x00"):
        message = wire.both()
        message.raw_input_contents[1] = data
        refused(wire, message, f"input byte size mismatch for input 'b' for model 'sum'. Expected 64, got {len(data)}")


@pytest.mark.parametrize("name", VALUES)
def test_p67_each_datatype_has_its_slot(types: Wire, name: str) -> None:
    """Values at the edges of the range arrive as they are, typed and raw alike, the first time and every other."""
    slot, values, expected = VALUES[name]
    raw = types.message("types", raw_input_contents=[expected])
    raw.inputs.add(name=name.lower(), datatype=name, shape=[1, 2])
    for message in (types.one(name, slot, values), raw):
        for _ in range(2):
            request = types.decode(message)
            index = types.plan.by_name[name.lower()].index
            assert bytes(request.data[index]) == expected
            assert list(request.shapes[index]) == [1, 2]
            assert request.rows == 1
            assert [at for at, shape in enumerate(request.shapes) if shape is not None] == [index]


@pytest.mark.parametrize("name", VALUES)
def test_p67_a_wrong_slot_is_refused(types: Wire, name: str) -> None:
    """Elements of another kind's slot are refused with both datatypes and the place they belong into."""
    slot = VALUES[name][0]
    for other, values, _ in VALUES.values():
        if other != slot:
            texts = (
                f"unexpected explicit tensor data for input tensor '{name.lower()}' for model 'sum' of type",
                f"'{name}'",
                slot,
            )
            refused(types, types.one(name, other, values), *texts)


def test_p67_half_floats_come_raw_only(types: Wire) -> None:
    """FP16 and BF16 have no slot: typed they are refused, raw they are taken."""
    for name in ("FP16", "BF16"):
        refused(types, types.one(name, "fp32_contents", [1.0, 2.0]), f"expected datatype '{name}'", "raw_input_contents")
        raw = types.message("types", raw_input_contents=[b"\x00\x3c\x00\x40"])
        raw.inputs.add(name=name.lower(), datatype=name, shape=[1, 2])
        assert bytes(types.decode(raw).data[types.plan.by_name[name.lower()].index]) == b"\x00\x3c\x00\x40"


@pytest.mark.parametrize(
    ("name", "value"), [("INT8", 128), ("INT8", -129), ("INT16", 32768), ("UINT8", 256), ("UINT16", 65536), ("UINT16", 2**32 - 1)]
)
def test_p67_numbers_out_of_range_are_refused(types: Wire, name: str, value: int) -> None:
    """A slot holds wider numbers than its datatypes: what does not fit is refused, not cut."""
    texts = (f"input '{name.lower()}'", f"element 1 is {value}", f"out of range for {name}")
    refused(types, types.one(name, VALUES[name][0], [0, value]), *texts)


@pytest.mark.parametrize("name", VALUES)
def test_p67_as_many_elements_as_the_shape_says(types: Wire, name: str) -> None:
    """One element too few or too many is refused with both counts; for no elements at all nothing need be sent."""
    slot, values, _ = VALUES[name]
    counts = "unexpected number of string elements" if name == "BYTES" else "input byte size mismatch"
    refused(types, types.one(name, slot, values[:1]), counts, f"'{name.lower()}'")
    refused(types, types.one(name, slot, [*values, values[0]]), counts, f"'{name.lower()}'")
    refused(types, types.one(name, slot, []), f"unable to find data for input tensor '{name.lower()}'")
    assert bytes(types.decode(types.one(name, slot, [], [0, 2])).data[types.plan.by_name[name.lower()].index]) == b""


def test_p67_contents_in_pieces(types: Wire) -> None:
    """A field that is sent in several pieces is one field, and fields that nobody knows are nobody's data."""
    one, two = (delimited(5, delimited(6, struct.pack("<f", value))) for value in (1.0, 2.0))
    head = delimited(1, b"fp32") + delimited(2, b"FP32") + delimited(3, b"\x01\x02")
    empty = delimited(1, b"fp64") + delimited(2, b"FP64") + delimited(3, b"\x01\x00")
    unpacked = delimited(5, b"\x35" + struct.pack("<f", 1.0) + b"\x35" + struct.pack("<f", 2.0))
    strange = delimited(5, delimited(99, b"x") + delimited(6, struct.pack("<2f", 1.0, 2.0)) + delimited(98, b"y"))
    types.plan = plan(Signature(inputs=(PAIRS, RAGGED), outputs=(), batched=True))
    for contents in (one + two, unpacked, strange):
        body = delimited(1, b"types") + delimited(5, head + contents) + delimited(5, empty)
        for _ in range(2):
            request = types.decode(body)
            assert [bytes(data) for data in request.data] == [struct.pack("<2f", 1.0, 2.0), b""]


def test_p67_broken_framing_and_broken_truth_are_refused(types: Wire) -> None:
    """Raw BYTES whose lengths do not add up, and a BOOL that is neither 0 nor 1, are looked at in every request."""
    for good, bad, name, text in (
        (frame_bytes([b"a", b"b"]), b"\x05\x00\x00\x00a\x01\x00\x00\x00b", "BYTES", "string elements"),
        (b"\x01\x00", b"\x01\x02", "BOOL", "must be 0 or 1"),
    ):
        message = types.message("types", raw_input_contents=[good])
        message.inputs.add(name=name.lower(), datatype=name, shape=[1, 2])
        types.decode(message)
        message.raw_input_contents[0] = bad
        refused(types, message, text, f"'{name.lower()}'")


def test_p68_answers_are_raw(wire: Wire) -> None:
    """One blob for each output in order, name, datatype and shape beside it, and no typed contents."""
    got = wire.encode(wire.decode(wire.both(id="42")), sums())
    assert (got.model_name, got.model_version, got.id) == ("sum", "2", "42")
    assert [(out.name, out.datatype, list(out.shape)) for out in got.outputs] == [
        ("sum", "FP32", [1, 16]),
        ("difference", "FP32", [1, 16]),
    ]
    assert list(got.raw_output_contents) == [b"\x00" * 64, b"\x01" * 64]
    assert not any(out.HasField("contents") for out in got.outputs)


def test_p39_outputs_in_the_order_they_were_asked_for(wire: Wire) -> None:
    """Only those that are named; one that does not exist, or is named twice, is refused."""
    message = wire.both()
    message.outputs.add(name="difference")
    got = wire.encode(wire.decode(message), sums())
    assert [out.name for out in got.outputs] == ["difference"]
    assert list(got.raw_output_contents) == [b"\x01" * 64]
    message.outputs.add(name="sum")
    for _ in range(2):
        assert [out.name for out in wire.encode(wire.decode(message), sums()).outputs] == ["difference", "sum"]
    message.outputs.add(name="sum")
    refused(wire, message, "output 'sum' already exists in request")
    message.outputs[2].name = "product"
    refused(wire, message, "unexpected inference output 'product' for model 'sum'")


def test_p69_parameters_in_the_forms_that_clients_send(types: Wire) -> None:
    """Priority as signed or unsigned, timeout in microseconds, and any other value under its key as what it is."""
    message = types.one("FP32", "fp32_contents", [1.0, 2.0])
    given = message.parameters
    given["priority"].uint64_param = 3
    given["timeout"].int64_param = 1_500_000
    given["temperature"].double_param = 0.5
    given["user"].string_param = "me"
    given["deep"].bool_param = False
    for _ in range(2):
        request = types.decode(message)
        assert (request.priority, request.timeout) == (3, 1.5)
        assert request.parameters == {"temperature": 0.5, "user": "me", "deep": False}
    given["priority"].int64_param = 1
    given["timeout"].uint64_param = 0
    request = types.decode(message)
    assert (request.priority, request.timeout) == (1, None)


def test_p69_parameters_that_mean_nothing_are_refused(wire: Wire) -> None:
    """No value, a reserved name, a negative time, a priority that is text: each names the key."""
    for key, field, value, text in (
        ("empty", "", None, "parameter 'empty': it has no value"),
        ("triton_x", "bool_param", True, "parameter keys starting with 'triton_' are reserved"),
        ("timeout", "int64_param", -1, "parameter 'timeout'"),
        ("timeout", "uint64_param", 2**63, "parameter 'timeout'"),
        ("priority", "string_param", "1", "parameter 'priority'"),
        ("triton_enable_empty_final_response", "int64_param", 1, "triton_enable_empty_final_response"),
    ):
        message = wire.both()
        if field:
            setattr(message.parameters[key], field, value)
        else:
            message.parameters[key].SetInParent()
        refused(wire, message, text)


@pytest.mark.parametrize(
    ("key", "field", "value"),
    [("sequence_id", "int64_param", 1), ("sequence_id", "string_param", "a"), ("sequence_start", "bool_param", True)],
)
def test_p69_sequences_are_refused(wire: Wire, key: str, field: str, value: Any) -> None:
    """What is not offered is said to be so, with the name of the parameter."""
    message = wire.both()
    setattr(message.parameters[key], field, value)
    refused(wire, message, f"parameter '{key}'", "sequence", kind=Unsupported)


def test_p69_shared_memory_is_refused(wire: Wire) -> None:
    """At an input or an output, by name."""
    message = wire.both()
    message.inputs[1].parameters["shared_memory_region"].string_param = "region"
    refused(wire, message, "input 'b'", "Client shared memory is disabled", kind=Unsupported)
    message = wire.both()
    message.outputs.add(name="sum").parameters["shared_memory_region"].string_param = "region"
    refused(wire, message, "Client shared memory is disabled", kind=Unsupported)


def test_p70_errors_have_the_texts_and_codes_of_http(wire: Wire) -> None:
    """What both read, both refuse in the same words: missing, unknown and repeated inputs, datatypes, shapes, rows."""
    missing, unknown, twice = wire.both(), wire.both(), wire.both()
    del missing.inputs[1], missing.raw_input_contents[1]
    unknown.inputs[1].name = "c"
    twice.inputs[1].name = "a"
    dtype, shape, rows = wire.both(), wire.both(), wire.both()
    dtype.inputs[0].datatype = "INT32"
    shape.inputs[0].shape[1] = 17
    rows.inputs[0].shape[0] = 2
    rows.raw_input_contents[0] = ROW * 2
    refused(wire, missing, "expected 2 inputs but got 1 inputs for model 'sum'", "missing required input(s) ['b']")
    refused(wire, unknown, "unexpected inference input 'c' for model 'sum'")
    refused(wire, twice, "input 'a' already exists in request")
    refused(wire, dtype, "inference input 'a' data-type is 'INT32', but model 'sum' expects 'FP32'")
    refused(wire, shape, "unexpected shape for input 'a' for model 'sum'. Expected [-1,16], got [1,17]")
    refused(wire, rows, "input 'b' batch size does not match other inputs for 'sum'")
    assert InvalidRequest.grpc == 3 and Unsupported.grpc == 12


def test_p70_bytes_that_are_no_message_are_an_invalid_argument(wire: Wire) -> None:
    """Small and large; the method is named."""
    for body in (b"\xff", wire.both().SerializeToString()[:-1], wire.both().SerializeToString() + b"\x0a" + bytes(100_000)):
        with pytest.raises(InvalidRequest, match="ModelInfer: the message cannot be parsed"):
            wire.decode(body)


@pytest.mark.parametrize("identified", ["", "7"])
def test_p71_large_tensors_are_not_copied(wire: Wire, identified: str) -> None:
    """The tensors of a large request lie where they came in, with an id and without, at first and again."""
    wire.plan = plan(SUM, max_rows=4096)
    message = wire.message(id=identified, raw_input_contents=[ROW * 1024, ROW * 1024])
    for name in "ab":
        message.inputs.add(name=name, datatype="FP32", shape=[1024, 16])
    for _ in range(3):
        body = message.SerializeToString()
        request = wire.decode(body)
        assert [data.obj is body for data in request.data] == [True, True]
        assert [bytes(data) for data in request.data] == [ROW * 1024] * 2
        assert (request.rows, request.id) == (1024, identified or None)


def test_p71_elements_one_by_one_are_limited(types: Wire) -> None:
    """Millions of small numbers are refused, before each has cost its time, with the way that has no such limit; floats have none."""
    many = 4 << 20
    types.plan = plan(TYPES, max_rows=1 << 24)
    refused(
        types, types.one("INT8", "int_contents", [1] * (many + 2), [many // 2 + 1, 2]), "raw_input_contents", kind=PayloadTooLarge
    )
    floats = types.decode(types.one("FP32", "fp32_contents", [1.0] * (many + 2), [many // 2 + 1, 2]))
    assert floats.rows == many // 2 + 1


def test_p71_a_message_of_very_many_fields(wire: Wire) -> None:
    """It is read, refused or not, in no more time than a message class takes: nothing looks at its fields one by one."""
    body = wire.both().SerializeToString() + b"\xc0\x3e\x01" * 300_000
    with pytest.raises(ValueError, match="more than 1024 fields"):
        split_raw(body)
    assert wire.decode(body).rows == 1
    assert wire.protocol.parse(Call(INFER), body).outline is None, "a message this long outside of its tensors is not kept"


def test_p74_messages_live_in_a_pool_of_their_own() -> None:
    """The process-wide pool knows none of them, so that a client's library may register the same names."""
    for kind in (OIPGrpc, *(kind for _, kind in plugins.load_all("headgate.protocols") if issubclass(kind, GrpcProtocol))):
        with pytest.raises(KeyError):
            descriptor_pool.Default().FindServiceByName(kind.service)


def test_p75_the_same_request_over_http_is_the_same(wire: Wire) -> None:
    """Shapes, bytes, rows and outputs are what the binary form over HTTP gives."""
    message = wire.both()
    message.outputs.add(name="difference")
    json = (
        b'{"inputs":[{"name":"a","datatype":"FP32","shape":[1,16],"parameters":{"binary_data_size":64}},'
        b'{"name":"b","datatype":"FP32","shape":[1,16],"parameters":{"binary_data_size":64}}],"outputs":[{"name":"difference"}]}'
    )
    call = Call("/v2/models/sum/infer", {"inference-header-content-length": str(len(json))})
    http, grpc = OIP().decode(call, json + ROW + ROW, wire.plan), wire.decode(message)
    assert [list(shape) for shape in grpc.shapes] == [list(shape) for shape in http.shapes]
    assert [bytes(data) for data in grpc.data] == [bytes(data) for data in http.data]
    assert (grpc.rows, grpc.key) == (http.rows, http.key)
    assert grpc.outputs == [index for index, _ in http.outputs or ()]


def test_p76_metadata(wire: Wire) -> None:
    """The server's extensions are those it says over HTTP; a model's inputs, outputs, versions and platform."""
    message = wire.protocol.messages.message
    server = ask(wire.protocol, SERVICE + "ServerMetadata", message("inference.ServerMetadataRequest")())
    assert server.name == "headgate" and "binary_tensor_data" in server.extensions
    model = ask(wire.protocol, SERVICE + "ModelMetadata", message("inference.ModelMetadataRequest")(name="sum", version="1"))
    assert (model.name, list(model.versions), model.platform) == ("sum", ["1", "2"], "python")
    assert [(spec.name, spec.datatype, list(spec.shape)) for spec in model.inputs] == [
        ("a", "FP32", [-1, 16]),
        ("b", "FP32", [-1, 16]),
    ]
    assert [spec.name for spec in model.outputs] == ["sum", "difference"]


def test_x16_answers_on_a_stream(wire: Wire) -> None:
    """Wrapped, with the id of the request, and marked as the last answer to it."""
    message = wire.both(id="a")
    message.parameters["triton_enable_empty_final_response"].bool_param = True
    request = wire.decode(message, SERVICE + "ModelStreamInfer")
    got = wire.streamed_class.FromString(wire.protocol.encode_streamed(request, answer(sums())))
    assert got.error_message == ""
    assert got.infer_response.id == "a"
    assert got.infer_response.parameters["triton_final_response"].bool_param is True
    assert list(got.infer_response.raw_output_contents) == [b"\x00" * 64, b"\x01" * 64]
    assert request.parameters is None


def test_x16_errors_on_a_stream(wire: Wire) -> None:
    """In the band with the id, so that the stream goes on; as its status where the client asked for that; unreadable ones too."""
    stream, error = SERVICE + "ModelStreamInfer", InvalidRequest("input 'a': no")
    for identified in ("", "a"):
        incoming = wire.protocol.parse(Call(stream), wire.both(id=identified).SerializeToString())
        got = wire.streamed_class.FromString(wire.protocol.encode_streamed_error(incoming, error) or b"")
        assert (got.error_message, got.infer_response.id) == ("input 'a': no", identified)
    wire.decode(wire.both())
    known = wire.protocol.parse(Call(stream), wire.both().SerializeToString())
    assert wire.streamed_class.FromString(wire.protocol.encode_streamed_error(known, error) or b"").error_message == "input 'a': no"
    asked = wire.protocol.parse(Call(stream, {"triton_grpc_error": "true"}), wire.both().SerializeToString())
    assert wire.protocol.encode_streamed_error(asked, error) is None
    unread = wire.streamed_class.FromString(wire.protocol.encode_streamed_error(None, error) or b"")
    assert unread.error_message == "input 'a': no"


def test_every_datatype_is_tried() -> None:
    """The table above knows every datatype but those that have no slot."""
    assert set(VALUES) == set(DTYPES) - {"FP16", "BF16"}
