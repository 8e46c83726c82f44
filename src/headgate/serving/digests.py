"""Whether a package is still what was pushed, looked at by the process that is about to load it: standard library only."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from headgate.errors import DigestMismatch

MANIFEST, EXAMPLE = "manifest.json", "example.json"
_HEX = re.compile("[0-9a-f]{64}")


def check_digests(package: Path) -> None:
    """Raise `DigestMismatch`, naming the file and both digests, unless everything that is about to be loaded is what was pushed.

    In the store a package lies under the digest of its manifest, which holds those of its files. They were checked when it arrived,
    but disks forget.
    """
    own = _hash(package / MANIFEST)
    if _HEX.fullmatch(package.name):
        _compare(MANIFEST, package.name, own)
    manifest: dict[str, Any] = json.loads((package / MANIFEST).read_bytes())
    for path, digest in manifest["files"].items():
        _compare(f"files/{path}", digest, _hash(package / "files" / path))
    if "example" in manifest:
        _compare(EXAMPLE, manifest["example"], _hash(package / EXAMPLE))


def _hash(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return "no such file"


def _compare(path: str, expected: str, found: str) -> None:
    if found != expected:
        raise DigestMismatch(
            f"{path}: expected sha256 {expected}, got {found}: the stored package is damaged, and was not loaded. Push the model again"
        )
