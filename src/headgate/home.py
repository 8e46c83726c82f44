"""Where everything of one installation lies: the paths below a home, and nobody else builds them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_SUN_PATH = 100
"""Bytes a Unix socket path may have (108 on Linux), with room for the longest name."""


class Home:
    """The folder of one installation. Construction touches nothing; `create` makes the folders."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser().absolute()

    @classmethod
    def default(cls) -> Home:
        """``$HEADGATE_HOME``, else ``~/.headgate``."""
        return cls(os.environ.get("HEADGATE_HOME") or "~/.headgate")

    def create(self) -> Home:
        """Make the folders, private to the user, and return self."""
        for folder in (self.path, self.store, self.envs, self.logs, self.run, self.sockets):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.sockets.stat().st_uid != os.getuid():
            raise PermissionError(f"{self.sockets} belongs to somebody else; remove it or use a shorter --home")
        return self

    database = property(lambda self: self.path / "headgate.db")
    lock = property(lambda self: self.path / "lock")
    store = property(lambda self: self.path / "store")
    envs = property(lambda self: self.path / "envs")
    logs = property(lambda self: self.path / "logs")
    run = property(lambda self: self.path / "run")
    server = property(lambda self: self.run / "server.json")
    desired = property(lambda self: self.run / "desired.json")
    observed = property(lambda self: self.run / "observed.json")
    routes = property(lambda self: self.run / "routes.json")

    @property
    def sockets(self) -> Path:
        """Folder of the sockets: ``run``, or a short one under /tmp where the home's path is too long for a socket."""
        if len(os.fsencode(self.run / "supervisor.sock")) <= _SUN_PATH:
            return self.run
        name = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        return Path(f"/tmp/headgate-{os.getuid()}-{name}")  # noqa: S108  (0700, owner checked in create)

    @property
    def supervisor_socket(self) -> Path:
        """Datagram socket of the supervisor."""
        return self.sockets / "supervisor.sock"

    @property
    def gateway_socket(self) -> Path:
        """The link of gateway-0."""
        return self.sockets / "gateway-0.sock"

    def log(self, process: str) -> Path:
        """The log of one process."""
        return self.logs / f"{process}.log"


def write_atomically(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data``: a reader sees the old or the new content, also after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
