"""Environments, samples and conformance results of the runtimes, each made once in a session and kept between sessions."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BOOTSTRAP = ROOT / "src" / "headgate" / "serving" / "bootstrap.py"


@cache
def environments() -> Any:
    """The module ``tests/environments/build.py``."""
    spec = importlib.util.spec_from_file_location("environments_build", HERE.parent / "environments" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def python_of(runtime: str) -> Path:
    """The Python in which models of ``runtime`` run: an environment of that name where there is one, else this one."""
    build = environments()
    if runtime not in build.names():
        return Path(sys.executable)
    if os.environ.get("HEADGATE_TEST_SKIP_HEAVY") == "1" and not build.folder(runtime).is_dir():
        pytest.skip(f"HEADGATE_TEST_SKIP_HEAVY=1, and the environment {runtime} is not built")
    return build.build(runtime)


@cache
def samples_of(runtime: str) -> Path:
    """A folder with the samples of ``runtime``, trained in its environment; kept while what makes them is unchanged."""
    python = python_of(runtime)
    sources = [HERE / "samples" / f"{runtime}.py", HERE / "build_samples.py", ROOT / "src/headgate/testing/runtimes.py"]
    made_by = b"".join([str(python).encode(), *(path.read_bytes() for path in sources)])
    folder = ROOT / ".cache" / "samples" / f"{runtime}-{hashlib.sha256(made_by).hexdigest()[:12]}"
    if folder.is_dir():
        return folder
    for stale in folder.parent.glob(f"{runtime}-*"):
        shutil.rmtree(stale, ignore_errors=True)
    making = folder.with_name(f".{folder.name}-{os.getpid()}")
    making.mkdir(parents=True)
    done = subprocess.run([python, "-P", HERE / "build_samples.py", runtime, making], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    making.rename(folder)
    return folder


def bootstrap(python: Path, program: str, config: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run a replica-side program as the supervisor does: with nothing of ours on the path."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment["HEADGATE_CONFIG"] = json.dumps({"threads": 1, **config})
    return subprocess.run([python, "-P", BOOTSTRAP, program], capture_output=True, text=True, timeout=280, env=environment)


@cache
def conformance_of(runtime: str) -> dict[str, list[dict[str, Any]]]:
    """What the conformance suite says of the samples of ``runtime``, by check."""
    folder = samples_of(runtime)
    done = bootstrap(python_of(runtime), "conform", {"samples": str(folder), "path": str(folder / "any")})
    found: dict[str, list[dict[str, Any]]] = {}
    for line in done.stdout.splitlines():
        entry = json.loads(line)
        found.setdefault(entry["check"], []).append(entry)
    assert done.returncode in (0, 1), f"the suite died ({done.returncode}) after {found}: {done.stderr[-3000:]}"
    return found
