"""From the command line, or a notebook, to an answer: the real server with a small model in plain Python."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headgate
from headgate import errors
from headgate.cli.connection import live_server
from headgate.home import Home

CODE = """
import numpy as np


class Doubles:
    idempotent = True

    def load(self):
        pass

    def predict(self, x: np.ndarray) -> np.ndarray:
        return FACTOR * x
"""


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A model that doubles, with an example beside it."""
    (tmp_path / "doubles.py").write_text(CODE.replace("FACTOR", "2"))
    (tmp_path / "example.json").write_text('[{"x": 1.5}, {"x": 2.5}]')
    return f"{tmp_path / 'doubles.py'}:Doubles"


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on this test's home."""
    monkeypatch.setenv("HEADGATE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HEADGATE_SERVER", raising=False)

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "headgate.cli.main", *words], capture_output=True, text=True, timeout=120, check=False
        )

    return call


class Serving:
    """A running ``headgate serve``, and what it has printed."""

    def __init__(self, home: Path, words: list[str], log: Path) -> None:
        self.home = Home(home)
        self._log = log
        with open(log, "wb") as output:
            ports = ["--port", "0", "--control-port", "0", "--drain-delay", "0"]
            command = [sys.executable, "-m", "headgate.cli.main", "serve", *words, "--home", str(home), *ports]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)

    @property
    def said(self) -> str:
        """What it has printed."""
        return self._log.read_text()

    def until(self, text: str, seconds: float = 60.0) -> str:
        """Return what was printed once ``text`` is in it."""
        end = time.monotonic() + seconds
        while text not in self.said:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.02)
        return self.said

    def stop(self) -> int:
        """Interrupt it and return its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """Starts servers on this test's home, and ends them."""
    started: list[Serving] = []

    def start(*words: str) -> Serving:
        started.append(Serving(tmp_path / "home", list(words), tmp_path / f"serve-{len(started)}.log"))
        return started[-1]

    yield start
    for serving in started:
        if serving.process.poll() is None:
            serving.stop()


def test_what_serve_prints_can_be_pasted(model: str, tmp_path: Path, serve: Callable[..., Serving]) -> None:
    """The line that a new user is given sends a row of the example and gets the model's answer."""
    serving = serve(model, "--example", str(tmp_path / "example.json"))
    said = serving.until("Ctrl-C")
    assert "doubles is ready: doubles@1" in said
    line = next(line for line in said.splitlines() if line.startswith("  try"))
    pasted = subprocess.run(["bash", "-c", line.removeprefix("  try")], capture_output=True, text=True, timeout=30, check=True)
    answer = json.loads(pasted.stdout)
    assert list(answer.values()) == [3.0]
    assert serving.stop() == 0


def test_a_day_with_the_command_line(model: str, tmp_path: Path, serve: Callable[..., Serving], run: Run) -> None:
    """Serve, look, ask, push a second version, deploy it, stop it: every command finds the server by the home."""
    serving = serve(model, "--example", str(tmp_path / "example.json"), "--max-rows", "64")
    serving.until("Ctrl-C")
    status = json.loads(run("status", "--output", "json").stdout)
    assert [found["state"] for found in status["deployments"]] == ["ready"]
    assert run("predict", "doubles", '{"x": 4}').stdout.strip().endswith("8.0}")
    (tmp_path / "data.csv").write_text("x\n1\n2\n")
    assert [json.loads(line) for line in run("predict", "doubles", str(tmp_path / "data.csv")).stdout.splitlines()] == [
        {name: value} for name in json.loads(run("predict", "doubles", '{"x": 0}').stdout) for value in (2.0, 4.0)
    ]
    np.save(tmp_path / "x.npy", np.array([1.0, 2.0]))
    assert [float(line) for line in run("predict", "doubles", str(tmp_path / "x.npy")).stdout.split()] == [2.0, 4.0]
    (tmp_path / "doubles.py").write_text(CODE.replace("FACTOR", "3"))
    assert run("push", model, "--example", str(tmp_path / "example.json")).stdout == "doubles@2\n"
    deployed = run("deploy", "doubles@2", "--output", "json")
    assert json.loads(deployed.stdout)["spec"]["batching"]["max_rows"] == 64, deployed.stderr
    assert run("predict", "doubles", '{"x": 4}').stdout.strip().endswith("12.0}")
    unknown = run("predict", "double", '{"x": 4}')
    assert unknown.returncode == errors.NotFound.exit
    assert "did you mean 'doubles'?" in unknown.stderr
    assert run("stop", "doubles").returncode == 0
    assert json.loads(run("status", "--output", "json").stdout)["deployments"] == []
    stopped = run("stop", "--server")
    assert (stopped.returncode, stopped.stdout) == (0, "the server has ended\n")
    assert stopped.stderr == "draining, up to 30 s: requests under way are finished\n"
    assert serving.process.wait(30) == 0


