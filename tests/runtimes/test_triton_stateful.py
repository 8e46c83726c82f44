"""Models of Triton repositories that keep state from request to request: what they are fed, and what is kept for them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from runtime_samples import python_of

from headgate.errors import HeadgateError, ModelFailed, UnsupportedModel
from headgate.package.folders.base import Asked
from headgate.package.folders.triton import TritonRepository
from headgate.runtimes.base import InvalidInput
from headgate.runtimes.triton import TritonRuntime
from headgate.runtimes.triton.sequences import KEPT
from headgate.serving.describe import describe as described

Unfold = Callable[..., Path]
IO = """
input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""
STATE = 'state { input_name: "IN" output_name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] }'
START = 'control_input { name: "START" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } }'
ADDING = f'backend: "onnxruntime" max_batch_size: 4 {IO} sequence_batching {{ {START} {STATE} }}'


@pytest.fixture(autouse=True)
def modules() -> Iterator[None]:
    """What a model adds to the path and the modules goes with the test."""
    before, known = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = before
    for name in set(sys.modules) - known:
        if name.startswith("headgate_triton_"):
            del sys.modules[name]


@pytest.fixture
def unfold(tmp_path: Path) -> Unfold:
    """``unfold(config, files)``: the package's files of model ``m``, as a replica has them; returns the entry."""

    def make(config: str, files: dict[str, str | bytes]) -> Path:
        (tmp_path / "m").mkdir()
        (tmp_path / "m" / "config.pbtxt").write_text(config)
        for name, content in files.items():
            path = tmp_path / "m" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        (model,) = TritonRepository.adapt(tmp_path / "m", Asked(""))
        for name, content in model.versions[0].files.items():
            path = tmp_path / "package" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        return tmp_path / "package" / model.versions[0].entry

    return make


def loaded(entry: Path) -> TritonRuntime:
    """The model, loaded here."""
    runtime = TritonRuntime()
    runtime.load(entry, attribute="", device="cpu", threads=1)
    return runtime


def look(entry: Path) -> dict[str, Any]:
    """What packaging finds out, its dry run included."""
    return described({"path": str(entry), "attribute": "", "runtime": "triton", "threads": 1})


def graph(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: tuple[Any, ...] = ()) -> bytes:
    """An ONNX model."""
    made = helper.make_graph(nodes, "g", inputs, outputs, list(constants))
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def floats(names: str, shape: list[Any]) -> list[Any]:
    """Declared tensors of FP32, by their names."""
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names.split()]


def adding(shape: tuple[Any, ...] = ("N", 1), *, more: float = 0.0) -> bytes:
    """OUT = Y = X where START is 1, else X + IN, and ``more`` each time."""
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    each = helper.make_tensor("more", TensorProto.FLOAT, [1], [more])
    nodes = [
        helper.make_node("Sub", ["one", "START"], ["goes_on"]),
        helper.make_node("Mul", ["IN", "goes_on"], ["before"]),
        helper.make_node("Add", ["X", "before"], ["sum"]),
        helper.make_node("Add", ["sum", "more"], ["OUT"]),
        helper.make_node("Identity", ["OUT"], ["Y"]),
    ]
    return graph(nodes, floats("X START IN", list(shape)), floats("Y OUT", list(shape)), (one, each))


def summing(shape: list[Any]) -> bytes:
    """OUT = Y = X + IN, whatever the sequence."""
    nodes = [helper.make_node("Add", ["X", "IN"], ["OUT"]), helper.make_node("Identity", ["OUT"], ["Y"])]
    return graph(nodes, floats("X IN", shape), floats("Y OUT", shape))


def say(runtime: TritonRuntime, key: Any, value: float, *, start: bool = False, end: bool = False) -> float:
    """Send one number of a sequence; return the answer."""
    told = {"sequence_id": key, "sequence_start": start, "sequence_end": end}
    found = runtime.predict({"X": np.float32([[value]])}, told)
    assert list(found) == ["Y"]
    return float(found["Y"].ravel()[0])


