"""What a tree of processes costs, read from /proc: CPU seconds, resident memory, members."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

TICK = 1.0 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Stat:
    """One process: its parent, its start time in ticks, and CPU seconds, its own and those of children it has reaped."""

    pid: int
    parent: int
    started: int
    own: float
    reaped: float

    @property
    def key(self) -> tuple[int, int]:
        """Pid and start time: one process for ever, though the kernel gives pids out again."""
        return (self.pid, self.started)


@dataclass(frozen=True)
class Snapshot:
    """CPU seconds of each process of a tree at one moment."""

    stats: dict[tuple[int, int], Stat] = field(default_factory=dict)

    @property
    def cpu(self) -> float:
        """CPU seconds of the tree; children that ended count through their parent, so a difference of two loses none."""
        return sum(stat.own + stat.reaped for stat in self.stats.values())


def read_stat(pid: int) -> Stat | None:
    """The process's line in /proc, or None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name stands in parentheses and may itself hold spaces and parentheses.
    fields = text[text.rindex(")") + 2 :].split()
    utime, stime, cutime, cstime = (int(value) * TICK for value in fields[11:15])
    return Stat(pid, int(fields[1]), int(fields[19]), utime + stime, cutime + cstime)


def all_pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def carries(pid: int, marker: str) -> bool:
    """Whether the process was started with `marker` (NAME=value) in its environment: finds daemons that left the tree."""
    try:
        return marker.encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def members(roots: list[int], marker: str | None = None) -> list[int]:
    """Pids of the roots, of all their descendants, and of every process that carries `marker`."""
    stats = {pid: stat for pid in all_pids() if (stat := read_stat(pid))}
    children: dict[int, list[int]] = {}
    for stat in stats.values():
        children.setdefault(stat.parent, []).append(stat.pid)
    found: set[int] = set()
    waiting = [pid for pid in roots if pid in stats]
    if marker is not None:
        waiting += [pid for pid in stats if carries(pid, marker)]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return sorted(found)


def snapshot(pids: list[int]) -> Snapshot:
    """CPU of these processes now."""
    stats = (read_stat(pid) for pid in pids)
    return Snapshot({stat.key: stat for stat in stats if stat})


def memory(pid: int) -> tuple[int, int]:
    """(RSS, PSS) of one process in bytes; zeros when it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return (0, 0)
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in text.splitlines() if line.endswith(" kB")}
    return (values.get("Rss", 0), values.get("Pss", 0))


def command(pid: int) -> str:
    """The command line, or an empty string when the process is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
