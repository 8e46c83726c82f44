"""The outcome stream: its order, its bounds, and what is written of a request."""

from __future__ import annotations

import math
import struct

import pytest

from headgate.errors import DeadlineExceeded, InvalidRequest, ModelFailed, NotReady, Overloaded
from headgate.journal import OUTCOME, Arm, OutcomeBit, Pull, decode_outcomes
from headgate.protocols.base import Batch, InferRequest
from headgate.routes import DeploymentRoute, RolloutRoute, RouteTable
from headgate.serving import outcomes
from headgate.serving.outcomes import Decision, Outcomes, OutcomeStreams

LIMITS = RolloutRoute(number=1, candidate="m-2", baseline="m-1", slow50=0.01, slow95=0.02, slow99=0.03, slow_compute=0.005, slo=0.5)
B = OutcomeBit


def request(arrived: float = 0.0, deadline: float = 30.0) -> InferRequest:
    made = InferRequest.of(0)
    made.arrived, made.deadline = arrived, deadline
    return made


def decide(stream: Outcomes, arm: int = Arm.CANDIDATE, arrived: float = 0.0, deadline: float = 30.0) -> Decision:
    return stream.decide(request(arrived, deadline), arm, 0.25, 7, LIMITS)


def read(records: bytes) -> list[tuple]:
    """(number, key, weight, latency, compute, bits, replica, arm)"""
    return list(struct.iter_unpack(OUTCOME, records))


def batch(finished: float = 0.001, compute: float = 0.002, rows: int = 2, replica: int = 3) -> Batch:
    return Batch(compute, rows, finished, replica)


def test_the_order_is_that_of_the_decisions() -> None:
    """An answer that comes first waits for the one that was decided before it."""
    stream = Outcomes()
    first, second = decide(stream), decide(stream, Arm.BASELINE)
    second.answered(batch())
    assert stream.take(0, 10, 1.0) == b""
    first.failed(ModelFailed("no"), 1.0)
    assert [(number, arm) for number, *_, arm in read(stream.take(0, 10, 1.0))] == [(1, Arm.CANDIDATE), (2, Arm.BASELINE)]


def test_a_request_without_an_end_is_a_timeout_at_its_deadline() -> None:
    """The stream does not stand still for ever, and the hanging request counts as what it is."""
    stream = Outcomes()
    hanging = decide(stream, deadline=5.0)
    assert stream.take(0, 10, 5.9) == b""
    [(_, _, _, latency, compute, bits, _, _)] = read(stream.take(0, 10, 6.1))
    assert bits == B.TIMEOUT | B.ERROR | B.SLOW50 | B.SLOW95 | B.SLOW99 | B.OVER_SLO
    assert latency == 5.0 and math.isnan(compute)
    hanging.answered(batch())
    assert len(read(stream.take(0, 10, 7.0))) == 1, "what comes later comes too late"


def test_what_is_written_of_an_answer() -> None:
    """Seconds, seconds of computing per row, the replica, the weight at the decision, the key."""
    stream = Outcomes()
    decide(stream, arrived=10.0).answered(batch(finished=10.004))
    [(number, key, weight, latency, compute, bits, replica, arm)] = read(stream.take(0, 10, 11.0))
    assert (number, key, weight, bits, replica, arm) == (1, 7, 0.25, 0, 3, Arm.CANDIDATE)
    assert latency == pytest.approx(0.004) and compute == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("seconds", "bits"),
    [
        (0.01, 0),
        (0.011, B.SLOW50),
        (0.021, B.SLOW50 | B.SLOW95),
        (0.031, B.SLOW50 | B.SLOW95 | B.SLOW99),
        (0.6, B.SLOW50 | B.SLOW95 | B.SLOW99 | B.OVER_SLO),
    ],
)
def test_slow_is_slower_than_the_threshold(seconds: float, bits: int) -> None:
    """As long as the threshold is not slow."""
    stream = Outcomes()
    decide(stream).answered(batch(finished=seconds))
    [(*_, found, _, _)] = read(stream.take(0, 10, 1.0))
    assert found == bits