# ---- implicit state


def test_controls_and_state_are_nobodys_business(unfold: Unfold) -> None:
    """The signature has what clients send and get, and says that the model keeps state and is never run again."""
    found = look(unfold(ADDING, {"1/model.onnx": adding()}))
    assert found["signature"] == {
        "inputs": [{"name": "X", "dtype": "FP32", "shape": [-1, 1]}],
        "outputs": [{"name": "Y", "dtype": "FP32", "shape": [-1, 1]}],
        "batched": True,
        "parameters": True,
        "stateful": True,
    }
    assert found["idempotent"] is False and "warning" not in found


def test_state_goes_from_request_to_request(unfold: Unfold) -> None:
    """Each sequence has its own, under a number or a text, from START to END."""
    runtime = loaded(unfold(ADDING, {"1/model.onnx": adding()}))
    assert [say(runtime, 7, 1, start=True), say(runtime, "7", 10, start=True)] == [1, 10]
    assert [say(runtime, 7, 2), say(runtime, "7", 20), say(runtime, 7, 3, end=True)] == [3, 30, 6]
    assert say(runtime, 7, 5, start=True) == 5
    assert say(runtime, "7", 1, end=True) == 31


def test_start_begins_anew(unfold: Unfold) -> None:
    """A START in the midst of a sequence forgets what was, also where the model sees nothing of it."""
    config = f'backend: "onnxruntime" max_batch_size: 4 {IO} sequence_batching {{ {STATE} }}'
    runtime = loaded(unfold(config, {"1/model.onnx": summing(["N", 1])}))
    assert [say(runtime, 1, 5, start=True), say(runtime, 1, 6), say(runtime, 1, 2, start=True), say(runtime, 1, 1)] == [5, 11, 2, 3]


@pytest.mark.parametrize(
    ("initial", "expected"),
    [("zero_data: true", [1, 3]), ('data_file: "first"', [43, 45])],
)
def test_initial_state(unfold: Unfold, initial: str, expected: list[float]) -> None:
    """Zeros, or what is in a file; the next sequence starts with it again."""
    first = f'initial_state {{ name: "i" data_type: TYPE_FP32 dims: [ 1 ] {initial} }}'
    config = f'backend: "onnxruntime" max_batch_size: 4 {IO} sequence_batching {{ {STATE[:-1]} {first} }} }}'
    runtime = loaded(unfold(config, {"1/model.onnx": summing(["N", 1]), "initial_state/first": np.float32([42]).tobytes()}))
    for key in (1, 2):
        assert [say(runtime, key, 1, start=True), say(runtime, key, 2, end=True)] == expected


def test_an_initial_state_that_does_not_fit(unfold: Unfold) -> None:
    """Refused when it is packaged, by the name of the state."""
    first = 'initial_state { name: "i" data_type: TYPE_FP32 dims: [ 1 ] data_file: "first" }'
    config = f'backend: "onnxruntime" max_batch_size: 4 {IO} sequence_batching {{ {STATE[:-1]} {first} }} }}'
    entry = unfold(config, {"1/model.onnx": summing(["N", 1]), "initial_state/first": b"abc"})
    with pytest.raises(UnsupportedModel, match=r"^sequence_batching.state\['IN'\].initial_state: ValueError"):
        look(entry)


def test_state_that_grows(unfold: Unfold) -> None:
    """A size that varies may be another from request to request; it starts as 1."""
    config = """backend: "onnxruntime"
    input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ] output [ { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] } ]
    sequence_batching { state { input_name: "IN" output_name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] } }"""
    nodes = [helper.make_node("Concat", ["IN", "X"], ["OUT"], axis=0), helper.make_node("Identity", ["OUT"], ["Y"])]
    model = graph(nodes, [*floats("X", [1]), *floats("IN", ["n"])], floats("Y OUT", ["m"]))
    runtime = loaded(unfold(config, {"1/model.onnx": model}))
    answers = [
        runtime.predict({"X": np.float32([number])}, {"sequence_id": 1, "sequence_start": number == 1, "sequence_end": False})["Y"]
        for number in (1, 2, 3)
    ]
    assert [answer.tolist() for answer in answers] == [[0, 1], [0, 1, 2], [0, 1, 2, 3]]


