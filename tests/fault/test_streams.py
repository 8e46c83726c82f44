"""Answers in parts when something ends in the middle of one, behind a server that was started as users start it."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from faulty_home import FaultyHome, echo, kill, metric
from serving_home import SECONDS, Serving, connect, eventually

TALKER = Path(__file__).with_name("talker.py")
AT_ONCE = 1.0
"""Seconds within which the loss of an answer must be told."""
FLOOD = 4000
"""Parts of 10 KB each: 40 MB."""
ROOM = 16 << 20
"""Bytes by which the gateway may grow, whatever its clients do not read."""


class Listener:
    """A client of one answer in parts."""

    def __init__(self, serving: Serving, name: str, do: str, **headers: str) -> None:
        self.connection = connect(serving.url)
        self.begun = time.monotonic()
        fields = {"accept": "text/event-stream"} | {key.replace("_", "-"): text for key, text in headers.items()}
        self.connection.request("POST", f"/predict/{name}", json.dumps({"do": do}), fields)
        self.response: http.client.HTTPResponse = self.connection.getresponse()
        assert self.response.status == 200

    def part(self) -> Any:
        """Wait for the next part; None is the end."""
        line = self.response.readline()
        if not line:
            return None
        assert line.startswith(b"data: ")
        assert self.response.readline() == b"\n"
        return json.loads(line[6:])

    def words(self) -> Iterator[str]:
        """Yield what follows, to the end: words, and the code of an error."""
        while (part := self.part()) is not None:
            yield part.get("output", part.get("code"))

    def close(self) -> None:
        """Go away."""
        self.response.close()
        self.connection.close()


def heard(serving: Serving, name: str, do: str) -> list[str]:
    """Return all of an answer."""
    with contextlib.closing(Listener(serving, name, do)) as listener:
        return list(listener.words())


Listen = Callable[..., Listener]


@pytest.fixture
def listen() -> Iterator[Listen]:
    """Makes clients that go away with the test, if not before."""
    with contextlib.ExitStack() as stack:

        def begin(serving: Serving, name: str, do: str, **headers: str) -> Listener:
            return stack.enter_context(contextlib.closing(Listener(serving, name, do, **headers)))

        yield begin


class World:
    """The server of this file; every test deploys a model of its own."""

    def __init__(self, home: FaultyHome) -> None:
        self.home = home
        self.serving: Serving = home.serve(home.model("bystander")).until_ready("bystander")

    def deploy(self, name: str, *flags: str, version: int = 1) -> Serving:
        """Deploy the talker under a name."""
        text = TALKER.read_text().replace("VERSION = 1", f"VERSION = {version}")
        self.home.done("deploy", f"{self.home.write(f'{name}.py', text)}:Talker", "--threads", "1", *flags)
        return self.serving.until_ready(name)

    def note(self, name: str, kind: str) -> str:
        """Return what a model has noted."""
        path = self.home.notes / f"{name}.{kind}"
        return path.read_text() if path.exists() else ""

    def until_closed(self, name: str, do: str) -> None:
        """Wait until the generator of an answer has ended."""
        eventually(lambda: do in self.note(name, "closed").splitlines(), f"{do!r} is closed")


@pytest.fixture(scope="module")
def world(shared_home: Callable[[], FaultyHome]) -> World:
    """The server of this file."""
    return World(shared_home())


def test_a_client_that_goes_away_ends_the_answer(world: World, listen: Listen) -> None:
    """The model is stopped at its next part, long before its end, and answers the next client."""
    serving = world.deploy("left")
    listener = listen(serving, "left", f"flood:{FLOOD}")
    assert listener.part()["output"].strip() == "0"
    listener.close()
    world.until_closed("left", f"flood:{FLOOD}")
    assert int(world.note("left", "given")) < FLOOD - 1
    assert heard(serving, "left", "a b") == ["a", "b"]


def test_a_kill_in_the_middle_is_told_at_once(world: World, listen: Listen) -> None:
    """The client has its parts and gets an error within a second; the answer is not begun anew, what waits is answered by the
    successor, and other models do not notice."""
    serving = world.deploy("killed")
    listener = listen(serving, "killed", "a wait b")
    assert listener.part() == {"output": "a"}
    waiting = world.home.start(lambda: heard(serving, "killed", "c"))
    serving.until(lambda: metric(serving, "headgate_queue_rows", "killed") == 1, "another request waits")
    killed = time.monotonic()
    kill(serving.pid("killed-1.1"))
    last = listener.part()
    assert time.monotonic() - killed < AT_ONCE
    assert (last["code"], last["error"]) == ("replica_lost", "the replica of killed-1 died in the middle of the answer")
    assert listener.part() is None
    assert waiting.result(60) == ["c"]
    assert serving.ask("bystander", echo(7)).status == 200
    assert "a wait b" not in world.note("killed", "closed").splitlines()


def test_a_death_before_the_first_part_is_run_again(world: World) -> None:
    """Once, as the model is declared idempotent; the second time the client is told."""
    serving = world.deploy("early", "--replicas", "2")
    answer = serving.ask("early", {"do": "kill a"}, accept="text/event-stream")
    assert (answer.status, answer.json["code"]) == (503, "replica_lost")
    serving.until_ready("early")
    assert heard(serving, "early", "a") == ["a"]


def test_the_time_of_a_batch_is_that_of_one_part(world: World, listen: Listen) -> None:
    """An answer may take longer than batch_timeout, none of its parts may: that ends the replica, and the client is told why."""
    serving = world.deploy("timed", "--batch-timeout", "1.5")
    listener = listen(serving, "timed", "a sleep:1 b sleep:1 c sleep:1 d")
    assert list(listener.words()) == ["a", "b", "c", "d"]
    assert time.monotonic() - listener.begun > 2.5
    hung = listen(serving, "timed", "a sleep:30 b")
    assert hung.part() == {"output": "a"}
    last = hung.part()
    assert last["code"] == "replica_lost"
    assert "a part took longer than batch_timeout (1.5 s)" in last["error"]
    serving.until_ready("timed")


def test_a_client_that_does_not_read_takes_no_memory(world: World) -> None:
    """The model stops where its client's room ends, the gateway keeps its size and serves others; when the client reads on, it gets
    every part, in order."""
    serving = world.deploy("slow", "--batch-timeout", "2")
    gateway = psutil.Process(serving.pid("gateway-0"))
    before = gateway.memory_info().rss
    raw = json.dumps({"do": f"flood:{FLOOD} end"}).encode()
    host, port = serving.url.rpartition("/")[2].split(":")
    with socket.socket() as sock:
        sock.settimeout(SECONDS)
        sock.connect((host, int(port)))
        head = f"POST /predict/slow HTTP/1.1\r\nhost: {host}\r\naccept: text/event-stream\r\nx-headgate-timeout-ms: 60000\r\n"
        sock.sendall(head.encode() + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(raw) + raw)
        eventually(lambda: int(world.note("slow", "given") or 0) > 10, "the model has begun")
        given = _standstill(world, "slow")
        assert 10 < given < FLOOD // 2
        time.sleep(3.5)  # longer than a batch may take, with the grace that a link has
        assert int(world.note("slow", "given")) == given
        assert gateway.memory_info().rss - before < ROOM
        assert serving.ask("bystander", echo(7)).status == 200
        _check_flood(sock)
    assert gateway.memory_info().rss - before < ROOM
    assert heard(serving, "slow", "a") == ["a"]


def _standstill(world: World, name: str) -> int:
    """Return how many parts were given, once there are no more."""
    seen = [-2, -1]

    def stands() -> bool:
        time.sleep(0.3)
        seen.append(int(world.note(name, "given") or 0))
        return seen[-1] == seen[-2]

    eventually(stands, "the model waits")
    return seen[-1]


def _check_flood(sock: socket.socket) -> None:
    """Read all of the flood, and check that nothing of it is missing."""
    response = http.client.HTTPResponse(sock, method="POST")
    response.begin()
    for at in range(FLOOD):
        assert json.loads(response.readline()[6:])["output"] == f"{at:<10000}"
        response.readline()
    assert json.loads(response.readline()[6:])["output"] == "end"
    assert response.read() == b"\n"


def test_a_slow_client_that_goes_away_frees_the_replica(world: World, listen: Listen) -> None:
    """A replica that waits for room hears that nobody wants more."""
    serving = world.deploy("stuck")
    listener = listen(serving, "stuck", f"flood:{FLOOD}", x_headgate_timeout_ms="60000")
    _standstill(world, "stuck")
    listener.close()
    world.until_closed("stuck", f"flood:{FLOOD}")
    assert heard(serving, "stuck", "a") == ["a"]


def test_a_deadline_frees_a_replica_whose_client_does_not_read(world: World, listen: Listen) -> None:
    """The time of a request is over for those who do not take their answer, too."""
    serving = world.deploy("over")
    listener = listen(serving, "over", f"flood:{FLOOD}", x_headgate_timeout_ms="3000")
    world.until_closed("over", f"flood:{FLOOD}")
    assert heard(serving, "over", "a") == ["a"]
    *_, last = listener.words()
    assert last == "deadline_exceeded"


def test_a_new_version_lets_the_old_one_finish(world: World, listen: Listen) -> None:
    """A deployment in the middle of an answer: it comes to its end where it began, and the next is the new version's."""
    serving = world.deploy("rolled")
    listener = listen(serving, "rolled", "version wait version")
    assert listener.part() == {"output": "1"}
    world.deploy("rolled", version=2)
    assert heard(serving, "rolled", "version") == ["2"]
    world.home.go("rolled")
    assert list(listener.words()) == ["1"]


