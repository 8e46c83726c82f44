"""One process that should run, through its lives."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

from headgate.supervision import logs, policy, processes
from headgate.supervision.adoption import Survivor
from headgate.supervision.processes import ProcessSpec

STARTING, RUNNING, BACKOFF, GONE = "starting", "running", "backoff", "gone"
"""Values of `headgate.executors.base.ReplicaState`; a child that ended is in BACKOFF or GONE at once, so EXITED is never seen."""


class Child:
    """What should run and what is the case. It is told the time, and when its pidfd became readable; it never waits."""

    def __init__(self, spec: ProcessSpec, log: Path | None, wanted: bool = True) -> None:
        self.spec = spec
        self.log = log
        self.wanted = wanted
        """Whether it is started again when it ends."""
        self.state = STARTING
        self.since = 0.0
        self.pid: int | None = None
        self.pidfd = -1
        self.started = 0
        self.restarts = 0
        self.rss = 0
        self.exit = ""
        self.tail = ""
        self.code: int | None = None
        """Exit code of its last life, where it is known."""
        self.delay = 0.0
        """Seconds waited before the present start."""
        self.due: float | None = 0.0
        """When it is started next; None while it runs or when it is over."""
        self.kill_at: float | None = None
        """When it is killed, once it was asked to end."""
        self.killed_at: float | None = None
        self._lives = 0
        self._log_start = 0

    @property
    def running(self) -> bool:
        """Whether there is a process, asked to end or not."""
        return self.pid is not None

    @property
    def deadline(self) -> float | None:
        """When it wants to be looked at again, if nothing happens."""
        return self.kill_at if self.running else self.due

    def start(self, now: float) -> bool:
        """Start it, or plan the next try; return whether it runs."""
        self.restarts += self._lives > 0
        self._lives += 1
        try:
            if self.log is not None:
                logs.rotate(self.log)
                self._log_start = logs.length(self.log)
            pid, pidfd = processes.spawn(self.spec, self.log)
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the command or environment
            self.exit, self.tail = f"could not be started: {error}", ""
            self._back_off(now, 0.0)
            return False
        seen = processes.stat(pid)
        self._runs(pid, pidfd, seen.started if seen else 0, now)
        return True

    def adopt(self, survivor: Survivor) -> None:
        """Take over a process that an earlier supervisor started."""
        self.restarts = survivor.restarts
        self._lives = 1
        self._runs(survivor.pid, survivor.pidfd, survivor.started, survivor.since)

    def ask_to_end(self, now: float, grace: float) -> None:
        """SIGTERM, and SIGKILL after ``grace`` seconds."""
        if self.running and not self.asked:
            processes.send(self.pidfd, signal.SIGTERM)
            self.kill_at = now + grace

    def kill(self, now: float) -> None:
        """SIGKILL to it and to everything it started."""
        if self.pid is not None:
            processes.send(self.pidfd, signal.SIGKILL)
            processes.kill_session(self.pid)
            self.kill_at = None
            self.killed_at = now

    @property
    def asked(self) -> bool:
        """Whether its end is our doing."""
        return self.kill_at is not None or self.killed_at is not None

    def ended(self, now: float) -> None:
        """Clear up after its end: what it left behind is killed, and the next start planned where it is wanted."""
        assert self.pid is not None
        processes.kill_session(self.pid)  # before reaping: until then nobody else can get this pid
        self.code = processes.reap(self.pid)
        os.close(self.pidfd)
        self.pid, self.pidfd, self.rss = None, -1, 0
        self.exit = policy.exit_in_words(self.code)
        self.tail = "" if self.asked or self.log is None else logs.tail(self.log, self._log_start)
        if self.wanted and self.asked:
            self._enter(STARTING, now, due=now)
        else:
            self._back_off(now, now - self.since)

    def measure(self) -> int:
        """Cut its log where it is too long, and return the resident bytes."""
        with suppress(OSError):  # a log that cannot be cut is no reason to stop watching
            if self.log is not None and logs.rotate(self.log):
                self._log_start = 0
        return processes.rss(self.pid) if self.pid is not None else 0

    def report(self) -> dict[str, Any]:
        """Return its entry in observed.json."""
        state = GONE if self.running and not self.wanted else self.state
        return {
            "pid": self.pid,
            "started": self.started,
            "state": state,
            "since": self.since,
            "restarts": self.restarts,
            "rss": self.rss,
            "exit": self.exit,
            "tail": self.tail,
        }

    def _runs(self, pid: int, pidfd: int, started: int, since: float) -> None:
        self.pid, self.pidfd, self.started = pid, pidfd, started
        self.rss = processes.rss(pid)
        self._enter(RUNNING, since, due=None)

    def _back_off(self, now: float, lived: float) -> None:
        if not self.wanted:
            self._enter(GONE, now, due=None)
            return
        self.delay = policy.next_delay(self.delay, lived)
        self._enter(BACKOFF, now, due=now + self.delay)

    def _enter(self, state: str, now: float, due: float | None) -> None:
        self.state, self.since, self.due = state, now, due
        self.kill_at = self.killed_at = None
