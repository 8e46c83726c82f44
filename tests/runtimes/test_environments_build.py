"""The script that makes the environments of the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from runtime_samples import environments


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = environments()
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(module, "ENVIRONMENTS", tmp_path / ".envs")
    (tmp_path / "tiny.txt").write_text("# nothing\n")
    return module


def test_built_once_and_kept(build, capfd: pytest.CaptureFixture[str]) -> None:
    assert build.names() == ["tiny"]
    python = build.build("tiny")
    said = subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True).stdout
    assert said.strip() == str(python.parents[1])
    assert "environment tiny: built in" in capfd.readouterr().err
    assert build.build("tiny") == python
    assert capfd.readouterr().err == ""


def test_other_requirements_are_another_environment_and_the_stale_one_goes(build, tmp_path: Path) -> None:
    old = build.build("tiny")
    (tmp_path / "tiny-more.txt").write_text("\n")
    beside = build.build("tiny-more")
    (tmp_path / "tiny.txt").write_text("# changed\n")
    new = build.build("tiny")
    assert new != old
    assert not old.exists()
    assert beside.exists()
    assert new.exists()


def test_what_cannot_be_built_leaves_nothing_that_looks_built(build, tmp_path: Path) -> None:
    (tmp_path / "tiny.txt").write_text(f"absent @ file://{tmp_path}/absent-1.0-py3-none-any.whl\n")
    with pytest.raises(RuntimeError, match="uv pip install"):
        build.build("tiny")
    assert not build.folder("tiny").exists()


def test_the_sites_own_wheels_are_passed_on(build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "one two")
    assert build._find_links()[:4] == ["--find-links", "one", "--find-links", "two"]


def test_the_command_line_prints_each_python(build, capfd: pytest.CaptureFixture[str]) -> None:
    assert build.main(["tiny"]) == 0
    assert capfd.readouterr().out.strip() == str(build.folder("tiny") / "bin" / "python")
    with pytest.raises(SystemExit):
        build.main(["huge"])
    assert "huge" in capfd.readouterr().err


def test_it_runs_as_a_script() -> None:
    done = subprocess.run([sys.executable, environments().__file__, "--help"], capture_output=True, text=True, check=True)
    assert "--all" in done.stdout
