"""Packages with environments of their own, side by side in one server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sklearn
from serving_home import ServingHome

ENVIRONMENTS = Path(__file__).resolve().parents[1] / "environments"

CODE = """
from importlib.metadata import distributions

class Tells:
    idempotent = True

    def predict(self, x: int) -> str:
        return " ".join(sorted(f"{found.metadata['Name'].lower()}=={found.version}" for found in distributions()))
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[ServingHome]:
    """A home of this test's own."""
    found = ServingHome(tmp_path / "h")
    yield found
    found.close()


def _requiring(home: ServingHome, name: str, *lines: str) -> tuple[str, str]:
    """Write a model that tells what is installed where it runs, and its requirements; return the target and the requirements."""
    requirements = home.write(f"{name}.txt", "".join(f"{line}\n" for line in lines))
    return f"{home.write(f'{name}.py', CODE)}:Tells", str(requirements)


@pytest.mark.slow
def test_contradicting_pins_answer_side_by_side(home: ServingHome) -> None:
    """Two packages that pin other versions of the same libraries, NumPy too, and one whose environment holds NumPy alone, not even
    Headgate, all answer from one server, each with what it asked for and nothing of the others or of the server."""
    old, old_pins = _requiring(home, "old", "six==1.16.0", "numpy==1.26.4")
    new, new_pins = _requiring(home, "new", "six==1.17.0")
    bare, bare_pins = _requiring(home, "bare", "numpy==1.26.4")
    serving = home.serve(old, "--requirements", old_pins, "--threads", "1").until_ready("old")
    home.done("deploy", new, "--requirements", new_pins, "--threads", "1")
    home.done("deploy", bare, "--requirements", bare_pins, "--threads", "1")
    said = {name: serving.ask(name, {"x": 1}).json["output"].split() for name in ("old", "new", "bare")}
    assert said["old"] == ["numpy==1.26.4", "six==1.16.0"]
    assert said["new"][1:] == ["six==1.17.0"] and said["new"][0].startswith("numpy==2.")
    assert said["bare"] == ["numpy==1.26.4"]
    serving.until_ready("old", "new", "bare", "")


@pytest.mark.slow
def test_requirements_that_cannot_be_had_change_nothing(home: ServingHome) -> None:
    """A package whose requirements contradict each other is refused in uv's words; what runs goes on."""
    target, pins = _requiring(home, "fine", "numpy==1.26.4")
    serving = home.serve(target, "--requirements", pins, "--threads", "1").until_ready("fine")
    bad, bad_pins = _requiring(home, "bad", "six==1.16.0", "six==1.17.0")
    refused = home.run("deploy", bad, "--requirements", bad_pins, "--name", "fine")
    assert refused.returncode == 3
    assert "six" in refused.stderr and "Traceback" not in refused.stderr
    assert serving.ask("fine", {"x": 1}).json["output"] == "numpy==1.26.4"


TRAIN = """
import json, sys
import numpy, skops.io, sklearn
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

rows, labels = load_iris(return_X_y=True)
model = make_pipeline(StandardScaler(), RandomForestClassifier(20, random_state=0)).fit(rows, labels)
skops.io.dump(model, sys.argv[1])
print(json.dumps([sklearn.__version__, numpy.__version__, rows[::30].tolist(), model.predict_proba(rows[::30]).tolist()]))
"""


@pytest.mark.slow
def test_a_model_of_another_scikit_learn_answers_as_it_was_trained(home: ServingHome) -> None:
    """A pipeline trained and saved with an older scikit-learn and NumPy than the server's is served by those that its requirements
    name, and answers what it answered there; without the requirements it is refused, not served by another release."""
    built = subprocess.run(
        [sys.executable, str(ENVIRONMENTS / "build.py"), "sklearn-older"], capture_output=True, text=True, check=True
    )
    model = home.write("iris.skops", "")
    trained = subprocess.run([built.stdout.strip(), "-c", TRAIN, str(model)], capture_output=True, text=True, check=True)
    version, numpy_version, rows, expected = json.loads(trained.stdout)
    assert version != sklearn.__version__ and numpy_version != np.__version__
    requirements = str(ENVIRONMENTS / "sklearn-older.txt")
    serving = home.serve(str(model), "--requirements", requirements, "--threads", "1").until_ready("iris")
    answers = serving.ask("iris", [{"input": row} for row in rows]).json
    assert np.allclose([answer["probabilities"] for answer in answers], expected)
    refused = home.run("deploy", str(model), "--name", "bare")
    assert refused.returncode == 3
    assert version in refused.stderr and sklearn.__version__ in refused.stderr
