"""A package folder on disk: what is in it, and whether that is what its manifest promises."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from headgate.errors import DigestMismatch, PackageError
from headgate.package.manifest import MANIFEST, Manifest, check_paths, decode_manifest, hash_file

MANIFEST_BYTES = 16 << 20
"""Largest manifest that is read: some 100,000 files."""


def regular_files(folder: Path) -> dict[str, Path]:
    """Return every file below ``folder`` by its relative path with forward slashes, sorted.

    Raises `PackageError` for anything that is neither a regular file nor a folder: links and devices have no place in a package.
    """
    return dict(sorted(_walk(folder, "")))


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = prefix + entry.name
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                yield from _walk(Path(entry.path), f"{path}/")
            elif stat.S_ISREG(mode):
                yield path, Path(entry.path)
            else:
                raise PackageError(f"{path}: neither a file nor a folder (a link, pipe or device); put the file itself there")


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of the package in ``folder``. Raises `PackageError` if there is none, or it is none."""
    path = folder / MANIFEST
    try:
        if path.lstat().st_size > MANIFEST_BYTES or path.is_symlink():
            raise PackageError(f"{MANIFEST}: larger than {MANIFEST_BYTES >> 20} MiB, or a link; the package is refused")
        return decode_manifest(path.read_bytes())
    except FileNotFoundError:
        raise PackageError(f"there is no {MANIFEST} in the package; it is refused. Push the model again") from None


def verify(folder: Path) -> Manifest:
    """Hash every file of the package in ``folder`` and return its manifest.

    Raises `DigestMismatch` naming the file and both digests, or `PackageError` for a missing, an additional or a special file.
    """
    manifest = read_manifest(folder)
    if (folder / MANIFEST).read_bytes() != manifest.encode():
        raise DigestMismatch(
            f"{MANIFEST}: not in canonical form, so its digest says nothing of it; the package is refused. Push the model again"
        )
    promised, there = manifest.contents(), regular_files(folder)
    check_paths(there)
    if missing := sorted(promised.keys() - there.keys()):
        raise DigestMismatch(
            f"{missing[0]}: in the manifest (sha256 {promised[missing[0]]}), but there is no such file; push the model again"
        )
    if extra := sorted(there.keys() - promised.keys() - {MANIFEST}):
        raise DigestMismatch(
            f"{extra[0]}: not in the manifest (sha256 {hash_file(there[extra[0]])}); the package is refused. Push the model again"
        )
    for path, digest in promised.items():
        found = hash_file(there[path])
        if found != digest:
            raise DigestMismatch(
                f"{path}: expected sha256 {digest}, got {found}; it has changed or is damaged. Push the model again"
            )
    return manifest
