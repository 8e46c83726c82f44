"""Describe a model: load it in its own Python, ask for its signature, check it by a dry run, print one line of JSON.

    HEADGATE_CONFIG='{"path", "attribute", "runtime", "device", "threads", "example"}' python -P .../bootstrap.py describe

prints ``{"signature": {"inputs", "outputs", "batched", "parameters"}, "idempotent", "platform", "load_seconds"}``, and ``"warning"``
where the model could not be run; or ``{"error": {"code", "message"}}`` with a code of `headgate.errors`, and then exits with 1.
Whatever the model prints goes to standard error. Replica side: standard library and NumPy.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from headgate import plugins
from headgate.errors import HeadgateError, MissingDependency, PackageError, UnsupportedModel
from headgate.runtimes.base import Described, NeedsExample, Runtime, TensorSpec, said
from headgate.serving.dryrun import dry_run
from headgate.serving.example import read_example


def describe(config: dict[str, Any]) -> dict[str, Any]:
    """Return the description of the model that ``config`` names. Raises `HeadgateError`, with a text for the user."""
    path = Path(config["path"])
    runtime: Runtime = plugins.load("headgate.runtimes", config["runtime"])()
    started = time.perf_counter()
    load(runtime, path, config)
    seconds = time.perf_counter() - started
    example = read_example(Path(config["example"])) if config.get("example") else None
    try:
        described = runtime.describe(example)
    except NeedsExample as error:
        raise PackageError(
            f"{path.name}: {error}. Give it an input example: --example FILE, JSON with a row, a list of rows, or a request with 'inputs'"
        ) from error
    outcome = dry_run(runtime, described, example)
    answer = {
        "signature": _signature(outcome.described),
        "idempotent": runtime.pure,
        "platform": runtime.platform or config["runtime"],
        "load_seconds": round(seconds, 3),
    }
    return {**answer, "warning": outcome.warning} if outcome.warning else answer


def load(runtime: Runtime, path: Path, config: dict[str, Any]) -> None:
    """Load the model, and turn whatever that raises into a `HeadgateError`."""
    try:
        runtime.load(
            path, attribute=config.get("attribute") or "", device=config.get("device", "cpu"), threads=config.get("threads", 1)
        )
    except HeadgateError:
        raise
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"{path.name} needs the Python module {error.name!r}, which is not installed where it runs: name what it needs in a "
            "requirements.txt beside it, or --requirements FILE"
        ) from error
    except Exception as error:
        raise UnsupportedModel(f"{path.name} cannot be loaded as {runtime.title}: {said(error)}") from error


def main() -> int:
    """Describe what ``HEADGATE_CONFIG`` names."""
    # Models print while they load; standard output is ours.
    answer_fd = os.dup(1)
    os.dup2(2, 1)
    try:
        answer = describe(json.loads(os.environ["HEADGATE_CONFIG"]))
    except HeadgateError as error:
        if error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        answer = {"error": {"code": error.code, "message": str(error)}}
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        answer = {"error": {"code": PackageError.code, "message": f"{type(error).__name__}: {error}"}}
    _write(answer_fd, json.dumps(answer).encode() + b"\n")
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that a model left running would keep the process, and some frameworks crash while they are taken down.
    os._exit(1 if "error" in answer else 0)


def _signature(described: Described) -> dict[str, Any]:
    return {
        "inputs": [_spec(info) for info in described.inputs],
        "outputs": [_spec(info) for info in described.outputs or ()],
        "batched": bool(described.batched),
        "parameters": described.parameters,
    }


def _spec(info: TensorSpec) -> dict[str, Any]:
    spec = {"name": info.name, "dtype": info.dtype, "shape": list(info.shape)}
    return {**spec, "optional": True} if info.optional else spec


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
