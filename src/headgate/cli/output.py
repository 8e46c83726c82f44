"""What a command prints: JSON for programs, text for people."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

_GAP = "  "


def emit(output: str, value: Any, text: Callable[[], str]) -> None:
    """Print ``value`` as JSON where ``output`` is ``json``, else what ``text`` returns (nothing if that is empty)."""
    if output == "json":
        print(json.dumps(value, indent=2, ensure_ascii=False))
        return
    shown = text()
    if shown:
        print(shown)


def note(message: str) -> None:
    """Say something to the person, beside the result: on standard error."""
    print(message, file=sys.stderr, flush=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], width: int | None = None) -> str:
    """Return ``rows`` under ``columns``, aligned; on a terminal (or at ``width``) the widest columns are cut until a line fits."""
    cells = [list(columns), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    room = width if width is not None else _terminal_width()
    if room is not None:
        _shrink(widths, [len(column) for column in columns], room - len(_GAP) * (len(columns) - 1))
    return "\n".join(_GAP.join(_fit(text, size) for text, size in zip(row, widths, strict=True)).rstrip() for row in cells)


def _cell(value: object) -> str:
    """Return ``value`` as one line; nothing is a dash, so that columns can be counted."""
    return " ".join(str(value).split()) if value not in (None, "") else "-"


def _terminal_width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _shrink(widths: list[int], least: Sequence[int], room: int) -> None:
    """Take from the widest column until all fit in ``room``, never below its heading."""
    while sum(widths) > room:
        shrinkable = [at for at in range(len(widths)) if widths[at] > least[at]]
        if not shrinkable:
            return
        widest = max(shrinkable, key=lambda at: widths[at])
        widths[widest] -= 1


def _fit(text: str, width: int) -> str:
    return text.ljust(width) if len(text) <= width else text[: max(width - 1, 0)].rstrip() + "…"


def when(seconds: float | None, precision: str = "minutes") -> str:
    """Return a moment, in seconds since the epoch, as local time for people, to the ``minutes`` or ``seconds``."""
    return "" if seconds is None else datetime.fromtimestamp(seconds).isoformat(sep=" ", timespec=precision)


def duration(seconds: float) -> str:
    """Return ``seconds`` for people: ``'850 ms'``, ``'2.4 s'``."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def span(seconds: float) -> str:
    """Return a stretch of time that somebody waits for, in at most two units: ``'45 s'``, ``'1 min 20 s'``, ``'2 h 5 min'``."""
    left = max(0, math.ceil(seconds))
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if part) or "0 s"


def size(count: int) -> str:
    """Return ``count`` bytes for people: ``'97.5 MiB'``."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
