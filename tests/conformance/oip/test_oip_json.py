"""Points 19 to 47 of the Open Inference Protocol checklist: requests and answers in JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from serving import Server, tensor

ONES, TWOS = [1.0] * 16, [2.0] * 16


def two(a: Any = None, b: Any = None, **more: Any) -> dict[str, Any]:
    """Return a request to the model ``sum``."""
    inputs = [tensor("a", "FP32", [1, 16], ONES) if a is None else a, tensor("b", "FP32", [1, 16], TWOS) if b is None else b]
    return {"inputs": inputs, **more}


def refused(server: Server, model: str, body: Any, *texts: str, status: int = 400, **options: Any) -> str:
    """Assert that a request is refused with all of ``texts`` in the error, and return the error."""
    answer = server.infer(model, body, **options)
    assert answer.status == status, answer.body[:300]
    for text in texts:
        assert text in answer.error, answer.error
    return answer.error


# ---- requests


def test_p19_extra_keys_are_tolerated(server: Server) -> None:
    """Some clients repeat the model's name in the body, and more."""
    answer = server.infer("sum", two(model_name="sum", model_version="1", unknown=[1, {"a": None}]))
    assert answer.data("sum") == [3.0] * 16


@pytest.mark.parametrize("key", ["name", "shape", "datatype", "data"])
def test_p20_missing_keys_of_an_input(server: Server, key: str) -> None:
    """The key that is missing is named."""
    broken = tensor("a", "FP32", [1, 16], ONES)
    del broken[key]
    refused(server, "sum", two(broken), "'data'" if key == "data" else f"inputs[0].{key}")


def test_p20_missing_inputs(server: Server) -> None:
    """A body without ``inputs``, or one that is no object."""
    refused(server, "sum", {"id": "7"}, "Unable to parse 'inputs': it is missing")
    refused(server, "sum", [], "Unable to parse")
    refused(server, "sum", {"inputs": {}}, "Unable to parse 'inputs'")


def test_p21_nested_and_flat_data_are_the_same_tensor(server: Server) -> None:
    """Row-major flat, nested as the shape says: both give the same bytes."""
    flat, nested = list(range(12)), [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    answers = [server.infer("plane", {"inputs": [tensor("x", "FP32", [2, 2, 3], data)]}) for data in (flat, nested)]
    assert [answer.data("output") for answer in answers] == [[float(value) for value in flat]] * 2


def test_p21_nesting_must_be_that_of_the_shape(server: Server) -> None:
    """Ragged lists, or lists of another shape with the same count, are refused."""
    for data in ([[1, 2, 3], [4, 5]], [[1, 2], [3, 4], [5, 6]], [[1, 2, 3], 4, 5, 6], [[[1], [2], [3]], [[4], [5], [6]]]):
        refused(server, "plane", {"inputs": [tensor("x", "FP32", [1, 2, 3], [data])]}, "input 'x'")


def test_p22_the_shape_includes_the_batch(server: Server) -> None:
    """A row without its batch axis is refused, and says what is expected."""
    refused(server, "sum", two(tensor("a", "FP32", [16], ONES)), "Expected [-1,16], got [16]", "the first dimension is the batch")


VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "UINT8": [0, 255],
    "UINT16": [0, 65535],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1],
    "INT8": [-128, 127],
    "INT16": [-(2**15), 2**15 - 1],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "FP16": [-65504.0, 0.5],
    "FP32": [-1.5, 3.4028234663852886e38],
    "FP64": [5e-324, 1.7976931348623157e308],
    "BYTES": ["", 'h\u00e9 \u4e16 \U0001f600 \u0000 " \\'],
    "BF16": [1.0, -2.5],
}


@pytest.mark.parametrize("datatype", VALUES)
def test_p23_every_datatype(server: Server, datatype: str) -> None:
    """The extremes of each go in and come back exactly."""
    name = datatype.lower()
    answer = server.infer(
        "types", {"inputs": [tensor(name, datatype, [1, 2], VALUES[datatype])], "outputs": [{"name": f"same_{name}"}]}
    )
    assert answer.status == 200, answer.body
    (output,) = answer.json["outputs"]
    assert output == {"name": f"same_{name}", "datatype": datatype, "shape": [1, 2], "data": VALUES[datatype]}


def test_p23_unknown_datatype(server: Server) -> None:
    """It is named, with the input and what is expected."""
    refused(server, "sum", two(tensor("a", "FLOAT", [1, 16], ONES)), "invalid datatype for input 'a'", "'FLOAT'", "FP32")


