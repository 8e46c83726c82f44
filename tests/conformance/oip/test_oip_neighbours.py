"""What clients of servers beside Triton send, and what of Triton is meant to be refused: points 15, 77, 79, 80, X19 and X20."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from serving import Server, tensor

X = {"inputs": [tensor("x", "FP32", [1, 1], [0])]}


def test_p79_models_are_listed(server: Server) -> None:
    """``GET /v2/models`` names every deployment, as KServe's server does."""
    assert set(server.get("/v2/models").json["models"]) >= {"sum", "two", "types"}


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_p79_kserves_bodies_of_load_and_unload(server: Server, verb: str) -> None:
    """``{"name": m, "load": true}`` is understood, and refused for the one reason that loading is off."""
    body = json.dumps({"name": "two", verb: True}).encode()
    answer = server.request("POST", f"/v2/repository/models/two/{verb}", body)
    assert answer.status == 503
    assert answer.error.startswith("explicit model load / unload is not allowed")


def text(*data: str, **parameters: Any) -> dict[str, Any]:
    """Return a request to the model that turns strings round."""
    return {"inputs": [tensor("text", "BYTES", [len(data), 1], list(data), **parameters)]}


def test_p80_a_content_type_of_base64_is_bytes(server: Server) -> None:
    """MLServer's clients send bytes as JSON so; every other content type says how the model likes its tensor, which is its own affair."""
    sent = base64.b64encode(b"abc").decode()
    assert server.infer("text", text(sent, content_type="base64")).data("output") == ["cba"]
    binary = text(base64.b64encode(b"\xff\x00").decode(), content_type="base64") | {"parameters": {"binary_data_output": True}}
    assert server.infer("text", binary).body.endswith(b"\x02\x00\x00\x00\x00\xff")
    for kind in ("str", "np", "pd", "datetime", "hg_json"):
        assert server.infer("text", text("abc", content_type=kind)).data("output") == ["cba"]
    assert server.infer("text", text("abc")).data("output") == ["cba"]


@pytest.mark.parametrize("data", ["a", "ab=c", "ä", "====", "YWJj\nYWJj"])
def test_p80_what_is_no_base64_is_refused(server: Server, data: str) -> None:
    """The input is named."""
    answer = server.infer("text", text(data, content_type="base64"))
    assert answer.status == 400
    assert "input 'text'" in answer.error and "content_type is base64" in answer.error


def test_p80_numbers_have_no_base64(server: Server) -> None:
    """Their content type says nothing about their JSON."""
    body = {"inputs": [tensor("x", "FP32", [1, 1], [0], content_type="base64")]}
    assert server.infer("two", body).data("output") == [2]


def test_x19_headers_are_not_forwarded(server: Server) -> None:
    """A header becomes no parameter, whatever it is called: the model sees what its request says."""
    headers = {"x-top": "3", "triton-top": "3", "top": "3", "parameters": "3"}
    assert server.infer("asked", X, headers).data("output") == [""]
    assert server.infer("asked", X | {"parameters": {"top": 4}}, headers).data("output") == ["top=4"]


def test_x20_no_header_opens_or_closes_an_api(server: Server) -> None:
    """Triton's restricted APIs ask for a header of the owner's choice. Here keys have scopes; without any, such a header means nothing."""
    for path in ("/v2", "/v2/models/two", "/v2/models/two/config", "/v2/models/stats"):
        assert server.get(path).status == 200
        assert server.get(path, {"triton-http-protocol-key": "k", "admin-key": "k"}).status == 200
