"""Durations and sizes as people write them; standard library only, because the command line reads them before anything is loaded."""

from __future__ import annotations

import re

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|KiB|MiB|GiB)")
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def parse_duration(value: object) -> float:
    """Return seconds from ``'250ms'``, ``'10s'``, ``'5m'``, ``'1h'``, ``'1d'`` or a number. Raises `ValueError`."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"expected a duration such as '250ms', '10s' or '5m', got {value!r}")
    return float(match[1]) * _SECONDS[match[2]]


def parse_size(value: object) -> int:
    """Return bytes from ``'512MiB'``, ``'2GB'`` or a number. Raises `ValueError`."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"expected a size such as '512MiB' or '2GiB', got {value!r}")
    return int(float(match[1]) * _BYTES[match[2]])


def duration_text(seconds: float) -> str:
    """Return ``seconds`` as `parse_duration` reads them, in the largest unit that needs no fraction (``'5m'``, ``'90s'``), else to the
    nanosecond.
    """
    for unit, length in reversed(_SECONDS.items()):
        count = seconds / length
        # A count that is whole by rounding is none: the text must mean the same number.
        if seconds and count == int(count) and parse_duration(f"{int(count)}{unit}") == seconds:
            return f"{int(count)}{unit}"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def size_text(count: int) -> str:
    """Return ``count`` bytes as `parse_size` reads them, in the largest unit that says it whole: ``'2GiB'``, ``'500MB'``."""
    for unit, length in sorted(_BYTES.items(), key=lambda entry: -entry[1]):
        if count and count % length == 0:
            return f"{count // length}{unit}"
    return f"{count}B"
