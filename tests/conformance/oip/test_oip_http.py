"""Points 1 to 18 of the Open Inference Protocol checklist: HTTP plumbing, health and metadata."""

from __future__ import annotations

import json
from http.client import HTTPConnection

import pytest
from serving import Server, answer_of, tensor

SUM = {"inputs": [tensor("a", "FP32", [1, 16], [1.0] * 16), tensor("b", "FP32", [1, 16], [2.0] * 16)]}
SUM_BYTES = json.dumps(SUM).encode()


def test_p01_live(server: Server) -> None:
    """Live is 200."""
    assert server.get("/v2/health/live").status == 200


def test_p02_ready_is_503_while_a_model_is_not_there(server: Server, narrow: Server) -> None:
    """Ready is 200 only if everything that should serve does. Else 503, not Triton's 400: load balancers read 503 as "not now"."""
    assert server.get("/v2/health/ready").status == 200
    assert narrow.get("/v2/health/ready").status == 503
    assert narrow.get("/v2/health/live").status == 200


def test_p03_health_bodies_are_what_the_yaml_and_kserve_say(server: Server, narrow: Server) -> None:
    """Nobody needs a body, but who reads one finds the truth in it."""
    assert server.get("/v2/health/live").json == {"live": True}
    assert server.get("/v2/health/ready").json == {"ready": True}
    assert narrow.get("/v2/health/ready").json == {"ready": False}


def test_p04_model_ready(server: Server, narrow: Server) -> None:
    """A model (and version) that would compute is 200 with name and ready; without a replica 503; unknown 404."""
    for path in ("/v2/models/sum/ready", "/v2/models/two/versions/1/ready"):
        answer = server.get(path)
        assert answer.status == 200
        assert answer.json == {"name": path.split("/")[3], "ready": True}
    assert narrow.get("/v2/models/absent/ready").status == 503
    assert "not at ready state" in narrow.get("/v2/models/absent/ready").error
    assert server.get("/v2/models/nobody/ready").status == 404
    assert server.get("/v2/models/two/versions/9/ready").status == 404


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_p05_server_metadata(server: Server, path: str) -> None:
    """Both spellings answer at once: name, version, extensions."""
    answer = server.get(path)
    assert answer.status == 200
    assert answer.json["name"] == "headgate"
    assert isinstance(answer.json["version"], str)
    assert "binary_tensor_data" in answer.json["extensions"]


def test_p06_model_metadata(server: Server) -> None:
    """Names, dtypes and shapes as in the signature, -1 for what varies, the batch axis first."""
    answer = server.get("/v2/models/ragged")
    assert answer.status == 200
    assert answer.json == {
        "name": "ragged",
        "versions": ["1"],
        "platform": "python",
        "inputs": [{"name": "x", "datatype": "UINT8", "shape": [-1, -1]}],
        "outputs": [{"name": "output", "datatype": "UINT8", "shape": [-1, -1]}],
    }
    scalar = server.get("/v2/models/scalar").json
    assert [spec["shape"] for spec in scalar["inputs"]] == [[], [2, -1]]
    assert {spec["optional"] for spec in server.get("/v2/models/types").json["inputs"]} == {True}
    assert server.get("/v2/models/nobody").status == 404
    assert server.get("/v2/models/two/versions/7").status == 404


def test_p07_versions_are_strings_that_can_be_asked_for(server: Server) -> None:
    """Every listed version answers when it is asked for by name."""
    versions = server.get("/v2/models/two").json["versions"]
    assert versions == ["1", "2"]
    for version in versions:
        answer = server.infer("two", {"inputs": [tensor("x", "FP32", [1, 1], [0])]}, version=version)
        assert answer.data("output") == [int(version)]


def test_p08_infer_with_and_without_version(server: Server) -> None:
    """Both paths compute."""
    assert server.infer("sum", SUM).data("sum") == [3.0] * 16
    assert server.infer("sum", SUM, version="1").data("difference") == [-1.0] * 16


def test_p09_wrong_verb_405_unknown_path_404(server: Server) -> None:
    """The verb is blamed where the path exists, the path where it does not."""
    for method, path in (
        ("GET", "/v2/models/sum/infer"),
        ("POST", "/v2"),
        ("DELETE", "/v2/models/sum"),
        ("PUT", "/v2/health/live"),
    ):
        answer = server.request(method, path)
        assert answer.status == 405, path
        assert "Method Not Allowed" in answer.error
        assert answer.headers["allow"] in ("GET", "POST")
    for path in ("/v3", "/v2/models/sum/infer/more", "/v2/nothing"):
        assert server.get(path).status == 404, path


