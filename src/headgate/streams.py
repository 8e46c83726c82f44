"""Standard output and error of a process that must outlive its log."""

from __future__ import annotations

import io
import sys
from typing import Any


def never_fail() -> None:
    """Let `sys.stdout` and `sys.stderr` lose what cannot be written, instead of raising.

    They lead to a log in the home. On a full disk, ``print`` would raise wherever it happens to stand: in the midst of a request, of a
    routing table, of the model's own code. Lines are written whole, each at once.
    """
    for name in ("stdout", "stderr"):
        raw = _Lossy(getattr(sys, name).fileno(), "w", closefd=False)
        setattr(sys, name, io.TextIOWrapper(raw, "utf-8", "backslashreplace", line_buffering=True))


class _Lossy(io.FileIO):
    """A file that forgets what it cannot keep."""

    def write(self, data: Any, /) -> int:
        """Write ``data`` if that is possible; its length is returned either way."""
        try:
            return super().write(data)
        except OSError:
            return len(data)
