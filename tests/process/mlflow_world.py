"""What the tests of MLflow share: its environment, models made there, and a real tracking server."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from serving_home import eventually

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


@cache
def python_of(environment: str) -> Path:
    """The Python of one of the tests' environments, made where it is missing."""
    spec = importlib.util.spec_from_file_location("environments_build", ROOT / "tests" / "environments" / "build.py")
    assert spec is not None and spec.loader is not None
    build: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    return Path(build.build(environment))


def run(environment: str, script: Path, *words: object, **variables: str) -> str:
    """Run a script in an environment and return what it printed."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MLFLOW"))} | QUIET | variables
    command = [str(python_of(environment)), "-P", str(script), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=clean, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@cache
def made(environment: str, script: str) -> Path:
    """A folder with the models that a script makes; kept while script and environment are unchanged."""
    source = HERE / script
    made_by = hashlib.sha256(str(python_of(environment)).encode() + source.read_bytes()).hexdigest()[:12]
    folder = ROOT / ".cache" / "folders" / f"{source.stem}-{made_by}"
    if not folder.is_dir():
        for stale in folder.parent.glob(f"{source.stem}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        making = folder.with_name(f".{folder.name}-{os.getpid()}")
        making.mkdir(parents=True)
        run(environment, source, making)
        making.rename(folder)
    return folder


@contextmanager
def tracking_server(folder: Path) -> Iterator[str]:
    """A tracking server with SQLite and artifacts on disk, which it passes on itself; its address."""
    port = free_port()
    store = ("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts"))
    command = [
        str(python_of("mlflow")),
        "-m",
        "mlflow",
        "server",
        *store,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "MLFLOW"))} | QUIET
    with open(folder / "server.log", "wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert server.poll() is None, (folder / "server.log").read_text()[-4000:]
        with urllib.request.urlopen(f"{address}/health", timeout=5) as response:
            return bool(response.status == 200)

    try:
        eventually(answers, "the tracking server answers", 200)
        yield address
    finally:
        _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    """End a server with all that it has started: they are one session."""
    os.killpg(server.pid, 15)
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, 9)
        server.wait()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
