"""What KServe's own client, the SDK of CloudEvents, and msgpack-numpy (which Truss's clients use) do with a server.

Run in an environment of its own as ``python kserve_calls.py HOST:PORT``. Every function ``check_*`` is one promise, told in its
docstring; it raises if the promise is broken. Prints one JSON object: the outcome of each, by name.
"""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from datetime import UTC, datetime
from decimal import Decimal

import grpc
import httpx
import msgpack
import msgpack_numpy
import numpy as np
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent, from_http
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

URL = f"http://{sys.argv[1]}"
ROWS = {"instances": [[1, 2, 3, 4], [0.5, 0, 0, 0]]}
ANSWER = {"predictions": [10.0, 0.5]}


def client(protocol="v1"):
    """Return KServe's client."""
    return InferenceRESTClient(RESTConfig(protocol=protocol, retries=0, timeout=30))


def refused(call):
    """Return the response with which a call of KServe's client fails."""
    try:
        asyncio.run(call)
    except httpx.HTTPStatusError as error:
        return error.response
    raise AssertionError("no error")


# ---- KServe


def check_readiness():
    """The server is live and ready, a model with a replica is ready, one without is not."""
    assert asyncio.run(client().is_server_live(URL))
    assert asyncio.run(client("v2").is_server_live(URL))
    assert asyncio.run(client().is_model_ready(URL, "flower")) is True
    assert asyncio.run(client().is_model_ready(URL, "absent")) is False


def check_predict():
    """`infer` with a dictionary gives the predictions."""
    assert asyncio.run(client().infer(URL, ROWS, model_name="flower")) == ANSWER


def check_predict_columns():
    """Rows of several columns are objects, and so are predictions of several outputs."""
    row = {"age": 36, "height": 1.6, "name": "Ada"}
    found = asyncio.run(client().infer(URL, {"instances": [row]}, model_name="people"))
    assert found == {"predictions": [{"score": 37.6, "label": "ADA"}]}


def check_errors():
    """Refusals are HTTP errors of the client, whose text it finds under ``error``."""
    wrong = refused(client().infer(URL, {"instances": [[1]]}, model_name="flower"))
    assert wrong.status_code == 400
    assert "row 0" in wrong.json()["error"]
    unknown = refused(client().infer(URL, ROWS, model_name="flwer"))
    assert unknown.status_code == 404
    assert unknown.json()["error"].startswith("Model with name flwer does not exist.")
    absent = refused(client().infer(URL, ROWS, model_name="absent"))
    assert absent.status_code == 503


def check_explain():
    """`explain` is refused with 501."""
    assert refused(client().explain(URL, "flower", ROWS)).status_code == 501


# ---- the same client with KServe's V2


def v2_request(model, arrays, *, binary=True, **more):
    """Return a request of arrays by name; its tensors are JSON, or bytes behind it."""
    inputs = []
    for name, array in arrays.items():
        kind = "BYTES" if array.dtype == object else {"f": "FP", "i": "INT", "b": "BOOL"}[array.dtype.kind]
        kind += str(array.dtype.itemsize * 8) if kind in ("FP", "INT") else ""
        tensor = InferInput(name, list(array.shape), kind)
        tensor.set_data_from_numpy(array, binary_data=binary)
        inputs.append(tensor)
    return InferRequest(model, inputs, request_id="r-1", **more)


FOUR = {"x": np.array([[1, 2, 3, 4], [0.5, 0, 0, 0]], "float32")}
PEOPLE = {
    "age": np.array([36], "int64"),
    "height": np.array([1.6], "float64"),
    "name": np.array(["Ada \u00e4"], dtype=object),
    "vip": np.array([True]),
}


def v2_outputs(answer):
    """Return the outputs of an answer by name, as lists; its id must be that of the request."""
    assert answer.id == "r-1"
    return {output.name: output.as_numpy().tolist() for output in answer.outputs}


def check_v2_readiness():
    """Server and models, over HTTP and over gRPC; a model that is not there is not ready."""
    rest = client("v2")
    assert asyncio.run(rest.is_model_ready(URL, "flower")) is True
    assert asyncio.run(client("v2").is_model_ready(URL, "absent")) is False
    assert asyncio.run(client("v2").is_model_ready(URL, "nobody")) is False

    async def over_grpc():
        async with InferenceGRPCClient(URL.removeprefix("http://")) as grpc_client:
            assert await grpc_client.is_server_live()
            assert not await grpc_client.is_server_ready(), "one deployment has no replica"
            assert await grpc_client.is_model_ready("flower")
            assert not await grpc_client.is_model_ready("absent")

    asyncio.run(over_grpc())


def check_v2_predict():
    """Tensors as JSON and as bytes, answers in either form, numbers and text; the id comes back."""
    for binary in (False, True):
        for wanted in ({}, {"parameters": {"binary_data_output": True}}, {"parameters": {"binary_data_output": False}}):
            answer = asyncio.run(client("v2").infer(URL, v2_request("flower", FOUR, binary=binary, **wanted), model_name="flower"))
            assert v2_outputs(answer) == {"output": [10.0, 0.5]}, (binary, wanted)
            answer = asyncio.run(
                client("v2").infer(URL, v2_request("people", PEOPLE, binary=binary, **wanted), model_name="people")
            )
            found = v2_outputs(answer)
            assert found["score"] == [1037.6]
            assert found["label"] in ([b"ADA \xc3\x84"], ["ADA \u00c4"]), found


