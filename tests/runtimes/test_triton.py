"""The runtime of Triton repositories: what config.pbtxt declares is laid over frameworks' models and over ``TritonPythonModel``."""

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

from headgate.errors import HeadgateError, UnsupportedModel
from headgate.package.folders.base import Asked
from headgate.package.folders.triton import TritonRepository
from headgate.runtimes.base import InvalidInput
from headgate.runtimes.triton import TritonRuntime
from headgate.serving.describe import describe as described

TENSORS = """
input [ { name: "X" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 2 ] } ]
"""
HEAD = "import json\nimport numpy as np\nimport triton_python_backend_utils as pb_utils\n\n"
DOUBLE = (
    HEAD
    + """
class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("Y", 2 * r.inputs()[0].as_numpy())]) for r in requests]
"""
)

Unfold = Callable[..., Path]


@pytest.fixture(autouse=True)
def paths() -> Iterator[None]:
    """What a model adds to the path and the modules goes with the test."""
    before, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        if name.startswith("headgate_triton_"):
            del sys.modules[name]


@pytest.fixture
def unfold(tmp_path: Path) -> Unfold:
    """``unfold(config, files)``: the package's files of model ``m``, as a replica has them; returns the entry."""

    def make(config: str | None, files: dict[str, str | bytes], version: int = -1) -> Path:
        for name, content in files.items():
            path = tmp_path / "repository" / "m" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        if config is not None:
            (tmp_path / "repository" / "m" / "config.pbtxt").write_text(config)
        (model,) = TritonRepository.adapt(tmp_path / "repository", Asked(""))
        source = model.versions[version]
        for name, content in source.files.items():
            path = tmp_path / "package" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        return tmp_path / "package" / source.entry

    return make


def loaded(entry: Path) -> TritonRuntime:
    """The model, loaded here."""
    runtime = TritonRuntime()
    runtime.load(entry, attribute="", device="cpu", threads=1)
    return runtime


def look(entry: Path) -> dict[str, Any]:
    """What packaging finds out."""
    return described({"path": str(entry), "attribute": "", "runtime": "triton", "threads": 1})


def added(shape: list[Any], *, names: tuple[str, str] = ("X", "Y")) -> bytes:
    """An ONNX model that adds 10 to what it gets."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in names]
    node = helper.make_node("Add", [names[0], "ten"], [names[1]])
    graph = helper.make_graph([node], "g", tensors[:1], tensors[1:], [helper.make_tensor("ten", TensorProto.FLOAT, [1], [10.0])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = model.SerializeToString()
    onnx.checker.check_model(data)
    return data


def test_onnx_as_declared(unfold: Unfold) -> None:
    """Names and shapes are those of the configuration, the batch axis in front; rows are computed as the model does."""
    entry = unfold(f'backend: "onnxruntime" max_batch_size: 8 {TENSORS}', {"1/model.onnx": added(["N", 2])})
    found = look(entry)
    assert found["signature"] == {
        "inputs": [{"name": "X", "dtype": "FP32", "shape": [-1, 2]}],
        "outputs": [{"name": "Y", "dtype": "FP32", "shape": [-1, 2]}],
        "batched": True,
        "parameters": False,
    }
    assert (found["platform"], found["idempotent"]) == ("onnxruntime_onnx", True)


def test_onnx_without_a_batch_axis(unfold: Unfold) -> None:
    """With max_batch_size 0, dims are the whole shape."""
    entry = unfold(f'backend: "onnxruntime" {TENSORS}', {"1/model.onnx": added([2])})
    signature = look(entry)["signature"]
    assert (signature["inputs"][0]["shape"], signature["batched"]) == ([2], False)
    assert loaded(entry).predict({"X": np.float32([1, 2])}, {})["Y"].tolist() == [11, 12]


def test_what_is_not_declared_is_found_out(unfold: Unfold) -> None:
    """Without config.pbtxt, inputs, outputs and the batch axis are the model's own."""
    entry = unfold(None, {"1/model.onnx": added(["N", 3], names=("a", "b"))})
    signature = look(entry)["signature"]
    assert signature["inputs"] == [{"name": "a", "dtype": "FP32", "shape": [-1, 3]}]
    assert (signature["outputs"][0]["name"], signature["batched"]) == ("b", True)


