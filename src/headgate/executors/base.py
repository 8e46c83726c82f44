"""The contract of an executor: how replicas are started, watched and stopped in one kind of place.

It is level-triggered: `apply` is told everything that should exist, never what to do, so a restart needs no memory. Omission means
removal. Both methods return at once; what really happened is seen by a later `observe`. The suite `headgate.testing.executors`
checks every executor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec


class ReplicaSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One replica that should run."""

    id: str
    """``<revision>.<n>``, unique for ever on this home: ``fraud-3.7``."""
    revision: str
    package: str
    """Folder of the verified package."""
    python: str
    """Interpreter of the package's environment."""
    device: str
    threads: int
    batch_timeout: float
    """Seconds."""
    load_timeout: float
    """Seconds."""


class ReplicaState(StrEnum):
    """STARTING -> RUNNING -> EXITED -> BACKOFF -> STARTING ...; any -> GONE once it is no longer wanted."""

    STARTING = "starting"
    RUNNING = "running"
    EXITED = "exited"
    BACKOFF = "backoff"
    GONE = "gone"


class ObservedReplica(msgspec.Struct, frozen=True, kw_only=True):
    """What is the case for one replica."""

    id: str
    state: ReplicaState
    pid: int | None = None
    restarts: int = 0
    """How often it was started again after it ended by itself."""
    rss: int = 0
    """Resident bytes."""
    exit: str = ""
    """How it last ended, for people: ``exit code 1``, ``killed by SIGKILL``; empty if it never did."""
    tail: str = ""
    """The last lines it wrote before that."""


class Executor(ABC):
    """Keeps the replicas of one kind of place as they should be."""

    @abstractmethod
    def apply(self, desired: Sequence[ReplicaSpec]) -> None:
        """Make it so: start what is missing, end (SIGTERM, then after its grace SIGKILL) what is no longer named. Idempotent.

        A spec that has changed under its id (the home, or an interpreter, has moved) is ended and started as it now is; where that
        must not leave a gap, give it a new id.
        """

    @abstractmethod
    def observe(self) -> Mapping[str, ObservedReplica]:
        """Return the truth, by id, of everything that runs or should."""


CONTRACT = Executor
