"""A package in the store stays byte for byte what it was, whoever runs it; environments may keep their bytecode."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from model_assets import ROOT
from model_server import Server, environment

from headgate.package.folder import verify

BOOTSTRAP = ROOT / "src" / "headgate" / "serving" / "bootstrap.py"
CODE = """
import numpy as np
import beside
from inner.deep import part


class Model:
    def predict(self, x: float) -> float:
        import late
        return beside.ONE * x + part.TWO + late.THREE
"""


def write_code(folder: Path) -> Path:
    """Write a model that imports a module beside it, one from a package, and one when it is first called."""
    (folder / "inner" / "deep").mkdir(parents=True)
    parts = {
        "model.py": CODE,
        "beside.py": "ONE = 1\n",
        "late.py": "THREE = 3\n",
        "inner/__init__.py": "",
        "inner/deep/__init__.py": "",
    }
    for name, text in {**parts, "inner/deep/part.py": "TWO = 2\n"}.items():
        (folder / name).write_text(text)
    return folder / "model.py"


def test_the_models_code_leaves_no_bytecode(tmp_path: Path) -> None:
    """In a folder that could be written, too: nothing is there afterwards that was not there before."""
    path = write_code(tmp_path / "code")
    before = sorted(tmp_path.rglob("*"))
    config = {"path": str(path), "attribute": "Model", "runtime": "python", "device": "cpu", "threads": 1}
    environ = {**environment(), "HEADGATE_CONFIG": json.dumps(config)}
    done = subprocess.run([sys.executable, "-P", BOOTSTRAP, "describe"], env=environ, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout)["signature"]["batched"], done.stdout + done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_served_package_still_verifies(server: Server, tmp_path: Path) -> None:
    """After its replica has imported and run all of it, the package in the store has no file but its own; its environment has bytecode."""
    (tmp_path / "code").mkdir()
    path = write_code(tmp_path / "code" / "own")
    (path.parent / "requirements.txt").write_text("numpy\n")
    server.deploy(f"{path}:Model", "--name", "clean")
    assert server.client.predict("clean", [{"x": 4.0}]) == [{"output": 9.0}]
    package = server.package("clean")
    assert not list(package.rglob("*.pyc"))
    assert "files/late.py" in verify(package).contents()
    assert list(server.home.envs.glob("*/lib/python*/site-packages/numpy/__pycache__/*.pyc"))
