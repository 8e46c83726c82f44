"""What TensorFlow Serving's own client package does with a server, and plain HTTP beside it.

Run in its own environment as ``tensorflow_serving_calls.py HOST:PORT SAVED MESSAGES``: ``SAVED`` is the folder of the SavedModels that
are served, ``MESSAGES`` the descriptors of Headgate's messages. Every function ``check_*`` is one promise, told in its docstring; it
raises if the promise is broken. Prints one JSON object: the outcome of each, by name.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
import urllib.error
import urllib.request
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import grpc
import ml_dtypes
import numpy as np
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, json_format
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

URL, SAVED, MESSAGES = sys.argv[1:4]
SECONDS = 60
DTYPES = {
    "bool": "bool", "uint8": "uint8", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64", "int8": "int8", "int16": "int16",
    "int32": "int32", "int64": "int64", "fp16": "float16", "fp32": "float32", "fp64": "float64",
}  # fmt: skip
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
CHANNEL = grpc.insecure_channel(URL, options=OPTIONS)
PREDICTION = prediction_service_pb2_grpc.PredictionServiceStub(CHANNEL)
MODELS = model_service_pb2_grpc.ModelServiceStub(CHANNEL)


def direct(model, signature="serving_default", **inputs):
    """Return what TensorFlow itself answers."""
    loaded = tf.saved_model.load(str(Path(SAVED) / model))
    found = loaded.signatures[signature](**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: value.numpy() for name, value in found.items()}


def fill(spec, model, version=None, label=None, signature=""):
    """Set a model spec."""
    spec.name, spec.signature_name = model, signature
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label


def request_of(model, inputs, outputs=(), **rest):
    """Return a PredictRequest; inputs that are no TensorProto are made one by TensorFlow."""
    request = predict_pb2.PredictRequest(output_filter=outputs)
    fill(request.model_spec, model, **rest)
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(value if isinstance(value, TensorProto) else proto(value))
    return request


def proto(value, **rest):
    """Return a TensorProto."""
    return tf.make_tensor_proto(value, **rest)


def predict(model, inputs, outputs=(), **rest):
    """Return the answer as arrays."""
    response = PREDICTION.Predict(request_of(model, inputs, outputs, **rest), timeout=SECONDS)
    return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}


def refusal(call, request):
    """Return status and text of the error that a call must end in."""
    try:
        call(request, timeout=SECONDS)
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("the call succeeded")


def http(path, body=None):
    """Return status and JSON of a request over plain HTTP."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(f"http://{URL}{path}", data, timeout=SECONDS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def examples():
    """Return three examples with a float and some words."""
    found = []
    for x, tags in ((0.5, [b"a", b"b"]), (-2.0, []), (3.0, [b"\xff"])):
        example = tf.train.Example()
        example.features.feature["x"].float_list.value.append(x)
        example.features.feature["tags"].bytes_list.value.extend(tags)
        found.append(example)
    return found


# ---- REST


def check_the_first_example_of_the_documentation():
    """Half plus two, in rows and in columns, pinned to a version and to a label."""
    assert http("/v1/models/half:predict", {"instances": [1.0, 2.0, 5.0]}) == (200, {"predictions": [2.5, 3.0, 4.5]})
    assert http("/v1/models/half:predict", {"inputs": {"x": [1.0]}}) == (200, {"outputs": [2.5]})
    for place in ("versions/123", "labels/stable"):
        assert http(f"/v1/models/half/{place}:predict", {"instances": [1]}) == (200, {"predictions": [2.5]})


def check_rest_with_text_and_numbers():
    """Several inputs and outputs of different types, as TensorFlow itself answers them."""
    rows = [{"thing": "tea", "amount": 3}, {"thing": "coffee", "amount": 2}, {"thing": {"b64": "cnVt"}, "amount": 1}]
    expected = direct("prices", thing=["tea", "coffee", "rum"], amount=np.array([3, 2, 1], np.int32))
    status, found = http("/v1/models/prices:predict", {"instances": rows})
    assert status == 200, found
    assert [row["price"] for row in found["predictions"]] == expected["price"].tolist()
    assert [row["shown"].encode() for row in found["predictions"]] == expected["shown"].tolist()


