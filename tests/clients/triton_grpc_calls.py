"""What the real ``tritonclient.grpc`` does with a server, in its own environment: ``triton_grpc_calls.py HOST:PORT GATE MESSAGES``.

Every function ``check_*`` is one promise, told in its docstring; it takes a client and raises if the promise is broken. Prints one
JSON object: the outcome of each, by name. ``GATE`` is the folder in which the model ``gate`` looks for what lets it go on, ``MESSAGES``
the file with the descriptors that the server was built from.
"""

from __future__ import annotations

import asyncio
import json
import queue
import random
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import ml_dtypes
import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

URL, GATE, MESSAGES = sys.argv[1:4]
ROWS = np.arange(48, dtype=np.float32).reshape(3, 16)
DTYPES = {
    "BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64", "INT8": "int8", "INT16": "int16",
    "INT32": "int32", "INT64": "int64", "FP16": "float16", "FP32": "float32", "FP64": "float64",
}  # fmt: skip
SECONDS = 60


def given(name, array, datatype):
    """Return one input."""
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def both(rows=ROWS):
    """Return the inputs of ``sum``."""
    return [given("a", rows, "FP32"), given("b", rows, "FP32")]


@contextmanager
def held():
    """Give inputs that hold ``gate`` until the end of the block, come what may."""
    value = -random.randrange(1, 2**40)
    try:
        yield [given("x", np.array([[value]]), "INT64")]
    finally:
        (Path(GATE) / f"release{value}").touch()


def refusal(call, *arguments, code="StatusCode.INVALID_ARGUMENT", **options):
    """Return the text of the error that a call must end in, having compared its status."""
    try:
        call(*arguments, **options)
    except InferenceServerException as raised:
        error = raised
    else:
        raise AssertionError("the call succeeded")
    assert error.status() == code, f"{error.status()}: {error}"
    return error.message()


def check_names_and_numbers(client):
    """Every message, field, number, type and method that the client was built from is the server's, too."""
    ours = descriptor_pb2.FileDescriptorSet.FromString(Path(MESSAGES).read_bytes()).file
    theirs = []
    for module in (model_config_pb2, service_pb2):
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        theirs.append(file)
    mine, published = described(ours), described(theirs)
    missing = {name: entry for name, entry in published.items() if mine.get(name) != entry}
    assert not missing, missing
    # The one field that the Open Inference Protocol has, and Triton has not.
    assert all("properties" in name.lower() for name in mine.keys() - published.keys()), mine.keys() - published.keys()


def described(files):
    """Return what can be seen on the wire of all messages, enums and methods, by full name."""
    found = {}

    def walk(message, prefix):
        for field in message.field:
            oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
            found[f"{prefix}{message.name}.{field.name}"] = (field.number, field.type, field.label, field.type_name, oneof)
        for inner in message.nested_type:
            walk(inner, f"{prefix}{message.name}.")
        for enum in message.enum_type:
            found.update({f"{prefix}{message.name}.{enum.name}.{value.name}": value.number for value in enum.value})

    for file in files:
        assert file.package == "inference"
        for message in file.message_type:
            found[message.name] = "message"
            walk(message, "")
        for enum in file.enum_type:
            found.update({f"{enum.name}.{value.name}": value.number for value in enum.value})
        for service in file.service:
            for method in service.method:
                streams = (method.client_streaming, method.server_streaming)
                found[f"{service.name}/{method.name}"] = (method.input_type, method.output_type, streams)
    return found


def check_health(client):
    """Live, ready, and model ready with and without a version; what does not exist is not ready."""
    assert client.is_server_live() is True
    assert client.is_server_ready() is True
    assert client.is_model_ready("sum") is True
    assert client.is_model_ready("two", "1") is True
    assert client.is_model_ready("nobody") is False
    assert client.is_model_ready("two", "9") is False


