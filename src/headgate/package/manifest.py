"""The manifest: what is in a package, and the digest that is the package's identity.

A package is a folder:

    manifest.json      this struct
    files/             the model as the runtime loads it; Python code beside it
    requirements.txt   as the user gave them           (only with an environment of its own)
    pylock.toml        the same, locked with hashes    (only with an environment of its own)
    example.json       an input example                (optional)
"""

from __future__ import annotations

import hashlib

import msgspec

from headgate.package.signature import Signature

FORMAT = 1


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
    origin: str = "file"
    """Whose folder it came from: ``file``, ``python``, later ``truss``, ``triton``, ``mlflow``, ``tfserving``."""
    python: str | None = None
    """``3.11``: the interpreter the lock was made for; None without an environment of its own."""
    requirements: str | None = None
    """SHA-256 of ``requirements.txt``."""
    lock: str | None = None
    """SHA-256 of ``pylock.toml``."""
    example: str | None = None
    """SHA-256 of ``example.json``."""

    def encode(self) -> bytes:
        """Return the canonical bytes: JSON, keys sorted, no defaults, no white space."""
        return msgspec.json.encode(msgspec.to_builtins(self), order="sorted")

    @property
    def digest(self) -> str:
        """``sha256:<hex>`` of the canonical bytes: the package's identity."""
        return "sha256:" + hashlib.sha256(self.encode()).hexdigest()

    @property
    def source_digest(self) -> str:
        """The digest before locking: equal inputs have equal source digests, whatever the index offered that day."""
        return msgspec.structs.replace(self, lock=None).digest


def decode_manifest(data: bytes) -> Manifest:
    """Read a manifest. Raises `msgspec.ValidationError` or `msgspec.DecodeError`."""
    return msgspec.json.decode(data, type=Manifest)
