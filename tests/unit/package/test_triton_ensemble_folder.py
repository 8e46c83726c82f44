"""Ensembles of Triton repositories: the steps are put in order, and everything a package needs is gathered, without loading a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import PackageError, UnsupportedModel
from headgate.package.folders.base import Asked, ModelSource
from headgate.package.folders.triton import TritonRepository

HEAD = """
platform: "ensemble"
max_batch_size: 8
input [ { name: "RAW" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "SCORE" data_type: TYPE_FP32 dims: [ 3 ] } ]
"""
IO = """
input [ { name: "X" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] } ]
"""
PYTHON = f'backend: "python" max_batch_size: 8 {IO}'
ONNX = f'backend: "onnxruntime" max_batch_size: 8 {IO}'
NOTHING = Asked("")

Repository = Callable[..., Path]
Step = tuple[str, dict[str, str], dict[str, str]]


def step(model: str, inputs: dict[str, str], outputs: dict[str, str], more: str = "model_version: -1") -> str:
    """One step, as text."""
    maps = "".join(f'input_map {{ key: "{key}" value: "{value}" }} ' for key, value in inputs.items())
    maps += "".join(f'output_map {{ key: "{key}" value: "{value}" }} ' for key, value in outputs.items())
    return f'step {{ model_name: "{model}" {more} {maps} }} '


def ensemble(*steps: str, head: str = HEAD) -> str:
    """A whole configuration."""
    return f"{head} ensemble_scheduling {{ {' '.join(steps)} }}"


TWO = (step("scale", {"X": "RAW"}, {"Y": "scaled"}), step("score", {"X": "scaled"}, {"Y": "SCORE"}))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """``repository({model: {file: text}})``: a repository with ``scale`` (Python), ``score`` (ONNX) and what else is given."""

    def make(models: dict[str, dict[str, str]] | None = None) -> Path:
        own = {
            "scale": {"config.pbtxt": PYTHON, "1/model.py": "code", "1/words.py": "words"},
            "score": {"config.pbtxt": ONNX, "1/model.onnx": "one", "2/model.onnx": "two"},
        }
        for model in {**own, **(models or {})}:
            for name, text in {**own.get(model, {}), **(models or {}).get(model, {})}.items():
                path = tmp_path / "r" / model / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        return tmp_path / "r"

    return make


def adapted(folder: Path, asked: Asked = NOTHING) -> ModelSource:
    """What becomes of one model."""
    (found,) = TritonRepository.adapt(folder, asked)
    return found


def entry(model: ModelSource, path: str = "") -> dict[str, Any]:
    """What the replica's side is told of a model of the package; of the ensemble itself without a path."""
    content = model.versions[-1].files[path or model.versions[-1].entry]
    assert isinstance(content, bytes)
    told: dict[str, Any] = json.loads(content)
    return told


def refusal(folder: Path) -> str:
    """The text of the refusal of a model."""
    with pytest.raises(PackageError) as caught:
        adapted(folder)
    return str(caught.value)


def test_the_package_holds_every_model(repository: Repository) -> None:
    """Each model lies in a folder of its name as in a package of its own, and the entry tells the steps; the version may lack a folder."""
    found = adapted(repository({"pipe": {"config.pbtxt": ensemble(*TWO)}}) / "pipe")
    (version,) = found.versions
    assert sorted(version.files) == [
        "pipe.triton", "scale/1.triton", "scale/1/model.py", "scale/1/words.py", "score/2.triton", "score/2/model.onnx",
    ]  # fmt: skip
    told = entry(found)
    assert (told["backend"], told["runtime"], told["max_batch_size"], told["version"]) == ("ensemble", "triton", 8, 1)
    assert told["steps"] == [
        {"field": "ensemble_scheduling.step[0]", "model": "scale", "entry": "scale/1.triton",
         "input_map": {"X": "RAW"}, "output_map": {"Y": "scaled"}},
        {"field": "ensemble_scheduling.step[1]", "model": "score", "entry": "score/2.triton",
         "input_map": {"X": "scaled"}, "output_map": {"Y": "SCORE"}},
    ]  # fmt: skip
    assert entry(found, "score/2.triton")["file"] == "2/model.onnx"
    assert (version.runtime, version.origin, version.entry) == ("triton", "triton", "pipe.triton")
    assert found.settings == {"batching": {"max_rows": 8}, "also": []}
    assert found.warnings == ("score: of the versions there, [1] are left out: the version policy serves [2]",)


