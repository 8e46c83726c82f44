"""What waits: nothing is lost, repeated or reordered, whatever arrives, expires, is abandoned or is put back."""

from __future__ import annotations

from hypothesis import given, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from headgate.protocols.base import InferRequest
from headgate.protocols.base.several import Alone, Keyed
from headgate.serving.queue import DEFAULT_PRIORITY, Waiting

MAX_ROWS = 8


def make(rows: int = 1, *, key: object = None, priority: int = 0, arrived: float = 0.0, deadline: float = 1e9) -> InferRequest:
    """A request as the queue sees it."""
    request = InferRequest.of(1)
    request.rows, request.key, request.priority, request.arrived, request.deadline = rows, key, priority, arrived, deadline
    return request


class Queue(RuleBasedStateMachine):
    """A queue beside the plain list it stands for."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = Waiting(batched=True, max_rows=MAX_ROWS, max_delay=0.0)
        self.alive: list[InferRequest] = []
        self.taken: list[list[InferRequest]] = []
        self.now = 0.0

    @rule(
        rows=st.integers(1, MAX_ROWS),
        key=st.sampled_from(["a", "b", Keyed(1, "a"), Alone(2)]),
        priority=st.sampled_from([0, 1, 2, 200]),
        patience=st.floats(0.5, 9),
    )
    def arrive(self, rows: int, key: object, priority: int, patience: float) -> None:
        """A request arrives."""
        self.now += 0.1
        request = make(rows, key=key, priority=priority, arrived=self.now, deadline=self.now + patience)
        self.waiting.put(request)
        self.alive.append(request)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A client goes away."""
        request = data.draw(st.sampled_from(self.alive))
        request.done = True
        self.waiting.forget(request)
        self.alive.remove(request)

    @rule(seconds=st.floats(0, 5))
    def time_passes(self, seconds: float) -> None:
        """Exactly what is past its deadline is reported as expired."""
        self.now += seconds
        over = self.waiting.expired(self.now)
        assert {id(request) for request in over} == {id(request) for request in self.alive if request.deadline <= self.now}
        for request in over:
            request.done = True
            self.waiting.forget(request)
            self.alive.remove(request)

    @rule()
    def take(self) -> None:
        """A batch is of one key and priority, within its rows, in order of arrival, and the most urgent there is."""
        batch = self.waiting.take()
        assert bool(batch) == bool(self.alive)
        if not batch:
            return
        assert all(not request.done for request in batch)
        if not any(request.deaths for request in batch):
            assert sum(request.rows for request in batch) <= MAX_ROWS
            assert len({(request.key, request.priority) for request in batch}) == 1
            assert len(batch) == 1 or not isinstance(batch[0].key, Alone)
            assert [request.arrived for request in batch] == sorted(request.arrived for request in batch)
            level = min(request.priority or DEFAULT_PRIORITY for request in self.alive)
            same = [request for request in self.alive if (request.priority or DEFAULT_PRIORITY) == level]
            assert batch[0] is min(same, key=lambda request: request.arrived)
        for request in batch:
            self.alive.remove(request)
        self.taken.append(batch)

    @precondition(lambda self: self.taken)
    @rule()
    def replica_dies(self) -> None:
        """A batch is put back, each request alone, and comes next."""
        for request in self.taken.pop():
            request.deaths = 1
            self.waiting.put_back([request])
            self.alive.append(request)

    @invariant()
    def rows_are_counted(self) -> None:
        """The count is that of the rows that wait."""
        assert self.waiting.rows == sum(request.rows for request in self.alive)
        assert {id(request) for request in self.waiting if not request.done} == {id(request) for request in self.alive}
        assert self.waiting.soonest <= min((request.deadline for request in self.alive), default=float("inf"))


TestQueue = Queue.TestCase


@given(st.lists(st.integers(1, MAX_ROWS), max_size=30))
def test_unbatched_models_get_one_request_at_a_time(sizes: list[int]) -> None:
    """Without a batch axis every request is a batch of its own, in order of arrival."""
    waiting = Waiting(batched=False, max_rows=MAX_ROWS, max_delay=0.0)
    requests = [make(rows, arrived=float(at)) for at, rows in enumerate(sizes)]
    for request in requests:
        waiting.put(request)
    assert [waiting.take() for _ in requests] == [[request] for request in requests]
    assert waiting.take() == []


@given(rows=st.integers(1, MAX_ROWS - 1), passed=st.floats(0, 2))
def test_delay_counts_from_the_first_item(rows: int, passed: float) -> None:
    """With max_delay an incomplete batch is ripe that long after its first item came, and a full one at once."""
    waiting = Waiting(batched=True, max_rows=MAX_ROWS, max_delay=1.0)
    assert waiting.ripe(0.0) == float("inf")
    waiting.put(make(rows, arrived=10.0))
    assert waiting.ripe(10.0 + passed) == max(0.0, 10.0 + 1.0 - (10.0 + passed))
    waiting.put(make(MAX_ROWS, arrived=10.0 + passed))
    assert waiting.ripe(10.0 + passed) == 0.0