def check_rest_classify_and_regress():
    """JSON features become the examples that the model parses."""
    body = {"examples": [{"x": 0.5, "tags": ["a", "b"]}, {"x": -2.0}, {"x": 3.0, "tags": [{"b64": "/w=="}]}]}
    serialized = [example.SerializeToString() for example in examples()]
    scores = direct("classifier", inputs=serialized)["scores"]
    status, found = http("/v1/models/classifier:classify", body)
    assert status == 200, found
    assert [[label for label, _ in row] for row in found["results"]] == [["low", "high"]] * 3
    assert np.array_equal(np.array([[score for _, score in row] for row in found["results"]], np.float32), scores)
    status, found = http("/v1/models/regressor:regress", body)
    assert (status, found["results"]) == (200, direct("regressor", inputs=serialized)["outputs"][:, 0].tolist())
    with_context = {"context": {"tags": ["a", "b"]}, "examples": [{"x": 0.5}]}
    assert http("/v1/models/regressor:regress", with_context) == (200, {"results": [7.0]})


def check_rest_status_and_metadata_are_json_of_the_messages():
    """What is told as JSON can be read by the client package's own messages, and is what gRPC tells."""
    _, found = http("/v1/models/half")
    status = json_format.ParseDict(found, get_model_status_pb2.GetModelStatusResponse())
    assert [(entry.version, entry.state) for entry in status.model_version_status] == [(123, 30)]
    _, found = http("/v1/models/prices/metadata")
    signatures = json_format.ParseDict(found["metadata"]["signature_def"], get_model_metadata_pb2.SignatureDefMap())
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    fill(request.model_spec, "prices")
    packed = PREDICTION.GetModelMetadata(request, timeout=SECONDS).metadata["signature_def"]
    over_grpc = get_model_metadata_pb2.SignatureDefMap()
    assert packed.Unpack(over_grpc)
    assert signatures == over_grpc
    inputs = signatures.signature_def["serving_default"].inputs
    assert {name: info.dtype for name, info in inputs.items()} == {
        "thing": tf.string.as_datatype_enum,
        "amount": tf.int32.as_datatype_enum,
    }


def check_rest_errors():
    """Status and words."""
    status, found = http("/v1/models/nobody:predict", {"instances": [1]})
    assert status == 404 and found["error"].startswith("Servable not found for request: Latest(nobody)")
    status, found = http("/v1/models/half:predict", {"instances": ["x"]})
    assert status == 400 and "Type: String is not of expected type: float" in found["error"]
    assert http("/v1/models/half:classify", {"examples": [{"x": 1}]})[0] == 400


# ---- gRPC


def check_predict():
    """Small and large arrays, as elements and as content; the answer says which version and signature it was."""
    x = np.array([1.0, 2.0, 5.0], np.float32)
    assert predict("half", {"x": x})["y"].tolist() == [2.5, 3.0, 4.5]
    response = PREDICTION.Predict(request_of("half", {"x": x}), timeout=SECONDS)
    assert list(response.outputs["y"].float_val) == [2.5, 3.0, 4.5], "elements one by one, as clients in other languages read them"
    assert (response.model_spec.name, response.model_spec.version.value) == ("half", 123)
    assert response.model_spec.signature_name == "serving_default"
    for seed in range(3):
        image = np.random.default_rng(seed).random((2, 224, 336), dtype=np.float32)
        assert np.array_equal(predict("plane", {"x": image})["output"], image)


def check_predict_repeats_a_single_value():
    """``tf.make_tensor_proto(1.5, shape=[3])`` sends one value and a shape."""
    assert predict("half", {"x": proto(1.0, shape=[3])})["y"].tolist() == [2.5] * 3


def check_predict_text():
    """Strings, which are never content."""
    inputs = {"thing": np.array([b"tea", b"rum"], object), "amount": np.array([2, 2], np.int32)}
    expected = direct("prices", thing=["tea", "rum"], amount=inputs["amount"])
    found = predict("prices", inputs)
    assert found["price"].tolist() == expected["price"].tolist() and found["shown"].tolist() == expected["shown"].tolist()


