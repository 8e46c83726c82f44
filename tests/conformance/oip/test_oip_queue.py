"""What a request may ask of the queue: deadlines, priorities, room, timing; and that nobody's work is done for nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest
from serving import Answer, Server, eventually, tensor

NUMBERS = count(1000)


class Gate:
    """The model of that name, held or let go."""

    def __init__(self, server: Server, model: str) -> None:
        self.server = server
        self.model = model
        self._pool = ThreadPoolExecutor(64)

    def send(self, *values: int, headers: dict[str, str] | None = None, **parameters: Any) -> Future[Answer]:
        """Ask for ``values``, one row each, without waiting."""
        body: dict[str, Any] = {"inputs": [tensor("x", "INT64", [len(values), 1], list(values))]}
        if parameters:
            body["parameters"] = parameters
        return self._pool.submit(self.server.infer, self.model, body, headers)

    def hold(self) -> int:
        """Occupy the only replica until `release`."""
        value = -next(NUMBERS)
        self.held, self._value = self.send(value), value
        eventually(lambda: value in self.executed(), "the replica is occupied")
        return value

    def release(self) -> None:
        """Let the replica go on."""
        self.server.package_file(f"{self.model}-1", f"release{self._value}").touch()

    def executed(self) -> list[int]:
        """Return what has been computed."""
        return self.server.executed(f"{self.model}-1")

    def waits(self, rows: int) -> None:
        """Wait until so many rows are in the queue."""
        eventually(lambda: self.server.metric("headgate_queue_rows", deployment=self.model) == rows, f"{rows} rows wait")

    def end(self) -> None:
        """Let everything end."""
        self.release()
        self._pool.shutdown()
        eventually(lambda: self.server.metric("headgate_inflight_requests", deployment=self.model) == 0, "nothing is in flight")


@pytest.fixture
def gate(server: Server) -> Iterator[Gate]:
    """A held model that takes one row at a time and lets four wait."""
    held = Gate(server, "gate")
    held.hold()
    yield held
    held.end()


@pytest.fixture
def probe(server: Server) -> Iterator[Gate]:
    """A held model that takes eight rows at a time."""
    held = Gate(server, "probe")
    held.hold()
    yield held
    held.end()


def test_a_full_queue_refuses_at_the_door(gate: Gate) -> None:
    """429 with Retry-After at once; what waits is answered, and afterwards there is room again."""
    numbers = [next(NUMBERS) for _ in range(4)]
    waiting = [gate.send(number) for number in numbers]
    gate.waits(4)
    refused = next(NUMBERS)
    answer = gate.send(refused).result()
    assert answer.status == 429
    assert int(answer.headers["retry-after"]) >= 1
    assert "the queue of 'gate' is full: 4 rows wait, 4 may" in answer.error
    gate.release()
    assert [future.result().data("output") for future in waiting] == [[number] for number in numbers]
    assert refused not in gate.executed()
    assert gate.send(next(NUMBERS)).result().status == 200
    assert gate.server.metric("headgate_rejected_total", deployment="gate") >= 1


@pytest.mark.parametrize("how", ["header", "parameter", "both"])
def test_a_request_past_its_deadline_is_never_run(gate: Gate, how: str) -> None:
    """504 at its deadline although the replica is busy for longer; of two limits the shorter counts."""
    expired = gate.server.metric("headgate_expired_total", deployment="gate")
    number = next(NUMBERS)
    headers = {"X-Headgate-Timeout-Ms": "100" if how == "header" else "20000"} if how != "parameter" else {}
    parameters = {"timeout": 100_000} if how != "header" else {}
    begun = time.monotonic()
    answer = gate.send(number, headers=headers, **parameters).result()
    assert answer.status == 504
    assert time.monotonic() - begun >= 0.1
    assert "Request timeout expired" in answer.error
    gate.release()
    assert gate.send(next(NUMBERS)).result().status == 200
    assert number not in gate.executed()
    assert gate.server.metric("headgate_expired_total", deployment="gate") == expired + 1


def test_a_deadline_passes_while_the_model_computes(server: Server) -> None:
    """The client is answered at its deadline; the model's late answer goes nowhere."""
    gate = Gate(server, "gate")
    value = -next(NUMBERS)
    gate._value = value
    answer = gate.send(value, headers={"X-Headgate-Timeout-Ms": "150"}).result()
    assert answer.status == 504
    assert "was still being computed" in answer.error
    gate.end()
    assert gate.executed()[-1] == value


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "x", "", "1e3", "99999999999", "\u0665"])
def test_bad_timeout_headers(server: Server, value: str) -> None:
    """Milliseconds, an integer above 0."""
    headers = {"X-Headgate-Timeout-Ms": value.encode().decode("latin-1")}
    answer = server.infer("two", {"inputs": [tensor("x", "FP32", [1, 1], [0])]}, headers)
    assert answer.status == 400
    assert "x-headgate-timeout-ms" in answer.error


@pytest.mark.parametrize("name", ["timeout", "priority"])
@pytest.mark.parametrize("value", [-1, 1.5, "1", True, 10**30, 10**400])
def test_bad_timeout_and_priority_parameters(server: Server, name: str, value: Any) -> None:
    """Integers of 0 or more, and of a size that means something."""
    answer = server.infer("two", {"inputs": [tensor("x", "FP32", [1, 1], [0])], "parameters": {name: value}})
    assert answer.status == 400, answer.body
    assert f"'{name}'" in answer.error