def test_p24_half_floats_as_json_are_taken(server: Server) -> None:
    """FP16 and BF16 as JSON numbers are rounded to nearest. Triton refuses them; the specification lets a server coerce."""
    answer = server.infer(
        "types", {"inputs": [tensor("fp16", "FP16", [1, 2], [0.1, 1]), tensor("bf16", "BF16", [1, 2], [0.1, 3.0])]}
    )
    assert answer.data("same_fp16") == [0.0999755859375, 1.0]
    assert answer.data("same_bf16") == [0.10009765625, 3.0]


@pytest.mark.parametrize(
    ("datatype", "value"), [("FP16", 65520), ("FP16", 1e9), ("BF16", 3.4e38), ("FP16", 10**30), ("BF16", 10**60)]
)
def test_p24_half_floats_out_of_range(server: Server, datatype: str, value: float) -> None:
    """A finite number that would become infinite is refused."""
    refused(server, "types", {"inputs": [tensor(datatype.lower(), datatype, [1, 2], [0, value])]}, datatype.lower(), "out of range")


def test_p25_bytes_are_utf8_strings(server: Server) -> None:
    r"""Escaped and bare non-ASCII are the same bytes; pairs of surrogates make one character."""
    for text in (b'"\\u00e9\\ud83d\\ude00"', '"\u00e9\U0001f600"'.encode()):
        body = b'{"inputs":[{"name":"bytes","datatype":"BYTES","shape":[1,2],"data":["x",%b]}]}' % text
        assert server.infer("types", body).data("same_bytes") == ["x", "\u00e9\U0001f600"]


def test_p26_bool_is_true_and_false_only(server: Server) -> None:
    """0 and 1 are refused: a number where a truth value is due is a mistake more often than a spelling."""
    refused(
        server, "types", {"inputs": [tensor("bool", "BOOL", [1, 2], [0, 1])]}, "input 'bool'", "element 0 is 0", "true or false"
    )


OUT_OF_RANGE = [
    ("UINT8", 300), ("UINT8", -1), ("UINT16", 65536), ("UINT32", 2**32), ("UINT64", 2**64), ("UINT64", -1), ("INT8", 128), ("INT8", -129),
    ("INT16", 2**15), ("INT32", 2**31), ("INT32", -(2**31) - 1), ("INT64", 2**63), ("INT64", -(2**63) - 1), ("INT64", 10**40),
]  # fmt: skip


@pytest.mark.parametrize(("datatype", "value"), OUT_OF_RANGE)
def test_p27_integers_out_of_range_are_refused(server: Server, datatype: str, value: int) -> None:
    """Triton keeps the low bits (300 becomes 44); here the element is named."""
    refused(
        server,
        "types",
        {"inputs": [tensor(datatype.lower(), datatype, [1, 2], [0, value])]},
        f"input '{datatype.lower()}'",
        f"element 1 is {value}"[:60],
        datatype,
    )


@pytest.mark.parametrize("value", ["300", "-1", "1.5", "1.0", "1e2", "true", '"1"', "null", "[1]"])
def test_p27_integers_are_integers(server: Server, value: str) -> None:
    """Where integers are due nothing else is taken, by the typed parser (one kind of input) and by the general one alike."""
    body = '{"inputs":[{"name":"NAME","datatype":"UINT8","shape":[1,2],"data":[0,VALUE]}]}'
    for model, name in (("ragged", "x"), ("types", "uint8")):
        refused(server, model, body.replace("NAME", name).replace("VALUE", value).encode(), f"'{name}'")


def test_p27_integers_are_exact(server: Server) -> None:
    """64-bit integers never pass through a float."""
    values = [9007199254740993, -9007199254740993]
    assert server.infer("types", {"inputs": [tensor("int64", "INT64", [1, 2], values)]}).data("same_int64") == values


def test_p28_nan_and_infinity(server: Server) -> None:
    """The bare tokens that clients send are taken, and sent back as such; a string called null stays one."""
    body = b'{"inputs":[{"name":"fp32","datatype":"FP32","shape":[2,2],"data":[NaN,Infinity,-Infinity,1.5]}]}'
    data = server.infer("types", body).data("same_fp32")
    assert math.isnan(data[0])
    assert data[1:] == [math.inf, -math.inf, 1.5]
    answer = server.infer("special", {"inputs": [tensor("x", "FP32", [1, 1], [0])]})
    for token in (b"NaN", b"Infinity", b"-Infinity"):
        assert answer.body.count(token) >= 2
    assert answer.data("word") == ["null"]


