"""The tables: Markdown, one per workload, then Headgate alone, then the targets."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from bench.cnn_ratio import Pair
from bench.measure import Row, Sample
from bench.peers import REFERENCE
from bench.peers.base import Peer
from bench.single import Memory
from bench.targets import Results, Target, targets
from bench.workloads import Workload

COLUMNS = (
    *("server", "requests/s", "ratio", "min..max"),
    *("p50 ms", "p99 ms"),
    *("CPU ms/request", "ratio", "min..max"),
    *("RSS MB", "PSS MB"),
)


def median(values: Sequence[float]) -> float:
    return float(statistics.median(values))


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """First and third quartile; the ends where there are too few values."""
    if len(values) < 4:
        return min(values), max(values)
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def of(row: Row, value: Callable[[Sample], float]) -> float:
    return median([value(sample) for sample in row.samples])


def cpu_of(row: Row) -> float:
    return of(row, lambda sample: sample.cpu)


def rate_of(row: Row) -> float:
    return of(row, lambda sample: sample.rate)


def ratio(value: float, reference: float | None) -> str:
    return f"{value / reference:.2f}x" if reference else "-"


def number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"


def cells_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def line(title: str, row: Row, reference: Row | None) -> str:
    """One row of a workload's table; medians over the repeats."""
    if row.absent or not row.samples:
        return f"| {title} | {row.absent or 'not measured'} |" + " |" * (len(COLUMNS) - 2)
    cpus, rates = [sample.cpu for sample in row.samples], [sample.rate for sample in row.samples]
    rate, cpu = rate_of(row), cpu_of(row)
    errors = sum(sample.errors for sample in row.samples)
    name = f"{title} **INVALID: {errors} errors**" if errors else title
    cells = [
        name,
        number(rate),
        ratio(rate, rate_of(reference) if reference else None),
        f"{number(min(rates))}..{number(max(rates))}",
        f"{of(row, lambda sample: sample.p50):.3f}",
        f"{of(row, lambda sample: sample.p99):.3f}",
        f"{cpu:.4f}",
        ratio(cpu, cpu_of(reference) if reference else None),
        f"{min(cpus):.4f}..{max(cpus):.4f}",
        f"{of(row, lambda sample: sample.rss) / 1e6:.0f}",
        f"{of(row, lambda sample: sample.pss) / 1e6:.0f}",
    ]
    return cells_line(cells)


def workload_table(workload: Workload, rows: list[Row], titles: dict[str, str]) -> str:
    reference = next((row for row in rows if row.server == REFERENCE and row.samples and not row.absent), None)
    head = [f"### {workload.title}", "", cells_line(COLUMNS), "|---" * len(COLUMNS) + "|"]
    return "\n".join([*head, *(line(titles[row.server], row, reference) for row in rows), ""])


def load_tables(workloads: Sequence[Workload], rows: list[Row], peers: Sequence[Peer]) -> str:
    titles = {peer.name: peer.title for peer in peers}
    parts = [workload_table(each, [row for row in rows if row.workload == each.name], titles) for each in workloads]
    return "\n".join(parts)


def spread(values: Sequence[float], digits: int) -> str:
    low, high = quartiles(values)
    return (
        f"median {median(values):.{digits}f}, quartiles {low:.{digits}f}..{high:.{digits}f}, "
        f"all {min(values):.{digits}f}..{max(values):.{digits}f}, n={len(values)}"
    )


def pair_lines(pairs: list[Pair]) -> list[str]:
    return [
        f"- CNN throughput over onnxruntime in a bare loop: {spread([pair.ratio for pair in pairs], 3)} "
        f"(served {median([pair.served for pair in pairs]):.2f}/s, bare {median([pair.direct for pair in pairs]):.2f}/s)"
    ]


def canary_lines(results: Results) -> list[str]:
    lines = []
    for strategy in dict.fromkeys(pair.strategy for pair in results.canaries):
        pairs = [pair for pair in results.canaries if pair.strategy == strategy]
        more = spread([pair.more for pair in pairs], 4)
        lines.append(
            f"- a {strategy} over none, CPU ms/request more: {more}; p99 {spread([pair.slower for pair in pairs], 2)} times"
        )
    return lines


def memory_lines(found: Memory) -> list[str]:
    parts = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in found.parts.items())
    total = f"RSS {found.rss / 1e6:.0f} MB ({parts}), PSS {found.pss / 1e6:.0f} MB"
    return [
        f"- resident memory of supervisor, gateway and control: {total}",
        f"- CPU of the whole server without load: {found.idle_cpu_percent:.1f} % of a core",
    ]


def single_lines(results: Results) -> list[str]:
    """Figures of Headgate alone."""
    lines = pair_lines(results.pairs) if results.pairs else []
    lines += canary_lines(results)
    lines += memory_lines(results.memory) if results.memory else []
    if results.help:
        lines.append(f"- `headgate --help`, seconds: {spread([wall for wall, _ in results.help], 3)}")
        lines.append(f"- `headgate --help`, CPU seconds: {spread([cpu for _, cpu in results.help], 3)}")
    if results.start:
        lines.append(f"- `headgate serve mlp.onnx` to the first answer, seconds: {spread(results.start, 2)}")
    return lines + [f"- {name}: **failed**: {reason}" for name, reason in results.failed.items()]


def target_line(target: Target) -> str:
    verdict = {True: "met", False: "**not met**", None: "not measured"}[target.met]
    figure = "-" if target.figure is None else f"{target.figure:.4g}"
    return f"| {target.name} | {target.sign} {target.limit:g} | {figure} | {verdict} |"


def render(results: Results, workloads: Sequence[Workload], peers: Sequence[Peer], meta: dict[str, str]) -> str:
    """The whole report."""
    lines = ["# Benchmark", "", *(f"- {name}: {value}" for name, value in meta.items()), ""]
    if results.rows:
        lines += ["## Load", "", load_tables(workloads, results.rows, peers)]
    single = single_lines(results)
    if single:
        lines += ["## Headgate alone", "", *single, ""]
    lines += ["## Targets", "", "| target | limit | figure | |", "|---|---|---|---|"]
    return "\n".join([*lines, *(target_line(target) for target in targets(results)), ""])