def test_an_abandoned_request_is_never_run(gate: Gate) -> None:
    """A client that goes away takes its waiting request along."""
    abandoned = gate.server.metric("headgate_abandoned_total", deployment="gate")
    number = next(NUMBERS)
    client = gate.server.client()
    body = b'{"inputs":[{"name":"x","datatype":"INT64","shape":[1,1],"data":[%d]}]}' % number
    client.request("POST", "/v2/models/gate/infer", body)
    gate.waits(1)
    client.close()
    gate.waits(0)
    gate.release()
    assert gate.send(next(NUMBERS)).result().status == 200
    assert number not in gate.executed()
    assert gate.server.metric("headgate_abandoned_total", deployment="gate") == abandoned + 1


def test_an_abandoned_request_that_was_split_is_not_run_on(gate: Gate) -> None:
    """Of a request in pieces, those that wait are given up."""
    numbers = [next(NUMBERS) for _ in range(3)]
    client = gate.server.client()
    body = b'{"inputs":[{"name":"x","datatype":"INT64","shape":[3,1],"data":[%d,%d,%d]}]}' % tuple(numbers)
    client.request("POST", "/v2/models/gate/infer", body)
    gate.waits(3)
    client.close()
    gate.waits(0)
    gate.release()
    assert gate.send(next(NUMBERS)).result().status == 200
    assert not set(numbers) & set(gate.executed())


def test_priorities(gate: Gate) -> None:
    """1 before 2, both before the default, that before what is above 100; equals in the order of their arrival."""
    order = {}
    for priority in (101, 0, 2, 1):
        number = next(NUMBERS)
        order[priority] = (number, gate.send(number, **({"priority": priority} if priority else {})))
        gate.waits(len(order))
    gate.release()
    for _, future in order.values():
        assert future.result().status == 200
    assert gate.executed()[-4:] == [order[priority][0] for priority in (1, 2, 0, 101)]


def test_timing_on_demand(probe: Gate) -> None:
    """Queue time, compute time and the rows of the batch come back where they are asked for, and only there."""
    asked = probe.send(next(NUMBERS), headers={"X-Headgate-Timing": "1"})
    probe.waits(1)
    silent = probe.send(next(NUMBERS), next(NUMBERS))
    probe.waits(3)
    waited = time.monotonic()
    probe.release()
    answer = asked.result()
    assert float(answer.headers["x-headgate-queue-ms"]) > 0
    assert 0 < float(answer.headers["x-headgate-compute-ms"]) < (time.monotonic() - waited) * 1000
    assert answer.headers["x-headgate-batch-rows"] == "3"
    assert not any(name.startswith("x-headgate") for name in silent.result().headers)


def test_timing_is_always_counted(probe: Gate) -> None:
    """The histograms of queue, compute and batch rows grow by what was run, whoever asks."""
    names = ("headgate_queue_seconds_count", "headgate_compute_seconds_count", "headgate_batch_rows_sum")
    before = [probe.server.metric(name, deployment="probe") for name in names]
    futures = [probe.send(next(NUMBERS), next(NUMBERS)) for _ in range(3)]
    probe.waits(6)
    probe.release()
    for future in [probe.held, *futures]:
        assert future.result().status == 200
    after = [probe.server.metric(name, deployment="probe") for name in names]
    assert [new - old for new, old in zip(after, before, strict=True)] == [3, 2, 7]


def test_neighbours_of_a_mistake_are_answered(probe: Gate) -> None:
    """What is refused before the queue never reaches a batch; what is right beside it is computed, in one batch."""
    good = [next(NUMBERS) for _ in range(4)]
    futures = []
    for number in good:
        futures.append(probe.send(number, headers={"X-Headgate-Timing": "1"}))
        probe.waits(len(futures))
        bad = probe.server.infer("probe", {"inputs": [tensor("x", "INT64", [1, 1], ["?"])]})
        assert bad.status == 400
    probe.release()
    answers = [future.result() for future in futures]
    assert [answer.data("output") for answer in answers] == [[number] for number in good]
    assert {answer.headers["x-headgate-batch-rows"] for answer in answers} == {"4"}


@pytest.mark.parametrize(
    ("culprit", "status", "text"), [(13, 500, "ValueError: thirteen"), (14, 400, "input 'x': fourteen is not taken")]
)
def test_the_culprit_of_a_batch_is_found(probe: Gate, culprit: int, status: int, text: str) -> None:
    """A value that only the model refuses fails its own request; those in the same batch are run again, and answered."""
    numbers = [next(NUMBERS) for _ in range(6)]
    numbers[2] = culprit
    futures = []
    for number in numbers:
        futures.append(probe.send(number))
        probe.waits(len(futures))
    probe.release()
    answers = [future.result() for future in futures]
    assert [answer.status for answer in answers] == [200, 200, status, 200, 200, 200]
    assert text in answers[2].error
    assert "Traceback" not in answers[2].error
    assert [answers[at].data("output") for at in (0, 1, 3, 4, 5)] == [[numbers[at]] for at in (0, 1, 3, 4, 5)]


def test_many_held_clients_cost_nobody_their_answer(probe: Gate) -> None:
    """Sixty clients that wait at once are all answered with their own number."""
    numbers = [next(NUMBERS) for _ in range(60)]
    futures = [probe.send(number) for number in numbers]
    threading.Timer(0.05, probe.release).start()
    assert [future.result().data("output") for future in futures] == [[number] for number in numbers]
