"""The manifest: what is in a package, and the digest that is the package's identity.

A package is a folder:

    manifest.json      this struct
    files/             the model as the runtime loads it; Python code beside it
    requirements.txt   as the user gave them           (only with an environment of its own)
    pylock.toml        the same, locked with hashes    (only with an environment of its own)
    example.json       an input example                (optional)
    sample.json        a row the model is known to take, found out by packaging it (optional)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from headgate.errors import PackageError
from headgate.package.signature import Signature

FORMAT = 1

MANIFEST = "manifest.json"
REQUIREMENTS = "requirements.txt"
LOCK = "pylock.toml"
EXAMPLE = "example.json"
SAMPLE = "sample.json"
FILES = "files/"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HEX = re.compile(r"[0-9a-f]{64}")
_PATH_BYTES = 1024
_PART_BYTES = 255
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\\]")


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that decides how a package behaves, and nothing else: no time, host or user."""

    runtime: str
    """Name on the shelf ``headgate.runtimes``."""
    entry: str
    """Path of the model below ``files/``; for Python code ``ranker.py:Ranker``."""
    signature: Signature
    files: dict[str, str]
    """SHA-256 in hex of every file, by its path below ``files/`` with forward slashes."""
    format: int = FORMAT
    idempotent: bool = True
    """A batch may be run again after its replica died."""
    platform: str = ""
    """For the metadata of the Open Inference Protocol: ``onnxruntime_onnx``."""
    config: dict[str, Any] = {}
    """What is shown of the model's own configuration, in the words of the tool whose folder it was."""
    origin: str = "file"
    """Whose it was: ``file``, ``python``, or another tool's folder: ``mlflow``, ``truss``, later ``triton``, ``tfserving``."""
    python: str | None = None
    """``3.11``: the interpreter the lock was made for; None without an environment of its own."""
    requirements: str | None = None
    """SHA-256 of ``requirements.txt``."""
    lock: str | None = None
    """SHA-256 of ``pylock.toml``."""
    example: str | None = None
    """SHA-256 of ``example.json``."""
    sample: str | None = None
    """SHA-256 of ``sample.json``."""

    def encode(self) -> bytes:
        """Return the canonical bytes: JSON, keys sorted, no defaults, no white space."""
        return msgspec.json.encode(msgspec.to_builtins(self), order="sorted")

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of the canonical bytes: the package's identity."""
        return "sha256:" + hashlib.sha256(self.encode()).hexdigest()

    @property
    def source_digest(self) -> str:
        """The digest of what the user gave, known before anything is locked or loaded: equal inputs have equal source digests.

        What is found out from them (lock, signature and the like) is left out, so that an input seen before costs no work.
        """
        unknown = Signature(inputs=(), outputs=())
        return msgspec.structs.replace(self, lock=None, signature=unknown, idempotent=True, platform="", sample=None).digest

    def contents(self) -> dict[str, str]:
        """Return the SHA-256 in hex of every file of the package but the manifest, by its path in the package."""
        beside = {REQUIREMENTS: self.requirements, LOCK: self.lock, EXAMPLE: self.example, SAMPLE: self.sample}
        return {
            **{FILES + path: digest for path, digest in self.files.items()},
            **{path: hex_ for path, hex_ in beside.items() if hex_},
        }


def decode_manifest(data: bytes) -> Manifest:
    """Read a manifest. Raises `PackageError` if it is none, is of a later format, or names a path that leaves the package."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PackageError(f"{MANIFEST}: not a manifest ({error}); the package is refused. Push the model again") from error
    if manifest.format != FORMAT:
        raise PackageError(
            f"{MANIFEST}: format {manifest.format}, this Headgate reads {FORMAT}; upgrade it, or push the model with this one"
        )
    check_paths(manifest.files)
    entry = manifest.entry.partition(":")[0]
    if not any(path == entry or path.startswith(f"{entry}/") for path in manifest.files):
        raise PackageError(f"{MANIFEST}: entry {manifest.entry[:200]!r} is not among the files; the package is refused")
    for path, digest in manifest.contents().items():
        if not _HEX.fullmatch(digest):
            raise PackageError(
                f"{MANIFEST}: {path}: expected a SHA-256 of 64 hex digits, got {digest[:80]!r}; the package is refused"
            )
    return manifest


def check_paths(paths: Iterable[str]) -> None:
    """Raise `PackageError` unless every path is a plain relative one and no two of them meet on any file system."""
    seen: dict[str, str] = {}
    for path in paths:
        parts = path.split("/")
        if not path or _UNPRINTABLE.search(path) or any(part in ("", ".", "..") for part in parts):
            raise PackageError(
                f"path {path[:200]!r}: expected a relative path of plain names with '/' between; the package is refused"
            )
        if len(_encoded(path)) > _PATH_BYTES or any(len(_encoded(part)) > _PART_BYTES for part in parts):
            raise PackageError(
                f"path {path[:80]!r}...: longer than {_PATH_BYTES} bytes, or {_PART_BYTES} in one name; use a shorter one"
            )
        other = seen.setdefault(path.casefold(), path)
        if other is not path:
            raise PackageError(f"paths {other!r} and {path!r} are the same file on some systems; rename one of them")


def check_digest(digest: str) -> str:
    """Return the hex part of ``sha256:<hex>``. Raises `PackageError` for anything else, so that no digest is ever a path."""
    if not _DIGEST.fullmatch(digest):
        raise PackageError(f"digest: expected 'sha256:' and 64 hex digits, got {digest[:100]!r}")
    return digest.removeprefix("sha256:")


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _encoded(text: str) -> bytes:
    # A lone surrogate is how Python spells a byte that is no UTF-8.
    return text.encode("utf-8", "surrogateescape")