@pytest.mark.parametrize("data", [[1.0] * 15, [1.0] * 17, [], [[1.0] * 15], [1.0]])
def test_p29_count_must_match_shape(server: Server, data: Any) -> None:
    """Refused with 400 (Triton: 500), and both numbers are said."""
    refused(server, "sum", two(tensor("a", "FP32", [1, 16], data)), "input 'a'", "shape")


def test_p30_zero_elements(server: Server) -> None:
    """Rows without elements, and no rows at all, are legal and answered."""
    answer = server.infer("ragged", {"inputs": [tensor("x", "UINT8", [2, 0], [])]})
    assert answer.json["outputs"][0]["shape"] == [2, 0]
    assert answer.data("output") == []
    answer = server.infer("sum", two(tensor("a", "FP32", [0, 16], []), tensor("b", "FP32", [0, 16], [])))
    assert answer.status == 200, answer.body
    assert [output["shape"] for output in answer.json["outputs"]] == [[0, 16], [0, 16]]
    assert answer.data("sum") == []


def test_p31_bad_dimensions(server: Server) -> None:
    """Negative ones, and products that no machine can hold."""
    for shape in ([-1, 16], [1, -16]):
        error = refused(server, "sum", two(tensor("a", "FP32", shape, ONES)), "'a'")
        assert "invalid" in error or "unexpected shape" in error
    for shape in ([1, 2**62, 4], [1, 2**63, 0], [1, 0, 10**30], [2**62, 1, 2], [10**30, 1, 1], [10**30, 0, 0]):
        refused(server, "plane", {"inputs": [tensor("x", "FP32", shape, [])]}, "'x'")


def test_p31_rows_without_bytes_are_not_endless(server: Server) -> None:
    """A billion rows of no elements cost nothing to send, so their number is limited by the batches they would make."""
    for shape in ([10**9, 0, 0], [2**31, 1, 0]):
        refused(server, "plane", {"inputs": [tensor("x", "FP32", shape, [])]}, "batch-size must be <= 1048576", f"got {shape[0]}")


def test_p32_exactly_one_source_of_data(server: Server) -> None:
    """``data`` or ``binary_data_size``: none and both are refused in the words of the reference."""
    refused(
        server,
        "sum",
        two(tensor("a", "FP32", [1, 16])),
        "'a'",
        "Input must set only one of the following fields",
        "But no field is set",
    )
    both = tensor("a", "FP32", [1, 16], ONES, binary_data_size=64)
    refused(server, "sum", two(both), "Input must set only one of", "But set 'data' 'binary_data_size'")


def test_p32_shared_memory_is_off(server: Server) -> None:
    """Client shared memory is refused as something not offered."""
    refused(server, "sum", two(tensor("a", "FP32", [1, 16], shared_memory_region="r")), "shared memory is disabled", status=501)


def test_p33_unknown_model_and_version(server: Server, narrow: Server) -> None:
    """404 for what does not exist, 503 for what exists and does not answer."""
    refused(server, "nobody", two(), "Request for unknown model: 'nobody' is not found", status=404)
    refused(server, "sum", two(), "Request for unknown model: 'sum' version 9 is not found", status=404, version="9")
    refused(narrow, "absent", two(), "is not at ready state", status=503)


def test_p34_missing_and_unexpected_inputs(server: Server) -> None:
    """Both are named, with what the model takes."""
    one = {"inputs": [tensor("a", "FP32", [1, 16], ONES)]}
    refused(server, "sum", one, "expected 2 inputs but got 1 inputs for model 'sum'", "missing required input(s) ['b']")
    refused(server, "sum", {"inputs": []}, "expected 2 inputs but got 0 inputs")
    refused(server, "types", {"inputs": []}, "input")
    extra = two()
    extra["inputs"].append(tensor("x", "FP32", [1, 16], ONES))
    refused(server, "sum", extra, "unexpected inference input 'x' for model 'sum'", "['a', 'b']")


