"""The targets Headgate has set itself, and what a run says of each. Pure functions of the results."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from bench import canary
from bench.cnn_ratio import Pair
from bench.measure import Row, Sample
from bench.single import Memory

COMPARE: dict[str, Callable[[float, float], bool]] = {"<": operator.lt, "<=": operator.le, ">=": operator.ge}


@dataclass
class Results:
    """All that one run has found; a part that was not asked for is empty."""

    rows: list[Row] = field(default_factory=list)
    pairs: list[Pair] = field(default_factory=list)
    canaries: list[canary.Pair] = field(default_factory=list)
    memory: Memory | None = None
    help: list[tuple[float, float]] = field(default_factory=list)
    start: list[float] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Target:
    """A limit and the figure beside it; None where the run did not measure it."""

    name: str
    sign: str
    limit: float
    figure: float | None

    @property
    def met(self) -> bool | None:
        if self.figure is None:
            return None
        return COMPARE[self.sign](self.figure, self.limit)


def figure(results: Results, server: str, workload: str, value: Callable[[Sample], float]) -> float | None:
    """Median over the repeats; None without samples, and for a row with errors, which says nothing."""
    for row in results.rows:
        if (row.server, row.workload) == (server, workload) and row.samples:
            if row.absent or any(sample.errors for sample in row.samples):
                return None
            return float(statistics.median(value(sample) for sample in row.samples))
    return None


def over(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def middle(values: list[float]) -> float | None:
    return float(statistics.median(values)) if values else None


def added(results: Results, strategy: str) -> float | None:
    return middle([pair.more for pair in results.canaries if pair.strategy == strategy])


def slowed(results: Results, strategy: str) -> float | None:
    return middle([pair.slower for pair in results.canaries if pair.strategy == strategy])


def targets(results: Results) -> list[Target]:
    """Every target, in the order of the plan."""

    def cpu(server: str, workload: str) -> float | None:
        return figure(results, server, workload, lambda sample: sample.cpu)

    def p50(server: str) -> float | None:
        return figure(results, server, "mlp-json-1", lambda sample: sample.p50)

    json = cpu("headgate", "mlp-json-64")
    memory = results.memory.rss / 1e6 if results.memory else None
    return [
        Target("MLP JSON, 64 connections: CPU ms/request", "<=", 0.036, json),
        Target("the same over mosec's", "<=", 0.5, over(json, cpu("mosec", "mlp-json-64"))),
        Target("the same over FastAPI's with one worker", "<=", 0.1, over(json, cpu("fastapi", "mlp-json-64"))),
        Target("MLP binary, 64 connections: CPU ms/request", "<=", 0.026, cpu("headgate", "mlp-binary-64")),
        Target("MLP gRPC, 1 connection of 64 streams: CPU ms/request", "<=", 0.018, cpu("headgate", "mlp-grpc-1x64")),
        Target("MLP gRPC, 64 connections: CPU ms/request", "<=", 0.026, cpu("headgate", "mlp-grpc-64")),
        Target(
            "MLP gRPC, 1 connection of 64 streams, over grpc.aio's",
            "<=",
            1 / 30,
            over(cpu("headgate", "mlp-grpc-1x64"), cpu("grpcaio", "mlp-grpc-1x64")),
        ),
        Target("the same over PyTriton's", "<=", 1 / 15, over(cpu("headgate", "mlp-grpc-1x64"), cpu("pytriton", "mlp-grpc-1x64"))),
        Target(
            "602 KB over gRPC, CPU over binary HTTP's",
            "<=",
            1.1,
            over(cpu("headgate", "image-grpc-4"), cpu("headgate", "image-binary-4")),
        ),
        Target("MLP JSON, 1 connection: p50 ms", "<", 0.3, p50("headgate")),
        Target("the same over FastAPI's", "<", 1.0, over(p50("headgate"), p50("fastapi"))),
        Target("CNN throughput over a bare loop of onnxruntime", ">=", 0.97, middle([pair.ratio for pair in results.pairs])),
        Target("a canary and its judge: CPU ms/request more", "<=", 0.003, added(results, "canary")),
        Target("every request mirrored: p99 over none", "<=", 1.05, slowed(results, "shadow")),
        Target("RSS of supervisor, gateway and control, MB", "<", 150, memory),
        Target("`headgate --help`, seconds", "<", 0.2, middle([wall for wall, _ in results.help])),
        Target("`headgate serve` to the first answer, seconds", "<=", 3.0, middle(results.start)),
    ]
