"""MLflow model folders, written by hand as MLflow writes them: what they become, what is refused, and what is said."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from headgate.errors import EnvironmentFailed, HeadgateError, InvalidRequest, PackageError, UnsupportedModel, UntrustedPickle
from headgate.package.folders.base import ModelSource, VersionSource
from headgate.package.options import Options
from headgate.package.sources import find

COLUMNS = [{"type": "double", "name": "a", "required": True}, {"type": "string", "name": "b", "required": False}]
TENSOR = [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}]
PYFUNC = {"loader_module": "mlflow.sklearn", "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder ``wine`` with an MLmodel."""
    (tmp_path / "wine").mkdir()
    write(tmp_path / "wine")
    return tmp_path / "wine"


def write(folder: Path, inputs: Any = COLUMNS, outputs: Any = None, flavors: Any = None, **more: Any) -> None:
    """Write an MLmodel as MLflow does: the signature is JSON in YAML."""
    signature = {key: json.dumps(value) for key, value in {"inputs": inputs, "outputs": outputs}.items() if value}
    document = {"flavors": flavors or {"python_function": PYFUNC}, "signature": signature or None, "model_uuid": "0", **more}
    (folder / "MLmodel").write_text(yaml.safe_dump(document))


def adapted(folder: Path, **options: Any) -> ModelSource:
    """The one model in ``folder``."""
    said: list[str] = []
    (model,) = find(str(folder), Options(**options), folder.parent / "scratch", said.append)
    return model


def source(folder: Path, **options: Any) -> VersionSource:
    """The one version of the one model in ``folder``."""
    (version,) = adapted(folder, **options).versions
    return version


def test_a_folder_is_loaded_by_mlflow(folder: Path) -> None:
    """All its files go along, under a name that does not depend on where it lay; the model is called after the folder."""
    (folder / "data").mkdir()
    (folder / "data" / "weights.bin").write_bytes(b"x")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "m.pyc").write_bytes(b"x")
    model = adapted(folder)
    (version,) = model.versions
    assert (model.name, model.warnings, version.runtime, version.entry) == ("wine", (), "mlflow", "model")
    assert sorted(version.files) == ["model/MLmodel", "model/data/weights.bin"]
    assert (version.origin, version.requirements, version.runs_code, version.example) == ("mlflow", None, False, None)


def test_requirements_become_the_environment(folder: Path) -> None:
    """Those of requirements.txt, for the Python that python_env.yaml names; --requirements replaces them, conda's part too."""
    (folder / "requirements.txt").write_text("mlflow==3.17.2\nscikit-learn==1.9.1")
    (folder / "python_env.yaml").write_text("python: 3.10.14\nbuild_dependencies: [pip==24, setuptools, wheel==0.40]\n")
    (folder / "conda.yaml").write_text("dependencies: [python=3.10.14, pip<=24, {pip: [mlflow==3.17.2]}]\n")
    version = source(folder)
    assert (version.requirements, version.python) == ("mlflow==3.17.2\nscikit-learn==1.9.1\n", "3.10")
    (folder / "conda.yaml").write_text("dependencies: [libgdal=3.4]\n")
    (folder.parent / "mine.txt").write_text("mlflow\n")
    assert source(folder, requirements=folder.parent / "mine.txt").requirements == "mlflow\n"


def test_an_old_folder_has_its_requirements_in_conda_yaml(folder: Path) -> None:
    """MLflow 1 wrote nothing else; what is pip's of it is taken."""
    (folder / "conda.yaml").write_text("channels: [conda-forge]\ndependencies: [python=3.8.2, pip, {pip: [mlflow, six==1.16]}]\n")
    version = source(folder)
    assert (version.requirements, version.python) == ("mlflow\nsix==1.16\n", "3.8")


@pytest.mark.parametrize(
    ("dependencies", "said"),
    [
        (["python=3.11", "libgdal=3.4"], r"conda.yaml: dependencies\[1\]: 'libgdal=3.4' is a package of conda's"),
        (["conda-forge::numpy=1.2"], r"dependencies\[0\]: 'conda-forge::numpy=1.2'"),
        ([{"pip": ["-e ."]}], "conda.yaml: pip: '-e .': an editable package"),
    ],
)
def test_what_only_conda_installs_is_refused(dependencies: list[Any], said: str, folder: Path) -> None:
    """Environments here are made with pip; the refusal names the entry and the flag that replaces it."""
    (folder / "conda.yaml").write_text(yaml.safe_dump({"dependencies": dependencies}))
    with pytest.raises(EnvironmentFailed, match=said):
        adapted(folder)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("model.pkl", b"x", "model.pkl is a pickle"),
        ("python_model.bin", b"\x80\x05\x95rest", "python_model.bin is a pickle"),
        ("data/model.pth", b"PK\x03\x04", "data/model.pth is a pickle"),
        ("data/model.h5", b"x", "data/model.h5 is a pickle"),
    ],
)
def test_a_pickle_needs_trust(file: str, content: bytes, said: str, folder: Path) -> None:
    """By its ending or by its first bytes; the refusal names the file and the flag. Python source is not hidden, and needs none."""
    (folder / "code").mkdir()
    (folder / "code" / "steps.py").write_text("import os\n")
    assert not source(folder).runs_code
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_bytes(content)
    with pytest.raises(UntrustedPickle, match=f"wine: {said}, and loading it can run any code.*--trust-pickle"):
        adapted(folder)
    assert source(folder, trust_pickle=True).runs_code


