"""Triton model repositories: every field of config.pbtxt is followed, named in a warning, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import PackageError, UnsupportedModel
from headgate.package.folders.base import Asked, ModelSource
from headgate.package.folders.triton import TritonRepository
from headgate.package.folders.triton.fields import FOLLOWED, REFUSED, WARNED
from headgate.package.folders.triton.format import MODEL_CONFIG
from headgate.package.folders.triton.settings import settings_of
from headgate.spec import parse_spec

IO = """
input [ { name: "X" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] } ]
"""
STATE = 'sequence_batching {{ state {{ input_name: "S" output_name: "T" data_type: TYPE_FP32 dims: 1 {} }} }}'.format
SET = {
    "optimization": "optimization { cuda { graphs: true } }",
    "metric_tags": 'metric_tags { key: "team" value: "risk" }',
    "model_metrics": 'model_metrics { metric_control { metric_identifier { family: "f" } } }',
    "response_cache": "response_cache { enable: true }",
    "dynamic_batching.preferred_batch_size": "dynamic_batching { preferred_batch_size: [ 4, 8 ] }",
    "dynamic_batching.preserve_ordering": "dynamic_batching { preserve_ordering: true }",
    "dynamic_batching.priority_levels": "dynamic_batching { priority_levels: 2 }",
    "dynamic_batching.default_priority_level": "dynamic_batching { default_priority_level: 1 }",
    "dynamic_batching.default_queue_policy": "dynamic_batching { default_queue_policy { max_queue_size: 3 } }",
    "dynamic_batching.priority_queue_policy": "dynamic_batching { priority_queue_policy { key: 1 value { max_queue_size: 3 } } }",
    "instance_group.rate_limiter": "instance_group { rate_limiter { priority: 2 } }",
    "instance_group.host_policy": 'instance_group { host_policy: "p" }',
    "input.format": 'input { name: "Z" data_type: TYPE_FP32 dims: 1 format: FORMAT_NHWC }',
    "input.allow_ragged_batch": 'input { name: "Z" data_type: TYPE_FP32 dims: -1 allow_ragged_batch: true }',
    "ensemble_scheduling.max_inflight_requests": "ensemble_scheduling { max_inflight_requests: 4 }",
    "runtime": 'runtime: "model.py"',
    "ensemble_scheduling.step.model_namespace": 'ensemble_scheduling { step { model_namespace: "other" } }',
    "sequence_batching.iterative_sequence": "sequence_batching { iterative_sequence: true }",
    "sequence_batching.direct.max_queue_delay_microseconds": "sequence_batching { direct { max_queue_delay_microseconds: 9 } }",
    "sequence_batching.direct.minimum_slot_utilization": "sequence_batching { direct { minimum_slot_utilization: 0.5 } }",
    "sequence_batching.oldest.preferred_batch_size": "sequence_batching { oldest { preferred_batch_size: 4 } }",
    "sequence_batching.oldest.max_queue_delay_microseconds": "sequence_batching { oldest { max_queue_delay_microseconds: 9 } }",
    "sequence_batching.oldest.preserve_ordering": "sequence_batching { oldest { preserve_ordering: true } }",
    "sequence_batching.state.use_same_buffer_for_input_output": STATE("use_same_buffer_for_input_output: true"),
    "sequence_batching.state.use_growable_memory": STATE("use_growable_memory: true"),
    "batch_input": 'batch_input { target_name: "Z" source_input: "X" }',
    "batch_output": 'batch_output { target_name: "Z" source_input: "X" }',
    "cc_model_filenames": 'cc_model_filenames { key: "8.0" value: "model.plan" }',
    "model_operations": 'model_operations { op_library_filename: "lib.so" }',
    "model_repository_agents": 'model_repository_agents { agents { name: "checksum" } }',
    "instance_group.secondary_devices": "instance_group { secondary_devices { device_id: 0 } }",
    "instance_group.profile": 'instance_group { profile: "0" }',
    "instance_group.passive": "instance_group { passive: true }",
    "input.is_shape_tensor": 'input { name: "Z" data_type: TYPE_INT32 dims: 1 is_shape_tensor: true }',
    "input.is_non_linear_format_io": 'input { name: "Z" data_type: TYPE_FP32 dims: 1 is_non_linear_format_io: true }',
    "output.is_shape_tensor": 'output { name: "Z" data_type: TYPE_INT32 dims: 1 is_shape_tensor: true }',
    "output.is_non_linear_format_io": 'output { name: "Z" data_type: TYPE_FP32 dims: 1 is_non_linear_format_io: true }',
}
"""For each field that is not followed, a text that sets it."""

Adapt = Callable[..., ModelSource]
NOTHING = Asked("")
ONE = {"min_replicas": 1, "max_replicas": 1}
WARM_UP = "model_warmup {{ name: 'w' inputs {{ key: 'X' value {{ data_type: TYPE_FP32 {} }} }} }}".format


@pytest.fixture
def adapt(tmp_path: Path) -> Adapt:
    """``adapt(config, files=("1/model.onnx",), asked=...)``: what becomes of a model called ``m`` with these files."""

    def make(config: str | None, files: tuple[str, ...] = ("1/model.onnx",), asked: Asked = NOTHING) -> ModelSource:
        for name in files:
            path = tmp_path / "m" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"content of {name}")
        if config is not None:
            (tmp_path / "m" / "config.pbtxt").write_text(config)
        (found,) = TritonRepository.adapt(tmp_path / "m", asked)
        return found

    return make


def entry(model: ModelSource, at: int = -1) -> dict[str, Any]:
    """What the replica's side is told of one of the versions."""
    return json.loads(model.versions[at].files["m.triton"])


