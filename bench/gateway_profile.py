"""Where the CPU of a running server goes, process by process, while wrk loads one URL.

python bench/gateway_profile.py --url http://127.0.0.1:8080/v2/models/mlp/infer --body .cache/bench/mlp.json \
    --header 'Content-Type: application/json' --connections 64 --seconds 5 --pid PID [--pid PID] [--hints]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import processes
from bench.load import LoadResult, drive


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gateway_profile", description="CPU per request of each process of a server under load.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--body", required=True, type=Path, help="file with the body of the POST")
    parser.add_argument("--header", action="append", default=[], metavar="K:V")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--pid", type=int, action="append", required=True, help="root of a tree; its descendants are found")
    parser.add_argument("--hints", action="store_true", help="print the commands that show what is inside each process")
    return parser.parse_args(argv)


def headers_of(pairs: list[str]) -> dict[str, str]:
    """`K:V` options as a dictionary; JSON is assumed where no content type is given."""
    headers = {name.strip(): value.strip() for name, _, value in (pair.partition(":") for pair in pairs)}
    if not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = "application/json"
    return headers


def label(pid: int) -> str:
    """A short name for a process: the module it runs, or its script and that script's first word."""
    words = processes.command(pid).split()
    if "-m" in words[:-1]:
        return words[words.index("-m") + 1]
    plain = [word for word in words[1:] if not word.startswith("-")]
    return " ".join(Path(word).name for word in plain[:2] or words[:1])[:33]


def render(before: processes.Snapshot, after: processes.Snapshot, result: LoadResult) -> str:
    """One line per process, the costly ones first, and a total."""
    if not result.requests:
        return "no request was completed"
    lines = [f"{'process':<34}{'pid':>8}{'CPU us/request':>16}{'% of a core':>13}{'RSS MB':>9}{'PSS MB':>9}"]
    total = 0.0
    rows = []
    for key, stat in after.stats.items():
        old = before.stats.get(key)
        spent = stat.own + stat.reaped - (old.own + old.reaped if old else 0.0)
        total += spent
        rows.append((spent, stat.pid))
    for spent, pid in sorted(rows, reverse=True):
        rss, pss = processes.memory(pid)
        each, share = spent / result.requests * 1e6, spent / result.seconds * 100
        lines.append(f"{label(pid):<34}{pid:>8}{each:>16.1f}{share:>13.1f}{rss / 1e6:>9.1f}{pss / 1e6:>9.1f}")
    lines.append(f"{'total':<42}{total / result.requests * 1e6:>16.1f}{total / result.seconds * 100:>13.1f}")
    lines.append(
        f"{result.rate:,.0f} requests/s   p50 {result.p50:.3f} ms   p99 {result.p99:.3f} ms   "
        f"{result.requests} requests in {result.seconds:.2f} s   errors {result.errors}"
    )
    return "\n".join(lines)


def hints(pids: list[int]) -> str:
    """Commands for a look inside, to run in a second terminal during the load."""
    lines = ["# py-spy (pip install py-spy): where Python spends it; --native shows C extensions, --gil who holds the lock"]
    lines += [f"py-spy record -d 5 -r 500 --native -f raw -o {pid}.txt -p {pid}    # {label(pid)}" for pid in pids]
    lines += ["# perf (apt-get install linux-perf): kernel and C, where the machine allows it"]
    lines += [f"perf record -F 999 -g -p {pid} -- sleep 5 && perf report --stdio --no-children | head -60" for pid in pids[:1]]
    lines += ["# strace (apt-get install strace): system calls per request; slows the server many times"]
    lines += [f"strace -c -f -p {pid}" for pid in pids[:1]]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """0 when every request was answered with success."""
    options = arguments(argv)
    pids = processes.members(options.pid)
    if options.hints:
        print(hints(pids))
    headers = headers_of(options.header)
    drive(options.url, options.body, headers, options.connections, 1)
    failed = 0
    for _ in range(options.repeats):
        before = processes.snapshot(processes.members(options.pid))
        result = drive(options.url, options.body, headers, options.connections, options.seconds)
        after = processes.snapshot(processes.members(options.pid))
        print(render(before, after, result))
        failed += result.errors
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
