"""The settings of the protocols on the command line: the dialect of ``/v1``, and the default deployment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving_home import ServingHome

CODE = """
class Twice:
    idempotent = True

    def predict(self, x: int) -> int:
        return 2 * x
"""
INSTANCES = {"instances": [{"x": 3}]}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[ServingHome]:
    """A home with a small model beside it."""
    made = ServingHome(tmp_path / "h")
    made.write("twice.py", CODE)
    yield made
    made.close()


def test_the_dialect_of_a_deployment(home: ServingHome) -> None:
    """``--v1`` decides who answers under ``/v1``; ``status`` names it; a later deploy changes it, or leaves it as it is."""
    target = f"{home.folder / 'twice.py'}:Twice"
    serving = home.serve(target, "--v1", "kserve", "--threads", "1").until_ready("twice").until_settled()
    assert serving.get("/v1/models/twice").json == {"name": "twice", "ready": True}
    assert serving.request("POST", "/v1/models/twice:predict", INSTANCES).json == {"predictions": [6]}
    refused = home.run("deploy", "twice", "--v1", "kserv")
    assert refused.returncode == 2
    assert "did you mean 'kserve'?" in refused.stderr
    assert json.loads(home.done("deploy", "twice", "--timeout", "20s", "--output", "json"))["v1"] == "kserve"
    assert json.loads(home.done("deploy", "twice", "--v1", "truss", "--output", "json"))["v1"] == "truss"
    serving.until(
        lambda: serving.request("POST", "/v1/models/twice:predict", {"x": 3}).json == {"output": 6}, "the dialect is in force"
    )
    (status,) = json.loads(home.done("status", "--output", "json"))["deployments"]
    assert status["v1"] == "truss"


def test_the_default_deployment_is_remembered(home: ServingHome) -> None:
    """``--default-deployment`` decides whom ``/invocations`` means; the next server of the home knows it; an empty one forgets it."""
    home.write("thrice.py", CODE.replace("Twice", "Thrice").replace("2 *", "3 *"))
    targets = [f"{home.folder / name}.py:{name.title()}" for name in ("twice", "thrice")]
    serving = home.serve(*targets, "--default-deployment", "thrice", "--threads", "1").until_ready("twice", "thrice")

    def scored() -> object:
        return serving.request("POST", "/invocations", INSTANCES, content_type="application/json").json

    serving.until(lambda: scored() == {"predictions": [9]}, "the default is in force")
    assert json.loads(home.done("status", "--output", "json"))["server"]["default_deployment"] == "thrice"
    assert serving.stop() == 0
    serving = home.serve().until_ready("twice", "thrice")
    serving.until(lambda: scored() == {"predictions": [9]}, "the default is remembered")
    assert serving.stop() == 0
    serving = home.serve("--default-deployment", "").until_ready("twice", "thrice")
    said = serving.get("/ping")
    assert said.status == 400
    assert "--default-deployment" in said.json["message"]
    assert "'thrice', 'twice'" in said.json["message"]


def test_a_name_that_can_be_none_is_refused(home: ServingHome) -> None:
    """It is said before anything starts."""
    refused = home.run("serve", "--default-deployment", "a/b")
    assert refused.returncode == 2
    assert "--default-deployment: expected the name of a deployment" in refused.stderr
