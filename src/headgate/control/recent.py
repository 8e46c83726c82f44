"""How much traffic a deployment has had lately, and whether a canary could learn anything from it."""

from __future__ import annotations

from collections import deque

from headgate.control.rollout import StepKind, steps_of
from headgate.journal import LoadReport
from headgate.spec import RolloutSpec

HOUR = 3600.0
_EVERY = 60.0
_LEAST = 300.0
"""Seconds that must have been seen before anything is said."""


class Recent:
    """Requests answered by each deployment, looked at once a minute, for an hour. Forgotten with the process, like the gateway's counts."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[tuple[float, int]]] = {}
        self._totals: dict[str, int] = {}

    def note(self, report: LoadReport, now: float) -> None:
        """Take in what a gateway says; ``now`` is in monotonic seconds."""
        totals: dict[str, int] = {}
        for load in report.revisions:
            name = load.revision.rpartition("-")[0]
            totals[name] = totals.get(name, 0) + load.requests
        self._seen = {name: seen for name, seen in self._seen.items() if name in totals}
        for name, total in totals.items():
            seen = self._seen.setdefault(name, deque())
            if seen and total < self._totals[name]:
                seen.clear()  # a revision has gone, or the gateway began anew: its count is no difference any more
            self._totals[name] = total
            if not seen or now - seen[-1][0] >= _EVERY:
                seen.append((now, total))
            while now - seen[0][0] > HOUR:
                seen.popleft()

    def hourly(self, deployment: str, now: float) -> float | None:
        """Return the requests an hour of a deployment, as of the last hour; None while less than five minutes are known."""
        seen = self._seen.get(deployment)
        if not seen or now - seen[0][0] < _LEAST:
            return None
        return (self._totals[deployment] - seen[0][1]) / (now - seen[0][0]) * HOUR


def needed(spec: RolloutSpec) -> float:
    """Return how many requests of the deployment a canary takes at least: its minimum, at each share."""
    total, share = 0.0, 1.0
    for step in steps_of(spec):
        share = step.weight / 10_000 if step.kind is StepKind.SET_WEIGHT else share
        total += step.events / share
    return total


def advice(spec: RolloutSpec, hourly: float | None) -> str:
    """Say that a canary would see too little in an hour, and what to do; empty where it would not, or nothing is known."""
    if spec.strategy != "canary" or hourly is None or hourly >= (least := needed(spec)):
        return ""
    lasts = "for ever" if hourly <= 0 else f"about {least / hourly:,.0f} h"
    return (
        f"{hourly:,.0f} requests came in the last hour, and this canary needs {least:,.0f} ({spec.min_events} of the candidate's at each "
        f"share): it would take {lasts}. Deploy with --strategy replace, or with larger --steps or a smaller --min-events"
    )
