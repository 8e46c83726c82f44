"""The files and the lock of a running server: see docs/architecture/processes.md."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from headgate.errors import Conflict, SpecError
from headgate.home import Home, write_atomically
from headgate.supervision import processes
from headgate.supervision.options import CONTROL, DEPLOYER, GATEWAY, ServeOptions
from headgate.supervision.processes import ProcessSpec

_REMEMBERED = ("default_deployment", "model_control")
"""Settings of a server that its home keeps for the next."""
_REPLICA_OOM_ADJUST = 500
_ID = re.compile(r"(?!\.)[A-Za-z0-9._-]+")


@contextmanager
def locked(home: Home) -> Iterator[None]:
    """Hold the home for as long as the server lives. Raises `Conflict`, naming the server that holds it."""
    descriptor = os.open(home.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Conflict(_who_holds(home)) from None
    finally:
        os.close(descriptor)


def _who_holds(home: Home) -> str:
    try:
        server = json.loads(home.server.read_bytes())
        seen = processes.stat(server["pid"])
        if seen and seen.started == server["started"]:
            return (
                f"a server runs on {home.path} already: pid {server['pid']}, {server['inference_url']}; nothing was started. "
                "Deploy to it with headgate deploy, end it with headgate stop --server, or serve another home with --home"
            )
    except (OSError, ValueError, LookupError, TypeError):
        pass
    return f"another headgate command works on {home.path}; nothing was started. Wait for it to end, then try again"


def remembered(home: Home, wanted: ServeOptions) -> ServeOptions:
    """Return ``wanted`` with what the home remembers, and have it remember what is new: the default deployment and the model control.

    An empty one is forgotten. Raises `SpecError` if the file of the settings cannot be read.
    """
    try:
        settings = json.loads(home.settings.read_bytes())
        before = {name: settings.get(name) for name in _REMEMBERED}
    except FileNotFoundError:
        settings, before = {}, dict.fromkeys(_REMEMBERED)
    except (OSError, ValueError, AttributeError) as error:
        raise SpecError(f"{home.settings} cannot be read ({error}); nothing was started. Correct it, or remove it") from None
    given = {name: getattr(wanted, name) for name in _REMEMBERED}
    now: dict[str, Any] = {name: before[name] if value is None else value or None for name, value in given.items()}
    new = {name: value for name, value in now.items() if value != before[name]}
    if new:
        write_atomically(home.settings, json.dumps(settings | new).encode())
    return wanted._replace(**now)


def replace(path: Path, content: dict[str, Any]) -> None:
    """Replace a file of this run. Not synced: after a power cut nobody needs it. Only the server that holds the home writes it."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps(content))
    os.replace(temporary, path)


def identity() -> dict[str, int]:
    """Return pid and start time of this process."""
    seen = processes.stat(os.getpid())
    return {"pid": os.getpid(), "started": seen.started if seen else 0}


def stamp(path: Path) -> tuple[int, int, int] | None:
    """Return something that changes whenever the file is replaced; None if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


class Desired:
    """The replicas that should run, by id, as desired.json said when it last made sense."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._path = path
        self._say = say
        self._stamp: tuple[int, int, int] | None = None
        self.specs: dict[str, ProcessSpec] = {}

    def look(self) -> None:
        """Read the file if it was replaced. One that is gone changes nothing, nor does a broken one, but that is said."""
        seen = stamp(self._path)
        if seen is None or seen == self._stamp:
            return
        self._stamp = seen
        try:
            self.specs = read_desired(self._path)
        except (OSError, ValueError) as error:
            self._say(f"{self._path} is not followed, what runs stays as it is: {error}")


def read_desired(path: Path) -> dict[str, ProcessSpec]:
    """Return the replicas that should run, by id; none if there is no file. Raises `ValueError` if it makes no sense."""
    try:
        entries = list(json.loads(path.read_bytes())["processes"])
    except FileNotFoundError:
        return {}
    except (KeyError, TypeError) as error:
        raise ValueError("it has no list of processes") from error
    return {spec.id: spec for spec in map(_replica, entries)}


def _replica(entry: Any) -> ProcessSpec:
    try:
        name, argv, env, grace = entry["id"], entry["argv"], entry.get("env", {}), float(entry.get("grace", 10.0))
        strings = [name, *argv, *env, *env.values()]
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"a process is not one: {entry!r:.200}") from error
    if not argv or isinstance(argv, str) or not all(isinstance(text, str) for text in strings):
        raise ValueError(f"command and environment of a process are not text: {entry!r:.200}")
    if not _ID.fullmatch(name) or name in (CONTROL, GATEWAY, DEPLOYER):
        raise ValueError(f"{name!r} cannot be the id of a replica")
    return ProcessSpec(name, argv, env, grace, oom_adjust=_REPLICA_OOM_ADJUST)


def bell(path: Path) -> socket.socket:
    """Open the datagram socket at ``path``: whoever sends anything wants desired.json looked at."""
    path.unlink(missing_ok=True)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    before = os.umask(0o177)
    try:
        opened.bind(str(path))
    finally:
        os.umask(before)
    opened.setblocking(False)
    return opened


def clear(home: Home) -> None:
    """Remove what only means something while a server runs."""
    for path in [*home.run.glob("*.json*"), *home.sockets.glob("*.sock")]:
        path.unlink(missing_ok=True)
    if home.sockets != home.run:
        with suppress(OSError):
            home.sockets.rmdir()
