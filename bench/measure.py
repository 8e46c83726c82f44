"""The rounds: every server of a model and format alive, each loaded in turn, in an order drawn anew each round."""

from __future__ import annotations

import contextlib
import random
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from bench import grpc, processes
from bench.environments import NotInstallable
from bench.load import LoadError, LoadResult, drive
from bench.models import model
from bench.peers import REFERENCE
from bench.peers.base import Peer
from bench.server import NotServing, Server, running
from bench.workloads import Workload


@dataclass(frozen=True)
class Sample:
    """One window of load. Milliseconds; CPU is of the whole tree for one request; memory is in bytes, summed over the tree.

    `loop` is how long a fixed piece of work took right before: how fast the machine was at that moment.
    """

    rate: float
    p50: float
    p99: float
    cpu: float
    rss: int
    pss: int
    requests: int
    errors: int
    loop: float


@dataclass
class Row:
    """One server under one workload: its samples, or why there are none."""

    server: str
    workload: str
    samples: list[Sample] = field(default_factory=list)
    absent: str = ""
    broke: bool = False

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def fixed_work() -> float:
    """CPU milliseconds of a loop that is always the same; a neighbour on the processor makes it slower."""
    began = time.process_time()
    total = 0
    for number in range(500_000):
        total += number & 7
    return (time.process_time() - began) * 1e3


def load(server: Server, workload: Workload, seconds: int) -> LoadResult:
    """One window of load."""
    if workload.format == "grpc":
        return grpc.drive(server.url, server.body, server.request.headers, workload.connections, workload.streams, seconds)
    return drive(server.url, server.body, server.request.headers, workload.connections, seconds)


def window(server: Server, workload: Workload, seconds: int) -> Sample:
    """Load for one window, with CPU read right before and right after."""
    loop = fixed_work()
    before = processes.snapshot(server.pids())
    result = load(server, workload, seconds)
    pids = server.pids()
    after = processes.snapshot(pids)
    memory = [processes.memory(pid) for pid in pids]
    cpu = (after.cpu - before.cpu) / max(1, result.requests) * 1e3
    # A window without an answer is not a fast server.
    errors = result.errors or int(result.requests == 0)
    rss, pss = sum(each[0] for each in memory), sum(each[1] for each in memory)
    return Sample(result.rate, result.p50, result.p99, cpu, rss, pss, result.requests, errors, loop)


def groups(workloads: Iterable[Workload]) -> dict[tuple[str, str], list[Workload]]:
    """Workloads that one start of a server can take: those with the same model and format."""
    found: dict[tuple[str, str], list[Workload]] = {}
    for workload in workloads:
        found.setdefault((workload.model, workload.format), []).append(workload)
    return found


def turn(server: Server, workloads: list[Workload], rows: dict[tuple[str, str], Row], seconds: int, warm: bool) -> None:
    """One server's turn in a round."""
    server.resume()
    for workload in workloads:
        row = rows[server.peer.name, workload.name]
        try:
            if warm:
                load(server, workload, 1)
            sample = window(server, workload, seconds)
        except LoadError as error:
            row.broke = True
            row.absent = f"**failed under load**: {error}".replace("\n", " ")
            say(f"{workload.name}: {server.peer.name}: {row.absent}")
            continue
        row.samples.append(sample)
        say(f"{workload.name:<18} {server.peer.name:<10} {sample.rate:>9,.0f}/s  p50 {sample.p50:.3f} ms  CPU {sample.cpu:.4f} ms")
    # Headgate is not stopped: a pause of its processes would look to them like a hang. Idle it takes next to nothing.
    if server.peer.name != REFERENCE:
        server.pause()


def launch(stack: contextlib.ExitStack, peers: list[Peer], group: list[Workload], rows: dict[tuple[str, str], Row]) -> list[Server]:
    """The servers of a group that serve; the others have their reason written into their rows."""
    servers = []
    first = group[0]
    for peer in peers:
        absent = peer.missing.get(first.format, "")
        if not absent:
            try:
                server = stack.enter_context(running(peer, model(first.model), first.format))
                if peer.name != REFERENCE:
                    server.pause()
                servers.append(server)
            except NotInstallable as error:
                absent = f"not installed: {error}"
            except NotServing as error:
                absent = f"did not serve: {error}"
        for workload in group:
            rows[peer.name, workload.name] = Row(peer.name, workload.name, absent=absent)
        if absent:
            say(f"{first.model}-{first.format}: {peer.name}: {absent}")
    return servers


def measure(peers: list[Peer], workloads: list[Workload], seconds: int, repeats: int, seed: int) -> list[Row]:
    """All rows, in the order of the workloads, then of the peers."""
    chance = random.Random(seed)
    rows: dict[tuple[str, str], Row] = {}
    for group in groups(workloads).values():
        with contextlib.ExitStack() as stack:
            servers = launch(stack, peers, group, rows)
            for number in range(repeats):
                for server in chance.sample(servers, len(servers)):
                    turn(server, chance.sample(group, len(group)), rows, seconds, warm=number == 0)
    return [rows[peer.name, workload.name] for workload in workloads for peer in peers]
