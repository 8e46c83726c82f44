"""Points 1 to 13 of the TensorFlow Serving checklist: paths, verbs, status codes."""

from __future__ import annotations

import gzip
import json
import threading
from typing import Any

import pytest
from serving import Server
from tfserving_client import Client, text_of

from headgate import errors
from headgate.protocols.tfserving import TFServing

ONE = {"instances": [1.0]}
LARGEST = (1 << 63) - 1


def test_p01_only_paths_below_v1_are_answered_in_its_words(served: Server) -> None:
    """Below /v1/ every error is TensorFlow Serving's; elsewhere it is not."""
    assert "Malformed request: GET /v1/foo" in text_of(served.get("/v1/foo"), 400)
    assert "Malformed" not in served.get("/foo").error


def test_p01_the_case_of_a_path_counts(served: Server) -> None:
    """A deliberate difference: TensorFlow Serving takes /V1/Models/half:Predict. No client writes that, and names of models have a case."""
    assert served.request("POST", "/V1/models/half:predict", json.dumps(ONE).encode()).status == 404
    assert "Malformed" in text_of(served.request("POST", "/v1/models/half:Predict", json.dumps(ONE).encode()), 400)


@pytest.mark.parametrize("place", ["", "/versions/1", "/labels/before"])
def test_p02_the_three_methods_have_three_places(client: Client, place: str) -> None:
    """A model, a version of it and a label of it, each with every method."""
    answer = client.ask("two", {"instances": [[1.0]]}, place=place)
    assert answer == {"predictions": [[1 if place else 2]]}
    for verb in ("classify", "regress"):
        assert "signature method_name" in client.refused("two", {"examples": [{"x": 1}]}, verb, place=place)


@pytest.mark.parametrize("place", ["", "/versions/1", "/labels/before"])
@pytest.mark.parametrize("end", ["", "/metadata"])
def test_p02_status_and_metadata_have_the_same_places(served: Server, place: str, end: str) -> None:
    """GET of the same paths without a method."""
    assert served.get(f"/v1/models/two{place}{end}").status == 200


def test_p02_names_and_labels_are_percent_decoded(served: Server, client: Client) -> None:
    """``%68alf`` is half, ``%62efore`` is before."""
    assert client.ask("%68alf", ONE) == {"predictions": [2.5]}
    assert client.ask("two", {"instances": [[1.0]]}, place="/labels/%62efore") == {"predictions": [[1]]}
    assert served.get("/v1/models/%68alf").status == 200


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/v1/foo"), ("POST", "/v1/foo"), ("GET", "/v1/"), ("POST", "/v1/models"), ("POST", "/v1/models/half"),
        ("GET", "/v1/models/half:predict"), ("GET", "/v1/models/half/versions/1:predict"), ("GET", "/v1/models/two/labels/before:regress"),
        ("PUT", "/v1/models/half:predict"), ("DELETE", "/v1/models/half"), ("OPTIONS", "/v1/models/half:predict"),
        ("POST", "/v1/models/half/version/1:predict"), ("GET", "/v1/models/half/version/1"),
        ("POST", "/v1/models/two/label/before:predict"), ("GET", "/v1/models/nobody:predict"),
        ("POST", "/v1/models/two/versions/1/labels/before:predict"), ("POST", "/v1/models/half/versions/HELLO:regress"),
        ("GET", "/v1/models/half/versions/HELLO"), ("POST", "/v1/models/two/versions/champion:predict"),
        ("POST", "/v1/models/half/versions/-1:predict"), ("POST", "/v1/models/half/metadata"), ("GET", "/v1/models/half/"),
        ("POST", "/v1/models/:predict"), ("POST", "/v1/models/half:explain"), ("GET", "/v1/models/half/metadata/more"),
    ],
)  # fmt: skip
def test_p03_everything_else_is_malformed(served: Server, verb: str, path: str) -> None:
    """400 with verb and path, not 404 or 405: a version is digits only, and what wants POST does not take GET."""
    answer = served.request(verb, path, b"{}" if verb == "POST" else None)
    assert text_of(answer, 400).startswith(f"Malformed request: {verb} {path} (")


def test_p03_paths_of_a_deployment_with_another_dialect_are_not_ours(served: Server) -> None:
    """A deployment that speaks KServe's dialect is not asked in this one, and the error says which it speaks."""
    body = json.dumps(ONE).encode()
    answer = served.request("POST", "/v1/models/other:classify", body)
    assert answer.status == 404
    assert "deployment 'other' speaks kserve under /v1" in answer.error
    assert served.request("POST", "/v1/models/other:predict", body).json == {"predictions": [2.5]}


def test_p04_a_version_beyond_64_bits(served: Server, client: Client) -> None:
    """It is not converted, and said so: of a known model, of an unknown one, and for the state. The largest one is only not there."""
    place = f"/versions/{LARGEST + 1}"
    for model in ("half", "nobody"):
        assert client.refused(model, ONE, place=place) == f"Failed to convert version: {LARGEST + 1} to numeric."
        assert text_of(served.get(f"/v1/models/{model}{place}"), 400) == f"Failed to convert version: {LARGEST + 1} to numeric."
    assert "Servable not found" in client.refused("half", ONE, place=f"/versions/{LARGEST}", status=404)


def test_p05_without_a_name_models_are_listed(served: Server) -> None:
    """A deliberate difference: TensorFlow Serving answers 400 "Missing model name in request."; here ``GET /v1/models`` lists."""
    answer = served.get("/v1/models")
    assert answer.status == 200
    assert {"half", "two", "other"} <= set(answer.json["models"])


def test_p06_errors_are_objects_with_one_text(client: Client) -> None:
    """``{"error": text}`` as application/json and nothing else in it; compact, where TensorFlow Serving pretty-prints."""
    assert "Servable not found" in client.refused("nobody", ONE, status=404)


