"""Points 18 to 33 of the TensorFlow Serving checklist: the JSON of a predict request."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest
from tfserving_client import Client

ROW = [float(number) for number in range(16)]
BOTH = {"a": ROW, "b": ROW}
WORDS = {
    "bool": "bool", "uint8": "uint8", "uint16": "uint16", "uint32": "uint32", "uint64": "uint64", "int8": "int8", "int16": "int16",
    "int32": "int32", "int64": "int64", "fp16": "half", "fp32": "float", "fp64": "double", "bytes": "string", "bf16": "bfloat16",
}  # fmt: skip
"""Input of the model ``types`` -> TensorFlow's word for its datatype."""


def b64(data: bytes) -> dict[str, str]:
    """Return bytes as JSON carries them."""
    return {"b64": base64.b64encode(data).decode()}


def same(client: Client, name: str, pair: list[Any]) -> list[Any]:
    """Return what becomes of a pair of values on the way through the model ``types``."""
    found = client.ask("types", {"instances": [{name: pair}]})["predictions"][0]
    return list(found[f"same_{name}"])


def test_p18_rows_and_columns(client: Client) -> None:
    """``instances`` gives ``predictions``, ``inputs`` gives ``outputs``; what else the object holds does not matter."""
    assert client.ask("half", {"instances": [1.0, 2.0, 5.0], "x": 1}) == {"predictions": [2.5, 3.0, 4.5]}
    assert client.ask("half", {"inputs": [1.0, 2.0, 5.0], "id": [None]}) == {"outputs": [2.5, 3.0, 4.5]}


def test_p18_more_rows_than_a_batch_holds(client: Client) -> None:
    """They are computed in several batches and come back in order."""
    values = list(range(50))
    assert client.ask("half", {"instances": values}) == {"predictions": [value / 2 + 2 for value in values]}


def test_p19_one_of_both(client: Client) -> None:
    """Rows and columns in one request, or neither."""
    text = client.refused("half", {"instances": [1], "inputs": [1]})
    assert text.startswith('JSON Value: {"instances":[1],"inputs":[1]} Not formatted correctly expecting only one of ')
    assert text.endswith(" one of 'inputs' or 'instances' keys to exist ")
    assert client.refused("half", {"rows": [1]}) == "Missing 'inputs' or 'instances' key"


def test_p20_instances_are_a_list_with_something_in_it(client: Client) -> None:
    """Everything else is refused in these words, misspelt as they are."""
    for wrong in (1, {"x": 1}, "a", None):
        assert "Excepting 'instances' to be an list/array" in client.refused("half", {"instances": wrong})
    assert client.refused("half", {"instances": []}) == "JSON Value: {\"instances\":[]} No values in 'instances' array"


def test_p21_instances_of_one_input_and_of_several(client: Client) -> None:
    """One input: values, or objects with its name. Several: objects."""
    assert client.ask("half", {"instances": [{"x": 1}, {"x": 2}]}) == client.ask("half", {"instances": [1, 2]})
    found = client.ask("sum", {"instances": [BOTH, BOTH]})["predictions"]
    assert found == [{"sum": [2 * value for value in ROW], "difference": [0.0] * 16}] * 2
    for wrong in ([ROW], [1], [b64(b"x")]):
        assert client.refused("sum", {"instances": wrong}).startswith(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map"
        )


def test_p22_objects_and_values_do_not_mix(client: Client) -> None:
    """The first instance says which they all are."""
    assert client.refused("sum", {"instances": [BOTH, ROW]}) == "Expecting object but got list at item 1 of input list"
    assert client.refused("half", {"instances": [{"x": 1}, 2]}) == "Expecting object but got list at item 1 of input list"
    assert client.refused("half", {"instances": [1, {"x": 1}]}) == "Expecting value/list but got object at item 1 of input list"


def test_p23_every_row_has_the_inputs_of_the_signature(client: Client) -> None:
    """One too few or one unknown is refused, naming the row."""
    text = client.refused("sum", {"instances": [BOTH, {"a": ROW}]})
    assert text.startswith("Failed to process element: 1 of 'instances' list. JSON object: {\"a\":[0.0,1.0,")
    assert text.endswith("keys must be equal to: a,b")
    text = client.refused("sum", {"instances": [BOTH, {**BOTH, "x": 1}]})
    assert text.startswith(
        "Failed to process element: 1 key: x of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have named input: x"
    )


def test_p23_inputs_that_may_be_left_out(client: Client) -> None:
    """Beyond TensorFlow Serving: an input that is optional here may be missing, in all rows or in none."""
    found = client.ask("types", {"instances": [{"int32": [1, 2]}, {"int32": [3, 4]}]})["predictions"]
    assert [row["same_int32"] for row in found] == [[1, 2], [3, 4]]
    assert "keys must be equal to: int32" in client.refused("types", {"instances": [{"int32": [1, 2]}, {"fp32": [3, 4]}]})