def check_metadata(client):
    """Of the server and of a model, as messages and as JSON, by version too."""
    metadata = client.get_server_metadata()
    assert metadata.name == "headgate" and "binary_tensor_data" in metadata.extensions
    metadata = client.get_model_metadata("sum", as_json=True)
    assert metadata["inputs"] == [{"name": name, "datatype": "FP32", "shape": ["-1", "16"]} for name in "ab"]
    assert [output["name"] for output in metadata["outputs"]] == ["sum", "difference"]
    assert list(client.get_model_metadata("two", "1").versions) == ["1", "2"]


def check_default_call(client):
    """All outputs: what ``infer`` does when nothing is said, again and again."""
    for _ in range(3):
        result = client.infer("sum", both())
        assert np.array_equal(result.as_numpy("sum"), 2 * ROWS)
        assert np.array_equal(result.as_numpy("difference"), 0 * ROWS)
        assert result.get_response().model_name == "sum"
        assert result.as_numpy("nothing") is None


def check_requested_outputs(client):
    """Only those asked for, in that order."""
    wanted = [triton.InferRequestedOutput("difference"), triton.InferRequestedOutput("sum")]
    result = client.infer("sum", both(), outputs=wanted)
    assert [output.name for output in result.get_response().outputs] == ["difference", "sum"]
    assert np.array_equal(result.as_numpy("sum"), 2 * ROWS)
    assert [output.name for output in client.infer("sum", both(), outputs=wanted[:1]).get_response().outputs] == ["difference"]


def check_every_datatype(client):
    """Each datatype at the edges of its range comes back as it went."""
    for datatype, name in DTYPES.items():
        kind = np.dtype(name)
        if kind.kind in "iu":
            values = [np.iinfo(kind).min, np.iinfo(kind).max]
        else:
            values = [True, False] if kind.kind == "b" else [np.finfo(kind).max, -np.inf]
        array = np.array([values, values[::-1]], dtype=kind)
        wanted = [triton.InferRequestedOutput(f"same_{datatype.lower()}")]
        got = client.infer("types", [given(datatype.lower(), array, datatype)], outputs=wanted).as_numpy(f"same_{datatype.lower()}")
        assert got.dtype == kind and np.array_equal(got, array), datatype
    brain = np.array([[1.5, -2.0]], dtype=ml_dtypes.bfloat16)
    got = client.infer("types", [given("bf16", brain, "BF16")]).as_numpy("same_bf16")
    assert got.astype(np.float32).tolist() == [[1.5, -2.0]]


def check_strings(client):
    """BYTES from objects, with letters of every length, and bytes that are no text at all."""
    words = np.array([["", "abc"], ["h\u00e9\u4e16\U0001f600", "x" * 1000]], dtype=object)
    got = client.infer("types", [given("bytes", words, "BYTES")]).as_numpy("same_bytes")
    assert [item.decode() for item in got.ravel()] == words.ravel().tolist()
    raw = np.array([[b"\xff\x00"], [b"\xfe"]], dtype=object)
    assert client.infer("text", [given("text", raw, "BYTES")]).as_numpy("output").tolist() == [[b"\x00\xff"], [b"\xfe"]]


def check_scalar_and_no_batch(client):
    """A model without a batch axis, with a bare number; and no rows in, no rows out."""
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    result = client.infer("scalar", [given("x", np.array(4.5), "FP64"), given("matrix", matrix, "FP32")])
    assert result.as_numpy("double").shape == () and result.as_numpy("double") == 9.0
    assert np.array_equal(result.as_numpy("turned"), matrix.T)
    assert client.infer("sum", both(ROWS[:0])).as_numpy("sum").shape == (0, 16)


def check_compression(client):
    """gzip and deflate, small and large."""
    for rows in (ROWS, np.arange(16 * 4000, dtype=np.float32).reshape(-1, 16)):
        for coding in ("gzip", "deflate"):
            assert np.array_equal(client.infer("sum", both(rows), compression_algorithm=coding).as_numpy("sum"), 2 * rows)


