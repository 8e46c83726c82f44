"""Points 44 to 55 of the TensorFlow Serving checklist, without a socket: the two gRPC services."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from google.protobuf import descriptor_pool
from tfserving_unwired import (
    CLASSIFIER,
    MODEL,
    PREDICTION,
    REGRESSOR,
    SUM,
    TYPED,
    Service,
    ask,
    catalogue,
    message,
    predict,
    spec,
    tensor,
)

from headgate.errors import FailedPrecondition, HeadgateError, InvalidRequest, NotFound, PayloadTooLarge, UnknownModel, Unsupported
from headgate.package.signature import Signature, TensorSpec
from headgate.protocols.base import OutputTensor
from headgate.protocols.tfserving import ModelService, PredictionService
from headgate.protocols.tfserving.dtypes import BY_NUMBER, TYPES
from headgate.protocols.tfserving.incoming import LARGE
from headgate.protocols.tfserving.messages import MESSAGES
from headgate.tensors import DTYPES, frame_bytes

PAIR = struct.pack("<2f", 1.5, -2.0)
BOTH = {"a": tensor("FP32", [1, 2], PAIR), "b": tensor("FP32", [1, 2], float_val=[3.0, 4.0])}
INTEGERS = {"INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q"}


def edges(dtype: str) -> tuple[int, int]:
    """Return the least and the largest integer of a datatype."""
    bits = 8 * DTYPES[dtype].size
    return (0, (1 << bits) - 1) if dtype.startswith("U") else (-(1 << bits - 1), (1 << bits - 1) - 1)


VALUES: dict[str, tuple[str, list[Any], bytes]] = {
    "FP32": ("float_val", [1.5, float("-inf")], struct.pack("<2f", 1.5, float("-inf"))),
    "FP64": ("double_val", [0.1, float("inf")], struct.pack("<2d", 0.1, float("inf"))),
    "BOOL": ("bool_val", [True, False], b"\x01\x00"),
    "BYTES": ("string_val", [b"", b"\xff\x00"], frame_bytes([b"", b"\xff\x00"])),
    "FP16": ("half_val", [0x3C00, 0xFC00], struct.pack("<2e", 1.0, float("-inf"))),
    "BF16": ("half_val", [0x3F80, 0xC000], b"\x80\x3f\x00\xc0"),
    **{
        dtype: (TYPES[dtype].field, list(edges(dtype)), struct.pack(f"<2{code}", *edges(dtype))) for dtype, code in INTEGERS.items()
    },
}
"""Datatype -> the field of its elements, two of them at the edges of its range, and their binary form."""


def refused(service: Service, request: Any, method: str = "Predict", kind: type[HeadgateError] = InvalidRequest) -> str:
    """Return the error that a request must end in."""
    with pytest.raises(kind) as raised:
        service.decode(request, method)
    assert type(raised.value) is kind
    return str(raised.value)


def test_p44_the_services_and_their_methods() -> None:
    """Every method of both services has a route; SessionService, which exists in the published files only, has none."""
    for kind in (PredictionService, ModelService):
        methods = {f"/{kind.service}/{method.name}" for method in MESSAGES.service(kind.service).methods}
        assert {route.path for route in kind.routes} == methods
        assert {route.transport for route in kind.routes} == {"grpc"}
    with pytest.raises(KeyError):
        MESSAGES.service("tensorflow.serving.SessionService")


def test_p44_messages_are_in_a_pool_of_their_own() -> None:
    """The names are those that TensorFlow registers, so none may be in the process-wide pool."""
    for name in ("tensorflow.TensorProto", "tensorflow.serving.PredictRequest", "tensorflow.Example"):
        assert MESSAGES.message(name) is not None
        with pytest.raises(KeyError):
            descriptor_pool.Default().FindMessageTypeByName(name)


def test_p44_every_datatype_has_tensorflows_name() -> None:
    """The table is complete, and its numbers and fields are those of the messages."""
    enum = message(".TensorProto").DESCRIPTOR.fields_by_name["dtype"].enum_type
    assert TYPES.keys() == DTYPES.keys() and len(BY_NUMBER) == len(TYPES)
    for kind in TYPES.values():
        assert enum.values_by_name[kind.name].number == kind.number
        assert kind.field in message(".TensorProto").DESCRIPTOR.fields_by_name


def test_p45_model_specs() -> None:
    """Name, and version or label. The answer says which version it was, and which signature."""
    service = Service()
    for method, kind in (("Predict", "PredictRequest"), ("Classify", "ClassificationRequest"), ("Regress", "RegressionRequest")):
        assert service.address(message(kind, model_spec=spec("x")), method) == ("x", None)
        assert service.address(message(kind, model_spec=spec("x", version=3)), method) == ("x", "3")
        assert service.address(message(kind, model_spec=spec("x", label="champion")), method) == ("x", "champion")
        with pytest.raises(InvalidRequest, match="Unrecognized servable version label: 3"):
            service.address(message(kind, model_spec=spec("x", label="3")), method)
    request = service.decode(predict(BOTH))
    answer = service.answer(request, [OutputTensor("sum", DTYPES["FP32"], [1, 2], PAIR)])
    assert answer.model_spec == spec("m", version=7, signature="serving_default")


@pytest.mark.parametrize("dtype", VALUES)
def test_p46_elements_one_by_one_and_as_content(dtype: str) -> None:
    """Every datatype in both forms; the same bytes are queued. Strings as content: their lengths, then themselves."""
    field, values, binary = VALUES[dtype]
    content = b"\x00\x02\xff\x00" if dtype == "BYTES" else binary
    for form in (tensor(dtype, [1, 2], **{field: values}), tensor(dtype, [1, 2], content)):
        service = Service(TYPED)
        request = service.decode(predict({dtype.lower(): form}))
        index = service.plan.by_name[dtype.lower()].index
        assert bytes(request.data[index]) == binary
        assert request.shapes[index] == [1, 2]
        assert [shape for shape in request.shapes if shape is not None] == [[1, 2]], "no other input was given"


@pytest.mark.parametrize("dtype", VALUES)
def test_p46_a_single_value_is_repeated(dtype: str) -> None:
    """Too few elements: the last one stands for the rest; none: zeros, or empty strings. Too many are refused."""
    field, values, binary = VALUES[dtype]
    service = Service(TYPED)
    index = service.plan.by_name[dtype.lower()].index
    last = frame_bytes([values[1]]) if dtype == "BYTES" else binary[len(binary) // 2 :]
    request = service.decode(predict({dtype.lower(): tensor(dtype, [3, 2], **{field: values})}))
    assert bytes(request.data[index]) == binary + 4 * last
    nothing = service.decode(predict({dtype.lower(): tensor(dtype, [3, 2])}))
    assert not any(nothing.data[index]) and len(nothing.data[index]) == 6 * (DTYPES[dtype].size or 4)
    text = refused(service, predict({dtype.lower(): tensor(dtype, [1, 2], **{field: [*values, values[0]]})}))
    assert f"{field} has 3 elements, shape [1, 2] holds 2" in text


def test_p46_repeating_is_bounded() -> None:
    """A few bytes cannot ask for gigabytes."""
    wide = Service(Signature(inputs=(TensorSpec(name="x", dtype="FP32", shape=(-1, -1)),), outputs=SUM.outputs, batched=True))
    text = refused(wide, predict({"x": tensor("FP32", [1, 1 << 40], float_val=[1.0])}), kind=PayloadTooLarge)
    assert "repeating the last one" in text
    texts = Service(Signature(inputs=(TensorSpec(name="x", dtype="BYTES", shape=(-1, -1)),), outputs=SUM.outputs, batched=True))
    assert "repeating" in refused(texts, predict({"x": tensor("BYTES", [1, 1 << 40], string_val=[b""])}), kind=PayloadTooLarge)
    assert "does not hold" in refused(texts, predict({"x": tensor("BYTES", [1, 1 << 40], b"\x00")}))


def test_p46_content_of_the_wrong_size_or_type() -> None:
    """What does not fit its shape or its signature is refused, in TensorFlow's names."""
    service = Service(TYPED)
    text = refused(service, predict({"fp32": tensor("FP32", [1, 2], PAIR[:7])}))
    assert text == "input 'fp32': tensor parsing error: tensor_content has 7 bytes; shape [1, 2] of DT_FLOAT takes 8"
    text = refused(service, predict({"fp32": tensor("INT32", [1, 2], int_val=[1, 2])}))
    assert text == "input 'fp32' of model 'm' is expected to be DT_FLOAT, got DT_INT32"
    strange = tensor("FP32", [1, 2], PAIR)
    strange.dtype = 8
    assert "got the DataType 8" in refused(service, predict({"fp32": strange}))
    assert "must be 0 or 1" in refused(service, predict({"bool": tensor("BOOL", [1, 2], b"\x01\x02")}))
    assert "Expected [-1,2], got [1,3]" in refused(service, predict({"fp32": tensor("FP32", [1, 3], float_val=[1])}))
    assert "shape" in refused(service, predict({"fp32": tensor("FP32", [-1, 2], float_val=[1])}))
    unknown = tensor("FP32", [], float_val=[1])
    unknown.tensor_shape.unknown_rank = True
    assert "unknown_rank" in refused(service, predict({"fp32": unknown}))
    for content in (b"\x05\x00a", b"\xff\xff\xff\xff\xff\xff\xff", b"\x01"):
        assert "does not hold 2 strings" in refused(service, predict({"bytes": tensor("BYTES", [1, 2], content)}))
    for dtype, value in (("INT8", 300), ("UINT8", -1), ("UINT16", 70_000)):
        text = refused(service, predict({dtype.lower(): tensor(dtype, [1, 2], int_val=[value])}))
        assert "int_val" in text and "out of range" in text, "TensorFlow Serving would cut it off"