def test_in_a_repository_each_model_is_also_served_by_itself(repository: Repository) -> None:
    """The models of the steps are what they are without the ensemble; what is said of them is said once."""
    models = TritonRepository.adapt(repository({"pipe": {"config.pbtxt": ensemble(*TWO), "1/.gitkeep": ""}}), NOTHING)
    assert [model.name for model in models] == ["pipe", "scale", "score"]
    assert sorted(models[2].versions[0].files) == ["2/model.onnx", "score.triton"]
    assert (models[0].warnings, len(models[2].warnings)) == ((), 1)


def test_the_number_of_an_ensemble_is_its_own_where_it_has_one(repository: Repository) -> None:
    """Version 1 is the next number, since its content follows that of its models; any other number is kept."""
    folder = repository(
        {"pipe": {"config.pbtxt": ensemble(*TWO), "1/.gitkeep": ""}, "late": {"config.pbtxt": ensemble(*TWO), "7/x": ""}}
    )
    assert [adapted(folder / name).versions[0].number for name in ("pipe", "late")] == [None, 7]
    assert "7/x" not in adapted(folder / "late").versions[0].files
    assert "7: an ensemble has no files of its own, so what lies there is left out" in adapted(folder / "late").warnings
    assert not [said for said in adapted(folder / "pipe").warnings if "left out" in said and "score" not in said]


def test_steps_run_when_what_they_take_is_there(repository: Repository) -> None:
    """Whatever the order of declaration; steps that could run at the same time stay in that order."""
    steps = (
        step("score", {"X": "c"}, {"Y": "SCORE"}),
        step("score", {"X": "a"}, {"Y": "b"}, ""),
        step("scale", {"X": "b"}, {"Y": "c"}),
        step("scale", {"X": "RAW"}, {"Y": "a"}),
    )
    found = adapted(repository({"pipe": {"config.pbtxt": ensemble(*steps)}}) / "pipe")
    assert [told["field"][-2] for told in entry(found)["steps"]] == ["3", "1", "2", "0"]


def test_versions_by_number(repository: Repository) -> None:
    """A step names a version of those that are served; two versions of one model share what lies beside them."""
    steps = (
        step("score", {"X": "RAW"}, {"Y": "s"}, "model_version: 1"),
        step("score", {"X": "s"}, {"Y": "SCORE"}, "model_version: 2"),
    )
    files = {"config.pbtxt": ONNX + "version_policy { all { } }", "labels.txt": "a"}
    folder = repository({"pipe": {"config.pbtxt": ensemble(*steps)}, "score": files})
    assert [told["entry"] for told in entry(adapted(folder / "pipe"))["steps"]] == ["score/1.triton", "score/2.triton"]
    (folder / "score" / "config.pbtxt").write_text(ONNX)
    words = refusal(folder / "pipe")
    assert "pipe/config.pbtxt: ensemble_scheduling.step[0].model_version: 'score' does not serve version 1, but [2]" in words


def test_an_ensemble_in_an_ensemble(repository: Repository) -> None:
    """It lies in the package with the models of its own steps."""
    inner = ensemble(step("scale", {"X": "IN"}, {"Y": "OUT"}), head=HEAD.replace("RAW", "IN").replace("SCORE", "OUT"))
    outer = ensemble(step("inner", {"IN": "RAW"}, {"OUT": "mid"}), step("score", {"X": "mid"}, {"Y": "SCORE"}))
    found = adapted(repository({"inner": {"config.pbtxt": inner}, "outer": {"config.pbtxt": outer}}) / "outer")
    assert {"inner/1.triton", "inner/scale/1.triton", "inner/scale/1/model.py", "score/2/model.onnx"} < found.versions[
        0
    ].files.keys()
    assert entry(found, "inner/1.triton")["steps"][0]["entry"] == "scale/1.triton"


