"""Sequences: requests of one client to a model that keeps state between them, each bound to one replica from its start to its end.

A sequence is opened by a request with ``sequence_start``, goes on by requests with the same ``sequence_id``, and is closed by one with
``sequence_end``, by its idle limit, or by the loss of its replica, which has its state. It stays with its revision, whatever becomes of
the split. Whoever goes on with a sequence that is not open is told that its START is missing; nothing of it is run elsewhere.

Requests of one replica run one by one, in the order they came; a batch of several sequences is not formed.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from headgate.errors import HeadgateError, InvalidRequest, NotReady, Overloaded, ReplicaLost
from headgate.journal import RevisionReport
from headgate.protocols.base import Batch, InferRequest, OutputTensor
from headgate.routes import DeploymentRoute, RevisionRoute
from headgate.serving.queue import Waiting
from headgate.serving.revision import Revision, ending

if TYPE_CHECKING:
    from headgate.serving.metrics import Metrics
    from headgate.serving.replicas import ReplicaLink

ID, START, END = "sequence_id", "sequence_start", "sequence_end"
"""Parameters of a request."""
_LONGEST_ID = 128
"""Letters of an id that is a text."""
Key = int | str


class Sequence:
    """One open sequence."""

    __slots__ = ("id", "last", "link", "pending", "revision")

    def __init__(self, key: Key, revision: StatefulRevision, link: ReplicaLink, now: float) -> None:
        self.id = key
        self.revision = revision
        self.link = link
        self.last = now
        """When a request of it last came or was answered."""
        self.pending = 0
        """Requests of it without an answer."""


class Sequences:
    """The open sequences of one deployment, whichever of its revisions they are on."""

    def __init__(self) -> None:
        self._open: dict[Key, Sequence] = {}
        self._on: Counter[ReplicaLink] = Counter()

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def find(self, key: Key) -> Sequence | None:
        """Return the sequence with this id, if it is open."""
        return self._open.get(key)

    def home(self, request: InferRequest, chosen: Revision, pinned: bool) -> Revision:
        """Return the revision that has to answer a request: that of its sequence, unless it starts one, or names another version.

        Raises `InvalidRequest` where the parameters that say so are wrong.
        """
        key, start, _ = control(request, chosen.deployment)
        found = None if start else self._open.get(key)
        if found is None or (pinned and found.revision.version != chosen.version):
            return chosen
        return found.revision

    def open(self, sequence: Sequence) -> None:
        """A sequence has begun; one with the same id is over."""
        self.close(self._open.get(sequence.id))
        self._open[sequence.id] = sequence
        self._on[sequence.link] += 1

    def close(self, sequence: Sequence | None) -> None:
        """A sequence is over, if it is still open."""
        if sequence is not None and self._open.get(sequence.id) is sequence:
            del self._open[sequence.id]
            self._on[sequence.link] -= 1
            if not self._on[sequence.link]:
                del self._on[sequence.link]

    def on(self, link: ReplicaLink) -> int:
        """Return how many are bound to a replica."""
        return self._on[link]

    def of(self, revision: Revision) -> list[Sequence]:
        """Return those of a revision."""
        return [sequence for sequence in self._open.values() if sequence.revision is revision]

    def expire(self, now: float) -> None:
        """Close those that nobody has gone on with for their idle limit."""
        for sequence in list(self._open.values()):
            if not sequence.pending and now - sequence.last >= sequence.revision.route.sequence_idle:
                self.close(sequence)


class StatefulRevision(Revision):
    """A `Revision` whose model keeps state: every request belongs to a sequence, and is never run twice."""

    sequences: Sequences

    def __init__(
        self, deployment: DeploymentRoute, route: RevisionRoute, metrics: Metrics, now: float, sequences: Sequences
    ) -> None:
        super().__init__(deployment, route, metrics, now)
        self.sequences = sequences
        self._bound = _Bound()
        self.waiting = self._bound

    def submit(self, request: InferRequest, now: float) -> None:
        """Take a request in, as `Revision.submit` does. Raises `InvalidRequest` too, where it belongs to no open sequence."""
        key, start, end = control(request, self.deployment)
        if self.plan.batched and request.rows != 1:
            raise InvalidRequest(
                f"inference request to model '{self.deployment}' must specify batch-size 1 due to requirements of sequence batcher, got "
                f"{request.rows}"
            )
        if request.priority:
            raise InvalidRequest("parameter 'priority': requests of a sequence run in the order they come; leave it out")
        found = self.sequences.find(key)
        mine = found if found is not None and found.revision is self else None
        if not start and mine is None:
            raise InvalidRequest(
                f"inference request for sequence {key} to model '{self.deployment}' must specify the START flag on the first request of "
                "the sequence: it has not been started here, or is over by its END, its idle limit or the loss of its replica"
            )
        sequence = self._begin(key, mine, now) if start or mine is None else mine
        request.key = sequence
        request.parameters = {**(request.parameters or {}), ID: key, START: start, END: end}
        super().submit(request, now)
        sequence.pending += 1
        sequence.last = now
        if start and not end:
            self.sequences.open(sequence)
        elif end:
            self.sequences.close(found)

    def pump(self, now: float) -> float:
        """Send each idle replica the next request of the sequences that are bound to it. Returns infinity: nothing ripens later."""
        if now >= self.waiting.soonest:
            self.expire(now)  # as in `Revision.pump`
        for link in list(self._idle):
            request = self._bound.take_for(link)
            if request is not None:
                self._idle.remove(link)
                request.started = now
                self.queue_seconds.observe(now - request.arrived)
                link.send([request], self.plan, now)
        return float("inf")

    def answer(self, request: InferRequest, outputs: list[OutputTensor], batch: Batch) -> None:
        """Give a request its answer, unless it has one."""
        self._settle(request, batch.finished)
        super().answer(request, outputs, batch)

    def fail(self, request: InferRequest, error: HeadgateError) -> None:
        """Give a request an error, unless it has an answer."""
        self._settle(request, None)
        super().fail(request, error)

    def abandon(self, request: InferRequest) -> None:
        """The client has gone; its sequence stays open, for it may come back."""
        self._settle(request, None)
        super().abandon(request)

    def lost(self, link: ReplicaLink, batch: list[InferRequest], now: float) -> None:
        """A replica has gone, and with it the state of its sequences: they are over, and their requests fail."""
        for sequence in self.sequences.of(self):
            if sequence.link is link:
                self.sequences.close(sequence)
        for request in [*batch, *self._bound.of(link)]:
            if not request.done:
                why = ending(request, self.route.batch_timeout, now) if request.started is not None else "died"
                self.fail(
                    request,
                    ReplicaLost(f"the replica of {self.name} {why}, and with it sequence {_id(request.key)}; start it again"),
                )
        self._bound.drop(link)
        super().lost(link, batch, now)

    def close(self) -> None:
        """The route has gone: its sequences are over."""
        for sequence in self.sequences.of(self):
            self.sequences.close(sequence)
        super().close()

    def report(self) -> RevisionReport:
        """What control is told."""
        return replace(super().report(), sequences=len(self.sequences.of(self)))

    def _begin(self, key: Key, before: Sequence | None, now: float) -> Sequence:
        """Bind a sequence to the replica that has the fewest; one that starts anew under its old id stays where it was."""
        if before is None and len(self.sequences) >= self.route.max_sequences:
            self.rejected += 1
            raise Overloaded(
                f"{len(self.sequences)} sequences of '{self.deployment}' are open, and no more may be (sequences.max_open); end some, or "
                "retry once some have been idle for long enough"
            )
        links = [link for link in self.links if not link.leaving]
        if before is not None and before.link in links:
            return Sequence(key, self, before.link, now)
        if not links:
            raise NotReady(f"model '{self.deployment}' is not at ready state: no replica of {self.name} answers; retry later")
        return Sequence(key, self, min(links, key=self.sequences.on), now)

    def _settle(self, request: InferRequest, finished: float | None) -> None:
        sequence = request.key
        if not request.done and isinstance(sequence, Sequence):
            sequence.pending -= 1
            sequence.last = finished or sequence.last


class _Bound(Waiting):
    """What waits, by the replica that has to run it."""

    __slots__ = ("_by_link",)

    def __init__(self) -> None:
        super().__init__(batched=False, max_rows=1, max_delay=0.0)
        self._by_link: dict[ReplicaLink, deque[InferRequest]] = {}

    def put(self, request: InferRequest) -> None:
        """Append one request to those of its replica."""
        sequence = request.key
        assert isinstance(sequence, Sequence)
        self._by_link.setdefault(sequence.link, deque()).append(request)
        self.rows += request.rows
        self.soonest = min(self.soonest, request.deadline)

    def take_for(self, link: ReplicaLink) -> InferRequest | None:
        """Remove and return the next request for a replica, or None."""
        waiting = self._by_link.get(link)
        while waiting:
            request = waiting.popleft()
            if not request.done:
                self.rows -= request.rows
                return request
        return None

    def of(self, link: ReplicaLink) -> list[InferRequest]:
        """Return what waits for a replica."""
        return list(self._by_link.get(link, ()))

    def drop(self, link: ReplicaLink) -> None:
        """Forget a replica, for which nothing waits any more."""
        self._by_link.pop(link, None)

    def __iter__(self) -> Iterator[InferRequest]:
        """Everything that waits, in no particular order."""
        for waiting in self._by_link.values():
            yield from waiting


def control(request: InferRequest, model: str) -> tuple[Key, bool, bool]:
    """Return the id of a request's sequence, and whether it starts and ends it. Raises `InvalidRequest`."""
    parameters: Mapping[str, Any] = request.parameters or {}
    key = parameters.get(ID, 0)
    if not key and key is not False:
        raise InvalidRequest(
            f"inference request to model '{model}' must specify a non-zero or non-empty correlation ID: the model keeps state, so every "
            "request takes the parameter 'sequence_id'"
        )
    text = type(key) is str and len(key) <= _LONGEST_ID
    if not text and not (type(key) is int and 0 < key < 1 << 64):
        raise InvalidRequest(
            f"parameter '{ID}': expected an integer from 1 to {(1 << 64) - 1}, or a text of at most {_LONGEST_ID} letters, got "
            f"{str(key)[:50]!r}"
        )
    for name in (START, END):
        if type(parameters.get(name, False)) is not bool:
            raise InvalidRequest(f"parameter '{name}': expected true or false, got {str(parameters[name])[:50]!r}")
    return key, parameters.get(START, False), parameters.get(END, False)


def _id(sequence: object) -> Key:
    assert isinstance(sequence, Sequence)
    return sequence.id
