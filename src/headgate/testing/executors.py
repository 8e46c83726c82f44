"""An executor without processes, and the conformance suite that every executor must pass.

`FakeExecutor` plays replicas on a clock: they load, become ready, crash, refuse or never answer, as their revision's `Script` says.
`CHECKS` are the promises of `headgate.executors.base`; a test of an executor runs each of them:

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_executor(check):
        check(Subject(executor=MyExecutor(...), spec=make_spec, settle=wait_a_little))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from headgate.clock import Clock
from headgate.executors.base import Executor, ObservedReplica, ReplicaSpec, ReplicaState
from headgate.journal import LinkState, ReplicaReport

_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.1, 30.0


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """How the replicas of one revision behave."""

    load_seconds: float = 0.5
    """Until ready; infinite: never."""
    refuses: str = ""
    """Instead of becoming ready: FAILED with these words, then the process ends with 1."""
    crashes: bool = False
    """Instead of becoming ready: the process is killed by SIGSEGV."""
    rss: int = 100 << 20
    """Resident bytes."""


class _Process:
    """One replica's process, through its lives."""

    def __init__(self, spec: ReplicaSpec, pid: int, now: float) -> None:
        self.spec = spec
        self.pid = pid
        self.born = now
        self.alive = True
        self.restarts = 0
        self.exit = ""
        self.rss: int | None = None
        self.busy_since: float | None = None


class FakeExecutor(Executor):
    """Replicas that exist on a clock only."""

    def __init__(self, clock: Clock, scripts: Mapping[str, Script] | None = None) -> None:
        self._clock = clock
        self.scripts: dict[str, Script] = dict(scripts or {})
        """By revision; one that is not named is well-behaved."""
        self.applied: tuple[ReplicaSpec, ...] = ()
        """What was last asked for."""
        self.refusals: dict[str, str] = {}
        """Id of every replica that said FAILED -> its words."""
        self._processes: dict[str, _Process] = {}
        self._pids = 1000

    def apply(self, desired: Sequence[ReplicaSpec]) -> None:
        """Start what is missing or has changed, and forget what is no longer named."""
        self.applied = tuple(desired)
        wanted = {spec.id: spec for spec in desired}
        self._processes = {name: process for name, process in self._processes.items() if name in wanted}
        for name, spec in wanted.items():
            if name not in self._processes or self._processes[name].spec != spec:
                self._processes[name] = _Process(spec, self._next_pid(), self._clock.monotonic())

    def observe(self) -> Mapping[str, ObservedReplica]:
        """Let the scripts happen up to now, and return what is the case."""
        for process in self._processes.values():
            self._play(process)
        return {name: self._observed(process) for name, process in self._processes.items()}

    def links(self) -> tuple[ReplicaReport, ...]:
        """Return what a gateway would say of the replicas that have linked to it."""
        self.observe()
        return tuple(self._link(process) for process in self._processes.values() if process.alive)

    def kill(self, replica: str, how: str = "killed by SIGKILL") -> None:
        """End the process of ``replica``, as a crash would. It is started again after its backoff."""
        process = self._processes[replica]
        process.alive, process.exit, process.busy_since = False, how, None
        process.born = self._clock.monotonic() + min(_FIRST_BACKOFF * 2**process.restarts, _LONGEST_BACKOFF)

    def grow(self, replica: str, rss: int) -> None:
        """Let the process of ``replica`` have ``rss`` resident bytes, until it ends."""
        self._processes[replica].rss = rss

    def hang(self, replica: str) -> None:
        """Let ``replica`` take a batch now and never answer it."""
        self._processes[replica].busy_since = self._clock.monotonic()

    def _script(self, process: _Process) -> Script:
        return self.scripts.get(process.spec.revision, Script())

    def _play(self, process: _Process) -> None:
        now = self._clock.monotonic()
        if not process.alive and now >= process.born:
            process.alive, process.born, process.rss, process.pid = True, now, None, self._next_pid()
            process.restarts += 1
        script = self._script(process)
        if process.alive and (script.refuses or script.crashes) and now - process.born >= script.load_seconds:
            if script.refuses:
                self.refusals[process.spec.id] = script.refuses
            self.kill(process.spec.id, "exit code 1" if script.refuses else "killed by SIGSEGV")

    def _observed(self, process: _Process) -> ObservedReplica:
        return ObservedReplica(
            id=process.spec.id,
            state=ReplicaState.RUNNING if process.alive else ReplicaState.BACKOFF,
            pid=process.pid if process.alive else None,
            restarts=process.restarts,
            rss=(process.rss or self._script(process).rss) if process.alive else 0,
            exit=process.exit,
            tail="the last words" if process.exit else "",
        )

    def _link(self, process: _Process) -> ReplicaReport:
        now = self._clock.monotonic()
        ready = now - process.born >= self._script(process).load_seconds
        return ReplicaReport(
            id=process.spec.id,
            revision=process.spec.revision,
            pid=process.pid,
            state=LinkState.READY if ready else LinkState.LOADING,
            busy_seconds=0.0 if process.busy_since is None else now - process.busy_since,
        )

    def _next_pid(self) -> int:
        self._pids += 1
        return self._pids