def test_a_gateway_that_dies_stops_the_model(world: World, listen: Listen) -> None:
    """Its clients see a broken connection, not an end; the replica closes the answer and serves for the next gateway."""
    serving = world.deploy("orphan")
    listener = listen(serving, "orphan", f"a flood:{FLOOD}")
    assert listener.part() == {"output": "a"}
    kill(serving.pid("gateway-0"))
    with pytest.raises((ConnectionError, http.client.IncompleteRead)):
        listener.response.read()
    world.until_closed("orphan", f"a flood:{FLOOD}")
    serving.until_ready("orphan", "bystander")
    assert heard(serving, "orphan", "b") == ["b"]


def test_a_drain_waits_for_answers_in_parts(home: FaultyHome, listen: Listen) -> None:
    """The server ends once the last part is out; what takes longer than it waits is told so."""
    path = home.write("talks.py", TALKER.read_text())
    serving = home.serve(f"{path}:Talker", "--threads", "1").until_ready("talks")
    listener = listen(serving, "talks", "a wait b")
    assert listener.part() == {"output": "a"}
    serving.process.send_signal(signal.SIGTERM)
    serving.until(lambda: "draining" in serving.said, "it drains")
    time.sleep(2)
    assert serving.process.poll() is None
    home.go("talks")
    assert list(listener.words()) == ["b"]
    assert serving.process.wait(60) == 0
