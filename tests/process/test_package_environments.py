"""Packages with environments of their own, made by the real uv and described by the real replica side."""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path

import pytest

from headgate.errors import EnvironmentFailed, MissingDependency, ModelFailed, PackageError
from headgate.home import Home
from headgate.package import environment
from headgate.package.build import Built, build
from headgate.package.environment import python_of
from headgate.package.folder import verify
from headgate.package.folders.base import VersionSource
from headgate.package.options import Options
from headgate.package.sources import find

CODE = """
import numpy, six

class Versions:
    def predict(self, x: float) -> str:
        return six.__version__ + " " + numpy.__version__
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


def source(target: str, tmp_path: Path) -> VersionSource:
    """What the package of a file is made of."""
    (model,) = find(target, Options(), tmp_path, print)
    return model.versions[0]


def package(tmp_path: Path, home: Home, name: str, requirements: str, code: str = CODE) -> tuple[Built, Path]:
    """Build a package of ``code`` with those requirements beside it; return it and its folder."""
    (tmp_path / name).mkdir()
    (tmp_path / name / f"{name}.py").write_text(code)
    (tmp_path / name / "requirements.txt").write_text(requirements)
    folder = tmp_path / f"{name}-package"
    folder.mkdir()
    return build(source(f"{tmp_path}/{name}/{name}.py", tmp_path), folder, home), folder


def versions(python: Path) -> list[str]:
    """Ask an interpreter which six and numpy it has."""
    code = "import numpy, six, json; print(json.dumps([six.__version__, numpy.__version__]))"
    found: list[str] = json.loads(subprocess.run([python, "-I", "-c", code], capture_output=True, check=True).stdout)
    return found


@pytest.mark.slow
def test_contradicting_pins_live_side_by_side(tmp_path: Path, home: Home) -> None:
    """Two packages pin other versions of the same libraries, NumPy too: each is loaded and described with its own."""
    old, old_folder = package(tmp_path, home, "old", "six==1.16.0\nnumpy==1.26.4\n")
    new, new_folder = package(tmp_path, home, "new", "six==1.17.0\n")
    assert old.manifest is not None and new.manifest is not None
    pythons = [
        python_of(home, folder, built.manifest) for built, folder in ((old, old_folder), (new, new_folder)) if built.manifest
    ]
    assert versions(pythons[0]) == ["1.16.0", "1.26.4"]
    assert versions(pythons[1])[0] == "1.17.0"
    assert versions(pythons[1])[1] != "1.26.4", "NumPy is added, of the newest version, where nothing pulls it"
    assert verify(old_folder) == old.manifest
    lock = (old_folder / "pylock.toml").read_text()
    assert "sha256" in lock and str(tmp_path) not in lock
    before = python_of(home, old_folder, old.manifest).stat().st_ino
    assert python_of(home, old_folder, old.manifest).stat().st_ino == before, "made once"
    assert sorted(path.name for path in home.envs.iterdir()) == sorted(path.parent.parent.name for path in pythons)


def test_the_same_requirements_share_an_environment(tmp_path: Path, home: Home) -> None:
    """Environments are cached by their lock; made by several at once there is one in the end, whole, and nothing left besides."""
    built, folder = package(tmp_path, home, "one", "six==1.16.0\n")
    other, _ = package(tmp_path, home, "two", "six==1.16.0\n")
    assert built.manifest is not None and other.manifest is not None
    assert built.manifest.lock == other.manifest.lock
    assert len(list(home.envs.iterdir())) == 1
    fresh = Home(tmp_path / "fresh").create()
    manifest = built.manifest
    threads = [threading.Thread(target=python_of, args=(fresh, folder, manifest)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(fresh.envs.iterdir())) == 1
    assert versions(python_of(fresh, folder, manifest))[0] == "1.16.0"


@pytest.mark.parametrize(
    ("requirements", "said"),
    [
        ("six==99.0\n", "six==99.0"),
        ("six==1.16.0 numpy\n", "numpy"),
        ("numpy==1.26.4\nnumpy==2.2.0\n", "numpy"),
    ],
)
def test_requirements_that_cannot_be_met(requirements: str, said: str, tmp_path: Path, home: Home) -> None:
    """The refusal has uv's own words, and nothing is left behind."""
    with pytest.raises(EnvironmentFailed, match="could not lock") as caught:
        package(tmp_path, home, "bad", requirements)
    assert said in str(caught.value)
    assert list(home.envs.iterdir()) == []


def test_an_interrupted_environment_is_not_used(tmp_path: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """When installing fails half way, there is no environment, and the next try makes a whole one."""
    built, folder = package(tmp_path, home, "one", "six==1.16.0\n")
    assert built.manifest is not None
    fresh = Home(tmp_path / "fresh").create()
    real = environment._run_uv

    def fail(arguments: list[str], where: Path, *, doing: str, given: str = "") -> None:
        if arguments[:2] == ["pip", "sync"]:
            raise EnvironmentFailed("half way")
        real(arguments, where, doing=doing, given=given)

    monkeypatch.setattr(environment, "_run_uv", fail)
    with pytest.raises(EnvironmentFailed, match="half way"):
        python_of(fresh, folder, built.manifest)
    assert list(fresh.envs.iterdir()) == []
    monkeypatch.setattr(environment, "_run_uv", real)
    assert versions(python_of(fresh, folder, built.manifest))[0] == "1.16.0"


def test_what_the_requirements_lack_is_said(tmp_path: Path, home: Home) -> None:
    """The server's own packages are not the model's: what its requirements do not name is not there."""
    with pytest.raises(MissingDependency, match="msgspec"):
        package(tmp_path, home, "lacking", "six==1.16.0\n", "import msgspec\n" + CODE)


def test_without_requirements_the_server_runs_it(tmp_path: Path, home: Home) -> None:
    """A model without requirements is described in the server's environment, with the local module it imports."""
    (tmp_path / "twice.py").write_text("def twice(x):\n    return 2 * x\n")
    (tmp_path / "model.py").write_text(
        "from twice import twice\nclass Model:\n    idempotent = True\n    def predict(self, x: float) -> float:\n        return twice(x)\n"
    )
    (tmp_path / "package").mkdir()
    said: list[str] = []
    built = build(source(f"{tmp_path}/model.py", tmp_path), tmp_path / "package", home, Options(threads=1), say=said.append)
    assert built.manifest is not None
    signature = built.manifest.signature
    assert [(spec.name, spec.dtype, spec.shape) for spec in (*signature.inputs, *signature.outputs)] == [
        ("x", "FP64", (-1,)),
        ("output", "FP64", (-1,)),
    ]
    assert signature.batched and built.manifest.idempotent and built.manifest.lock is None
    assert verify(tmp_path / "package") == built.manifest
    assert said == ["loading model.py and running it once"]


@pytest.mark.parametrize(
    "code",
    [
        "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n",
        "raise RuntimeError('no good')\n",
        "import nowhere_to_be_found\n",
    ],
)
def test_a_model_that_does_not_load_is_refused(code: str, tmp_path: Path, home: Home) -> None:
    """Whatever loading it does, this process lives and says what happened."""
    (tmp_path / "model.py").write_text(code + "class Model:\n    def predict(self, x: float) -> float:\n        return x\n")
    (tmp_path / "package").mkdir()
    with pytest.raises((PackageError, ModelFailed), match=r"SIGSEGV|no good|nowhere_to_be_found"):
        build(source(f"{tmp_path}/model.py", tmp_path), tmp_path / "package", home, Options(threads=1))
