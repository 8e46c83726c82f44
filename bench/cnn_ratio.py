"""CNN throughput of Headgate over that of onnxruntime in a bare loop, in interleaved pairs of short windows."""

from __future__ import annotations

import http.client
import subprocess
import threading
import time
from dataclasses import dataclass

from bench.environments import ROOT
from bench.measure import say
from bench.models import Model, model
from bench.peers.base import Peer
from bench.server import NotServing, Server, running
from bench.session import THREADS

# Two: one request in work, the next one waiting. More would only make batches.
CONNECTIONS = 2


@dataclass(frozen=True)
class Pair:
    """Requests a second of both, of two windows beside each other."""

    served: float
    direct: float

    @property
    def ratio(self) -> float:
        return self.served / self.direct


class Direct:
    """The process of bench.direct; it waits for its next line, and so takes nothing, while Headgate is loaded."""

    def __init__(self, python: str, of: Model) -> None:
        argv = [python, "-m", "bench.direct", str(of.path), str(of.path.with_suffix(".npy")), str(THREADS)]
        self.process = subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.read()

    def read(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise NotServing(f"the direct run ended with {self.process.wait()}")
        return line

    def rate(self, seconds: float) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return float(self.read())

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=10)


def post(server: Server, until: float, moments: list[float]) -> None:
    """Requests one after another on one connection; the moment of each answer is noted."""
    connection = http.client.HTTPConnection("127.0.0.1", server.launch.port, timeout=30)
    try:
        while time.perf_counter() < until:
            connection.request("POST", server.request.path, server.request.body, server.request.headers)
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise NotServing(f"answered {response.status}")
            moments.append(time.perf_counter())
    finally:
        connection.close()


def rate(moments: list[float]) -> float:
    """Answers a second from the first to the last one: whole requests only, so that short windows have no ragged ends."""
    if len(moments) < 3:
        raise NotServing("fewer than three answers in a window; take longer windows")
    ordered = sorted(moments)
    return (len(ordered) - 1) / (ordered[-1] - ordered[0])


def served(server: Server, seconds: float) -> float:
    """Requests a second of the server on CONNECTIONS connections."""
    moments: list[float] = []
    until = time.perf_counter() + seconds
    threads = [threading.Thread(target=post, args=(server, until, moments)) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return rate(moments)


def pairs(peer: Peer, seconds: float, count: int) -> list[Pair]:
    """`count` pairs; which of the two goes first alternates."""
    of = model("cnn")
    with running(peer, of, "binary") as server:
        direct = Direct(str(peer.interpreter()), of)
        try:
            found = []
            served(server, 1.0)
            for number in range(count):
                if number % 2:
                    bare = direct.rate(seconds)
                    ours = served(server, seconds)
                else:
                    ours = served(server, seconds)
                    bare = direct.rate(seconds)
                found.append(Pair(ours, bare))
                say(f"cnn pair {number + 1}: served {ours:.2f}/s, direct {bare:.2f}/s, ratio {ours / bare:.3f}")
            return found
        finally:
            direct.stop()
