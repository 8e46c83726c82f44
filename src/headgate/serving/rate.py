"""How fast rows are served, to say when it is worth coming back."""

from __future__ import annotations

_LONGEST = 30.0
"""Nobody is sent away for longer, in seconds."""


class ServedRate:
    """Rows per second, smoothed over a few measurements."""

    __slots__ = ("_per_second", "rows")

    def __init__(self) -> None:
        self.rows = 0
        """Served since the last `measure`; added to by the owner."""
        self._per_second = 0.0

    def measure(self, seconds: float) -> None:
        """Note what was served over the last ``seconds``."""
        rate, self.rows = self.rows / seconds, 0
        self._per_second = rate if not self._per_second else 0.5 * self._per_second + 0.5 * rate

    def seconds_for(self, rows: int) -> float:
        """Return the time after which ``rows`` rows will have been served."""
        return min(_LONGEST, rows / self._per_second) if self._per_second else 1.0
