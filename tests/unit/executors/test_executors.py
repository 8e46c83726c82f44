"""The shelf of executors: the promises every one keeps, and the files the local one writes and reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headgate import plugins
from headgate.executors.base import ReplicaSpec, ReplicaState
from headgate.executors.local import BOOTSTRAP, LocalExecutor
from headgate.home import Home
from headgate.journal import LinkState
from headgate.testing.clock import ManualClock
from headgate.testing.executors import CHECKS, FakeExecutor, Script, Subject


def spec(replica: str = "fraud-1.1", **fields) -> ReplicaSpec:
    known = {"package": "/p", "python": "/py", "device": "cpu", "threads": 2, "batch_timeout": 10.0, "load_timeout": 300.0}
    return ReplicaSpec(id=replica, revision=replica.rpartition(".")[0], **(known | fields))


class PaperSupervisor:
    """Does what a supervisor does, on paper: what desired.json names gets a pid in observed.json, and another one when it changes."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._started: list[str] = []

    def follow(self) -> None:
        wanted = {process["id"]: json.dumps(process) for process in json.loads(self._home.desired.read_bytes())["processes"]}
        self._started += [process for process in wanted.values() if process not in self._started]
        pids = {name: 100 + self._started.index(process) for name, process in wanted.items()}
        running = {name: {"pid": pid, "state": "running", "restarts": 0, "rss": 1} for name, pid in pids.items()}
        self._home.observed.write_text(json.dumps({"supervisor": {"pid": 1}, "processes": running}))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("kind", ["fake", "local"])
def test_executors_keep_their_promises(kind, check, home):
    """The conformance suite, on the fake and, with a supervisor on paper, on the local one."""
    clock = ManualClock()
    if kind == "fake":
        check(Subject(FakeExecutor(clock), spec, lambda: clock.advance(1.0)))
    else:
        check(Subject(LocalExecutor(home), spec, PaperSupervisor(home).follow))


def test_the_shelf_finds_the_local_executor():
    """By listing the folder."""
    assert plugins.load("headgate.executors", "local") is LocalExecutor


def test_a_replica_is_started_as_the_contract_says(home):
    """Its own Python, our bootstrap, the configuration in one variable, no module path of ours, ten seconds of grace."""
    LocalExecutor(home).apply([spec(python="/env/bin/python", package="/store/abc")])
    (process,) = json.loads(home.desired.read_bytes())["processes"]
    assert process["argv"] == ["/env/bin/python", "-P", str(BOOTSTRAP), "replica"]
    assert (process["id"], process["grace"]) == ("fraud-1.1", 10.0)
    assert process["env"] | {"HEADGATE_CONFIG": ""} == {"HEADGATE_CONFIG": "", "PYTHONUNBUFFERED": "1", "PYTHONPATH": ""}
    assert json.loads(process["env"]["HEADGATE_CONFIG"]) == {
        "id": "fraud-1.1",
        "revision": "fraud-1",
        "package": "/store/abc",
        "device": "cpu",
        "threads": 2,
        "batch_timeout": 10.0,
        "load_timeout": 300.0,
        "links": [str(home.gateway_socket)],
    }
    assert BOOTSTRAP.is_file()


def test_the_same_wish_is_not_written_again(home):
    """Neither by the same executor nor by that of a restarted control; another wish is."""
    LocalExecutor(home).apply([spec()])
    before = home.desired.stat().st_ino
    LocalExecutor(home).apply([spec()])
    assert home.desired.stat().st_ino == before
    LocalExecutor(home).apply([])
    assert json.loads(home.desired.read_bytes()) == {"processes": []}


def test_what_the_supervisor_wrote_is_what_is_seen(home):
    """Replicas only, with all that is known of them; fields and processes of other kinds are passed over."""
    assert LocalExecutor(home).observe() == {}
    seen = {"pid": None, "state": "backoff", "since": 1.5, "restarts": 3, "rss": 0, "exit": "exit code 1", "tail": "boom", "new": 1}
    home.observed.write_text(json.dumps({"supervisor": {}, "processes": {"fraud-1.1": seen, "control": seen, "gateway-0": seen}}))
    (replica,) = LocalExecutor(home).observe().values()
    assert (replica.id, replica.state, replica.pid, replica.restarts) == ("fraud-1.1", ReplicaState.BACKOFF, None, 3)
    assert (replica.exit, replica.tail) == ("exit code 1", "boom")
    home.observed.write_text("{")
    assert LocalExecutor(home).observe() == {}


def test_fake_replicas_follow_their_script():
    """Ready after their time; refusing and crashing ones end and come back after a backoff that doubles; killed ones come back."""
    clock = ManualClock()
    fake = FakeExecutor(
        clock, {"bad-1": Script(refuses="no"), "ugly-1": Script(crashes=True), "never-1": Script(load_seconds=float("inf"))}
    )
    fake.apply([spec("good-1.1"), spec("bad-1.1"), spec("ugly-1.1"), spec("never-1.1")])
    assert {link.state for link in fake.links()} == {LinkState.LOADING}
    clock.advance(0.5)
    assert {link.id: link.state for link in fake.links()} == {"good-1.1": LinkState.READY, "never-1.1": LinkState.LOADING}
    assert fake.refusals == {"bad-1.1": "no"}
    assert fake.observe()["ugly-1.1"].exit == "killed by SIGSEGV"
    for _ in range(40):
        clock.advance(0.1)
        fake.observe()
    assert fake.observe()["ugly-1.1"].restarts in (3, 4)
    pid = fake.observe()["good-1.1"].pid
    fake.kill("good-1.1")
    clock.advance(1.0)
    assert fake.observe()["good-1.1"].pid not in (None, pid)


def test_the_manual_clock_never_goes_back():
    """Both its times move together, forward only."""
    clock = ManualClock(monotonic=5.0, wall=50.0)
    clock.advance(1.5)
    assert (clock.monotonic(), clock.wall()) == (6.5, 51.5)
    with pytest.raises(ValueError, match="seconds"):
        clock.advance(-1.0)
