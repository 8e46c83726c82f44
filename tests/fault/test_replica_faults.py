"""Replicas that die, hang, raise and grow, behind a server that was started as users start it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest
from faulty_home import FaultyHome, echo, kill, metric
from serving_home import Serving, eventually, failures, is_alive, under_load

AT_ONCE = 1.0
"""Seconds within which the loss of a request must be told."""
SEEN = 2.0
"""Seconds within which readiness must tell that nobody answers."""


class World:
    """The server of this file; every test deploys a model of its own, so that no one's backoff holds up another."""

    def __init__(self, home: FaultyHome) -> None:
        self.home = home
        self.serving: Serving = home.serve(home.model("bystander"))
        self.serving.until_ready("bystander")

    def deploy(self, name: str, kind: str = "Pure", *flags: str) -> Serving:
        """Deploy the misbehaving model under a name."""
        self.home.done("deploy", self.home.model(name, kind), "--threads", "1", *flags)
        return self.serving.until_ready(name)


@pytest.fixture(scope="module")
def world(shared_home: Callable[[], FaultyHome]) -> World:
    """The server of this file."""
    return World(shared_home())


@pytest.mark.parametrize("kind", ["Pure", "Impure"])
def test_a_kill_costs_only_the_batch_in_flight(world: World, kind: str) -> None:
    """What a killed replica computed is run again or told within a second, as declared; what waited is served by the next one."""
    name = f"killed{kind}"
    serving = world.deploy(name, kind)
    inflight = world.home.begin(serving, name, {"do": "wait", "x": 1})
    queued = world.home.queue(serving, name, [echo(x) for x in range(100, 120)])
    killed = time.monotonic()
    kill(serving.pid(f"{name}-1.1"))
    eventually(lambda: not serving.is_ready(name) and not serving.is_ready(), "readiness tells that the only replica is gone", SEEN)
    assert time.monotonic() - killed < SEEN
    if kind == "Impure":
        lost = inflight.result(60)
        assert time.monotonic() - killed < AT_ONCE
        assert (lost.status, lost.json["code"]) == (503, "replica_lost")
    world.home.go(name)
    assert [answer.result(60).status for answer in queued] == [200] * 20
    assert [answer.result().json["output_0"] for answer in queued] == list(range(100, 120))
    assert inflight.result(60).status == (200 if kind == "Pure" else 503)
    assert world.home.computed(name).count("wait 1") == (2 if kind == "Pure" else 1)
    serving.until_ready(name, "")
    assert serving.ask("bystander", echo(7)).status == 200


def test_a_batch_is_run_again_by_the_replica_that_is_left(world: World) -> None:
    """With two replicas and no other traffic, what one of them lost is computed by the other, not by its late successor."""
    serving = world.deploy("pair", "Pure", "--replicas", "2")
    inflight = world.home.begin(serving, "pair", {"do": "wait", "x": 1})
    busy = int((world.home.notes / "pair.waits").read_text())
    world.home.on_load("pair", "wait")
    kill(busy)
    eventually(lambda: world.home.computed("pair").count("wait 1") == 2, "the other replica computes it", 20)
    world.home.go("pair")
    assert inflight.result(60).status == 200
    world.home.on_load("pair", "")
    assert serving.is_ready("pair")