def test_state_unlike_its_declaration(unfold: Unfold) -> None:
    """An error of the model, by the name of the state; what was kept before stays."""
    config = """backend: "onnxruntime"
    input [ { name: "X" data_type: TYPE_FP32 dims: [ -1 ] } ] output [ { name: "Y" data_type: TYPE_FP32 dims: [ -1 ] } ]
    sequence_batching { state { input_name: "IN" output_name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] } }"""
    runtime = loaded(unfold(config, {"1/model.onnx": summing(["n"])}))
    told = {"sequence_id": 1, "sequence_start": False, "sequence_end": False}
    runtime.predict({"X": np.float32([5])}, told | {"sequence_start": True})
    with pytest.raises(ModelFailed, match=r"the state 'OUT' with shape \[2\], not \[1\]"):
        runtime.predict({"X": np.float32([1, 2])}, told)
    assert runtime.predict({"X": np.float32([2])}, told)["Y"].tolist() == [7]


def test_without_a_batch_axis(unfold: Unfold) -> None:
    """With max_batch_size 0 a control is one number, and a state has its dims."""
    runtime = loaded(unfold(ADDING.replace("max_batch_size: 4", ""), {"1/model.onnx": adding((1,))}))
    told = {"sequence_id": 1, "sequence_end": False}
    assert runtime.predict({"X": np.float32([4])}, told | {"sequence_start": True})["Y"].tolist() == [4]
    assert runtime.predict({"X": np.float32([5])}, told | {"sequence_start": False})["Y"].tolist() == [9]


def test_state_that_is_an_output_too(unfold: Unfold) -> None:
    """Declared as output, the state is answered as well."""
    config = ADDING.replace("output [ {", 'output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 1 ] }, {')
    entry = unfold(config, {"1/model.onnx": adding()})
    assert [spec["name"] for spec in look(entry)["signature"]["outputs"]] == ["OUT", "Y"]
    told = {"sequence_id": 1, "sequence_start": True, "sequence_end": True}
    assert loaded(entry).predict({"X": np.float32([[3]])}, told)["OUT"].tolist() == [[3]]


def test_a_request_that_fails_costs_itself(unfold: Unfold) -> None:
    """The sequence goes on with the state that it had before."""
    runtime = loaded(unfold(ADDING, {"1/model.onnx": adding()}))
    say(runtime, 1, 1, start=True)
    with pytest.raises(Exception, match="X"):
        runtime.predict({"X": np.float32([["1", "2"]])}, {"sequence_id": 1, "sequence_start": False, "sequence_end": False})
    assert say(runtime, 1, 1) == 2


def test_state_is_bounded(unfold: Unfold) -> None:
    """A sequence that nobody ends gives its place to a new one, and is told to start again; one that is used keeps its place."""
    runtime = loaded(unfold(ADDING, {"1/model.onnx": adding()}))
    for key in range(1, KEPT + 1):
        say(runtime, key, key, start=True)
    assert say(runtime, 1, 1) == 2
    say(runtime, "one more", 1, start=True)
    with pytest.raises(InvalidInput, match=r"^inference request for sequence 2 must specify the START flag"):
        say(runtime, 2, 1)
    assert [say(runtime, 1, 1), say(runtime, 3, 1)] == [3, 4]
    say(runtime, 3, 1, end=True)
    say(runtime, "and another", 1, start=True)
    assert say(runtime, 4, 1) == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("TYPE_FP32 dims: [ 1 ] } }", "TYPE_FP64 dims: [ 1 ] } }"), "'IN' as FP64, and the model has FP32"),
        (("TYPE_FP32 dims: [ 1 ] } }", "TYPE_FP32 dims: [ 3 ] } }"), "'IN' with the shape [3], and the model has [1]"),
        (('"START" control', '"BEGIN" control'), "declares 'BEGIN', and the model has"),
        (("fp32_false_true", "int32_false_true"), "'START' as INT32, and the model has FP32"),
        (('"OUT"', '"LEFT"'), "output: config.pbtxt declares 'LEFT'"),
        ((START, ""), "input: the model wants 'START' too"),
        ((IO, 'input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]'), "output: it is missing; with sequence_batching"),
    ],
)
def test_contradictions_are_refused(unfold: Unfold, change: tuple[str, str], words: str) -> None:
    """What the model does not have is refused when it is packaged, by the field, as for all other inputs and outputs."""
    with pytest.raises(UnsupportedModel) as caught:
        look(unfold(ADDING.replace(*change), {"1/model.onnx": adding()}))
    assert words in str(caught.value)