def check_versions_and_ids(client):
    """A version that is asked for answers, and the answer says which it was; an id comes back as it is."""
    x = [given("x", np.zeros((1, 1), dtype=np.float32), "FP32")]
    for version, answer in (("1", 1), ("2", 2), ("", 2)):
        result = client.infer("two", x, model_version=version, request_id="7-\u00e9")
        assert result.as_numpy("output").tolist() == [[answer]]
        assert (result.get_response().model_version, result.get_response().id) == (str(answer), "7-\u00e9")


def check_custom_parameters(client):
    """Parameters reach the model; priority and timeout are the server's."""
    x = [given("x", np.zeros((1, 1), dtype=np.float32), "FP32")]
    options = {"parameters": {"top": 3, "exact": True, "name": "a", "heat": 0.5}, "priority": 1, "timeout": 20_000_000}
    assert client.infer("asked", x, **options).as_numpy("output").tolist() == [[b"exact=True,heat=0.5,name='a',top=3"]]


def check_errors(client):
    """Every kind of refusal reaches the caller with the server's own words and a status to branch on."""
    assert "unknown model: 'nobody'" in refusal(client.infer, "nobody", both(), code="StatusCode.NOT_FOUND")
    assert "version 9 is not found" in refusal(client.infer, "sum", both(), model_version="9", code="StatusCode.NOT_FOUND")
    assert "expected 2 inputs but got 1 inputs" in refusal(client.infer, "sum", both()[:1])
    wrong = [given("a", ROWS[:, :15].copy(), "FP32"), both()[1]]
    assert "unexpected shape for input 'a' for model 'sum'. Expected [-1,16], got [3,15]" in refusal(client.infer, "sum", wrong)
    wanted = [triton.InferRequestedOutput("product")]
    assert "unexpected inference output 'product'" in refusal(client.infer, "sum", both(), outputs=wanted)
    assert "parameter 'sequence_" in refusal(client.infer, "sum", both(), sequence_id=5, code="StatusCode.UNIMPLEMENTED")
    fails = [given("x", np.array([[13]]), "INT64")]
    assert "ValueError: thirteen" in refusal(client.infer, "gate", fails, code="StatusCode.INTERNAL")
    assert "not found" in refusal(client.get_model_metadata, "nobody", code="StatusCode.NOT_FOUND")


def check_deadlines(client):
    """The client's deadline ends the call on time, and so does the request's own timeout in microseconds."""
    for options in ({"client_timeout": 0.3}, {"timeout": 300_000}):
        with held() as inputs:
            begun = time.monotonic()
            refusal(client.infer, "gate", inputs, code="StatusCode.DEADLINE_EXCEEDED", **options)
            assert 0.25 <= time.monotonic() - begun < SECONDS


def check_async_infer(client):
    """Many calls at once: each callback gets the answer to its own; a refusal comes as the error."""
    answers = queue.Queue()
    for number in range(100):
        inputs = [given("number", np.array([[number]]), "INT64"), given("text", np.array([[b"x"]], dtype=object), "BYTES")]
        client.async_infer("tags", inputs, lambda result, error, number=number: answers.put((number, result, error)))
    for _ in range(100):
        number, result, error = answers.get(timeout=SECONDS)
        assert error is None and result.as_numpy("number").tolist() == [[2 * number]]
    client.async_infer("nobody", both(), lambda result, error: answers.put((result, error)))
    result, error = answers.get(timeout=SECONDS)
    assert result is None and "unknown model" in error.message()


def check_cancel(client):
    """A call that is cancelled ends at once, and the model goes on for others."""
    answers = queue.Queue()
    with held() as inputs:
        client.async_infer("gate", inputs, lambda result, error: answers.put(error)).cancel()
        assert answers.get(timeout=SECONDS).status() == "StatusCode.CANCELLED"
    assert client.infer("gate", [given("x", np.array([[1]]), "INT64")]).as_numpy("output").tolist() == [[1]]