def test_outputs_alone_are_found_out(unfold: Unfold) -> None:
    """Half a configuration is completed by the model."""
    config = 'backend: "onnxruntime" max_batch_size: 8 input [ { name: "X" data_type: TYPE_FP32 dims: [ 2 ] } ]'
    signature = look(unfold(config, {"1/model.onnx": added(["N", 2])}))["signature"]
    assert signature["outputs"] == [{"name": "Y", "dtype": "FP32", "shape": [-1, 2]}]


def test_shapes_of_requests_and_of_the_model(unfold: Unfold) -> None:
    """With reshape, requests and answers have dims, the model sees the other shape; sizes that vary keep their order."""
    config = """backend: "onnxruntime" max_batch_size: 8
    input [ { name: "X" data_type: TYPE_FP32 dims: [ 1, 4 ] reshape { shape: [ 2, 2 ] } } ]
    output [ { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 2, 2 ] } } ]"""
    entry = unfold(config, {"1/model.onnx": added(["N", 2, 2])})
    assert look(entry)["signature"]["inputs"][0]["shape"] == [-1, 1, 4]
    answer = loaded(entry).predict({"X": np.arange(8, dtype=np.float32).reshape(2, 1, 4)}, {})["Y"]
    assert answer.tolist() == [[10, 11, 12, 13], [14, 15, 16, 17]]


def test_scalars_by_reshape(unfold: Unfold) -> None:
    """A model that takes a vector of scalars is asked with one element a row."""
    config = """backend: "onnxruntime" max_batch_size: 8
    input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } } ]
    output [ { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } } ]"""
    entry = unfold(config, {"1/model.onnx": added(["N"])})
    assert loaded(entry).predict({"X": np.float32([[1], [2]])}, {})["Y"].tolist() == [[11], [12]]


def test_never_more_rows_than_declared(unfold: Unfold) -> None:
    """A model is never given more rows than max_batch_size, also not while it is tried at packaging."""
    code = DOUBLE.replace("return [", "assert all(len(r.inputs()[0].as_numpy()) <= 2 for r in requests)\n        return [")
    entry = unfold(f'backend: "python" max_batch_size: 2 {TENSORS}', {"1/model.py": code})
    assert look(entry)["signature"]["batched"] is True
    rows = np.arange(10, dtype=np.float32).reshape(5, 2)
    np.testing.assert_array_equal(loaded(entry).predict({"X": rows}, {})["Y"], 2 * rows)


@pytest.mark.parametrize(
    ("config", "model", "words"),
    [
        (TENSORS.replace("FP32", "FP64", 1), added(["N", 2]), "'X' as FP64, and the model has FP32"),
        (
            TENSORS.replace("[ 2 ]", "[ 3 ]", 1),
            added(["N", 2]),
            "'X' with the shape [3], and the model has [2] behind the batch axis",
        ),
        (TENSORS.replace('"X"', '"Z"'), added(["N", 2]), "declares 'Z', and the model has ['X']"),
        (TENSORS.replace('"Y"', '"YY"'), added(["N", 2]), "did you mean 'Y'?"),
        (TENSORS, added([1, 2]), "max_batch_size: 'X' of the model has the shape [1, 2]"),
        ('output [ { name: "Y" data_type: TYPE_FP32 dims: [ 2 ] } ]', added([1, 2]), "max_batch_size: 'X'"),
    ],
)
def test_contradictions_are_refused(unfold: Unfold, config: str, model: bytes, words: str) -> None:
    """A configuration that the model does not keep is refused when it is packaged, by the field."""
    entry = unfold(f'backend: "onnxruntime" max_batch_size: 8 {config}', {"1/model.onnx": model})
    with pytest.raises(UnsupportedModel) as caught:
        look(entry)
    assert words in str(caught.value)


