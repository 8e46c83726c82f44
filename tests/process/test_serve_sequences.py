"""A model that keeps state, through a change of versions: open sequences stay where their state is, and their replica stays for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving_home import Serving, ServingHome

CODE = """
class Counter:
    stateful = True
    version = 1

    def load(self):
        self.counts = {}

    def predict(self, x: int, parameters: dict) -> tuple[int, int]:
        key = parameters["sequence_id"]
        if parameters["sequence_start"]:
            self.counts[key] = 0
        self.counts[key] += x
        return self.counts[key], self.version
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[ServingHome]:
    """An empty home."""
    made = ServingHome(tmp_path / "h")
    yield made
    made.close()


def say(serving: Serving, key: Any, value: int, **flags: bool) -> tuple[int, list[int] | str]:
    """Send one number of a sequence; return the status, and the total and the version, or the error."""
    body = {
        "inputs": [{"name": "x", "datatype": "INT64", "shape": [1], "data": [value]}],
        "parameters": {"sequence_id": key} | {f"sequence_{name}": flag for name, flag in flags.items()},
    }
    answer = serving.request("POST", "/v2/models/counter/infer", body)
    if answer.status != 200:
        return answer.status, answer.json["error"]
    return 200, [output["data"][0] for output in answer.json["outputs"]]


def test_sequences_through_a_deploy(home: ServingHome) -> None:
    """The new version takes what starts; what is open goes on at the old one, whose replica ends once nothing of it is open."""
    path = home.write("counter.py", CODE)
    serving = home.serve(f"{path}:Counter", "--threads", "1", "--sequence-idle", "2m", "--max-sequences", "2")
    serving.until_ready("counter").until_settled()
    assert say(serving, 7, 1, start=True) == (200, [1, 1])
    assert say(serving, "b", 5, start=True) == (200, [5, 1])
    status, text = say(serving, 9, 1, start=True)
    assert status == 429 and "sequences.max_open" in text
    spec = serving.status("counter")["spec"]["sequences"]
    assert spec == {"idle": 120.0, "max_open": 2}

    home.write("counter.py", CODE.replace("version = 1", "version = 2"))
    home.done("deploy", f"{path}:Counter", "--max-sequences", "3")
    assert say(serving, "new", 1, start=True) == (200, [1, 2])
    assert say(serving, 7, 2) == (200, [3, 1])

    def states() -> dict[int, str]:
        return {revision["version"]: revision["state"] for revision in serving.status("counter")["revisions"]}

    assert states() == {1: "draining", 2: "serving"}
    assert say(serving, 7, 3, end=True) == (200, [6, 1])
    assert say(serving, "b", 5, start=True) == (200, [5, 2])
    serving.until(lambda: states() == {2: "serving"}, "the old version goes once nothing of it is open")
    status, text = say(serving, 7, 1)
    assert status == 400 and "must specify the START flag" in text
    assert say(serving, "new", 4, end=True) == (200, [5, 2])
    (found,) = json.loads(home.done("status", "--output", "json"))["deployments"]
    assert found["state"] == "ready"


def test_settings_of_sequences_are_checked(home: ServingHome) -> None:
    """By name, before anything is deployed."""
    path = home.write("counter.py", CODE)
    for words, text in ((("--sequence-idle", "soon"), "--sequence-idle"), (("--max-sequences", "0"), "--max-sequences")):
        refused = home.run("serve", f"{path}:Counter", *words)
        assert refused.returncode == 2 and text in refused.stderr