def check_v2_requested_outputs():
    """Only what is asked for, in that order and form."""
    outputs = [RequestedOutput("label", {"binary_data": False}), RequestedOutput("score", {"binary_data": True})]
    answer = asyncio.run(client("v2").infer(URL, v2_request("people", PEOPLE, request_outputs=outputs), model_name="people"))
    assert [output.name for output in answer.outputs] == ["label", "score"]
    assert answer.outputs[1].as_numpy().tolist() == [1037.6]


def check_v2_errors():
    """Refusals are HTTP errors of the client with their text."""
    wrong = refused(client("v2").infer(URL, v2_request("flower", {"y": FOUR["x"]}), model_name="flower"))
    assert wrong.status_code == 400 and "unexpected inference input 'y'" in wrong.json()["error"]
    assert refused(client("v2").infer(URL, v2_request("nobody", FOUR), model_name="nobody")).status_code == 404
    assert refused(client("v2").infer(URL, v2_request("absent", FOUR), model_name="absent")).status_code == 503


async def failure(call):
    """Return the status with which a call over gRPC fails, and its text."""
    try:
        await call
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("no error")


def check_v2_over_grpc():
    """Raw and typed tensors, and errors with their status and words."""

    async def calls():
        async with InferenceGRPCClient(URL.removeprefix("http://"), retries=2) as grpc_client:
            for binary in (False, True):
                answer = await grpc_client.infer(v2_request("flower", FOUR, binary=binary))
                assert v2_outputs(answer) == {"output": [10.0, 0.5]}
                answer = await grpc_client.infer(v2_request("people", PEOPLE, binary=binary))
                assert v2_outputs(answer)["score"] == [1037.6]
            for model, status in (("nobody", grpc.StatusCode.NOT_FOUND), ("absent", grpc.StatusCode.UNAVAILABLE)):
                code, text = await failure(grpc_client.infer(v2_request(model, FOUR)))
                assert code is status and f"'{model}'" in text, text

    asyncio.run(calls())


# ---- CloudEvents


def event(data):
    """Return an event as a broker would deliver it."""
    return CloudEvent({"type": "org.example.flower", "source": "https://example.org/garden", "id": "f-1"}, data)


def check_binary_event():
    """An event in binary mode is answered by one the SDK reads: same id, KServe's type and source, the predictions as data."""
    headers, body = to_binary(event(ROWS))
    answer = httpx.post(f"{URL}/v1/models/flower:predict", headers=headers, content=body)
    assert answer.status_code == 200, answer.text
    found = from_http(dict(answer.headers), answer.content)
    assert (found["id"], found["type"], found["source"]) == ("f-1", "io.kserve.inference.response", "io.kserve.inference.flower")
    assert found.data == ANSWER


def check_structured_event():
    """The same in structured mode."""
    headers, body = to_structured(event(ROWS))
    answer = httpx.post(f"{URL}/v1/models/flower:predict", headers=headers, content=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/cloudevents+json"
    found = from_http(dict(answer.headers), answer.content)
    assert (found["id"], found["type"]) == ("f-1", "io.kserve.inference.response")
    assert found.data == ANSWER


# ---- Truss's binary requests


def packed(value):
    """Return MessagePack as Truss's clients write it."""
    return msgpack.packb(value, default=encode)


def encode(value):
    """Write what MessagePack has no form for."""
    if isinstance(value, datetime):
        return {b"__dt_datetime_iso__": True, b"data": value.isoformat()}
    if isinstance(value, Decimal):
        return {b"__decimal__": True, b"data": str(value)}
    return msgpack_numpy.encode(value)


def ask(model, value):
    """Send a binary request and return what comes back, read as Truss's clients read it."""
    answer = httpx.post(
        f"{URL}/v1/models/{model}:predict_binary", headers={"content-type": "application/octet-stream"}, content=packed(value)
    )
    assert answer.status_code == 200, answer.text
    return msgpack.unpackb(answer.content, object_hook=msgpack_numpy.decode)


def check_arrays_of_a_typed_model():
    """Arrays of any dtype that fits are rows; tensors come back as arrays."""
    for dtype in ("float32", "float64", ">f4", "int8", "uint16", "float16"):
        found = ask("mixed", {"pair": np.array([1, 2], dtype=dtype), "name": "a"})
        assert isinstance(found["double"], np.ndarray), found
        assert found["double"].dtype == np.float32
        assert found["double"].tolist() == [2.0, 4.0]
        assert (found["total"], found["name"]) == (3, "a")
    rows = ask("mixed", [{"pair": row, "name": "a"} for row in np.eye(2, dtype="float32")])
    assert [row["double"].tolist() for row in rows] == [[2.0, 0.0], [0.0, 2.0]]


def check_anything_comes_back_as_it_went():
    """A model that takes any value gets arrays, bytes, dates and numbers so that they can come back the same."""
    image = np.arange(12, dtype="uint8").reshape(3, 2, 2)
    found = ask("anything", {"image": image, "raw": b"\xff\0", "list": [image[0], None, 1.5], "scalar": np.float32(2.5)})["got"]
    assert found["image"].dtype == np.uint8
    assert (found["image"] == image).all()
    assert (found["list"][0] == image[0]).all()
    assert (found["raw"], found["list"][1:]) == (b"\xff\0", [None, 1.5])
    assert found["scalar"] == 2.5
    now = datetime(2026, 1, 2, 3, 4, 5, 678, UTC)
    again = ask("anything", {"when": now, "price": Decimal("1.10")})["got"]
    assert again["when"] == {b"__dt_datetime_iso__": True, b"data": now.isoformat()}
    assert again["price"] == {b"__decimal__": True, b"data": "1.10"}


def main():
    """Run every check."""
    outcomes = {}
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            try:
                check()
                outcomes[name] = "ok"
            except Exception:
                outcomes[name] = traceback.format_exc()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
