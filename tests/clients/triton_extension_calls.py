"""What the real Triton clients do with the extensions of a server, in their own environment: ``triton_extension_calls.py HOST:PORT``.

Every function ``check_*`` is one promise, told in its docstring; it takes a client and raises if the promise is broken. Each is run with
``tritonclient.http`` and with ``tritonclient.grpc``. Prints one JSON object: the outcome of each, by name and transport.
"""

from __future__ import annotations

import itertools
import json
import queue
import sys
import traceback

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

URL = sys.argv[1]
IDS = itertools.count(1)
ROWS = np.arange(48, dtype=np.float32).reshape(3, 16)


class Client:
    """One of the two clients, and what of it depends on which."""

    def __init__(self, module):
        self.module = module
        self.grpc = module is triton_grpc
        self.client = module.InferenceServerClient(URL)

    def infer(self, model, **options):
        """Infer with arrays by name."""
        arrays = options.pop("inputs")
        inputs = [self.given(name, array) for name, array in arrays.items()]
        return self.client.infer(model, inputs, **options)

    def given(self, name, array):
        """Return one input."""
        datatype = {"float32": "FP32", "int64": "INT64"}[str(array.dtype)]
        tensor = self.module.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        return tensor

    def json(self, answer):
        """Return a message as JSON."""
        return answer if not self.grpc else json.loads(_text(answer))


def _text(answer):
    from google.protobuf.json_format import MessageToJson

    return MessageToJson(answer, preserving_proto_field_name=True)


def refusal(call, *arguments, **options):
    """Return the text of the error that a call must end in."""
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        return error.message()
    raise AssertionError("the call succeeded")


def check_repository_index(client):
    """Every version with its state; what is not ready has a reason."""
    found = client.json(client.client.get_model_repository_index())
    entries = found["models"] if client.grpc else found
    states = {(entry["name"], entry["version"]): entry["state"] for entry in entries}
    assert states["sum", "1"] == states["two", "1"] == states["two", "2"] == "READY"


def check_model_config(client):
    """What perf tools read: name, batch size, inputs and outputs; by version; of nobody a refusal that is understood."""
    found = client.json(client.client.get_model_config("sum"))
    config = found["config"] if client.grpc else found
    assert (config["name"], config["max_batch_size"]) == ("sum", 8)
    assert [(one["name"], one["data_type"], [int(size) for size in one["dims"]]) for one in config["input"]] == [
        ("a", "TYPE_FP32", [16]),
        ("b", "TYPE_FP32", [16]),
    ]
    found = client.json(client.client.get_model_config("two", "1"))
    assert (found["config"] if client.grpc else found)["name"] == "two"
    assert "nobody" in refusal(client.client.get_model_config, "nobody")


def check_statistics(client):
    """Of one model and of all; what was asked in between is counted, request by request and row by row."""

    def counts():
        (found,) = client.json(client.client.get_inference_statistics("sum"))["model_stats"]
        success = found.get("inference_stats", {}).get("success", {})
        return [
            int(number) for number in (found.get("inference_count", 0), found.get("execution_count", 0), success.get("count", 0))
        ]

    before = counts()
    client.infer("sum", inputs={"a": ROWS, "b": ROWS})
    client.infer("sum", inputs={"a": ROWS[:1], "b": ROWS[:1]})
    assert [now - then for now, then in zip(counts(), before, strict=True)] == [4, 2, 2]
    names = {found["name"] for found in client.json(client.client.get_inference_statistics())["model_stats"]}
    assert {"sum", "two", "running"} <= names
    assert "nobody" in refusal(client.client.get_inference_statistics, "nobody")


def check_load_and_unload_are_refused(client):
    """In Triton's words, with files and configurations too."""
    words = "explicit model load / unload is not allowed"
    assert words in refusal(client.client.load_model, "sum")
    assert words in refusal(client.client.load_model, "sum", config="{}", files={"file:1/model.py": b"x"})
    assert words in refusal(client.client.unload_model, "sum")
    assert client.client.is_model_ready("sum")


