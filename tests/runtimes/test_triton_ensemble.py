"""Ensembles of Triton repositories, loaded and run: whole batches go from model to model, and what does not fit is refused by the field."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from headgate.errors import UnsupportedModel
from headgate.package.folders.base import Asked
from headgate.package.folders.triton import TritonRepository
from headgate.runtimes.base import InvalidInput
from headgate.runtimes.triton import TritonRuntime
from headgate.runtimes.triton.ensemble import StepFailed
from headgate.serving.describe import describe as described

HEAD = "import json\nimport numpy as np\nimport triton_python_backend_utils as pb_utils\n\n\n"
SCALE = HEAD + (
    "class TritonPythonModel:\n"
    "    idempotent = True\n\n"
    "    def execute(self, requests):\n"
    "        return [self.answer(request) for request in requests]\n\n"
    "    def answer(self, request):\n"
    "        by = json.loads(request.parameters()).get('by', 10)\n"
    "        extra = pb_utils.get_input_tensor_by_name(request, 'PLUS')\n"
    "        y = pb_utils.get_input_tensor_by_name(request, 'X').as_numpy() * np.float32(by)\n"
    "        y = y if extra is None else y + extra.as_numpy()\n"
    "        return pb_utils.InferenceResponse([pb_utils.Tensor('Y', y), pb_utils.Tensor('REST', -y)])\n"
)
SCALE_CONFIG = """
backend: "python" max_batch_size: 8
input [ { name: "X" data_type: TYPE_FP32 dims: [ 2 ] }, { name: "PLUS" data_type: TYPE_FP32 dims: [ 2 ] optional: true } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 2 ] }, { name: "REST" data_type: TYPE_FP32 dims: [ 2 ] } ]
"""
ADD_CONFIG = """
backend: "onnxruntime" max_batch_size: 8
input [ { name: "A" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "B" data_type: TYPE_FP32 dims: [ 2 ] } ]
"""
PIPE = """
platform: "ensemble" max_batch_size: 8
input [ { name: "RAW" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "SCORE" data_type: TYPE_FP32 dims: [ 2 ] } ]
"""
SCALED = 'step { model_name: "scale" model_version: -1 input_map { key: "X" value: "RAW" } output_map { key: "Y" value: "s" } }'
ADDED = 'step { model_name: "add" model_version: -1 input_map { key: "A" value: "s" } output_map { key: "B" value: "SCORE" } }'

Files = Mapping[str, str | bytes]
Unfold = Callable[..., Path]


def added(shape: list[Any]) -> bytes:
    """An ONNX model that adds 1 to what it gets."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "AB"]
    node = helper.make_node("Add", ["A", "one"], ["B"])
    graph = helper.make_graph([node], "g", tensors[:1], tensors[1:], [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])])
    data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    return data


def scheduled(*steps: str, head: str = PIPE) -> str:
    """The configuration of an ensemble."""
    return f"{head} ensemble_scheduling {{ {' '.join(steps)} }}"


def answering(body: str) -> str:
    """A Python model: ``x`` is its first input, and ``body`` makes ``y`` of it."""
    return HEAD + (
        "class TritonPythonModel:\n"
        "    def execute(self, requests):\n"
        "        x = requests[0].inputs()[0].as_numpy()\n"
        f"        {body}\n"
        "        return [pb_utils.InferenceResponse([pb_utils.Tensor('Y', y)])]\n"
    )


def config(takes: str, gives: str, rows: int = 8) -> str:
    """Of a Python model with the input X and the output Y: ``TYPE_FP32 dims: [ 2 ]``."""
    return (
        f'backend: "python" max_batch_size: {rows} input [ {{ name: "X" data_type: {takes} }} ] '
        f'output [ {{ name: "Y" data_type: {gives} }} ]'
    )


@pytest.fixture(autouse=True)
def paths() -> Iterator[None]:
    """What a model adds to the path and the modules goes with the test."""
    before, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        if name.startswith("headgate_triton_") or name in ("words", "own"):
            del sys.modules[name]


