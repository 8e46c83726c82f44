"""What TensorFlow Serving serves: numbered SavedModels in a folder, and the file that lists several models."""

from __future__ import annotations

from pathlib import Path

import pytest

from headgate.errors import HeadgateError, PackageError, UnsupportedModel
from headgate.package.folders.base import Asked
from headgate.package.folders.tfserving import TensorFlowServing
from headgate.package.folders.triton import TritonRepository
from headgate.spec import parse_spec


def save(base: Path, *numbers: object, graph: str = "saved_model.pb") -> Path:
    """Write what looks like SavedModels of these versions."""
    for number in numbers:
        (base / str(number) / "variables").mkdir(parents=True)
        (base / str(number) / graph).write_text(f"graph {number}")
        (base / str(number) / "variables" / "variables.index").write_text("weights")
    return base


def config(folder: Path, text: str) -> Path:
    """Write a list of models."""
    path = folder / "models.config"
    path.write_text(text)
    return path


def test_a_model_and_its_versions(tmp_path: Path) -> None:
    """The newest version is served under its own number, with every file of it."""
    base = save(tmp_path / "half", 1, 123)
    (found,) = TensorFlowServing.adapt(base, Asked(""))
    (version,) = found.versions
    assert (found.name, version.number, version.origin, version.runtime) == ("half", 123, "tfserving", "tensorflow")
    assert version.note == str(base / "123"), "where it was registered from, which a client that names it is held to"
    assert version.files == {
        "saved_model/saved_model.pb": base / "123" / "saved_model.pb",
        "saved_model/variables/variables.index": base / "123" / "variables" / "variables.index",
    }
    assert found.settings == {"also": []}
    assert found.warnings == ("of the versions there, [1] are left out: the version policy serves [123]",)


def test_a_folder_of_models(tmp_path: Path) -> None:
    """Every folder with numbered SavedModels is a model; a graph in text is one, too."""
    save(tmp_path / "b", 1)
    save(tmp_path / "a", 2, graph="saved_model.pbtxt")
    (tmp_path / "notes").mkdir()
    assert [model.name for model in TensorFlowServing.adapt(tmp_path, Asked(""))] == ["a", "b"]


