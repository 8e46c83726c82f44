"""What waits for a replica, and how a batch is formed from it: pure bookkeeping, time is an argument.

Batching is by pull. Nothing is put together until a replica has room; then `take` forms a batch from what waits at that moment. So
batches grow by themselves while replicas are busy and cost no delay while they are not; the optional ``max_delay`` counts from the
arrival of the first item.

Order: the more urgent priority first (1 before 2 before ...; 0, the default, counts as `DEFAULT_PRIORITY`), within it the request
that has waited longest together with those behind it that fit into the same batch (equal keys).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from headgate.protocols.base import InferRequest
from headgate.protocols.base.several import Alone

DEFAULT_PRIORITY = 100
"""What a request without a priority counts as: urgent ones are 1 to 99, background ones above."""


class Waiting:
    """The requests of one revision that no replica has yet.

    Rows are counted, never requests. A request that is ``done`` (expired or abandoned) stays in its place until `take` meets it,
    but its rows stop counting at once (`forget`).
    """

    __slots__ = ("_levels", "_order", "_urgent", "batched", "max_delay", "max_rows", "rows", "soonest")

    def __init__(self, *, batched: bool, max_rows: int, max_delay: float) -> None:
        self.batched = batched
        self.max_rows = max_rows
        self.max_delay = max_delay
        self.rows = 0
        self.soonest = float("inf")
        """No deadline of anything waiting is earlier than this."""
        self._urgent: deque[list[InferRequest]] = deque()
        """Batches put back after a failure, exactly as they are to be run; before everything else."""
        self._levels: dict[int, dict[object, deque[InferRequest]]] = {}
        self._order: list[int] = []

    def put(self, request: InferRequest) -> None:
        """Append one request."""
        level = request.priority or DEFAULT_PRIORITY
        groups = self._levels.get(level)
        if groups is None:
            groups = self._levels[level] = {}
            self._order = sorted(self._levels)
        group = groups.get(request.key)
        if group is None:
            group = groups[request.key] = deque()
        group.append(request)
        self.rows += request.rows
        if request.deadline < self.soonest:
            self.soonest = request.deadline

    def put_back(self, batch: list[InferRequest]) -> None:
        """Put a batch in front of everything, to be run next just as it is."""
        self._urgent.append(batch)
        for request in batch:
            self.rows += request.rows
            self.soonest = min(self.soonest, request.deadline)

    def forget(self, request: InferRequest) -> None:
        """Stop counting a request that waits here and has just become ``done``."""
        self.rows -= request.rows

    def ripe(self, now: float) -> float:
        """Return the seconds until a batch should be formed for an idle replica: 0 now, infinity if nothing waits."""
        if not self.rows:
            return float("inf")
        if not self.max_delay or self._urgent or self.rows >= self.max_rows:
            return 0.0
        first = min((group[0].arrived for group in self._groups() if _skip_done(group)), default=None)
        return float("inf") if first is None else max(0.0, first + self.max_delay - now)

    def take(self) -> list[InferRequest]:
        """Form and remove one batch: at most ``max_rows`` rows of equal keys; empty if nothing waits."""
        while self._urgent:
            batch = [request for request in self._urgent.popleft() if not request.done]
            if batch:
                self.rows -= sum(request.rows for request in batch)
                return batch
        for level in self._order:
            groups = self._levels[level]
            group = self._oldest(groups)
            if group is not None:
                return self._take_from(group)
        return []

    def expired(self, now: float) -> list[InferRequest]:
        """Return what waits past its deadline; the caller marks it done and calls `forget`."""
        if now < self.soonest:
            return []
        waiting = [request for request in self if not request.done]
        over = [request for request in waiting if request.deadline <= now]
        self.soonest = min((request.deadline for request in waiting if request.deadline > now), default=float("inf"))
        return over

    def __iter__(self) -> Iterator[InferRequest]:
        """Everything that waits, in no particular order."""
        for batch in self._urgent:
            yield from batch
        for group in self._groups():
            yield from group

    def _groups(self) -> Iterator[deque[InferRequest]]:
        for groups in self._levels.values():
            yield from groups.values()

    def _oldest(self, groups: dict[object, deque[InferRequest]]) -> deque[InferRequest] | None:
        """Return the group whose first request has waited longest; drop groups that have run empty."""
        best: deque[InferRequest] | None = None
        for key in list(groups) if len(groups) > 1 else groups:
            group = groups[key]
            if _skip_done(group):
                if best is None or group[0].arrived < best[0].arrived:
                    best = group
            elif len(groups) > 1:
                del groups[key]
        return best

    def _take_from(self, group: deque[InferRequest]) -> list[InferRequest]:
        first = group.popleft()
        batch = [first]
        rows = first.rows
        if self.batched and not isinstance(first.key, Alone):
            while group:
                request = group[0]
                if request.done:
                    group.popleft()
                    continue
                if rows + request.rows > self.max_rows:
                    break
                group.popleft()
                rows += request.rows
                batch.append(request)
        self.rows -= rows
        return batch


def _skip_done(group: deque[InferRequest]) -> bool:
    """Drop what is done from the front; whether anything is left."""
    while group and group[0].done:
        group.popleft()
    return bool(group)