@pytest.fixture
def unfold(tmp_path: Path) -> Unfold:
    """``unfold(pipe, {model: {file: content}})``: the package's files of the ensemble ``pipe``; returns its entry. ``scale`` and ``add``
    are there besides.
    """

    def make(pipe: str, models: Mapping[str, Files] | None = None) -> Path:
        own: dict[str, Files] = {
            "scale": {"config.pbtxt": SCALE_CONFIG, "1/model.py": SCALE},
            "add": {"config.pbtxt": ADD_CONFIG, "1/model.onnx": added(["N", 2])},
            "pipe": {"config.pbtxt": pipe},
        }
        for model, files in {**own, **(models or {})}.items():
            for name, content in files.items():
                path = tmp_path / "repository" / model / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        (found,) = TritonRepository.adapt(tmp_path / "repository" / "pipe", Asked(""))
        for name, content in found.versions[0].files.items():
            path = tmp_path / "package" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        return tmp_path / "package" / found.versions[0].entry

    return make


def loaded(entry: Path) -> TritonRuntime:
    """The model, loaded here."""
    runtime = TritonRuntime()
    runtime.load(entry, attribute="", device="cpu", threads=1)
    return runtime


def look(entry: Path) -> dict[str, Any]:
    """What packaging finds out."""
    return described({"path": str(entry), "attribute": "", "runtime": "triton", "threads": 1})


def refusal(entry: Path) -> str:
    """The text of the refusal when it is packaged."""
    with pytest.raises(UnsupportedModel) as caught:
        look(entry)
    return str(caught.value)


