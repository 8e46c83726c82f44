"""One running server: started, asked whether it answers right, paused while others are measured, ended."""

from __future__ import annotations

import contextlib
import http.client
import math
import os
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench import grpc, processes
from bench.environments import ROOT
from bench.load import Request
from bench.models import CACHE, Model
from bench.peers.base import Launch, Peer

START_LIMIT = 90.0
STOP_LIMIT = 15.0
MARKER = "HEADGATE_BENCH"


class NotServing(RuntimeError):
    """A server did not start, or answered something else than onnxruntime does."""


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on; all held at once, so that they differ."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def ask(port: int, request: Request | str, timeout: float = 10.0) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (names in lower case) and body of one POST, or of one GET where only a path is given."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        if isinstance(request, str):
            connection.request("GET", request)
        else:
            connection.request("POST", request.path, request.body, request.headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def differs(answer: list[float], expected: tuple[float, ...]) -> str | None:
    """Why an answer is not the one of onnxruntime, or None. Other builds of onnxruntime may round otherwise."""
    if len(answer) != len(expected):
        return f"{len(answer)} values instead of {len(expected)}"
    for at, (got, want) in enumerate(zip(answer, expected, strict=True)):
        if not math.isclose(got, want, rel_tol=1e-3, abs_tol=1e-4):
            return f"value {at} is {got}, onnxruntime says {want}"
    return None


@dataclass
class Server:
    """A peer that serves one model in one format."""

    peer: Peer
    launch: Launch
    process: subprocess.Popen[bytes]
    marker: str
    log: Path
    request: Request
    body: Path
    paused: list[int] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.request.path}"

    @property
    def port(self) -> int:
        return self.peer.port(self.launch)

    def ask(self) -> tuple[int, dict[str, str], bytes]:
        """Its request, once."""
        return (grpc.ask if self.launch.format == "grpc" else ask)(self.port, self.request)

    def pids(self) -> list[int]:
        return processes.members([self.process.pid], self.marker)

    def verify(self) -> None:
        """Raises NotServing unless the answer equals that of onnxruntime."""
        try:
            status, headers, body = self.ask()
        except (OSError, http.client.HTTPException) as error:
            raise NotServing(f"ready, but did not answer: {error}") from error
        if status != 200:
            raise NotServing(f"answered {status}: {body[:200]!r}")
        reason = differs(self.peer.answer(self.launch.model, self.launch.format, headers, body), self.launch.model.expected)
        if reason:
            raise NotServing(f"wrong answer: {reason}")

    def is_ready(self) -> bool:
        """Whether the server says so; where it has no way to say, whether it answers its request at all."""
        path = self.peer.ready
        try:
            if path is None:
                return self.ask()[0] == 200
            return ask(self.launch.port, path.format(model=self.launch.model.name))[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def wait(self) -> None:
        """Until ready; raises NotServing with the end of the log."""
        deadline = time.monotonic() + START_LIMIT
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                ended = self.process.returncode
                reason = f"not ready after {START_LIMIT:.0f} s" if ended is None else f"ended with {ended}"
                raise NotServing(f"{reason}: {' '.join(self.log.read_text(errors='replace').split())[-200:]}")
            time.sleep(0.05)

    def pause(self) -> None:
        """Stop the processes: several servers spin or poll when idle, which would disturb the one that is measured."""
        self.paused = self.pids()
        send(self.paused, signal.SIGSTOP)

    def resume(self) -> None:
        send(self.paused, signal.SIGCONT)
        self.paused = []

    def stop(self) -> None:
        """Ask it to end; what is left of it after 15 s is killed."""
        self.resume()
        send([self.process.pid], signal.SIGTERM)
        deadline = time.monotonic() + STOP_LIMIT
        while (self.process.poll() is None or self.pids()) and time.monotonic() < deadline:
            time.sleep(0.05)
        send(self.pids(), signal.SIGKILL)
        self.process.wait()


def send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def start(peer: Peer, model: Model, format: str, folder: Path) -> Server:
    """The server's processes, not waited for. `folder` has to be empty."""
    port, *spare = free_ports(4)
    launch = Launch(model, format, port, tuple(spare), folder)
    marker = uuid.uuid4().hex
    log = CACHE / "logs" / f"{peer.name}-{model.name}-{format}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    request = peer.request(model, format)
    body = CACHE / "logs" / f"{peer.name}-{model.name}-{format}.body"
    body.write_bytes(request.body)
    env = {**os.environ, **peer.variables(launch), MARKER: marker}
    with log.open("wb") as output:
        process = subprocess.Popen(
            peer.command(launch), cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    return Server(peer, launch, process, f"{MARKER}={marker}", log, request, body)


@contextlib.contextmanager
def running(peer: Peer, model: Model, format: str) -> Iterator[Server]:
    """A server that answers right, ended on the way out."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        server = start(peer, model, format, Path(folder))
        try:
            server.wait()
            server.verify()
            yield server
        finally:
            server.stop()
