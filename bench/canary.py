"""What a rollout costs: server CPU a request with a canary at 10 % and its judge, and with every request mirrored, over none, in pairs.

The candidate is the same model with another setting, which makes it another revision. So a second replica computes a part of the rows,
in smaller batches: that is what a canary is, and it is in the figure.
"""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass

from bench.measure import Sample, load, say, window
from bench.models import model
from bench.peers.base import Peer
from bench.server import NotServing, Server, running
from bench.workloads import Workload

WORKLOAD = Workload("mlp", "json", 64)
STRATEGIES = {
    "canary": ["--strategy", "canary", "--steps", "10", "--min-events", "0"],
    "shadow": ["--strategy", "shadow", "--mirror", "100", "--for", "1h"],
}
_BEGIN_SECONDS = 60.0


@dataclass(frozen=True)
class Pair:
    """Two windows beside each other: without a rollout, and with one."""

    strategy: str
    without: Sample
    during: Sample

    @property
    def more(self) -> float:
        """Milliseconds of CPU that the rollout adds to a request."""
        return self.during.cpu - self.without.cpu

    @property
    def slower(self) -> float:
        """How many times longer the 99th percentile is."""
        return self.during.p99 / self.without.p99


def begin(server: Server, peer: Peer, strategy: str) -> None:
    """Roll the same model out with another setting, and wait until the candidate has its part."""
    control = f"http://127.0.0.1:{server.launch.spare[0]}"
    command = [
        str(peer.interpreter().with_name("headgate")),
        "deploy",
        "mlp",
        "--timeout",
        "29s",
        "--bake",
        "1h",
        "--server",
        control,
    ]
    said = subprocess.run([*command, *STRATEGIES[strategy]], capture_output=True, text=True, timeout=_BEGIN_SECONDS, check=False)
    if said.returncode:
        raise NotServing(f"the {strategy} did not begin: {said.stderr.strip()[-300:]}")
    time.sleep(6.0)  # the first seconds of a replica are not judged, and so cost less


def judged(server: Server, peer: Peer) -> int:
    """Return how many requests of the candidate the judge has seen: a rollout that is not judged would cost nothing."""
    command = [str(peer.interpreter().with_name("headgate")), "rollout", "status", "mlp", "--output", "json"]
    said = subprocess.run(
        [*command, "--server", f"http://127.0.0.1:{server.launch.spare[0]}"], capture_output=True, text=True, check=True
    )
    return int(json.loads(said.stdout)["requests"])


def pairs(peer: Peer, seconds: int, count: int) -> list[Pair]:
    """Return ``count`` pairs of windows for each strategy, each half with its own server, both alive all the time."""
    found = []
    for strategy in STRATEGIES:
        with running(peer, model("mlp"), "json") as plain, running(peer, model("mlp"), "json") as rolled:
            begin(rolled, peer, strategy)
            for server in (plain, rolled):
                load(server, WORKLOAD, 1)
            for _ in range(count):
                pair = Pair(strategy, window(plain, WORKLOAD, seconds), window(rolled, WORKLOAD, seconds))
                p99 = f"{pair.without.p99:.2f} -> {pair.during.p99:.2f} ms"
                say(f"{strategy}: CPU {pair.without.cpu:.4f} -> {pair.during.cpu:.4f} ms, p99 {p99}")
                found.append(pair)
            time.sleep(3.0)  # control looks once a second
            if not judged(rolled, peer):
                raise NotServing(f"nothing of the {strategy} was judged, so its figure means nothing")
    return found
