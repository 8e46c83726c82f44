"""Packages as control needs them: facts from the manifest, environments from threads of their own."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import msgspec
import pytest

from headgate.control.model import Prepared, Refused
from headgate.control.packages import StoredPackages
from headgate.errors import NotFound
from headgate.home import Home
from headgate.package.manifest import Manifest
from headgate.package.signature import Signature, TensorSpec
from headgate.registry.blobs import PackageStore

SIGNATURE = Signature(inputs=(TensorSpec(name="x", dtype="FP32", shape=(-1, 3)),), outputs=(), batched=True)


class Stored:
    """A home's packages, and a way to wait until one has been prepared."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder).create()
        self.store = PackageStore(self.home.store)
        self.done = threading.Event()
        self.packages = StoredPackages(self.home, self.store, self.done.set)

    def add(self, **fields) -> str:
        with self.store.staging() as folder:
            (folder / "files").mkdir()
            (folder / "files" / "m.onnx").write_bytes(b"x")
            given = {
                "runtime": "onnx",
                "entry": "m.onnx",
                "signature": SIGNATURE,
                "files": {"m.onnx": hashlib.sha256(b"x").hexdigest()},
            }
            (folder / "manifest.json").write_bytes(Manifest(**(given | fields)).encode())
            return self.store.add(folder)

    def prepared(self, digest: str) -> Prepared | Refused | None:
        self.done.clear()
        found = self.packages.look(digest)
        if found is None:
            assert self.done.wait(30)
            found = self.packages.look(digest)
        return found


@pytest.fixture
def stored(tmp_path):
    made = Stored(tmp_path / "home")
    yield made
    made.packages.close()


def test_facts_are_those_of_the_manifest(stored):
    """Signature as JSON, platform or runtime, purity, and the dialect its origin speaks."""
    facts = stored.packages.facts(stored.add())
    assert msgspec.json.decode(facts.signature, type=Signature) == SIGNATURE
    assert (facts.platform, facts.idempotent, facts.splittable, facts.v1, facts.example) == ("onnx", True, True, "tfserving", b"")
    truss = stored.packages.facts(stored.add(origin="truss", idempotent=False, platform="truss"))
    assert (truss.platform, truss.idempotent, truss.v1) == ("truss", False, "truss")


def test_a_triton_repository_refuses_requests_above_its_maximum(stored):
    """As Triton does; and what has no batch axis cannot be split at all."""
    assert not stored.packages.facts(stored.add(origin="triton")).splittable
    whole = msgspec.structs.replace(SIGNATURE, batched=False)
    assert not stored.packages.facts(stored.add(signature=whole)).splittable


def test_a_package_without_a_lock_runs_in_the_servers_python(stored):
    """Which is not written down, so that it may move."""
    assert stored.prepared(stored.add()) == Prepared(python=None)


def test_a_package_that_is_not_there_is_refused_until_it_is_forgotten(stored):
    """The refusal is kept while somebody waits for it, so that it is not tried in circles; then the next look is another try."""
    digest = f"sha256:{'0' * 64}"
    with pytest.raises(NotFound):
        stored.packages.facts(digest)
    refused = stored.prepared(digest)
    assert isinstance(refused, Refused)
    assert "not in this store" in refused.reason
    stored.packages.keep({digest})
    assert stored.packages.look(digest) is refused
    stored.packages.keep(set())
    assert stored.prepared(digest) is not refused
