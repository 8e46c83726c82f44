"""A home whose servers serve a model that misbehaves on demand."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import psutil
from serving_home import Answer, Serving, ServingHome, eventually

T = TypeVar("T")

BEHAVIOURS = Path(__file__).with_name("behaviours.py")


class FaultyHome(ServingHome):
    """A home, the model of ``behaviours.py``, and the notes of what it computed."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"
        super().__init__(folder, FAULT_NOTES=str(self.notes))
        self.notes.mkdir()
        self._threads = ThreadPoolExecutor(64)

    def model(self, name: str, kind: str = "Pure", version: int = 1, code: str = "") -> str:
        """Write the model as ``NAME.py``, with ``code`` at its end, and return it as a target; the file's name is the deployment's."""
        text = BEHAVIOURS.read_text().replace("VERSION = 1", f"VERSION = {version}")
        return f"{self.write(f'{name}.py', text + code)}:{kind}"

    def computed(self, name: str) -> list[str]:
        """Return what replicas of a model began to compute, in order, as ``do x``."""
        path = self.notes / f"{name}.computed"
        return path.read_text().splitlines() if path.exists() else []

    def on_load(self, name: str, what: str) -> None:
        """Let a model do something whenever it is loaded from now on; nothing: be good again."""
        path = self.notes / f"{name}.load"
        if what:
            path.write_text(what)
        else:
            path.unlink(missing_ok=True)

    def go(self, name: str) -> None:
        """End every wait of a model, now and later."""
        (self.notes / f"{name}.go").touch()

    def close(self) -> None:
        """End every server, and wait for clients."""
        super().close()
        self._threads.shutdown()

    def start(self, work: Callable[..., T], *arguments: Any) -> Future[T]:
        """Do something meanwhile."""
        return self._threads.submit(work, *arguments)

    # ---- what lives

    def processes(self) -> list[psutil.Process]:
        """Return every process that anything of this home has started, its models' own children too."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                ours = process.environ().get("HEADGATE_HOME") == str(self.home.path)
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def living(self) -> dict[str, list[int]]:
        """Return the pids of control, gateway and replicas by id, as the machine has them; ``observed.json`` is what is known of it."""
        found: dict[str, list[int]] = {}
        for process in self.processes():
            with suppress(psutil.Error, OSError):
                config = json.loads(process.environ().get("HEADGATE_CONFIG", "{}"))
                if config and os.getsid(process.pid) == process.pid:
                    found.setdefault(config.get("id", "control"), []).append(process.pid)
        return found

    # ---- requests that wait

    def begin(self, serving: Serving, name: str, row: dict[str, Any], **headers: str) -> Future[Answer]:
        """Send a row and return once a replica computes it."""
        line = f"{row['do']} {row['x']}"
        before = self.computed(name).count(line)
        asked = self._threads.submit(serving.ask, name, row, **headers)
        eventually(lambda: self.computed(name).count(line) > before, f"{line} is computed")
        return asked

    def queue(self, serving: Serving, name: str, rows: Sequence[dict[str, Any]]) -> list[Future[Answer]]:
        """Send rows while the only replica is busy, and return once all of them wait in the gateway."""
        asked = [self._threads.submit(serving.ask, name, row) for row in rows]
        serving.until(lambda: metric(serving, "headgate_queue_rows", name) == len(rows), f"{len(rows)} rows wait")
        return asked


def metric(serving: Serving, name: str, deployment: str) -> float:
    """Return a metric of a deployment, summed."""
    total = 0.0
    for line in serving.get("/metrics").body.decode().splitlines():
        sample, _, value = line.rpartition(" ")
        if sample.partition("{")[0] == name and f'deployment="{deployment}"' in sample:
            total += float(value)
    return total


def kill(pid: int) -> None:
    """SIGKILL."""
    os.kill(pid, signal.SIGKILL)


def echo(x: int) -> dict[str, Any]:
    """Return a row that asks for nothing special."""
    return {"do": "echo", "x": x}
