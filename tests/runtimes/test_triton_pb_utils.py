"""``triton_python_backend_utils`` as models use it: the functions of Triton's own documentation, without shared memory."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest

from headgate.runtimes.triton import pb_utils

CONFIG = {
    "input": [{"name": "X", "data_type": "TYPE_FP32", "dims": [2]}],
    "output": [{"name": "Y", "data_type": "TYPE_STRING", "dims": [1]}],
    "model_transaction_policy": {"decoupled": True},
}


@pytest.mark.parametrize(
    ("name", "numpy"),
    [
        ("TYPE_BOOL", np.bool_),
        ("TYPE_UINT8", np.uint8),
        ("TYPE_INT64", np.int64),
        ("TYPE_FP16", np.float16),
        ("TYPE_STRING", np.object_),
    ],
)
def test_datatypes(name: str, numpy: type) -> None:
    """Names of config.pbtxt and types of NumPy stand for each other."""
    assert pb_utils.triton_string_to_numpy(name) is numpy
    assert pb_utils.numpy_to_triton_type(numpy) == name


def test_tensors() -> None:
    """A tensor is an array with a name; lists are refused where they are made, not where they are sent."""
    tensor = pb_utils.Tensor("X", np.float32([[1, 2]]))
    assert (tensor.name(), tensor.shape(), tensor.triton_dtype(), tensor.is_cpu()) == ("X", (1, 2), "TYPE_FP32", True)
    with pytest.raises(pb_utils.TritonModelException, match="expected a NumPy array, got a list"):
        pb_utils.Tensor("X", [1, 2])


def test_tensors_of_other_libraries() -> None:
    """What speaks DLPack becomes a tensor and back; what a model writes there does not reach a read-only request."""
    array = np.arange(3, dtype=np.float32)
    array.setflags(write=False)
    other = np.from_dlpack(pb_utils.Tensor("X", array))
    np.testing.assert_array_equal(other, array)
    assert not np.shares_memory(other, array)
    assert pb_utils.Tensor.from_dlpack("Y", np.float32([5])).as_numpy().tolist() == [5]
    with pytest.raises(pb_utils.TritonModelException, match="capsule"):
        pb_utils.Tensor.from_dlpack("Y", pb_utils.Tensor("X", np.float32([5])).to_dlpack())


def test_text_in_binary_form() -> None:
    """Text is framed and unframed as on the wire, whatever bytes it holds."""
    words = np.array([[b"one", "zwölf"], [b"", b"\xff"]], dtype=object)
    framed = pb_utils.serialize_byte_tensor(words).item()
    assert pb_utils.deserialize_bytes_tensor(framed).tolist() == [b"one", "zwölf".encode(), b"", b"\xff"]
    with pytest.raises(ValueError, match="claims 9 bytes"):
        pb_utils.deserialize_bytes_tensor(b"\x09\0\0\0abc")


def test_requests_and_responses() -> None:
    """Tensors are found by their names; parameters come as JSON; an error is one, with its code."""
    request = pb_utils.InferenceRequest(
        inputs=[pb_utils.Tensor("X", np.zeros(2))], parameters={"k": 3}, requested_output_names=["Y"]
    )
    assert pb_utils.get_input_tensor_by_name(request, "X") is request.inputs()[0]
    assert pb_utils.get_input_tensor_by_name(request, "Z") is None
    assert (json.loads(request.parameters()), request.requested_output_names()) == ({"k": 3}, ["Y"])
    response = pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("Y", np.zeros(1))])
    assert pb_utils.get_output_tensor_by_name(response, "Y") is response.output_tensors()[0]
    assert not response.has_error()
    failed = pb_utils.InferenceResponse(error=pb_utils.TritonError("no", pb_utils.TritonError.NOT_FOUND))
    assert (failed.has_error(), failed.error().message(), failed.error().code()) == (True, "no", pb_utils.TritonError.NOT_FOUND)


def test_configurations() -> None:
    """Inputs and outputs are found by their names, and whether the model is decoupled."""
    assert pb_utils.get_input_config_by_name(CONFIG, "X")["dims"] == [2]
    assert pb_utils.get_output_config_by_name(CONFIG, "Y")["data_type"] == "TYPE_STRING"
    assert pb_utils.get_output_config_by_name(CONFIG, "X") is None
    assert pb_utils.using_decoupled_model_transaction_policy(CONFIG)
    assert not pb_utils.using_decoupled_model_transaction_policy({})


def test_completing_a_configuration() -> None:
    """What is there may be said again, but not otherwise; what is missing is named."""
    config = pb_utils.ModelConfig(CONFIG)
    config.add_input({"name": "X", "data_type": "TYPE_FP32", "dims": [2]})
    config.add_input({"name": "Z", "data_type": "TYPE_INT8", "dims": [1]})
    config.set_max_batch_size(4)
    assert [tensor["name"] for tensor in config.as_dict()["input"]] == ["X", "Z"]
    assert config.as_dict()["max_batch_size"] == 4
    assert len(CONFIG["input"]) == 1
    with pytest.raises(pb_utils.TritonModelException, match="'X' is declared otherwise"):
        config.add_input({"name": "X", "data_type": "TYPE_FP64", "dims": [2]})
    with pytest.raises(pb_utils.TritonModelException, match="'dims' is missing"):
        config.add_output({"name": "W", "data_type": "TYPE_FP64"})


def test_what_is_not_there_is_refused() -> None:
    """Calls to other models, rescheduling, late responses and names that are not there say so, instead of doing nothing."""
    request = pb_utils.InferenceRequest(model_name="other", inputs=[])
    with pytest.raises(pb_utils.TritonModelException, match="'other' cannot be called"):
        request.exec()
    with pytest.raises(pb_utils.TritonModelException, match="'other' cannot be called"):
        asyncio.run(request.async_exec())
    with pytest.raises(pb_utils.TritonModelException, match="not scheduled again"):
        request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
    sender = request.get_response_sender()
    with pytest.raises(pb_utils.TritonModelException, match="needs TRITONSERVER_RESPONSE_COMPLETE_FINAL"):
        sender.send()
    sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
    with pytest.raises(pb_utils.TritonModelException, match="after the one with"):
        sender.send(pb_utils.InferenceResponse())
    with pytest.raises(AttributeError, match="has no 'MetricFamily' here"):
        pb_utils.MetricFamily  # noqa: B018


def test_lines_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """What a model logs goes where the replica's log is."""
    pb_utils.Logger.log_info("first")
    pb_utils.Logger.log("second", pb_utils.Logger.ERROR)
    assert capsys.readouterr().err == "first\nsecond\n"
