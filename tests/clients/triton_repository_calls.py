"""What the real ``tritonclient.http`` does with a served model repository: run in its own environment with ``HOST:PORT``.

Every function ``check_*`` is one promise, told in its docstring. Prints one JSON object: the outcome of each, by name. The repository is
made by ``test_model_folders.py``.
"""

from __future__ import annotations

import json
import sys
import traceback

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


def given(name, array, datatype):
    """Return one input."""
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def refused(call, words):
    """Fail unless the call is refused with these words."""
    try:
        call()
    except InferenceServerException as error:
        if words not in str(error):
            raise
    else:
        raise AssertionError(f"was taken, not refused with {words!r}")


def check_onnx_and_its_versions(client):
    """Without a version the newest answers, a version by its number in the repository; one that the policy leaves out is unknown."""
    inputs = [given("X", np.float32([[[1, 2], [3, 4]]]), "FP32")]
    assert client.infer("added", inputs).as_numpy("Y").tolist() == [[8, 9, 10, 11]]
    assert client.infer("added", inputs, model_version="3").as_numpy("Y").tolist() == [[4, 5, 6, 7]]
    assert client.is_model_ready("added", "7") and not client.is_model_ready("added", "1")
    refused(lambda: client.infer("added", inputs, model_version="1"), "unknown model: 'added' version 1")


def check_the_largest_batch(client):
    """max_batch_size rows are taken, one more is refused in Triton's words."""
    rows = np.arange(32, dtype=np.float32).reshape(8, 2, 2)
    np.testing.assert_array_equal(client.infer("added", [given("X", rows, "FP32")]).as_numpy("Y"), rows.reshape(8, 4) + 7)
    refused(
        lambda: client.infer("added", [given("X", np.zeros((9, 2, 2), np.float32), "FP32")]),
        "inference request batch-size must be <= 8 for 'added'",
    )


def check_metadata_and_configuration(client):
    """Names, shapes, platform and configuration are those of config.pbtxt."""
    metadata = client.get_model_metadata("added")
    assert metadata["platform"] == "onnxruntime_onnx" and metadata["versions"] == ["3", "7"]
    assert metadata["inputs"] == [{"name": "X", "datatype": "FP32", "shape": [-1, 2, 2]}]
    config = client.get_model_config("added")
    assert (config["max_batch_size"], config["input"][0]["dims"], config["instance_group"][0]["count"]) == (8, [2, 2], 2)


def check_a_model_without_configuration(client):
    """Inputs and outputs are found out."""
    assert client.infer("bare", [given("X", np.float32([[1, 2, 3, 4]]), "FP32")]).as_numpy("Y").tolist() == [[11, 12, 13, 14]]


def check_python(client):
    """A TritonPythonModel gets text and parameters, and its errors reach the client."""
    text = np.array([["one"], ["zwölf".encode()]], dtype=object)
    answer = client.infer("words", [given("TEXT", text, "BYTES")], parameters={"mark": "?"})
    assert answer.as_numpy("LOUD").tolist() == [[b"ONE?"], ["ZWÖLF?".encode()]]
    assert answer.as_numpy("LENGTH").dtype == np.int32 and answer.as_numpy("LENGTH").tolist() == [[3], [6]]
    refused(lambda: client.infer("words", [given("TEXT", np.array([["bad"]], dtype=object), "BYTES")]), "no bad words")


def check_torchscript(client):
    """Inputs and outputs of a TorchScript model go by the numbers in their names."""
    first, second = np.float32([[1, 2], [3, 4]]), np.float32([[1, 1], [2, 2]])
    answer = client.infer("script", [given("INPUT__1", second, "FP32"), given("INPUT__0", first, "FP32")])
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT__0"), first + 10 * second)
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT__1"), first - second)
    assert client.get_model_metadata("script")["platform"] == "pytorch_libtorch"


def check_savedmodel(client):
    """A SavedModel in Triton's layout answers by its signature."""
    assert client.infer("graph", [given("x", np.float32([4, 6]), "FP32")]).as_numpy("y").tolist() == [4, 5]
    assert client.get_model_metadata("graph")["platform"] == "tensorflow_savedmodel"


if __name__ == "__main__":
    outcomes = {}
    connected = triton.InferenceServerClient(sys.argv[1], network_timeout=60.0, connection_timeout=60.0)
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            try:
                check(connected)
                outcomes[name] = "ok"
            except BaseException:
                outcomes[name] = traceback.format_exc()
    connected.close()
    print(json.dumps(outcomes))
