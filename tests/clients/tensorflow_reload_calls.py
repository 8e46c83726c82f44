"""What an administrator does with TensorFlow Serving's own client package: ``tensorflow_reload_calls.py HOST:PORT ADMIN_KEY INFER_KEY``.

The server knows the models ``twice``, in three versions registered from ``/models/twice``, and ``broken``, which does not load. The checks
build on each other, in this order. Prints one JSON object: the outcome of each, by name.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

URL, ADMIN, INFER = sys.argv[1:4]
SECONDS = 60
CHANNEL = grpc.insecure_channel(URL)
MODELS = model_service_pb2_grpc.ModelServiceStub(CHANNEL)
PREDICTION = prediction_service_pb2_grpc.PredictionServiceStub(CHANNEL)


def listed(*entries):
    """Return a request; an entry is the fields of a ModelConfig."""
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.SetInParent()
    for entry in entries:
        config = request.config.model_config_list.config.add(name=entry["name"], base_path=entry.get("base_path", ""))
        config.model_platform = "tensorflow"
        config.version_labels.update(entry.get("labels", {}))
        if "versions" in entry:
            config.model_version_policy.specific.versions.extend(entry["versions"])
    return request


def reload(*entries, key=ADMIN):
    """Send a list, and return the error code of the answer's status."""
    metadata = [("authorization", f"Bearer {key}")]
    return MODELS.HandleReloadConfigRequest(listed(*entries), timeout=SECONDS, metadata=metadata).status.error_code


def refusal(*entries, key=ADMIN):
    """Return status and text of the error that a list must end in."""
    try:
        reload(*entries, key=key)
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("the call succeeded")


def versions(model):
    """Return the versions that are available; none of a model that is not known."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = model
    try:
        found = MODELS.GetModelStatus(request, timeout=SECONDS, metadata=[("authorization", f"Bearer {INFER}")])
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return []
        raise
    return [state.version for state in found.model_version_status if state.state == 30]


def eventually(condition):
    """Wait until something is true that the answer does not wait for: what goes away."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def ask(label=None):
    """Return what ``twice`` makes of 4, and which version did."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "twice"
    if label is not None:
        request.model_spec.version_label = label
    request.inputs["x"].CopyFrom(tf.make_tensor_proto([4], dtype=tf.int64))
    found = PREDICTION.Predict(request, timeout=SECONDS, metadata=[("authorization", f"Bearer {INFER}")])
    return int(tf.make_ndarray(found.outputs["output"])[0]), found.model_spec.version.value


def check_only_an_administrator_may():
    """The scope infer does not do."""
    assert refusal({"name": "twice"}, key=INFER)[0] is grpc.StatusCode.PERMISSION_DENIED
    assert versions("twice") == []


def check_a_list_is_loaded():
    """When the answer comes, what is listed answers: without a policy, its newest version."""
    assert reload({"name": "twice", "base_path": "/models/twice"}) == 0
    assert ask() == (12, 3) and versions("twice") == [3]


def check_versions_and_labels():
    """Those that the policy names, and the labels on them."""
    assert reload({"name": "twice", "versions": [1, 2], "labels": {"stable": 1, "canary": 2}}) == 0
    assert ask() == ask("canary") == (8, 2)
    assert ask("stable") == (4, 1)
    eventually(lambda: versions("twice") == [1, 2])


def check_refusals_change_nothing():
    """A folder that is not the model's own, a model that is not registered, a label of what is not served."""
    code, text = refusal({"name": "twice", "base_path": "/etc"})
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "config[0].base_path: twice@2 was not registered from '/etc'" in text
    code, text = refusal({"name": "twice"}, {"name": "nobody"})
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "nobody" in text
    code, text = refusal({"name": "twice", "versions": [1, 2], "labels": {"stable": 3}})
    assert code is grpc.StatusCode.FAILED_PRECONDITION and "Request to assign label to version 3 of model twice" in text
    assert versions("twice") == [1, 2] and ask("stable") == (4, 1)


def check_a_model_that_does_not_load():
    """The error says why, and the others of the list are served."""
    code, text = refusal({"name": "twice"}, {"name": "broken"})
    assert code is grpc.StatusCode.INVALID_ARGUMENT and "load failed for model 'broken'" in text and "not in a replica" in text
    assert ask() == (8, 2)


def check_an_empty_list_ends_everything():
    """What is not listed goes."""
    assert reload() == 0
    eventually(lambda: versions("twice") == [])


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