def test_a_python_model_and_a_graph(unfold: Unfold) -> None:
    """The classic: Python prepares, ONNX scores; it is described as one model, and a batch of it is one call of each."""
    entry = unfold(scheduled(SCALED, ADDED))
    found = look(entry)
    assert found["signature"] == {
        "inputs": [{"name": "RAW", "dtype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "SCORE", "dtype": "FP32", "shape": [-1, 2]}],
        "batched": True,
        "parameters": True,
    }
    assert (found["platform"], found["idempotent"], "warning" in found) == ("ensemble", True, False)
    rows = np.float32([[1, 2], [3, 4], [5, 6]])
    answer = loaded(entry).predict({"RAW": rows}, {})
    np.testing.assert_array_equal(answer["SCORE"], rows * 10 + 1)


def test_parameters_reach_the_models(unfold: Unfold) -> None:
    """Those of the request, as under Triton."""
    runtime = loaded(unfold(scheduled(SCALED, ADDED)))
    assert runtime.predict({"RAW": np.float32([[1, 2]])}, {"by": 3})["SCORE"].tolist() == [[4, 7]]


def test_one_tensor_goes_to_many_and_a_model_has_many_steps(unfold: Unfold) -> None:
    """A tensor feeds several inputs, a model runs in several steps, and outputs of several steps are the answer."""
    again = SCALED.replace('"RAW" }', '"s" } input_map { key: "PLUS" value: "RAW" }').replace('"Y" value: "s"', '"REST" value: "t"')
    head = PIPE.replace('{ name: "SCORE"', '{ name: "t" data_type: TYPE_FP32 dims: [ 2 ] }, { name: "SCORE"')
    runtime = loaded(unfold(scheduled(again, ADDED, SCALED, head=head)))
    answer = runtime.predict({"RAW": np.float32([[1, 2]])}, {})
    assert answer["SCORE"].tolist() == [[11, 21]] and answer["t"].tolist() == [[-101, -202]]


def test_what_a_request_may_lack(unfold: Unfold) -> None:
    """An optional input of the ensemble may feed an optional input of a model, which then does not get it."""
    head = PIPE.replace('{ name: "RAW"', '{ name: "MORE" optional: true data_type: TYPE_FP32 dims: [ 2 ] }, { name: "RAW"')
    fed = SCALED.replace("output_map", 'input_map { key: "PLUS" value: "MORE" } output_map')
    entry = unfold(scheduled(fed, ADDED, head=head))
    assert look(entry)["signature"]["inputs"][0] == {"name": "MORE", "dtype": "FP32", "shape": [-1, 2], "optional": True}
    runtime = loaded(entry)
    assert runtime.predict({"RAW": np.float32([[1, 2]])}, {})["SCORE"].tolist() == [[11, 21]]
    assert runtime.predict({"RAW": np.float32([[1, 2]]), "MORE": np.float32([[5, 5]])}, {})["SCORE"].tolist() == [[16, 26]]


def test_a_model_that_needs_what_a_request_may_lack(unfold: Unfold) -> None:
    """An input of a model that is not optional must come with every request."""
    head = PIPE.replace('{ name: "RAW"', '{ name: "RAW" optional: true')
    assert "step[0].input_map['X']: a request may lack 'RAW', and scale needs it" in refusal(
        unfold(scheduled(SCALED, ADDED, head=head))
    )


def test_text_goes_from_model_to_model(unfold: Unfold) -> None:
    """Whatever form of text a model gives, the next one gets `bytes`."""
    first = {"config.pbtxt": config("TYPE_STRING dims: [ 1 ]", "TYPE_STRING dims: [ 2 ]")}
    first["1/model.py"] = answering("y = np.array([[row[0].decode(), 'zwölf'] for row in x])")
    second = {"config.pbtxt": config("TYPE_STRING dims: [ 2 ]", "TYPE_INT32 dims: [ 1 ]")}
    second["1/model.py"] = answering(
        "y = np.array([[sum(len(item) for item in row if type(item) is bytes)] for row in x], np.int32)"
    )
    head = PIPE.replace("TYPE_FP32 dims: [ 2 ] } ]\noutput", "TYPE_STRING dims: [ 1 ] } ]\noutput").replace(
        "TYPE_FP32 dims: [ 2 ]", "TYPE_INT32 dims: [ 1 ]"
    )
    steps = (SCALED.replace("scale", "first"), ADDED.replace("add", "second").replace('"A"', '"X"').replace('"B"', '"Y"'))
    entry = unfold(scheduled(*steps, head=head), {"first": first, "second": second})
    assert loaded(entry).predict({"RAW": np.array([[b"ab"], [b"c"]], object)}, {})["SCORE"].tolist() == [[8], [7]]


def test_reshape_of_the_ensemble_and_of_its_models(unfold: Unfold) -> None:
    """Clients send the dims of the ensemble; a model gets those of its own."""
    head = PIPE.replace("dims: [ 2 ] } ]\noutput", "dims: [ 1, 2 ] reshape { shape: [ 2 ] } } ]\noutput")
    add = ADD_CONFIG.replace("dims: [ 2 ] } ]\noutput", "dims: [ 2 ] reshape { shape: [ 2, 1 ] } } ]\noutput").replace(
        "} ]\n", "} ]\n", 1
    )
    add = add.replace('"B" data_type: TYPE_FP32 dims: [ 2 ]', '"B" data_type: TYPE_FP32 dims: [ 2 ] reshape { shape: [ 2, 1 ] }')
    entry = unfold(scheduled(SCALED, ADDED, head=head), {"add": {"config.pbtxt": add, "1/model.onnx": added(["N", 2, 1])}})
    assert look(entry)["signature"]["inputs"][0]["shape"] == [-1, 1, 2]
    assert loaded(entry).predict({"RAW": np.float32([[[1, 2]]])}, {})["SCORE"].tolist() == [[11, 21]]


def test_a_model_gets_no_more_rows_than_it_declares(unfold: Unfold) -> None:
    """However many the ensemble takes: its batch is run in parts."""
    small = {"config.pbtxt": config("TYPE_FP32 dims: [ 2 ]", "TYPE_FP32 dims: [ 2 ]", rows=2)}
    small["1/model.py"] = answering("assert len(x) <= 2; y = 2 * x")
    entry = unfold(scheduled(SCALED.replace("scale", "small"), ADDED), {"small": small})
    rows = np.arange(10, dtype=np.float32).reshape(5, 2)
    np.testing.assert_array_equal(loaded(entry).predict({"RAW": rows}, {})["SCORE"], 2 * rows + 1)


def test_a_model_that_declares_the_batch_in_its_dims(unfold: Unfold) -> None:
    """max_batch_size 0 and a first size that varies is a batch, too; what it declares by itself is found out."""
    whole = {"1/model.onnx": added(["N", 2])}
    entry = unfold(scheduled(SCALED, ADDED.replace("add", "whole")), {"whole": whole})
    assert look(entry)["signature"]["batched"] is True
    np.testing.assert_array_equal(loaded(entry).predict({"RAW": np.float32([[1, 2], [3, 4]])}, {})["SCORE"], [[11, 21], [31, 41]])


def test_without_a_batch_axis(unfold: Unfold) -> None:
    """An ensemble of max_batch_size 0 is asked once and answers once; a model with a batch axis gets a batch of one."""
    entry = unfold(scheduled(SCALED, ADDED, head=PIPE.replace("max_batch_size: 8", "max_batch_size: 0")))
    signature = look(entry)["signature"]
    assert (signature["inputs"][0]["shape"], signature["outputs"][0]["shape"], signature["batched"]) == ([2], [2], False)
    assert loaded(entry).predict({"RAW": np.float32([1, 2])}, {})["SCORE"].tolist() == [11, 21]


def test_a_batch_where_one_answer_is_declared(unfold: Unfold) -> None:
    """Is the fault of the model, and not cut to one."""
    more = {
        "config.pbtxt": config("TYPE_FP32 dims: [ 2 ]", "TYPE_FP32 dims: [ 2 ]"),
        "1/model.py": answering("y = np.vstack([x, x])"),
    }
    entry = unfold(scheduled(SCALED.replace("scale", "more"), ADDED, head=PIPE.replace("max_batch_size: 8", "")), {"more": more})
    with pytest.raises(StepFailed, match="a batch of 2 came where one answer without a batch axis is declared"):
        loaded(entry).predict({"RAW": np.float32([1, 2])}, {})


def test_an_ensemble_in_an_ensemble(unfold: Unfold) -> None:
    """Its steps run within the step that it is."""
    inner = scheduled(SCALED, ADDED)
    outer = scheduled(
        'step { model_name: "inner" input_map { key: "RAW" value: "RAW" } output_map { key: "SCORE" value: "s" } }', ADDED
    )
    entry = unfold(outer, {"inner": {"config.pbtxt": inner}})
    assert loaded(entry).predict({"RAW": np.float32([[1, 2]])}, {})["SCORE"].tolist() == [[12, 22]]


def test_files_of_each_model_lie_where_it_looks_for_them(unfold: Unfold) -> None:
    """A Python model is told its own name, version and folder, and imports what lies beside it."""
    code = answering("y = x + self.plus").replace(
        "    def execute",
        "    def initialize(self, args):\n"
        "        from pathlib import Path\n\n"
        "        import words\n\n"
        "        assert (args['model_name'], args['model_version']) == ('own', '1')\n"
        "        self.plus = np.float32(Path(args['model_repository'], 'plus.txt').read_text()) + words.MORE\n\n"
        "    def execute",
        1,
    )
    own = {"config.pbtxt": config("TYPE_FP32 dims: [ 2 ]", "TYPE_FP32 dims: [ 2 ]"), "1/model.py": code}
    own |= {"plus.txt": "5", "1/words.py": "MORE = 1"}
    entry = unfold(scheduled(SCALED.replace("scale", "own"), ADDED), {"own": own})
    assert loaded(entry).predict({"RAW": np.float32([[1, 2]])}, {})["SCORE"].tolist() == [[8, 9]]


def test_modules_of_one_name(unfold: Unfold) -> None:
    """Two models may have the same module beside them, but not two different ones: one process imports one of them."""
    models = {
        name: {"config.pbtxt": SCALE_CONFIG, "1/model.py": SCALE, "1/words.py": text, "1/words.txt": name}
        for name, text in (("scale", "A = 1"), ("again", "A = 1"))
    }
    pipe = scheduled(SCALED, SCALED.replace('"scale"', '"again"').replace('"s"', '"SCORE"').replace('"RAW"', '"s"'))
    entry = unfold(pipe, models)
    assert loaded(entry).predict({"RAW": np.float32([[1, 2]])}, {})["SCORE"].tolist() == [[100, 200]]
    (entry.parent / "again" / "1" / "words.py").write_text("A = 2")
    assert "ensemble_scheduling: again/1/words.py and scale/1/words.py have one name and are not the same" in refusal(entry)


@pytest.mark.parametrize(
    ("pipe", "words"),
    [
        (
            scheduled(SCALED.replace('"X"', '"XX"'), ADDED),
            "step[0].input_map['XX']: scale has no such input, but ['X', 'PLUS']; did",
        ),
        (scheduled(SCALED.replace('"Y"', '"Z"'), ADDED), "step[0].output_map['Z']: scale has no such output, but ['Y', 'REST']"),
        (scheduled(SCALED.replace('"X"', '"PLUS"'), ADDED), "step[0].input_map: scale takes 'X', which is not mapped"),
        (
            scheduled(SCALED, ADDED, head=PIPE.replace("FP32", "INT32", 1)),
            "step[0].input_map['X']: scale takes FP32 [-1, 2], and 'RAW' is INT32 [-1, 2]",
        ),
        (
            scheduled(SCALED, ADDED, head=PIPE.replace("[ 2 ]", "[ 3 ]", 1)),
            "step[0].input_map['X']: scale takes FP32 [-1, 2], and 'RAW' is FP32 [-1, 3]",
        ),
        (
            scheduled(SCALED, ADDED, head=PIPE.replace('"SCORE" data_type: TYPE_FP32', '"SCORE" data_type: TYPE_FP64')),
            "output: config.pbtxt declares 'SCORE' as FP64 [-1, 2], and its step gives FP32 [-1, 2]",
        ),
        (
            scheduled(SCALED, ADDED, head=PIPE.removesuffix("dims: [ 2 ] } ]\n") + "dims: [ 5 ] } ]"),
            "output: config.pbtxt declares 'SCORE' as FP32 [-1, 5], and its step gives FP32 [-1, 2]",
        ),
    ],
)
def test_maps_that_do_not_fit_the_models(unfold: Unfold, pipe: str, words: str) -> None:
    """The refusal names the step, its field, the model, and what each of them says."""
    assert words in refusal(unfold(pipe))


def test_shapes_that_vary_fit(unfold: Unfold) -> None:
    """A size that is left open agrees with any."""
    entry = unfold(scheduled(SCALED, ADDED, head=PIPE.replace("[ 2 ]", "[ -1 ]")))
    assert loaded(entry).predict({"RAW": np.float32([[1, 2]])}, {})["SCORE"].tolist() == [[11, 21]]


def test_a_batch_is_not_taken_apart(unfold: Unfold) -> None:
    """In an ensemble with a batch axis a model without one must declare it in its dims; Triton would run it for one row at most."""
    one = {"config.pbtxt": config("TYPE_FP32 dims: [ 2 ]", "TYPE_FP32 dims: [ 2 ]", rows=0), "1/model.py": answering("y = x")}
    words = refusal(unfold(scheduled(SCALED.replace("scale", "one"), ADDED), {"one": one}))
    assert "step[0].input_map['X']: one takes FP32 [2], and 'RAW' is FP32 [-1, 2]" in words


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("model_transaction_policy { decoupled: true }", "step[0].model_name: odd is decoupled, so it answers any number of times"),
        ("sequence_batching { direct { } }", "step[0].model_name: odd is stateful, and a batch mixes the requests of many clients"),
    ],
)
def test_models_that_are_no_steps(unfold: Unfold, more: str, words: str) -> None:
    """What answers in parts, or remembers who asks, is refused by the step."""
    odd = {"config.pbtxt": config("TYPE_FP32 dims: [ 2 ]", "TYPE_FP32 dims: [ 2 ]") + more, "1/model.py": answering("y = x")}
    assert words in refusal(unfold(scheduled(SCALED.replace("scale", "odd"), ADDED), {"odd": odd}))