def check_class_count(client):
    """The largest values of each row as text, with their places."""
    wanted = [client.module.InferRequestedOutput("sum", class_count=2)]
    found = client.infer("sum", inputs={"a": ROWS, "b": 0 * ROWS}, outputs=wanted).as_numpy("sum")
    assert found.shape == (3, 2)
    assert found[0].tolist() == [b"15.000000:15", b"14.000000:14"]
    assert "class" in refusal(
        client.infer, "sum", inputs={"a": ROWS, "b": ROWS}, outputs=[client.module.InferRequestedOutput("sum", class_count=-1)]
    )


def check_sequences(client):
    """A number or a text as id; START, END, and the refusal of a request whose START is missing."""
    for key in (1000 + next(IDS), f"sequence {next(IDS)}"):
        total = 0
        for number in range(1, 6):
            x = np.array([[number]])
            options = {"sequence_id": key, "sequence_start": number == 1, "sequence_end": number == 5}
            result = client.infer("running", inputs={"x": x}, **options)
            total += number
            assert result.as_numpy("total").tolist() == [[total]]
        text = refusal(client.infer, "running", inputs={"x": np.array([[1]])}, sequence_id=key)
        assert f"inference request for sequence {key} to model 'running' must specify the START flag" in text
    assert "correlation ID" in refusal(client.infer, "running", inputs={"x": np.array([[1]])})


def check_sequences_of_one_stream(client):
    """Two sequences mixed on one stream add up apart, in order."""
    if not client.grpc:
        return
    answers = queue.Queue()
    client.client.start_stream(lambda result, error: answers.put((result, error)))
    keys = [2000 + next(IDS) for _ in range(2)]
    for number in range(1, 11):
        for key in keys:
            x = client.given("x", np.array([[number * (1 + key % 2)]]))
            options = {"sequence_id": key, "sequence_start": number == 1, "sequence_end": number == 10}
            client.client.async_stream_infer("running", [x], request_id=str(key), **options)
    totals = dict.fromkeys(keys, 0)
    for number in range(1, 11):
        for key in keys:
            result, error = answers.get(timeout=60)
            assert error is None and result.get_response().id == str(key), error
            totals[key] += number * (1 + key % 2)
            assert result.as_numpy("total").tolist() == [[totals[key]]]
    client.client.stop_stream()


def check_priority_and_timeout(client):
    """Both are taken as parameters of a call."""
    result = client.infer("sum", inputs={"a": ROWS, "b": ROWS}, priority=1, timeout=20_000_000)
    assert np.array_equal(result.as_numpy("sum"), 2 * ROWS)


def check_traces_and_logging(client):
    """What is set is told, and changing it is refused by name."""
    found = client.client.get_trace_settings(as_json=True) if client.grpc else client.client.get_trace_settings()
    level = found["settings"]["trace_level"]["value"] if client.grpc else found["trace_level"]
    assert level == ["OFF"]
    assert "trace_level" in refusal(client.client.update_trace_settings, settings={"trace_level": ["TIMESTAMPS"]})
    found = client.client.get_log_settings(as_json=True) if client.grpc else client.client.get_log_settings()
    assert (found["settings"]["log_info"]["bool_param"] if client.grpc else found["log_info"]) is True
    assert "log_info" in refusal(client.client.update_log_settings, settings={"log_info": False})


def check_shared_memory(client):
    """Off, in the words of a Triton that does not allow it; registering, status and unregistering alike."""
    words = "Client shared memory is disabled"
    assert words in refusal(client.client.get_system_shared_memory_status)
    assert words in refusal(client.client.register_system_shared_memory, "mine", "/mine", 64)
    assert words in refusal(client.client.unregister_system_shared_memory)
    assert words in refusal(client.client.get_cuda_shared_memory_status)
    assert words in refusal(client.client.register_cuda_shared_memory, "mine", b"aGFuZGxl", 0, 64)
    assert words in refusal(client.client.unregister_cuda_shared_memory, "mine")


def check_extensions(client):
    """The metadata of the server names what works."""
    found = client.client.get_server_metadata()
    names = set(found.extensions if client.grpc else found["extensions"])
    assert {"classification", "model_configuration", "model_repository", "schedule_policy", "sequence", "statistics"} <= names
    assert not {"trace", "logging", "system_shared_memory", "cuda_shared_memory"} & names


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
