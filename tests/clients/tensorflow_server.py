"""A server of the conformance suite that serves SavedModels, too: their replicas run where TensorFlow is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
from serving import BOOTSTRAP, Served, Server

from headgate.package.manifest import Manifest
from headgate.package.signature import Signature


class TensorFlowServer(Server):
    """A model whose kind is a folder in ``saved`` is that SavedModel; all others are classes of the conformance suite."""

    def __init__(self, folder: Path, models: Iterable[Served], saved: Path, python: Path) -> None:
        models = list(models)
        self._saved = saved
        self._tensorflow = python
        kinds = [served.kind for served in models if (saved / served.kind).is_dir()]
        with ThreadPoolExecutor(2) as pool:
            self._signatures = dict(zip(kinds, pool.map(self._describe, kinds), strict=True))
        super().__init__(folder, models)

    def _package(self, served: Served) -> Signature:
        signature = self._signatures.get(served.kind)
        if signature is None:
            return super()._package(served)
        files = self.home.store / served.revision / "files"
        shutil.copytree(self._saved / served.kind, files / served.kind)
        manifest = Manifest(runtime="tensorflow", entry=served.kind, signature=signature, files={})
        (files.parent / "manifest.json").write_bytes(manifest.encode())
        return signature

    def _python(self, served: Served) -> str:
        return str(self._tensorflow) if served.kind in self._signatures else super()._python(served)

    def _describe(self, kind: str) -> Signature:
        """Look into a model as packaging does."""
        path = str(self._saved / kind)
        config = {"path": path, "attribute": "", "runtime": "tensorflow", "device": "cpu", "threads": 1, "example": None}
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        environment["HEADGATE_CONFIG"] = json.dumps(config)
        command = [str(self._tensorflow), "-P", str(BOOTSTRAP), "describe"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
        found: dict[str, Any] = json.loads(done.stdout)
        assert "signature" in found, (found, done.stderr[-3000:])
        return msgspec.convert(found["signature"], Signature)
