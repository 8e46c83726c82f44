"""Time and identity, as arguments.

Nothing in Headgate calls ``time.time`` or ``random`` where a decision is made: it takes a `Clock`, and tests hand it
`headgate.testing.ManualClock`. Durations are measured on the monotonic clock, in seconds; wall time is for people and for ids.
"""

from __future__ import annotations

import os
import time
from typing import Protocol


class Clock(Protocol):
    """What the time is."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never goes back. All intervals and deadlines."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch, UTC. Only for display, storage and ids."""
        ...


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


_COUNTS = [f"{count:03x}" for count in range(0x1000)]


class EventIds:
    """UUIDv7 strings (RFC 9562, section 5.7) that sort by the order they were drawn in.

    The millisecond stamp and the random tail are formatted seldom: ``rand_a`` counts within a millisecond, and where its 4,096
    values do not suffice the stamp runs ahead of the clock, as section 6.2 allows. An id costs one short format.
    """

    __slots__ = ("_clock", "_count", "_millisecond", "_prefix", "_tail")

    def __init__(self, clock: Clock, node: bytes | None = None) -> None:
        digits = (node or os.urandom(8)).hex()
        self._tail = f"-{0x8000 | int(digits[:4], 16) & 0x3FFF:04x}-{digits[4:16]}"
        self._clock = clock
        self._millisecond = -1
        self._count = 0x1000
        self._prefix = ""

    def next(self) -> str:
        """Return a new id, e.g. ``'01938a3c-7f21-7000-8a31-9a3b5c7d9e1f'``."""
        millisecond = int(self._clock.wall() * 1000)
        if millisecond > self._millisecond or self._count > 0xFFF:
            self._millisecond = millisecond = max(millisecond, self._millisecond + 1)
            self._count = 0
            stamp = f"{millisecond:012x}"
            self._prefix = f"{stamp[:8]}-{stamp[8:]}-7"
        count = self._count
        self._count = count + 1
        return f"{self._prefix}{_COUNTS[count]}{self._tail}"