def test_p46_known_messages_mean_what_they_meant() -> None:
    """A message like one before is not parsed again: other numbers, the same request; other wishes are not overlooked."""
    service = Service()
    first = predict(BOTH, outputs=["sum"])
    service.decode(first)
    other = predict({"a": tensor("FP32", [1, 2], PAIR[::-1]), "b": tensor("FP32", [1, 2], float_val=[5.0, 6.0])}, outputs=["sum"])
    body = other.SerializeToString()
    request = service.decode(body)
    assert [bytes(data) for data in request.data] == [PAIR[::-1], struct.pack("<2f", 5, 6)]
    assert (request.shapes, request.outputs, request.rows) == ([[1, 2], [1, 2]], [0], 1)
    assert all(isinstance(data, memoryview) and data.obj is body for data in request.data), "nothing is copied"
    assert service.decode(predict(BOTH, outputs=["difference"])).outputs == [1]
    assert service.decode(predict(BOTH)).outputs is None


def test_p46_a_known_message_is_checked_against_the_plan_of_its_revision() -> None:
    """What one revision allows another may not: knowing the message does not skip the check."""
    service = Service()
    service.decode(predict(BOTH))
    service.plan = Service(TYPED).plan
    assert "input size does not match signature" in refused(service, predict(BOTH))
    service.plan = Service().plan
    assert bytes(service.decode(predict(BOTH)).data[0]) == PAIR


