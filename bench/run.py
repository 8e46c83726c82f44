"""The command line: what to measure, and where the report goes.

python -m bench [--only PART ...] [--servers NAME ...] [--workloads PATTERN ...] [--seconds N] [--repeats N] [--json FILE]
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

# So that `python bench/run.py` finds the package too.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import canary, cnn_ratio, report, single
from bench.environments import NotInstallable
from bench.load import LoadError
from bench.measure import measure, say
from bench.models import build
from bench.peers import REFERENCE, found
from bench.peers.base import Peer
from bench.server import NotServing
from bench.targets import Results, targets
from bench.workloads import WORKLOADS, Workload

PARTS = ("load", "cnn", "canary", "memory", "help", "start")


def split(values: list[str] | None) -> list[str]:
    """Values given as several words or with commas between them."""
    return [part for value in values or [] for part in value.split(",") if part]


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Measure Headgate and its peers in turn on this machine.")
    parser.add_argument("--only", nargs="+", metavar="PART", help=f"parts to run: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--servers", nargs="+", metavar="NAME", help=f"default: all ({', '.join(found())})")
    parser.add_argument("--workloads", nargs="+", metavar="PATTERN", help="names or patterns such as 'mlp-*' (default: all)")
    parser.add_argument("--seconds", type=int, default=3, help="length of a window of load (default: 3)")
    parser.add_argument("--repeats", type=int, default=5, help="windows per server and workload (default: 5)")
    parser.add_argument("--pairs", type=int, default=15, help="pairs of the CNN comparison (default: 15)")
    parser.add_argument("--pair-seconds", type=float, default=2.0, help="length of each half of a pair (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the rounds (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the report there too")
    options = parser.parse_args(argv)
    options.parts = split(options.only) or list(PARTS)
    options.names = split(options.servers) or list(found())
    for name in set(options.parts) - set(PARTS):
        parser.error(f"--only: no part {name!r}; there are {', '.join(PARTS)}")
    for name in set(options.names) - set(found()):
        parser.error(f"--servers: no server {name!r}; there are {', '.join(found())}")
    if options.seconds < 1 or options.repeats < 1:
        parser.error("--seconds and --repeats must be at least 1")
    return options


def chosen(patterns: list[str] | None) -> list[Workload]:
    wanted = split(patterns)
    return [each for each in WORKLOADS if not wanted or any(fnmatch.fnmatch(each.name, pattern) for pattern in wanted)]


def machine() -> str:
    """Processor, cores and load: the figures mean little without them."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{names[0] if names else platform.machine()}, {len(os.sched_getaffinity(0))} cores, load before the run {load}"


def versions(peers: list[Peer]) -> str:
    def of(peer: Peer) -> str:
        try:
            return peer.versions() or f"{peer.name}: unknown"
        except NotInstallable:
            return f"{peer.name}: not installed"

    return "; ".join(of(peer) for peer in peers)


def attempt(results: Results, name: str, part: Callable[[], None]) -> None:
    """Run a part; what it failed of goes into the report instead of ending the run."""
    try:
        part()
    except (NotServing, NotInstallable, LoadError, OSError, KeyError, ValueError) as error:
        results.failed[name] = f"{type(error).__name__}: {error}"
        say(f"{name} failed: {error}")


def run(options: argparse.Namespace, peers: list[Peer], workloads: list[Workload]) -> Results:
    """All parts that were asked for."""
    results = Results()

    def load() -> None:
        results.rows = measure(peers, workloads, options.seconds, options.repeats, options.seed)

    def cnn() -> None:
        results.pairs = cnn_ratio.pairs(found()[REFERENCE], options.pair_seconds, options.pairs)

    def canaries() -> None:
        results.canaries = canary.pairs(found()[REFERENCE], options.seconds, options.repeats)

    def memory() -> None:
        results.memory = single.memory(found()[REFERENCE], options.seconds)

    def help_() -> None:
        results.help = single.help_times(found()[REFERENCE], 10)

    def start() -> None:
        results.start = [single.first_answer(found()[REFERENCE]) for _ in range(options.repeats)]

    for name, part in zip(PARTS, (load, cnn, canaries, memory, help_, start), strict=True):
        if name in options.parts and (name == "load" or REFERENCE in options.names):
            say(f"part {name}")
            attempt(results, name, part)
    return results


def as_json(results: Results, meta: dict[str, str]) -> str:
    verdicts = [{**asdict(target), "met": target.met} for target in targets(results)]
    return json.dumps({"meta": meta, **asdict(results), "targets": verdicts}, indent=1)


def main(argv: list[str] | None = None) -> int:
    """0 when the run went through and no row has errors; the targets do not decide it."""
    # Ended by SIGTERM as by Ctrl-C, so that the servers are ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = arguments(argv)
    workloads = chosen(options.workloads)
    peers = [peer for name, peer in found().items() if name in options.names]
    meta = {"date": time.strftime("%Y-%m-%d %H:%M"), "machine": machine()}
    meta["windows"] = f"{options.repeats} of {options.seconds} s each, interleaved; medians"
    try:
        build()
        results = run(options, peers, workloads)
    except KeyboardInterrupt:
        say("interrupted; the servers have been ended")
        return 130
    meta["versions"] = versions(peers)
    loops = [sample.loop for row in results.rows for sample in row.samples]
    if loops:
        meta["a fixed loop before each window, CPU ms"] = report.spread(loops, 1)
    text = report.render(results, workloads, peers, meta)
    print(text)
    if options.markdown:
        options.markdown.write_text(text)
    if options.json:
        options.json.write_text(as_json(results, meta))
    # A server that cannot be installed here is said in the table, and is no failure of the run.
    invalid = any(row.broke or any(sample.errors for sample in row.samples) for row in results.rows)
    return 1 if invalid or results.failed else 0


if __name__ == "__main__":
    sys.exit(main())