def test_a_home_serves_again_what_it_served(model: str, tmp_path: Path, serve: Callable[..., Serving], run: Run) -> None:
    """Without a target, serve goes on with what its home has deployed."""
    first = serve(model, "--example", str(tmp_path / "example.json"))
    first.until("Ctrl-C")
    assert first.stop() == 0
    serve().until("doubles is ready: doubles@1")
    assert run("predict", "doubles", '{"x": 4}').returncode == 0


def test_who_asks_at_once_is_told_everything(model: str, tmp_path: Path, serve: Callable[..., Serving]) -> None:
    """A command that comes while the server starts waits a moment, and then sees what the home has deployed."""
    first = serve(model, "--example", str(tmp_path / "example.json"))
    first.until("Ctrl-C")
    assert first.stop() == 0
    second = serve()
    while (server := live_server(second.home)) is None:
        assert second.process.poll() is None, second.said
        time.sleep(0.001)
    with urllib.request.urlopen(f"{server['control_url']}/status", timeout=60) as answer:
        assert [found["name"] for found in json.load(answer)["deployments"]] == ["doubles"]


def test_a_model_that_cannot_be_served_ends_serve(tmp_path: Path, serve: Callable[..., Serving]) -> None:
    """Where nothing of what was asked for can be served, serve ends with the reason and its exit code."""
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    serving = serve(str(tmp_path / "broken.onnx"))
    assert serving.process.wait(60) == errors.PackageError.exit
    assert "headgate: " in serving.said


def test_a_notebook_gets_its_server(model: str, tmp_path: Path) -> None:
    """headgate.serve returns a server that answers, by client and by URL, and leaves nothing behind when it is stopped."""
    with headgate.serve(model, example=[{"x": 1.5}, {"x": 2.5}], name="twice") as server:
        assert server.predict([{"x": 4.0}]) != []
        answer: dict[str, Any] = server.client.predict("twice", {"x": np.array([1.0, 2.0])})
        assert [value.tolist() for value in answer.values()] == [[2.0, 4.0]]
        assert server.url.startswith("http://127.0.0.1:")
        home = server.home.path
    assert not home.exists()
    server.stop()


def test_a_notebook_is_told_why_not(tmp_path: Path) -> None:
    """Where the server refuses, its words are raised, and nothing is left running."""
    with pytest.raises(errors.HeadgateError, match="there is no such file or folder"):
        headgate.serve(tmp_path / "nowhere.onnx", home=tmp_path / "home")


def test_the_serve_process_stays_small(model: str, tmp_path: Path, serve: Callable[..., Serving]) -> None:
    """The process that outlives everything has loaded neither NumPy nor msgspec: no shared library of either is mapped."""
    serving = serve(model, "--example", str(tmp_path / "example.json"))
    serving.until("Ctrl-C")
    mapped = Path(f"/proc/{serving.process.pid}/maps").read_text()
    assert "headgate" in Path(f"/proc/{serving.process.pid}/cmdline").read_text()
    assert not [name for name in ("numpy", "msgspec", "uvloop", "sqlalchemy") if f"{os.sep}{name}" in mapped]


def test_the_line_to_paste_is_one_of_bash(model: str, tmp_path: Path, serve: Callable[..., Serving]) -> None:
    """The line is a single command that a shell splits into curl, a URL and data."""
    said = serve(model, "--example", str(tmp_path / "example.json")).until("Ctrl-C")
    words = shlex.split(next(line for line in said.splitlines() if line.startswith("  try")))
    assert words[1] == "curl"
    assert json.loads(words[-1]) == {"x": 1.5}
