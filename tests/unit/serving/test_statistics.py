"""What is worked out from the counts of revisions."""

from __future__ import annotations

import pytest
from test_revision import PlayedReplica, make_revision, send

from headgate.protocols.base import Measured, SizeStatistics
from headgate.serving.statistics import MOST_SIZES, BatchCounts, of_version


def test_batches_are_counted_by_size() -> None:
    """Rows, requests and times; a request counts the time of its whole batch."""
    counts = BatchCounts()
    for rows, requests, seconds, now in ((4, 2, 0.5, 1.0), (4, 4, 0.25, 2.0), (1, 1, 0.125, 3.0)):
        counts.observe(rows, requests, seconds, now)
    assert (counts.batches, counts.rows, counts.requests) == (3, 9, 7)
    assert (counts.seconds, counts.request_seconds) == (0.875, 2 * 0.5 + 4 * 0.25 + 0.125)
    assert counts.sizes == {4: [2, 0.75], 1: [1, 0.125]} and counts.last == 3.0


def test_the_sizes_are_bounded() -> None:
    """However many there are, no more than a thousand are told apart; the totals go on."""
    counts = BatchCounts()
    for rows in range(1, MOST_SIZES + 100):
        counts.observe(rows, 1, 0.5, 0.0)
    counts.observe(7, 1, 0.5, 0.0)
    assert len(counts.sizes) == MOST_SIZES and counts.sizes[7] == [2, 1.0]
    assert counts.batches == MOST_SIZES + 100


def test_revisions_of_one_version_are_added_up() -> None:
    """Two revisions serve it while one takes over from the other: a client sees one version."""
    revisions = [make_revision(), make_revision()]
    for revision, words in zip(revisions, (["a", "b"], ["c", "d"]), strict=True):
        replica = PlayedReplica(revision)
        send(revision, words, now=1.0)
        revision.pump(3.0)
        replica.answer(5.0)
        series = revision.series("oip_http")
        series.count(200, 4.0)
        series.count_failed(400, 0.5)
        series.count_failed(429, 0.25)
    found = of_version(1, revisions, epoch=1000.0)
    assert found.answered == Measured(2, 8.0) and found.failed == Measured(4, 1.5)
    assert found.queued == Measured(2, 4.0)
    assert found.computed.count == 2 and found.computed.seconds == pytest.approx(0.002)
    assert (found.batches, found.rows, found.last) == (2, 4, 1005.0)
    assert found.sizes == (SizeStatistics(2, Measured(2, pytest.approx(0.002))),)
    assert found.by_status == {200: 2, 400: 2, 429: 2} and found.pending == 0


def test_what_waits_and_what_was_abandoned() -> None:
    """Both are told; before anything was computed there is no last time."""
    revision = make_revision()
    PlayedReplica(revision)
    request, _ = send(revision, ["a"])
    send(revision, ["b"])
    revision.abandon(request)
    found = of_version(1, [revision], epoch=0.0)
    assert (found.pending, found.abandoned, found.last, found.batches) == (1, 1, None, 0)