def _replicas(serving: Serving, name: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = serving.status(name)["revisions"][-1]["replicas"]
    return found


def test_the_culprit_of_a_batch_is_found(world: World) -> None:
    """Of 32 requests in one batch, the one the model raises on gets the error, and 31 get their answers after few more runs."""
    serving = world.deploy("culprit", "PureBatch")
    first = world.home.begin(serving, "culprit", {"do": "wait", "x": 1})
    rows = [{"do": "raise" if x == 113 else "echo", "x": x} for x in range(100, 132)]
    queued = world.home.queue(serving, "culprit", rows)
    world.home.go("culprit")
    answers = {x: answer.result(60) for x, answer in zip(range(100, 132), queued, strict=True)}
    assert first.result(60).status == 200
    assert {x for x, answer in answers.items() if answer.status != 200} == {113}
    assert "this row is marked" in answers[113].error
    assert all(answer.json["output"] == x for x, answer in answers.items() if x != 113)
    # Alone at last, after halving 32, 16, 8, 4 and 2.
    assert 2 <= world.home.computed("culprit").count("raise 113") <= 6


def test_rows_that_fail_alone_cost_no_neighbour_and_no_second_run(world: World) -> None:
    """Of a model that is called for each row, the requests whose row raised or was refused fail, the others of the batch are answered,
    and nothing is run twice, though it is not declared idempotent.
    """
    serving = world.deploy("alone", "Impure")
    first = world.home.begin(serving, "alone", {"do": "wait", "x": 1})
    rows = [{"do": {105: "raise", 107: "refuse"}.get(x, "echo"), "x": x} for x in range(100, 110)]
    queued = world.home.queue(serving, "alone", rows)
    world.home.go("alone")
    answers = {x: answer.result(60) for x, answer in zip(range(100, 110), queued, strict=True)}
    assert first.result(60).status == 200
    assert {x: answer.status for x, answer in answers.items()} == dict.fromkeys(answers, 200) | {105: 500, 107: 400}
    assert "this row is marked" in answers[105].error and answers[107].error == "do: this row is refused"
    assert all(answer.json["output_0"] == x for x, answer in answers.items() if answer.status == 200)
    assert all(world.home.computed("alone").count(f"{row['do']} {row['x']}") == 1 for row in rows)


def test_a_refused_batch_is_run_again_without_the_culprit(world: World) -> None:
    """``InvalidInput`` says that nothing was done: the neighbours in its batch are answered, also by a model that is not idempotent."""
    serving = world.deploy("refused", "ImpureBatch")
    first = world.home.begin(serving, "refused", {"do": "wait", "x": 1})
    queued = world.home.queue(serving, "refused", [{"do": "refuse" if x == 101 else "echo", "x": x} for x in range(100, 104)])
    world.home.go("refused")
    answers = [answer.result(60) for answer in queued]
    assert first.result(60).status == 200
    assert [answer.status for answer in answers] == [200, 400, 200, 200]
    assert answers[1].error == "do: this row is refused"


def test_a_failed_batch_is_not_run_again_unless_declared(world: World) -> None:
    """Where the model is not declared idempotent, a batch that raised fails as a whole, says why, and nothing is run twice."""
    serving = world.deploy("once", "ImpureBatch")
    first = world.home.begin(serving, "once", {"do": "wait", "x": 1})
    queued = world.home.queue(serving, "once", [echo(100), {"do": "raise", "x": 101}, echo(102)])
    world.home.go("once")
    answers = [answer.result(60) for answer in queued]
    assert first.result(60).status == 200
    assert [answer.status for answer in answers] == [500] * 3
    assert all("this row is marked" in answer.error and "idempotent" in answer.error for answer in answers)
    assert all(world.home.computed("once").count(f"{do} {x}") <= 1 for do, x in [("echo", 100), ("raise", 101), ("echo", 102)])


@pytest.mark.parametrize("death", ["kill", "segfault"])
def test_poison_is_quarantined_and_its_neighbours_are_served(world: World, death: str) -> None:
    """An input that kills two replicas is answered 503 and refused from then on without a third death; its batch-mates succeed."""
    name = f"poison{death}"
    serving = world.deploy(name)
    first = world.home.begin(serving, name, {"do": "wait", "x": 1})
    rows = [echo(100), {"do": death, "x": 101}, echo(102)]
    queued = world.home.queue(serving, name, rows)
    world.home.go(name)
    answers = [answer.result(60) for answer in queued]
    assert first.result(60).status == 200
    assert [answer.status for answer in answers] == [200, 503, 200]
    assert "a second replica" in answers[1].error
    assert world.home.computed(name).count(f"{death} 101") == 2
    again = serving.ask(name, rows[1])
    assert again.status == 503 and "refused" in again.error
    assert world.home.computed(name).count(f"{death} 101") == 2
    assert serving.ask(name, echo(5)).status == 200


def test_a_replica_that_is_told_to_end_loses_nothing(world: World) -> None:
    """SIGTERM to the replicas of a busy model, one after the other, costs no request, though none may be run twice."""
    serving = world.deploy("leaving", "Impure", "--replicas", "3")
    with under_load(serving.url, "leaving", world.home.folder, connections=8, pause=0) as load:
        for number in (1, 2, 3, 1, 2, 3):
            pid = serving.pid(f"leaving-1.{number}")
            os.kill(pid, signal.SIGTERM)
            eventually(lambda pid=pid: not is_alive(pid), "it has ended")
            load.until(20)
        assert failures(load.end()) == []


@pytest.mark.parametrize("how", ["spin", "hang"])
def test_a_hang_is_answered_at_the_deadline_and_ended(world: World, how: str) -> None:
    """A hang in Python, or in C with the interpreter held, costs its request 504 at its own deadline; the replica is ended after
    batch_timeout with the place in its log, status and terminal name that setting, and the next request is served."""
    name = f"hangs{how}"
    serving = world.deploy(name, "Pure", "--batch-timeout", "2s")
    hung = serving.pid(f"{name}-1.1")
    begun = time.monotonic()
    late = serving.ask(name, {"do": how, "x": 1}, x_headgate_timeout_ms="500")
    assert late.status == 504
    assert 0.5 <= time.monotonic() - begun < 1.5
    assert is_alive(hung)
    assert serving.ask(name, echo(2)).status == 200
    assert not is_alive(hung)
    assert "in do_it" in serving.log(f"{name}-1.1")
    assert "batch_timeout" in _replicas(serving, name)[0]["exit"]
    assert f"{name}-1.1 ended (killed by SIGALRM: batch_timeout was over" in serving.said
    assert world.home.computed(name).count(f"{how} 1") == 1
    assert metric(serving, "headgate_expired_total", name) == 1


def test_a_crash_loop_backs_off_and_is_told(world: World) -> None:
    """A replica that dies at every start is started ever more slowly; the status says so, and it comes back once it can."""
    serving = world.deploy("looping")
    world.home.on_load("looping", "kill")
    begun = time.monotonic()
    kill(serving.pid("looping-1.1"))
    serving.until(lambda: serving.observed()["looping-1.1"]["restarts"] >= 4, "it was started four more times")
    assert time.monotonic() - begun > 0.1 + 0.2 + 0.4
    told = serving.until(lambda: (found := serving.status("looping"))["state"] == "degraded" and found, "the status tells")
    assert "0 of 1 replicas are ready" in told["reason"] and "SIGKILL" in told["reason"]
    assert told["revisions"][0]["replicas"][0]["restarts"] >= 3
    assert not serving.is_ready("looping")
    assert serving.ask("bystander", echo(1)).status == 200
    world.home.on_load("looping", "")
    serving.until_ready("looping")
    assert serving.ask("looping", echo(2)).status == 200


def test_a_replica_above_its_memory_is_replaced_without_a_failed_request(world: World) -> None:
    """Under steady load, a replica that has grown above its limit goes only after its successor is ready; no request fails."""
    serving = world.deploy("grows", "Impure", "--memory", "150MiB")
    old = serving.pid("grows-1.1")
    with under_load(serving.url, "grows", world.home.folder) as load:
        assert serving.ask("grows", {"do": "leak 150", "x": 1}).status == 200
        serving.until(lambda: not is_alive(old), "the grown replica has ended")
        load.until(50)
        records = load.end()
    assert failures(records) == []
    assert [replica["id"] for replica in _replicas(serving, "grows")] == ["grows-1.2"]
