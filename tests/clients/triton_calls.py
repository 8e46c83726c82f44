"""What the real ``tritonclient.http`` does with a server: run in its own environment as ``python triton_calls.py HOST:PORT GATE``.

Every function ``check_*`` is one promise, told in its docstring; it takes a client and raises if the promise is broken. Prints one
JSON object: the outcome of each, by name. ``GATE`` is the folder in which the model ``gate`` looks for what lets it go on.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
import traceback
from pathlib import Path

import ml_dtypes
import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

URL, GATE = sys.argv[1:3]
ROWS = np.arange(48, dtype=np.float32).reshape(3, 16)
DTYPES = {
    "BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64", "INT8": "int8", "INT16": "int16",
    "INT32": "int32", "INT64": "int64", "FP16": "float16", "FP32": "float32", "FP64": "float64",
}  # fmt: skip


def given(name, array, datatype, binary=True):
    """Return one input."""
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def both(binary_a=True, binary_b=True, rows=ROWS):
    """Return the inputs of ``sum``."""
    return [given("a", rows, "FP32", binary_a), given("b", rows, "FP32", binary_b)]


def refusal(call, *arguments, **options):
    """Return the text of the error that a call must end in, having made sure that the client understood it."""
    try:
        call(*arguments, **options)
    except InferenceServerException as raised:
        error = raised
    else:
        raise AssertionError("the call succeeded")
    assert "client" not in str(error).lower(), f"the client could not read the error: {error}"
    assert error.status() is not None
    return str(error)


def check_health(client):
    """Live, ready, and model ready with and without a version; what does not exist is not ready."""
    assert client.is_server_live() is True
    assert client.is_server_ready() is True
    assert client.is_model_ready("sum") is True
    assert client.is_model_ready("two", "1") is True
    assert client.is_model_ready("nobody") is False
    assert client.is_model_ready("two", "9") is False


def check_server_metadata(client):
    """Name, version and the extension that the client's default calls need."""
    metadata = client.get_server_metadata()
    assert metadata["name"] == "headgate"
    assert "binary_tensor_data" in metadata["extensions"]


def check_model_metadata(client):
    """Enough to build a request from, by version too."""
    metadata = client.get_model_metadata("sum")
    assert metadata["inputs"] == [{"name": name, "datatype": "FP32", "shape": [-1, 16]} for name in "ab"]
    assert [output["name"] for output in metadata["outputs"]] == ["sum", "difference"]
    assert client.get_model_metadata("two", "1")["versions"] == ["1", "2"]


def check_default_call(client):
    """Binary in and out, all outputs: what ``infer`` does when nothing is said."""
    result = client.infer("sum", both())
    assert np.array_equal(result.as_numpy("sum"), 2 * ROWS)
    assert np.array_equal(result.as_numpy("difference"), 0 * ROWS)
    assert result.get_response()["model_name"] == "sum"
    assert result.as_numpy("nothing") is None


def check_json_call(client):
    """JSON in and out."""
    wanted = [triton.InferRequestedOutput(name, binary_data=False) for name in ("sum", "difference")]
    result = client.infer("sum", both(False, False), outputs=wanted)
    assert np.array_equal(result.as_numpy("sum"), 2 * ROWS)
    assert "data" in result.get_output("sum")


def check_mixed_calls(client):
    """JSON and binary inputs and outputs in one request, in every combination."""
    for binary_a, binary_b, binary_out in ((True, False, False), (False, True, True), (True, True, False), (False, False, True)):
        wanted = [
            triton.InferRequestedOutput("sum", binary_data=binary_out),
            triton.InferRequestedOutput("difference", not binary_out),
        ]
        result = client.infer("sum", both(binary_a, binary_b), outputs=wanted)
        assert np.array_equal(result.as_numpy("sum"), 2 * ROWS)
        assert np.array_equal(result.as_numpy("difference"), 0 * ROWS)