def test_p24_rows_have_one_shape(client: Client) -> None:
    """Number of elements, then shape."""
    assert "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 2 but got: 3" in (
        client.refused("plane", {"instances": [[[1, 2]], [[1, 2, 3]]]})
    )
    assert "Expecting shape [1,2] but got: [2,1]" in client.refused("plane", {"instances": [[[1, 2]], [[1], [2]]]})
    text = client.refused("sum", {"instances": [BOTH, {"a": ROW, "b": ROW[:15]}]})
    assert text.endswith("element: 1 key: b of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 16 but got: 15")


def test_p24_the_shape_is_that_of_the_signature(client: Client) -> None:
    """Beyond TensorFlow Serving, which leaves it to the model to fail: a shape the signature does not allow is a 400."""
    assert "Expected [-1,16], got [1,15]" in client.refused("sum", {"instances": [{"a": ROW[:15], "b": ROW[:15]}]})
    assert "Expected [-1], got [1,1]" in client.refused("half", {"instances": [[1.0]]})


def test_p25_columns(client: Client) -> None:
    """One input may be bare; several are an object, whose other members are not looked at."""
    assert client.ask("half", {"inputs": {"x": [1, 2]}}) == {"outputs": [2.5, 3.0]}
    assert client.ask("text", {"inputs": [[b64(b"ab")]]}) == {"outputs": [["ba"]]}
    found = client.ask("sum", {"inputs": {"a": [ROW], "b": [ROW], "c": 1}})
    assert found == {"outputs": {"sum": [[2 * value for value in ROW]], "difference": [[0.0] * 16]}}
    for wrong in ([ROW], 1, "x", b64(b"x")):
        assert client.refused("sum", {"inputs": wrong}).startswith(
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map"
        )
    assert client.refused("sum", {"inputs": {"a": [ROW]}}) == "Missing named input: b in 'inputs' object."


def test_p25_models_without_a_batch_axis_are_asked_in_columns(client: Client) -> None:
    """A bare number is a scalar, and goes as it is."""
    found = client.ask("scalar", {"inputs": {"x": 4.5, "matrix": [[1, 2, 3], [4, 5, 6]]}})
    assert found == {"outputs": {"double": 9.0, "turned": [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]}}


def test_p26_ragged_lists(client: Client) -> None:
    """The first element at every level says what the others must be."""
    cases = {
        "Encountered list at unexpected size: 2 at level: 1 expected size: 3": [[1, 2, 3], [1, 2]],
        "JSON Value: 3 found at incorrect level: 2 in the JSON DOM. Expected at level: 2": [[1, 2], 3],
        "Encountered list at unexpected level: 1 expected < 1": [1, [2]],
    }
    for text, value in cases.items():
        assert client.refused("plane", {"inputs": value}) == text
        assert text in client.refused("plane", {"instances": [value]})


@pytest.mark.parametrize("name", WORDS)
def test_p27_values_of_the_wrong_type(client: Client, name: str) -> None:
    """Every datatype takes its own kind of value, and the error names it in TensorFlow's word."""
    wrong: dict[str, Any] = {"String": "x", "True": True, "Number": 1, "Null": None, "Object": {"a": 1}}
    kind = {"bool": "True", "bytes": "String"}.get(name, "Number")
    for said, value in wrong.items():
        if said == kind:
            continue
        text = client.refused("types", {"inputs": {name: [[value, value]]}})
        if (said, name) == ("Object", "bytes"):
            assert text == 'JSON Value: {"a":1} not formatted correctly for base64 data'
        else:
            shown = json.dumps(value, separators=(",", ":"))
            assert text == f"JSON Value: {shown} Type: {said} is not of expected type: {WORDS[name]}"


@pytest.mark.parametrize("name", [name for name in WORDS if name.startswith(("int", "uint"))])
def test_p27_integers_are_integers(client: Client, name: str) -> None:
    """1.0 is none; the limits of the type hold.

    Deliberately stricter for INT8, INT16 and UINT8: TensorFlow Serving takes any 32-bit number there and cuts it off.
    """
    bits = int(name.lstrip("uint"))
    low, high = (0, (1 << bits) - 1) if name.startswith("u") else (-(1 << bits - 1), (1 << bits - 1) - 1)
    assert same(client, name, [low, high]) == [low, high]
    for wrong in (1.0, 1e3, low - 1, high + 1):
        text = client.refused("types", {"inputs": {name: [[1, wrong]]}})
        assert text.startswith("JSON Value: ") and text.endswith(f" Type: Number is not of expected type: {name}")


def test_p27_numbers_for_floats(client: Client) -> None:
    """Integers are taken; true and strings are not."""
    for name in ("fp32", "fp64"):
        assert same(client, name, [1, 2.5]) == [1.0, 2.5]
    assert same(client, "bool", [True, False]) == [True, False]