class Subject(NamedTuple):
    """An executor under test."""

    executor: Executor
    spec: Callable[[str], ReplicaSpec]
    """Return the spec of a replica with this id, which runs until it is ended."""
    settle: Callable[[], None]
    """Let the place catch up with what was asked: advance a clock, or wait."""


def check_what_is_named_is_started(subject: Subject) -> None:
    """`apply` returns at once; after a while what it was told runs, with a pid."""
    subject.executor.apply([subject.spec("fraud-1.1"), subject.spec("fraud-1.2")])
    subject.settle()
    seen = subject.executor.observe()
    assert {name for name in seen if seen[name].state is ReplicaState.RUNNING} == {"fraud-1.1", "fraud-1.2"}
    assert all(seen[name].id == name and seen[name].pid for name in seen)


def check_applying_again_changes_nothing(subject: Subject) -> None:
    """The same wish twice leaves the same processes, never started again."""
    for _ in range(2):
        subject.executor.apply([subject.spec("fraud-1.1")])
        subject.settle()
    before = subject.executor.observe()["fraud-1.1"]
    subject.executor.apply([subject.spec("fraud-1.1")])
    subject.settle()
    after = subject.executor.observe()["fraud-1.1"]
    assert (after.pid, after.restarts) == (before.pid, 0)


def check_a_changed_spec_is_started_anew(subject: Subject) -> None:
    """What is to run otherwise than it does is another process under the same id; its neighbours stay the processes they were."""
    specs = [subject.spec("fraud-1.1"), subject.spec("fraud-1.2")]
    subject.executor.apply(specs)
    subject.settle()
    before = subject.executor.observe()
    subject.executor.apply([specs[0], msgspec.structs.replace(specs[1], package="/moved")])
    subject.settle()
    after = subject.executor.observe()
    assert after["fraud-1.1"].pid == before["fraud-1.1"].pid
    assert after["fraud-1.2"].pid not in (None, before["fraud-1.2"].pid)


def check_omission_means_removal(subject: Subject) -> None:
    """What is no longer named ends; its neighbours stay the processes they were."""
    subject.executor.apply([subject.spec("fraud-1.1"), subject.spec("fraud-1.2")])
    subject.settle()
    before = subject.executor.observe()["fraud-1.2"]
    subject.executor.apply([subject.spec("fraud-1.2")])
    subject.settle()
    seen = subject.executor.observe()
    assert "fraud-1.1" not in seen or seen["fraud-1.1"].state is ReplicaState.GONE
    assert seen["fraud-1.2"].pid == before.pid


def check_nothing_wanted_is_nothing_left(subject: Subject) -> None:
    """An empty wish ends everything."""
    subject.executor.apply([subject.spec("fraud-1.1")])
    subject.settle()
    subject.executor.apply([])
    subject.settle()
    assert all(seen.state is ReplicaState.GONE for seen in subject.executor.observe().values())


CHECKS: tuple[Callable[[Subject], None], ...] = (
    check_what_is_named_is_started,
    check_applying_again_changes_nothing,
    check_a_changed_spec_is_started_anew,
    check_omission_means_removal,
    check_nothing_wanted_is_nothing_left,
)
"""Everything an executor promises that can be seen from outside."""
