"""Logs of children: bounded, and no burden to those who write them.

Children write to the file itself, opened for appending. Above the limit its content is copied aside and the file is cut, once a
second at most. A pipe through the supervisor would lose no line, but would put it into the path of every line, and a
supervisor that is killed would take its children along with SIGPIPE. The price: lines written between copy and cut are
lost (microseconds), and a log is longer than the limit by what is written within a second.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

LIMIT = 10 * 1024 * 1024
"""Bytes of a log before it is cut; the old part, ``<log>.1``, has about as many."""
TAIL_BYTES, TAIL_LINES = 4096, 20


def rotate(log: Path, limit: int = LIMIT) -> bool:
    """Move what ``log`` holds to ``<log>.1`` if it is longer than ``limit`` bytes; return whether it was."""
    size = length(log)
    if size <= limit:
        return False
    with open(log, "r+b") as file:
        with suppress(OSError):  # a full disk: cutting matters more than keeping
            _copy(file.fileno(), max(0, size - limit), size + limit, log.with_name(f"{log.name}.1"))
        file.truncate(0)
    return True


def length(log: Path) -> int:
    """Bytes in ``log``, 0 if there is none."""
    try:
        return log.stat().st_size
    except FileNotFoundError:
        return 0


def tail(log: Path, start: int) -> str:
    """Return the last lines written to ``log`` after byte ``start``: at most 20 and 4 KiB."""
    try:
        with open(log, "rb") as file:
            file.seek(max(start, length(log) - TAIL_BYTES))
            text = file.read(TAIL_BYTES).decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-TAIL_LINES:])


def _copy(source: int, start: int, stop: int, target: Path) -> None:
    """Copy from byte ``start`` to the end as it grows, at most to ``stop``: a fast writer must not hold us for ever."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        while start < stop and (sent := os.sendfile(descriptor, source, start, 1 << 20)):
            start += sent
    finally:
        os.close(descriptor)
