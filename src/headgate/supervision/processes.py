"""Processes of Linux: start one in a session of its own, know it again, measure it, end it with everything it started."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE")
_DEFAULTED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)
"""Python ignores some of these, shells and nohup others, and an ignored signal is inherited."""


class ProcessSpec(NamedTuple):
    """One process that should run. Another spec of the same id takes its place."""

    id: str
    argv: Sequence[str]
    env: Mapping[str, str] = {}
    """What is added to the supervisor's own environment."""
    grace: float = 10.0
    """Seconds between SIGTERM and SIGKILL."""
    fds: Sequence[int] = ()
    """Descriptors the process inherits, under the same numbers."""
    oom_adjust: int = 0
    """Added to its badness when memory runs out: the kernel should take a replica before a gateway."""


class ProcessStat(NamedTuple):
    """What /proc says of a process."""

    state: str
    parent: int
    session: int
    started: int
    """Clock ticks since boot: with the pid it names one process for ever."""


def stat(pid: int) -> ProcessStat | None:
    """Look a process up; None if there is none. A zombie is one, in state Z."""
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = line[line.rindex(b")") + 2 :].split()  # the name before it may hold blanks and brackets
    return ProcessStat(fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19]))


def pids() -> list[int]:
    """Return every process there is."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def rss(pid: int) -> int:
    """Resident bytes, 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def spawn(spec: ProcessSpec, log: Path | None) -> tuple[int, int]:
    """Start a process and return its pid and pidfd. Its output goes to the end of ``log``, or to ours where there is none.

    Raises `OSError` if it cannot be started; then there is none.
    """
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    if log is not None:
        # O_APPEND: after the log was cut (see logs.py) the next line goes to its new end.
        actions.append((os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
        actions.append((os.POSIX_SPAWN_DUP2, 1, 2))
    actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in spec.fds]  # onto itself: no longer closed on exec
    argv, environment = list(spec.argv), {**os.environ, **spec.env}
    pid = os.posix_spawnp(argv[0], argv, environment, file_actions=actions, setsid=True, setsigmask=(), setsigdef=_DEFAULTED)
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    if spec.oom_adjust:
        with suppress(OSError):
            Path(f"/proc/{pid}/oom_score_adj").write_text(str(spec.oom_adjust))
    return pid, pidfd


def send(pidfd: int, number: signal.Signals) -> None:
    """Send a signal, unless the process has ended."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, number)


def kill_session(session: int) -> None:
    """SIGKILL every process of a session, also those that are forked meanwhile; the leader may have ended before."""
    killed: set[int] = set()
    while members := _members(session) - killed:
        for pid in members:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        killed |= members


def reap(pid: int) -> int | None:
    """Return the exit code of an ended process and let it go; None if it is not a child of ours."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return None


def reap_strangers(ours: set[int]) -> None:
    """Let ended children go that we did not start: where we are process 1 (a container), every orphan becomes our child."""
    with suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid not in ours:
            os.waitpid(ended.si_pid, 0)


def _members(session: int) -> set[int]:
    return {pid for pid in pids() if (seen := stat(pid)) and seen.session == session and seen.state not in "ZX"}
