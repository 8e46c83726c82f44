"""Both clients against a server that speaks the inference protocol: the same calls give the same answers."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

import headgate
from headgate import errors
from headgate.client.wire import HEAD_LENGTH, pack, unpack

METADATA = {
    "name": "double",
    "versions": ["1"],
    "platform": "python",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}


class Doubling(BaseHTTPRequestHandler):
    """A deployment ``double`` that doubles; it keeps what it was asked."""

    protocol_version = "HTTP/1.1"
    asked: list[tuple[str, str, dict[str, str]]]

    def do_GET(self) -> None:
        """Metadata and readiness."""
        self.asked.append(("GET", self.path, dict(self.headers)))
        if self.path == "/v2/models/double":
            self.answer(200, json.dumps(METADATA).encode())
        else:
            self.answer(200 if self.path.endswith("/ready") and "broken" not in self.path else 404, b'{"error": "unknown model"}')

    def do_POST(self) -> None:
        """Inference, as rows and as binary tensors."""
        self.asked.append(("POST", self.path, dict(self.headers)))
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path.startswith("/predict/"):
            rows = json.loads(body)
            self.answer(200, json.dumps([{"y": [2 * value for value in row["x"]]} for row in rows]).encode())
            return
        _, arrays = unpack("inputs", self.headers[HEAD_LENGTH], body)
        if np.isnan(arrays["x"]).any():
            self.answer(400, b'{"error": "input \'x\' holds NaN", "code": "invalid_request"}')
            return
        length, answer = pack("outputs", {"y": ("FP32", arrays["x"] * 2)}, {"model_name": "double"})
        self.answer(200, answer, {HEAD_LENGTH: str(length)})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        """Send one answer."""
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Server:
    """Where the doubling server is and what it was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[tuple[str, str, dict[str, str]]] = []


@pytest.fixture
def server() -> Iterator[Server]:
    """A doubling server on a free port."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Doubling,), {}))
    here = Server(f"http://127.0.0.1:{http.server_port}")
    http.RequestHandlerClass.asked = here.asked  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield here
    http.shutdown()
    thread.join()
    http.server_close()


Call = Callable[..., Any]


def with_sync(url: str, method: str, *args: Any, **options: Any) -> Any:
    """Call ``method`` of a `Client`."""
    with headgate.Client(url, key="secret") as client:
        return getattr(client, method)(*args, **options)


def with_async(url: str, method: str, *args: Any, **options: Any) -> Any:
    """Call ``method`` of an `AsyncClient`."""

    async def call() -> Any:
        async with headgate.AsyncClient(url, key="secret") as client:
            return await getattr(client, method)(*args, **options)

    return asyncio.run(call())


@pytest.fixture(params=[with_sync, with_async], ids=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    """Either client."""
    return request.param


def test_arrays_in_arrays_out(server: Server, call: Call) -> None:
    """A dict of arrays goes as binary tensors and comes back as a dict of arrays."""
    answer = call(server.url, "predict", "double", {"x": np.array([[1, 2]])})
    assert answer["y"].tolist() == [[2.0, 4.0]]
    assert answer["y"].dtype == np.float32


def test_rows_in_rows_out(server: Server, call: Call) -> None:
    """A list of rows goes as plain JSON, NumPy's values included, and comes back as a list of rows."""
    assert call(server.url, "predict", "double", [{"x": np.array([1.0, 2.0])}]) == [{"y": [2.0, 4.0]}]


def test_what_a_caller_says_goes_along(server: Server, call: Call) -> None:
    """Key, deadline and request id travel as headers, and a version in the path."""
    call(server.url, "predict", "double", [{"x": [1.0]}], version=3, timeout=1.5, request_id="abc")
    method, path, headers = server.asked[-1]
    sent = {name.lower(): value for name, value in headers.items()}
    assert (method, path) == ("POST", "/predict/double/versions/3")
    assert sent["authorization"] == "Bearer secret"
    assert sent["x-headgate-timeout-ms"] == "1500"
    assert sent["x-request-id"] == "abc"


def test_a_refusal_is_raised_as_ours(server: Server, call: Call) -> None:
    """What the server refuses is raised as its class, with the server's words, and was sent once."""
    with pytest.raises(errors.InvalidRequest, match="holds NaN"):
        call(server.url, "predict", "double", np.array([[float("nan"), 0.0]]))
    assert sum(method == "POST" for method, _, _ in server.asked) == 1


def test_an_unknown_deployment_is_not_found(server: Server, call: Call) -> None:
    """An unknown deployment is a NotFound with the server's words."""
    with pytest.raises(errors.NotFound, match="unknown model"):
        call(server.url, "predict", "nobody", np.ones((1, 2)))


def test_readiness_is_a_yes_or_no(server: Server, call: Call) -> None:
    """Readiness of the server and of a deployment is answered with True or False."""
    assert call(server.url, "ready") is True
    assert call(server.url, "ready", "double") is True
    assert call(server.url, "ready", "broken") is False


def test_metadata_says_what_a_deployment_takes(server: Server, call: Call) -> None:
    """Metadata names inputs and outputs with their dtypes and shapes."""
    assert call(server.url, "metadata", "double").inputs == (("x", "FP32", (-1, 2), False),)


def test_nobody_there_is_said_as_such(call: Call) -> None:
    """Where no server listens, the error says so and what to do."""
    with pytest.raises(errors.ServerUnreachable, match="headgate serve"):
        call("http://127.0.0.1:1", "ready")


def test_metadata_is_asked_for_once(server: Server) -> None:
    """A client asks once what a deployment takes; after a refusal it asks again, for the deployment may have changed."""
    with headgate.Client(server.url) as client:
        for _ in range(3):
            client.predict("double", np.ones((1, 2)))
        assert [path for method, path, _ in server.asked if method == "GET"] == ["/v2/models/double"]
        with pytest.raises(errors.InvalidRequest):
            client.predict("double", np.array([[float("nan"), 0.0]]))
        client.predict("double", np.ones((1, 2)))
    assert len([path for method, path, _ in server.asked if method == "GET"]) == 2
