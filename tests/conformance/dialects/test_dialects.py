"""Three dialects under one ``/v1``: which of them answers is the deployment's setting, on every path that they share.

And the rule for paths that name no deployment: the default one, else the only one, else 400 with the list.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from serving import Answer, Served, Server, eventually

ROW = b'{"instances": [[1, 2, 3, 4]]}'


def post(server: Server, path: str, body: bytes = ROW) -> Answer:
    """POST JSON."""
    return server.request("POST", path, body)


# ---- every path that two dialects share


def test_state_of_a_model(dialects: Server) -> None:
    """`GET /v1/models/NAME`: its versions for TensorFlow Serving, ready for KServe, nothing for Truss."""
    assert dialects.get("/v1/models/plain").json["model_version_status"][0]["state"] == "AVAILABLE"
    assert dialects.get("/v1/models/flower").json == {"name": "flower", "ready": True}
    assert dialects.get("/v1/models/mixed").json == {}


def test_predict(dialects: Server) -> None:
    """`POST /v1/models/NAME:predict`: rows in ``instances`` for two of them, the bare body for Truss."""
    for name in ("plain", "flower"):
        answer = post(dialects, f"/v1/models/{name}:predict")
        assert (answer.status, answer.json) == (200, {"predictions": [10.0]})
    assert post(dialects, "/v1/models/plain:predict", b'{"inputs": [[1, 2, 3, 4]]}').json == {"outputs": [10.0]}
    assert post(dialects, "/v1/models/flower:predict", b'{"inputs": [[1, 2, 3, 4]]}').json == {"predictions": [10.0]}
    assert post(dialects, "/v1/models/anything:predict").json == {"got": {"instances": [[1, 2, 3, 4]]}}


def test_errors_of_predict(dialects: Server) -> None:
    """A body that is no JSON is refused in the words of each."""
    said = {name: post(dialects, f"/v1/models/{name}:predict", b"{") for name in ("plain", "flower", "mixed")}
    assert {answer.status for answer in said.values()} == {400}
    assert said["plain"].error.startswith("JSON Parse error")
    assert said["flower"].error.startswith("Unrecognized request format")
    assert said["mixed"].error.startswith("Invalid JSON payload")


def test_not_ready(dialects: Server) -> None:
    """Without a replica KServe's and Truss's readiness are 503 in one sentence, which they share."""
    for name in ("no-kserve", "no-truss"):
        answer = dialects.get(f"/v1/models/{name}")
        assert answer.status == 503
        assert answer.error.startswith(f"Model with name {name} is not ready.")


def test_metrics_tell_them_apart(dialects: Server) -> None:
    """The same path is counted for the protocol that answered."""
    protocols = {"plain": "tfserving_http", "flower": "kserve_v1", "anything": "truss"}
    before = {name: dialects.metric("headgate_requests_total", deployment=name, protocol=protocols[name]) for name in protocols}
    for name in protocols:
        post(dialects, f"/v1/models/{name}:predict")
    for name, protocol in protocols.items():
        assert dialects.metric("headgate_requests_total", deployment=name, protocol=protocol) == before[name] + 1
        others = set(protocols.values()) - {protocol}
        assert not any(dialects.metric("headgate_requests_total", deployment=name, protocol=other) for other in others)


# ---- paths of one of them


@pytest.mark.parametrize(
    ("method", "path", "dialect"),
    [
        ("POST", "/v1/models/plain:explain", "kserve"),
        ("POST", "/v1/models/plain:predict_binary", "truss"),
        ("GET", "/v1/models/plain/schema", "truss"),
    ],
)
def test_paths_of_other_dialects_are_malformed_for_tensorflow_serving(
    dialects: Server, method: str, path: str, dialect: str
) -> None:
    """What is no path of its own is "Malformed request" there, whoever else knows it."""
    answer = dialects.request(method, path, b"{}" if method == "POST" else None)
    assert answer.status == 400, dialect
    assert answer.error.startswith(f"Malformed request: {method} {path}")


@pytest.mark.parametrize(
    ("method", "path", "its", "speaks"),
    [
        ("POST", "/v1/models/flower:classify", "tfserving", "kserve"),
        ("GET", "/v1/models/flower/metadata", "tfserving", "kserve"),
        ("GET", "/v1/models/flower/versions/1", "tfserving", "kserve"),
        ("GET", "/v1/models/flower/loaded", "truss", "kserve"),
        ("POST", "/v1/models/flower:predict_binary", "truss", "kserve"),
        ("POST", "/v1/models/mixed:explain", "kserve", "truss"),
        ("POST", "/v1/models/mixed:regress", "tfserving", "truss"),
        ("POST", "/v1/models/mixed/versions/1:predict", "tfserving", "truss"),
    ],
)
def test_paths_of_other_dialects(dialects: Server, method: str, path: str, its: str, speaks: str) -> None:
    """A path of another dialect is 404 and says which dialect it is of, and which one the deployment speaks."""
    answer = dialects.request(method, path, b"{}" if method == "POST" else None)
    assert answer.status == 404
    assert f"is a path of the dialect {its}; deployment '" in answer.error
    assert f"speaks {speaks} under /v1" in answer.error


@pytest.mark.parametrize("path", ["/v1/models/flower:predict", "/v1/models/mixed:predict"])
def test_wrong_verbs(dialects: Server, path: str) -> None:
    """A verb that a shared path does not have is 405 for KServe and Truss; TensorFlow Serving says "Malformed request"."""
    answer = dialects.request("PUT", path, b"{}")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert dialects.get(path).status == 405
    assert dialects.get("/v1/models/plain:predict").error.startswith("Malformed request: GET /v1/models/plain:predict")


# ---- deployments nobody knows


def test_unknown_deployments_of_a_mixed_server(dialects: Server) -> None:
    """Nobody knows their dialect: the default one, TensorFlow Serving's, answers."""
    answer = post(dialects, "/v1/models/nobody:predict")
    assert answer.status == 404
    assert answer.error.startswith("Servable not found for request: Latest(nobody)")


