"""``sequence_batching`` of a Triton repository: what the replica's side is told, and what the deployment is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headgate.errors import PackageError
from headgate.package.folders.base import Asked, ModelSource
from headgate.package.folders.triton import TritonRepository
from headgate.spec import parse_spec

IO = """
max_batch_size: 4
input [ { name: "X" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "Y" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""
STATE = "state {{ input_name: 'S' output_name: 'T' data_type: TYPE_FP32 dims: [ -1, 2 ] {} }}".format
INITIAL = "initial_state {{ name: 'i' data_type: TYPE_FP32 dims: [ 3, 2 ] {} }}".format
CONTROL = "control_input {{ name: '{}' control {{ kind: CONTROL_SEQUENCE_{} {} }} }}".format
FILES = {"onnxruntime": "model.onnx", "pytorch": "model.pt", "tensorflow": "model.savedmodel/saved_model.pb", "python": "model.py"}

Adapt = Callable[..., ModelSource]


@pytest.fixture
def adapt(tmp_path: Path) -> Adapt:
    """``adapt(batching, backend=..., more=...)``: what becomes of a model ``m`` with this in its ``sequence_batching``."""

    def make(batching: str, backend: str = "onnxruntime", more: str = IO) -> ModelSource:
        folder = tmp_path / "m"
        for name in (f"1/{FILES[backend]}", "initial_state/first"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("x")
        (folder / "config.pbtxt").write_text(f'backend: "{backend}" {more} sequence_batching {{ {batching} }}')
        (found,) = TritonRepository.adapt(folder, Asked(""))
        return found

    return make


def told(model: ModelSource) -> dict[str, Any]:
    """What the replica's side is told of sequences."""
    fields: dict[str, Any] = json.loads(model.versions[0].files["m.triton"])["sequence"]
    return fields


def test_controls(adapt: Adapt) -> None:
    """Every kind with its dtype and values, in the order of the file."""
    found = told(
        adapt(
            CONTROL("START", "START", "fp32_false_true: [ 0, 0.5 ]")
            + CONTROL("END", "END", "int32_false_true: [ 7, -7 ]")
            + CONTROL("READY", "READY", "bool_false_true: [ false, true ]")
            + CONTROL("ID", "CORRID", "data_type: TYPE_STRING")
        )
    )
    assert found["controls"] == [
        {"name": "START", "kind": "start", "dtype": "FP32", "values": [0.0, 0.5]},
        {"name": "END", "kind": "end", "dtype": "INT32", "values": [7, -7]},
        {"name": "READY", "kind": "ready", "dtype": "BOOL", "values": [False, True]},
        {"name": "ID", "kind": "id", "dtype": "BYTES", "values": []},
    ]


@pytest.mark.parametrize(
    ("initial", "first"),
    [
        ("", {"dims": [1, 2], "fill": "zero"}),
        (INITIAL("zero_data: true"), {"dims": [3, 2], "fill": "zero"}),
        (INITIAL("zero_data: false"), {"dims": [3, 2], "fill": "zero"}),
        (INITIAL("data_file: 'first'"), {"dims": [3, 2], "file": "initial_state/first"}),
    ],
)
def test_state(adapt: Adapt, initial: str, first: dict[str, Any]) -> None:
    """What a sequence starts with: what is said; else zeros, of size 1 where it varies; its files come along."""
    found = adapt(STATE(initial))
    assert told(found)["states"] == [{"input": "S", "output": "T", "dtype": "FP32", "dims": [-1, 2], "first": first}]
    assert "initial_state/first" in found.versions[0].files


@pytest.mark.parametrize(
    ("batching", "backend", "slots", "most"),
    [
        ("", "onnxruntime", None, None),
        (STATE(""), "onnxruntime", None, None),
        (STATE(""), "pytorch", None, None),
        ("oldest { max_candidate_sequences: 5 }", "onnxruntime", None, 10),
        ("", "python", 4, 8),
        ("direct { }", "python", 4, 8),
        ("oldest { }", "python", None, 8),
        ("oldest { max_candidate_sequences: 5 }", "python", None, 10),
        ("", "pytorch", 1, 2),
        ("direct { }", "tensorflow", 1, 2),
        ("oldest { max_candidate_sequences: 5 }", "tensorflow", None, 10),
    ],
)
def test_how_many_at_a_time(adapt: Adapt, batching: str, backend: str, slots: int | None, most: int | None) -> None:
    """A model that may remember something is never in the midst of more sequences than Triton would give it; two replicas have twice
    as many. Where only what is declared is remembered, nothing limits them but what is said.
    """
    found = adapt(batching, backend, f"{IO} instance_group {{ count: 2 }}")
    assert told(found)["slots"] == slots
    assert found.settings["sequences"].get("max_open") == most
    parse_spec({"name": "m", "model": "m", **found.settings})


def test_one_slot_without_batches(adapt: Adapt) -> None:
    """max_batch_size 0 is one sequence at a time, as Triton has it."""
    found = adapt("", "python", IO.replace("max_batch_size: 4", ""))
    assert (told(found)["slots"], found.settings["sequences"]["max_open"]) == (1, 1)


def test_idle_limit(adapt: Adapt) -> None:
    """As it is said, and Triton's own second where it is not."""
    assert adapt("max_sequence_idle_microseconds: 5000000").settings["sequences"] == {"idle": 5.0}
    assert adapt("").settings["sequences"] == adapt("max_sequence_idle_microseconds: 0").settings["sequences"] == {"idle": 1.0}


def test_graphs_that_remember_by_slot(adapt: Adapt) -> None:
    """One slot in place of several is said; where there is one anyway, or nothing goes by it, there is nothing to say."""
    (said,) = adapt("", "tensorflow").warnings
    assert said.startswith("m/config.pbtxt: sequence_batching.direct: ") and "one sequence at a time" in said
    assert not adapt("", "tensorflow", IO.replace("max_batch_size: 4", "max_batch_size: 1")).warnings
    assert not adapt("oldest { }", "tensorflow").warnings and not adapt("", "python").warnings and not adapt("").warnings


def test_limits_make_no_other_version(adapt: Adapt) -> None:
    """How many sequences, and how long they may be idle, may change: the package stays the same."""
    one = adapt(STATE(""))
    other = adapt(f"max_sequence_idle_microseconds: 9 oldest {{ max_candidate_sequences: 7 }} {STATE('')}")
    assert one.versions[0].files["m.triton"] == other.versions[0].files["m.triton"]


def test_without_it_nothing_is_said(tmp_path: Path) -> None:
    """The entry and the settings of all other models are what they were."""
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "model.onnx").write_text("x")
    (found,) = TritonRepository.adapt(tmp_path / "m", Asked(""))
    assert "sequence" not in json.loads(found.versions[0].files["m.triton"]) and "sequences" not in found.settings


@pytest.mark.parametrize(
    ("batching", "words"),
    [
        ("oldest { max_candidate_sequences: -1 }", "oldest.max_candidate_sequences"),
        (CONTROL("", "START", "int32_false_true: [ 0, 1 ]"), "control_input[0].name: '' is no name"),
        (CONTROL("X", "START", "int32_false_true: [ 0, 1 ]"), "control_input[0].name: 'X' is declared twice"),
        ("control_input { name: 'C' }", "control_input[0].control: expected one"),
        (CONTROL("C", "START", "int32_false_true: [ 0, 1 ]") * 2, "control_input[1].name: 'C' is declared twice"),
        (
            CONTROL("C", "END", "int32_false_true: [ 0, 1 ]") + CONTROL("D", "END", "int32_false_true: [ 0, 1 ]"),
            "control_input[1].control.kind",
        ),
        ("control_input { name: 'C' control { kind: 9 } }", "control_input[0].control.kind"),
        (CONTROL("C", "START", ""), "control_input[0].control: expected one of int32_false_true"),
        (
            CONTROL("C", "START", "int32_false_true: [ 0, 1 ] bool_false_true: [ false, true ]"),
            "got int32_false_true and bool_false_true",
        ),
        (CONTROL("C", "READY", "fp32_false_true: [ 0, 1, 2 ]"), "control_input[0].control.fp32_false_true"),
        (CONTROL("C", "CORRID", ""), "control_input[0].control.data_type: it is missing"),
        (CONTROL("C", "CORRID", "data_type: 99"), "control_input[0].control.data_type: it is missing, or a number that is no type"),
        (CONTROL("C", "CORRID", "data_type: TYPE_FP32"), "control_input[0].control.data_type: expected TYPE_UINT64"),
        (STATE("").replace("'S'", "'X'"), "state[0].input_name: 'X' is declared twice"),
        (STATE("").replace("'S'", "''"), "state[0].input_name: '' is no name"),
        (STATE("") + STATE("").replace("'S'", "'S2'"), "state[1].output_name: 'T' is declared twice"),
        (STATE("").replace("2 ]", "0 ]"), "state[0].dims"),
        (STATE(INITIAL("zero_data: true") * 2), "state[0].initial_state: expected one, got 2"),
        (STATE(INITIAL("zero_data: true").replace("name: 'i'", "")), "state[0].initial_state.name"),
        (STATE(INITIAL("zero_data: true").replace("FP32", "FP64")), "state[0].initial_state.data_type"),
        (STATE(INITIAL("zero_data: true").replace("3, 2", "3, 4")), "state[0].initial_state.dims"),
        (STATE(INITIAL("zero_data: true").replace("3, 2", "-1, 2")), "state[0].initial_state.dims"),
        (STATE(INITIAL("zero_data: true").replace("3, 2", "2")), "state[0].initial_state.dims"),
        (STATE(INITIAL("")), "state[0].initial_state.zero_data"),
        (STATE(INITIAL("data_file: '../../secret'")), "state[0].initial_state.data_file"),
        ("iterative_sequence: true", "iterative_sequence: a request is answered once"),
    ],
)
def test_what_makes_no_sense_is_refused(adapt: Adapt, batching: str, words: str) -> None:
    """The refusal names the field with its place."""
    with pytest.raises(PackageError) as caught:
        adapt(batching)
    assert str(caught.value).startswith("m/config.pbtxt: sequence_batching.") and words in str(caught.value)


def test_python_models_keep_their_own_state(adapt: Adapt) -> None:
    """Triton keeps none for them, and the refusal says how a model does."""
    with pytest.raises(PackageError, match=r"sequence_batching\.state: .*correlation_id"):
        adapt(STATE(""), "python")