def test_a_list_of_models(tmp_path: Path) -> None:
    """Names, folders, policies and labels are those of the file; a relative folder begins where the file lies."""
    save(tmp_path / "x", 1, 2, 3)
    save(tmp_path / "deep" / "y", 7)
    path = config(
        tmp_path,
        f"""
        # two models
        model_config_list {{
          config {{
            name: "first" base_path: "{tmp_path}/x" model_platform: "tensorflow"
            model_version_policy {{ specific {{ versions: 3 versions: 1 }} }}
            version_labels {{ key: "stable" value: 1 }} version_labels {{ key: "canary" value: 3 }}
          }}
          config {{ name: "second" base_path: "deep/y" model_type: TENSORFLOW logging_config {{ }} }}
        }}""",
    )
    first, second = TensorFlowServing.adapt(path, Asked(""))
    assert [version.number for version in first.versions] == [1, 3]
    assert (first.settings, first.aliases) == ({"also": [1]}, {"stable": 1, "canary": 3})
    assert (second.name, second.versions[0].number) == ("second", 7)
    assert "model_config_list.config[1].logging_config" in second.warnings[0]
    parse_spec({"name": "first", "model": "first@3", **first.settings})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no config"),
        ("config { nmae: 'x' }", "ModelConfig has no field 'nmae'; did you mean 'name'?"),
        ("config { base_path: 'x' }", "config[0].name"),
        ("config { name: 'a/b' base_path: 'x' }", "config[0].name"),
        ("config { name: 'x' }", "config[0].base_path"),
        ("config { name: 'x' base_path: 'nowhere' }", "config[0].base_path: there is no folder"),
        ("config { name: 'x' base_path: 'gs://bucket/x' }", "config[0].base_path: 'gs://bucket/x' lies elsewhere"),
        ("config { name: 'x' base_path: 'x' } config { name: 'x' base_path: 'x' }", "config[1].name: 'x' is there twice"),
        ("config { name: 'x' base_path: 'x' model_platform: 'scann' }", "config[0].model_platform"),
        ("config { name: 'x' base_path: 'x' model_type: OTHER }", "config[0].model_type"),
        ("config { name: 'x' base_path: 'x' version_labels { key: 'canary' value: 1 } }", "version_labels: 'canary' is version 1"),
        ("config { name: 'x' base_path: 'x' version_labels { key: '7' value: 2 } }", "version_labels: '7' is a number"),
        ("config { name: 'x' base_path: 'x' version_labels { key: 'a b' value: 2 } }", "version_labels: expected"),
        ("config { name: 'x' base_path: 'x' model_version_policy { specific { versions: 9 } } }", "asks for [9]"),
        ("config { name: 'x' base_path: 'empty' }", "there is no version in it"),
        ("config { name: 'x' base_path: 'broken' }", "there is no saved_model.pb in it"),
    ],
)
def test_lists_that_make_no_sense(tmp_path: Path, text: str, words: str) -> None:
    """The refusal names the field with its place, and nothing is served half."""
    save(tmp_path / "x", 1, 2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken" / "1").mkdir(parents=True)
    with pytest.raises(HeadgateError) as caught:
        TensorFlowServing.adapt(config(tmp_path, f"model_config_list {{ {text} }}"), Asked(""))
    assert words in str(caught.value)


def test_what_is_claimed(tmp_path: Path) -> None:
    """Folders with numbered SavedModels, folders of such, and text with a model_config_list; not a SavedModel, nor Triton's layout."""
    base = save(tmp_path / "r" / "half", 1)
    assert TensorFlowServing.claims(base) and TensorFlowServing.claims(base.parent)
    assert (
        not TensorFlowServing.claims(base / "1") and not TritonRepository.claims(base) and not TritonRepository.claims(base.parent)
    )
    save(tmp_path / "t" / "m" / "1", 0).joinpath("0").rename(tmp_path / "t" / "m" / "1" / "model.savedmodel")
    assert TritonRepository.claims(tmp_path / "t") and not TensorFlowServing.claims(tmp_path / "t")
    path = config(tmp_path, "# long\n" * 3000 + "model_config_list: { }")
    assert TensorFlowServing.claims(path)
    path.write_bytes(b"model_config_list\0")
    assert not TensorFlowServing.claims(path)
    assert not TensorFlowServing.claims(tmp_path / "nowhere")


def test_warm_up_records_and_odd_numbers_are_named(tmp_path: Path) -> None:
    """What is not done is said: records that would be run, folders that look like versions."""
    base = save(tmp_path / "half", 3, "00000007", 0)
    (base / "00000007" / "assets.extra").mkdir()
    (base / "00000007" / "assets.extra" / "tf_serving_warmup_requests").write_text("records")
    (found,) = TensorFlowServing.adapt(base, Asked(""))
    assert found.versions[0].number == 7
    assert found.warnings == (
        "of the versions there, [3] are left out: the version policy serves [7]",
        "0: not served, since versions are numbered from 1",
        "00000007/assets.extra/tf_serving_warmup_requests: not run",
    )


def test_refusals_are_of_their_kind(tmp_path: Path) -> None:
    """What cannot be served is told from what is wrong."""
    save(tmp_path / "x", 1)
    with pytest.raises(UnsupportedModel):
        TensorFlowServing.adapt(config(tmp_path, "model_config_list { config { name: 'x' base_path: 's3://x' } }"), Asked(""))
    with pytest.raises(PackageError):
        TensorFlowServing.adapt(config(tmp_path, "model_config_list { config { name: 'x' base_path: 'y' } }"), Asked(""))