def paths(descriptor: Any, prefix: str = "") -> Iterator[str]:
    """Every path that the tables must know: down to the fields that are in one of them."""
    for field in descriptor.fields:
        path = f"{prefix}{field.name}"
        if path in FOLLOWED or path in WARNED or path in REFUSED or field.message_type is None or prefix.count(".") > 3:
            yield path
        else:
            yield from paths(field.message_type, f"{path}.")


def test_every_field_has_one_treatment() -> None:
    """Each field of the published messages is in exactly one of the tables, and they hold nothing else."""
    known = list(paths(MODEL_CONFIG.new().DESCRIPTOR))
    assert sorted(known) == sorted([*FOLLOWED, *WARNED, *REFUSED])


def test_every_field_that_is_not_followed_is_tried_here() -> None:
    """The next two tests look at all of them."""
    assert set(SET) == {*WARNED, *REFUSED}


@pytest.mark.parametrize("path", [path for path in WARNED if not path.startswith("ensemble_scheduling.")])
def test_what_is_not_followed_is_named(adapt: Adapt, path: str) -> None:
    """The model is served, and one sentence names the field with what is the case instead."""
    found = adapt(f'backend: "onnxruntime" {IO} {SET[path]}')
    assert [said for said in found.warnings if f": {path}: " in said] == [f"m/config.pbtxt: {path}: {WARNED[path]}"]


@pytest.mark.parametrize("path", REFUSED)
def test_what_would_make_it_another_model_is_refused(adapt: Adapt, path: str) -> None:
    """Nothing is registered, and the refusal names the field."""
    with pytest.raises(UnsupportedModel, match=rf"^m/config.pbtxt: {path.replace('.', '[.]')}: "):
        adapt(f'backend: "onnxruntime" {IO} {SET[path]}')


def test_defaults_that_are_written_out_are_nothing(adapt: Adapt) -> None:
    """A field that says what is the case anyway needs no word."""
    assert not adapt(f'backend: "onnxruntime" max_batch_size: 0 {IO} instance_group {{ passive: false }}').warnings


@pytest.mark.parametrize(
    ("config", "gpu", "expected"),
    [
        ("", False, {}),
        ("max_batch_size: 8", False, {"batching": {"max_rows": 8}}),
        ("dynamic_batching { max_queue_delay_microseconds: 500 }", False, {"batching": {"max_delay": 0.0005}}),
        ("instance_group { count: 2 } instance_group { kind: KIND_AUTO }", False, {"scale": {"min_replicas": 3, "max_replicas": 3}}),
        ("instance_group { kind: KIND_GPU gpus: 1 }", True, {"scale": ONE, "resources": {"device": "cuda:1"}}),
        ("instance_group { gpus: 0 }", True, {"scale": ONE, "resources": {"device": "cuda:0"}}),
        ("instance_group { kind: KIND_CPU }", True, {"scale": ONE}),
    ],
)  # fmt: skip
def test_settings(config: str, gpu: bool, expected: dict[str, Any]) -> None:
    """Rows, delay, replicas and device become settings of the deployment, which it can have."""
    found, warnings = settings_of(MODEL_CONFIG.parse(config, "config.pbtxt"), "m: ", gpu=gpu)
    assert (found, warnings) == (expected, [])
    parse_spec({"name": "m", "model": "m", **found})