def check_every_datatype_with_a_model_of_another_runtime():
    """A Python class that gives back what it gets, in every datatype, at the edges of its range."""
    for name, numpy in DTYPES.items():
        dtype = np.dtype(numpy)
        if dtype.kind in "iu":
            array = np.array([[np.iinfo(dtype).min, np.iinfo(dtype).max]], dtype)
        else:
            array = np.array([[1, 0]], dtype) if dtype.kind == "b" else np.array([[np.finfo(dtype).max, -0.5]], dtype)
        found = predict("types", {name: array}, [f"same_{name}"])[f"same_{name}"]
        assert found.dtype == dtype and np.array_equal(found, array), (name, found)
    array = np.array([[1.5, -2]], ml_dtypes.bfloat16)
    found = predict("types", {"bf16": proto(array, dtype=tf.bfloat16)}, ["same_bf16"])["same_bf16"]
    assert np.array_equal(found.astype(np.float32), array.astype(np.float32))
    words = np.array([[b"\xff\x00", b""]], object)
    assert predict("types", {"bytes": words}, ["same_bytes"])["same_bytes"].tolist() == words.tolist()


def check_output_filter():
    """Only what was asked for comes back."""
    inputs = {"thing": np.array([b"tea"], object), "amount": np.array([1], np.int32)}
    assert set(predict("prices", inputs)) == {"price", "shown"}
    assert set(predict("prices", inputs, ["shown"])) == {"shown"}
    code, text = refusal(PREDICTION.Predict, request_of("prices", inputs, ["other"]))
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "output tensor alias not found in signature: other" in text


def check_versions_and_labels():
    """A version, a label, or none."""
    for rest, version in (({}, 2), ({"version": 1}, 1), ({"label": "before"}, 1), ({"label": "champion"}, 2)):
        request = request_of("two", {"x": np.zeros((1, 1), np.float32)}, **rest)
        response = PREDICTION.Predict(request, timeout=SECONDS)
        assert tf.make_ndarray(response.outputs["output"]).tolist() == [[version]]
        assert response.model_spec.version.value == version


def check_classify():
    """Examples in, labels and scores out, as TensorFlow itself answers them."""
    request = classification_pb2.ClassificationRequest()
    fill(request.model_spec, "classifier")
    request.input.example_list.examples.extend(examples())
    response = PREDICTION.Classify(request, timeout=SECONDS)
    expected = direct("classifier", inputs=[example.SerializeToString() for example in examples()])
    found = response.result.classifications
    assert [[entry.label.encode() for entry in row.classes] for row in found] == expected["classes"].tolist()
    assert np.array_equal(np.array([[entry.score for entry in row.classes] for row in found], np.float32), expected["scores"])
    assert response.model_spec.signature_name == "serving_default"


def check_regress_with_context():
    """The context's features belong to every example."""
    request = regression_pb2.RegressionRequest()
    fill(request.model_spec, "regressor")
    listed = request.input.example_list_with_context
    listed.context.features.feature["tags"].bytes_list.value.extend([b"a", b"b"])
    for x in (0.5, 2.0):
        listed.examples.add().features.feature["x"].float_list.value.append(x)
    response = PREDICTION.Regress(request, timeout=SECONDS)
    assert [entry.value for entry in response.result.regressions] == [7.0, 22.0]


def check_predict_with_serialized_examples():
    """A signature made for classify can be asked by predict."""
    serialized = [example.SerializeToString() for example in examples()]
    found = predict("classifier", {"inputs": np.array(serialized, object)}, ["scores"])["scores"]
    assert np.array_equal(found, direct("classifier", inputs=serialized)["scores"])


def check_several_signatures():
    """Each is asked by its name, over gRPC and over REST, and answers as TensorFlow itself does; one without a batch axis too."""
    x = np.array([1.0, 2.0, 5.0], np.float32)
    for signature, expected in (("", [2.5, 3.0, 4.5]), ("serving_default", [2.5, 3.0, 4.5]), ("double", [2.0, 4.0, 10.0])):
        response = PREDICTION.Predict(request_of("several", {"x": x}, signature=signature), timeout=SECONDS)
        assert tf.make_ndarray(response.outputs["y"]).tolist() == expected
        assert response.model_spec.signature_name == (signature or "serving_default")
        body = {"signature_name": signature, "instances": x.tolist()}
        assert http("/v1/models/several:predict", body) == (200, {"predictions": expected})
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(predict("several", {"matrix": matrix}, signature="turn")["turned"], matrix.T)
    body = {"signature_name": "turn", "inputs": matrix.tolist()}
    assert http("/v1/models/several:predict", body) == (200, {"outputs": matrix.T.tolist()})