@pytest.mark.parametrize(
    ("trusted", "needed"),
    [
        (None, False),
        (["lightgbm.sklearn.LGBMClassifier", "collections.OrderedDict"], False),
        (["lightgbm.basic.Booster", "os.system"], True),
        (["mine.Step"], True),
    ],
)
def test_types_a_skops_file_is_to_trust_are_looked_at(trusted: list[str] | None, needed: bool, folder: Path) -> None:
    """A folder may list types for skops to trust: those of known libraries it may, others are as good as a pickle."""
    write(folder, flavors={"python_function": PYFUNC, "lightgbm": {"skops_trusted_types": trusted, "data": "model.skops"}})
    (folder / "model.skops").write_bytes(b"PK")
    if needed:
        with pytest.raises(UntrustedPickle, match=r"MLmodel asks to trust the type (os\.system|mine\.Step)"):
            adapted(folder)
    assert source(folder, trust_pickle=True).runs_code is needed


def test_onnx_of_tensors_needs_no_mlflow(folder: Path) -> None:
    """Its file is read by the runtime for it, with the answers laid out as MLflow does; not so of a data frame, or with options."""
    onnx = {"data": "model.onnx", "onnx_session_options": None}
    (folder / "model.onnx").write_bytes(b"\x08\x07")
    write(folder, TENSOR, flavors={"python_function": PYFUNC, "onnx": onnx})
    version = source(folder)
    assert (version.runtime, version.entry, sorted(version.files)) == ("onnx", "model.onnx", ["model.onnx"])
    assert version.answers == "columns"
    write(folder, COLUMNS, flavors={"python_function": PYFUNC, "onnx": onnx})
    assert source(folder).runtime == "mlflow"
    options = {**onnx, "onnx_session_options": {"execution_mode": "parallel"}}
    write(folder, TENSOR, flavors={"python_function": PYFUNC, "onnx": options})
    assert source(folder).runtime == "mlflow"


@pytest.mark.parametrize(
    ("flavor", "file", "runtime"), [("tensorflow", "model.keras", "tensorflow"), ("pytorch", "model.pt2", "torch")]
)
def test_one_tensor_in_and_out_needs_no_mlflow(flavor: str, file: str, runtime: str, folder: Path) -> None:
    """Keras models and exported PyTorch programs are read as they are, where the answer is one tensor."""
    (folder / "data").mkdir()
    (folder / "data" / file).write_bytes(b"PK")
    write(folder, TENSOR, TENSOR, flavors={"python_function": PYFUNC, flavor: {"data": "data", "model_data": "data"}})
    version = source(folder)
    assert (version.runtime, version.entry, version.answers, version.runs_code) == (runtime, file, "", False)
    write(folder, TENSOR, TENSOR * 2, flavors={"python_function": PYFUNC, flavor: {"data": "data", "model_data": "data"}})
    assert source(folder).runtime == "mlflow"


def test_a_pickle_inside_an_exported_program_needs_trust(folder: Path) -> None:
    """The runtime that reads the file says what is in it."""
    (folder / "data").mkdir()
    with zipfile.ZipFile(folder / "data" / "model.pt2", "w") as archive:
        archive.writestr("model/data/opaque_obj_0", b"x")
    write(folder, TENSOR, TENSOR, flavors={"python_function": PYFUNC, "pytorch": {"model_data": "data"}})
    with pytest.raises(UntrustedPickle, match=r"wine: model\.pt2 holds a pickle.*--trust-pickle"):
        adapted(folder)
    assert source(folder, trust_pickle=True).runs_code