def test_an_ensemble_of_itself(repository: Repository) -> None:
    """Is refused with the whole circle."""
    turn = {name: {"config.pbtxt": ensemble(step(other, {"X": "RAW"}, {"Y": "SCORE"}))} for name, other in (("a", "b"), ("b", "a"))}
    assert "b/config.pbtxt: ensemble_scheduling.step[0].model_name: 'a' would be a step of itself (a of b of a)" in refusal(
        repository(turn) / "a"
    )


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([], "ensemble_scheduling.step: there is none"),
        (["step { }"], "step[0].model_name: it is missing"),
        ([step("scale", {}, {"Y": "SCORE"})], "step[0].input_map: it is missing"),
        ([step("scale", {"X": "RAW"}, {})], "step[0].output_map: it is missing"),
        ([step("scale", {"X": ""}, {"Y": "SCORE"})], "step[0].input_map['X']: a name is missing"),
        ([step("scale", {"X": "RAW"}, {"Y": "SCORE"}, "model_version: -2")], "step[0].model_version: expected a version, or -1"),
        ([step("scal", {"X": "RAW"}, {"Y": "SCORE"})], "step[0].model_name: there is no model 'scal' beside 'pipe'; did you mean 'scale'?"),
        ([step("../r/scale", {"X": "RAW"}, {"Y": "SCORE"})], "step[0].model_name: there is no model '../r/scale'"),
        ([step("scale", {"X": "RAWW"}, {"Y": "SCORE"})], "step[0].input_map['X']: no input or step gives 'RAWW'; did you mean 'RAW'?"),
        ([step("scale", {"X": "RAW"}, {"Y": "SCOR"})], "output[0].name: no step gives 'SCORE'; did you mean 'SCOR'?"),
        ([step("scale", {"X": "RAW"}, {"Y": "RAW"})], "step[0].output_map['Y']: 'RAW' is there already: it comes with the request"),
        (
            [step("scale", {"X": "RAW"}, {"Y": "SCORE"}), step("score", {"X": "RAW"}, {"Y": "SCORE"})],
            "step[1].output_map['Y']: 'SCORE' is there already: ensemble_scheduling.step[0] (scale) gives it",
        ),
        (
            [step("scale", {"X": "RAW"}, {"Y": "SCORE"}), step("score", {"X": "RAW"}, {"Y": "rest"})],
            "step[1].output_map['Y']: nobody takes 'rest'",
        ),
        (
            [step("scale", {"X": "a"}, {"Y": "b"}), step("score", {"X": "b"}, {"Y": "a"}), step("score", {"X": "RAW"}, {"Y": "SCORE"})],
            "step[0].input_map: step[0] (scale) waits for step[1] (score) waits for step[0] (scale), so none of them can be first",
        ),
        (
            [step("score", {"X": "RAW", "Z": "b"}, {"Y": "SCORE"}), step("scale", {"X": "b"}, {"Y": "b"})],
            "step[1].input_map: step[1] (scale) waits for step[1] (scale)",
        ),
        (
            [step("scale", {"X": "a"}, {"Y": "SCORE"}), step("score", {"X": "SCORE"}, {"Y": "a"})],
            "input[0].name: no step takes 'RAW'",
        ),
    ],
)  # fmt: skip
def test_steps_that_do_not_fit_together(repository: Repository, steps: list[str], words: str) -> None:
    """The refusal names the file, the step and its field, and where there is one the likely spelling."""
    said = refusal(repository({"pipe": {"config.pbtxt": ensemble(*steps)}}) / "pipe")
    assert said.startswith("pipe/config.pbtxt: ") and words in said


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (f'platform: "ensemble" {IO}', "ensemble_scheduling: it is missing"),
        (
            ensemble(*TWO, head=HEAD.replace('"ensemble"', '"onnxruntime_onnx"')),
            "platform: 'onnxruntime_onnx', and ensemble_scheduling",
        ),
        (ensemble(*TWO) + 'backend: "python"', "backend: 'python', and ensemble_scheduling makes it an ensemble"),
        (ensemble(*TWO) + 'model_warmup { name: "w" }', "model_warmup: an ensemble has none"),
        (ensemble(*TWO) + "model_transaction_policy { decoupled: true }", "model_transaction_policy.decoupled"),
        (ensemble(*TWO, head='platform: "ensemble"'), "no input or step gives 'RAW'"),
        (ensemble(*TWO).replace("max_batch_size: 8", "max_batch_size: -1"), "max_batch_size"),
        (
            ensemble(*TWO).replace("ensemble_scheduling {", 'ensemble_scheduling { step { model_namespace: "n" }'),
            "ensemble_scheduling.step.model_namespace: there is one repository",
        ),
    ],
)
def test_half_an_ensemble(repository: Repository, config: str, words: str) -> None:
    """A configuration that is an ensemble and something else, or lacks what makes it one, is refused by the field."""
    assert words in refusal(repository({"pipe": {"config.pbtxt": config}}) / "pipe")


