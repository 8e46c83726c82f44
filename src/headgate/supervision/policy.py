"""What the supervisor decides, apart from doing it: pure functions of what is known."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

FIRST_DELAY, LONGEST_DELAY = 0.1, 30.0
"""Seconds between the end of a process and its next start: the first time, and at most."""
STEADY = 60.0
"""Seconds after which a process counts as healthy, so that its next end is a first one again."""


def next_delay(previous: float, lived: float) -> float:
    """Seconds until a process that ran for ``lived`` seconds is started again; ``previous`` is the last wait, 0 for none."""
    if previous <= 0 or lived >= STEADY:
        return FIRST_DELAY
    return min(2 * previous, LONGEST_DELAY)


def exit_in_words(code: int | None) -> str:
    """Say how a process ended: ``code`` as in `os.waitstatus_to_exitcode`, None where its parent was somebody else."""
    if code is None:
        return "exit code unknown"
    if code >= 0:
        return f"exit code {code}"
    if code == -signal.SIGALRM:  # a replica watches itself with this timer; the signal alone would tell nobody
        return "killed by SIGALRM: batch_timeout was over (or load_timeout, while it loaded)"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def moved(before: int, now: int) -> bool:
    """Tell whether a size changed by more than 1 %."""
    return abs(now - before) * 100 > before


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Name the settings in which two configurations of a gateway differ; the number of its socket is not a setting."""
    return sorted(key for key in {*before, *after} - {"listener"} if before.get(key) != after.get(key))
