"""Packages as control needs them: what their manifest says, and an environment they can run in."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from headgate.control.model import Prepared, Refused
from headgate.errors import HeadgateError
from headgate.home import Home
from headgate.registry.blobs import PackageStore


class Facts(NamedTuple):
    """What a routing table says of a package."""

    signature: bytes
    """JSON."""
    platform: str
    idempotent: bool
    splittable: bool
    v1: str
    """Dialect of the ``/v1`` paths that its origin suggests."""
    example: bytes = b""
    config: Mapping[str, Any] = {}
    """What is shown of the model's own configuration."""


class Packages(Protocol):
    """Where packages come from."""

    def facts(self, digest: str) -> Facts:
        """Return what the manifest says. Raises `HeadgateError` if the package is not there or is damaged."""
        ...

    def folder(self, digest: str) -> Path:
        """Return where the package lies. Raises `HeadgateError`."""
        ...

    def look(self, digest: str) -> Prepared | Refused | None:
        """Return at once how far the preparation of a package is, beginning it where nobody has; None: still at it."""
        ...

    def keep(self, digests: Iterable[str]) -> None:
        """Forget what is known of all other packages, so that another try is one."""
        ...


class StoredPackages:
    """The packages of a home. Environments are made by threads of its own; ``done`` is called by them when one has ended."""

    def __init__(self, home: Home, store: PackageStore, done: Callable[[], None]) -> None:
        self._home = home
        self._store = store
        self._done = done
        self._facts: dict[str, Facts] = {}
        self._preparing: dict[str, Future[Prepared | Refused]] = {}
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="prepare")

    def facts(self, digest: str) -> Facts:
        """Return what the manifest says; read once."""
        found = self._facts.get(digest)
        if found is None:
            found = self._facts[digest] = self._read(digest)
        return found

    def folder(self, digest: str) -> Path:
        """Return the folder in the store."""
        return self._store.path(digest)

    def look(self, digest: str) -> Prepared | Refused | None:
        """Return the environment that runs the package, if it is there yet."""
        future = self._preparing.get(digest)
        if future is None:
            future = self._preparing[digest] = self._threads.submit(self._prepare, digest)
            future.add_done_callback(lambda _: self._done())
        return future.result() if future.done() else None

    def keep(self, digests: Iterable[str]) -> None:
        """Forget all others, unless they are under way."""
        kept = set(digests)
        self._facts = {digest: facts for digest, facts in self._facts.items() if digest in kept}
        self._preparing = {digest: future for digest, future in self._preparing.items() if digest in kept or not future.done()}

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _read(self, digest: str) -> Facts:
        manifest = self._store.manifest(digest)
        return Facts(
            signature=msgspec.json.encode(manifest.signature),
            platform=manifest.platform or manifest.runtime,
            idempotent=manifest.idempotent,
            # Triton refuses requests above its maximum, and its users count on it.
            splittable=any(each.batched for each in manifest.signature.each) and manifest.origin != "triton",
            v1="truss" if manifest.origin == "truss" else "tfserving",
            example=self._store.example(digest),
            config=manifest.config,
        )

    def _prepare(self, digest: str) -> Prepared | Refused:
        try:
            python = self._store.prepare(digest, self._home)
        except (HeadgateError, OSError) as error:
            return Refused(reason=str(error))
        return Prepared(python=None if python == Path(sys.executable) else str(python))