@pytest.mark.parametrize("content", [True, False])
def test_p46_large_tensors_are_not_copied(content: bool) -> None:
    """What is sent in binary form stays where it arrived, from the first message on if it is content."""
    service = Service(Signature(inputs=(TensorSpec(name="x", dtype="FP32", shape=(-1, -1)),), outputs=SUM.outputs, batched=True))
    values = [float(number) for number in range(LARGE)]
    data = struct.pack(f"<{LARGE}f", *values)
    value = tensor("FP32", [2, LARGE // 2], data) if content else tensor("FP32", [2, LARGE // 2], float_val=values)
    body = predict({"x": value}).SerializeToString()
    for number in range(3):
        request = service.decode(body)
        assert request.data[0] == data and request.rows == 2
        assert number == 0 or request.data[0].obj is body
    cut = Service(service.plan.signature).decode(memoryview(body))
    assert isinstance(cut.data[0], memoryview) is content


def test_p46_large_messages_with_everything_in_them() -> None:
    """Cutting the content out of a message leaves the rest of it what it was."""
    service = Service(
        Signature(inputs=(*SUM.inputs, TensorSpec(name="t", dtype="BYTES", shape=(-1,))), outputs=SUM.outputs, batched=True)
    )
    rows = LARGE // 8 + 1
    inputs = {
        "a": tensor("FP32", [rows, 2], PAIR * rows),
        "b": tensor("FP32", [rows, 2], float_val=[2.0]),
        "t": tensor("BYTES", [rows], string_val=[b"x"]),
    }
    request = service.decode(predict(inputs, outputs=["difference"], of=spec("m", label="champion")))
    assert [bytes(data) for data in request.data] == [PAIR * rows, struct.pack("<f", 2.0) * 2 * rows, frame_bytes([b"x"] * rows)]
    assert (request.rows, request.outputs) == (rows, [1])


def test_p46_outputs_are_elements_one_by_one() -> None:
    """Every datatype comes back in the field of its type, as TensorFlow Serving writes it; a scalar has a shape."""
    for dtype, (field, values, binary) in VALUES.items():
        service = Service()
        outputs = [OutputTensor("x", DTYPES[dtype], (1, 2), binary), OutputTensor("none", DTYPES[dtype], (0, 3), b"")]
        answer = service.answer(service.decode(predict(BOTH)), outputs)
        assert answer.outputs["x"] == tensor(dtype, [1, 2], **{field: values})
        assert answer.outputs["none"] == tensor(dtype, [0, 3])
    scalar = Service()
    answer = scalar.answer(scalar.decode(predict(BOTH)), [OutputTensor("x", DTYPES["FP32"], (), PAIR[:4])])
    assert answer.outputs["x"].HasField("tensor_shape") and list(answer.outputs["x"].float_val) == [1.5]


def test_p47_output_filter() -> None:
    """Only those, in that order; unknown ones and repetitions are refused."""
    service = Service()
    outputs = [OutputTensor(name, DTYPES["FP32"], [1, 2], PAIR) for name in ("sum", "difference")]
    assert set(service.answer(service.decode(predict(BOTH)), outputs).outputs) == {"sum", "difference"}
    for names in (["difference"], ["difference", "sum"]):
        assert set(service.answer(service.decode(predict(BOTH, outputs=names)), outputs).outputs) == set(names)
    assert refused(service, predict(BOTH, outputs=["x"])) == (
        "output tensor alias not found in signature: x Outputs expected to be in the set {difference,sum}."
    )
    assert refused(service, predict(BOTH, outputs=["sum", "sum"])) == "duplicate output tensor alias: sum"


def test_p48_inputs_are_those_of_the_signature() -> None:
    """Too few, too many, and others."""
    service = Service()
    assert refused(service, predict({"a": BOTH["a"]})) == (
        "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. Missing but required: {b}."
    )
    text = refused(service, predict({**BOTH, "c": BOTH["a"]}))
    assert text.endswith("3!=2 len({a,b,c}) != len({a,b}). Sent extra: {c}. Missing but required: {}.")
    assert refused(service, predict({"a": BOTH["a"], "c": BOTH["a"]})).endswith("Sent extra: {c}. Missing but required: {b}.")
    assert "Missing but required: {a,b}." in refused(service, predict({}))


def test_p48_rows_agree() -> None:
    """All inputs have the same number of rows."""
    assert "batch size" in refused(Service(), predict({**BOTH, "b": tensor("FP32", [2, 2], float_val=[1])}))


def test_p31_signature_names() -> None:
    """gRPC has its own word and its own code for an unknown one."""
    service = Service()
    for name in ("", "serving_default"):
        assert service.decode(predict(BOTH, of=spec(signature=name))).rows == 1
    text = refused(service, predict(BOTH, of=spec(signature="other")), kind=FailedPrecondition)
    assert text.startswith('Serving signature key "other" not found.')
    assert FailedPrecondition.grpc == 9


def test_p49_a_model_must_be_named() -> None:
    """For the three methods no spec is a spec without a name; status and metadata say so otherwise."""
    for method, kind in (("Predict", "PredictRequest"), ("Classify", "ClassificationRequest"), ("Regress", "RegressionRequest")):
        for given in (message(kind), message(kind, model_spec=spec(""))):
            with pytest.raises(InvalidRequest, match=r"^ModelSpec has no name specified\.$"):
                Service().address(given, method)
    for path, kind in (
        (f"{PREDICTION}GetModelMetadata", "GetModelMetadataRequest"),
        (f"{MODEL}GetModelStatus", "GetModelStatusRequest"),
    ):
        with pytest.raises(InvalidRequest, match=r"^Missing ModelSpec$"):
            ask(path, message(kind), catalogue())
        with pytest.raises(InvalidRequest, match=r"^ModelSpec has no name specified\.$"):
            ask(
                path,
                message(kind, model_spec=spec(""), **({"metadata_field": ["signature_def"]} if "Meta" in kind else {})),
                catalogue(),
            )


def test_p50_metadata() -> None:
    """The signature, in an Any, under the only field there is; name and version beside it."""
    path = f"{PREDICTION}GetModelMetadata"

    def asked(*fields: str, of: Any = None) -> Any:
        request = message("GetModelMetadataRequest", model_spec=of or spec(), metadata_field=fields)
        return ask(path, request, catalogue(CLASSIFIER))

    with pytest.raises(InvalidRequest, match=r"^GetModelMetadataRequest must specify at least one metadata_field$"):
        asked()
    with pytest.raises(InvalidRequest, match=r"^Metadata field x is not supported"):
        asked("signature_def", "x")
    answer = asked("signature_def")
    assert answer.model_spec == spec("m", version=2)
    assert asked("signature_def", of=spec(label="before")).model_spec == spec("m", version=1)
    packed = answer.metadata["signature_def"]
    assert packed.type_url == "type.googleapis.com/tensorflow.serving.SignatureDefMap"
    signature = message("SignatureDefMap").FromString(packed.value).signature_def["serving_default"]
    assert signature.method_name == "tensorflow/serving/classify"
    assert {name: (info.name, info.dtype) for name, info in signature.inputs.items()} == {"inputs": ("inputs:0", 7)}
    assert {name: [dim.size for dim in info.tensor_shape.dim] for name, info in signature.outputs.items()} == {
        "scores": [-1, 2], "classes": [-1, 2],
    }  # fmt: skip


def test_p51_the_state_of_versions() -> None:
    """All, or the one named; a version without a replica is loading. Unknown ones are NOT_FOUND."""
    path = f"{MODEL}GetModelStatus"

    def states(of: Any) -> list[tuple[int, str, int, str]]:
        found = ask(path, message("GetModelStatusRequest", model_spec=of), catalogue()).model_version_status
        kinds = found[0].DESCRIPTOR.enum_types_by_name["State"].values_by_number
        assert all(state.HasField("status") for state in found)
        return [(state.version, kinds[state.state].name, state.status.error_code, state.status.error_message) for state in found]

    assert states(spec()) == [(1, "LOADING", 0, ""), (2, "AVAILABLE", 0, "")]
    assert states(spec(version=2)) == [(2, "AVAILABLE", 0, "")]
    assert states(spec(label="before")) == [(1, "LOADING", 0, "")]
    for wrong, text in (
        (spec("x"), "Could not find any versions of model x"),
        (spec("empty"), "Could not find any versions of model empty"),
        (spec(version=9), "Could not find version 9 of model m"),
        (spec("x", version=-1), "Could not find version -1 of model x"),
    ):
        with pytest.raises(NotFound) as raised:
            states(wrong)
        assert str(raised.value).startswith(text)
    for label in ("nope", "1"):
        with pytest.raises(InvalidRequest, match=f"^Unrecognized servable version label: {label}"):
            states(spec(label=label))


def test_p53_multi_inference_is_refused() -> None:
    """Deliberately: each task can be asked by itself."""
    with pytest.raises(Unsupported, match="one Classify or Regress for each task"):
        ask(f"{PREDICTION}MultiInference", message("MultiInferenceRequest"), catalogue())


def test_p54_bytes_that_are_no_message() -> None:
    """Whatever they are, short or long, they are refused as the client's mistake. (Sizes and TLS are the wire's.)"""
    for body in (b"\xff", b"\x0a\x05ab", b"\x12\x02\x0a\x01", b"\x12\xff\xff\xff\xff\x0f" + b"a" * LARGE, b"\x12" * LARGE):
        assert "parse" in refused(Service(), body)
    broken = predict({"x": tensor("FP32", [1, 2], PAIR)}).SerializeToString().replace(b"\x01x", b"\x01\xff")
    assert "parse" in refused(Service(), broken)
    assert "parse" in refused(Service(), b"\x0a\x05ab", "Classify")


def test_p55_health_and_reflection_know_the_services() -> None:
    """Beyond TensorFlow Serving, where both are off or absent: files can be told to who asks by reflection."""
    for service in ("tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"):
        assert MESSAGES.file_of(service) == "tfserving/serving.proto"


def test_p08_unknown_models_in_grpc_words() -> None:
    """The gateway's own errors are told as TensorFlow Serving tells them."""
    words = PredictionService().worded
    assert str(words(UnknownModel("none here", "foo"))) == "Servable not found for request: Latest(foo) (none here)"
    assert str(words(UnknownModel("none", "foo", "50"))) == "Servable not found for request: Specific(foo, 50) (none)"
    assert words(UnknownModel("", "foo", "50")).grpc == 5
    label = words(UnknownModel("none", "foo", "bar"))
    assert (label.grpc, str(label)) == (3, "Unrecognized servable version label: bar (none)")
    other = PayloadTooLarge("too much")
    assert words(other) is other


def test_p40_to_p42_classify() -> None:
    """Examples as they are, with the context in each; labels and scores come back; nothing to classify is refused."""
    service = Service(CLASSIFIER)
    request = message("ClassificationRequest", model_spec=spec())
    assert refused(service, request, "Classify") == "Input is empty."
    request.input.example_list.SetInParent()
    assert refused(service, request, "Classify") == "Input is empty."
    first, second = message(".Example"), message(".Example")
    first.features.feature["x"].float_list.value.append(1.5)
    second.features.feature["y"].bytes_list.value.append(b"\xff")
    request.input.example_list.examples.extend([first, second])
    infer = service.decode(request, "Classify")
    assert infer.data[0] == frame_bytes([first.SerializeToString(), second.SerializeToString()])
    assert (infer.rows, infer.shapes) == (2, [[2]])
    outputs = [
        OutputTensor("scores", DTYPES["FP32"], (2, 2), struct.pack("<4f", 0.1, 0.9, 1, 0)),
        OutputTensor("classes", DTYPES["BYTES"], (2, 2), frame_bytes([b"a", b"b", b"c", "\u00e9".encode()])),
    ]
    answer = service.answer(infer, outputs, "ClassificationResponse")
    assert answer.model_spec == spec("m", version=7, signature="serving_default")
    found = [[(entry.label, round(entry.score, 6)) for entry in row.classes] for row in answer.result.classifications]
    assert found == [[("a", 0.1), ("b", 0.9)], [("c", 1.0), ("\u00e9", 0.0)]]


def test_p40_to_p42_regress_with_context() -> None:
    """The context's features are in every example."""
    service = Service(REGRESSOR)
    request = message("RegressionRequest", model_spec=spec())
    listed = request.input.example_list_with_context
    listed.context.features.feature["c"].int64_list.value.append(3)
    for number in (1, 2):
        listed.examples.add().features.feature["x"].int64_list.value.append(number)
    infer = service.decode(request, "Regress")
    whole = [listed.context.SerializeToString() + example.SerializeToString() for example in listed.examples]
    assert infer.data[0] == frame_bytes(whole)
    merged = message(".Example").FromString(whole[1]).features.feature
    assert (merged["c"].int64_list.value, merged["x"].int64_list.value) == ([3], [2])
    answer = service.answer(
        infer, [OutputTensor("outputs", DTYPES["FP32"], (2, 1), struct.pack("<2f", 0.2, 4))], "RegressionResponse"
    )
    assert [round(entry.value, 6) for entry in answer.result.regressions] == [0.2, 4.0]
    assert answer.model_spec.version.value == 7


def test_p43_signatures_of_another_method() -> None:
    """Classify and regress want a signature that is made for them, and its name."""
    request = message("ClassificationRequest", model_spec=spec())
    request.input.example_list.examples.add()
    text = refused(Service(), request, "Classify")
    assert (
        "Expected classification signature method_name to be tensorflow/serving/classify. Was: tensorflow/serving/predict" in text
    )
    assert "Expected regression signature" in refused(Service(CLASSIFIER), request, "Regress")
    request.model_spec.signature_name = "x"
    assert "No signature was found with the name: x" in refused(Service(CLASSIFIER), request, "Classify")
    inputs = {"inputs": tensor("BYTES", [1], string_val=[b"e"])}
    assert Service(CLASSIFIER).decode(predict(inputs)).rows == 1, "predict asks every signature"