@pytest.mark.parametrize("head", [HEAD.replace('platform: "ensemble"', ""), HEAD.replace("platform", "backend")])
def test_the_steps_make_it_an_ensemble(repository: Repository, head: str) -> None:
    """Whether or not the platform says so, too."""
    assert entry(adapted(repository({"pipe": {"config.pbtxt": ensemble(*TWO, head=head)}}) / "pipe"))["backend"] == "ensemble"


def test_what_is_shown_of_the_configuration(repository: Repository) -> None:
    """The steps, as they are declared."""
    config = ensemble(*reversed(TWO))
    shown = adapted(repository({"pipe": {"config.pbtxt": config}}) / "pipe").versions[0].config["ensemble_scheduling"]["step"]
    assert [(told["model_name"], told["model_version"], told["input_map"]) for told in shown] == [
        ("score", -1, {"X": "scaled"}), ("scale", -1, {"X": "RAW"}),
    ]  # fmt: skip


def test_a_limit_of_requests_in_flight_is_named(repository: Repository) -> None:
    """It is not followed, and a sentence says what is the case."""
    config = ensemble(*TWO, "max_inflight_requests: 4")
    said = adapted(repository({"pipe": {"config.pbtxt": config}}) / "pipe").warnings
    assert said[0].startswith("pipe/config.pbtxt: ensemble_scheduling.max_inflight_requests: ")


def test_requirements_are_put_together(repository: Repository) -> None:
    """One environment holds what all Python models need, each line once, and what loads the models of a framework."""
    files = {"config.pbtxt": PYTHON, "1/model.py": "code", "requirements.txt": "numpy>=1.26\nattrs\n"}
    other = {**files, "requirements.txt": "numpy>=1.26\nmsgspec\n"}
    steps = (
        step("scale", {"X": "RAW"}, {"Y": "a"}),
        step("also", {"X": "a"}, {"Y": "b"}),
        step("score", {"X": "b"}, {"Y": "SCORE"}),
    )
    folder = repository({"scale": files, "also": other, "pipe": {"config.pbtxt": ensemble(*steps)}})
    found = adapted(folder / "pipe")
    text = found.versions[0].requirements
    assert text is not None
    assert (
        "pipe/config.pbtxt: ensemble_scheduling: one environment has what scale and also require, for all steps" in found.warnings
    )
    lines = text.splitlines()
    assert lines[:3] == ["numpy>=1.26", "attrs", "msgspec"]
    assert any(line.startswith("onnxruntime") for line in lines[3:]) and not any("torch" in line for line in lines)
    assert adapted(folder / "pipe", Asked("", requirements=True)).versions[0].requirements is None


def test_without_requirements_the_servers_python_runs_it(repository: Repository) -> None:
    """As with any model."""
    assert adapted(repository({"pipe": {"config.pbtxt": ensemble(*TWO)}}) / "pipe").versions[0].requirements is None


def test_what_models_ask_of_their_own_deployments(repository: Repository) -> None:
    """Replicas, delays and threads are not the ensemble's, and that is said; what the ensemble asks for itself is done."""
    own = "instance_group { count: 3 } dynamic_batching { max_queue_delay_microseconds: 5 }"
    threads = 'parameters { key: "intra_op_thread_count" value { string_value: "2" } }'
    models = {
        "scale": {"config.pbtxt": PYTHON + own, "1/model.py": ""},
        "score": {"config.pbtxt": ONNX + threads},
        "pipe": {"config.pbtxt": ensemble(*TWO) + "instance_group { count: 2 }"},
    }
    found = adapted(repository(models) / "pipe")
    assert found.settings["scale"] == {"min_replicas": 2, "max_replicas": 2} and "resources" not in found.settings
    assert [said.partition(": ")[2] for said in found.warnings if "by itself" in said] == [
        "scale: instance_group and dynamic_batching: only where it is called by itself; the ensemble goes by flags of its own",
        "score: intra_op_thread_count: only where it is called by itself; the ensemble goes by flags of its own",
    ]


