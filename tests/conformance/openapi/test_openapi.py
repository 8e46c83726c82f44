"""`/openapi.json`: OpenAPI 3.1 of what is deployed. Whether its promises hold is asked by schemathesis, in tests/clients."""

from __future__ import annotations

from typing import Any

import pytest
from deployments import ABSENT, DIALECTS
from serving import Server


@pytest.fixture
def document(dialects: Server) -> Any:
    """What the server says of itself while it has no default deployment."""
    dialects.make_default(None)
    answer = dialects.get("/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return answer.json


def row(document: Any, name: str, kind: str = "Row") -> Any:
    """The schema of a deployment's row."""
    return document["components"]["schemas"][f"{name}.{kind}"]


def test_it_says_what_it_is(document: Any) -> None:
    """The version of OpenAPI, the server below which the paths lie, and that a key may be wanted, in either header."""
    assert document["openapi"] == "3.1.0"
    assert document["servers"] == [{"url": "/"}]
    assert document["security"] == [{}, {"bearer": []}, {"apiKey": []}]
    schemes = document["components"]["securitySchemes"]
    assert (schemes["bearer"]["scheme"], schemes["apiKey"]["name"]) == ("bearer", "x-api-key")


def test_every_deployment_is_in_it(document: Any) -> None:
    """Rows, tensors, metadata, and the paths of its own dialect, also of one without a replica."""
    for served in (*DIALECTS, *ABSENT):
        for path in (f"/predict/{served.name}", f"/v2/models/{served.name}/infer", f"/v1/models/{served.name}:predict"):
            assert served.name in document["paths"][path]["post"]["tags"]
        assert f"/v2/models/{served.name}" in document["paths"]
    assert "TensorFlow Serving" in document["paths"]["/v1/models/plain:predict"]["post"]["summary"]
    assert "KServe" in document["paths"]["/v1/models/people:predict"]["post"]["summary"]
    assert "Truss" in document["paths"]["/v1/models/mixed:predict"]["post"]["summary"]


def test_types_are_those_of_the_signature(document: Any) -> None:
    """Names, which of them are required, element types with their range, and sizes; what is not named is not taken."""
    people = row(document, "people")
    assert people["required"] == ["age", "height", "name"]
    assert people["additionalProperties"] is False
    assert people["properties"]["age"] == {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
    assert people["properties"]["vip"] == {"type": "boolean"}
    x = row(document, "flower")["properties"]["x"]
    assert (x["minItems"], x["maxItems"], x["items"]["exclusiveMaximum"]) == (4, 4, 3.4028235677973366e38)
    matrix = row(document, "whole")["properties"]["matrix"]
    assert (matrix["minItems"], "minItems" in matrix["items"]) == (2, False)
    assert row(document, "blob")["properties"]["data"]["contentEncoding"] == "base64"
    assert row(document, "people", "Answer")["required"] == ["score", "label"]
    assert row(document, "flower", "Prediction") == {"type": "number"}


def test_a_list_of_one_may_be_bare(document: Any) -> None:
    """As `/predict` takes it."""
    assert row(document, "asked")["properties"]["x"]["anyOf"][0]["type"] == "number"


def test_any_json_is_any_json(document: Any) -> None:
    """A model that takes one JSON value has no type to be described."""
    operation = document["paths"]["/v1/models/anything:predict"]["post"]
    assert "type" not in operation["requestBody"]["content"]["application/json"]["schema"]
    assert operation["responses"]["200"]["content"]["application/json"]["schema"] == {}


@pytest.mark.parametrize("path", ["/predict/people", "/v2/models/people/infer", "/v1/models/people:predict", "/invocations"])
def test_errors_are_described(document: Any, path: str) -> None:
    """What may go wrong, by status, with the form of its text."""
    responses = document["paths"][path]["post"]["responses"]
    assert {"200", "400", "401", "404", "413", "429", "500", "503", "504"} <= responses.keys()
    assert document["components"]["responses"]["Problem400"]["content"]["application/json"]["schema"]["$ref"].endswith("Problem")


def test_the_default_deployment(dialects: Server, document: Any) -> None:
    """`/invocations` has the types of the default deployment, where there is one."""
    assert "example" not in document["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]
    dialects.make_default("people")
    operation = dialects.get("/openapi.json").json["paths"]["/invocations"]["post"]
    assert operation["requestBody"]["content"]["application/json"]["example"]["inputs"]["age"] == [1]
    predictions = operation["responses"]["200"]["content"]["application/json"]["schema"]["properties"]["predictions"]
    assert predictions["items"]["$ref"] == "#/components/schemas/people.Prediction"


def test_the_page_for_people_links_to_it(dialects: Server) -> None:
    """`/docs` leads there."""
    assert b"href=/openapi.json" in dialects.get("/docs").body