@pytest.mark.parametrize(
    ("error", "bits", "arm"),
    [
        (ModelFailed("x"), B.ERROR, Arm.CANDIDATE),
        (NotReady("x"), B.ERROR, Arm.CANDIDATE),
        (DeadlineExceeded("x"), B.ERROR | B.TIMEOUT, Arm.CANDIDATE),
        (InvalidRequest("x"), 0, Arm.OTHER),
        (Overloaded("x"), 0, Arm.OTHER),
    ],
)
def test_whose_fault_it_is(error: Exception, bits: int, arm: int) -> None:
    """The server's faults count; a bad request is its client's, and a full queue nobody's."""
    stream = Outcomes()
    decide(stream).failed(error, 0.001)  # type: ignore[arg-type]
    [(*_, found, _, where)] = read(stream.take(0, 10, 1.0))
    assert (found, where) == (bits, arm)


def test_nan_and_slow_computing_are_noted() -> None:
    """An answer may be both."""
    stream = Outcomes()
    decision = decide(stream)
    decision.invalid()
    decision.answered(batch(compute=0.02))
    [(*_, bits, _, _)] = read(stream.take(0, 10, 1.0))
    assert bits == B.INVALID | B.SLOW_COMPUTE


def test_a_client_that_leaves_counts_by_its_time() -> None:
    """No error of the model's, but slow if it was."""
    stream = Outcomes()
    decide(stream).abandoned(0.1)
    [(*_, bits, _, _)] = read(stream.take(0, 10, 1.0))
    assert bits == B.SLOW50 | B.SLOW95 | B.SLOW99


def test_a_cursor_says_what_is_not_needed_any_more() -> None:
    """What was taken comes again until a later number is asked for: an answer may be lost on its way."""
    stream = Outcomes()
    for _ in range(5):
        decide(stream).answered(batch())
    assert [record[0] for record in read(stream.take(0, 3, 1.0))] == [1, 2, 3]
    assert [record[0] for record in read(stream.take(0, 10, 1.0))] == [1, 2, 3, 4, 5]
    assert [record[0] for record in read(stream.take(3, 10, 1.0))] == [4, 5]
    assert stream.take(5, 10, 1.0) == b""
    decide(stream).answered(batch())
    assert [record[0] for record in read(stream.take(5, 10, 1.0))] == [6]


def test_what_nobody_takes_goes_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded; the oldest go whatever became of them, the numbers tell, and how many is told."""
    monkeypatch.setattr(outcomes, "KEPT", 10)
    stream = Outcomes()
    for _ in range(12):
        decide(stream).answered(batch())
    assert [record[0] for record in read(stream.take(0, 100, 1.0))] == [8, 9, 10, 11, 12]
    assert stream.dropped == 7


def test_too_many_open_ones_are_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest ones are given up, as no outcome of either arm."""
    monkeypatch.setattr(outcomes, "OPEN", 2)
    stream = Outcomes()
    for _ in range(3):
        decide(stream)
    assert [record[-1] for record in read(stream.take(0, 10, 0.0))] == [Arm.OTHER]


def table(number: int | None) -> RouteTable:
    rollout = None if number is None else RolloutRoute(number=number, candidate="m-2", baseline="m-1")
    route = DeploymentRoute(name="m", model="m", timeout=30.0, split=(), revisions=(), rollout=rollout)
    return RouteTable(id=1, deployments=(route,))


def test_a_stream_lives_as_long_as_its_rollout() -> None:
    """A new table of the same rollout changes nothing; another rollout begins anew; who pulls for one that is over gets nothing."""
    streams = OutcomeStreams(epoch=99)
    assert streams.of(table(None).deployments[0]) is None
    first = streams.of(table(1).deployments[0])
    assert first is not None and streams.of(table(1).deployments[0]) is first
    decide(first).answered(batch())
    pull = Pull(deployment="m", rollout=1, after=0, most=10)
    found = decode_outcomes(streams.answer(pull, 1.0))
    assert (found.head.rollout, found.head.epoch, len(read(found.records))) == (1, 99, 1)
    second = streams.of(table(2).deployments[0])
    streams.keep(table(2))
    assert second is not first
    assert decode_outcomes(streams.answer(pull, 1.0)).records == b""


@pytest.mark.parametrize("data", [b"", b"\x01", b"\xff\xff\xff\xff{}", b"\x02\x00\x00\x00{}" + b"x" * 39])
def test_a_damaged_answer_is_refused(data: bytes) -> None:
    """Cut off anywhere it is an error, never half an outcome."""
    with pytest.raises((ValueError, KeyError)):
        decode_outcomes(data)
