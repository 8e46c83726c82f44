"""Where everything of one installation lies: the paths below a home, and nobody else builds them."""

from __future__ import annotations

import contextlib
import errno
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from headgate.errors import StorageFull

_SUN_PATH = 100
"""Bytes a Unix socket path may have (108 on Linux), with room for the longest name."""
_ROOM = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Home:
    """The folder of one installation. Construction touches nothing; `create` makes the folders."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser().absolute()

    @classmethod
    def default(cls) -> Home:
        """``$HEADGATE_HOME``, else ``~/.headgate``."""
        return cls(os.environ.get("HEADGATE_HOME") or "~/.headgate")

    def create(self) -> Home:
        """Make the folders, private to the user, and return self. Raises `StorageFull`."""
        with saying_full(self.path):
            for folder in (self.path, self.store, self.envs, self.logs, self.run, self.sockets):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.sockets.stat().st_uid != os.getuid():
            raise PermissionError(f"{self.sockets} belongs to somebody else; remove it or use a shorter --home")
        return self

    @property
    def database(self) -> Path:
        """SQLite: registry and desired state."""
        return self.path / "headgate.db"

    @property
    def settings(self) -> Path:
        """What the server was told and keeps for its next start."""
        return self.path / "settings.json"

    @property
    def lock(self) -> Path:
        """Held by whoever works on the home."""
        return self.path / "lock"

    @property
    def store(self) -> Path:
        """Packages, one folder each."""
        return self.path / "store"

    @property
    def envs(self) -> Path:
        """Virtual environments."""
        return self.path / "envs"

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.path / "logs"

    @property
    def secrets(self) -> Path:
        """Secrets that a deployment names: one file each, that only the owner may read. Made by whoever keeps one."""
        return self.path / "secrets"

    @property
    def run(self) -> Path:
        """What only lives while a server does."""
        return self.path / "run"

    @property
    def server(self) -> Path:
        """How commands find the server."""
        return self.run / "server.json"

    @property
    def desired(self) -> Path:
        """The processes that should run."""
        return self.run / "desired.json"

    @property
    def observed(self) -> Path:
        """The processes that do."""
        return self.run / "observed.json"

    @property
    def routes(self) -> Path:
        """The last routing table."""
        return self.run / "routes.json"

    @property
    def sockets(self) -> Path:
        """Folder of the sockets: ``run``, or a short one under /tmp where the home's path is too long for a socket."""
        if len(os.fsencode(self.run / "supervisor.sock")) <= _SUN_PATH:
            return self.run
        # A checksum, not a digest: hashlib would load OpenSSL, 4 MB of the supervisor, to name a folder whose owner is checked.
        name = zlib.crc32(os.fsencode(self.path))
        return Path(f"/tmp/headgate-{os.getuid()}-{name:08x}")  # noqa: S108  (0700, owner checked in create)

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
    """Replace ``path`` by ``data``: a reader sees the old or the new content, also after a crash. One process writes a file.

    Raises `StorageFull`; then the old content stays.
    """
    # Always the same name: whoever is killed before the end leaves one file behind, not one each time.
    temporary = path.with_name(f".{path.name}.new")
    with saying_full(path):
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)


def check_room(folder: Path) -> None:
    """Raise `StorageFull` unless ``folder`` has room for another file and a megabyte in it. Raises `OSError` as well."""
    path = folder / ".room"
    with saying_full(folder), open(path, "wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, _ROOM)
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def saying_full(where: Path) -> Iterator[None]:
    """Turn what the system says about a full disk within the block into `StorageFull`; ``where`` is the file or folder written to."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        other = error.filename is not None and not Path(error.filename).is_relative_to(where)
        place = error.filename if other else where
        raise StorageFull(f"no space left on the disk of {place}; nothing was stored. Free some space and try again") from error
