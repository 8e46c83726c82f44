"""Headgate of this checkout, as `headgate serve MODEL` starts it."""

from __future__ import annotations

from pathlib import Path

from bench.environments import ROOT, NotInstallable
from bench.peers.base import Launch, OipPeer
from bench.session import THREADS


class Headgate(OipPeer):
    name = "headgate"
    title = "Headgate"
    shown = ("headgate", "onnxruntime")
    ready = "/v2/models/{model}/ready"

    def interpreter(self) -> Path:
        python = ROOT / ".venv" / "bin" / "python"
        if not python.with_name("headgate").exists():
            raise NotInstallable("the headgate command is not in .venv; run make setup first")
        return python

    def command(self, launch: Launch) -> list[str]:
        argv = [str(self.interpreter().with_name("headgate")), "serve", str(launch.model.path), "--threads", str(THREADS)]
        return [*argv, "--home", str(launch.folder), "--port", str(launch.port), "--control-port", str(launch.spare[0])]


PEER = Headgate()