def test_p34_optional_inputs_may_be_left_out(server: Server) -> None:
    """What is left out reaches the model as absent; the rest keeps its place."""
    answer = server.infer("types", {"inputs": [tensor("int8", "INT8", [1, 2], [1, 2]), tensor("fp64", "FP64", [1, 2], [3, 4])]})
    assert answer.data("same_int8") == [1, 2]
    assert answer.data("same_fp64") == [3.0, 4.0]
    assert answer.data("same_bytes") == ["", ""]


def test_p35_wrong_datatype(server: Server) -> None:
    """The input, what came and what is expected."""
    refused(
        server,
        "sum",
        two(tensor("a", "INT32", [1, 16], [1] * 16)),
        "inference input 'a' data-type is 'INT32', but model 'sum' expects 'FP32'",
    )


def test_p36_wrong_shape(server: Server) -> None:
    """The input, what came and what is expected; also where inputs disagree about the number of rows."""
    refused(
        server,
        "sum",
        two(tensor("a", "FP32", [1, 17], [1.0] * 17)),
        "unexpected shape for input 'a' for model 'sum'. Expected [-1,16], got [1,17]",
    )
    refused(server, "sum", two(tensor("a", "FP32", [], 1.0)), "unexpected shape for input 'a'")
    refused(
        server, "sum", two(tensor("a", "FP32", [2, 16], ONES * 2)), "input 'b' batch size does not match other inputs for 'sum'"
    )


def test_p36_more_rows_than_a_batch_where_splitting_is_off(server: Server) -> None:
    """Version 1 of ``two`` refuses as Triton does; version 2 splits and joins."""
    body = {"inputs": [tensor("x", "FP32", [9, 1], [0.0] * 9)]}
    refused(server, "two", body, "inference request batch-size must be <= 8 for 'two'", version="1")
    assert server.infer("two", body, version="2").data("output") == [2] * 9


def test_p37_duplicates(server: Server) -> None:
    """An input or output may be named once."""
    refused(server, "sum", two(b=tensor("a", "FP32", [1, 16], ONES)), "input 'a' already exists in request")
    refused(server, "sum", two(outputs=[{"name": "sum"}, {"name": "sum"}]), "output 'sum' already exists in request")


def test_p38_unknown_output(server: Server) -> None:
    """It is named, with the outputs there are."""
    refused(
        server, "sum", two(outputs=[{"name": "product"}]), "unexpected inference output 'product' for model 'sum'", "difference"
    )


def test_p39_outputs_as_asked_for_in_that_order(server: Server) -> None:
    """Left out or empty: all of them. Given: those, in the order of the request."""

    def names(body: dict[str, Any]) -> list[str]:
        return [output["name"] for output in server.infer("sum", body).json["outputs"]]

    assert names(two()) == ["sum", "difference"]
    assert names(two(outputs=[])) == ["sum", "difference"]
    assert names(two(outputs=[{"name": "difference"}, {"name": "sum"}])) == ["difference", "sum"]
    assert names(two(outputs=[{"name": "difference"}])) == ["difference"]


def test_p40_parameters_reach_the_model(server: Server) -> None:
    """Strings, numbers and truth values; what the protocol itself reads stays out."""
    body = {
        "inputs": [tensor("x", "FP32", [1, 1], [0])],
        "parameters": {
            "top": 3,
            "name": "a",
            "exact": True,
            "scale": 0.5,
            "priority": 1,
            "timeout": 10_000_000,
            "binary_data_output": False,
        },
    }
    assert server.infer("asked", body).data("output") == ["exact=True,name='a',scale=0.5,top=3"]


@pytest.mark.parametrize("value", [None, {}, [], [1], {"a": 1}])
def test_p40_nested_parameters_are_refused(server: Server, value: Any) -> None:
    """The key is named."""
    refused(server, "sum", two(parameters={"deep": value}), "parameter 'deep'", "string, number or boolean")


def test_p41_reserved_parameters(server: Server) -> None:
    """``triton_`` keys are refused as the reference does; a model without state has no sequences, and it is said."""
    refused(server, "sum", two(parameters={"triton_x": 1}), "parameter keys starting with 'triton_' are reserved")
    refused(server, "sum", two(parameters={"sequence_id": 7}), "'sequence_id'", status=501)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nonsense", b'{"inputs":[}', b'{"inputs":[]} more', b'\xff{"inputs":[]}', b'{"inputs":"\xff"}']
)
def test_p42_malformed_json(server: Server, body: bytes) -> None:
    """Refused with the reason and the place."""
    refused(server, "sum", body, "failed to parse the request JSON buffer" if body != b'{"inputs":"\xff"}' else "")