@pytest.mark.parametrize(
    ("inputs", "body", "about", "example"),
    [
        (
            COLUMNS,
            {"dataframe_split": {"columns": ["a", "b"], "data": [[1.5, "x"], [2, "y"]]}, "params": {"t": 1}},
            {"type": "dataframe"},
            [{"a": 1.5, "b": "x"}, {"a": 2, "b": "y"}],
        ),
        (COLUMNS, {"dataframe_split": {"columns": ["a", "b"], "data": [[1, None]]}}, {"type": "dataframe"}, [{"a": 1}]),
        (COLUMNS, {"columns": ["a", "b"], "data": [[1, "x"]]}, {"type": "dataframe"}, [{"a": 1, "b": "x"}]),
        (TENSOR, {"inputs": [[1, 2], [3, 4]]}, {"type": "ndarray"}, [[1, 2], [3, 4]]),
        (
            [{**TENSOR[0], "name": "x"}, {**TENSOR[0], "name": "y"}],
            {"inputs": {"x": [[1, 2]], "y": [[3, 4]]}},
            {"type": "ndarray"},
            [{"x": [1, 2], "y": [3, 4]}],
        ),
        (
            [{"type": "string", "required": True}],
            {"inputs": ["ab", "cd"]},
            {"type": "json_object"},
            [{"input": "ab"}, {"input": "cd"}],
        ),
        (
            [{"type": "array", "items": {"type": "long"}, "name": "ids"}, {"type": "double", "name": "a"}],
            {"dataframe_split": {"columns": ["ids", "a"], "data": [[[1, 2], 0.5], [[], 1]]}},
            {"type": "dataframe"},
            {
                "inputs": [
                    {"name": "ids", "datatype": "BYTES", "shape": [2], "data": ["[1, 2]", "[]"]},
                    {"name": "a", "datatype": "FP64", "shape": [2], "data": [0.5, 1]},
                ]
            },
        ),
        (
            [{"type": "object", "properties": {}, "name": "q"}],
            {"inputs": {"q": {"text": "x"}}},
            {"type": "json_object"},
            {"inputs": [{"name": "q", "datatype": "BYTES", "shape": [1], "data": ['{"text": "x"}']}]},
        ),
    ],
)
def test_the_input_example_becomes_the_packages(inputs: Any, body: Any, about: Any, example: Any, folder: Path) -> None:
    """In whatever form MLflow wrote it; JSON documents, of columns that nest, as their text."""
    write(folder, inputs, saved_input_example_info={**about, "serving_input_path": "serving.json"})
    (folder / "serving.json").write_text(json.dumps(body))
    found = source(folder).example
    assert found is not None
    assert json.loads(found) == example


def test_what_is_not_honoured_is_said(folder: Path) -> None:
    """A field of Databricks', one nobody knows, streaming, and build tools: each is named with its path."""
    (folder / "python_env.yaml").write_text("build_dependencies: [cython]\n")
    write(folder, flavors={"python_function": {**PYFUNC, "streamable": True}}, resources={"x": 1}, mystery=3)
    warnings = " | ".join(adapted(folder).warnings)
    for said in (
        "MLmodel: resources is not",
        "MLmodel: mystery is not",
        "python_function.streamable",
        "build_dependencies (cython)",
    ):
        assert said in warnings


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("flavors: [", PackageError, "MLmodel, line 1: no YAML"),
        ("flavors: {}\nflavors: {}\n", PackageError, "MLmodel, line 2: no YAML: the key 'flavors' is there twice"),
        ("flavors: 3", PackageError, "MLmodel: flavors: expected the model's flavours"),
        ("flavors: {crate: {}}", UnsupportedModel, "MLmodel: flavors: has crate, and neither python_function"),
        ("flavors: {python_function: {}}\nsignature: {inputs: '['}", PackageError, r"signature\.inputs: expected JSON in a string"),
        ("flavors: {python_function: {}}\nsignature: {inputs: '[3]'}", PackageError, r"signature\.inputs\[0\]: expected an object"),
        ("!!python/object/apply:os.system ['true']", PackageError, "MLmodel, line 1: no YAML"),
        (
            "flavors: {python_function: {}}\nsaved_input_example_info: {artifact_path: gone.json}",
            PackageError,
            "saved_input_example_info: there is no gone.json",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, kind: type[HeadgateError], said: str, folder: Path) -> None:
    """With the field, and nothing else done."""
    (folder / "MLmodel").write_text(text)
    with pytest.raises(kind, match=said):
        adapted(folder)


@pytest.mark.parametrize(
    ("address", "kind", "said"),
    [
        ("models:/wine@champion", InvalidRequest, "MLFLOW_TRACKING_URI: expected the http.s. address.*it is not set"),
        ("runs:/1234/model", InvalidRequest, "MLFLOW_TRACKING_URI"),
        ("s3://bucket/model", UnsupportedModel, "addresses that are fetched here begin with models:/, runs:/"),
    ],
)
def test_an_address_needs_somebody_to_ask(
    address: str, kind: type[HeadgateError], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a tracking server, or of a scheme nobody knows, the refusal says what to set or to do."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(kind, match=said):
        find(address, Options(), tmp_path, lambda _: None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    if kind is InvalidRequest:
        with pytest.raises(InvalidRequest, match=r"it is 'sqlite:///mlflow\.db'"):
            find(address, Options(), tmp_path, lambda _: None)