# ---- controls


ECHO_IO = """backend: "onnxruntime" max_batch_size: 2 input [ {{ name: "X" data_type: TYPE_FP32 dims: [ 1 ] }} ]
output [ {{ name: "Y" data_type: {} dims: [ 1 ] }} ] sequence_batching {{ control_input {{ name: "C" control {{ {} }} }} }}"""


def echoing(dtype: int) -> bytes:
    """Y = C, its only control."""
    nodes = [helper.make_node("Identity", ["C"], ["Y"]), helper.make_node("Identity", ["X"], ["unused"])]
    declared = [*floats("X", ["N", 1]), helper.make_tensor_value_info("C", dtype, ["N", 1])]
    return graph(nodes, declared, [helper.make_tensor_value_info("Y", dtype, ["N", 1])])


@pytest.mark.parametrize(
    ("control", "kind", "expected"),
    [
        ("kind: CONTROL_SEQUENCE_START int32_false_true: [ 3, 4 ]", "INT32", [4, 3, 3, 4]),
        ("kind: CONTROL_SEQUENCE_END fp32_false_true: [ 0, 0.5 ]", "FP32", [0, 0, 0.5, 0.5]),
        ("kind: CONTROL_SEQUENCE_READY bool_false_true: [ false, true ]", "BOOL", [True, True, True, True]),
        ("kind: CONTROL_SEQUENCE_READY int32_false_true: [ 1, 0 ]", "INT32", [0, 0, 0, 0]),
        ("kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64", "UINT64", [1 << 63, 1 << 63, 1 << 63, 5]),
        ("kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_INT64", "INT64", [-(1 << 63), -(1 << 63), -(1 << 63), 5]),
        ("kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT32", "UINT32", [0, 0, 0, 5]),
    ],
)
def test_what_a_control_says(unfold: Unfold, control: str, kind: str, expected: list[Any]) -> None:
    """START, neither, END, and both at once: the values that are declared; of an id, the low bits that there is room for."""
    dtypes = {"FP32": TensorProto.FLOAT, "UINT32": TensorProto.UINT32, "INT32": TensorProto.INT32, "BOOL": TensorProto.BOOL}
    dtypes |= {"UINT64": TensorProto.UINT64, "INT64": TensorProto.INT64}
    entry = unfold(ECHO_IO.format(f"TYPE_{kind}", control), {"1/model.onnx": echoing(dtypes[kind])})
    runtime = loaded(entry)
    found = []
    for key, start, end in ((1 << 63, True, False), (1 << 63, False, False), (1 << 63, False, True), (5, True, True)):
        told = {"sequence_id": key, "sequence_start": start, "sequence_end": end}
        found.append(runtime.predict({"X": np.float32([[0]])}, told)["Y"])
    assert [array.tolist() for array in found] == [[[value]] for value in expected]