@pytest.mark.parametrize("data", ["zero_data: true", "random_data: true", 'input_data_file: "x.bin"'])
def test_warm_up_runs(unfold: Unfold, data: str) -> None:
    """Every sample is run as often as it says, with its rows, before the model is ready."""
    code = HEAD + (
        "seen = []\n\n\nclass TritonPythonModel:\n"
        "    def execute(self, requests):\n"
        "        x = requests[0].inputs()[0].as_numpy()\n"
        "        seen.append(x)\n"
        "        return [pb_utils.InferenceResponse([pb_utils.Tensor('Y', x)])]\n"
    )
    config = f"""backend: "python" max_batch_size: 8 {TENSORS}
    model_warmup {{ name: "w" batch_size: 3 count: 2 inputs {{ key: "X" value {{ data_type: TYPE_FP32 dims: 2 {data} }} }} }}"""
    loaded(unfold(config, {"1/model.py": code, "warmup/x.bin": np.float32([5, 7]).tobytes()}))
    seen = sys.modules["headgate_triton_m_1"].seen
    assert [array.shape for array in seen] == [(3, 2), (3, 2)]
    if "zero" in data:
        assert not seen[0].any()
    elif "file" in data:
        assert seen[0].tolist() == [[5, 7]] * 3


def test_warm_up_that_fails_is_a_refusal(unfold: Unfold) -> None:
    """A model that fails its own warm-up is not served: the refusal names the sample."""
    config = f"""backend: "python" {TENSORS}
    model_warmup {{ name: "w" inputs {{ key: "X" value {{ data_type: TYPE_FP32 dims: 2 input_data_file: "gone" }} }} }}"""
    entry = unfold(config, {"1/model.py": DOUBLE})
    with pytest.raises(UnsupportedModel, match=r"model_warmup\['w'\] fails: FileNotFoundError"):
        loaded(entry)


def test_a_python_model_lives_as_under_triton(unfold: Unfold) -> None:
    """initialize gets names, version, folder and configuration; modules beside it are imported either way; finalize ends it."""
    code = HEAD + (
        "import pathlib\nimport plain_neighbour\nfrom .neighbour import ten\n\n\nclass TritonPythonModel:\n"
        "    def initialize(self, args):\n"
        "        self.args = args\n"
        "        self.config = json.loads(args['model_config'])\n"
        "        self.more = float(pathlib.Path(args['model_repository'], args['model_version'], 'more.txt').read_text())\n"
        "    def execute(self, requests):\n"
        "        config = pb_utils.get_output_config_by_name(self.config, 'Y')\n"
        "        dtype = pb_utils.triton_string_to_numpy(config['data_type'])\n"
        "        x = pb_utils.get_input_tensor_by_name(requests[0], 'X').as_numpy()\n"
        "        scale = json.loads(requests[0].parameters()).get('scale', 1)\n"
        "        y = (x * scale + ten + self.more + plain_neighbour.hundred).astype(dtype)\n"
        "        return [pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor('Y', y)])]\n"
        "    def finalize(self):\n"
        "        self.args['ended'] = True\n"
    )
    files = {
        "3/model.py": code,
        "3/neighbour.py": "ten = 10\n",
        "3/plain_neighbour.py": "hundred = 100\n",
        "3/more.txt": "1000",
        "2/model.py": DOUBLE,
    }
    entry = unfold(f'backend: "python" max_batch_size: 4 {TENSORS}', files)
    runtime = loaded(entry)
    assert runtime.predict({"X": np.float32([[1, 2]])}, {"scale": 3})["Y"].tolist() == [[1113, 1116]]
    args = runtime._model._model.args
    runtime.unload()
    config = json.loads(args.pop("model_config"))
    assert config["max_batch_size"] == 4
    assert args == {
        "model_instance_kind": "CPU", "model_instance_device_id": "0", "model_instance_name": "m_0", "model_name": "m",
        "model_version": "3", "model_repository": str(entry.parent), "ended": True,
    }  # fmt: skip


