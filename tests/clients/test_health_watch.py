"""``grpc.health.v1``'s Watch with gRPC's own client: a server whose last deployment comes up, loses its replica, and is drained."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from foreign import python_of
from serving import SECONDS, Served, Server

SCRIPT = Path(__file__).with_name("health_watch.py")
LATE = Served("late", "Sum")


class Watch:
    """One client; what it says comes line by line."""

    def __init__(self, server: Server, service: str) -> None:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        command = [str(python_of("grpc")), str(SCRIPT), f"{server.address}:{server.port}", service]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean)
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as said:
            for line in said:
                self._lines.put(line.strip())

    def close(self) -> None:
        """End the client."""
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def next(self) -> str:
        """Return the next status."""
        return self._lines.get(timeout=SECONDS)


@contextmanager
def watching(server: Server, *services: str) -> Iterator[list[Watch]]:
    """Clients that watch; at the end they are gone."""
    found = [Watch(server, service) for service in services]
    try:
        yield found
    finally:
        for watch in found:
            watch.close()


def test_p72_whoever_watches_is_told_of_every_change(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Point 72: not serving, serving with the last deployment's replica, and not serving once the server drains; of each service alike."""
    running = Server(tmp_path_factory.mktemp("watched"), [Served("sum", "Sum")], absent=[LATE])
    try:
        with watching(running, "", "inference.GRPCInferenceService", "nobody.is.Here") as (whole, inference, unknown):
            assert [whole.next(), inference.next(), unknown.next()] == ["NOT_SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"]
            running._start_replica(LATE, 0)
            assert [whole.next(), inference.next()] == ["SERVING", "SERVING"]
            running.gateway.send_signal(signal.SIGTERM)
            assert [whole.next(), inference.next()] == ["NOT_SERVING", "NOT_SERVING"]
            assert {whole.next(), inference.next(), unknown.next()} <= {"ended", "CANCELLED", "UNAVAILABLE"}
        assert running.gateway.wait(60) == 0
        assert not running.complaints()
    finally:
        running.stop()