def test_ids_that_are_texts(unfold: Unfold) -> None:
    """A model that takes texts gets a number as its digits; one that takes numbers refuses a text as the caller's fault."""
    control = "kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_{}".format
    runtime = loaded(unfold(ECHO_IO.format("TYPE_STRING", control("STRING")), {"1/model.onnx": echoing(TensorProto.STRING)}))
    for key, said in (("ä", "ä"), (7, "7")):
        told = {"sequence_id": key, "sequence_start": True, "sequence_end": True}
        (answer,) = runtime.predict({"X": np.float32([[0]])}, told)["Y"].ravel().tolist()
        assert (answer.decode() if isinstance(answer, bytes) else answer) == said


def test_texts_where_numbers_are_taken(unfold: Unfold) -> None:
    """Refused as the caller's fault, by the name of the parameter; the next request is answered."""
    control = "kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64"
    runtime = loaded(unfold(ECHO_IO.format("TYPE_UINT64", control), {"1/model.onnx": echoing(TensorProto.UINT64)}))
    with pytest.raises(InvalidInput, match=r"^parameter 'sequence_id': the model takes numbers \('C' is UINT64\)"):
        say(runtime, "seven", 1, start=True)
    assert say(runtime, 7, 1, start=True) == 7


def test_warm_up_may_give_the_controls(unfold: Unfold) -> None:
    """As under Triton, where warm-up data stands for whatever the model takes; a name that is nothing is refused."""
    sample = """model_warmup {{ name: "w" batch_size: 2
    inputs {{ key: "X" value {{ data_type: TYPE_FP32 dims: 1 zero_data: true }} }}
    inputs {{ key: "{}" value {{ data_type: TYPE_FP32 dims: 1 zero_data: true }} }} }}""".format
    with pytest.raises(UnsupportedModel, match="no input 'STRAT'"):
        loaded(unfold(ADDING + sample("STRAT"), {"1/model.onnx": adding()}))


def test_warm_up_leaves_nothing(unfold: Unfold) -> None:
    """It is a sequence of its own, as a dry run is."""
    sample = """model_warmup { name: "w" inputs { key: "X" value { data_type: TYPE_FP32 dims: 1 zero_data: true } }
    inputs { key: "START" value { data_type: TYPE_FP32 dims: 1 zero_data: true } } }"""
    runtime = loaded(unfold(ADDING + sample, {"1/model.onnx": adding()}))
    with pytest.raises(InvalidInput):
        say(runtime, 0, 1)


# ---- Python models


PYTHON = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.totals = {}

    def execute(self, requests):
        (request,) = requests
        key, flags = request.correlation_id(), request.flags()
        if flags & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START:
            self.totals[key] = 0.0
        x = pb_utils.get_input_tensor_by_name(request, "X").as_numpy()
        started = pb_utils.get_input_tensor_by_name(request, "START").as_numpy()
        assert started.shape == x.shape == (1, 1) and bool(started.all()) == bool(flags & 1), (started, flags)
        assert request.parameters() == "{}", request.parameters()
        self.totals[key] += x.sum()
        total = self.totals.pop(key) if flags & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END else self.totals[key]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", np.full(x.shape, total, np.float32))])]
