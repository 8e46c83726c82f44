"""The supervisor with real processes: small stand-ins for gateway, control and replicas that write down what happens to them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pytest

from headgate.errors import Conflict, SpecError
from headgate.home import Home
from headgate.supervision import processes
from headgate.supervisor import ServeOptions, run

PYTHON = [sys.executable, "-I", "-S"]
T = TypeVar("T")

DRIVER = """
import ctypes, json, sys
from headgate.errors import HeadgateError
from headgate.supervisor import ServeOptions, run
options = json.loads(sys.argv[1])
if options.pop("init", False):
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: orphans become ours, as they do for process 1
try:
    sys.exit(run(ServeOptions(**options)))
except HeadgateError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""

GATEWAY = """
import array, json, os, selectors, signal, socket, struct, sys, time
mode, events = sys.argv[1:]
config = json.loads(os.environ["HEADGATE_CONFIG"])
def note(what):
    with open(events, "a") as file:
        print("gateway", what, file=file)
def term(*_):
    note("term")
    if mode == "stubborn":
        return
    if mode == "slow":
        time.sleep(0.4)
    note("end")
    os._exit(0)
signal.signal(signal.SIGTERM, term)
listener = socket.socket(fileno=config["listener"])
path = config["home"] + "/run/gateway-0.sock"
if os.path.exists(path):
    os.unlink(path)
link = socket.socket(socket.AF_UNIX)
link.bind(path)
link.listen()
selector = selectors.DefaultSelector()
selector.register(listener, 1)
selector.register(link, 1)
note("up")
while True:
    for key, _ in selector.select():
        try:
            connection, _ = key.fileobj.accept()
        except OSError:  # shut down at the end of a drain
            selector.unregister(key.fileobj)
            continue
        if key.fileobj is listener:
            connection.sendall(json.dumps({"pid": os.getpid(), "fds": os.listdir("/proc/self/fd"), **config}).encode())
        else:
            size, kind, *_ = struct.unpack("<IBBHI", connection.recv(12, socket.MSG_WAITALL))
            hello = json.loads(connection.recv(size - 8, socket.MSG_WAITALL))
            assert kind == 1 and hello == {"protocol": 1, "role": "supervisor"}, hello
            if mode == "mute":
                kept = connection
                continue
            frame = struct.pack("<IBBHI", 10, 10, 0, 0, 0) + b"{}"
            fds = array.array("i", [listener.fileno()])
            connection.sendmsg([frame[:5]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
            connection.sendall(frame[5:])
        connection.close()
"""

STAND_IN = """
import os, signal, sys
name, mode, events = sys.argv[1:]
def note(what):
    with open(events, "a") as file:
        print(name, what, file=file)
def term(*_):
    note("term")
    if mode != "stubborn":
        os._exit(0)
signal.signal(signal.SIGTERM, term)
note("up")
if mode == "crash":
    print("about to fall")
    os._exit(3)
while True:
    signal.pause()
"""