def test_errors_of_python_models(unfold: Unfold) -> None:
    """An error of a response reaches the client: as his fault where the model says so; anything but one response is refused in words."""
    code = HEAD + (
        "class TritonPythonModel:\n"
        "    def execute(self, requests):\n"
        "        kind = requests[0].inputs()[0].as_numpy()[0]\n"
        "        if kind == 0:\n"
        "            return [pb_utils.InferenceResponse(error=pb_utils.TritonError('bad', pb_utils.TritonError.INVALID_ARG))]\n"
        "        if kind == 1:\n"
        "            return [pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError('broken'))]\n"
        "        return None if kind == 2 else [pb_utils.InferenceResponse([pb_utils.Tensor('Z', np.zeros(2))])]\n"
    )
    runtime = loaded(unfold(f'backend: "python" {TENSORS}', {"1/model.py": code}))

    def ask(kind: int) -> None:
        runtime.predict({"X": np.float32([kind, 0])}, {})

    with pytest.raises(InvalidInput, match=r"^bad$"):
        ask(0)
    with pytest.raises(Exception, match=r"^broken$"):
        ask(1)
    with pytest.raises(HeadgateError, match="a NoneType for one request"):
        ask(2)
    with pytest.raises(HeadgateError, match=r"no output 'Y', which config.pbtxt declares; it gave \['Z'\]"):
        ask(3)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1\n", "has no class TritonPythonModel"),
        ("class TritonPythonModel:\n    pass\n", "has no method execute"),
        (DOUBLE, "input: it is missing"),
        (HEAD + "pb_utils.MetricFamily\n", "triton_python_backend_utils has no 'MetricFamily' here"),
    ],
)
def test_python_files_that_are_no_model(unfold: Unfold, code: str, words: str) -> None:
    """The refusal says what is missing."""
    with pytest.raises(HeadgateError) as caught:
        look(unfold(None, {"1/model.py": code}))
    assert words in str(caught.value)


def test_a_python_model_completes_its_configuration(unfold: Unfold) -> None:
    """What auto_complete_config declares is as if config.pbtxt had."""
    code = DOUBLE + (
        "\n    @staticmethod\n    def auto_complete_config(config):\n"
        "        config.add_input({'name': 'X', 'data_type': 'TYPE_FP32', 'dims': [2]})\n"
        "        config.add_output({'name': 'Y', 'data_type': 'TYPE_FP32', 'dims': [2]})\n"
        "        config.set_max_batch_size(4)\n        config.set_dynamic_batching()\n        return config\n"
    )
    found = look(unfold(None, {"1/model.py": code}))
    assert found["signature"]["inputs"] == [{"name": "X", "dtype": "FP32", "shape": [-1, 2]}]
    assert found["signature"]["batched"] is True


COUNT = HEAD + (
    "import threading\n\n\nclass TritonPythonModel:\n"
    "    def execute(self, requests):\n"
    "        for request in requests:\n"
    "            self.thread = threading.Thread(target=self.answer, args=(request,))\n"
    "            self.thread.start()\n"
    "    def answer(self, request):\n"
    "        sender = request.get_response_sender()\n"
    "        x = request.inputs()[0].as_numpy()\n"
    "        for index in range(int(x.ravel()[0])):\n"
    "            if request.is_cancelled():\n"
    "                break\n"
    "            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor('Y', x + index)]))\n"
    "        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)\n"
)
DECOUPLED = 'backend: "python" model_transaction_policy { decoupled: true } '


def test_decoupled_models_answer_in_parts(unfold: Unfold) -> None:
    """Responses come one by one, from whatever thread of the model, and end with the final flag."""
    entry = unfold(DECOUPLED + f"max_batch_size: 1 {TENSORS}", {"1/model.py": COUNT})
    signature = look(entry)["signature"]
    assert (signature["streams"], signature["batched"], signature["inputs"][0]["shape"]) == (True, False, [-1, 2])
    parts = [part["Y"].tolist() for part in loaded(entry).stream({"X": np.float32([[3, 0]])}, {})]
    assert parts == [[[3, 0]], [[4, 1]], [[5, 2]]]
    assert list(loaded(entry).stream({"X": np.float32([[0, 0]])}, {})) == []


def test_a_client_that_goes_is_told_to_the_model(unfold: Unfold) -> None:
    """Closing the answer cancels the request; the model's thread has ended before the next request."""
    runtime = loaded(unfold(DECOUPLED + TENSORS, {"1/model.py": COUNT}))
    parts = runtime.stream({"X": np.float32([1e9, 0])}, {})
    assert next(parts)["Y"].tolist() == [1e9, 0]
    parts.close()
    runtime._model._model.thread.join(5)
    assert not runtime._model._model.thread.is_alive()