"""
OLDEST = f'backend: "python" max_batch_size: 4 {IO} sequence_batching {{ oldest {{ max_candidate_sequences: 9 }} {START} }}'


def test_python_models_are_told(unfold: Unfold) -> None:
    """By correlation_id and flags of each request, and by the control inputs they declare; parameters have nothing of it."""
    entry = unfold(OLDEST, {"1/model.py": PYTHON})
    signature = look(entry)["signature"]
    assert (signature["stateful"], signature["batched"]) == (True, True)
    runtime = loaded(entry)
    assert [say(runtime, 7, 1, start=True), say(runtime, "b", 5, start=True), say(runtime, 7, 2, end=True)] == [1, 5, 3]
    assert runtime._model._model.totals == {"b": 5.0}


def test_python_models_see_no_more_than_triton_gives_them(unfold: Unfold) -> None:
    """A model that remembers one sum, for its one slot, never mixes sequences: the one that lost its place must start again."""
    code = PYTHON.replace("key, flags = request.correlation_id()", 'key, flags = "the only one"')
    code = code.replace("== (1, 1)", "== (1,)")
    config = OLDEST.replace("max_batch_size: 4", "").replace("oldest { max_candidate_sequences: 9 }", "direct { }")
    runtime = loaded(unfold(config, {"1/model.py": code}))
    told = {"sequence_start": False, "sequence_end": False}
    one, other = ({"sequence_id": key} for key in (1, 2))
    x = {"X": np.float32([3])}
    assert runtime.predict(x, {**told, **one, "sequence_start": True})["Y"].tolist() == [3]
    assert runtime.predict(x, {**told, **one})["Y"].tolist() == [6]
    assert runtime.predict(x, {**told, **other, "sequence_start": True})["Y"].tolist() == [3]
    with pytest.raises(InvalidInput, match="sequence 1 must specify the START flag"):
        runtime.predict(x, {**told, **one})
    assert runtime.predict(x, {**told, **other})["Y"].tolist() == [6]


@pytest.mark.parametrize(
    ("config", "code", "words"),
    [
        (OLDEST, PYTHON.replace("    def initialize", "    idempotent = True\n\n    def initialize"), "cannot be run again"),
        (OLDEST + "model_transaction_policy { decoupled: true }", PYTHON, "cannot answer in parts"),
        (OLDEST.replace(IO, ""), PYTHON, "input: it is missing"),
    ],
)
def test_what_contradicts_state(unfold: Unfold, config: str, code: str, words: str) -> None:
    """Refused when it is packaged, with the reason."""
    with pytest.raises(HeadgateError) as caught:
        look(unfold(config, {"1/model.py": code}))
    assert words in str(caught.value)


# ---- other back ends


TORCH = """
import sys, torch

class Adding(torch.nn.Module):
    def forward(self, x, before):
        before += x  # in place: what a sequence starts with must not be what another has left
        return before * 1, before

torch.jit.save(torch.jit.script(Adding()), sys.argv[1])
"""
TALK = """
import json, os, sys
sys.path[:0] = [os.environ["SOURCE"]]
import numpy as np
from pathlib import Path
from headgate.runtimes.triton import TritonRuntime
runtime = TritonRuntime()
runtime.load(Path(sys.argv[1]), attribute="", device="cpu", threads=1)
found = []
for key, value, start in ((1, 1, True), (2, 5, True), (1, 2, False), (2, 1, False), (1, 7, True), (1, 1, False)):
    told = {"sequence_id": key, "sequence_start": start, "sequence_end": False}
    found.append(runtime.predict({"X__0": np.float32([[value]])}, told)["Y__0"].tolist())
print(json.dumps(found))
"""
POSITIONS = """
platform: "pytorch_libtorch" max_batch_size: 4
input [ { name: "X__0" data_type: TYPE_FP32 dims: [ 1 ] } ] output [ { name: "Y__0" data_type: TYPE_FP32 dims: [ 1 ] } ]
sequence_batching { state { input_name: "IN__1" output_name: "OUT__1" data_type: TYPE_FP32 dims: [ 1 ] } }
"""


@pytest.mark.slow
def test_torchscript(unfold: Unfold, tmp_path: Path) -> None:
    """State goes by the numbers in its names, and one sequence has nothing of another, though the model writes into its input."""
    program, script = tmp_path / "make.py", tmp_path / "model.pt"
    program.write_text(TORCH)
    subprocess.run([python_of("torch"), program, script], check=True, capture_output=True, timeout=280)
    entry = unfold(POSITIONS, {"1/model.pt": script.read_bytes()})
    environment = {"SOURCE": str(Path(__file__).resolve().parents[2] / "src"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [python_of("torch"), "-P", "-c", TALK, entry], capture_output=True, text=True, timeout=280, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[[1]], [[5]], [[3]], [[6]], [[7]], [[8]]]
