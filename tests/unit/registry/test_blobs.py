"""The package store: whole packages under their digest, or nothing."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from headgate.errors import DigestMismatch, HeadgateError, NotFound, PackageError
from headgate.package.manifest import Manifest
from headgate.registry import blobs
from headgate.registry.blobs import PackageStore
from headgate.testing.clock import ManualClock

MakePackage = Callable[..., Manifest]
FILES = {"m.onnx": b"weights", "deep/er/b.bin": b"x"}


@pytest.fixture
def store(tmp_path: Path) -> PackageStore:
    return PackageStore(tmp_path / "store")


def add(store: PackageStore, make_package: MakePackage, files: dict[str, bytes] = FILES) -> str:
    with store.staging() as folder:
        make_package(folder, files)
        return store.add(folder)


def test_a_package_is_stored_under_its_digest(store: PackageStore, make_package: MakePackage) -> None:
    """It is found by digest, whole and read-only, and nothing is left of its arrival."""
    digest = add(store, make_package)
    assert store.verify(digest) == store.manifest(digest)
    assert store.digests() == [digest]
    assert [path.name for path in store.root.iterdir()] == [digest.removeprefix("sha256:")]
    for path in [store.path(digest), *store.path(digest).rglob("*")]:
        assert not path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH), path


def test_storing_again_changes_nothing(store: PackageStore, make_package: MakePackage) -> None:
    """The folder that is there stays, so that a replica that is reading it is not disturbed."""
    digest = add(store, make_package)
    before = store.path(digest).stat().st_ino
    assert add(store, make_package) == digest
    assert store.path(digest).stat().st_ino == before
    assert len(list(store.root.iterdir())) == 1


def test_many_at_once(store: PackageStore, make_package: MakePackage) -> None:
    """Sixteen threads that store the same package all succeed, and it is there once."""
    digests: list[str] = []
    threads = [threading.Thread(target=lambda: digests.append(add(store, make_package))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 16
    assert set(digests) == set(store.digests())
    assert len(list(store.root.iterdir())) == 1


@pytest.mark.parametrize("damage", [b"weightz", b"weight", b""])
def test_damage_is_seen_and_healed(damage: bytes, store: PackageStore, make_package: MakePackage) -> None:
    """A flipped or missing byte is found by file name and both digests; pushing the package again repairs it."""
    digest = add(store, make_package)
    file = store.path(digest) / "files" / "m.onnx"
    file.chmod(0o644)
    file.write_bytes(damage)
    with pytest.raises(DigestMismatch, match=r"files/m\.onnx: expected sha256 [0-9a-f]{64}, got [0-9a-f]{64}"):
        store.verify(digest)
    assert not store.is_whole(digest)
    assert add(store, make_package) == digest
    store.verify(digest)
    assert store.is_whole(digest) and not store.is_whole("sha256:" + "0" * 64)
    assert len(list(store.root.iterdir())) == 1, "what was damaged is gone"


def test_swapped_packages_are_seen(store: PackageStore, make_package: MakePackage) -> None:
    """A whole package under the digest of another is not taken for it."""
    one, other = add(store, make_package), add(store, make_package, {"m.onnx": b"other"})
    os.rename(store.path(one), store.root / "aside")
    os.rename(store.path(other), store.root / one.removeprefix("sha256:"))
    with pytest.raises(DigestMismatch, match=one):
        store.verify(one)


def arrive_damaged(store: PackageStore, make_package: MakePackage, interruption: type[BaseException] | None) -> None:
    with store.staging() as folder:
        make_package(folder, FILES)
        (folder / "files" / "m.onnx").write_bytes(b"damaged")
        if interruption:
            raise interruption
        store.add(folder)


def test_what_is_not_whole_is_not_stored(store: PackageStore, make_package: MakePackage) -> None:
    """A package that is not what its manifest says leaves no trace."""
    for kind in (DigestMismatch, KeyboardInterrupt):
        with pytest.raises(kind):
            arrive_damaged(store, make_package, None if kind is DigestMismatch else kind)
    assert list(store.root.iterdir()) == []


def test_a_full_disk_is_said(store: PackageStore, make_package: MakePackage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk is full, while writing or while making durable, the message says so, and nothing is visible."""
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(HeadgateError, match="no space left"), store.staging():
        raise full

    def fail(_: int) -> None:
        raise full

    monkeypatch.setattr(blobs.os, "fsync", fail)
    with pytest.raises(HeadgateError, match="no space left"):
        add(store, make_package)
    assert store.digests() == []
    assert list(store.root.iterdir()) == []
    monkeypatch.setattr(blobs.tempfile, "mkdtemp", lambda **_: fail(0))
    with pytest.raises(HeadgateError, match="no space left"):
        add(store, make_package)


def test_leftovers_go_after_a_day(store: PackageStore) -> None:
    """What an interrupted arrival left, read-only folders too, is removed a day later; one under way is not."""
    clock = ManualClock()
    for name, age in (("old", 90_000), ("new", 80_000)):
        folder = store.root / f".incoming-{name}" / "files"
        folder.mkdir(parents=True)
        (folder / "x").write_bytes(b"")
        folder.chmod(0o555)
        os.utime(folder.parent, (0, clock.wall() - age))
    assert store.remove_leftovers(clock) == [".incoming-old"]
    assert [path.name for path in store.root.iterdir()] == [".incoming-new"]


@pytest.mark.parametrize("digest", ["sha256:../../etc", "../x", ""])
def test_only_digests_are_looked_up(digest: str, store: PackageStore) -> None:
    """Nothing else reaches the file system; an unknown digest is not found."""
    with pytest.raises(PackageError, match="64 hex digits"):
        store.path(digest)
    with pytest.raises(NotFound, match="not in this store"):
        store.path("sha256:" + "0" * 64)
