"""Compile the ``.proto`` files of protocols and folder formats: ``python tools/protos.py [--check]``.

Each folder of their shelves with ``.proto`` files gets one ``messages.binpb``: a serialized FileDescriptorSet of them and of all
they import. A file is named by its path from its shelf (``oip/inference.proto``), in imports too, so that no two are called the same.
The sets are committed, so that nobody needs a compiler to run Headgate; ``--check`` writes nothing and fails when one is out of step.
The compiler lives in an environment of its own (``tests/environments/protos.txt``).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from setup import uv_variables

ROOT = Path(__file__).resolve().parent.parent
SHELVES = tuple(ROOT / "src" / "headgate" / shelf for shelf in ("protocols", "package/folders"))
NAME = "messages.binpb"


def folders() -> list[Path]:
    """Return the folders that hold ``.proto`` files, sorted."""
    return sorted({path.parent for shelf in SHELVES for path in shelf.glob("*/*.proto")})


def compiler() -> str:
    """Return the Python that has the compiler, making its environment where it is missing. Raises `CalledProcessError`."""
    command = [sys.executable, str(ROOT / "tests" / "environments" / "build.py"), "protos"]
    return subprocess.run(
        command, env={**os.environ, **uv_variables()}, check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def compiled(python: str, folder: Path) -> bytes:
    """Return the descriptors of all files in ``folder``. Raises `CalledProcessError`, after the compiler has said what is wrong."""
    sources = sorted(f"{folder.name}/{path.name}" for path in folder.glob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / NAME
        options = [*(f"--proto_path={shelf}" for shelf in SHELVES), "--include_imports", f"--descriptor_set_out={target}"]
        subprocess.run([python, "-m", "grpc_tools.protoc", *options, *sources], check=True)
        return target.read_bytes()


def stale() -> dict[Path, bytes]:
    """Return what each set should hold that is missing or holds something else."""
    python = compiler()
    wanted = {folder / NAME: compiled(python, folder) for folder in folders()}
    return {path: data for path, data in wanted.items() if not path.is_file() or path.read_bytes() != data}


def main(arguments: list[str] | None = None) -> int:
    """Write the sets that have changed, or with ``--check`` say which would."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a set is out of step")
    check = parser.parse_args(arguments).check
    changed = stale()
    for path, data in changed.items():
        if not check:
            path.write_bytes(data)
        print(f"{path.relative_to(ROOT)} {'is out of step: run make protos' if check else 'written'}")
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
