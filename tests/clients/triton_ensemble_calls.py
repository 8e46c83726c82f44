"""What the real Triton clients do with an ensemble, in their own environment: ``triton_ensemble_calls.py HOST:PORT``.

Every function ``check_*`` is one promise, told in its docstring; it takes a client and raises if the promise is broken. Each is run with
``tritonclient.http`` and with ``tritonclient.grpc``. Prints one JSON object: the outcome of each, by name and transport. The repository
is made by ``test_triton_ensembles.py``: ``pipe`` scales in Python by what is asked for, and scores three classes with ONNX.
"""

from __future__ import annotations

import json
import sys
import traceback

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

ROWS = np.float32([[1, 2], [3, -4], [0.5, 0.25]])
WEIGHTS = np.float32([[1, 0, 1], [0, 1, 1]])


class Client:
    """One of the two clients, and what of it depends on which."""

    def __init__(self, module):
        self.module = module
        self.grpc = module is triton_grpc
        self.client = module.InferenceServerClient(sys.argv[1])

    def infer(self, rows, model="pipe", name="RAW", **options):
        """Infer with one input."""
        tensor = self.module.InferInput(name, list(rows.shape), "FP32")
        tensor.set_data_from_numpy(rows)
        return self.client.infer(model, [tensor], **options)

    def json(self, answer):
        """Return a message as JSON."""
        if not self.grpc:
            return answer
        from google.protobuf.json_format import MessageToDict

        return MessageToDict(answer, preserving_proto_field_name=True)


def refusal(call, *arguments, **options):
    """Return the text of the error that a call must end in."""
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        return error.message()
    raise AssertionError("the call succeeded")


def check_a_batch_goes_through_all_models(client):
    """Every row is scaled, and scored, and comes back in its place; what lies between the models is not an output."""
    answer = client.infer(ROWS)
    np.testing.assert_allclose(answer.as_numpy("SCORE"), ROWS * 10 @ WEIGHTS, rtol=1e-6)
    assert answer.as_numpy("scaled") is None and answer.get_output("SCALED") is None
    assert [output.name if client.grpc else output["name"] for output in _outputs(client, answer)] == ["SCORE"]


def check_parameters_reach_the_model(client):
    """Those of the request are those of each step."""
    answer = client.infer(ROWS, parameters={"by": 2})
    np.testing.assert_allclose(answer.as_numpy("SCORE"), ROWS * 2 @ WEIGHTS, rtol=1e-6)


def check_classes_have_the_labels_of_the_model(client):
    """The labels of the model that gives the output are those of the ensemble's; where there is none, the number stands alone."""
    output = client.module.InferRequestedOutput("SCORE", class_count=3)
    answer = client.infer(ROWS[:1], outputs=[output]).as_numpy("SCORE")
    assert answer.tolist() == [[b"30.000000:2", b"20.000000:1:a dog: small", b"10.000000:0:cat"]], answer


def check_the_largest_batch(client):
    """It is the ensemble's own."""
    words = refusal(client.infer, np.zeros((9, 2), np.float32))
    assert "inference request batch-size must be <= 8 for 'pipe'" in words, words


def check_metadata_and_configuration(client):
    """The platform is ``ensemble``, and the steps are shown as they are declared."""
    metadata = client.json(client.client.get_model_metadata("pipe"))
    assert (metadata["platform"], list(metadata["versions"])) == ("ensemble", ["1"])
    config = client.json(client.client.get_model_config("pipe"))
    config = config["config"] if client.grpc else config
    steps = config["ensemble_scheduling"]["step"]
    assert [(step["model_name"], int(step["model_version"])) for step in steps] == [("score", -1), ("scale", -1)]
    assert steps[1]["input_map"] == {"X": "RAW"} and steps[1]["output_map"] == {"Y": "scaled"}
    assert (config["platform"], config.get("backend", ""), config["max_batch_size"]) == ("ensemble", "", 8)
    assert "dynamic_batching" not in config


def check_statistics(client):
    """An ensemble has those of a model."""
    client.infer(ROWS)
    found = client.json(client.client.get_inference_statistics("pipe"))["model_stats"][0]
    assert (found["name"], found["version"]) == ("pipe", "1") and int(found["inference_stats"]["success"]["count"]) > 0


def check_a_step_that_refuses(client):
    """What a model says of its input reaches the client with the step, and is the client's fault."""
    words = refusal(client.infer, np.float32([[np.nan, 1]]))
    assert "step[1] (scale): not a number" in words, words


def check_the_models_answer_by_themselves(client):
    """As under Triton, they are models like any other."""
    np.testing.assert_array_equal(client.infer(ROWS, "scale", "X").as_numpy("Y"), ROWS * 10)
    np.testing.assert_allclose(client.infer(ROWS, "score", "X").as_numpy("Y"), ROWS @ WEIGHTS, rtol=1e-6)


def _outputs(client, answer):
    response = answer.get_response()
    return response.outputs if client.grpc else response["outputs"]


def main():
    """Run every check with both clients and print the outcomes."""
    outcomes = {}
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            for module in (triton_http, triton_grpc):
                key = f"{name}-{module.__name__.rpartition('.')[2]}"
                try:
                    check(Client(module))
                    outcomes[key] = "ok"
                except BaseException:
                    outcomes[key] = traceback.format_exc()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