def test_p27_the_other_datatypes_are_taken_too(client: Client) -> None:
    """A deliberate difference: for half, bfloat16 and uint16 TensorFlow Serving answers 501, "Conversion of JSON Value"."""
    assert same(client, "fp16", [0.5, -2]) == [0.5, -2.0]
    assert same(client, "bf16", [0.5, -2]) == [0.5, -2.0]
    assert same(client, "uint16", [0, 65535]) == [0, 65535]


def test_p28_floats_beyond_their_range(client: Client) -> None:
    """What is lost in precision is not said; beyond the largest there is infinity, below the smallest there is 0."""
    assert same(client, "fp32", [1e39, -1e39]) == [math.inf, -math.inf]
    assert same(client, "fp32", [1e-60, 10**300]) == [0.0, math.inf]
    assert same(client, "fp32", [16777217, 0.1]) == [16777216.0, 0.1]
    assert same(client, "fp64", [-(10**400), 5e-324]) == [-math.inf, 5e-324]
    assert same(client, "fp16", [70000, 1]) == [math.inf, 1.0]


def test_p28_numbers_that_no_double_holds(client: Client) -> None:
    """1e400 is refused by the parser, as there."""
    assert client.refused("half", '{"instances": [1e400]}').startswith("JSON Parse error: ")


def test_p29_not_a_number(client: Client) -> None:
    """NaN, Infinity and -Infinity come and go as bare tokens; null is no number."""
    found = client.ask("types", '{"instances": [{"fp32": [NaN, Infinity]}, {"fp32": [-Infinity, 1]}]}')["predictions"]
    first, second = (row["same_fp32"] for row in found)
    assert math.isnan(first[0]) and first[1] == math.inf and second == [-math.inf, 1.0]
    answer = client.post("special", {"instances": [[1.0]]})
    assert b'"wide":[NaN,Infinity,-Infinity]' in answer.body.replace(b" ", b"")
    assert client.refused("half", {"inputs": [None]}) == "JSON Value: null Type: Null is not of expected type: float"


def test_p30_base64(client: Client) -> None:
    """``{"b64": ...}``, alone in its object, is bytes; with or without padding, with spaces in it."""
    assert client.ask("text", {"instances": [[b64(b"abc")], ["de"]]}) == {"predictions": [["cba"], ["ed"]]}
    assert client.ask("text", {"instances": [[{"b64": "YWI"}], [{"b64": "Y W\nI="}]]}) == {"predictions": [["ba"], ["ba"]]}
    assert client.ask("pictures", {"instances": [b64(b"\x01")]})["predictions"][0]["image_bytes"] == b64(b"\x01")
    assert "Unable to base64 decode" in client.refused("text", {"instances": [[{"b64": "Y*=="}]]})
    for wrong in ({"b64": "YQ==", "x": 1}, {"b64": 1}, {}):
        assert "not formatted correctly for base64 data" in client.refused("text", {"inputs": [[wrong]]})
    text = client.refused("half", {"inputs": [b64(b"a")]})
    assert text == 'JSON Value: {"b64":"YQ=="} Type: Object is not of expected type: float'


def test_p31_signature_names(client: Client) -> None:
    """All but SavedModels have one signature, ``serving_default``; its name may be left out, and no other will do."""
    for name in ("serving_default", ""):
        assert client.ask("half", {"signature_name": name, "instances": [1.0]}) == {"predictions": [2.5]}
    text = client.refused("half", {"signature_name": "other", "instances": [1.0]})
    assert text.startswith('Serving signature name: "other" not found in signature def')
    text = client.refused("half", {"signature_name": 5, "instances": [1]})
    assert text == (
        'JSON Value: {"signature_name":5,"instances":[1]} not formatted correctly. \'signature_name\' key must be a string value.'
    )


@pytest.mark.parametrize("verb", ["predict", "classify", "regress"])
def test_p32_bodies_that_are_no_object(client: Client, verb: str) -> None:
    """Nothing, no JSON, and JSON of another kind; values are shown up to 256 characters."""
    assert client.refused("half", b"", verb) == "JSON Parse error: The document is empty"
    assert client.refused("half", "instances = [1, 2]", verb) == "JSON Parse error: Invalid value. at offset: 0"
    assert client.refused("half", '{"instances": [1, }', verb) == "JSON Parse error: Invalid value. at offset: 18"
    assert client.refused("half", b'{"instances": ["\xff"]}', verb).startswith("JSON Parse error: ")
    assert client.refused("half", [1], verb) == "JSON Value: [1] Is not object"
    text = client.refused("half", [["y" * 10] * 100_000], verb)
    assert len(text) == len("JSON Value: ") + 256 + len(" Is not object")


def test_p33_bodies_are_bounded(client: Client) -> None:
    """A deliberate difference: there is a limit (4 MiB of JSON by default), and a limit to nesting."""
    assert client.post("half", b'{"instances": [' + b"1," * (2 << 20) + b"1]}").status == 413
    assert "deeper than 100" in client.refused("half", '{"instances": ' + "[" * 200 + "]" * 200 + "}")
    assert client.ask("half", '{"instances": [1.0]}') == {"predictions": [2.5]}