def nested(depth: int, open_: str = "[", close: str = "]") -> str:
    """Return JSON with ``depth`` brackets around a 1, in a key that is read as data."""
    times = depth - 4  # the object, its inputs, the input: and one more list around
    start = '{"inputs":[{"name":"a","datatype":"FP32","shape":[1,16],"data":['
    return f"{start}{open_ * times}1{close * times}]}}]}}"


@pytest.mark.parametrize("depth", [99, 100])
def test_p42_depth_up_to_the_limit_is_a_matter_of_shape(server: Server, depth: int) -> None:
    """JSON of 100 levels is read, and refused for what it says."""
    error = refused(server, "sum", nested(depth).encode())
    assert "nested deeper" not in error


@pytest.mark.parametrize("depth", [101, 1000, 100_000])
@pytest.mark.parametrize("pair", ["[]", '{"a":}'])
def test_p42_depth_beyond_the_limit(server: Server, depth: int, pair: str) -> None:
    """Beyond 100 levels it is refused before it is parsed, whatever it is nested of."""
    open_, close = pair[:-1], pair[-1]
    refused(server, "sum", nested(depth, open_, close).encode(), "nested deeper than 100 levels")


def test_p42_depth_of_brackets_in_turn(server: Server) -> None:
    """Lists in objects in lists count each for one."""
    refused(server, "sum", nested(104, '[{"a":', "}]").encode(), "nested deeper than 100 levels")


def test_p42_body_over_the_limit(narrow: Server) -> None:
    """413, with the limit and the way out. Triton says 400; 413 is what HTTP has for it."""
    body = json.dumps(two()).encode()
    assert narrow.infer("sum", body.ljust(65536)).status == 200
    error = refused(narrow, "sum", body.ljust(65537), "exceeds the maximum allowed", "65536", status=413)
    assert "binary" in error


# ---- answers


def test_p43_the_form_of_an_answer(server: Server) -> None:
    """Exactly the keys of the specification, as ``application/json``."""
    answer = server.infer("sum", two(id="7"))
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {
        "model_name": "sum",
        "model_version": "1",
        "id": "7",
        "outputs": [
            {"name": "sum", "datatype": "FP32", "shape": [1, 16], "data": [3.0] * 16},
            {"name": "difference", "datatype": "FP32", "shape": [1, 16], "data": [-1.0] * 16},
        ],
    }


@pytest.mark.parametrize("text", ["7", "", 'h\u00e9 " \\ \n \U0001f600', "x" * 300])
def test_p44_id_is_echoed(server: Server, text: str) -> None:
    """Exactly, whatever characters it has; absent if it was not given."""
    assert server.infer("sum", two(id=text)).json["id"] == text
    assert "id" not in server.infer("sum", two()).json
    refused(server, "sum", two(id=7), "Unable to parse 'id'")


def test_p45_name_and_version_of_the_answer(server: Server) -> None:
    """The name of the URL and the version as a string."""
    answer = server.infer("two", {"inputs": [tensor("x", "FP32", [1, 1], [0])]}, version="before")
    assert (answer.json["model_name"], answer.json["model_version"]) == ("two", "1")


def test_p46_data_is_flat(server: Server) -> None:
    """Row-major and flat, with the shape beside it; a scalar is a list of one."""
    body = {"inputs": [tensor("x", "FP64", [], 4.5), tensor("matrix", "FP32", [2, 3], [[1, 2, 3], [4, 5, 6]])]}
    answer = server.infer("scalar", body)
    assert answer.json["outputs"] == [
        {"name": "double", "datatype": "FP64", "shape": [], "data": [9.0]},
        {"name": "turned", "datatype": "FP32", "shape": [3, 2], "data": [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]},
    ]


def test_p47_bytes_that_are_not_utf8_need_binary(server: Server) -> None:
    """JSON cannot carry them: the output is named and the way out is said; in binary form they come."""
    body: dict[str, Any] = {"inputs": [tensor("text", "BYTES", [1, 1], binary_data_size=6)]}
    blob = b"\x02\x00\x00\x00\xfe\xff"
    answer = server.infer("text", body, blobs=blob)
    assert answer.status == 400
    assert "output 'output'" in answer.error and "binary" in answer.error
    body["parameters"] = {"binary_data_output": True}
    assert server.infer("text", body, blobs=blob).blobs == b"\x02\x00\x00\x00\xff\xfe"
