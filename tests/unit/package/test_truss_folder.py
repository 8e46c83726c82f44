"""Truss folders: what they become, and a sentence for every key that is not honoured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import EnvironmentFailed, HeadgateError, InvalidRequest, NotFound, PackageError, UnsupportedModel
from headgate.package.folders.base import ModelSource
from headgate.package.folders.truss.keys import _REFUSED, _UNHEEDED, DEFAULTS, NESTED
from headgate.package.options import Options
from headgate.package.sources import find

Adapt = Callable[..., ModelSource]
CLASS = "class Model:\n    def predict(self, model_input):\n        return model_input\n"
INIT = """
build_commands: []
environment_variables: {}
external_package_dirs: []
model_metadata: {}
model_name: My model
python_version: py311
requirements: []
resources:
  accelerator: null
  cpu: '1'
  memory: 2Gi
  use_gpu: false
secrets: {}
system_packages: []
"""
"""What ``truss init`` writes."""


@pytest.fixture
def adapt(tmp_path: Path) -> Adapt:
    """Writes a Truss ``hello`` with that config.yaml, and further files, and returns the one model in it."""

    def go(config: str, files: dict[str, str] | None = None, **options: Any) -> ModelSource:
        folder = tmp_path / "hello"
        for name, text in {"config.yaml": config, "model/model.py": CLASS, **(files or {})}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        (model,) = find(str(folder), Options(**options), tmp_path, lambda _: None)
        return model

    return go


def told(model: ModelSource) -> dict[str, Any]:
    """What the runtime is told."""
    content = model.versions[0].files["truss.json"]
    assert isinstance(content, bytes)
    found: dict[str, Any] = json.loads(content)
    return found


def test_what_truss_init_writes_is_served_without_a_word(adapt: Adapt) -> None:
    """All its keys say what their absence would."""
    model = adapt(INIT)
    (version,) = model.versions
    assert (model.name, model.warnings, dict(model.settings)) == ("My-model", (), {"batching": {"max_rows": 1}})
    assert (version.runtime, version.entry, version.origin) == ("truss", "truss.json", "truss")
    assert (version.requirements, version.python, version.example, version.runs_code) == (None, "3.11", None, False)


def test_files_lie_where_they_do_in_a_running_truss(adapt: Adapt) -> None:
    """The model's folder under its own name, packages with those of other folders, data as ``data``; what is left over stays at home."""
    files = {
        "model/helper.py": "",
        "model/__pycache__/helper.pyc": "",
        "packages/own/__init__.py": "",
        "weights/a.bin": "a",
        "README.md": "",
        "../shared/theirs.py": "",
    }
    model = adapt("data_dir: weights\nexternal_package_dirs: [../shared]\n", files)
    assert sorted(model.versions[0].files) == [
        "config.yaml",
        "data/a.bin",
        "model/helper.py",
        "model/model.py",
        "packages/own/__init__.py",
        "packages/theirs.py",
        "truss.json",
    ]
    assert model.name == "hello"


def test_the_runtime_is_told_what_the_config_says(adapt: Adapt) -> None:
    """Defaults are filled in, as the model expects of its ``config``; variables are text, and true is ``true``."""
    config = """
    model_class_name: Mine
    model_class_filename: mine.py
    environment_variables: {SOME: 3, FLAG: true}
    secrets: {token: null}
    model_metadata: {day: 2024-05-31}
    runtime: {predict_concurrency: 8}
    """
    model = adapt(config.replace("\n    ", "\n"), {"model/mine.py": CLASS.replace("Model", "Mine")})
    found = told(model)
    assert (found["module"], found["class"], found["concurrency"]) == ("model/mine.py", "Mine", 8)
    assert found["environment"] == {"SOME": "3", "FLAG": "true"}
    assert (found["secrets"], found["config"]["secrets"]) == ({"token": None}, {"token": None})
    assert found["config"]["model_metadata"] == {"day": "2024-05-31"}
    assert found["config"]["requirements"] == []
    assert dict(model.settings) == {"batching": {"max_rows": 8}}


