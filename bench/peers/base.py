"""What the harness asks of a server: where it is installed, how it is started, how it is spoken to.

A peer's file is read twice: by the harness, for its `PEER`; and by the peer's own Python, which runs it as a server.
So a framework is imported inside the function that serves, never at the top.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench import grpc, oip
from bench.environments import DEBIAN_PYTHON, environment
from bench.load import Request
from bench.models import Model


@dataclass(frozen=True)
class Launch:
    """What a server is started with. `folder` is empty and its own; further ports are its to choose from `spare`."""

    model: Model
    format: str
    port: int
    spare: tuple[int, ...]
    folder: Path


class Peer(ABC):
    """One server under measurement."""

    name: str
    title: str
    requirements: tuple[str, ...] = ()
    # Distributions whose versions are printed.
    shown: tuple[str, ...] = ()
    python: str = DEBIAN_PYTHON
    # Formats that the server does not speak, with the words for the table.
    missing: Mapping[str, str] = {"grpc": "speaks no gRPC"}
    ready: str | None = None

    def interpreter(self) -> Path:
        """The Python of the peer's environment; raises NotInstallable."""
        return environment(self.name, self.requirements, self.python)

    def command(self, launch: Launch) -> list[str]:
        """By default the peer's own file, run as a module by the peer's Python."""
        argv = [str(self.interpreter()), "-m", f"bench.peers.{self.name}", "--model", str(launch.model.path)]
        return [*argv, "--port", str(launch.port), "--spare", str(launch.spare[0]), "--format", launch.format]

    def port(self, launch: Launch) -> int:
        """Where the format is spoken."""
        return launch.port

    def variables(self, launch: Launch) -> dict[str, str]:
        """Environment variables beyond those of the harness."""
        return {}

    @abstractmethod
    def request(self, model: Model, format: str) -> Request:
        """The example request in this server's own words."""

    @abstractmethod
    def answer(self, model: Model, format: str, headers: Mapping[str, str], body: bytes) -> list[float]:
        """The values in a response, flat. Header names are in lower case."""

    def versions(self) -> str:
        """Names and versions of what was installed."""
        script = "import sys, importlib.metadata as m; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
        argv = [str(self.interpreter()), "-c", script, *self.shown]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()


class RowsPeer(Peer):
    """A server of the kind people write: `{"rows": [[...]]}` gives `{"scores": [[...]]}`; binary is bare FP32 both ways."""

    path = "/predict"
    binary_path = "/predict"

    def request(self, model: Model, format: str) -> Request:
        if format == "binary":
            return Request(self.binary_path, model.raw, {"Content-Type": "application/octet-stream"})
        width = model.shape[-1]
        values = [oip.short(value) for value in model.data]
        rows = [values[at : at + width] for at in range(0, len(values), width)]
        body = json.dumps({"rows": rows}, separators=(",", ":")).encode()
        return Request(self.path, body, {"Content-Type": "application/json"})

    def answer(self, model: Model, format: str, headers: Mapping[str, str], body: bytes) -> list[float]:
        return oip.floats(body) if format == "binary" else oip.flat(json.loads(body)["scores"])


class OipPeer(Peer):
    """A server of the Open Inference Protocol V2."""

    missing: Mapping[str, str] = {}

    def request(self, model: Model, format: str) -> Request:
        if format == "grpc":
            return grpc.request(model)
        path = f"/v2/models/{model.name}/infer"
        if format == "json":
            return Request(path, oip.json_body(model), {"Content-Type": "application/json"})
        body, length = oip.binary_body(model)
        return Request(path, body, {"Content-Type": "application/octet-stream", oip.LENGTH_HEADER: str(length)})

    def answer(self, model: Model, format: str, headers: Mapping[str, str], body: bytes) -> list[float]:
        return oip.floats(grpc.raw_output(body)) if format == "grpc" else oip.answer(headers, body)


def options() -> argparse.Namespace:
    """What `Peer.command` has passed, on the server's side."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--spare", type=int, required=True)
    parser.add_argument("--format", required=True)
    return parser.parse_args()
