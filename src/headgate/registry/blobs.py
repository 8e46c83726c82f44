"""The package store: read-only folders by digest.

A package appears under its digest in one rename, after every byte of it is on disk and has been hashed; before that it lies in a
folder ``.incoming-*`` that nobody reads.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from headgate.clock import Clock, SystemClock
from headgate.errors import DigestMismatch, NotFound, PackageError
from headgate.home import Home, saying_full
from headgate.package.archive import MAX_BYTES, unpack
from headgate.package.environment import python_of
from headgate.package.folder import read_manifest, verify
from headgate.package.manifest import EXAMPLE, SAMPLE, Manifest, check_digest

ARCHIVE_BYTES = MAX_BYTES + (1 << 30)
"""Bytes of an uploaded archive, its headers included."""

INCOMING = ".incoming-"
LEFTOVER_SECONDS = 86_400.0
"""Age from which a folder of an interrupted arrival is removed; a slow upload may take hours."""


class PackageStore:
    """The folder ``store`` of a home. Several processes may add to it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """Yield an empty folder on the store's file system, to build a package in and `add` it; removed if it is still there.

        A full disk becomes a `StorageFull`, within the block too.
        """
        with saying_full(self.root):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=INCOMING, dir=self.root))
            try:
                yield folder
            finally:
                _remove(folder)

    def add(self, folder: Path) -> str:
        """Verify the package in ``folder``, which `staging` has made, move it into the store and return its digest.

        A package that is there already stays as it is, unless it is damaged: then it is replaced. Raises `DigestMismatch` or
        `PackageError` if the folder is not what its manifest promises; nothing is visible then.
        """
        manifest = verify(folder)
        target = self.root / check_digest(manifest.digest)
        with saying_full(self.root):
            if target.exists() and not self.is_whole(manifest.digest):
                with self.staging() as aside:  # and gone with it
                    os.rename(target, aside)
            if not target.exists():
                _seal(folder)
                _rename(folder, target)
                _sync(self.root)
        _remove(folder)
        return manifest.digest

    def add_archive(self, archive: Path) -> str:
        """Unpack and `add` a tar of a package, a file in a `staging` folder that is gone afterwards; return the digest.

        Raises `DigestMismatch` or `PackageError` if it is no package.
        """
        folder = archive.with_name("package")
        folder.mkdir()
        with open(archive, "rb") as stream:
            archive.unlink()
            unpack(stream, folder)
        return self.add(folder)

    def example(self, digest: str) -> bytes:
        """Return the package's ``example.json``, else its ``sample.json``; empty where it has neither."""
        manifest = self.manifest(digest)
        for name, kept in ((EXAMPLE, manifest.example), (SAMPLE, manifest.sample)):
            if kept:
                return (self.path(digest) / name).read_bytes()
        return b""

    def prepare(self, digest: str, home: Home) -> Path:
        """Verify every byte of a package and return the Python that runs it, making its environment where it is not there yet.

        Takes as long as hashing and installing take. Raises `DigestMismatch`, `EnvironmentFailed` or `StorageFull`.
        """
        return python_of(home, self.path(digest), self.verify(digest))

    def path(self, digest: str) -> Path:
        """Return the folder of a package. Raises `NotFound` if it is not in the store."""
        folder = self.root / check_digest(digest)
        if not folder.is_dir():
            raise NotFound(f"package {digest}: not in this store; push it")
        return folder

    def manifest(self, digest: str) -> Manifest:
        """Return the manifest of a package. Raises `NotFound`, or `DigestMismatch` if its bytes are not those of the digest."""
        manifest = read_manifest(self.path(digest))
        if manifest.digest != digest:
            raise DigestMismatch(
                f"manifest.json: expected {digest}, got {manifest.digest}; the stored package is damaged. Push the model again"
            )
        return manifest

    def verify(self, digest: str) -> Manifest:
        """Hash every file of a stored package and return its manifest. Raises `NotFound`, `DigestMismatch` or `PackageError`."""
        self.manifest(digest)
        return verify(self.path(digest))

    def is_whole(self, digest: str) -> bool:
        """Tell whether a package is stored, and every byte of it is what was pushed. Raises `PackageError` if ``digest`` is none."""
        folder = self.root / check_digest(digest)
        try:
            return folder.is_dir() and verify(folder).digest == digest
        except PackageError:
            return False

    def digests(self) -> list[str]:
        """Return the digests of all packages, sorted."""
        return sorted(f"sha256:{path.name}" for path in self.root.iterdir() if not path.name.startswith("."))

    def remove_leftovers(self, clock: Clock | None = None) -> list[str]:
        """Remove arrivals that were interrupted more than a day ago, and return their names."""
        oldest = (clock or SystemClock()).wall() - LEFTOVER_SECONDS
        old = []
        for path in self.root.glob(f"{INCOMING}*"):
            with suppress(FileNotFoundError):  # it has arrived meanwhile
                if path.lstat().st_mtime < oldest:
                    old.append(path)
        for path in old:
            _remove(path)
        return [path.name for path in old]


def _seal(folder: Path) -> None:
    """Make everything below ``folder`` read-only and durable, the deepest first."""
    for path, _, files in os.walk(folder, topdown=False):
        for name in files:
            _sync(Path(path, name))
            os.chmod(Path(path, name), 0o444)
        _sync(Path(path))
        # Group and others get no more than the store's own 0700 lets them.
        os.chmod(path, 0o555)  # noqa: S103


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(folder: Path) -> None:
    """Remove a folder, read-only ones within it too."""
    for path, _, _ in os.walk(folder):
        os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _rename(folder: Path, target: Path) -> None:
    try:
        os.rename(folder, target)
    except OSError as error:
        # Somebody was faster with the same bytes: a folder that is there cannot be renamed over.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