def test_p06_errors_are_cut(client: Client) -> None:
    """An error shows no more than the start of what was wrong."""
    assert len(client.refused("half", {"instances": ["x" * 100_000]})) < 1001
    assert len(client.refused("n" * 1500, ONE, status=404)) < 1001


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidRequest("x"), 400), (errors.FailedPrecondition("x"), 400), (errors.Unauthenticated("x"), 401),
        (errors.PermissionDenied("x"), 403), (errors.NotFound("x"), 404), (errors.Conflict("x"), 409), (errors.Overloaded("x"), 429),
        (errors.Cancelled("x"), 499), (errors.HeadgateError("x"), 500), (errors.ModelFailed("x"), 500), (errors.Unsupported("x"), 501),
        (errors.NotReady("x"), 503), (errors.DeadlineExceeded("x"), 504),
    ],
)  # fmt: skip
def test_p07_status_codes(error: errors.HeadgateError, status: int) -> None:
    """Each gRPC code has the status it has there."""
    reply = TFServing().encode_error(error)
    assert (reply.status, json.loads(bytes(reply.body))) == (status, {"error": "x"})
    canonical = {3: 400, 9: 400, 16: 401, 7: 403, 5: 404, 10: 409, 8: 429, 1: 499, 13: 500, 12: 501, 14: 503, 4: 504}
    assert canonical[error.grpc] == status


def test_p08_an_unknown_model_or_version(served: Server, client: Client) -> None:
    """404, naming what was asked for; the version also where the model itself is unknown."""
    assert client.refused("foo", ONE, status=404).startswith("Servable not found for request: Latest(foo)")
    assert client.refused("foo", ONE, place="/versions/50", status=404).startswith(
        "Servable not found for request: Specific(foo, 50)"
    )
    text = client.refused("half", ONE, place="/versions/50", status=404)
    assert text.startswith("Servable not found for request: Specific(half, 50)")
    assert "versions served: 1" in text, "what there is helps more than what there is not"
    assert "Latest(foo)" in text_of(served.get("/v1/models/foo/metadata"), 404)
    assert "Specific(half, 9)" in text_of(served.get("/v1/models/half/versions/9/metadata"), 404)


@pytest.mark.parametrize("model", ["two", "nobody"])
def test_p09_an_unknown_label(served: Server, client: Client, model: str) -> None:
    """400, for every method, for the state and for metadata."""
    said = "Unrecognized servable version label: nope"
    for verb in ("predict", "classify", "regress"):
        assert client.refused(model, {"instances": [[1.0]]}, verb, place="/labels/nope").startswith(said)
    for end in ("", "/metadata"):
        assert text_of(served.get(f"/v1/models/{model}/labels/nope{end}"), 400).startswith(said)


def test_p09_a_number_is_no_label(served: Server, client: Client) -> None:
    """Labels are aliases, and those are never numbers: version 1 cannot be had as a label."""
    assert client.refused("two", {"instances": [[1.0]]}, place="/labels/1").startswith("Unrecognized servable version label: 1")
    assert text_of(served.get("/v1/models/two/labels/1"), 400).startswith("Unrecognized servable version label: 1")


def test_p10_without_a_version_the_split_decides(client: Client) -> None:
    """TensorFlow Serving takes the latest it has loaded; here what serves the traffic does, which after a deploy is the newest."""
    assert client.ask("two", {"instances": [[1.0]]}) == {"predictions": [[2]]}
    assert client.ask("two", {"instances": [[1.0]]}, place="/labels/champion") == {"predictions": [[2]]}


def test_p10_a_version_and_a_label_cannot_both_be_named(served: Server) -> None:
    """No path has room for both."""
    assert "Malformed" in text_of(served.request("POST", "/v1/models/two/versions/2/labels/before:predict", b"{}"), 400)


def test_p11_no_cross_origin_requests(served: Server) -> None:
    """As with ``--rest_api_enable_cors_support`` left off: no such header, and a page of another site is refused."""
    assert not [name for name in served.get("/v1/models/half").headers if name.startswith("access-control-")]
    answer = served.request("OPTIONS", "/v1/models/half:predict", None, {"Origin": "https://elsewhere.example"})
    assert answer.status == 421


def test_p12_out_of_time_is_504(served: Server, client: Client) -> None:
    """A request past the deployment's timeout (TensorFlow Serving: ``--rest_api_timeout_in_ms``) gets 504."""
    text = client.refused("gate", {"instances": [[-5]]}, status=504)
    served.package_file("gate-1", "release-5").touch()
    assert "timeout expired" in text


def test_p12_compressed_bodies(client: Client) -> None:
    """A gzip body is read, a broken one refused in this protocol's form."""
    packed = gzip.compress(json.dumps(ONE).encode())
    assert client.post("half", packed, headers={"Content-Encoding": "gzip"}).json == {"predictions": [2.5]}
    assert "gzip" in text_of(client.post("half", packed[:-9], headers={"Content-Encoding": "gzip"}), 400)


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "application/json", ""])
def test_p13_the_content_type_does_not_matter(client: Client, kind: str) -> None:
    """What curl -d says of a body is not held against it."""
    assert client.post("half", ONE, headers={"Content-Type": kind}).json == {"predictions": [2.5]}


def test_many_clients_get_their_own_answers(client: Client) -> None:
    """Requests from many threads, batched together, each get what they asked for."""
    wrong: list[Any] = []

    def ask(start: int) -> None:
        for value in range(start, start + 20):
            got = client.ask("half", {"instances": [value, -value]})
            if got != {"predictions": [value / 2 + 2, 2 - value / 2]}:
                wrong.append((value, got))

    threads = [threading.Thread(target=ask, args=(100 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
