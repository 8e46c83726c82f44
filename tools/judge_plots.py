"""Simulate the judge and write what docs/judge.md shows: ``python tools/judge_plots.py [--runs N] [--into FOLDER]``.

Writes docs/images/judge-*.svg and the tables between ``<!-- table NAME -->`` and ``<!-- /table -->`` of docs/judge.md. Every figure on that
page comes from here; the draws are seeded. About a minute with the default number of runs.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from headgate.judge.evalue import RatioTest, log_harm, log_safe
from headgate.testing import trials

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SEED = 7
ALPHA, BETA = 0.01, 0.05
NEEDED, NEEDED_SAFE = -math.log(ALPHA), -math.log(BETA)
TEST, STRICT = RatioTest(), RatioTest(tolerance=1.0)
"""The default tolerance, and none: the null hypothesis of a z test."""
DAY = 1_440
MINUTE = (100, 900)
"""Requests a minute: candidate, baseline."""
RATE = 0.01
Z_5, Z_1, Z_POWER = 1.645, 2.326, 1.282
WATCHED = 40_000
"""Requests of each rollout whose evidence is drawn."""
LONGEST = 8_000
"""Bad events after which looking for a candidate that is slightly slower is given up; much slower ones are found long before."""
SPREAD = 0.4
"""Of the logarithm of the latency."""


class Line(NamedTuple):
    """One line of a chart."""

    name: str
    colour: str
    points: list[tuple[float, float]]


class Axis(NamedTuple):
    """One direction of a chart."""

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def place(self, value: float) -> float:
        """Return where ``value`` lies, 0 to 1."""
        transform = math.log if self.log else float
        clipped = min(max(value, self.low), self.high)
        return (transform(clipped) - transform(self.low)) / (transform(self.high) - transform(self.low))


def harm(candidate: Any, baseline: Any, weights: Any) -> Any:
    """The test for harm with the default tolerance."""
    return log_harm(candidate, baseline, weights, TEST)


def safe(candidate: Any, baseline: Any, weights: Any) -> Any:
    """The test for safety with the default ceiling."""
    return log_safe(candidate, baseline, weights, TEST)


# -- simulations ---------------------------------------------------------------------------------------------------------------


def peeking(runs: int) -> dict[str, Any]:
    """Return, by the way of judging, at which minute of a day each of ``runs`` healthy candidates was first called harmful; 0: never."""
    counts = trials.draw_counts(np.random.default_rng(SEED), runs, DAY, MINUTE, (RATE, RATE))
    weight = MINUTE[0] / sum(MINUTE)
    judged = [
        trials.first(log_harm(ours[..., None], theirs[..., None], [weight], STRICT) >= NEEDED)
        for ours, theirs in zip(*(np.array_split(arm, max(runs // 100, 1)) for arm in counts), strict=True)
    ]
    return {
        "z test at 5 %, looked at every minute": trials.first_significant(counts, MINUTE, Z_5),
        "z test at 1 %, looked at every minute": trials.first_significant(counts, MINUTE, Z_1),
        "the judge at 1 %, no tolerance, looked at every minute": np.concatenate(judged),
    }


def peeking_table(firsts: dict[str, Any]) -> list[list[str]]:
    """Return the share of healthy candidates rolled back until four moments."""
    moments = {"10 minutes": 10, "1 hour": 60, "4 hours": 240, "1 day": DAY}
    rows = [["rolled back within", *moments]]
    return rows + [
        [name, *(percent(((first > 0) & (first <= until)).mean()) for until in moments.values())] for name, first in firsts.items()
    ]


def false_alarm_table(runs: int) -> list[list[str]]:
    """Return how often two equal versions are told apart within 2,000 bad events, with a look at each."""
    events = 2_000
    weights = {
        "1 %": np.full(events, 0.01),
        "5 %": np.full(events, 0.05),
        "10 %": np.full(events, 0.1),
        "50 %": np.full(events, 0.5),
    }
    weights["1, 5, 20, 50 %"] = np.repeat([0.01, 0.05, 0.2, 0.5], events // 4)
    rows = [["weight of the candidate", "judge, no tolerance", "judge, tolerance 1.1", "z test at 1 %, each event"]]
    for name, path in weights.items():
        arms = trials.draw_arms(np.random.default_rng(SEED), runs, path)
        strict = trials.first_reached(arms, path, lambda c, b, w: log_harm(c, b, w, STRICT), NEEDED)
        default = trials.first_reached(arms, path, harm, NEEDED)
        rows.append(
            [
                name,
                *(percent((found > 0).mean(), 2) for found in (strict, default)),
                percent((trials.first_rejected(arms, path, Z_1) > 0).mean()),
            ]
        )
    return rows


def detection(runs: int, weight: float, ratio: float, rate: float, horizon: int) -> Any:
    """Return the requests until harm is shown, infinite where it is not within ``horizon`` bad events."""
    rng, weights = np.random.default_rng(SEED), np.full(horizon, weight)
    reached = trials.first_reached(trials.draw_arms(rng, runs, weights, ratio), weights, harm, NEEDED)
    requests = trials.requests_needed(rng, np.maximum(reached, 1), weight, ratio, rate)
    return np.where(reached > 0, requests, np.inf)


def detection_table(runs: int) -> list[list[str]]:
    """Return how many requests it takes to find more errors, beside what a single look would need."""
    rows = [["weight", "errors", "median", "9 of 10 runs", "mean", "a single look needs", "users hurt, mean"]]
    for weight, ratio in ((0.05, 2.0), (0.1, 1.5), (0.1, 2.0), (0.1, 3.0), (0.1, 5.0), (0.1, 10.0), (0.5, 2.0)):
        requests = detection(runs, weight, ratio, RATE, 4_000)
        found = requests[np.isfinite(requests)]
        single = trials.fixed_horizon(weight, ratio, RATE, Z_1, Z_POWER)
        hurt = found.mean() * weight * (ratio - 1.0) * RATE
        rows.append(
            [
                percent(weight, 0),
                f"1 % to {ratio:g} %",
                *(f"{rounded(value):,}" for value in (np.median(requests), np.quantile(requests, 0.9), found.mean(), single)),
                f"{rounded(hurt):,}",
            ]
        )
    return rows


def latency_table(runs: int) -> list[list[str]]:
    """Return the median number of requests until a slower candidate is found, by the threshold it is held against."""
    rows = [["candidate is slower by", "median (slow50)", "95 % (slow95)", "99 % (slow99)"]]
    for factor, horizon in ((1.1, LONGEST), (1.25, LONGEST // 2), (1.5, LONGEST // 8), (2.0, LONGEST // 8)):
        cells = []
        for q, z in ((0.5, 0.0), (0.95, 1.64485), (0.99, 2.32635)):
            share = 0.5 * math.erfc((z - math.log(factor) / SPREAD) / math.sqrt(2.0))
            median = float(np.median(detection(runs, 0.1, share / (1.0 - q), 1.0 - q, horizon)))
            cells.append(f"{rounded(median):,}" if math.isfinite(median) else f"over {rounded(horizon / (1.0 - q)):,}")
        rows.append([percent(factor - 1.0, 0), *cells])
    return rows


def safety_table(runs: int) -> list[list[str]]:
    """Return how many bad events, and requests at 5 % of them, it takes to show that a candidate is below the ceiling."""
    rows = [["true ratio", "weight", "bad events, median", "requests, if 5 % are bad"]]
    for ratio in (0.8, 1.0, 1.2):
        for weight in (0.1, 0.5):
            weights = np.full(6_000, weight)
            reached = trials.first_reached(
                trials.draw_arms(np.random.default_rng(SEED), runs, weights, ratio), weights, safe, NEEDED_SAFE
            )
            events = np.median(np.where(reached > 0, reached, np.inf))
            rows.append(
                [
                    f"{ratio:g}",
                    percent(weight, 0),
                    f"{rounded(events):,}",
                    f"{rounded(events / (0.05 * (1.0 + weight * (ratio - 1.0)))):,}",
                ]
            )
    return rows


def evidence_lines() -> list[Line]:
    """Return E over the requests of one rollout each of an equal, a twice and a five times worse candidate."""
    lines = []
    for name, colour, ratio in (
        ("equal", "#2a7f4f", 1.0),
        ("errs twice as often", "#c77d0a", 2.0),
        ("errs five times as often", "#b3261e", 5.0),
    ):
        rng = np.random.default_rng(SEED)
        requests, weight = WATCHED, 0.1
        ours = rng.random(requests) < weight
        bad = rng.random(requests) < np.where(ours, ratio * RATE, RATE)
        path = trials.log_e_path(bad[None], ours[None], weight, harm)[0]
        until = int(np.argmax(path >= NEEDED)) + 1 if (path >= NEEDED).any() else requests
        kept = [place for place in range(until) if bad[place] or place in (0, until - 1)]
        lines.append(Line(name, colour, [(place + 1.0, float(np.exp(path[place]))) for place in kept]))
    return lines


# -- charts --------------------------------------------------------------------------------------------------------------------


def chart(title: str, across: Axis, up: Axis, lines: Sequence[Line], mark: tuple[float, str] | None = None) -> str:
    """Return an SVG with ``lines``, and a dashed level at ``mark``."""
    left, top, width, height = 64, 34, 520, 250

    def x(value: float) -> float:
        return round(left + width * across.place(value), 1)

    def y(value: float) -> float:
        return round(top + height * (1.0 - up.place(value)), 1)

    parts = [f'<text x="{left}" y="20" font-weight="bold">{title}</text>']
    for value, label in up.ticks:
        parts.append(f'<line x1="{left}" x2="{left + width}" y1="{y(value)}" y2="{y(value)}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y(value) + 4}" text-anchor="end">{label}</text>')
    parts += [f'<text x="{x(value)}" y="{top + height + 18}" text-anchor="middle">{label}</text>' for value, label in across.ticks]
    parts.append(f'<text x="{left + width / 2}" y="{top + height + 38}" text-anchor="middle">{across.label}</text>')
    parts.append(
        f'<text x="16" y="{top + height / 2}" text-anchor="middle" transform="rotate(-90 16 {top + height / 2})">{up.label}</text>'
    )
    if mark is not None:
        parts.append(
            f'<line x1="{left}" x2="{left + width}" y1="{y(mark[0])}" y2="{y(mark[0])}" stroke="#444" stroke-dasharray="6 4"/>'
        )
        parts.append(f'<text x="{left + width}" y="{y(mark[0]) - 6}" text-anchor="end">{mark[1]}</text>')
    for number, line in enumerate(lines):
        points = " ".join(f"{x(a)},{y(b)}" for a, b in line.points)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{line.colour}" stroke-width="2"/>')
        below = top + height + 60 + 18 * number
        parts.append(
            f'<line x1="{left}" x2="{left + 24}" y1="{below - 4}" y2="{below - 4}" stroke="{line.colour}" stroke-width="3"/>'
        )
        parts.append(f'<text x="{left + 32}" y="{below}">{line.name}</text>')
    tall = top + height + 60 + 18 * len(lines)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 620 {tall}" font-family="sans-serif" font-size="13" fill="#222">'
    return "\n".join([head, f"<title>{title}</title>", f'<rect width="620" height="{tall}" fill="#fff"/>', *parts, "</svg>", ""])


def peeking_chart(firsts: dict[str, Any]) -> str:
    """Return how the share of healthy candidates that were rolled back grows over a day."""
    minutes = sorted({round(value) for value in np.geomspace(1, DAY, 160)})
    lines = [
        Line(name, colour, [(float(minute), float(((first > 0) & (first <= minute)).mean())) for minute in minutes])
        for (name, first), colour in zip(firsts.items(), ("#b3261e", "#c77d0a", "#2a7f4f"), strict=True)
    ]
    ticks = ((1, "1 min"), (10, "10 min"), (60, "1 h"), (240, "4 h"), (DAY, "1 day"))
    across = Axis("time since the rollout began", 1, DAY, ticks, log=True)
    up = Axis("rolled back so far", 0.0, 0.5, tuple((share, f"{share:.0%}") for share in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)))
    return chart("Healthy candidates that are rolled back", across, up, lines)


def evidence_chart() -> str:
    """Return the evidence of three rollouts over their requests."""
    across = Axis(
        "requests (a tenth of them to the candidate)", 0, WATCHED, tuple((n, f"{n:,}") for n in range(0, WATCHED + 1, 10_000))
    )
    up = Axis(
        "evidence of harm, E",
        0.01,
        1_000,
        ((0.01, "0.01"), (0.1, "0.1"), (1, "1"), (10, "10"), (100, "100"), (1000, "1,000")),
        log=True,
    )
    return chart("The evidence as it comes in", across, up, evidence_lines(), (1 / ALPHA, "harm"))


# -- the page ------------------------------------------------------------------------------------------------------------------


def percent(share: float, digits: int = 1) -> str:
    """Return ``share`` as people write it."""
    return f"{share:.{digits}%}".replace("%", " %")


def rounded(value: float) -> int:
    """Return ``value`` with two significant digits."""
    return int(float(f"{value:.2g}"))


def markdown(rows: list[list[str]]) -> str:
    """Return a table with its head."""
    body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([body[0], "|" + "---|" * len(rows[0]), *body[1:]])


def replaced(page: str, tables: dict[str, str]) -> str:
    """Return ``page`` with its tables written anew. Raises `KeyError` for one that nobody computes."""

    def table(match: re.Match[str]) -> str:
        return f"<!-- table {match[1]} -->\n{tables[match[1]]}\n<!-- /table -->"

    return re.sub(r"<!-- table (\w+) -->\n.*?<!-- /table -->", table, page, flags=re.DOTALL)


def main(arguments: list[str] | None = None) -> int:
    """Simulate, and write the charts and the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--runs", type=int, default=10_000, help="rollouts per figure of a false alarm; a quarter of them per time of detection"
    )
    parser.add_argument("--into", type=Path, default=DOCS, help="folder that holds judge.md; default: docs")
    asked = parser.parse_args(arguments)
    few = max(asked.runs // 4, 1)
    firsts = peeking(few)
    computed: dict[str, Callable[[], list[list[str]]]] = {
        "peeking": lambda: peeking_table(firsts),
        "false_alarms": lambda: false_alarm_table(asked.runs),
        "detection": lambda: detection_table(few),
        "latency": lambda: latency_table(few),
        "safety": lambda: safety_table(few),
    }
    tables = {name: markdown(compute()) for name, compute in computed.items()}
    images = asked.into / "images"
    images.mkdir(parents=True, exist_ok=True)
    for name, svg in (("judge-peeking.svg", peeking_chart(firsts)), ("judge-evidence.svg", evidence_chart())):
        (images / name).write_text(svg)
        print(images / name)
    page = asked.into / "judge.md"
    page.write_text(replaced(page.read_text(), tables))
    print(page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
