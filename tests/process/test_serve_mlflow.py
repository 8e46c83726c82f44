"""MLflow models, served as they are: their answers are those of MLflow's own server, in their own environment."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow_world import HERE, made, run, tracking_server
from serving_home import COMMAND, Answer, Serving, ServingHome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
NAMES = ("wine", "matrix", "pickled", "loud")


@pytest.fixture(scope="module")
def models() -> Path:
    """The models of ``mlflow_models.py``, and what MLflow's own server answers."""
    return made("mlflow", "mlflow_models.py")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingHome]:
    """A home; environments in it are shared by the models."""
    found = ServingHome(tmp_path_factory.mktemp("mlflow") / "h")
    yield found
    found.close()


@pytest.fixture(scope="module")
def serving(home: ServingHome) -> Serving:
    """A server on it, with nothing deployed."""
    started = home.serve()
    started.until(lambda: "Ctrl-C" in started.said, "it is up")
    return started


def command(home: ServingHome, *words: str, code: int = 0, **environment: str) -> str:
    """Run a command that loads MLflow, which takes its time, and return what it printed."""
    done = subprocess.run(
        [*COMMAND, *words], env=home.environment | environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def same(found: Any, expected: Any) -> bool:
    """Whether two JSON values are equal, numbers within six digits."""
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, dict):
        return isinstance(found, dict) and found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in found)
    if isinstance(expected, float):
        return found == pytest.approx(expected, rel=1e-6)
    return type(found) is type(expected) and found == expected


def ask(serving: Serving, body: Any) -> Answer:
    """Send a scoring request."""
    return serving.request("POST", "/invocations", body, content_type="application/json")


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_answers_as_mlflows_own_server_does(name: str, home: ServingHome, serving: Serving, models: Path) -> None:
    """Every form of a scoring request, and the input example that MLflow saved with the model, gets MLflow's own answer; so does
    MLflow's own client."""
    command(home, "deploy", str(models / name), "--name", "model", "--trust-pickle", "--threads", "1")
    asked = json.loads((models / f"{name}.json").read_text())
    assert len(asked) > 1
    for request in asked:
        answer = ask(serving, request["body"])
        assert answer.status == 200, answer.body
        assert same(answer.json, {"predictions": request["predictions"]}), (request, answer.json)
    if name != "loud":  # its example comes with parameters, which the client sends apart
        host, port = serving.url.removeprefix("http://").split(":")
        run("mlflow", HERE / "mlflow_client.py", host, port, models / name)


@pytest.mark.long
@pytest.mark.parametrize(("name", "platform"), [("keras", "tensorflow_savedmodel"), ("torch", "pytorch_export")])
def test_deep_models_need_no_mlflow(name: str, platform: str, home: ServingHome, serving: Serving) -> None:
    """A .keras file and an exported program, of one tensor, run as such files do here, and answer as MLflow's own server does."""
    models = made("mlflow-deep", "mlflow_deep.py")
    command(home, "deploy", str(models / name), "--name", "model", "--threads", "1")
    for request in json.loads((models / f"{name}.json").read_text()):
        answer = ask(serving, request["body"])
        assert answer.status == 200, answer.body
        assert np.allclose(answer.json["predictions"], request["predictions"], rtol=1e-4, atol=1e-6)
    assert serving.get("/v2/models/model").json["platform"] == platform


def test_what_is_wrong_is_a_400_that_names_it(home: ServingHome, serving: Serving, models: Path) -> None:
    """A column that is missing, a value of another type, a parameter nobody knows; what the model itself raises is a 500."""
    command(home, "deploy", str(models / "loud"), "--name", "model", "--threads", "1")
    mistakes = [
        ({"dataframe_records": [{"w": "x"}]}, "missing inputs ['a']"),
        ({"dataframe_records": [{"a": "x"}]}, "'a'"),
        ({"dataframe_records": [{"a": 1}], "params": {"tmes": 2.0}}, "did you mean 'times'?"),
        ({"dataframe_records": [{"a": 1}], "params": {"times": "many"}}, "times"),
    ]
    for body, said in mistakes:
        answer = ask(serving, body)
        assert answer.status == 400, answer.body
        assert answer.json["error_code"] == "INVALID_PARAMETER_VALUE"
        assert said in answer.json["message"]
    answer = ask(serving, {"dataframe_records": [{"a": -1}]})
    assert (answer.status, "no negative numbers here" in answer.json["message"]) == (500, True)


def test_packages_say_where_they_come_from(home: ServingHome, serving: Serving, models: Path) -> None:
    """A pickle is refused without trust, and registered with who trusts it; requirements are locked, and the same ones share an
    environment."""
    refused = command(home, "push", str(models / "pickled"), "--name", "other", code=3)
    assert "pickled: model.pkl is a pickle, and loading it can run any code" in refused
    assert "--trust-pickle" in refused
    versions = json.loads(home.done("versions", "model", "--output", "json"))
    trusted = [version["trusted_by"] is not None for version in versions]
    assert sorted(trusted) == [False, False, False, True]
    assert len([path for path in home.home.envs.iterdir() if not path.name.startswith(".")]) == 1


def test_a_tracking_servers_models(home: ServingHome, serving: Serving, tmp_path: Path) -> None:
    """``models:/name@alias`` is fetched, served and answers as MLflow says; the same version by its number, and the run's own model by
    its address, are what they are; the versions say where they come from."""
    with tracking_server(tmp_path) as address:
        uri = {"MLFLOW_TRACKING_URI": address}
        registered = json.loads(run("mlflow", HERE / "mlflow_register.py", address, **uri).splitlines()[-1])
        command(home, "deploy", "models:/wine@champion", "--threads", "1", **uri)
        rows = serving.request("POST", "/predict/wine", registered["rows"])
        assert [row["prediction"] for row in rows.json] == registered["predictions"]
        assert "nothing has changed: wine@1 is this model already" in command(home, "push", "models:/wine/1", **uri)
        assert "wine@2" in command(home, "push", "models:/wine/latest", **uri)
        by_run = command(home, "push", f"runs:/{registered['run']}/model", "--name", "wine", **uri)
        assert "nothing has changed: wine@2" in by_run
        assert "nothing has changed: wine@2" in command(home, "push", f"models:/{registered['model']}", "--name", "wine", **uri)
        missing = command(home, "push", "models:/wine@chmpion", code=2, **uri)
        assert "alias chmpion not found" in missing
    versions = json.loads(home.done("versions", "wine", "--output", "json"))
    assert sorted(version["note"] for version in versions) == ["models:/wine/1 (@champion)", "models:/wine/2"]
    unreachable = command(home, "push", "models:/wine/1", code=8, **uri)
    assert f"{address}: no MLflow tracking server answers there" in unreachable
