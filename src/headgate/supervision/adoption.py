"""What an earlier supervisor left running when it was killed, and how the next one takes it over."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import struct
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from headgate.home import Home
from headgate.supervision import listeners, processes
from headgate.supervision.listeners import Address
from headgate.supervision.options import CONTROL, GATEWAY

_FRAME = struct.Struct("<IBBHI")
_HELLO, _LISTENERS = 1, 10
"""As in `headgate.serving.link`, which needs too much memory to be imported for two numbers."""
_LARGEST_FRAME = 65536
_OURS = re.compile(rf"({CONTROL}|{GATEWAY}|.+-\d+\.\d+)\.log")
PATIENCE = 2.0
"""Seconds a gateway has to hand its socket over, and a process to end after SIGTERM, before anything is served."""


class Survivor(NamedTuple):
    """A process of an earlier supervisor that still runs."""

    id: str
    pid: int
    pidfd: int
    started: int
    since: float
    restarts: int


def survivors(observed: Path) -> dict[str, Survivor]:
    """Return what still runs of the processes an earlier supervisor recorded, by id."""
    try:
        entries = json.loads(observed.read_bytes())["processes"].items()
        found = [_survivor(name, entry) for name, entry in entries]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}
    return {one.id: one for one in found if one}


def _survivor(name: str, entry: dict[str, Any]) -> Survivor | None:
    if entry.get("pid") is None:
        return None
    pid, started = int(entry["pid"]), int(entry["started"])
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    # Only now: from here on the pid cannot pass to another process unseen.
    seen = processes.stat(pid)
    if seen and seen.started == started and seen.session == pid and seen.state not in "ZX":
        return Survivor(name, pid, pidfd, started, float(entry.get("since", 0.0)), int(entry.get("restarts", 0)))
    os.close(pidfd)
    return None


def end_strays(logs: Path, known: set[int]) -> None:
    """SIGKILL whatever writes to the log of one of our processes, and is in none of the sessions ``known``; wait until it has ended.

    Nobody could ever find it again: a child whose supervisor was killed before it had written it down, or what a replica had started
    that died while there was no supervisor.
    """
    folder = os.path.realpath(logs)
    for pid in processes.pids():
        try:
            place, log = os.path.split(os.readlink(f"/proc/{pid}/fd/2"))
            pidfd = os.pidfd_open(pid)
        except OSError:
            continue
        # Only now, as above. A log of another name is the user's own: perhaps that of this very command.
        seen = processes.stat(pid)
        if place == folder and _OURS.fullmatch(log) and seen and seen.session not in known:
            processes.send(pidfd, signal.SIGKILL)
            _wait(pidfd, PATIENCE)
        os.close(pidfd)


def configuration(survivor: Survivor) -> dict[str, Any]:
    """Return the configuration a process was started with; empty if it cannot be read."""
    try:
        environment = Path(f"/proc/{survivor.pid}/environ").read_bytes().split(b"\0")
        return parsed(next(item for item in environment if item.startswith(b"HEADGATE_CONFIG=")).partition(b"=")[2])
    except (OSError, StopIteration):
        return {}


def parsed(config: bytes) -> dict[str, Any]:
    """Read a ``HEADGATE_CONFIG``; empty if it is not one."""
    try:
        settings = json.loads(config)
    except ValueError:
        return {}
    return settings if isinstance(settings, dict) else {}


def take_listener(link: Path, limit: float = PATIENCE) -> socket.socket | None:
    """Ask the gateway behind ``link`` for its listening socket; None if it does not hand one over within ``limit`` seconds."""
    fds: list[int] = []
    try:
        kind = _exchange(link, time.monotonic() + limit, fds)
    except OSError:
        kind = 0
    taken = socket.socket(fileno=fds.pop(0)) if kind == _LISTENERS and fds and _listens(fds[0]) else None
    for fd in fds:
        os.close(fd)
    if taken is not None:
        listeners.hear(taken)
    return taken


def _listens(fd: int) -> bool:
    with socket.socket(fileno=os.dup(fd)) as found:
        return bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _exchange(link: Path, deadline: float, fds: list[int]) -> int:
    """Say HELLO and return the kind of the answer, 0 if it is cut short; the descriptors that come are added to ``fds``."""
    payload = b'{"protocol":1,"role":"supervisor"}'
    data = b""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        connection.connect(str(link))
        connection.sendall(_FRAME.pack(_FRAME.size - 4 + len(payload), _HELLO, 0, 0, 0) + payload)
        while len(data) < _FRAME.size or len(data) < 4 + min(_FRAME.unpack_from(data)[0], _LARGEST_FRAME):
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            part, more, _, _ = socket.recv_fds(connection, _LARGEST_FRAME, 8)
            for fd in more:
                os.set_inheritable(fd, False)  # else every child keeps the port; recv_fds of 3.11 drops MSG_CMSG_CLOEXEC
            fds += more
            data += part
            if not part:
                return 0
    return int(_FRAME.unpack_from(data)[1])


def end(ending: Iterable[Survivor], patience: float = PATIENCE) -> None:
    """End processes, with everything they started, and wait until they have: SIGTERM, after ``patience`` seconds SIGKILL."""
    ending = list(ending)
    for one in ending:
        processes.send(one.pidfd, signal.SIGTERM)
    deadline = time.monotonic() + patience
    for one in ending:
        _wait(one.pidfd, deadline - time.monotonic())
        processes.send(one.pidfd, signal.SIGKILL)
        processes.kill_session(one.pid)
        _wait(one.pidfd, PATIENCE)
        os.close(one.pidfd)


def _wait(pidfd: int, seconds: float) -> None:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(max(seconds, 0.0) * 1000)


class Legacy(NamedTuple):
    """What is taken over: with a listener comes the gateway that serves on it."""

    listener: socket.socket | None
    gateway: Survivor | None
    replicas: list[Survivor]


def inherit(home: Home, address: Address) -> Legacy:
    """Find what an earlier supervisor of ``home`` left; end strays, control, and the gateway if it cannot serve at ``address``'s host.

    The port is not looked at: clients know the one that is open.
    """
    found = survivors(home.observed)
    end_strays(home.logs, {one.pid for one in found.values()})
    control, gateway = found.pop(CONTROL, None), found.pop(GATEWAY, None)
    listener = take_listener(home.gateway_socket) if gateway else None
    if listener is not None and listener.getsockname()[0] != address[1][0]:
        listener.close()
        listener = None
    end(one for one in (control, None if listener else gateway) if one)
    return Legacy(listener, gateway if listener else None, list(found.values()))