def check_requested_outputs(client):
    """Only those asked for, in that order."""
    wanted = [triton.InferRequestedOutput("difference"), triton.InferRequestedOutput("sum")]
    result = client.infer("sum", both(), outputs=wanted)
    assert [output["name"] for output in result.get_response()["outputs"]] == ["difference", "sum"]
    assert np.array_equal(result.as_numpy("sum"), 2 * ROWS)
    only = client.infer("sum", both(), outputs=wanted[:1]).get_response()["outputs"]
    assert [output["name"] for output in only] == ["difference"]


def check_every_datatype(client):
    """All numeric dtypes with their extremes, binary and JSON, there and back."""
    for datatype, name in DTYPES.items():
        kind = np.dtype(name)
        if kind.kind == "b":
            array = np.array([[True, False]])
        else:
            limits = np.iinfo(kind) if kind.kind in "iu" else np.finfo(kind)
            array = np.array([[limits.min, limits.max]], dtype=kind)
        for binary in (True, False):
            if datatype == "FP16" and not binary:
                continue  # the client refuses to send it
            wanted = [triton.InferRequestedOutput(f"same_{datatype.lower()}", binary_data=binary)]
            result = client.infer("types", [given(datatype.lower(), array, datatype, binary)], outputs=wanted)
            got = result.as_numpy(f"same_{datatype.lower()}")
            assert got.dtype == kind and np.array_equal(got, array), (datatype, binary, got)


def check_half_floats(client):
    """BF16 and FP16 go in in binary form (the client insists), and come back in either."""
    array = np.array([[1.5, -2.0]], dtype=np.float32)
    short = array.astype(ml_dtypes.bfloat16)
    for binary in (True, False):
        wanted = [triton.InferRequestedOutput("same_bf16", binary_data=binary)]
        result = client.infer("types", [given("bf16", short, "BF16")], outputs=wanted)
        assert np.array_equal(result.as_numpy("same_bf16").astype("float32"), array)
    for binary in (True, False):
        wanted = [triton.InferRequestedOutput("same_fp16", binary_data=binary)]
        result = client.infer("types", [given("fp16", array.astype("float16"), "FP16")], outputs=wanted)
        assert np.array_equal(result.as_numpy("same_fp16"), array.astype("float16"))


def check_strings(client):
    """BYTES from objects and from bytes, with letters of every length, binary and JSON."""
    words = ["", "abc", "h\u00e9\u4e16\U0001f600", "x" * 1000]
    for array in (np.array([[word] for word in words], dtype=object), np.array([[word.encode()] for word in words], dtype=object)):
        for binary_in in (True, False):
            for binary_out in (True, False):
                wanted = [triton.InferRequestedOutput("same_bytes", binary_data=binary_out)]
                pairs = np.concatenate([array, array], axis=1)
                result = client.infer("types", [given("bytes", pairs, "BYTES", binary_in)], outputs=wanted)
                got = result.as_numpy("same_bytes").ravel().tolist()
                got = [item.decode() if isinstance(item, bytes) else item for item in got]
                assert got == [word for word in words for _ in range(2)], (binary_in, binary_out, got)


def check_bytes_that_are_no_text(client):
    """Any bytes go through in binary form; as JSON the server says why not."""
    array = np.array([[b"\xff\x00"], [b"\xfe"]], dtype=object)
    assert client.infer("text", [given("text", array, "BYTES")]).as_numpy("output").tolist() == [[b"\x00\xff"], [b"\xfe"]]
    wanted = [triton.InferRequestedOutput("output", binary_data=False)]
    assert "not UTF-8" in refusal(client.infer, "text", [given("text", array, "BYTES")], outputs=wanted)


def check_not_a_number(client):
    """NaN and the infinities as JSON, both ways."""
    array = np.array([[np.nan, np.inf], [-np.inf, 1.0]], dtype=np.float32)
    wanted = [triton.InferRequestedOutput("same_fp32", binary_data=False)]
    got = client.infer("types", [given("fp32", array, "FP32", False)], outputs=wanted).as_numpy("same_fp32")
    assert np.array_equal(got, array, equal_nan=True), got


