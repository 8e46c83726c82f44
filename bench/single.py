"""Figures of Headgate alone: memory of its resident parts, `--help`, seconds to the first answer."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bench import processes
from bench.load import drive
from bench.models import model
from bench.peers.base import Peer
from bench.server import NotServing, Server, ask, running, start

FIRST_ANSWER_LIMIT = 60.0


@dataclass(frozen=True)
class Memory:
    """Bytes of supervisor, gateway and control together after load, by process, and the CPU they take with no load."""

    rss: int
    pss: int
    parts: dict[str, int]
    idle_cpu_percent: float


def resident(server: Server) -> dict[str, int]:
    """Pids of the parts that stay, by name, from run/observed.json in the home."""
    observed = json.loads((server.launch.folder / "run" / "observed.json").read_text())
    found = {"supervisor": int(observed["supervisor"]["pid"])}
    named = {name: int(entry["pid"]) for name, entry in observed["processes"].items()}
    found |= {name: pid for name, pid in named.items() if name == "control" or name.startswith("gateway")}
    missing = {"control", "gateway-0"} - set(found)
    if missing:
        raise NotServing(f"run/observed.json names no {' and no '.join(sorted(missing))}")
    return found


def memory(peer: Peer, seconds: int) -> Memory:
    """After load on 64 connections: what was never used is not resident."""
    with running(peer, model("mlp"), "json") as server:
        drive(server.url, server.body, server.request.headers, 64, seconds)
        time.sleep(1.0)
        before, began = processes.snapshot(server.pids()).cpu, time.monotonic()
        time.sleep(float(seconds))
        idle = (processes.snapshot(server.pids()).cpu - before) / (time.monotonic() - began) * 100
        parts = {name: processes.memory(pid) for name, pid in resident(server).items()}
    rss, pss = sum(each[0] for each in parts.values()), sum(each[1] for each in parts.values())
    return Memory(rss, pss, {name: each[0] for name, each in parts.items()}, idle)


def help_times(peer: Peer, count: int) -> list[tuple[float, float]]:
    """(wall seconds, CPU seconds) of `headgate --help`; one run before the first warms the file cache."""
    argv = [str(peer.interpreter().with_name("headgate")), "--help"]
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    found = []
    for _ in range(count):
        began = time.perf_counter()
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise NotServing(f"headgate --help ended with {process.returncode}")
        found.append((wall, usage.ru_utime + usage.ru_stime))
    return found


def first_answer(peer: Peer) -> float:
    """Seconds from the start of `headgate serve MODEL` on a fresh home to the first answer 200 to a prediction."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        began = time.perf_counter()
        server = start(peer, model("mlp"), "json", Path(folder))
        try:
            while time.perf_counter() - began < FIRST_ANSWER_LIMIT:
                try:
                    if ask(server.launch.port, server.request)[0] == 200:
                        return time.perf_counter() - began
                except (OSError, http.client.HTTPException):
                    pass
                if server.process.poll() is not None:
                    raise NotServing(f"headgate serve ended with {server.process.returncode}; see {server.log.name}")
                # Often enough to see it, seldom enough not to slow the start on a small machine.
                time.sleep(0.01)
            raise NotServing(f"no answer within {FIRST_ANSWER_LIMIT:.0f} s")
        finally:
            server.stop()
