"""Asking a replica what a model takes and gives: it is loaded and run once, in the package's own Python and a process of its own.

A model that crashes, hangs or eats all memory while it is loaded does so there, and becomes the text of a refusal.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

import msgspec

from headgate.errors import PackageError, UnsupportedModel, by_code
from headgate.package.signature import Signature

BOOTSTRAP = Path(__file__).resolve().parent.parent / "serving" / "bootstrap.py"
"""The replica side's door. It is run, never imported: this is another Python."""
_LAST_LINES = 12
_FORGET = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be loaded, and how."""

    path: Path
    """The model below ``files/``."""
    attribute: str
    runtime: str
    device: str = "cpu"
    threads: int = 1
    example: Path | None = None
    """``example.json``, if there is one."""


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """What the replica side found out."""

    signature: Signature
    idempotent: bool = True
    platform: str = ""
    load_seconds: float = 0.0
    warning: str = ""
    """What the user should know, such as that the model could not be run; else empty."""
    sample: dict[str, Any] | None = None
    """A row that the model is known to take, where made-up values may not do."""


def describe(question: Question, python: Path, *, timeout: float, bootstrap: Path = BOOTSTRAP) -> Description:
    """Load the model with the interpreter ``python`` and return what it takes and gives.

    Raises the `headgate.errors` error that the replica side reports, `UnsupportedModel` if its process dies, and `PackageError` if
    it takes longer than ``timeout`` seconds or answers nonsense.
    """
    config = msgspec.json.encode(question, enc_hook=str).decode()
    environ = {key: value for key, value in os.environ.items() if key not in _FORGET}
    environ |= {"HEADGATE_CONFIG": config, "PYTHONUNBUFFERED": "1"}
    name = question.path.name
    # Files, not pipes: what the model starts inherits them, and a pipe would not end before the last of it has.
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            [str(python), "-P", str(bootstrap), "describe"],
            env=environ, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise PackageError(
                f"{name}: still loading after {timeout:g} s, so it was ended; nothing was registered. Allow it more time"
            ) from None
        finally:
            _end(process)
        return _read(name, process.returncode, _content(out), _content(err).decode(errors="replace"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process with all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _read(name: str, code: int, out: bytes, err: str) -> Description:
    answer = _answer(out)
    if answer is None:
        raise UnsupportedModel(f"{name}: the process that loaded it {_how_ended(code)}; nothing was registered.{_tail(err)}")
    if "error" in answer:
        raise by_code(str(answer["error"].get("code", "")), str(answer["error"].get("message", "")))
    try:
        return msgspec.convert(answer, Description)
    except msgspec.ValidationError as error:
        raise PackageError(
            f"{name}: the runtime described it in a way that makes no sense ({error}); nothing was registered"
        ) from error


def _answer(out: bytes) -> dict[str, Any] | None:
    """Return the last line that is the answer: models print, too."""
    for line in reversed(out.splitlines()):
        with contextlib.suppress(ValueError):
            answer = json.loads(line)
            if isinstance(answer, dict) and ("signature" in answer or isinstance(answer.get("error"), dict)):
                return answer
    return None


def _how_ended(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL), most likely because memory ran out; use a machine with more, or a smaller model"
    if code < 0:
        return f"crashed ({signal.Signals(-code).name}): the file is damaged, or its framework has a fault"
    return f"ended with exit code {code} without an answer"


def _tail(err: str) -> str:
    lines = [line for line in err.splitlines() if line.strip()][-_LAST_LINES:]
    return " It said last:\n" + "\n".join(f"  {line}" for line in lines) if lines else ""
