"""Asking the replica side, with small scripts in its place: whatever its process does becomes an answer or a clear refusal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate.errors import MissingDependency, PackageError, UnsupportedModel
from headgate.package.describe import Description, Question, describe

SIGNATURE = '{"inputs": [{"name": "x", "dtype": "FP32", "shape": [-1, 3]}], "outputs": [], "batched": true}'
GOOD = f'{{"signature": {SIGNATURE}, "idempotent": false, "platform": "p", "load_seconds": 0.5, "later": 1}}'
Ask = Callable[..., Description]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    def run(script: str, timeout: float = 20.0) -> Description:
        (tmp_path / "bootstrap.py").write_text(script)
        question = Question(path=tmp_path / "m.onnx", attribute="", runtime="onnx", threads=3, example=tmp_path / "example.json")
        return describe(question, Path(sys.executable), timeout=timeout, bootstrap=tmp_path / "bootstrap.py")

    return run


def test_the_answer_is_read(ask: Ask) -> None:
    """What is printed besides is not the answer; fields of a later version are skipped."""
    found = ask(f"print('hello'); print({GOOD!r}); print('bye'); print('{{}}')")
    assert [spec.name for spec in found.signature.inputs] == ["x"]
    assert (found.signature.batched, found.idempotent, found.platform, found.load_seconds) == (True, False, "p", 0.5)


def test_what_is_asked(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question is the JSON of the contract; the user's PYTHONPATH is not the model's."""
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    ask(
        "import json, os, sys\n"
        "config = json.loads(os.environ['HEADGATE_CONFIG'])\n"
        "assert sorted(config) == ['attribute', 'device', 'example', 'path', 'runtime', 'threads'], config\n"
        f"assert config['path'] == {str(tmp_path / 'm.onnx')!r} and config['threads'] == 3 and config['device'] == 'cpu'\n"
        "assert sys.argv[1:] == ['describe'] and sys.flags.safe_path\n"
        "assert 'PYTHONPATH' not in os.environ\n"
        f"print({GOOD!r})"
    )


def test_an_error_comes_through(ask: Ask) -> None:
    """The replica side's own words and class of error reach the user."""
    with pytest.raises(MissingDependency, match="needs xgboost"):
        ask("""print('{"error": {"code": "missing_dependency", "message": "needs xgboost"}}'); raise SystemExit(1)""")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "import os, signal, sys; print('loading', file=sys.stderr, flush=True); os.kill(os.getpid(), signal.SIGSEGV)",
            r"crashed \(SIGSEGV\)",
        ),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "memory ran out"),
        ("raise RuntimeError('no good')", "exit code 1 without an answer(.|\n)*no good"),
        ("print('null')", "exit code 0 without an answer"),
    ],
)
def test_a_process_that_dies_is_a_refusal(script: str, said: str, ask: Ask) -> None:
    """A crash of the framework says what happened, with the last lines, and takes nothing else along."""
    with pytest.raises(UnsupportedModel, match=said):
        ask(script)


def test_nonsense_is_a_refusal(ask: Ask) -> None:
    """A description that does not fit is not believed."""
    with pytest.raises(PackageError, match="makes no sense"):
        ask("""print('{"signature": {"inputs": 3}}')""")


def test_a_hang_is_ended_with_its_children(ask: Ask, tmp_path: Path) -> None:
    """What loads for ever is ended, and what it has started too."""
    script = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "child.wait()"
    )
    with pytest.raises(PackageError, match="still loading after 2 s"):
        ask(script, timeout=2.0)
    assert _ends(tmp_path / "pid")


def test_a_child_that_stays_is_not_waited_for(ask: Ask, tmp_path: Path) -> None:
    """A model that starts a program, which inherits its output and goes on, is described at once, and the program is ended."""
    found = ask(
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        f"print({GOOD!r})"
    )
    assert found.platform == "p"
    assert _ends(tmp_path / "pid")


def _ends(pid: Path) -> bool:
    """Whether the process ends soon; whoever inherits orphans here may not reap it at once."""
    stat = Path("/proc", pid.read_text(), "stat")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False
