"""Small packages, made without loading a model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate.package.manifest import Manifest
from headgate.package.signature import Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(TensorSpec(name="x", dtype="FP32", shape=(-1, 3)),),
    outputs=(TensorSpec(name="y", dtype="FP32", shape=(-1,)),),
    batched=True,
)


@pytest.fixture
def make_package() -> Callable[..., Manifest]:
    """A function that writes a whole package with the given files (bytes by path) into a folder."""

    def make(folder: Path, files: dict[str, bytes]) -> Manifest:
        for path, content in files.items():
            (folder / "files" / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "files" / path).write_bytes(content)
        hashes = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
        manifest = Manifest(runtime="onnx", entry=min(files).partition("/")[0], signature=SIGNATURE, files=hashes)
        (folder / "manifest.json").write_bytes(manifest.encode())
        return manifest

    return make