def test_a_model_that_cannot_be_loaded(unfold: Unfold) -> None:
    """The refusal of the model comes with its step."""
    entry = unfold(scheduled(SCALED, ADDED), {"scale": {"config.pbtxt": SCALE_CONFIG, "1/model.py": "raise ValueError('no')"}})
    assert "ensemble_scheduling.step[0] (scale) cannot be loaded: ValueError: no" in refusal(entry)
    broken = {"config.pbtxt": ADD_CONFIG.replace("[ 2 ]", "[ 3 ]", 1), "1/model.onnx": added(["N", 2])}
    entry = unfold(scheduled(SCALED, ADDED), {"add": broken})
    (entry.parent / "scale" / "1" / "model.py").write_text(SCALE)
    assert "ensemble_scheduling.step[1] (add): input: config.pbtxt declares 'A' with the shape [3]" in refusal(entry)


def test_a_step_that_fails(unfold: Unfold) -> None:
    """What a model raises names its step; where it blames the input, so does the ensemble."""
    code = answering("assert x[0, 0] != 1, 'no ones'; y = x").replace(
        "        assert",
        "        if x[0, 0] == 2:\n"
        "            error = pb_utils.TritonError('no twos', pb_utils.TritonError.INVALID_ARG)\n"
        "            return [pb_utils.InferenceResponse(error=error)]\n"
        "        assert",
    )
    picky = {"config.pbtxt": config("TYPE_FP32 dims: [ 2 ]", "TYPE_FP32 dims: [ 2 ]"), "1/model.py": code}
    runtime = loaded(unfold(scheduled(SCALED.replace("scale", "picky"), ADDED), {"picky": picky}))
    assert not runtime.pure
    with pytest.raises(StepFailed, match=r"^step\[0\] \(picky\) raised AssertionError: no ones"):
        runtime.predict({"RAW": np.float32([[1, 1]])}, {})
    with pytest.raises(InvalidInput, match=r"^step\[0\] \(picky\): no twos$"):
        runtime.predict({"RAW": np.float32([[2, 2]])}, {})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("y = x.astype(np.float64)", r"output 'Y' is FP64, and it is declared as FP32"),
        ("x += 1; y = x", r"read-only"),
    ],
)
def test_what_a_model_gives_is_what_it_declares(unfold: Unfold, body: str, words: str) -> None:
    """Another dtype is refused where it comes from, and a tensor is not written to by those who get it."""
    wrong = {"config.pbtxt": config("TYPE_FP32 dims: [ 2 ]", "TYPE_FP32 dims: [ 2 ]"), "1/model.py": answering(body)}
    steps = (SCALED, ADDED.replace("add", "wrong").replace('"A"', '"X"').replace('"B"', '"Y"'))
    with pytest.raises(StepFailed, match=rf"^step\[1\] \(wrong\) raised .*{words}"):
        loaded(unfold(scheduled(*steps), {"wrong": wrong})).predict({"RAW": np.float32([[1, 1]])}, {})


def test_unloading_ends_every_model(unfold: Unfold) -> None:
    """Python's ``finalize`` is called, once for each model."""
    code = SCALE + "\n    ended = []\n\n    def finalize(self):\n        self.ended.append(1)\n"
    again = SCALED.replace('"RAW"', '"s"').replace('value: "s" } }', 'value: "u" } }')
    entry = unfold(
        scheduled(SCALED, again, ADDED.replace('"s"', '"u"')), {"scale": {"config.pbtxt": SCALE_CONFIG, "1/model.py": code}}
    )
    runtime = loaded(entry)
    runtime.unload()
    assert sys.modules["headgate_triton_scale_1"].TritonPythonModel.ended == [1]
