"""How many rows a batch may have where nobody has said: many where they cost little, few where they take long."""

from __future__ import annotations

FAST_SECONDS = 0.02
"""A full batch computed within this makes room for twice as many rows."""
SLOW_SECONDS = 0.05
"""A batch that takes longer than this takes the room back: everybody behind it waits that long."""


class RowLimit:
    """The limit in force, between ``first`` (where it starts) and ``most`` rows. Equal: it stays."""

    __slots__ = ("first", "most", "rows")

    def __init__(self, first: int, most: int) -> None:
        self.first = first
        self.most = most
        self.rows = first

    def observe(self, rows: int, seconds: float) -> None:
        """Learn from a batch of ``rows`` rows that took ``seconds``."""
        if seconds > SLOW_SECONDS:
            if rows > self.first:
                self.rows = max(self.first, self.rows // 2)
        elif seconds < FAST_SECONDS and 2 * rows >= self.rows:
            self.rows = min(self.most, 2 * self.rows)
