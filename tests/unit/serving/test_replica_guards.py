"""What a replica checks before it loads a package, and what it lets out of what a model says."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from headgate.errors import DigestMismatch
from headgate.serving.digests import check_digests
from headgate.serving.words import for_clients

FILES = {"model.onnx": b"weights", "data/table.bin": bytes(100_000)}
EXAMPLE = b'[{"x": 1}]'


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package, under its digest as in the store."""
    files = {path: sha256(data) for path, data in FILES.items()}
    manifest = json.dumps({"entry": "model.onnx", "files": files, "example": sha256(EXAMPLE)}).encode()
    folder = tmp_path / sha256(manifest)
    for path, data in FILES.items():
        (folder / "files" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "files" / path).write_bytes(data)
    (folder / "manifest.json").write_bytes(manifest)
    (folder / "example.json").write_bytes(EXAMPLE)
    return folder


def test_a_whole_package_passes(package: Path) -> None:
    """Also one that lies in a folder of another name, which says nothing of its manifest."""
    check_digests(package)
    check_digests(package.rename(package.with_name("by-hand")))


@pytest.mark.parametrize("path", ["manifest.json", "example.json", "files/model.onnx", "files/data/table.bin"])
@pytest.mark.parametrize("damage", ["bit", "end", "all"])
def test_damage_is_told_by_file_and_digests(package: Path, path: str, damage: str) -> None:
    """One bit, a lost end or a lost file: the message names it, what it should be and what it is, and what to do."""
    before = (package / path).read_bytes()
    after = {"bit": bytes([before[0] ^ 4]) + before[1:], "end": before[:-1], "all": b""}[damage]
    if damage == "all":
        os.unlink(package / path)
    else:
        (package / path).write_bytes(after)
    found = "no such file" if damage == "all" else sha256(after)
    with pytest.raises(DigestMismatch, match=f"^{path}: expected sha256 {sha256(before)}, got {found}: .*Push the model again"):
        check_digests(package)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("[Errno 2] No such file or directory: '/data/my models/x/w.bin'", "[Errno 2] No such file or directory: 'w.bin'"),
        ("cannot read /etc/app/c.txt, or /etc/passwd: no", "cannot read c.txt, or passwd: no"),
        ("PosixPath('/a/b/c') is not '/a b/c d/e'", "PosixPath('c') is not 'e'"),
        ("[bt] (0) /usr/lib/libx.so(+0x12) path:/a/b:3", "[bt] (0) libx.so(+0x12) path:b:3"),
        (
            "ask http://host/a/b or n/a, 1/2, ~/x, a/b, /, '/', /predict",
            "ask http://host/a/b or n/a, 1/2, ~/x, a/b, /, '/', /predict",
        ),
        ('bad\nTraceback (most recent call last):\n  File "/a/b.py", line 3', "bad\n... (the rest is in the log)"),
        ("x" * 5000, "x" * 2000 + "... (the rest is in the log)"),
        ("", ""),
    ],
)
def test_folders_and_tracebacks_stay_here(said: str, shown: str) -> None:
    """Of a path its last part is shown; what only looks like a path stays; a traceback and a novel are cut, which is said."""
    assert for_clients(said) == shown
