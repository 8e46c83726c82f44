"""What needs to know several rooms at once: a server for a notebook, and a home opened without a server.

Imported lazily, by ``headgate.serve`` and by the commands that work without a server.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from headgate.cli.api import Address, Api
from headgate.cli.connection import live_server
from headgate.cli.flags import FLAGS
from headgate.client import Client
from headgate.errors import HeadgateError, InvalidRequest, NotReady, PackageError, SpecError, did_you_mean
from headgate.export import export, export_example
from headgate.home import Home
from headgate.registry.access import open_registry
from headgate.registry.registry import Origin, Registry

_STARTED = 600.0
"""Seconds a notebook waits for its server; a large model loads slowly."""
_ENDED = 45.0
_POLL = 0.05


class HomeCatalog:
    """The registry of a home on which no server runs, with the values of the control API (see `headgate.cli.catalog.Catalog`)."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def known(self, model: str, source_digest: str) -> str | None:
        """Return the digest of the newest package of the same source."""
        version = self._registry.known(model, source_digest)
        return version.digest if version else None

    def staging(self) -> AbstractContextManager[Path]:
        """Give an empty folder inside the store."""
        return self._registry.store.staging()

    def store(self, folder: Path, digest: str) -> None:
        """Move the package into the store."""
        self._registry.store.add(folder)

    def register(self, model: str, fields: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        """Register a stored package."""
        origin = Origin(by=_user(), **{key: value for key, value in fields.items() if key != "digest"})
        version, created = self._registry.register(model, fields["digest"], origin)
        return created, msgspec.to_builtins(version)

    def models(self) -> list[dict[str, Any]]:
        """Return every model."""
        return [msgspec.to_builtins(model) for model in self._registry.models()]

    def versions(self, model: str) -> list[dict[str, Any]]:
        """Return the versions of ``model``, oldest first."""
        return [msgspec.to_builtins(version) for version in self._registry.versions(model)]

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point ``alias`` at ``version``."""
        self._registry.set_alias(model, alias, version, by=_user())

    def delete_alias(self, model: str, alias: str) -> None:
        """Remove ``alias``."""
        self._registry.delete_alias(model, alias, by=_user())

    def keys(self) -> list[dict[str, Any]]:
        """Return every key, without its secret."""
        return [msgspec.to_builtins(key) for key in self._registry.keys.all()]

    def create_key(self, name: str, scopes: list[str]) -> dict[str, Any]:
        """Make a key; only this answer holds its secret."""
        key, text = self._registry.keys.create(name, scopes)
        return {**msgspec.to_builtins(key), "key": text}

    def revoke_key(self, key: str) -> None:
        """Revoke a key by its id."""
        self._registry.keys.revoke(key)


def _user() -> str:
    import getpass

    return getpass.getuser()


@contextmanager
def open_home(home: Home) -> Iterator[HomeCatalog]:
    """Open the registry of ``home`` directly, alone with it. Raises `Conflict` if a server runs there."""
    with open_registry(home) as registry:
        yield HomeCatalog(registry)