def check_scalar_and_no_batch(client):
    """A model without a batch axis, with a bare number."""
    matrix = np.arange(6, dtype=np.float32).reshape(2, 3)
    result = client.infer("scalar", [given("x", np.array(4.5), "FP64"), given("matrix", matrix, "FP32")])
    assert result.as_numpy("double").shape == () and result.as_numpy("double") == 9.0
    assert np.array_equal(result.as_numpy("turned"), matrix.T)


def check_no_rows(client):
    """No rows in, no rows out."""
    result = client.infer("sum", both(rows=ROWS[:0]))
    assert result.as_numpy("sum").shape == (0, 16)


def check_compression(client):
    """Requests and answers in gzip and deflate, binary and JSON, small and large."""
    for rows in (ROWS, np.arange(16 * 4000, dtype=np.float32).reshape(-1, 16)):
        for coding in ("gzip", "deflate"):
            for binary in (True, False):
                options = [
                    {"request_compression_algorithm": coding},
                    {"response_compression_algorithm": coding},
                    {"request_compression_algorithm": coding, "response_compression_algorithm": coding},
                ]
                wanted = [triton.InferRequestedOutput("sum", binary_data=binary)]
                for option in options:
                    result = client.infer("sum", both(binary, binary, rows), outputs=wanted, **option)
                    assert np.array_equal(result.as_numpy("sum"), 2 * rows), (coding, binary, option)


def check_versions(client):
    """A version that is asked for answers; the answer says which it was."""
    x = [given("x", np.zeros((1, 1), dtype=np.float32), "FP32")]
    for version, answer in (("1", 1), ("2", 2), ("", 2)):
        result = client.infer("two", x, model_version=version)
        assert result.as_numpy("output").tolist() == [[answer]]
        assert result.get_response()["model_version"] == str(answer)


def check_request_ids(client):
    """The id comes back in the answer, and is absent if none was given."""
    assert client.infer("sum", both(), request_id="7-\u00e9").get_response()["id"] == "7-\u00e9"
    assert "id" not in client.infer("sum", both()).get_response()


def check_custom_parameters(client):
    """Parameters reach the model; priority and timeout are the server's."""
    x = [given("x", np.zeros((1, 1), dtype=np.float32), "FP32")]
    result = client.infer("asked", x, parameters={"top": 3, "exact": True, "name": "a"}, priority=1, timeout=20_000_000)
    assert result.as_numpy("output").tolist() == [[b"exact=True,name='a',top=3"]]


def check_query_and_headers(client):
    """Query parameters and headers of the caller are no obstacle."""
    result = client.infer("sum", both(), headers={"X-Request-Id": "abc", "X-Other": "1"}, query_params={"a": "1 2"})
    assert np.array_equal(result.as_numpy("sum"), 2 * ROWS)
    assert client.is_server_live(headers={"X-Other": "1"}, query_params={"a": 1})


def check_errors_are_understood(client):
    """Every kind of refusal reaches the caller as the server's own words."""
    assert "unknown model: 'nobody'" in refusal(client.infer, "nobody", both())
    assert "version 9 is not found" in refusal(client.infer, "sum", both(), model_version="9")
    assert "expected 2 inputs but got 1 inputs" in refusal(client.infer, "sum", both()[:1])
    wrong = [given("a", ROWS.astype("int32"), "INT32"), both()[1]]
    assert "data-type is 'INT32', but model 'sum' expects 'FP32'" in refusal(client.infer, "sum", wrong)
    wrong = [given("a", ROWS[:, :15].copy(), "FP32"), both()[1]]
    assert "unexpected shape for input 'a' for model 'sum'. Expected [-1,16], got [3,15]" in refusal(client.infer, "sum", wrong)
    wrong = [given("c", ROWS, "FP32"), both()[1]]
    assert "unexpected inference input 'c'" in refusal(client.infer, "sum", wrong)
    wanted = [triton.InferRequestedOutput("product")]
    assert "unexpected inference output 'product'" in refusal(client.infer, "sum", both(), outputs=wanted)
    x = [given("x", np.zeros((9, 1), dtype=np.float32), "FP32")]
    assert "batch-size must be <= 8" in refusal(client.infer, "two", x, model_version="1")
    assert "sequence_id" in refusal(client.infer, "sum", both(), sequence_id=5)
    assert "not found" in refusal(client.get_model_metadata, "nobody")
    fails = [given("x", np.array([[13]]), "INT64")]
    assert "ValueError: thirteen" in refusal(client.infer, "gate", fails)
    for coding in ("gzip", "deflate"):
        assert "nobody" in refusal(client.infer, "nobody", both(), response_compression_algorithm=coding)