def until(condition: Callable[[], T], seconds: float = 10.0) -> T:
    """Wait until ``condition`` is true, and return what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s in vain"
        time.sleep(0.01)
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    seen = processes.stat(pid)
    return seen is not None and seen.state not in "ZX"


class Stage:
    """One home, the servers run on it one after the other, and the notes of their stand-ins."""

    def __init__(self, path: Path) -> None:
        self.home = Home(path / "home")
        self.events = path / "events"
        self.events.touch()
        self._path = path
        self._servers: list[subprocess.Popen[bytes]] = []
        self._seen: set[int] = set()
        for name, text in {"driver": DRIVER, "gateway": GATEWAY, "stand_in": STAND_IN}.items():
            (path / f"{name}.py").write_text(text)

    def options(self, gateway: str = "ok", control: str = "ok", **other: Any) -> dict[str, Any]:
        """Options with stand-ins in the given modes, free ports and no delays."""
        argv = [*PYTHON, f"{self._path}/gateway.py", gateway, str(self.events)]
        given = {"home": str(self.home.path), "port": 0, "control_port": 0, "drain_delay": 0, "drain_limit": 5}
        return {**given, "gateway_argv": argv, "control_argv": self.stand_in("control", control), **other}

    def stand_in(self, name: str, mode: str = "ok") -> list[str]:
        """Return the command of a process that notes its start and its SIGTERM."""
        return [*PYTHON, f"{self._path}/stand_in.py", name, mode, str(self.events)]

    def launch(self, **given: Any) -> subprocess.Popen[bytes]:
        """Start a supervisor and return at once."""
        argv = [sys.executable, str(self._path / "driver.py"), json.dumps(self.options(**given))]
        with open(self._path / "terminal", "ab") as terminal:
            server = subprocess.Popen(argv, stdout=terminal, stderr=terminal, cwd=self._path)
        self._servers.append(server)
        return server

    def serve(self, **given: Any) -> subprocess.Popen[bytes]:
        """Start a supervisor and wait until its gateway answers and control is up."""
        before = self.count("control up")
        server = self.launch(**given)
        until(lambda: self.observed().get("supervisor", {}).get("pid") == server.pid)
        until(lambda: self.count("control up") > before)
        self.ask()
        return server

    def want(self, replicas: dict[str, list[str]], ring: bool = True, grace: float = 5.0, colour: str = "blue") -> None:
        """Write desired.json, and say so at the bell."""
        entries = [{"id": name, "argv": argv, "env": {"COLOUR": colour}, "grace": grace} for name, argv in replicas.items()]
        temporary = self.home.run / ".desired"
        temporary.write_text(json.dumps({"processes": entries}))
        temporary.replace(self.home.desired)
        if ring:
            self.ring()

    def ring(self) -> None:
        """Have the server look at desired.json."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
            bell.sendto(b"!", str(self.home.supervisor_socket))

    def observed(self) -> dict[str, Any]:
        """Return observed.json, empty if there is none."""
        try:
            found: dict[str, Any] = json.loads(self.home.observed.read_bytes())
        except FileNotFoundError:
            return {}
        self._seen |= {entry["pid"] for entry in found["processes"].values() if entry["pid"]}
        return found

    def entry(self, name: str) -> dict[str, Any]:
        """Return what is observed of one process, empty if nothing."""
        found: dict[str, Any] = self.observed().get("processes", {}).get(name, {})
        return found

    def when(self, name: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until what is observed of a process meets a condition, and return it."""
        found: list[dict[str, Any]] = until(lambda: [entry for entry in [self.entry(name)] if entry and condition(entry)])
        return found[0]

    def running(self, name: str, other_than: int | None = None) -> int:
        """Wait until a process runs, a new one where asked, and return its pid."""
        entry = self.when(name, lambda e: e["state"] == "running" and e["pid"] != other_than)
        return int(entry["pid"])

    def up(self, name: str, times: int = 1) -> None:
        """Wait until a stand-in has started so often, that is, can take signals."""
        until(lambda: self.count(f"{name} up") >= times)

    def ask(self) -> dict[str, Any]:
        """Connect to the inference port; the gateway answers with its pid, descriptors and configuration."""
        url = json.loads(self.home.server.read_bytes())["inference_url"]
        with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=10) as connection:
            answer: dict[str, Any] = json.loads(connection.makefile("rb").read())
        return answer

    def count(self, event: str) -> int:
        """How often an event was noted."""
        return self.notes().count(event)

    def notes(self) -> list[str]:
        """Everything noted so far, in order."""
        return self.events.read_text().splitlines()

    def terminal(self) -> str:
        """What the servers said."""
        return (self._path / "terminal").read_text()

    def end(self, server: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
        """Signal a server and wait for its end; everything ever observed must be gone, with the files of the run."""
        self.observed()
        server.send_signal(number)
        code = server.wait(20)
        assert not [pid for pid in self._seen if alive(pid)]
        assert not list(self.home.run.iterdir())
        return code

    def clear(self) -> None:
        """Kill what a failed test left."""
        self.observed()
        for server in self._servers:
            if server.poll() is None:
                server.kill()
                server.wait()
        for pid in self._seen:
            processes.kill_session(pid)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A home of its own, cleared afterwards."""
    made = Stage(tmp_path)
    yield made
    made.clear()


def test_everything_starts_as_the_contract_says(stage: Stage) -> None:
    """Gateway and control get their configuration and only their own socket, run in sessions of their own and write to logs."""
    server = stage.serve(hosts=["models.example"], limits={"body": 5}, default_deployment="fraud")
    answer = stage.ask()
    assert {"id": "gateway-0", "hosts": ["models.example"], "limits": {"body": 5}, "require_key": False}.items() <= answer.items()
    assert answer["drain_limit"] == 5 and answer["tls_cert"] is None
    control = stage.running("control")
    config = json.loads(Path(f"/proc/{control}/environ").read_bytes().split(b"HEADGATE_CONFIG=")[1].split(b"\0")[0])
    where = json.loads(stage.home.server.read_bytes())
    assert where["pid"] == server.pid and config["inference_url"] == where["inference_url"]
    assert config["default_deployment"] == "fraud"
    sockets = [fd for fd in os.listdir(f"/proc/{control}/fd") if int(fd) > 2]
    assert sockets == [str(config["listener"])]
    for name in ("control", "gateway-0"):
        pid = stage.running(name)
        seen = processes.stat(pid)
        assert seen and seen.session == pid and seen.started == stage.entry(name)["started"]
        assert os.readlink(f"/proc/{pid}/fd/2") == str(stage.home.log(name))
        assert stage.entry(name)["rss"] > 0
    assert stage.end(server) == 0


def test_the_supervisor_stays_small(stage: Stage) -> None:
    """It needs less than 20 MB and loads nothing of the data or the control plane."""
    server = stage.serve()
    assert processes.rss(server.pid) < 16e6
    names = "import sys, headgate.supervisor as s; print([m for m in sys.modules if m in ('numpy', 'msgspec', 'asyncio', 'sqlalchemy')])"
    assert subprocess.run([sys.executable, "-c", names], capture_output=True, check=True).stdout.strip() == b"[]"
    assert stage.end(server) == 0


def test_a_killed_gateway_is_started_again_on_its_port(stage: Stage) -> None:
    """After kill -9 a new gateway answers at the same address; a client that connects meanwhile only waits."""
    server = stage.serve()
    first = stage.ask()["pid"]
    os.kill(first, signal.SIGKILL)
    assert stage.ask()["pid"] != first
    entry = stage.when("gateway-0", lambda e: e["restarts"] == 1)
    assert entry["exit"] == "killed by SIGKILL"
    assert f"gateway-0 ended (killed by SIGKILL); started again in 0.1 s; log: {stage.home.log('gateway-0')}" in stage.terminal()
    assert stage.end(server) == 0


def test_a_crash_loop_slows_down_and_shows_its_last_words(stage: Stage) -> None:
    """A replica that falls at each start waits twice as long each time, and observed.json holds exit and last output."""
    server = stage.serve()
    times = stage.home.path / "times"
    stage.want({"bad-1.1": ["/bin/sh", "-c", f"cut -d' ' -f1 /proc/uptime >> {times}; echo no weights >&2; exit 3"]})
    entry = stage.when("bad-1.1", lambda e: e["restarts"] >= 3 and e["state"] == "backoff")
    assert (entry["exit"], entry["tail"], entry["pid"]) == ("exit code 3", "no weights", None)
    at = [float(line) for line in times.read_text().split()]
    for gap, least in zip((b - a for a, b in pairwise(at)), (0.1, 0.2, 0.4), strict=False):
        assert gap >= least - 0.02  # uptime counts hundredths
    stage.want({})
    until(lambda: not stage.entry("bad-1.1"))
    assert stage.end(server) == 0


def test_a_program_that_is_not_there_is_tried_again(stage: Stage) -> None:
    """A replica whose interpreter is missing (an environment still being made) starts once it is there."""
    server = stage.serve()
    python = stage.home.envs / "python"
    stage.want({"new-1.1": [str(python), "1000"]})
    entry = stage.when("new-1.1", lambda e: e["state"] == "backoff")
    assert "No such file" in entry["exit"]
    python.symlink_to("/bin/sleep")
    stage.running("new-1.1")
    assert stage.end(server) == 0


def test_replicas_follow_the_file(stage: Stage) -> None:
    """What desired.json names is started with its environment, what it omits is ended; with or without a ring at the bell."""
    server = stage.serve()
    stage.want({"a-1.1": stage.stand_in("a")})
    pid = stage.running("a-1.1")
    assert b"COLOUR=blue\0" in Path(f"/proc/{pid}/environ").read_bytes()
    assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "500"
    stage.up("a")
    stage.want({"b-1.1": stage.stand_in("b")}, ring=False)
    stage.running("b-1.1")
    until(lambda: not stage.entry("a-1.1"))
    assert stage.count("a term") == 1 and not alive(pid)
    assert stage.end(server) == 0


def test_what_runs_otherwise_is_started_anew(stage: Stage) -> None:
    """A replica whose command or environment has changed under its id is ended with SIGTERM and started as it now is; others stay."""
    server = stage.serve()
    stage.want({"a-1.1": stage.stand_in("a"), "b-1.1": stage.stand_in("b")})
    first, other = stage.running("a-1.1"), stage.running("b-1.1")
    stage.up("a")
    stage.want({"a-1.1": stage.stand_in("moved"), "b-1.1": stage.stand_in("b")})
    second = stage.running("a-1.1", other_than=first)
    stage.up("moved")
    assert stage.count("a term") == 1 and stage.entry("b-1.1")["pid"] == other
    stage.want({"a-1.1": stage.stand_in("moved"), "b-1.1": stage.stand_in("b")}, colour="red")
    third = stage.running("a-1.1", other_than=second)
    assert b"COLOUR=red\0" in Path(f"/proc/{third}/environ").read_bytes()
    assert stage.count("moved term") == 1
    assert "a-1.1 is to run with another command or environment" in stage.terminal()
    assert stage.end(server) == 0


def test_a_mended_command_does_not_wait_for_the_old_ones_backoff(stage: Stage) -> None:
    """Where the program was not there (a home or an interpreter has moved), another one begins as one that was never started."""
    server = stage.serve()
    stage.want({"a-1.1": ["/nowhere/python"]})
    stage.when("a-1.1", lambda e: e["restarts"] >= 3 and e["state"] == "backoff")
    stage.want({"a-1.1": stage.stand_in("a")})
    stage.running("a-1.1")
    assert stage.entry("a-1.1")["restarts"] == 0
    assert stage.end(server) == 0


def test_a_broken_file_ends_nothing(stage: Stage) -> None:
    """A desired.json that names control is said and not followed, one that is gone changes nothing; the next good one counts."""
    server = stage.serve()
    stage.want({"a-1.1": stage.stand_in("a")})
    pid = stage.running("a-1.1")
    stage.want({"control": ["true"]})
    until(lambda: "is not followed" in stage.terminal())
    stage.home.desired.unlink()
    stage.ring()
    os.kill(pid, signal.SIGKILL)
    stage.running("a-1.1", other_than=pid)
    stage.want({"c-1.1": stage.stand_in("c")})
    stage.running("c-1.1")
    assert stage.end(server) == 0


def test_nothing_a_replica_started_outlives_it(stage: Stage) -> None:
    """Grandchildren are killed: those of a replica that crashed, and of one that is omitted and does not heed SIGTERM."""
    server = stage.serve()
    found = stage.home.path / "grandchild"
    script = f"trap : TERM; sleep 1000 & echo $! > {found}.new; mv {found}.new {found}; while :; do wait; done"
    stage.want({"a-1.1": ["/bin/sh", "-c", script]}, grace=0.2)
    grandchild = int(until(lambda: found.exists() and found.read_text()))
    first = stage.running("a-1.1")
    os.kill(first, signal.SIGKILL)
    until(lambda: not alive(grandchild))
    second = int(until(lambda: (text := found.read_text()) != f"{grandchild}\n" and text))
    pid = stage.running("a-1.1", other_than=first)
    stage.want({})
    until(lambda: not stage.entry("a-1.1"))
    assert not alive(pid) and not alive(second)
    assert "a-1.1 did not end in time and is killed" in stage.terminal()
    assert stage.end(server) == 0


def test_replicas_come_back_while_control_is_dead(stage: Stage) -> None:
    """Control falls at each start; a replica that is killed then is started again all the same."""
    server = stage.serve(control="crash")
    stage.want({"a-1.1": stage.stand_in("a")})
    pid = stage.running("a-1.1")
    stage.when("control", lambda e: e["restarts"] >= 2)
    os.kill(pid, signal.SIGKILL)
    stage.running("a-1.1", other_than=pid)
    assert stage.entry("control")["exit"] == "exit code 3"
    assert stage.end(server) == 0


def test_orphans_are_reaped_where_we_are_process_one(stage: Stage) -> None:
    """A process that left its session and ended does not stay as a zombie of the supervisor."""
    server = stage.serve(init=True)
    orphan = stage.home.path / "orphan"
    stage.want({"a-1.1": ["/bin/sh", "-c", f"(setsid sh -c 'echo $$ > {orphan}; exec sleep 0.5' &) ; exec sleep 1000"]})
    pid = int(until(lambda: orphan.exists() and orphan.read_text()))
    seen = processes.stat(pid)
    assert seen is not None and seen.session == pid
    until(lambda: (now := processes.stat(pid)) is None or now.parent == server.pid)
    until(lambda: processes.stat(pid) is None)
    assert stage.end(server) == 0


def test_a_drain_ends_the_gateway_first(stage: Stage) -> None:
    """Replicas and control are there until the gateway has finished; a replica that falls meanwhile is not started again."""
    server = stage.serve(gateway="slow")
    stage.want({"a-1.1": stage.stand_in("a"), "b-1.1": stage.stand_in("b")})
    stage.up("a")
    stage.up("b")
    pid = stage.running("b-1.1")
    server.send_signal(signal.SIGINT)
    until(lambda: stage.count("gateway term"))
    os.kill(pid, signal.SIGKILL)
    assert stage.end(server, 0) == 0
    ends = [note for note in stage.notes() if not note.endswith("up")]
    assert ends[:2] == ["gateway term", "gateway end"]
    assert sorted(ends[2:]) == ["a term", "control term"]
    assert stage.count("b up") == 1
    assert "draining: requests under way have 5 s to finish" in stage.terminal()


def test_a_drain_has_an_end(stage: Stage) -> None:
    """Gateway and replica that do not heed SIGTERM are killed after their time, and the server ends with 0 all the same."""
    server = stage.serve(gateway="stubborn", drain_limit=0)
    stage.want({"a-1.1": stage.stand_in("a", "stubborn")}, grace=0.3)
    stage.up("a")
    begun = time.monotonic()
    assert stage.end(server) == 0
    assert time.monotonic() - begun > 2.3  # 0 s and 2 s more for the gateway, then 0.3 s for the replica
    assert "gateway-0 did not end in time" in stage.terminal() and "a-1.1 did not end in time" in stage.terminal()


def test_a_second_signal_ends_at_once(stage: Stage) -> None:
    """With a gateway that would take half a minute, a second SIGTERM ends everything; an echo of the first does not."""
    server = stage.serve(gateway="stubborn", drain_limit=30)
    server.send_signal(signal.SIGTERM)
    until(lambda: stage.count("gateway term"))
    server.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        server.wait(0.3)
    begun = time.monotonic()
    assert stage.end(server) == 128 + signal.SIGTERM
    assert time.monotonic() - begun < 5


def test_a_closed_terminal_ends_nothing(stage: Stage) -> None:
    """SIGHUP does not drain; the server looks at desired.json and goes on."""
    server = stage.serve()
    stage.want({"a-1.1": stage.stand_in("a")}, ring=False)
    server.send_signal(signal.SIGHUP)
    stage.running("a-1.1")
    assert stage.ask()["pid"] == stage.running("gateway-0")
    assert stage.end(server) == 0


def test_the_next_server_takes_over_from_a_killed_one(stage: Stage) -> None:
    """After kill -9 of the supervisor, gateway and replica serve on; the next one keeps them, their port, and starts control anew."""
    server = stage.serve()
    stage.want({"a-1.1": stage.stand_in("a"), "old-1.1": stage.stand_in("old")})
    replica, gateway, control = stage.running("a-1.1"), stage.running("gateway-0"), stage.running("control")
    stage.up("a")
    stage.up("old")
    old = stage.running("old-1.1")
    server.kill()
    server.wait()
    assert stage.ask()["pid"] == gateway and alive(replica) and alive(control)
    stage.want({"a-1.1": stage.stand_in("a")}, ring=False)
    url = json.loads(stage.home.server.read_bytes())["inference_url"]
    server = stage.serve(port=1)
    assert json.loads(stage.home.server.read_bytes())["inference_url"] == url
    assert (stage.running("gateway-0"), stage.running("a-1.1"), stage.ask()["pid"]) == (gateway, replica, gateway)
    assert not alive(control) and stage.running("control") != control
    until(lambda: not alive(old))
    assert len([fd for fd in os.listdir(f"/proc/{stage.running('control')}/fd") if int(fd) > 2]) == 1
    assert "took over from an earlier server: gateway-0, " in stage.terminal() and "port 1 was asked for" in stage.terminal()
    for name, pid in (("gateway-0", gateway), ("a-1.1", replica)):
        os.kill(pid, signal.SIGKILL)  # adopted ones are watched, and come back, like our own
        stage.running(name, other_than=pid)
    assert json.loads(stage.home.server.read_bytes())["inference_url"] == url and stage.ask()["pid"] != gateway
    assert stage.end(server) == 0


def test_a_gateway_that_does_not_hand_over_is_replaced(stage: Stage) -> None:
    """If the surviving gateway stays silent it is ended, and the next server opens its ports anew."""
    server = stage.serve(gateway="mute")
    gateway = stage.running("gateway-0")
    server.kill()
    server.wait()
    server = stage.serve()
    assert not alive(gateway) and stage.ask()["pid"] == stage.running("gateway-0") != gateway
    assert stage.end(server) == 0


def test_a_gateway_with_other_settings_is_drained_and_started_again(stage: Stage) -> None:
    """A setting given to the next server holds: the surviving gateway finishes, and a new one has its port and the setting."""
    server = stage.serve(gateway="slow")
    gateway = stage.running("gateway-0")
    url = json.loads(stage.home.server.read_bytes())["inference_url"]
    server.kill()
    server.wait()
    server = stage.serve(require_key=True)
    stage.running("gateway-0", other_than=gateway)
    assert json.loads(stage.home.server.read_bytes())["inference_url"] == url
    assert stage.ask()["require_key"] is True and stage.count("gateway end") == 1
    assert "gateway-0 was started with other settings (require_key)" in stage.terminal()
    assert stage.end(server) == 0


def test_the_deployer_speaks_to_the_terminal_once(stage: Stage) -> None:
    """The command for the targets runs once, with our output; its failure is said, and the server goes on."""
    server = stage.serve(deploy_argv=["/bin/sh", "-c", "echo endpoints; exit 3"])
    until(lambda: "deploying failed (exit code 3)" in stage.terminal())
    assert stage.terminal().count("endpoints\n") == 1 and "deployer" not in stage.observed()["processes"]
    assert stage.end(server) == 0


def test_the_server_can_end_with_the_deployer(stage: Stage) -> None:
    """Where asked, a failed deployment drains the server, which ends with the exit code of the command."""
    server = stage.launch(deploy_argv=["/bin/sh", "-c", "exit 3"], end_on_deploy_failure=True)
    assert server.wait(10) == 3
    assert not list(stage.home.run.iterdir())


def test_a_second_server_is_refused(stage: Stage) -> None:
    """On a home that has a server, serving raises Conflict with its pid and address, and harms nothing."""
    server = stage.serve()
    url = json.loads(stage.home.server.read_bytes())["inference_url"]
    with pytest.raises(Conflict, match=f"pid {server.pid}, {url}"):
        run(ServeOptions(**stage.options()))
    assert stage.ask()["pid"] == stage.running("gateway-0")
    assert stage.end(server) == 0


@pytest.mark.parametrize("option", ["port", "control_port"])
def test_a_busy_port_is_said_before_anything_starts(stage: Stage, option: str) -> None:
    """The error names the port and the option to choose another; no process is started, and the home is free again."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(Conflict, match=rf"port {port} .* --{option.replace('_', '-')} 0"):
            run(ServeOptions(**stage.options(**{option: port})))
    assert not stage.notes() and not list(stage.home.run.iterdir())
    assert stage.end(stage.serve()) == 0


def test_other_machines_are_refused_before_anything_starts(stage: Stage) -> None:
    """Listening beyond loopback with neither keys and TLS nor the user's word raises SpecError; no home is made."""
    with pytest.raises(SpecError, match="--insecure"):
        run(ServeOptions(**stage.options(host="0.0.0.0")))
    assert not stage.home.path.exists()