def check_several_signatures_classify_and_regress():
    """By those that are saved for it, which must be named where the default is not."""
    classify, regress = classification_pb2.ClassificationRequest(), regression_pb2.RegressionRequest()
    for request, name in ((classify, "to_classes"), (regress, "to_value")):
        request.input.example_list.examples.extend(examples())
        fill(request.model_spec, "several")
        method = PREDICTION.Classify if request is classify else PREDICTION.Regress
        code, text = refusal(method, request)
        assert code is grpc.StatusCode.INVALID_ARGUMENT and f"signature_name may be {name}" in text
        request.model_spec.signature_name = name
    serialized = [example.SerializeToString() for example in examples()]
    found = PREDICTION.Classify(classify, timeout=SECONDS)
    scores = [[entry.score for entry in row.classes] for row in found.result.classifications]
    assert np.array_equal(np.array(scores, np.float32), direct("several", "to_classes", inputs=serialized)["scores"])
    assert found.model_spec.signature_name == "to_classes"
    values = [entry.value for entry in PREDICTION.Regress(regress, timeout=SECONDS).result.regressions]
    assert values == direct("several", "to_value", inputs=serialized)["outputs"][:, 0].tolist() == [5, -20, 30]
    status, found = http("/v1/models/several:regress", {"signature_name": "to_value", "examples": [{"x": 0.5}]})
    assert (status, found) == (200, {"results": [5.0]})


def check_several_signatures_in_metadata():
    """All of them, with what each was saved for; one with inputs that no request can hold is not there, and is not found."""
    _, found = http("/v1/models/several/metadata")
    signatures = json_format.ParseDict(found["metadata"]["signature_def"], get_model_metadata_pb2.SignatureDefMap()).signature_def
    methods = {name: signature.method_name.rpartition("/")[2] for name, signature in signatures.items()}
    assert methods == {
        "serving_default": "predict", "double": "predict", "turn": "predict", "to_classes": "classify", "to_value": "regress",
    }  # fmt: skip
    code, text = refusal(PREDICTION.Predict, request_of("several", {}, signature="strange"))
    assert code is grpc.StatusCode.FAILED_PRECONDITION and 'signature key "strange" not found' in text


def check_several_signatures_at_once():
    """Requests for two signatures that take the same input, all in flight together: none comes into a batch of the other."""
    pending = []
    for number in range(200):
        x = np.arange(number, number + number % 3 + 1, dtype=np.float32)
        name, expected = ("double", x * 2) if number % 2 else ("", x / 2 + 2)
        pending.append((expected, PREDICTION.Predict.future(request_of("several", {"x": x}, signature=name), timeout=SECONDS)))
    for expected, future in pending:
        assert np.array_equal(tf.make_ndarray(future.result().outputs["y"]), expected)


def check_model_status():
    """All versions, one, and one by its label."""
    for rest, versions in (({}, [1, 2]), ({"version": 2}, [2]), ({"label": "before"}, [1])):
        request = get_model_status_pb2.GetModelStatusRequest()
        fill(request.model_spec, "two", **rest)
        found = MODELS.GetModelStatus(request, timeout=SECONDS).model_version_status
        available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        assert [(entry.version, entry.state, entry.status.error_code) for entry in found] == [
            (one, available, 0) for one in versions
        ]


def check_errors_are_understood():
    """Every kind of refusal reaches the caller with its status and in TensorFlow Serving's words."""
    codes = grpc.StatusCode
    x = {"x": np.zeros(1, np.float32)}
    status = get_model_status_pb2.GetModelStatusRequest()
    fill(status.model_spec, "nobody")
    metadata = get_model_metadata_pb2.GetModelMetadataRequest()
    fill(metadata.model_spec, "half")
    other = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    fill(other.model_spec, "half", version=9)
    classify = classification_pb2.ClassificationRequest()
    fill(classify.model_spec, "half")
    classify.input.example_list.examples.extend(examples())
    expected = [
        (PREDICTION.Predict, request_of("nobody", x), codes.NOT_FOUND, "Servable not found for request: Latest(nobody)"),
        (PREDICTION.Predict, request_of("nobody", x, version=5), codes.NOT_FOUND, "request: Specific(nobody, 5)"),
        (
            PREDICTION.Predict,
            request_of("half", x, version=50),
            codes.NOT_FOUND,
            "Servable not found for request: Specific(half, 50)",
        ),
        (PREDICTION.Predict, request_of("half", x, label="x"), codes.INVALID_ARGUMENT, "Unrecognized servable version label: x"),
        (PREDICTION.Predict, request_of("", x), codes.INVALID_ARGUMENT, "ModelSpec has no name specified."),
        (PREDICTION.Predict, request_of("half", {}), codes.INVALID_ARGUMENT, "input size does not match signature: 0!=1"),
        (PREDICTION.Predict, request_of("half", {"x": np.zeros(1)}), codes.INVALID_ARGUMENT, "to be DT_FLOAT, got DT_DOUBLE"),
        (
            PREDICTION.Predict,
            request_of("half", x, signature="other"),
            codes.FAILED_PRECONDITION,
            'signature key "other" not found.',
        ),
        (PREDICTION.Classify, classify, codes.INVALID_ARGUMENT, "Expected classification signature method_name"),
        (PREDICTION.GetModelMetadata, metadata, codes.INVALID_ARGUMENT, "must specify at least one metadata_field"),
        (PREDICTION.GetModelMetadata, other, codes.NOT_FOUND, "Specific(half, 9)"),
        (MODELS.GetModelStatus, status, codes.NOT_FOUND, "Could not find any versions of model nobody"),
        (MODELS.GetModelStatus, get_model_status_pb2.GetModelStatusRequest(), codes.INVALID_ARGUMENT, "Missing ModelSpec"),
    ]
    for call, request, code, text in expected:
        found = refusal(call, request)
        assert found[0] is code and text in found[1], (found, code, text)


