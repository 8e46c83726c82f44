"""Points 17, 31, 43, 45, 46 and 50 of the TensorFlow Serving checklist where a SavedModel has several signatures, without a socket.

With a real SavedModel they are asked by the real client, in the tests of clients.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from tfserving_unwired import (
    PREDICTION,
    SEVERAL,
    Call,
    Service,
    ask,
    catalogue,
    message,
    predict,
    spec,
    tensor,
)

from headgate.errors import FailedPrecondition, HeadgateError, InvalidRequest
from headgate.protocols.base import Batch, InferRequest, InferResponse, OutputTensor
from headgate.protocols.base.several import plan_for, plan_of
from headgate.protocols.tfserving import TFServing
from headgate.tensors import DTYPES, frame_bytes

PAIR = struct.pack("<2f", 1.5, -2.0)
PLAN = plan_of("m", SEVERAL, max_rows=8, splittable=True)
SCORES = [
    OutputTensor("scores", DTYPES["FP32"], (1, 2), struct.pack("<2f", 0.5, 0.25)),
    OutputTensor("classes", DTYPES["BYTES"], (1, 2), frame_bytes([b"a", b"b"])),
]


def rest(verb: str, body: Any) -> InferRequest:
    """Return what is queued of a request over HTTP."""
    return TFServing().decode(Call(f"/v1/models/m:{verb}"), json.dumps(body).encode(), PLAN)


def refused(verb: str, body: Any) -> str:
    """Return the text of a refusal."""
    with pytest.raises(InvalidRequest) as raised:
        rest(verb, body)
    return str(raised.value)


def asked(infer: InferRequest) -> str:
    """Return the name of the signature that a request is for."""
    return plan_for(infer, PLAN).signature.name


def test_p31_rest_asks_the_signature_that_is_named() -> None:
    """In rows and in columns; without a name, ``serving_default``. The inputs are those of the signature, and so is the answer."""
    rows = {"instances": [{"a": [1, 2], "b": [3, 4]}]}
    assert asked(rest("predict", rows)) == asked(rest("predict", {"signature_name": "serving_default", **rows})) == ""
    infer = rest("predict", {"signature_name": "named", "inputs": ["x", "y"]})
    assert (asked(infer), infer.rows) == ("named", 2)
    answer = TFServing().encode(infer, InferResponse("m", "1", SCORES, Batch(0.1, 1, 0.0)))
    assert json.loads(bytes(answer.body)) == {"outputs": {"scores": [[0.5, 0.25]], "classes": [["a", "b"]]}}
    assert "named input: a (inputs are inputs)" in refused("predict", {"signature_name": "named", **rows})


def test_p31_a_name_that_no_signature_has() -> None:
    """Refused with the names there are, over HTTP and over gRPC, each in its own words."""
    there = '(model \'m\' has "serving_default", "named", "priced", "wrong")'
    text = refused("predict", {"signature_name": "other", "instances": [1]})
    assert text == f'Serving signature name: "other" not found in signature def {there}'
    with pytest.raises(FailedPrecondition) as raised:
        Service(SEVERAL).decode(predict({}, of=spec(signature="other")))
    assert str(raised.value) == f'Serving signature key "other" not found. {there}'


def test_p31_requests_for_different_signatures_share_no_batch() -> None:
    """Their keys differ, even where their inputs are alike."""
    alike = {"inputs": ["x"]}
    keys = [rest("predict", {"signature_name": name, **alike}).key for name in ("named", "priced", "named")]
    assert keys[0] == keys[2] != keys[1]
    assert len({rest("predict", {"instances": [{"a": [1, 2], "b": [3, 4]}]}).key, *keys}) == 3


def test_p43_classify_and_regress_ask_a_signature_that_is_made_for_them() -> None:
    """Named, where the default is not; one that says it is and lacks what it takes is refused."""
    examples = {"examples": [{"x": 1}]}
    infer = rest("classify", {"signature_name": "named", **examples})
    assert asked(infer) == "named"
    answer = TFServing().encode(infer, InferResponse("m", "1", SCORES, Batch(0.1, 1, 0.0)))
    assert json.loads(bytes(answer.body)) == {"results": [[["a", 0.5], ["b", 0.25]]]}
    assert asked(rest("regress", {"signature_name": "priced", **examples})) == "priced"
    text = refused("classify", examples)
    assert "Was: tensorflow/serving/predict" in text and "signature_name may be named" in text
    assert "Was: tensorflow/serving/regress" in refused("classify", {"signature_name": "priced", **examples})
    text = refused("regress", {"signature_name": "wrong", **examples})
    assert text.startswith("the signature 'wrong' was saved for tensorflow/serving/regress, and does not have one input 'inputs'")
    assert refused("classify", {"signature_name": "x", **examples}).startswith("No signature was found with the name: x")
    service = Service(SEVERAL)
    request = message("ClassificationRequest", model_spec=spec(signature="named"))
    request.input.example_list.examples.add()
    infer = service.decode(request, "Classify")
    found = service.answer(infer, SCORES, "ClassificationResponse")
    assert (found.model_spec.signature_name, asked(infer)) == ("named", "named")


def test_p45_the_answer_names_the_signature() -> None:
    """Which it was, of those there are."""
    service = Service(SEVERAL)
    for name, said in (("", "serving_default"), ("serving_default", "serving_default"), ("wrong", "wrong")):
        inputs = {key: tensor("FP32", [1, 2], PAIR) for key in ("a", "b")}
        infer = service.decode(predict(inputs, of=spec(signature=name)))
        assert service.answer(infer, [OutputTensor("sum", DTYPES["FP32"], (1, 2), PAIR)]).model_spec.signature_name == said


def test_p46_known_messages_go_to_their_own_signature() -> None:
    """Messages that are recognised by their bytes and not parsed are for the signature they name, and are checked against its inputs."""
    service = Service(SEVERAL)
    for _ in range(3):
        for name in ("", "wrong"):
            infer = service.decode(predict({key: tensor("FP32", [1, 2], PAIR) for key in ("a", "b")}, of=spec(signature=name)))
            assert (asked(infer), infer.data) == (name, [PAIR, PAIR])
        with pytest.raises(HeadgateError, match=r"Sent extra: {a,b}\. Missing but required: {inputs}\."):
            service.decode(predict({key: tensor("FP32", [1, 2], PAIR) for key in ("a", "b")}, of=spec(signature="named")))


def test_p17_p50_metadata_tells_of_all_signatures() -> None:
    """By their names, each with its inputs, outputs and method, over HTTP and over gRPC."""
    methods = {
        "serving_default": "tensorflow/serving/predict",
        "named": "tensorflow/serving/classify",
        "priced": "tensorflow/serving/regress",
        "wrong": "tensorflow/serving/regress",
    }
    call = Call("/v1/models/m/metadata")
    call.params = {"model": "m"}
    found = json.loads(bytes(TFServing().metadata(call, catalogue(SEVERAL), b"").body))["metadata"]["signature_def"][
        "signature_def"
    ]
    assert {name: each["method_name"] for name, each in found.items()} == methods
    assert list(found["priced"]["outputs"]) == ["outputs"] and list(found["serving_default"]["inputs"]) == ["a", "b"]
    request = message("GetModelMetadataRequest", model_spec=spec(), metadata_field=["signature_def"])
    packed = ask(f"{PREDICTION}GetModelMetadata", request, catalogue(SEVERAL)).metadata["signature_def"]
    told = message("SignatureDefMap").FromString(packed.value).signature_def
    assert {name: each.method_name for name, each in told.items()} == methods
    assert sorted(told["serving_default"].inputs) == ["a", "b"]


def test_p17_p31_the_only_signature_keeps_its_name() -> None:
    """A SavedModel whose only signature has another name is asked by it, or without one; ``serving_default`` it has not."""
    only = plan_of("m", SEVERAL.further[0], max_rows=8, splittable=True)
    for name in ("named", ""):
        body = json.dumps({"signature_name": name, "instances": ["x"]}).encode()
        assert TFServing().decode(Call("/v1/models/m:predict"), body, only).rows == 1
    with pytest.raises(InvalidRequest, match=r'"serving_default" not found in signature def \(model \'m\' has one, "named"\)'):
        TFServing().decode(Call("/v1/models/m:predict"), b'{"signature_name": "serving_default", "instances": ["x"]}', only)
