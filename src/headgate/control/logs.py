"""The logs of a deployment's replicas: their last lines, and those that follow."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

from headgate.home import Home

LONGEST_TAIL = 10_000
"""Lines."""
_TAIL_BYTES = 1 << 20
"""Of each log, at most."""
_CHUNK = 1 << 16
_POLL_SECONDS = 0.3


def replica_logs(home: Home, deployment: str) -> dict[str, Path]:
    """Return the logs of all replicas a deployment has had, by replica id, those written last at the end."""
    name = re.compile(rf"{re.escape(deployment)}-\d+\.\d+")
    found = {path: path.stat().st_mtime_ns for path in home.logs.glob("*.log") if name.fullmatch(path.stem)}
    return {path.stem: path for path in sorted(found, key=lambda path: (found[path], path.name))}


def tail(logs: dict[str, Path], lines: int) -> list[str]:
    """Return the last ``lines`` lines of all logs together, each with its replica in front."""
    if lines <= 0:
        return []
    last = [f"{replica} | {line}" for replica, path in logs.items() for line in _last_lines(path, lines)]
    return last[-lines:]


class Follower:
    """New lines of the logs of one deployment; replicas that start later join in."""

    def __init__(self, home: Home, deployment: str) -> None:
        self._home = home
        self._deployment = deployment
        self._read = {replica: path.stat().st_size for replica, path in replica_logs(home, deployment).items()}
        self._rest: dict[str, bytes] = {}

    async def lines(self) -> AsyncIterator[str]:
        """Yield what was written since, line by line, for as long as somebody listens."""
        while True:
            for line in await asyncio.to_thread(self.news):
                yield f"{line}\n"
            await asyncio.sleep(_POLL_SECONDS)

    def news(self) -> list[str]:
        """Return the lines written since the last call."""
        logs = replica_logs(self._home, self._deployment)
        return [f"{replica} | {line}" for replica, path in logs.items() for line in self._of(replica, path)]

    def _of(self, replica: str, path: Path) -> list[str]:
        at = self._read.get(replica, 0)
        with open(path, "rb") as file:
            # A log that was cut begins anew.
            at = at if at <= path.stat().st_size else 0
            file.seek(at)
            data = file.read(_CHUNK)
        self._read[replica] = at + len(data)
        *whole, rest = (self._rest.get(replica, b"") + data).split(b"\n")
        if len(rest) > _CHUNK:  # a line without end is cut rather than kept
            whole, rest = [*whole, rest], b""
        self._rest[replica] = rest
        return [line.decode(errors="replace") for line in whole]


def _last_lines(path: Path, count: int) -> list[str]:
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL_BYTES))
        lines = file.read(_TAIL_BYTES).decode(errors="replace").splitlines()
    return lines[-count:]