def check_what_is_not_offered_is_said():
    """MultiInference and a reload of the configuration, even a whole one, end in UNIMPLEMENTED."""
    reload = model_management_pb2.ReloadConfigRequest()
    reload.config.model_config_list.config.add(name="half", base_path="/models/half", model_platform="tensorflow")
    for call, request in (
        (PREDICTION.MultiInference, inference_pb2.MultiInferenceRequest()),
        (MODELS.HandleReloadConfigRequest, reload),
    ):
        code, text = refusal(call, request)
        assert code is grpc.StatusCode.UNIMPLEMENTED and "not offered" in text


def check_many_at_once():
    """Two hundred calls in flight: each answer is that of its own request."""
    pending = []
    for number in range(200):
        x = np.arange(number, number + number % 5 + 1, dtype=np.float32)
        pending.append((x, PREDICTION.Predict.future(request_of("half", {"x": x}), timeout=SECONDS)))
    for x, future in pending:
        assert np.array_equal(tf.make_ndarray(future.result().outputs["y"]), x / 2 + 2)


def check_messages_are_those_of_the_client():
    """Every message, field, number and type of Headgate's own definitions is in the client's, and so are services and methods."""
    ours = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet.FromString(Path(MESSAGES).read_bytes()).file
    for file in files:
        ours.Add(file)
    theirs = descriptor_pool.Default()
    services = {**prediction_service_pb2.DESCRIPTOR.services_by_name, **model_service_pb2.DESCRIPTOR.services_by_name}
    count = 0
    for file in files:
        for message in file.message_type:
            count += compare(ours, theirs, f"{file.package}.{message.name}")
        for enum in file.enum_type:
            name = f"{file.package}.{enum.name}"
            values = {value.name: value.number for value in theirs.FindEnumTypeByName(name).values}
            assert {value.name: value.number for value in enum.value}.items() <= values.items(), name
        for service in file.service:
            mine = ours.FindServiceByName(f"{file.package}.{service.name}")
            assert signatures_of(mine) == signatures_of(services[service.name])
    assert count > 100


def signatures_of(service):
    """Return the methods of a service with what they take and give."""
    return {method.name: (method.input_type.full_name, method.output_type.full_name) for method in service.methods}


def compare(ours, theirs, name):
    """Compare a message and those inside it with the client's; return how many fields there were."""
    mine, real = ours.FindMessageTypeByName(name), theirs.FindMessageTypeByName(name)
    for field in mine.fields:
        other = real.fields_by_name[field.name]
        assert field_of(field) == field_of(other), f"{name}.{field.name}"
    return len(mine.fields) + sum(compare(ours, theirs, nested.full_name) for nested in mine.nested_types)


def field_of(field):
    """Return all of a field that shows on the wire."""
    kind = field.message_type or field.enum_type
    oneof = field.containing_oneof
    return field.number, field.type, field.is_repeated, field.is_packed, kind and kind.full_name, oneof and oneof.name


def main():
    """Run every check and print the outcomes."""
    outcomes = {}
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            try:
                check()
                outcomes[name] = "ok"
            except BaseException:
                outcomes[name] = traceback.format_exc()
    CHANNEL.close()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
