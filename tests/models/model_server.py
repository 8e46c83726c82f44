"""A running server, as a user starts it, and the commands he gives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from model_assets import SERVED

import headgate
from headgate.home import Home

COMMAND = (sys.executable, "-P", "-m", "headgate.cli.main")
START_SECONDS = 240


def environment() -> dict[str, str]:
    """Return the variables of this process without those that change what Python does, such as not to write bytecode."""
    return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}


class Server:
    """A running ``headgate serve``."""

    def __init__(self, folder: Path, targets: Sequence[Path]) -> None:
        self.home = Home(folder / "home")
        self._log = folder / "serve.log"
        ports = ("--port", "0", "--control-port", "0", "--drain-delay", "0", "--threads", "1")
        with open(self._log, "wb") as output:
            command = [*COMMAND, "serve", *targets, "--home", self.home.path, *ports]
            self.process = subprocess.Popen(
                command, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def until_ready(self) -> None:
        """Wait until everything it was started with is served."""
        end = time.monotonic() + START_SECONDS
        while "Ctrl-C drains" not in self.said:
            assert self.process.poll() is None and time.monotonic() < end, self.said
            time.sleep(0.05)
        self.url = str(json.loads(self.home.server.read_bytes())["inference_url"])
        self.client = headgate.Client(self.url)

    @property
    def said(self) -> str:
        """What it has printed."""
        return self._log.read_text()

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command on the server's home."""
        command = [*COMMAND, *words, "--home", self.home.path]
        return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, check=False)

    def deploy(self, target: str | Path, *words: str | Path) -> None:
        """Deploy a model."""
        done = self.run("deploy", target, "--threads", "1", *words)
        assert done.returncode == 0, done.stderr + self.said

    def deploy_class(self, file: str, kind: str, *words: str | Path) -> None:
        """Deploy a class of ``served/`` in the environment that the text file beside it says."""
        self.deploy(f"{SERVED / file}.py:{kind}", "--requirements", SERVED / f"{file}.txt", *words)

    def package(self, deployment: str) -> Path:
        """Return the folder in the store that a deployment runs."""
        found = [
            entry
            for entry in json.loads(self.run("status", "--output", "json").stdout)["deployments"]
            if entry["name"] == deployment
        ]
        (revision,) = found[0]["revisions"]
        return self.home.store / str(revision["digest"]).removeprefix("sha256:")

    def batches(self, deployment: str) -> tuple[int, int]:
        """Return how many batches the deployment has run, and how many rows were in them."""
        with urllib.request.urlopen(f"{self.url}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        own = [line for line in lines if line.startswith("headgate_batch_rows") and f'deployment="{deployment}"' in line]
        count, total = (
            sum(float(line.split()[-1]) for line in own if line.startswith(f"headgate_batch_rows_{part}"))
            for part in ("count", "sum")
        )
        return int(count), int(total)

    def stop(self) -> None:
        """End it."""
        if hasattr(self, "client"):
            self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)
