"""Describe a model: load it in its own Python, ask for its signature, check it by a dry run, print one line of JSON.

    HEADGATE_CONFIG='{"path", "attribute", "runtime", "device", "threads", "example"}' python -P .../bootstrap.py describe

prints ``{"signature": {"inputs", "outputs", "batched", "parameters"}, "idempotent", "platform", "load_seconds"}``, with ``"streams"`` in
the signature of a model that answers in parts, ``"answers"`` where tables have a layout, ``"name"``, ``"method"`` and ``"further"`` where
the framework has names for signatures, ``"warning"`` where the model could not be run or a signature is left out, and ``"sample"``, a row
that it takes, where made-up values may be refused; or ``{"error": {"code", "message"}}`` with a code of `headgate.errors`, and then exits
with 1.
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
from headgate.serving.dryrun import dry_run, further_runs
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
    outputs = [info._replace(content=runtime.contents.get(info.name, info.content)) for info in outcome.described.outputs or ()]
    described, sentences = further_runs(runtime, outcome.described._replace(outputs=tuple(outputs)), example)
    answer = {
        "signature": _signature(described, runtime.answers),
        "idempotent": runtime.pure,
        "platform": runtime.platform or config["runtime"],
        "load_seconds": round(seconds, 3),
    }
    sample = _sample(runtime, described) if example is None else None
    found = {"warning": "; ".join(filter(None, [outcome.warning, *sentences])), "sample": sample}
    return answer | {key: value for key, value in found.items() if value}


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


def _signature(described: Described, answers: str) -> dict[str, Any]:
    return {
        "inputs": [_spec(info) for info in described.inputs],
        "outputs": [_spec(info) for info in described.outputs or ()],
        "batched": bool(described.batched),
        "parameters": described.parameters,
        **({"stateful": True} if described.stateful else {}),
        **({"streams": True} if described.streams else {}),
        **({"answers": answers} if answers else {}),
        **({"name": described.name} if described.name else {}),
        **({"method": described.method} if described.method else {}),
        **({"further": [_signature(each, "") for each in described.further]} if described.further else {}),
    }


def _spec(info: TensorSpec) -> dict[str, Any]:
    spec = {"name": info.name, "dtype": info.dtype, "shape": list(info.shape)}
    found = {"optional": info.optional, "content": info.content}
    return spec | {key: value for key, value in found.items() if value}


def _sample(runtime: Runtime, described: Described) -> dict[str, Any] | None:
    """Return a row that the model surely takes, as JSON values, where it knows one: any numbers may do for others, but not any words."""
    rows = runtime.sample() if described.batched else None
    if rows is None or all(array.dtype.kind == "f" for array in rows.values()):
        return None
    return {name: _plain(array[:1].tolist()[0]) for name, array in rows.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
