"""A clock that stands still until it is told to go on."""

from __future__ import annotations


class ManualClock:
    """A `headgate.clock.Clock` for tests: monotonic and wall time move together, by `advance` only."""

    def __init__(self, monotonic: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self._monotonic = monotonic
        self._wall = wall

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment."""
        return self._monotonic

    def wall(self) -> float:
        """Seconds since the epoch."""
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass. Raises `ValueError` if they are negative: time never goes back."""
        if seconds < 0:
            raise ValueError(f"seconds: expected 0 or more, got {seconds}")
        self._monotonic += seconds
        self._wall += seconds
