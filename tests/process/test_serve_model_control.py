"""``--model-control explicit``: registered models are loaded and unloaded through the inference port, by admins only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving_home import Serving, ServingHome

TWICE = """
class Twice:
    idempotent = True

    def predict(self, x: int) -> int:
        return 2 * x
"""
BROKEN = """
import os

class Broken:
    def load(self):
        if '"links"' in os.environ["HEADGATE_CONFIG"]:
            raise RuntimeError("not in a replica")

    def predict(self, x: int) -> int:
        return x
"""
INDEX = "/v2/repository/index"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[ServingHome]:
    """A home with two registered models and an admin key, whose commands use it."""
    made = ServingHome(tmp_path / "h")
    made.done("push", f"{made.write('twice.py', TWICE)}:Twice")
    made.done("push", f"{made.write('broken.py', BROKEN)}:Broken")
    yield made
    made.close()


def ask(serving: Serving, verb: str, model: str, key: str) -> tuple[int, str]:
    """Load or unload a model; return the status and the error."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    answer = serving.request("POST", f"/v2/repository/models/{model}/{verb}", {}, **headers)
    return answer.status, answer.json["error"] if answer.body else ""


def test_models_are_loaded_and_unloaded(home: ServingHome) -> None:
    """Loaded when the answer comes, refused with the replica's words where it fails, gone after an unload; the home remembers the mode."""
    admin = home.done("key", "create", "--scope", "admin").strip()
    infer = home.done("key", "create").strip()
    home.environment["HEADGATE_API_KEY"] = admin
    serving = home.serve("--model-control", "explicit").until_settled()

    def index() -> dict[str, str]:
        found = serving.request("POST", INDEX, authorization=f"Bearer {admin}").json
        return {entry["name"]: entry.get("state", "") for entry in found}

    serving.until(lambda: index() == {"broken": "", "twice": ""}, "the table names what could be loaded")
    assert ask(serving, "load", "twice", "")[0] == 401
    assert ask(serving, "load", "twice", infer)[0] == 403
    assert ask(serving, "load", "twice", admin) == (200, "")
    assert serving.ask("twice", {"x": 4}, authorization=f"Bearer {infer}").json == {"output": 8}
    assert index() == {"broken": "", "twice": "READY"}
    status, error = ask(serving, "load", "broken", admin)
    assert status == 400
    assert error.startswith("load failed for model 'broken': version 1 is at UNAVAILABLE state:") and "not in a replica" in error
    status, error = ask(serving, "load", "nobody", admin)
    assert status == 400 and "failed to load 'nobody'" in error
    serving.until(lambda: index()["broken"] == "", "no broken deployment stays behind")
    assert ask(serving, "unload", "twice", admin) == (200, "")
    serving.until(lambda: "twice" in index() and index()["twice"] == "", "it is unloaded")
    assert serving.ask("twice", {"x": 4}, authorization=f"Bearer {infer}").status == 404
    assert serving.stop() == 0
    again = home.serve().until_settled()
    assert ask(again, "load", "twice", admin) == (200, "")
    assert json.loads(home.home.settings.read_text())["model_control"] == "explicit"


def test_administration_takes_a_key_even_on_loopback(home: ServingHome) -> None:
    """Without keys everything else is open here, and this is not; models come over the control API as ever."""
    serving = home.serve("--model-control", "explicit").until_settled()
    assert serving.request("POST", INDEX).status == 200
    for verb in ("load", "unload"):
        status, error = ask(serving, verb, "twice", "")
        assert status == 401 and "needs a key" in error
    home.done("deploy", "twice")
    assert serving.ask("twice", {"x": 4}).json == {"output": 8}


def test_files_never_come_over_the_wire(home: ServingHome) -> None:
    """Neither a file nor a configuration is taken, wherever it would be written."""
    admin = home.done("key", "create", "--scope", "admin").strip()
    home.environment["HEADGATE_API_KEY"] = admin
    serving = home.serve("--model-control", "explicit").until_settled()
    for parameters, status in (
        ({"file:1/model.py": "eA=="}, 400),
        ({"file:../../model.py": "eA=="}, 400),
        ({"config": "{}"}, 501),
        ({"unknown": 1}, 400),
    ):
        body = {"parameters": parameters}
        answer = serving.request("POST", "/v2/repository/models/twice/load", body, authorization=f"Bearer {admin}")
        assert answer.status == status and f"parameter '{next(iter(parameters))}'" in answer.json["error"]
    for body, status in (({"unload_dependents": True}, 501), ({"unload_dependents": 1}, 400), ({"force": True}, 400)):
        answer = serving.request(
            "POST", "/v2/repository/models/twice/unload", {"parameters": body}, authorization=f"Bearer {admin}"
        )
        assert answer.status == status and f"'{next(iter(body))}'" in answer.json["error"]
    for name in ("..%2Fetc", "%2e%2e", ".hidden", "a%20b"):
        assert ask(serving, "load", name, admin)[0] in (400, 404)


def test_the_mode_is_one_of_two(home: ServingHome) -> None:
    """Anything else is refused before anything starts."""
    refused = home.run("serve", "--model-control", "poll")
    assert refused.returncode == 2 and "--model-control" in refused.stderr