def check_timeout_parameter(client):
    """A request past its timeout, in microseconds, ends in 504, though the model still computes."""
    value = -random.randrange(1, 2**40)
    begun = time.monotonic()
    text = refusal(client.infer, "gate", [given("x", np.array([[value]]), "INT64")], timeout=200_000)
    assert "Request timeout expired" in text
    assert time.monotonic() - begun >= 0.2
    (Path(GATE) / f"release{value}").touch()


def check_async_infer(client):
    """Many requests at once over several connections: each result is that of its own request."""
    random_ = random.Random(7)
    pending = []
    for number in range(200):
        rows = random_.choice((1, 2, 8, 9, 30))
        numbers = np.array([[number * 1000 + row] for row in range(rows)])
        words = np.array([[f"{number}/{row}".encode()] for row in range(rows)], dtype=object)
        inputs = [given("number", numbers, "INT64", number % 2 == 0), given("text", words, "BYTES", number % 3 == 0)]
        pending.append((numbers, words, client.async_infer("tags", inputs, request_id=str(number))))
    for number, (numbers, words, handle) in enumerate(pending):
        result = handle.get_result()
        assert result.get_response()["id"] == str(number)
        assert np.array_equal(result.as_numpy("number"), numbers * 2)
        got = result.as_numpy("text").ravel().tolist()
        assert got == [b"<" + word + b">" for word in words.ravel().tolist()]


def check_async_errors(client):
    """A refusal of an asynchronous request comes out of its handle."""
    assert "unknown model" in refusal(client.async_infer("nobody", both()).get_result)


def check_generated_bodies(client):
    """Bodies made ahead of time by the client's own helper are what the server reads, and its answers parse."""
    body, length = triton.InferenceServerClient.generate_request_body(both())
    headers = {} if length is None else {"Inference-Header-Content-Length": str(length)}
    response = client._post("v2/models/sum/infer", body, headers, None)
    answer_length = response.get("Inference-Header-Content-Length")
    result = triton.InferenceServerClient.parse_response_body(response.read(), header_length=int(answer_length))
    assert np.array_equal(result.as_numpy("sum"), 2 * ROWS)


def check_a_large_tensor(client):
    """Several megabytes there and back."""
    rows = np.arange(16 * 40_000, dtype=np.float32).reshape(-1, 16)
    assert np.array_equal(client.infer("sum", both(rows=rows[:30_000])).as_numpy("sum"), 2 * rows[:30_000])


def check_threads(client):
    """One client for each of several threads, as its documentation wants it."""
    failures = []

    def work(seed):
        own = triton.InferenceServerClient(URL)
        try:
            for number in range(30):
                numbers = np.array([[seed * 1000 + number]])
                words = np.array([[str(numbers[0, 0]).encode()]], dtype=object)
                result = own.infer("tags", [given("number", numbers, "INT64"), given("text", words, "BYTES")])
                assert result.as_numpy("number")[0, 0] == 2 * numbers[0, 0]
        except Exception:
            failures.append(traceback.format_exc())
        finally:
            own.close()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


def main():
    """Run every check with one client and print the outcomes."""
    outcomes = {}
    client = triton.InferenceServerClient(URL, concurrency=8, network_timeout=60.0, connection_timeout=60.0)
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            try:
                check(client)
                outcomes[name] = "ok"
            except BaseException:
                outcomes[name] = traceback.format_exc()
    client.close()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