def check_streams(client):
    """Answers come in the order of the requests, with their ids, each marked as the last to its request."""
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(50):
        client.async_stream_infer("sum", both(ROWS + number), request_id=str(number), enable_empty_final_response=number % 2 == 0)
    for number in range(50):
        result, error = answers.get(timeout=SECONDS)
        assert error is None, error
        response = result.get_response()
        assert response.id == str(number) and response.parameters["triton_final_response"].bool_param is True
        assert np.array_equal(result.as_numpy("sum"), 2 * (ROWS + number))
    client.stop_stream()
    assert answers.empty()


def check_errors_on_streams(client):
    """An error concerns its request only: the stream goes on, in order."""
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(30):
        client.async_stream_infer("sum" if number % 3 else "nobody", both()[: 1 + number % 2], request_id=str(number))
    for number in range(30):
        result, error = answers.get(timeout=SECONDS)
        if number % 3 == 0:
            assert result is None and "unknown model: 'nobody'" in error.message()
        elif number % 2 == 0:
            assert result is None and "expected 2 inputs but got 1 inputs" in error.message()
        else:
            assert np.array_equal(result.as_numpy("sum"), 2 * ROWS)
    client.stop_stream()


def check_streams_that_end_at_an_error(client):
    """A client that asks for real statuses gets one, and with it the end of the stream."""
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), headers={"triton_grpc_error": "true"})
    client.async_stream_infer("nobody", both())
    result, error = answers.get(timeout=SECONDS)
    assert result is None and error.status() == "StatusCode.NOT_FOUND", error
    client.stop_stream()


def check_a_large_tensor(client):
    """Several megabytes there and back, alone and on a stream."""
    rows = np.arange(16 * 30_000, dtype=np.float32).reshape(-1, 16)
    assert np.array_equal(client.infer("sum", both(rows)).as_numpy("sum"), 2 * rows)
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for _ in range(3):
        client.async_stream_infer("sum", both(rows))
        result, error = answers.get(timeout=SECONDS)
        assert error is None and np.array_equal(result.as_numpy("sum"), 2 * rows), error
    client.stop_stream()


def check_threads(client):
    """One client for several threads, all at once."""
    failures = []

    def work(seed):
        try:
            for number in range(30):
                numbers = np.array([[seed * 1000 + number]])
                words = np.array([[str(numbers[0, 0]).encode()]], dtype=object)
                result = client.infer("tags", [given("number", numbers, "INT64"), given("text", words, "BYTES")])
                assert result.as_numpy("number")[0, 0] == 2 * numbers[0, 0]
        except Exception:
            failures.append(traceback.format_exc())

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


def check_asyncio(client):
    """The client for asyncio: health, many calls at once, errors, and a stream."""
    asyncio.run(_asyncio())


async def _asyncio():
    async with triton_aio.InferenceServerClient(URL) as client:
        assert await client.is_server_ready() is True
        results = await asyncio.gather(*(client.infer("sum", both(ROWS + number)) for number in range(50)))
        for number, result in enumerate(results):
            assert np.array_equal(result.as_numpy("sum"), 2 * (ROWS + number))
        (error,) = await asyncio.gather(client.infer("nobody", both()), return_exceptions=True)
        assert error.status() == "StatusCode.NOT_FOUND"

        async def requests():
            for number in range(20):
                yield {"model_name": "sum" if number != 7 else "nobody", "inputs": both(ROWS + number), "request_id": str(number)}

        number = 0
        async for result, error in client.stream_infer(requests()):
            assert (error is None) is (number != 7), error
            assert error is not None or np.array_equal(result.as_numpy("sum"), 2 * (ROWS + number))
            number += 1
        assert number == 20


def main():
    """Run every check with a client of its own and print the outcomes."""
    outcomes = {}
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            try:
                with triton.InferenceServerClient(URL) as client:
                    check(client)
                outcomes[name] = "ok"
            except BaseException:
                outcomes[name] = traceback.format_exc()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