def test_one_device_for_all_steps(repository: Repository, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where a model asks for a GPU, the ensemble computes there; two of them are one too many, and that is said."""
    monkeypatch.setattr("headgate.package.folders.triton.settings._NVIDIA", tmp_path)
    group = "instance_group {{ kind: KIND_GPU gpus: {} }}".format
    models = {
        "scale": {"config.pbtxt": PYTHON},
        "score": {"config.pbtxt": ONNX + group(1)},
        "pipe": {"config.pbtxt": ensemble(*TWO)},
    }
    found = adapted(repository(models) / "pipe")
    assert found.settings["resources"] == {"device": "cuda:1"}
    assert not [said for said in found.warnings if "device" in said]
    found = adapted(repository({**models, "scale": {"config.pbtxt": PYTHON + group(0)}}) / "pipe")
    assert found.settings["resources"] == {"device": "cuda:0"}
    assert "one device computes all steps, and its models ask for ['cuda:0', 'cuda:1']" in found.warnings[-1]
    own = ensemble(*TWO) + group(3)
    assert adapted(repository({**models, "pipe": {"config.pbtxt": own}}) / "pipe").settings["resources"] == {"device": "cuda:3"}


def test_settings_of_a_model_make_no_other_package(repository: Repository) -> None:
    """As with any model of a repository."""
    folder = repository({"pipe": {"config.pbtxt": ensemble(*TWO)}})
    before = adapted(folder / "pipe").versions[0].files
    (folder / "scale" / "config.pbtxt").write_text(PYTHON + "instance_group { count: 3 }")
    assert adapted(folder / "pipe").versions[0].files == before


def test_labels(repository: Repository) -> None:
    """A line of the file is the name of a class; the file is in the package, so that another file makes another one."""
    config = ONNX.replace('"Y" data_type', '"Y" label_filename: "names.txt" data_type')
    folder = repository({"score": {"config.pbtxt": config, "names.txt": "cat\r\n\nzwölf: dogs\n"}})
    found = adapted(folder / "score").versions[0]
    assert found.labels == {"Y": ("cat", "", "zwölf: dogs")} and found.files["names.txt"] == folder / "score" / "names.txt"


def test_labels_of_an_ensemble(repository: Repository) -> None:
    """They are those of the model that gives the output, unless the ensemble has its own."""
    config = ONNX.replace('"Y" data_type', '"Y" label_filename: "names.txt" data_type')
    folder = repository({"pipe": {"config.pbtxt": ensemble(*TWO)}, "score": {"config.pbtxt": config, "names.txt": "a\nb"}})
    found = adapted(folder / "pipe").versions[0]
    assert found.labels["SCORE"] == ("a", "b") and "score/names.txt" in found.files
    (folder / "pipe" / "own.txt").write_text("c")
    (folder / "pipe" / "config.pbtxt").write_text(ensemble(*TWO).replace('"SCORE" data', '"SCORE" label_filename: "own.txt" data'))
    found = adapted(folder / "pipe").versions[0]
    assert found.labels["SCORE"] == ("c",) and "own.txt" in found.files


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.txt", None, "output[0].label_filename: there is no file 'none.txt' in score"),
        ("../scale/1/words.py", None, "output[0].label_filename: expected a file in the model's folder"),
        ("big.txt", b"x" * (1 << 20) + b"x", "output[0].label_filename: 'big.txt' is larger than 1 MiB"),
        ("odd.txt", b"\xff\xfe", "odd.txt: not UTF-8 text"),
    ],
)
def test_labels_that_are_none(repository: Repository, name: str, content: bytes | None, words: str) -> None:
    """A file that is not there, lies elsewhere, is too large or no text is refused by the field."""
    folder = repository({"score": {"config.pbtxt": ONNX.replace('"Y" data_type', f'"Y" label_filename: "{name}" data_type')}})
    if content is not None:
        (folder / "score" / name).write_bytes(content)
    assert words in refusal(folder / "score")


def test_ensembles_are_no_framework_of_their_own(repository: Repository) -> None:
    """A platform that is not known is still told what is served."""
    with pytest.raises(UnsupportedModel, match="platform: 'ensembl' is not served"):
        adapted(repository({"pipe": {"config.pbtxt": 'platform: "ensembl"', "1/model.onnx": "x"}}) / "pipe")
