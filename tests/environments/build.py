"""Make the environments of the tests: ``python tests/environments/build.py NAME... | --all``.

Every ``NAME.txt`` beside this file is a list of requirements; its environment is ``.envs/NAME-<hash>/``, where the hash covers the
requirements, this file and the Python version. An environment that is there is complete: it is built under another name and
renamed. Progress goes to standard error, the path of each Python to standard output, in the order asked for. Standard library only.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ENVIRONMENTS = ROOT / ".envs"


def names() -> list[str]:
    """Return the names of all environments, sorted."""
    return sorted(path.stem for path in HERE.glob("*.txt"))


def folder(name: str) -> Path:
    """Return where the environment ``name`` lies once built. Raises `FileNotFoundError` for an unknown name."""
    digest = hashlib.sha256()
    for part in ((HERE / f"{name}.txt").read_bytes(), Path(__file__).read_bytes(), repr(sys.version_info[:2]).encode()):
        digest.update(hashlib.sha256(part).digest())
    return ENVIRONMENTS / f"{name}-{digest.hexdigest()[:12]}"


def build(name: str) -> Path:
    """Return the Python of the environment ``name``, making it first where it is missing.

    Raises `RuntimeError` with the end of uv's output if it cannot be made.
    """
    target = folder(name)
    python = target / "bin" / "python"
    if target.is_dir():
        return python
    ENVIRONMENTS.mkdir(exist_ok=True)
    with _lock(ENVIRONMENTS / f".lock-{name}"):
        if not target.is_dir():
            _build(name, target)
            _remove_stale(name, target)
    return python


def _build(name: str, target: Path) -> None:
    began = time.monotonic()
    print(f"environment {name}: building", file=sys.stderr, flush=True)
    building = ENVIRONMENTS / f".building-{name}"
    shutil.rmtree(building, ignore_errors=True)
    _uv("venv", "--quiet", "--relocatable", "--python", sys.executable, str(building))
    _uv("pip", "install", "--quiet", "--python", str(building / "bin" / "python"), *_find_links(), "-r", str(HERE / f"{name}.txt"))
    building.rename(target)
    print(f"environment {name}: built in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def _remove_stale(name: str, target: Path) -> None:
    length = len(target.name)
    for old in ENVIRONMENTS.glob(f"{name}-" + "[0-9a-f]" * 12):
        if old != target and len(old.name) == length:
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _uv(*arguments: str) -> None:
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv") or str(ROOT / ".venv" / "bin" / "uv")
    done = subprocess.run([uv, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"uv {' '.join(arguments)} failed:\n{done.stdout[-4000:]}")


def _find_links() -> list[str]:
    # uv does not read pip's configuration; without this a site's own wheels (a CPU build of torch) are not seen.
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    values = [os.environ.get("PIP_FIND_LINKS", "")]
    values += [line.partition("=")[2].strip().strip("'\"") for line in listed.splitlines() if ".find-links=" in line]
    places = dict.fromkeys(place for value in values for place in value.replace("\\n", " ").split())
    return [argument for place in places for argument in ("--find-links", place)]


def main(arguments: list[str] | None = None) -> int:
    """Build what the command line names."""
    parser = argparse.ArgumentParser(description="Make the environments of the tests.")
    parser.add_argument("names", nargs="*", choices=[*names(), []], metavar="NAME", help=", ".join(names()))
    parser.add_argument("--all", action="store_true", help="every environment")
    chosen = parser.parse_args(arguments)
    for name in names() if chosen.all else chosen.names:
        print(build(name), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