def test_requirements_and_what_truss_has_besides(adapt: Adapt) -> None:
    """What the code imports of Truss's own image is added where the model gets an environment of its own; nothing is added without."""
    code = {"model/model.py": f"import requests, numpy\nfrom fastapi import HTTPException\nimport six\n{CLASS}"}
    model = adapt("requirements: [six==1.17.0, 'Requests>=2']\n", code)
    assert model.versions[0].requirements == "six==1.17.0\nRequests>=2\nfastapi\nnumpy\n"
    assert model.warnings == ("config.yaml: requirements: fastapi, numpy added, which the code imports and Truss's own image has",)
    assert adapt("requirements: []\n", code).versions[0].requirements is None
    model = adapt("requirements_file: needs.txt\n", {**code, "needs.txt": "six\nfastapi\nnumpy\nrequests\n"})
    assert (model.versions[0].requirements, model.warnings) == ("six\nfastapi\nnumpy\nrequests\n", ())


@pytest.mark.parametrize(
    ("config", "files", "value"),
    [
        ("", {"examples.yaml": "- name: a\n  input: {x: [1, 2]}\n- name: b\n  input: 3\n"}, {"x": [1, 2]}),
        ("examples_filename: mine.yaml\n", {"mine.yaml": "- {name: a, input: text}\n"}, "text"),
        ("model_metadata: {example_model_input: {prompt: hi}}\n", {"examples.yaml": "[]"}, {"prompt": "hi"}),
    ],
)
def test_the_first_example_is_the_packages(config: str, files: dict[str, str], value: object, adapt: Adapt) -> None:
    """It must run when the model is packaged, and whenever a replica starts."""
    example = json.loads(adapt(config, files).versions[0].example or b"")
    assert [(tensor["name"], tensor["shape"]) for tensor in example["inputs"]] == [("model_input", [1])]
    assert json.loads(example["inputs"][0]["data"][0]) == value


SET: dict[str, str] = {
    "base_image": "base_image: {image: a/b}",
    "bdn": "bdn: {mounts: [{source: x}]}",
    "bis_llm": "bis_llm: {config: {}, version: '1'}",
    "build.arguments": "build: {arguments: {a: 1}}",
    "build.model_server": "build: {model_server: TRT_LLM}",
    "build.secret_to_path_mapping": "build: {secret_to_path_mapping: {a: /b}}",
    "docker_server": "docker_server: {start_command: x}",
    "runtime.egress_restrictions": "runtime: {egress_restrictions: {ip_allow_list: [a]}}",
    "runtime.is_websocket_endpoint": "runtime: {is_websocket_endpoint: true}",
    "runtime.oidc": "runtime: {oidc: {enabled: true}}",
    "runtime.transport.kind": "runtime: {transport: {kind: websocket}}",
    "training_checkpoints": "training_checkpoints: {artifact_references: [{training_job_id: a}]}",
    "trt_llm": "trt_llm: {build: {max_seq_len: 1}}",
}
"""How a key is set that is no list."""


@pytest.mark.parametrize("path", _REFUSED)
def test_a_key_that_changes_the_model_is_refused(path: str, adapt: Adapt) -> None:
    """In a sentence with its path, before anything is packaged; empty, as ``truss init`` writes it, it is no matter."""
    with pytest.raises(UnsupportedModel, match=f"^config.yaml: {path}: {_REFUSED[path][:20]}"):
        adapt(SET.get(path, f"{path}: [something]"))


@pytest.mark.parametrize("path", _UNHEEDED)
def test_a_key_that_makes_no_difference_is_named(path: str, adapt: Adapt) -> None:
    """The model is served, and the warning says what to use instead."""
    *groups, leaf = path.split(".")
    value = {"apply_library_patches": "false", "live_reload": "true", "use_local_src": "true"}.get(leaf, "x1")
    config = f"{leaf}: {value}"
    for group in reversed(groups):
        config = f"{group}: {{{config}}}"
    (warning,) = adapt(config).warnings
    assert warning.startswith(f"config.yaml: {path} (")
    assert warning.endswith(f"is not honoured: {_UNHEEDED[path]}")


