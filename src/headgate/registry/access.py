"""Opening the registry of a home: the server's way, and a command's where no server runs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from headgate.clock import Clock, SystemClock
from headgate.errors import Conflict
from headgate.home import Home
from headgate.package.environment import remove_leftovers
from headgate.registry.blobs import PackageStore
from headgate.registry.database import Database
from headgate.registry.registry import Registry

WAIT_SECONDS = 5.0
"""How long a command waits for another that has the home open."""
_POLL_SECONDS = 0.05


@contextlib.contextmanager
def registry_of(home: Home, clock: Clock | None = None) -> Iterator[Registry]:
    """Yield the registry of ``home`` without taking its lock: for the server, whose supervisor holds it."""
    clock = clock or SystemClock()
    home.create()
    store = PackageStore(home.store)
    store.remove_leftovers(clock)
    remove_leftovers(home, clock)
    database = Database(home.database)
    try:
        yield Registry(database, store, clock)
    finally:
        database.close()


@contextlib.contextmanager
def open_registry(home: Home, clock: Clock | None = None, pause: Callable[[float], None] = time.sleep) -> Iterator[Registry]:
    """Yield the registry of a home on which no server runs, alone with it until the block ends.

    Raises `Conflict` naming pid and URL if a server runs there, or if another command keeps the home for five seconds.
    """
    clock = clock or SystemClock()
    home.create()
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(descriptor, home, clock, pause)
        with registry_of(home, clock) as registry:
            yield registry
    finally:
        os.close(descriptor)


def _take(descriptor: int, home: Home, clock: Clock, pause: Callable[[float], None]) -> None:
    """Take the home's lock. A server keeps it for its life, so only for another command is it worth waiting."""
    deadline = clock.monotonic() + WAIT_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            server = _server(home)
        if server is not None:
            raise Conflict(
                f"a server (pid {server['pid']}, {server.get('control_url', 'URL unknown')}) runs on {home.path}; "
                "go through it with --server, or stop it with 'headgate stop --server'"
            )
        if clock.monotonic() >= deadline:
            raise Conflict(f"another command keeps {home.path} for itself; try again when it has ended")
        pause(_POLL_SECONDS)


def _server(home: Home) -> dict[str, Any] | None:
    """Return what ``server.json`` says, if the process it names lives."""
    try:
        server: dict[str, Any] = json.loads(home.server.read_bytes())
        os.kill(int(server["pid"]), 0)
    except PermissionError:
        return server
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return server
