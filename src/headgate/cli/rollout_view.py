"""A rollout as text: pure functions of what the control API says of one (``GET /deployments/{name}/rollout``)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from headgate.cli.output import span, table

HELD = frozenset({"paused", "inconclusive", "environment"})
"""States in which nothing goes on by itself."""
TAKEN_BACK = frozenset({"rolling_back", "rolled_back"})
_ENDED = frozenset({"complete", "rolled_back", "superseded"})
_LABELS = {"start": "prepare", "validate": "prepare", "scale": "prepare", "promote": "100 %", "retire": "keep warm"}
"""What people are shown of a step; several that follow each other under one label are one."""
_COLUMNS = ("ARM", "MODEL", "REVISION", "STATE", "SHARE", "IN FORCE", "READY", "REQUESTS", "FAILED", "QUEUED")
_EVIDENCE = ("METRIC", "CANDIDATE", "BASELINE", "RATIO", "HARM", "SAFE")


def percent(share: int | None) -> str:
    """Return hundredths of a percent for people: ``'5 %'``, ``'0.01 %'``; nothing for None."""
    return "" if share is None else f"{share / 100:g} %"


def is_over(rollout: dict[str, Any]) -> bool:
    """Whether nothing is decided about it any more: it has ended, or the old revision is only kept warm for a while."""
    return rollout["state"] in _ENDED or (rollout["state"] == "baking" and _present(rollout)["kind"] == "retire")


def of_revision(status: dict[str, Any], revision: str | None) -> dict[str, Any] | None:
    """Return the rollout under way of a deployment, if it is the one by which ``revision`` takes over."""
    rollout: dict[str, Any] | None = status.get("rollout")
    return rollout if rollout is not None and rollout["candidate"]["revision"] == revision else None


def deployed(status: dict[str, Any]) -> str:
    """Return what a deploy has come to, from the status of the deployment."""
    rollout = of_revision(status, status["revision"])
    if rollout is not None and status["serving"] != status["revision"]:
        return f"{status['name']}: {short(rollout)}"
    version = f"{status['model'].partition('@')[0]}@{status['version']}"
    ready = f"{status['name']} {status['state']}: {version} as {status['revision']}, {status['url']}"
    return ready if rollout is None else f"{ready}\n{status['name']}: {short(rollout)}"


def said_of(rollout: dict[str, Any]) -> str:
    """Return in one clause which rollout it is, and how it stands."""
    return f"{rollout['strategy']} of {rollout['candidate']['model']} ({rollout['candidate']['revision']}) {_standing(rollout)}"


def short(rollout: dict[str, Any]) -> str:
    """Return the line about a rollout under way in what is said of its deployment."""
    name = rollout["deployment"]
    if rollout["state"] == "baking" and is_over(rollout):
        warm = f"{rollout['baseline']['model']} is kept warm{_for(rollout['left'])}"
        return f"{rollout['candidate']['model']} has all of the traffic; {warm}: 'headgate rollback {name}' goes back to it"
    reason = f" ({rollout['reason']})" if rollout["reason"] else ""
    return f"{said_of(rollout)}{reason}; 'headgate rollout watch {name}' follows it"


def text(rollout: dict[str, Any], width: int | None = None) -> str:
    """Return all that people need to see of it; ``width`` as for `table`."""
    candidate, baseline = rollout["candidate"], rollout["baseline"]
    title = f"{rollout['deployment']}: {rollout['strategy']} of {candidate['model']} against {baseline['model']}"
    facts = [f"  {name:<8} {value}" for name, value in _facts(rollout)]
    arms = [_arm(label, arm) for label, arm in (("candidate", candidate), ("baseline", baseline))]
    evidence = [_metric(metric) for metric in rollout["evidence"].get("metrics", ()) if any(metric["requests"])]
    tables = [table(_COLUMNS, arms, width), *([table(_EVIDENCE, evidence, width)] if evidence else [])]
    return "\n".join([f"{title}, rollout {rollout['number']}", *facts, *tables])


def line(rollout: dict[str, Any]) -> str:
    """Return a change of it as one line, for where nothing can be drawn anew."""
    candidate = rollout["candidate"]
    force = candidate["share_in_force"]
    shares = "" if force in (None, candidate["share"]) else f" ({percent(force)} in force)"
    counts = f"{candidate['requests']} requests, {candidate['failures']} failed, {candidate['ready']} ready"
    verdict = "" if is_over(rollout) else f"verdict {_verdict(rollout)}"
    return (
        f"{rollout['deployment']}: {'; '.join(filter(None, (f'{said_of(rollout)}{shares}: {counts}', verdict, rollout['reason'])))}"
    )


def change(rollout: dict[str, Any]) -> tuple[object, ...]:
    """Return what makes a `line` worth another one: counts alone do not."""
    shown = ("number", "state", "step", "reason", "verdict", "verdict_reason")
    return (*(rollout[key] for key in shown), rollout["candidate"]["share_in_force"])


def stations(steps: Sequence[dict[str, Any]], present: int | None) -> str:
    """Return the steps as people think of them, the one with index ``present`` in brackets."""
    labels: list[str] = []
    marked = None
    for index, step in enumerate(steps):
        label = _label(step)
        if label and (not labels or labels[-1] != label):
            labels.append(label)
        if index == present:
            marked = len(labels) - 1
    return " > ".join(f"[{label}]" if at == marked else label for at, label in enumerate(labels))


def _label(step: dict[str, Any]) -> str:
    """Return the label of a step; none for one that belongs to the step before it."""
    kind = str(step["kind"])
    if kind == "analyse":
        return ""
    if kind == "mirror":
        return f"mirror {percent(step['weight'])}"
    return percent(step.get("weight", 0)) if kind == "set_weight" else _LABELS.get(kind, kind)


def _present(rollout: dict[str, Any]) -> dict[str, Any]:
    step: dict[str, Any] = rollout["steps"][rollout["step"]]
    return step


def _facts(rollout: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "state", f"{_state(rollout)}{': ' if rollout['reason'] else ''}{rollout['reason']}"
    yield "steps", stations(rollout["steps"], None if rollout["state"] == "complete" else rollout["step"])
    if rollout["state"] not in _ENDED and (waits := _waits(rollout)):
        yield "left", waits
    if rollout["state"] not in _ENDED:
        yield "verdict", f"{_verdict(rollout)}; on undecided: {rollout['on_undecided']}"
    elif rollout["verdict_reason"]:
        yield "verdict", _verdict(rollout)


def _waits(rollout: dict[str, Any]) -> str:
    """Return what the present step waits for, where it waits for time or requests."""
    least = _present(rollout).get("events", 0)
    missing = max(0, least - rollout["requests"])
    parts = [span(rollout["left"])] if rollout["left"] else []
    parts += [f"{missing} of {least} requests"] if missing else []
    return " and ".join(parts)


def _verdict(rollout: dict[str, Any]) -> str:
    reason = rollout["verdict_reason"].rstrip(".")
    return f"{rollout['verdict']}{f': {reason}' if reason else ''}"


def _state(rollout: dict[str, Any]) -> str:
    return str(rollout["state"]).replace("_", " ")


def _standing(rollout: dict[str, Any]) -> str:
    if rollout["state"] == "baking" and is_over(rollout):
        return f"has all of the traffic, {rollout['baseline']['model']} is kept warm{_for(rollout['left'])}"
    share = percent(rollout["candidate"]["share"])
    state = _state(rollout)
    if _present(rollout)["kind"] == "mirror" and state in ("running", "paused"):
        held = "paused, " if state == "paused" else ""
        return f"{held}mirroring {percent(_present(rollout)['weight'])}{_left(rollout)}"
    if state == "running":
        return f"at {share}{_left(rollout)}"
    if rollout["state"] in HELD or state in ("promoting", "baking"):
        return f"{state} at {share}{_left(rollout)}"
    return state


def _left(rollout: dict[str, Any]) -> str:
    waits = "" if rollout["state"] in HELD else _waits(rollout)
    return f", {waits} left" if waits else ""


def _for(left: float | None) -> str:
    return f" for {span(left)}" if left else ""


def _arm(label: str, arm: dict[str, Any]) -> tuple[object, ...]:
    shares = (percent(arm["share"]), percent(arm["share_in_force"]))
    counts = (arm["ready"], arm["requests"], arm["failures"], arm["queued_rows"])
    return (label, arm["model"], arm["revision"], arm["state"], *shares, *counts)


def _metric(metric: dict[str, Any]) -> tuple[object, ...]:
    """Return a row of the evidence: bad events of each arm, and what was found of what would be needed."""
    (ours, theirs), (lower, upper) = zip(metric["bad"], metric["requests"], strict=True), metric["ratio"]
    ratio = f"{lower:.2g} to {'any' if upper is None else f'{upper:.2g}'}"
    safe = _of(metric["log_e_safe"], metric["log_needed_safe"]) if metric["must_prove"] else None
    return (metric["name"], _bad(*ours), _bad(*theirs), ratio, _of(metric["log_e"], metric["log_needed"]), safe)


def _bad(bad: int, requests: int) -> str:
    return f"{bad} of {requests} ({100 * bad / requests:.2g} %)" if requests else ""


def _of(log_e: float | None, log_needed: float | None) -> str:
    return f"{_evidence(log_e)} of {_evidence(log_needed)}"


def _evidence(log_e: float | None) -> str:
    """Return an e-value from its logarithm, as people read it: ``0.31``, ``4.2``, ``130``, ``10^9``; JSON has none for infinity."""
    if log_e is None:
        return "infinity"
    if log_e > math.log(1e6):
        return f"10^{int(log_e / math.log(10))}"
    value = math.exp(log_e)
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"
