"""What an earlier supervisor left: which processes count as survivors, and whose socket is taken."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from pathlib import Path

import pytest

from headgate.supervision import adoption, processes


def _record(path: Path, pid: int, started: int) -> None:
    path.write_text(json.dumps({"processes": {"a-1.1": {"pid": pid, "started": started, "since": 5.0, "restarts": 2}}}))


def test_a_pid_alone_is_no_survivor(tmp_path: Path) -> None:
    """A recorded process counts only with its start time; another that got its number is left alone. Broken files hold none."""
    observed = tmp_path / "observed.json"
    pid, pidfd = processes.spawn(processes.ProcessSpec("a-1.1", ["sleep", "1000"]), tmp_path / "log")
    try:
        seen = processes.stat(pid)
        assert seen
        _record(observed, pid, seen.started + 1)
        assert adoption.survivors(observed) == {}
        _record(observed, pid, seen.started)
        found = adoption.survivors(observed)["a-1.1"]
        assert (found.pid, found.since, found.restarts) == (pid, 5.0, 2)
        adoption.end([found])
        assert processes.reap(pid) == -15
    finally:
        processes.kill_session(pid)
        os.close(pidfd)
    for content in ("", "[]", '{"processes": {"a": 7}}', '{"processes": {"a": {"pid": "x", "started": 1}}}'):
        observed.write_text(content)
        assert adoption.survivors(observed) == {}


@pytest.mark.parametrize(("kind", "listening", "taken"), [(10, True, True), (2, True, False), (10, False, False)])
def test_only_a_listening_socket_is_taken(tmp_path: Path, kind: int, listening: bool, taken: bool) -> None:
    """The answer must be LISTENERS with a socket that listens; it is closed on exec, so that children do not keep the port."""
    path = tmp_path / "link.sock"
    with socket.socket(socket.AF_UNIX) as link, socket.socket() as offered:
        link.bind(str(path))
        link.listen()
        if listening:
            offered.listen()

        def hand_over() -> None:
            connection, _ = link.accept()
            with connection:
                connection.recv(1024)
                socket.send_fds(connection, [struct.pack("<IBBHI", 10, kind, 0, 0, 0) + b"{}"], [offered.fileno()])

        thread = threading.Thread(target=hand_over)
        thread.start()
        found = adoption.take_listener(path)
        thread.join()
        assert (found is not None) is taken
        if found:
            assert found.getsockname() == offered.getsockname() and not found.get_inheritable()
            found.close()


def test_nobody_at_the_link_is_no_listener(tmp_path: Path) -> None:
    """A missing socket and one that never answers both give None, the latter after the limit."""
    assert adoption.take_listener(tmp_path / "none.sock") is None
    with socket.socket(socket.AF_UNIX) as link:
        link.bind(str(tmp_path / "link.sock"))
        link.listen()
        assert adoption.take_listener(tmp_path / "link.sock", limit=0.05) is None


def test_strays_are_known_by_their_log(tmp_path: Path) -> None:
    """What writes to the log of a process of this home, and is in no session we know, is ended with its children; nobody else is."""
    logs = tmp_path / "logs"
    logs.mkdir()
    script = ["/bin/sh", "-c", "sleep 1000 & wait"]
    started = {
        name: processes.spawn(processes.ProcessSpec(name, script), (folder / f"{name}.log"))
        for name, folder in [("gateway-0", logs), ("a-1.1", logs), ("b-1.1", logs), ("serve", logs), ("control", tmp_path)]
    }
    try:
        adoption.end_strays(logs, known={started["b-1.1"][0]})
        assert {name: processes.reap(started[name][0]) for name in ("gateway-0", "a-1.1")} == {"gateway-0": -9, "a-1.1": -9}
        assert not processes._members(started["a-1.1"][0])
        assert all(len(processes._members(started[name][0])) == 2 for name in ("b-1.1", "serve", "control"))
    finally:
        for pid, pidfd in started.values():
            processes.kill_session(pid)
            processes.reap(pid)
            os.close(pidfd)
