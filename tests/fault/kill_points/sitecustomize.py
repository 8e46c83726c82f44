"""Ends a process at a numbered point, for tests that put this folder on its PYTHONPATH; the process itself knows nothing of it.

A point lies before each thing that a process does to the world: a commit, a table for the gateway, a rename, a process started, a
ring at the bell; with ``fine``, every file or folder that is made, changed or removed, too. ``$KILL_POINTS`` is a file with
``<word of the command line> <number> <fine or coarse>``. The process counts its points from the moment the file appears; before that
number it writes what it was about to do to ``<file>.struck``, takes the file away and is gone.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

ORDER = Path(os.environ["KILL_POINTS"])
COARSE: dict[str, Callable[..., str]] = {
    "os.rename": lambda source, target, *_: f"rename to {Path(target).name}",
    "os.posix_spawn": lambda path, argv, _: f"spawn {Path(argv[-1]).name}",
    "socket.sendto": lambda _, address: f"ring at {Path(address).name}",
}
FINE: dict[str, Callable[..., str]] = {
    "os.mkdir": lambda path, *_: f"make folder {Path(path).name}",
    "os.chmod": lambda path, *_: f"change mode of {Path(path).name}",
    "os.remove": lambda path, *_: f"remove {Path(path).name}",
    "os.rmdir": lambda path, *_: f"remove {Path(path).name}",
}


class Points:
    """Counts, and ends the process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._passed = 0
        self._within = False

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Hear of what Python is about to do."""
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str) and flags & (os.O_WRONLY | os.O_RDWR) and not path.startswith("/dev"):
                self.about_to(f"write {Path(path).name}", fine=True)
        elif event in COARSE or event in FINE:
            self.about_to((COARSE | FINE)[event](*arguments), fine=event in FINE)

    def about_to(self, what: str, fine: bool = False) -> None:
        """Pass a point, or not."""
        with self._lock:
            if self._within:
                return
            self._within = True
            try:
                self._pass(what, fine)
            finally:
                self._within = False

    def _pass(self, what: str, fine: bool) -> None:
        try:
            word, number, kind = ORDER.read_text().split()
        except (FileNotFoundError, ValueError):
            self._passed = 0
            return
        if word not in sys.orig_argv or (fine and kind != "fine"):
            return
        self._passed += 1
        if self._passed == int(number):
            Path(f"{ORDER}.struck").write_text(what)
            ORDER.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


def watch_control(points: Points) -> None:
    """See what Python tells nobody: what SQLite commits, and tables for the gateway, which leave by a socket of the event loop."""
    from sqlite3 import dbapi2

    from headgate.control.gateways import GatewayLink

    connect, publish = dbapi2.connect, GatewayLink.publish

    def connected(*arguments: Any, **settings: Any) -> Any:
        connection = connect(*arguments, **settings)
        connection.set_trace_callback(lambda statement: points.about_to("commit") if statement == "COMMIT" else None)
        return connection

    def published(link: GatewayLink, table: Any) -> None:
        points.about_to(f"publish table {table.id}")
        publish(link, table)

    dbapi2.connect, GatewayLink.publish = connected, published  # type: ignore[assignment,method-assign]


def be_quick() -> None:
    """Start what was killed again at once, however often: the tests have many points to see."""
    from headgate.supervision import policy

    policy.LONGEST_DELAY = policy.FIRST_DELAY


if "headgate.control.main" in sys.orig_argv or "serve" in sys.orig_argv:
    _points = Points()
    if "serve" in sys.orig_argv:
        be_quick()
    else:
        watch_control(_points)
    sys.addaudithook(_points.audit)
