"""Service level objectives as people write them: ``p99=80ms,errors=1%``.

Every number needs its unit, because ``p99=80`` and ``errors=1`` have been read both ways. One latency objective is judged, at one quantile,
for the outcome record has one bit for it.
"""

from __future__ import annotations

import re

import msgspec

from headgate.errors import SpecError, did_you_mean
from headgate.units import parse_duration

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
OBJECTIVES = (*QUANTILES, "errors")
_SHARE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*%")


class Slo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a deployment owes its callers. Without an objective nothing absolute is judged."""

    quantile: str | None = None
    """One of `QUANTILES`, for the latency objective."""
    latency: float | None = None
    """Seconds that this quantile of the requests must stay below."""
    errors: float | None = None
    """Share of the requests that may fail, above 0 and below 1."""

    @property
    def slow_share(self) -> float | None:
        """Share of the requests that may be slower than ``latency``; None without a latency objective."""
        return None if self.quantile is None else 1.0 - QUANTILES[self.quantile]


def parse_slo(text: str, field: str = "rollout.slo") -> Slo:
    """Return the objectives that ``text`` names; empty text has none. Raises `SpecError` that names ``field``, the part and the fix."""
    found: dict[str, float] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in OBJECTIVES:
            hint = did_you_mean(name, OBJECTIVES) or "."
            raise SpecError(
                f"{field}: there is no objective {name!r}{hint} Known: {', '.join(OBJECTIVES)}; for example p99=80ms,errors=1%"
            )
        if not equals or not value:
            raise SpecError(f"{field}: {name} has no value; write {_example(name)}")
        if name in found:
            raise SpecError(f"{field}: {name} is given twice; keep one")
        found[name] = _share(name, value, field) if name == "errors" else _seconds(name, value, field)
    quantiles = [name for name in found if name in QUANTILES]
    if len(quantiles) > 1:
        raise SpecError(f"{field}: {' and '.join(quantiles)} are both given, but one latency objective is judged; keep one")
    latency = found[quantiles[0]] if quantiles else None
    return Slo(quantile=quantiles[0] if quantiles else None, latency=latency, errors=found.get("errors"))


def slo_text(slo: Slo) -> str:
    """Return ``slo`` as `parse_slo` reads it."""
    parts = [f"{slo.quantile}={slo.latency * 1000:.12g}ms"] if slo.quantile is not None and slo.latency is not None else []
    return ",".join(parts + ([f"errors={slo.errors * 100:.12g}%"] if slo.errors is not None else []))


def _example(name: str) -> str:
    return "errors=1%" if name == "errors" else f"{name}=80ms"


def _seconds(name: str, value: str, field: str) -> float:
    try:
        seconds = parse_duration(value)
    except ValueError:
        raise SpecError(f"{field}: {name} takes a duration with its unit, such as {_example(name)}, got {value!r}") from None
    if seconds <= 0:
        raise SpecError(f"{field}: {name} takes more than 0 seconds, got {value!r}")
    return seconds


def _share(name: str, value: str, field: str) -> float:
    match = _SHARE.fullmatch(value)
    if match is None:
        raise SpecError(f"{field}: {name} takes a share with its unit, such as {_example(name)}, got {value!r}")
    share = float(match[1]) / 100.0
    if not 0 < share < 1:
        raise SpecError(f"{field}: {name} takes more than 0 % and less than 100 %, got {value!r}")
    return share
