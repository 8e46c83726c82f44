"""A Triton repository with models that keep state, served as it is: what clients see of it, and what they are told once it is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sequence_models import ADDING, sequence_repository
from serving_home import Serving, ServingHome


@pytest.fixture
def home(tmp_path: Path) -> Iterator[ServingHome]:
    """A home with the repository beside it."""
    made = ServingHome(tmp_path / "h")
    sequence_repository(made.folder / "models")
    yield made
    made.close()


def say(serving: Serving, model: str, key: Any, value: float, **flags: bool) -> tuple[int, Any]:
    """Send one number of a sequence; return the status, and the total, or the error."""
    body = {
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 1], "data": [value]}],
        "outputs": [{"name": "TOTAL"}],
        "parameters": {"sequence_id": key} | {f"sequence_{name}": flag for name, flag in flags.items()},
    }
    answer = serving.request("POST", f"/v2/models/{model}/infer", body)
    return answer.status, answer.error if answer.status != 200 else answer.json["outputs"][0]["data"][0]


def test_sequences_of_a_repository(home: ServingHome) -> None:
    """State goes from START to END, limits are those of config.pbtxt, hidden inputs are hidden, and a lost replica asks for a START."""
    serving = home.serve(str(home.folder / "models"), "--threads", "1").until_ready("adding", "telling").until_settled()
    assert "telling/config.pbtxt: sequence_batching.oldest.preferred_batch_size" in serving.said
    assert serving.status("adding")["spec"]["sequences"] == {"idle": 60.0, "max_open": 1024}
    assert serving.status("telling")["spec"]["sequences"] == {"idle": 60.0, "max_open": 2}
    assert [spec["name"] for spec in serving.get("/v2/models/adding").json["inputs"]] == ["X"]
    assert [spec["name"] for spec in serving.get("/v2/models/adding").json["outputs"]] == ["TOTAL"]

    for model in ("adding", "telling"):
        assert say(serving, model, 7, 1, start=True) == (200, 1)
        assert say(serving, model, "b", 10, start=True) == (200, 10)
        assert say(serving, model, 7, 2) == (200, 3)
        assert say(serving, model, "b", 20, end=True) == (200, 30)
        status, text = say(serving, model, "b", 1)
        assert (status, "must specify the START flag" in text) == (400, True)
    assert say(serving, "telling", 8, 1, start=True) == (200, 1)
    status, text = say(serving, "telling", 9, 1, start=True)
    assert status == 429 and "sequences.max_open" in text

    # Every replica of 'adding' goes, and what was open with it.
    for name, pid in serving.pids().items():
        if name.startswith("adding-"):
            os.kill(pid, signal.SIGKILL)
    serving.until(lambda: say(serving, "adding", 7, 3)[0] == 400, "the sequence is over with its replica")
    assert "must specify the START flag" in say(serving, "adding", 7, 3)[1]
    serving.until(lambda: say(serving, "adding", 7, 5, start=True) == (200, 5), "it can be started again")
    assert say(serving, "telling", 7, 3, end=True) == (200, 6)


def test_an_idle_sequence_of_a_repository(home: ServingHome) -> None:
    """The limit is Triton's second where the configuration says none, and a flag stands before it."""
    (home.folder / "models" / "adding" / "config.pbtxt").write_text(
        ADDING.replace("max_sequence_idle_microseconds: 60000000", "").replace("instance_group { count: 2 }", "")
    )
    serving = home.serve(str(home.folder / "models" / "adding"), "--threads", "1").until_ready("adding")
    assert serving.status("adding")["spec"]["sequences"]["idle"] == 1.0
    home.done("deploy", str(home.folder / "models" / "adding"), "--threads", "1", "--sequence-idle", "100ms")
    assert serving.status("adding")["spec"]["sequences"]["idle"] == 0.1
    assert say(serving, "adding", 7, 1, start=True) == (200, 1)
    serving.until(
        lambda: "headgate_sequences{" in (text := serving.get("/metrics").body.decode()) and _open(text) == 0, "it is over"
    )
    status, text = say(serving, "adding", 7, 1)
    assert status == 400 and "must specify the START flag" in text


def _open(metrics: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith("headgate_sequences{"))
