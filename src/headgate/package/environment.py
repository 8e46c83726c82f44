"""An environment of its own for a package: requirements to lock, lock to virtual environment, both by uv.

Environments are cached by their lock. One appears under its key in one rename when everything is installed; before that it lies in
``.building-*``, which nobody uses.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import uv

from headgate.clock import Clock, SystemClock
from headgate.errors import EnvironmentFailed, NotFound, StorageFull
from headgate.home import Home
from headgate.package.manifest import LOCK, REQUIREMENTS, Manifest, hash_file
from headgate.package.pip_settings import uv_variables

BUILDING = ".building-"
LEFTOVER_SECONDS = 86_400.0
"""Age from which an environment that was never finished is removed."""
TIMEOUT = 1800.0
"""Seconds that locking, or installing, may take: large frameworks over slow lines do take long."""

_INCLUDED = re.compile(r"\s*(?:-r|--requirement)[ =]\s*(?P<path>\S+)\s*(?:#.*)?")
_REFUSED = {
    re.compile(
        r"\s*(?:-e|--editable)\b"
    ): "an editable package stays on this machine; build a wheel of it and name that by its URL or index",
    re.compile(r"\s*(?:-c|--constraint)\b"): "a constraints file is not part of the package; write its pins into the requirements",
    re.compile(r"\s*(?:-f|--find-links)[ =]\s*(?!https?://)"): "a folder of this machine; set it in pip's or uv's configuration",
    re.compile(r".*://[^/@\s]*:(?!\$\{)[^/@\s]+@"): (
        "a password would stay in the package for ever; write ${VARIABLE} in its place, or set it in pip's or uv's configuration"
    ),
    re.compile(r"\s*(?:\.{1,2}/|/|~|file:|\S+\s*@\s*(?:file:|\.{0,2}/))"): (
        "a local path means nothing on another machine; put the package on an index, or its code beside the model with --include"
    ),
}
_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")
_SECRET = re.compile(r"(?<=://)[^/@\s:\"]+:[^/@\s\"]+@")
_LAST_LINES = 15
_FORGET = ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME", "UV_PROJECT_ENVIRONMENT", "UV_SYSTEM_PYTHON")
"""What the user's shell says about other environments than this one."""