def test_p10_every_error_has_an_error_text(server: Server, narrow: Server) -> None:
    """Whatever the status, the body is JSON with ``error``; never HTML, ``detail`` or nothing."""
    answers = [
        server.get("/nothing"),
        server.request("PUT", "/v2"),
        server.infer("sum", b"{"),
        server.infer("nobody", SUM),
        server.infer("sum", SUM, {"Content-Encoding": "br"}),
        server.get("/v2", {"Host": "evil.example"}),
        narrow.infer("absent", SUM),
        narrow.infer("sum", b" " * 70_000),
    ]
    assert [answer.status for answer in answers] == [404, 405, 400, 404, 501, 421, 503, 413]
    for answer in answers:
        assert answer.headers["content-type"] == "application/json"
        assert answer.error


def test_p11_success_is_200(server: Server) -> None:
    """Clients take nothing else for success."""
    assert server.infer("sum", SUM).status == 200


@pytest.mark.parametrize("kind", [None, "application/json", "application/octet-stream", "text/plain; charset=utf-8"])
def test_p12_content_type_does_not_matter(server: Server, kind: str | None) -> None:
    """The common client sends none, and others send what they like: the body says what it is."""
    assert server.infer("sum", SUM, {"Content-Type": kind} if kind else {}).status == 200


def test_p13_post_without_a_body(server: Server) -> None:
    """``Content-Length: 0`` and a POST without one end where the head ends; the connection stays in step."""
    client = server.client()
    for headers in ({"Content-Length": "0"}, {}):
        client.putrequest("POST", "/v2/models/sum/infer")
        for name, value in headers.items():
            client.putheader(name, value)
        client.endheaders()
        answer = answer_of(client.getresponse())
        assert answer.status == 400
        assert "failed to parse the request JSON buffer" in answer.error
    client.request("GET", "/v2/health/live")
    assert client.getresponse().status == 200
    client.close()


def test_p14_names_are_percent_decoded(server: Server) -> None:
    """``%74wo`` is ``two``; an encoded slash does not split a segment; broken escapes and UTF-8 are nobody's name."""
    assert server.get("/v2/models/%74wo").json["name"] == "two"
    assert server.get("/v2/models/a%2Fb").status == 404
    assert server.get("/v2/models/%ff").status == 400
    assert server.get("/v2/models/%zz").status == 404
    assert server.get("/v2/models/caf%C3%A9").status == 404


def test_p15_versions_in_the_path(server: Server) -> None:
    """What is neither a served number nor an alias is 404. Aliases are allowed, unlike in Triton: a label pins as well."""
    x = {"inputs": [tensor("x", "FP32", [1, 1], [0])]}
    for version in ("1.0.0", "x", "-1", "01", "1%20", "99999999999999999999"):
        answer = server.infer("two", x, version=version)
        assert answer.status == 404, version
        assert "is not found" in answer.error
    assert server.infer("two", x, version="before").data("output") == [1]


def test_p16_without_version_the_split_decides_and_the_answer_says(server: Server) -> None:
    """``model_version`` tells which one answered. The split decides, not the highest number: that is how a rollout works."""
    answer = server.infer("two", {"inputs": [tensor("x", "FP32", [1, 1], [0])]})
    assert answer.json["model_version"] == "2"
    assert answer.data("output") == [2]


def test_p17_keep_alive_and_chunked_bodies(server: Server) -> None:
    """One connection carries many requests, and a chunked body counts as its bytes."""
    client: HTTPConnection = server.client()
    for size in (1, 7, len(SUM_BYTES)):
        pieces = [SUM_BYTES[at : at + size] for at in range(0, len(SUM_BYTES), size)]
        client.request("POST", "/v2/models/sum/infer", iter(pieces), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
        first = client.sock
        assert answer_of(client.getresponse()).data("sum") == [3.0] * 16
        assert client.sock is first
    client.close()


def test_p17_ipv6(narrow: Server) -> None:
    """A listener on ``::1`` serves, and ``[::1]:port`` is a Host it knows."""
    assert narrow.infer("sum", SUM).data("sum") == [3.0] * 16


@pytest.mark.parametrize(
    "header", ["inference-header-content-length", "INFERENCE-HEADER-CONTENT-LENGTH", "Inference-Header-Content-Length"]
)
def test_p18_header_names_ignore_case(server: Server, header: str) -> None:
    """In whatever case a header comes, it counts."""
    body = json.dumps(
        {"inputs": [tensor("x", "UINT8", [1, 2], binary_data_size=2)], "parameters": {"binary_data_output": True}}
    ).encode()
    answer = server.request("POST", "/v2/models/ragged/infer", body + b"\x01\x02", {header: str(len(body))})
    assert answer.status == 200
    assert answer.blobs == b"\x02\x01"
