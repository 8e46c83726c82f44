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


class EventIds:
    """UUIDv7 strings (RFC 9562, section 5.7) that sort by the order they were drawn in.

    The 48-bit millisecond stamp and a random node part are formatted once per millisecond; within it a counter fills ``rand_a``
    and the low bits, so that an id costs one string format and no system call.
    """

    __slots__ = ("_clock", "_count", "_millisecond", "_prefix", "_suffix")

    def __init__(self, clock: Clock, node: bytes | None = None) -> None:
        self._clock = clock
        self._suffix = (node or os.urandom(5)).hex()
        self._millisecond = -1
        self._count = 0
        self._prefix = ""

    def next(self) -> str:
        """Return a new id, e.g. ``'01938a3c-7f21-7000-8000-9a3b5c7d9e1f'``."""
        millisecond = int(self._clock.wall() * 1000)
        if millisecond > self._millisecond:
            self._millisecond = millisecond
            self._count = 0
            stamp = f"{millisecond:012x}"
            self._prefix = f"{stamp[:8]}-{stamp[8:]}-7"
        count = self._count
        self._count = count + 1
        # 12 bits of count in rand_a, 14 more after the variant bits, 8 before the node: 2**34 ids a millisecond.
        low, middle, high = count & 0xFF, (count >> 8) & 0x3FFF, (count >> 22) & 0xFFF
        return f"{self._prefix}{high:03x}-{0x8000 | middle:04x}-{low:02x}{self._suffix}"