def server_python() -> str:
    """Return the minor version of this interpreter, ``3.11``: what packages are locked for."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def has_python(python: str) -> bool:
    """Whether there is an interpreter of a minor version such as ``3.10`` on this machine."""
    done = subprocess.run(
        [uv.find_uv_bin(), "python", "find", "--system", "--no-python-downloads", "--quiet", python],
        capture_output=True,
        check=False,
        timeout=TIMEOUT,
    )
    return done.returncode == 0


def read_requirements(path: Path) -> str:
    """Return the requirements in the file at ``path``, those of the files it names with ``-r`` in their place.

    Raises `NotFound`, or `EnvironmentFailed` for a line that would mean something else on another machine.
    """
    return "".join(f"{line}\n" for line in _lines(path, ()))


def _lines(path: Path, within: tuple[Path, ...]) -> list[str]:
    if path.resolve() in within:
        raise EnvironmentFailed(f"{path}: includes itself with -r; remove that line")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise NotFound(f"--requirements {path}: there is no such file") from None
    except UnicodeDecodeError as error:
        raise EnvironmentFailed(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); is it a requirements file?"
        ) from None
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        check_requirement(line, f"{path.name}, line {number}")
        included = _INCLUDED.fullmatch(line)
        lines += _lines(path.parent / included["path"], (*within, path.resolve())) if included else [line.rstrip()]
    return lines


def check_requirement(line: str, where: str) -> None:
    """Raise `EnvironmentFailed`, beginning with ``where``, for a requirement that would mean something else on another machine."""
    for pattern, why in _REFUSED.items():
        if pattern.match(line):
            raise EnvironmentFailed(f"{where}: {_PASSWORD.sub('***@', line.strip()[:200])!r}: {why}")


def lock(folder: Path, python: str) -> None:
    """Lock ``requirements.txt`` in ``folder`` to ``pylock.toml`` beside it, with hashes, for this kind of machine.

    NumPy is added where nothing else pulls it: Headgate's side of a replica needs it. ``python`` is a minor version such as
    ``3.11``. Raises `EnvironmentFailed` with what uv says.
    """
    flags = ("--format", "pylock.toml", "--generate-hashes", "--no-header", "--no-annotate", "--quiet")
    command = ["pip", "compile", *flags, *_python_flags(python), "--python-version", python, "-o", LOCK, REQUIREMENTS, "-"]
    _run_uv(command, folder, given="numpy\n", doing=f"lock {REQUIREMENTS}")
    locked = folder / LOCK
    # A package goes to other machines and stays for ever; passwords of this machine's index do not belong in it.
    locked.write_text(_SECRET.sub("", locked.read_text(encoding="utf-8")), encoding="utf-8")


def environment_key(package: Path, python: str) -> str:
    """Return the name of the environment for the lock in the folder ``package`` and a Python minor version."""
    return hashlib.sha256(f"{hash_file(package / LOCK)} {python}".encode()).hexdigest()


def python_of(home: Home, package: Path, manifest: Manifest) -> Path:
    """Return the interpreter that runs the package in the folder ``package``; its environment is made if it is not there yet.

    A package without a lock runs in the server's own Python. Takes seconds to minutes where there is something to install. Raises
    `EnvironmentFailed` with what uv says, and `StorageFull` if the disk is full; nothing half-made is left in use.
    """
    if manifest.lock is None or manifest.python is None:
        return Path(sys.executable)
    environment: Path = home.envs / environment_key(package, manifest.python)
    if not environment.exists():
        _make(environment, package, manifest.python)
    return _interpreter(environment)


def remove_leftovers(home: Home, clock: Clock | None = None) -> None:
    """Remove environments whose making was interrupted more than a day ago."""
    oldest = (clock or SystemClock()).wall() - LEFTOVER_SECONDS
    for path in home.envs.glob(f"{BUILDING}*"):
        if path.lstat().st_mtime < oldest:
            shutil.rmtree(path, ignore_errors=True)


def _interpreter(environment: Path) -> Path:
    return environment / "bin" / "python"


def _make(environment: Path, package: Path, python: str) -> None:
    environment.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=BUILDING, dir=environment.parent))
    try:
        venv = building / "venv"
        # Relocatable, because it is renamed when it is done.
        _run_uv(
            ["venv", "--quiet", "--relocatable", "--no-project", *_python_flags(python), str(venv)],
            building,
            doing="make the environment",
        )
        shutil.copyfile(package / LOCK, building / LOCK)
        _run_uv(["pip", "sync", "--quiet", "--python", str(_interpreter(venv)), LOCK], building, doing=f"install what {LOCK} says")
        # A crash of the machine must not leave an environment of empty files under a name that promises whole ones.
        os.sync()
        _rename(venv, environment)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _rename(venv: Path, environment: Path) -> None:
    try:
        os.rename(venv, environment)
    except OSError as error:
        # Somebody else was faster with the same lock.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def _python_flags(python: str) -> list[str]:
    """Return uv's flags for an interpreter of that minor version: this one where it fits, never a download."""
    interpreter = sys.executable if python == server_python() else python
    return ["--python", interpreter, "--no-python-downloads"]


def _run_uv(arguments: list[str], folder: Path, *, doing: str, given: str = "") -> None:
    """Run uv in ``folder`` with ``given`` on its standard input. Raises `EnvironmentFailed` with the end of what it says."""
    environ = {key: value for key, value in os.environ.items() if key not in _FORGET}
    environ |= uv_variables(environ) | {"NO_COLOR": "1"}
    command = [uv.find_uv_bin(), *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environ,
            input=given,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentFailed(
            f"could not {doing}: uv was still at it after {TIMEOUT:g} s; nothing was changed. Try again"
        ) from None
    if done.returncode == 0:
        return
    said = _PASSWORD.sub("***@", done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}")
    if "No space left on device" in said:
        raise StorageFull(
            f"could not {doing}: no space left on the disk; nothing was changed. Free some space and try again\n{said}"
        )
    last = "\n".join(f"  {line}" for line in said.splitlines()[-_LAST_LINES:])
    raise EnvironmentFailed(f"could not {doing}; nothing was changed. Correct the requirements. uv says:\n{last}")