def test_decoupled_models_that_fail(unfold: Unfold) -> None:
    """What execute raises, and the error of a response, end the answer; a return value is refused."""
    code = HEAD + (
        "class TritonPythonModel:\n    def execute(self, requests):\n"
        "        sender, kind = requests[0].get_response_sender(), requests[0].inputs()[0].as_numpy()[0]\n"
        "        if kind == 0:\n            raise ValueError('oh')\n"
        "        if kind == 1:\n            sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError('no')), flags=1)\n"
        "        if kind == 2:\n            return []\n"
    )
    runtime = loaded(unfold(DECOUPLED + TENSORS, {"1/model.py": code}))
    for kind, words in enumerate(("oh", "no", "returns nothing")):
        with pytest.raises(Exception, match=words):
            list(runtime.stream({"X": np.float32([kind, 0])}, {}))


SCRIPT = """
import sys, torch

class Two(torch.nn.Module):
    def forward(self, first, second):
        return first + 10 * second, first - second

torch.jit.save(torch.jit.script(Two()), sys.argv[1])
torch.save(Two(), sys.argv[2])
"""
POSITIONS = """
input [ {{ name: "{0}" data_type: TYPE_FP32 dims: [ 2 ] }}, {{ name: "{1}" data_type: TYPE_FP32 dims: [ 2 ] }} ]
output [ {{ name: "{2}" data_type: TYPE_FP32 dims: [ 2 ] }}, {{ name: "{3}" data_type: TYPE_FP32 dims: [ 2 ] }} ]
"""
CALL = """
import json, os, sys
sys.path[:0] = [os.environ["SOURCE"]]
import numpy as np
from pathlib import Path
from headgate.runtimes.triton import TritonRuntime
runtime = TritonRuntime()
runtime.load(Path(sys.argv[1]), attribute="", device="cpu", threads=1)
names = sys.argv[2:]
found = runtime.predict({name: np.float32([[index + 1, index + 2]]) for index, name in enumerate(names)}, {})
print(json.dumps({name: array.tolist() for name, array in found.items()}))
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A TorchScript model and the same as a pickle."""
    folder = tmp_path_factory.mktemp("scripts")
    script, pickle = folder / "model.pt", folder / "pickle.pt"
    program = folder / "make.py"  # TorchScript reads the source of what it compiles
    program.write_text(SCRIPT)
    subprocess.run([python_of("torch"), program, script, pickle], check=True, capture_output=True, timeout=280)
    return script.read_bytes(), pickle.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [
        ("INPUT__0", "INPUT__1", "OUTPUT__0", "OUTPUT__1"),
        ("first", "second", "sum", "difference"),
        ("a", "b", "sum", "difference"),
        ("x__0", "x__1", "difference__1", "sum__0"),
    ],
    ids=["by number", "by name", "by order", "turned round"],
)
def test_torchscript_by_position(unfold: Unfold, scripts: tuple[bytes, bytes], names: tuple[str, ...]) -> None:
    """Inputs and outputs are the arguments and results that their names, or their numbers, or else their order say."""
    entry = unfold(f'platform: "pytorch_libtorch" max_batch_size: 8 {POSITIONS.format(*names)}', {"1/model.pt": scripts[0]})
    environment = {"SOURCE": str(Path(__file__).resolve().parents[2] / "src"), "PATH": "/usr/bin:/bin"}
    command = [python_of("torch"), "-P", "-c", CALL, entry, *names[:2]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    total, difference = (names[3], names[2]) if names[2].endswith("__1") else (names[2], names[3])
    assert found == {total: [[21, 32]], difference: [[-1, -1]]}


@pytest.mark.slow
def test_pickles_are_no_torchscript(unfold: Unfold, scripts: tuple[bytes, bytes]) -> None:
    """A file of torch.save is refused before it is opened: Triton's back end loads none, so nobody needs it."""
    entry = unfold(f'backend: "pytorch" {POSITIONS.format(*"abcd")}', {"1/model.pt": scripts[1]})
    with pytest.raises(UnsupportedModel, match="is a pickle"):
        loaded(entry)
