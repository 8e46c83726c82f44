"""kill -9 of whatever lives, over and over, on one home and under load: in the end everything serves, and nothing is left over."""

from __future__ import annotations

import http.client
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from faulty_home import FaultyHome, echo
from serving_home import Serving, eventually

MODEL = """
import subprocess
from typing import Annotated

import numpy as np


class Parent(Pure):
    def load(self) -> None:
        self._child = subprocess.Popen(["sleep", "1000"])


class Wide:
    idempotent = True

    def predict(self, values: Annotated[np.ndarray, "FP32[-1]"]) -> float:
        return float(values.sum())
"""
WIDE = {"values": [1.0] * 40_000}
"""More than 64 KiB, so that it goes through shared memory."""
SUPERVISOR, GATEWAY, CONTROL = "supervisor", "gateway-0", "control"
EVERYBODY = frozenset({SUPERVISOR, GATEWAY, CONTROL, "parent-1.1", "wide-1.1"})
STORMS = ((22, frozenset({GATEWAY})), (8, frozenset({SUPERVISOR, "wide-1.1"})), (20, frozenset[str]()))
"""How many are killed, and who is spared meanwhile: by those it is seen that nothing piles up."""


class Siege:
    """A home, the server that was started on it last, and what lives of it."""

    def __init__(self, home: FaultyHome) -> None:
        self.home = home
        self.chance = random.Random(25)
        self.temporary = home.folder / "tmp"
        self.temporary.mkdir()
        home.environment["TMPDIR"] = str(self.temporary)
        targets = home.model("parent", "Parent", code=MODEL), home.model("wide", "Wide", code=MODEL)
        self.serving: Serving = home.serve(*targets, "--threads", "1")
        self._over = False

    # ---- who is there

    def living(self) -> dict[str, list[int]]:
        """The pids of supervisor, control, gateway and replicas, as far as they live."""
        return {SUPERVISOR: [self.serving.process.pid], **self.home.living()}

    def held(self, name: str) -> Counter[str]:
        """What a process has open: files by their path, sockets and the like by their kind; and how much shared memory it maps."""
        ((pid,), found) = self.living()[name], Counter[str]()
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                what = os.readlink(descriptor)
            except FileNotFoundError:
                continue  # closed since it was listed
            found["terminal" if Path(what).parent == self.home.folder else what.partition(":[")[0]] += 1
        found["shared maps"] = Path(f"/proc/{pid}/maps").read_text().count("memfd:")
        return found

    def files(self) -> set[str]:
        """Every file and folder of the home, and of the folder for temporary ones."""
        return {str(path) for folder in (self.home.home.path, self.temporary) for path in folder.rglob("*")}

    # ---- doing it

    def storm(self, strikes: int, spared: frozenset[str]) -> None:
        """Kill one of those that live, again and again; a supervisor is followed by the next ``serve``, whatever that finds."""
        for _ in range(strikes):
            time.sleep(self.chance.uniform(0.0, 0.4))
            victims = eventually(lambda: {name: pid for name, pid in self.living().items() if name not in spared}, "somebody lives")
            assert self.serving.process.poll() is None, f"the server has ended by itself: {self.serving.said}"
            name = self.chance.choice(sorted(victims))
            for pid in victims[name]:
                with suppress(psutil.NoSuchProcess):
                    psutil.Process(pid).kill()
            if name == SUPERVISOR:
                self.serving.process.wait()
                self.serving = self.home.serve()

    def settle(self) -> None:
        """Wait until everybody is there once, everything serves, and nobody else is left."""
        serving = self.serving.until_ready("parent", "wide", "").until_settled()
        for name in ("parent", "wide"):
            serving.until(lambda name=name: serving.status(name)["state"] == "ready", f"control finds {name} ready")
        assert serving.ask("parent", echo(5)).json == {"output_0": 5, "output_1": 1}
        assert serving.ask("wide", WIDE).json == {"output": 40_000.0}
        serving.until(
            lambda: {name: len(pids) for name, pids in self.living().items()} == dict.fromkeys(EVERYBODY, 1), "all are there"
        )
        serving.until(lambda: len(self.home.processes()) == len(EVERYBODY) + 1, "and nobody else but the child of a model")

    @contextmanager
    def load(self) -> Iterator[None]:
        """Ask meanwhile; nobody is promised an answer while anybody may be killed."""
        asking = self.home.start(self._ask_on)
        try:
            yield
        finally:
            self._over = True
            asking.result(60)
            self._over = False

    def _ask_on(self) -> None:
        while not self._over:
            try:
                self.serving.ask("parent", echo(1), x_headgate_timeout_ms="2000")
                self.serving.ask("wide", WIDE, x_headgate_timeout_ms="2000")
            except (OSError, ValueError, http.client.HTTPException, AssertionError):  # the last: no server yet
                time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_left_over(home: FaultyHome) -> None:
    """However replicas, gateway, control and supervisor are killed: afterwards each of them is there once and serves, and there is no
    process, file, socket, descriptor or shared memory more than before, neither among the survivors nor in the home; after the end
    there is nothing at all."""
    siege = Siege(home)
    siege.settle()
    files, held = siege.files(), {name: siege.held(name) for name in (GATEWAY, "parent-1.1", "wide-1.1")}
    for strikes, spared in STORMS:
        survivors = {name: pids for name, pids in siege.living().items() if name in spared}
        with siege.load():
            siege.storm(strikes, spared)
            siege.settle()
        assert {name: siege.living()[name] for name in spared} == survivors
        held.setdefault(SUPERVISOR, siege.held(SUPERVISOR))
        for name in held:
            eventually(lambda name=name: siege.held(name) == held[name], f"{name} holds {held[name]}, not {siege.held(name)}")
        eventually(lambda: siege.files() - _logs(siege) == files - _logs(siege), f"no more files than {sorted(files)}")
    assert siege.serving.stop() == 0
    eventually(lambda: not home.processes(), "nobody is left")
    assert not list(home.home.run.iterdir()) and (home.home.sockets == home.home.run or not home.home.sockets.exists())
    assert not list(siege.temporary.iterdir())
    for control in (False, True):
        with pytest.raises(ConnectionRefusedError):
            siege.serving.get("/", control=control)


def _logs(siege: Siege) -> set[str]:
    """Logs, and what SQLite has beside its database while it is open."""
    return {str(path) for path in (*siege.home.home.logs.glob("*"), *siege.home.home.path.glob("headgate.db-*"))}