def test_every_key_has_a_place() -> None:
    """What is refused or named in a warning is a key that exists; the groups are keys themselves."""
    known = {*DEFAULTS, *(f"{group}.{key}" for group, keys in NESTED.items() for key in keys)}
    assert {*_REFUSED, *_UNHEEDED, *NESTED} <= known


@pytest.mark.parametrize(
    ("config", "files", "kind", "said"),
    [
        ("requirement: [six]", {}, PackageError, "config.yaml: requirement: there is no such key; did you mean 'requirements'?"),
        ("resources: {cpus: 1}", {}, PackageError, "config.yaml: resources.cpus: there is no such key; did you mean 'cpu'?"),
        (
            "runtime: {transport: {knd: x}}",
            {},
            PackageError,
            r"runtime\.transport\.knd: there is no such key; did you mean 'kind'?",
        ),
        ("secrets: {a: null}\nsecrets: {b: null}", {}, PackageError, "line 2: no YAML: the key 'secrets' is there twice"),
        ("requirements: six", {}, PackageError, "requirements: expected a list, got 'six'"),
        ("requirements: [six]\nrequirements_file: r.txt", {}, PackageError, "requirements and requirements_file are both set"),
        ("requirements: ['-e .']", {}, EnvironmentFailed, r"config.yaml: requirements\[0\]: '-e \.': an editable package"),
        ("requirements_file: uv.lock", {}, UnsupportedModel, "requirements_file: uv.lock is not read here.*uv export"),
        ("python_version: '3.11'", {}, PackageError, "python_version: expected py311"),
        ("runtime: {predict_concurrency: 0}", {}, PackageError, "runtime.predict_concurrency: expected a whole number"),
        ("model_class_filename: modle.py", {}, NotFound, "there is no model/modle.py.*did you mean 'model.py'"),
        ("external_package_dirs: [nowhere]", {}, NotFound, "external_package_dirs: there is no folder"),
        ("", {"examples.yaml": "name: a"}, PackageError, "examples.yaml: expected a list of examples"),
        ("", {"model/model.py": "class Model(:"}, UnsupportedModel, "model.py: not Python"),
        ("model_name: x", {}, InvalidRequest, "--name: expected 1 to 128"),
    ],
)
def test_what_makes_no_sense_is_refused(
    config: str, files: dict[str, str], kind: type[HeadgateError], said: str, adapt: Adapt
) -> None:
    """With the path of the key, and the likely spelling."""
    options = {"name": "bad name"} if "--name" in said else {}
    with pytest.raises(kind, match=said):
        adapt(config, files, **options)


def test_what_the_code_has_and_nobody_calls_is_said(adapt: Adapt) -> None:
    """Methods of Truss's other paths, secrets that would stay in the package, and a list of files to leave out."""
    code = CLASS + "    async def chat_completions(self, x): ...\n    def setup_environment(self, environment): ...\n"
    model = adapt("secrets: {token: abc, other: null}", {"model/model.py": code, ".truss_ignore": "x"})
    assert [warning.partition(" is not")[0].partition(" has a")[0] for warning in model.warnings] == [
        "config.yaml: secrets.token",
        "model.py: Model.chat_completions",
        "model.py: Model.setup_environment",
        ".truss_ignore",
    ]


def test_a_yml_is_told_from_a_yaml(tmp_path: Path) -> None:
    """Truss reads config.yaml alone, and so does Headgate; the refusal says to rename it."""
    (tmp_path / "t" / "model").mkdir(parents=True)
    (tmp_path / "t" / "model" / "model.py").write_text(CLASS)
    (tmp_path / "t" / "config.yml").write_text("model_name: x")
    with pytest.raises(UnsupportedModel, match=r"config\.yml: a Truss is described by config\.yaml; rename it"):
        find(str(tmp_path / "t"), Options(), tmp_path, lambda _: None)
