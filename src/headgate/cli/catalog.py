"""The registry and the keys, as commands see them: through the control API of a running server, else the home itself.

Both answer with the values of the control API, so a command neither knows nor shows the difference.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from headgate.cli.api import Api, segment
from headgate.cli.arguments import home_of
from headgate.cli.connection import find
from headgate.errors import NotFound
from headgate.home import saying_full


class Catalog(Protocol):
    """What can be asked of a registry, with or without a server."""

    def known(self, model: str, source_digest: str) -> str | None:
        """Return the digest of the package that ``model`` has of the same source, if there is one that is not damaged."""

    def staging(self) -> AbstractContextManager[Path]:
        """Give an empty folder to build a package in."""

    def store(self, folder: Path, digest: str) -> None:
        """Bring the package in ``folder``, which `staging` has given, into the store, if it is not there."""

    def register(self, model: str, fields: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        """Register a stored package (``digest``, ``note``, ``trusted_by``, ``relock``, ``number``); return whether it is new, and it."""

    def models(self) -> list[dict[str, Any]]:
        """Return every model."""

    def versions(self, model: str) -> list[dict[str, Any]]:
        """Return the versions of ``model``, oldest first."""

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point ``alias`` at ``version``."""

    def delete_alias(self, model: str, alias: str) -> None:
        """Remove ``alias``."""

    def all_keys(self) -> list[dict[str, Any]]:
        """Return every key, without its secret."""

    def create_key(self, name: str, scopes: list[str]) -> dict[str, Any]:
        """Make a key; only this answer holds its secret."""

    def revoke_key(self, key: str) -> None:
        """Revoke a key by its id."""


class RemoteCatalog:
    """The registry of a running server."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def known(self, model: str, source_digest: str) -> str | None:
        """Return the digest of the newest package of the same source."""
        try:
            versions = self.versions(model)
        except NotFound:
            return None
        found = [str(version["digest"]) for version in versions if version["source_digest"] == source_digest]
        return found[-1] if found and self._stores(found[-1]) else None

    def _stores(self, digest: str) -> bool:
        return self._api.exists(f"/packages/{segment(digest)}")

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Give a temporary folder."""
        with saying_full(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory(prefix="headgate-package-") as folder:
            yield Path(folder)

    def store(self, folder: Path, digest: str) -> None:
        """Upload the package unless the server has it."""
        if not self._stores(digest):
            from headgate.package.archive import pack

            archive = pack(folder)
            self._api.upload("/packages", archive.chunks, archive.length)

    def register(self, model: str, fields: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        """Register a stored package: 201 is a new version, 200 one that was there."""
        status, version = self._api.call("POST", f"/models/{segment(model)}/versions", fields)
        return status == 201, version

    def models(self) -> list[dict[str, Any]]:
        """Return every model."""
        return _items(self._api.get("/models"), "models")

    def versions(self, model: str) -> list[dict[str, Any]]:
        """Return the versions of ``model``."""
        return _items(self._api.get(f"/models/{segment(model)}/versions"), "versions")

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point ``alias`` at ``version``."""
        self._api.call("PUT", f"/models/{segment(model)}/aliases/{segment(alias)}", {"version": version})

    def delete_alias(self, model: str, alias: str) -> None:
        """Remove ``alias``."""
        self._api.call("DELETE", f"/models/{segment(model)}/aliases/{segment(alias)}")

    def all_keys(self) -> list[dict[str, Any]]:
        """Return every key, without its secret."""
        return _items(self._api.get("/keys"), "keys")

    def create_key(self, name: str, scopes: list[str]) -> dict[str, Any]:
        """Make a key; only this answer holds its secret."""
        created: dict[str, Any] = self._api.call("POST", "/keys", {"name": name, "scopes": scopes})[1]
        return created

    def revoke_key(self, key: str) -> None:
        """Revoke a key by its id."""
        self._api.call("DELETE", f"/keys/{segment(key)}")


@contextmanager
def open_catalog(args: argparse.Namespace) -> Iterator[Catalog]:
    """Open the registry the command is about: the server's where one is given or runs, else the home's own."""
    api = find(args)
    if api is not None:
        yield RemoteCatalog(api)
        return
    from headgate.assembly import open_home

    with open_home(home_of(args)) as catalog:
        yield catalog


def _items(answer: Any, name: str) -> list[dict[str, Any]]:
    """Return the list of an answer, bare or under its name."""
    items: list[dict[str, Any]] = answer[name] if isinstance(answer, dict) else answer
    return items
