"""Points 40 to 43 of the TensorFlow Serving checklist: classify and regress."""

from __future__ import annotations

import base64
import math
from typing import Any

import pytest
from tfserving_client import Client

from headgate.protocols.tfserving.messages import EXAMPLE

VERBS = {"classify": "classifier", "regress": "regressor"}


def features(client: Client, body: Any) -> list[dict[str, tuple[str, list[Any]]]]:
    """Return the features of every example that the model got: by name, their kind and values."""
    found = []
    for classes in client.ask("classifier", body, "classify")["results"]:
        example = EXAMPLE.FromString(base64.b64decode(classes[0][0]))
        kinds = {name: feature.WhichOneof("kind") or "" for name, feature in example.features.feature.items()}
        found.append(
            {
                name: (kind, list(getattr(example.features.feature[name], kind).value) if kind else [])
                for name, kind in kinds.items()
            }
        )
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_p40_examples(client: Client, verb: str) -> None:
    """They are a list with something in it, of objects; the texts speak of classify for both methods."""
    model = VERBS[verb]
    assert "When method is classify, key 'examples' is expected and was not found" in client.refused(
        model, {"instances": [1]}, verb
    )
    assert "Expecting 'examples' value to be an list/array" in client.refused(model, {"examples": {"x": 1}}, verb)
    assert "'examples' value is an empty array" in client.refused(model, {"examples": []}, verb)
    assert client.refused(model, {"examples": [1]}, verb) == "Example must be JSON object but got JSON Number"
    assert client.refused(model, {"examples": [{}], "context": []}, verb) == "Example must be JSON object but got JSON Array"


def test_p40_the_context_belongs_to_every_example(client: Client) -> None:
    """Its features are in each of them, beside their own."""
    found = features(client, {"context": {"c": [1]}, "examples": [{"x": 2.5}, {}]})
    assert found == [{"c": ("int64_list", [1]), "x": ("float_list", [2.5])}, {"c": ("int64_list", [1])}]


def test_p41_kinds_of_features(client: Client) -> None:
    """Integers and booleans, floats, strings and base64; a bare value is a list of one."""
    given = {
        "bool": True, "ints": [1, -(2**63), False], "float": 1.5, "floats": [0.5, math.inf], "text": ["a", "\u00e9"],
        "raw": {"b64": "/wA="}, "none": [],
    }  # fmt: skip
    body = {"examples": [given, {"huge": [1e39, 10**400]}]}
    assert features(client, body) == [
        {
            "bool": ("int64_list", [1]), "ints": ("int64_list", [1, -(2**63), 0]), "float": ("float_list", [1.5]),
            "floats": ("float_list", [0.5, math.inf]), "text": ("bytes_list", [b"a", "\u00e9".encode()]),
            "raw": ("bytes_list", [b"\xff\x00"]), "none": ("", []),
        },
        {"huge": ("float_list", [math.inf, math.inf])},
    ]  # fmt: skip


def test_p41_features_of_more_than_one_kind(client: Client) -> None:
    """The first element says which kind it is."""
    for first, other, kind in ((1, 0.5, "int64"), (0.5, 1, "float"), ("a", 1, "bytes"), (1, {"b64": ""}, "int64")):
        text = client.refused("classifier", {"examples": [{"x": [first, other]}]}, "classify")
        assert text == f"Unexpected element type in feature: x expecting type: {kind}"


@pytest.mark.parametrize(("value", "kind"), [(None, "Null"), ([[1]], "Array"), ([{"a": 1}], "Object"), ([None], "Null")])
def test_p41_what_is_no_feature(client: Client, value: Any, kind: str) -> None:
    """Null, lists in lists and objects."""
    text = client.refused("regressor", {"examples": [{"x": value}]}, "regress")
    assert text == f"Feature: x has element with unexpected JSON type: {kind}"


def test_p41_integers_beyond_64_bits(client: Client) -> None:
    """Above the largest int64 an integer is refused."""
    text = client.refused("classifier", {"examples": [{"x": 2**63}]}, "classify")
    assert text == "Feature: x has uint64_t element. Only int64_t is supported."


def test_p42_results(client: Client) -> None:
    """Pairs of label and score for each example, or one value; labels are empty where the model gives none."""
    found = client.ask("classifier", {"examples": [{}, {}]}, "classify")
    assert found == {"results": [[["", 0.0], ["twin", 0.2]]] * 2}
    assert client.ask("scores", {"examples": [{"x": 1}]}, "classify") == {"results": [[["", 0.5], ["", 0.5], ["", 0.5]]]}
    example = EXAMPLE()
    example.features.feature["x"].int64_list.value.append(1)
    length = len(example.SerializeToString())
    assert client.ask("regressor", {"examples": [{}, {"x": 1}]}, "regress") == {"results": [0.0, float(length)]}


def test_p42_more_examples_than_a_batch_holds(client: Client) -> None:
    """They are computed in several batches and come back in order."""
    found = client.ask("regressor", {"examples": [{"x" * number: 1} for number in range(1, 30)]}, "regress")["results"]
    assert len(found) == 29
    assert found == sorted(found) and found[0] < found[-1]


def test_p43_signatures_of_another_method(client: Client) -> None:
    """What a model's signature is not made for is refused; predict is there for all, and takes the examples serialized."""
    text = client.refused("half", {"examples": [{"x": 1}]}, "classify")
    assert text.startswith(
        "Expected classification signature method_name to be tensorflow/serving/classify. Was: tensorflow/serving/predict"
    )
    text = client.refused("classifier", {"examples": [{"x": 1}]}, "regress")
    assert text.startswith(
        "Expected regression signature method_name to be tensorflow/serving/regress. Was: tensorflow/serving/classify"
    )
    text = client.refused("classifier", {"signature_name": "x", "examples": [{"x": 1}]}, "classify")
    assert text.startswith("No signature was found with the name: x")
    assert client.ask("classifier", {"signature_name": "serving_default", "examples": [{}]}, "classify")["results"]
    assert client.ask("regressor", {"instances": [{"b64": "AAAA"}]}) == {"predictions": [3.0]}
