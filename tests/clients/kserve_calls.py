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

import httpx
import msgpack
import msgpack_numpy
import numpy as np
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent, from_http
from kserve import InferenceRESTClient, RESTConfig

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