@pytest.fixture(scope="module")
def kserve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway with one deployment, which speaks KServe's dialect."""
    running = Server(tmp_path_factory.mktemp("kserve"), [Served("flower", "Flower", v1="kserve")])
    yield running
    running.stop()


def test_p79_unknown_deployments_where_all_speak_one_dialect(kserve: Server) -> None:
    """Where all deployments speak one dialect, it is the unknown ones', too, so that its clients get its words."""
    for answer in (post(kserve, "/v1/models/flwer:predict"), kserve.get("/v1/models/flwer")):
        assert answer.status == 404
        assert answer.error.startswith("Model with name flwer does not exist.")
        assert "did you mean 'flower'?" in answer.error
    assert kserve.get("/v1/models/flower/metadata").status == 404


# ---- the default deployment


def test_the_only_deployment_is_the_default(kserve: Server) -> None:
    """Where there is one, paths without a name mean it."""
    answer = kserve.request("POST", "/invocations", b'{"inputs": [[1, 2, 3, 4]]}', {"content-type": "application/json"})
    assert (answer.status, answer.json) == (200, {"predictions": [10.0]})
    assert kserve.get("/ping").status == 200


@pytest.mark.parametrize(("method", "path"), [("POST", "/invocations"), ("GET", "/ping"), ("GET", "/health")])
def test_several_deployments_and_no_default(dialects: Server, method: str, path: str) -> None:
    """Where there are several, paths without a name are 400, with the list and what to do."""
    dialects.make_default(None)
    answer = dialects.request(method, path, b"{}" if method == "POST" else None)
    assert answer.status == 400
    for name in ("plain", "flower", "anything", "--default-deployment"):
        assert name in answer.json["message"]


def test_the_default_deployment_among_several(dialects: Server) -> None:
    """A table that names a default decides, from the next request on."""
    for name, expected in (("plain", 10.0), ("anything", {"got": [1, 2, 3, 4]})):
        dialects.make_default(name)
        answer = dialects.request("POST", "/invocations", b'{"inputs": [[1, 2, 3, 4]]}', {"content-type": "application/json"})
        assert answer.json == {"predictions": [expected]}


def test_a_default_that_is_not_deployed(dialects: Server) -> None:
    """It is 404 for as long as nobody has deployed it, with the likely spelling."""
    dialects.make_default("flowr")
    answer = eventually(lambda: dialects.get("/ping"), "an answer")
    assert answer.status == 404
    assert "did you mean 'flower'?" in answer.json["message"]