def test_a_gpu_that_is_not_there_is_said() -> None:
    """A model made for a GPU computes on the CPU, and says so; one that leaves it open says how to get it onto the GPU that is there."""
    _, said = settings_of(MODEL_CONFIG.parse("instance_group { kind: KIND_GPU }", ""), "m: ", gpu=False)
    assert said == ["m: instance_group.kind: KIND_GPU, and this machine has no NVIDIA GPU: it computes on the CPU"]
    _, said = settings_of(MODEL_CONFIG.parse("instance_group { count: 1 }", ""), "m: ", gpu=True)
    assert "--device cuda:0" in said[0]


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("instance_group { kind: KIND_GPU gpus: [ 0, 1 ] }", "instance_group.gpus"),
        ("instance_group { kind: KIND_CPU } instance_group { kind: KIND_GPU }", "instance_group.kind"),
        ("instance_group { count: -1 }", "instance_group.count"),
        ("max_batch_size: -1", "max_batch_size"),
        ('name: "other"', "name: 'other'"),
        ('input { name: "X" data_type: TYPE_FP32 dims: 1 } input { name: "X" data_type: TYPE_FP32 dims: 1 }', "input[1].name"),
        ('input { data_type: TYPE_FP32 dims: 1 }', "input[0].name"),
        ('input { name: "X" dims: 1 }', "input[0].data_type"),
        ('input { name: "X" data_type: TYPE_FP32 }', "input[0].dims"),
        ('input { name: "X" data_type: TYPE_FP32 dims: [ 2, 0 ] }', "input[0].dims"),
        ('input { name: "X" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ 3 ] } }', "input[0].reshape.shape"),
        ('input { name: "X" data_type: TYPE_FP32 dims: [ 4 ] reshape { shape: [ -1 ] } }', "input[0].reshape.shape"),
        ('default_model_filename: "other.onnx"', "default_model_filename: version 1 should hold 'other.onnx'"),
        ('default_model_filename: "../1/model.onnx"', "default_model_filename"),
        ("version_policy { specific { versions: 2 } }", "'specific' asks for [2]"),
        ("max_batch_size: 2 model_warmup { name: 'w' batch_size: 3 }", "model_warmup['w'].batch_size"),
        (IO + WARM_UP("dims: 4"), "zero_data"),
        (IO + WARM_UP("dims: -1 zero_data: true"), "dims: [-1]"),
        (IO + WARM_UP("dims: 1 input_data_file: '../x'"), "input_data_file"),
        ("model_transaction_policy { decoupled: true }", "model_transaction_policy.decoupled"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(adapt: Adapt, config: str, words: str) -> None:
    """The refusal names the field with its place."""
    with pytest.raises(PackageError) as caught:
        adapt(f'backend: "onnxruntime" {config}')
    assert words in str(caught.value)
    assert str(caught.value).startswith("m")


@pytest.mark.parametrize(
    ("config", "file", "backend"),
    [
        (None, "model.onnx", "onnxruntime"),
        ('backend: "onnxruntime"', "model.onnx", "onnxruntime"),
        ('platform: "onnxruntime_onnx"', "model.onnx", "onnxruntime"),
        ('default_model_filename: "net.onnx"', "net.onnx", "onnxruntime"),
        (f'platform: "pytorch_libtorch" {IO}', "model.pt", "pytorch"),
        (IO, "model.pt", "pytorch"),
        (None, "model.savedmodel/saved_model.pb", "tensorflow"),
        ('platform: "tensorflow_savedmodel"', "model.savedmodel/saved_model.pb", "tensorflow"),
        (None, "model.py", "python"),
    ],
)
def test_back_ends(adapt: Adapt, config: str | None, file: str, backend: str) -> None:
    """The back end is what the configuration says, else what the version holds."""
    found = entry(adapt(config, (f"1/{file}",)))
    assert (found["backend"], found["file"]) == (backend, f"1/{file.partition('/')[0]}")


@pytest.mark.parametrize(
    ("config", "file", "words"),
    [
        ('backend: "tensorrt"', "model.plan", "backend: 'tensorrt' is not served"),
        ('platform: "tensorflow_graphdef"', "model.graphdef", "platform: 'tensorflow_graphdef' is not served"),
        ('backend: "onnxruntim"', "model.onnx", "did you mean 'onnxruntime'?"),
        ('backend: "python" platform: "onnxruntime_onnx"', "model.py", "platform: 'onnxruntime_onnx' is not of the back end"),
        (None, "model.plan", "backend: it is not set, and version 1 holds ['model.plan']"),
        (None, "model.pt", "input: it is missing, and model.pt does not say it"),
    ],
)
def test_back_ends_that_are_not_served(adapt: Adapt, config: str | None, file: str, words: str) -> None:
    """The refusal says what is served."""
    with pytest.raises(PackageError) as caught:
        adapt(config, (f"1/{file}",))
    assert words in str(caught.value)


def test_parameters_of_back_ends(adapt: Adapt) -> None:
    """Threads become a setting, what is not followed is named, another signature is refused, Python models get all of them."""
    say = 'parameters {{ key: "{}" value {{ string_value: "{}" }} }}'.format
    found = adapt('backend: "onnxruntime"' + say("intra_op_thread_count", 3) + say("execution_mode", 1))
    assert found.settings["resources"] == {"threads": 3}
    assert found.warnings == ("m/config.pbtxt: parameters['execution_mode']: not followed",)
    with pytest.raises(UnsupportedModel, match=r"TF_SIGNATURE_DEF.*only 'serving_default'"):
        adapt('backend: "tensorflow"' + say("TF_SIGNATURE_DEF", "other"), ("1/model.savedmodel/saved_model.pb",))
    found = adapt(f'backend: "python" {IO}' + say("anything", "x"), ("1/model.py",))
    assert not found.warnings
    assert entry(found)["config"]["parameters"] == {"anything": {"string_value": "x"}}


def test_packed_environments_are_refused(adapt: Adapt) -> None:
    """Without its packages a Python model is another; where the user names them, the packed ones are not missed."""
    config = f'backend: "python" {IO} parameters {{ key: "EXECUTION_ENV_PATH" value {{ string_value: "env.tar.gz" }} }}'
    with pytest.raises(UnsupportedModel, match="--requirements"):
        adapt(config, ("1/model.py",))
    assert "EXECUTION_ENV_PATH" in adapt(config, ("1/model.py",), Asked("", requirements=True)).warnings[0]


def test_what_python_models_get(adapt: Adapt) -> None:
    """Files beside the model come along as they lie, requirements become the environment, and the configuration is as Triton hands it."""
    files = ("1/model.py", "1/words.txt", "2/model.py", "shared/table.csv", "requirements.txt", ".git/x", "1/__pycache__/model.pyc")
    found = adapt(f'backend: "python" max_batch_size: 2 {IO} version_policy {{ all {{ }} }} instance_group {{ count: 2 }}', files)
    first, second = found.versions
    assert sorted(first.files) == ["1/model.py", "1/words.txt", "m.triton", "shared/table.csv"]
    assert sorted(second.files) == ["2/model.py", "m.triton", "shared/table.csv"]
    assert (first.requirements, first.number, second.number) == ("content of requirements.txt\n", 1, 2)
    config = entry(found)["config"]
    flags = {"is_shape_tensor": False, "is_non_linear_format_io": False}
    assert config["output"] == [{"name": "Y", "data_type": "TYPE_FP32", "dims": [4], "label_filename": "", **flags}]
    assert (config["max_batch_size"], config["name"]) == (2, "m")


def test_settings_make_no_other_version(adapt: Adapt) -> None:
    """Replicas and delays may change: a package, whose number can stand for one thing only, stays the same."""
    one = adapt(f'backend: "python" {IO}', ("1/model.py",))
    other = adapt(
        f'backend: "python" {IO} instance_group {{ count: 4 }} dynamic_batching {{ max_queue_delay_microseconds: 9 }}',
        ("1/model.py",),
    )
    assert one.versions[0].files["m.triton"] == other.versions[0].files["m.triton"]


def test_versions_that_stay_live(adapt: Adapt) -> None:
    """The newest is deployed, the others that the policy serves stay warm, and the rest are named."""
    files = tuple(f"{number}/model.onnx" for number in (1, 2, 5, "01"))
    found = adapt("version_policy { latest { num_versions: 2 } }", files)
    assert [version.number for version in found.versions] == [2, 5]
    assert found.settings["also"] == [2]
    assert found.warnings == (
        "of the versions there, [1] are left out: the version policy serves [2, 5]",
        "01: not served, since versions are numbered from 1, without leading zeros",
    )


def test_a_model_with_its_weights_beside(adapt: Adapt) -> None:
    """ONNX may be a folder of graph and weights; warm-up data comes along, notes do not."""
    found = adapt('backend: "onnxruntime"', ("1/model.onnx/model.onnx", "1/model.onnx/weights.bin", "warmup/x.bin", "notes.txt"))
    assert sorted(found.versions[0].files) == ["1/model.onnx/model.onnx", "1/model.onnx/weights.bin", "m.triton", "warmup/x.bin"]
    assert entry(found)["file"] == "1/model.onnx/model.onnx"


def test_repositories(tmp_path: Path) -> None:
    """A folder of models is as many models; a folder in it that is none is named; what is no repository is not claimed."""
    for name in ("b", "a"):
        (tmp_path / "r" / name / "1").mkdir(parents=True)
        (tmp_path / "r" / name / "1" / "model.onnx").write_text("x")
    (tmp_path / "r" / "notes").mkdir()
    found = TritonRepository.adapt(tmp_path / "r", Asked(""))
    assert [model.name for model in found] == ["a", "b"]
    assert found[0].warnings == ("notes: no model, so it is left out",)
    assert TritonRepository.claims(tmp_path / "r") and TritonRepository.claims(tmp_path / "r" / "a")
    assert not TritonRepository.claims(tmp_path / "r" / "a" / "1")
    assert not TritonRepository.claims(tmp_path / "r" / "a" / "1" / "model.onnx")
