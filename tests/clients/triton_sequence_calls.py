"""What the real Triton clients see of a repository's models that keep state: run in their own environment with ``HOST:PORT``.

Every function ``check_*`` is one promise, told in its docstring. Each is run with ``tritonclient.http`` and with ``tritonclient.grpc``.
Prints one JSON object: the outcome of each, by name and transport. The models are made by ``tests/sequence_models.py``.
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


def given(module, value):
    """Return the input of one request."""
    tensor = module.InferInput("X", [1, 1], "FP32")
    tensor.set_data_from_numpy(np.float32([[value]]))
    return [tensor]


def refusal(call, *arguments, **options):
    """Return the text of the error that a call must end in."""
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        return error.message()
    raise AssertionError("the call succeeded")


def check_implicit_state(module, client):
    """The partial sums of a sequence, kept for a graph that gets START and its last state as inputs that the client does not know of."""
    for key in (1000 + next(IDS), f"sequence {next(IDS)}"):
        for number in range(1, 6):
            options = {"sequence_id": key, "sequence_start": number == 1, "sequence_end": number == 5}
            total = client.infer("adding", given(module, number), **options).as_numpy("TOTAL")
            assert total.tolist() == [[number * (number + 1) / 2]]
        text = refusal(client.infer, "adding", given(module, 1), sequence_id=key)
        assert f"inference request for sequence {key} to model 'adding' must specify the START flag" in text


def check_python_model(module, client):
    """It is told the id, a number or a text, and START and END; it keeps its own state."""
    for key, kind in ((2000 + next(IDS), "int"), (f"sequence {next(IDS)}", "str")):
        for number, flags in ((1, 1), (2, 0), (3, 2)):
            options = {"sequence_id": key, "sequence_start": number == 1, "sequence_end": number == 3}
            found = client.infer("telling", given(module, number), **options)
            assert found.as_numpy("TOTAL").tolist() == [[number * (number + 1) / 2]]
            assert found.as_numpy("SEQUENCE").tolist() == [[f"{kind} {key} {flags}".encode()]]


def check_metadata(module, client):
    """Neither controls nor state are shown."""
    found = client.get_model_metadata("adding", as_json=True) if module is triton_grpc else client.get_model_metadata("adding")
    assert [tensor["name"] for tensor in found["inputs"]] == ["X"]
    assert [tensor["name"] for tensor in found["outputs"]] == ["TOTAL"]


def check_sequences_of_one_stream(module, client):
    """Two sequences mixed on one stream add up apart, in order."""
    if module is not triton_grpc:
        return
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    keys = [3000 + next(IDS) for _ in range(2)]
    for number, key in itertools.product(range(1, 11), keys):
        options = {"sequence_id": key, "sequence_start": number == 1, "sequence_end": number == 10}
        client.async_stream_infer("adding", given(module, number * key), request_id=str(key), **options)
    totals = dict.fromkeys(keys, 0)
    for number in range(1, 11):
        for _ in keys:
            result, error = answers.get(timeout=60)
            assert error is None, error
            key = int(result.get_response().id)
            totals[key] += number * key
            assert result.as_numpy("TOTAL").tolist() == [[totals[key]]]
    client.stop_stream()


def main():
    """Run every check with both clients and print the outcomes."""
    outcomes = {}
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            for module in (triton_http, triton_grpc):
                key = f"{name}-{module.__name__.rpartition('.')[2]}"
                try:
                    check(module, module.InferenceServerClient(URL))
                    outcomes[key] = "ok"
                except BaseException:
                    outcomes[key] = traceback.format_exc()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
