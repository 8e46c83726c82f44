"""Real trained models, and what each says when it is run directly, in an environment of its own; made once and kept in ``.cache``."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import uv

from headgate.package.pip_settings import uv_variables

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".cache" / "models"
SERVED = HERE / "served"
"""The Python classes that are served, and their requirements."""
OCR = "rapidocr-onnxruntime==1.4.4"
"""Pulls an OpenCV that wants a screen; we install it alone, and give it the one that does not."""
SECONDS = 600
"""What an export to ONNX may take on a busy machine."""


@cache
def python_of(environment: str) -> Path:
    """Return the Python of an environment of the tests, made where it is missing."""
    spec = importlib.util.spec_from_file_location("environments_build", HERE.parent / "environments" / "build.py")
    assert spec is not None and spec.loader is not None
    build: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    if os.environ.get("HEADGATE_TEST_SKIP_HEAVY") == "1" and not build.folder(environment).is_dir():
        pytest.skip(f"HEADGATE_TEST_SKIP_HEAVY=1, and the environment {environment} is not built")
    python: Path = build.build(environment)
    return python


@cache
def ocr_folder() -> Path:
    """Return a folder that holds the package ``rapidocr_onnxruntime`` with its weights, and nothing that it requires."""
    folder = CACHE / OCR.replace("==", "-")
    if not folder.is_dir():
        making = folder.with_name(f".{folder.name}-{os.getpid()}")
        command = [
            uv.find_uv_bin(),
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            making,
            "--python",
            python_of("models"),
            OCR,
        ]
        done = subprocess.run(
            command, env={**os.environ, **uv_variables(os.environ)}, capture_output=True, text=True, timeout=SECONDS
        )
        assert done.returncode == 0, done.stderr[-2000:]
        _appear(making, folder)
    return folder


@cache
def direct(name: str, environment: str) -> Path:
    """Return the folder that ``direct/NAME.py`` fills: the model as a file, inputs, and its own answers to them."""
    script = HERE / "direct" / f"{name}.py"
    python = python_of(environment)
    made_by = hashlib.sha256(b"".join([script.read_bytes(), str(python.parent.parent.name).encode()])).hexdigest()[:12]
    folder = CACHE / f"{name}-{made_by}"
    if folder.is_dir():
        return folder
    for stale in CACHE.glob(f"{name}-" + "[0-9a-f]" * 12):
        shutil.rmtree(stale, ignore_errors=True)
    making = folder.with_name(f".{folder.name}-{os.getpid()}")
    making.mkdir(parents=True)
    run_script(name, environment, str(making))
    _appear(making, folder)
    return folder


def run_script(name: str, environment: str, *arguments: str) -> str:
    """Run ``direct/NAME.py`` with ``arguments`` and return what it prints."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environ |= {"PYTHONPATH": str(ocr_folder()), "PYTHONDONTWRITEBYTECODE": "1"} if name == "ocr" else {}
    command = [python_of(environment), "-P", HERE / "direct" / f"{name}.py", *arguments]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def _appear(making: Path, folder: Path) -> None:
    """Give a finished folder its name; somebody else may have been faster."""
    try:
        making.rename(folder)
    except OSError:
        shutil.rmtree(making)
        assert folder.is_dir()
