"""Replicas as processes of this machine, kept by the supervisor of the home.

Nothing is started here: what should run is written to a file that the supervisor follows, and what does run is read from the file
that it writes. So replicas outlive whoever asked for them, and a dead replica comes back while nobody is there to ask.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from headgate.executors.base import Executor, ObservedReplica, ReplicaSpec, ReplicaState
from headgate.home import Home, write_atomically

BOOTSTRAP = Path(__file__).resolve().parents[1] / "serving" / "bootstrap.py"
"""Puts the replica's side of the code, and nothing else of Headgate, on the path of the package's Python."""
GRACE_SECONDS = 10.0
"""For a replica to finish its batch between SIGTERM and SIGKILL."""

_REPLICA = re.compile(r".+-\d+\.\d+")


class _Process(msgspec.Struct):
    """An entry of ``observed.json``."""

    state: ReplicaState
    pid: int | None = None
    restarts: int = 0
    rss: int = 0
    exit: str = ""
    tail: str = ""


class _Observed(msgspec.Struct):
    """``observed.json``, as far as it matters here."""

    processes: dict[str, _Process] = {}


class LocalExecutor(Executor):
    """The replicas of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def apply(self, desired: Sequence[ReplicaSpec]) -> None:
        """Write down what should run, if that is news, and wake the supervisor."""
        content = json.dumps({"processes": [self._process(spec) for spec in desired]}).encode()
        if _read(self._home.desired) != content:
            write_atomically(self._home.desired, content)
            self._wake_supervisor()

    def observe(self) -> Mapping[str, ObservedReplica]:
        """Return what the supervisor last wrote; nothing if there is no supervisor yet."""
        try:
            processes = msgspec.json.decode(_read(self._home.observed) or b"{}", type=_Observed).processes
        except msgspec.MsgspecError:
            return {}
        return {
            name: ObservedReplica(
                id=name, state=seen.state, pid=seen.pid, restarts=seen.restarts, rss=seen.rss, exit=seen.exit, tail=seen.tail
            )
            for name, seen in processes.items()
            if _REPLICA.fullmatch(name)
        }

    def _process(self, spec: ReplicaSpec) -> dict[str, Any]:
        config = {
            "id": spec.id,
            "revision": spec.revision,
            "package": spec.package,
            "device": spec.device,
            "threads": spec.threads,
            "batch_timeout": spec.batch_timeout,
            "load_timeout": spec.load_timeout,
            "links": [str(self._home.gateway_socket)],
        }
        # An empty PYTHONPATH is none: the package's environment must not see the modules of ours.
        env = {"HEADGATE_CONFIG": json.dumps(config), "PYTHONUNBUFFERED": "1", "PYTHONPATH": ""}
        return {"id": spec.id, "argv": [spec.python, "-P", str(BOOTSTRAP), "replica"], "env": env, "grace": GRACE_SECONDS}

    def _wake_supervisor(self) -> None:
        # Nobody there, or a full queue of wake-ups: the supervisor looks at the file anyway.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
            bell.setblocking(False)
            bell.sendto(b"!", str(self._home.supervisor_socket))


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
