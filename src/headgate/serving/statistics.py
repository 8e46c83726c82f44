"""Batches counted one by one, and what follows from all counts of a revision for whoever asks for statistics.

Counting costs a few additions a batch, nothing a request; everything else is worked out when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from headgate.protocols.base import Measured, SizeStatistics, Statistics

if TYPE_CHECKING:
    from headgate.serving.revision import Revision

MOST_SIZES = 1024
"""Sizes of batches that are told apart; batches of further sizes are in the totals only."""
_OK = 200


class BatchCounts:
    """The batches of one revision that came back."""

    __slots__ = ("batches", "last", "request_seconds", "requests", "rows", "seconds", "sizes")

    def __init__(self) -> None:
        self.batches = self.rows = self.requests = 0
        self.seconds = self.request_seconds = 0.0
        """All batches; and each as often as it had requests."""
        self.last: float | None = None
        """Monotonic seconds."""
        self.sizes: dict[int, list[float]] = {}
        """Rows -> number of batches, and their seconds."""

    def observe(self, rows: int, requests: int, seconds: float, now: float) -> None:
        """Count one batch."""
        self.batches += 1
        self.rows += rows
        self.requests += requests
        self.seconds += seconds
        self.request_seconds += seconds * requests
        self.last = now
        size = self.sizes.get(rows)
        if size is None:
            if len(self.sizes) >= MOST_SIZES:
                return
            size = self.sizes[rows] = [0, 0.0]
        size[0] += 1
        size[1] += seconds


def of_version(version: int, revisions: Iterable[Revision], epoch: float) -> Statistics:
    """Return the counts of the revisions of one version; monotonic time plus ``epoch`` is the time of day, in seconds."""
    answered, failed, queued, computed = Measured(), Measured(), Measured(), Measured()
    batches = rows = abandoned = pending = 0
    sizes: dict[int, Measured] = {}
    by_status: dict[int, int] = {}
    last: float | None = None
    for revision in revisions:
        counts = revision.counts
        for series in revision.by_protocol.values():
            statuses = {status: counter.value for status, counter in series.by_status.items()}
            for status, count in statuses.items():
                by_status[status] = by_status.get(status, 0) + count
            well = statuses.get(_OK, 0)
            answered = _plus(answered, well, series.seconds.sum - series.failed_seconds)
            failed = _plus(failed, sum(statuses.values()) - well, series.failed_seconds)
        queued = _plus(queued, sum(revision.queue_seconds.counts), revision.queue_seconds.sum)
        computed = _plus(computed, counts.requests, counts.request_seconds)
        for size, (times, seconds) in counts.sizes.items():
            sizes[size] = _plus(sizes.get(size, Measured()), int(times), seconds)
        batches, rows = batches + counts.batches, rows + counts.rows
        abandoned, pending = abandoned + revision.abandoned, pending + revision.pending
        if counts.last is not None:
            last = max(counts.last, last or 0.0)
    return Statistics(
        version=version,
        answered=answered,
        failed=failed,
        queued=queued,
        computed=computed,
        batches=batches,
        rows=rows,
        sizes=tuple(SizeStatistics(size, sizes[size]) for size in sorted(sizes)),
        last=None if last is None else last + epoch,
        by_status=by_status,
        abandoned=abandoned,
        pending=pending,
    )


def _plus(measured: Measured, count: int, seconds: float) -> Measured:
    return Measured(measured.count + count, measured.seconds + seconds)
