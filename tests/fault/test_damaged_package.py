"""A disk that forgets a bit: what is not what was pushed is not loaded, and pushing it again mends it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from faulty_home import FaultyHome, echo, kill
from serving_home import Serving

from headgate import errors

WEIGHED = """

WEIGHTS = Path(__file__).with_name("weights.bin").read_bytes()


class Weighed(Pure):
    def predict(self, do: str, x: int) -> tuple[int, int]:
        return super().predict(do, x)[0], WEIGHTS[0]
"""


def flip(path: Path) -> None:
    """Turn one bit over, in the middle of a read-only file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    os.chmod(path, 0o600)
    path.write_bytes(data)
    os.chmod(path, 0o444)


def digest(data: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


class Stage:
    """A server with a model that has weights in a file of their own, and a bystander."""

    def __init__(self, home: FaultyHome) -> None:
        self.home = home
        self.weights = home.folder / "weights.bin"
        self.weights.write_bytes(bytes([7]) * 10_000)
        self.target = home.model("model", "Weighed", code=WEIGHED)
        self.serving = home.serve(home.model("bystander"), "--threads", "1").until_ready("bystander")
        home.done("deploy", self.target, "--include", str(self.weights), "--threads", "1")

    @property
    def stored(self) -> Path:
        """The weights in the store."""
        (found,) = self.home.home.store.rglob("weights.bin")
        return found

    def push(self) -> str:
        """Push the model as it is now and return its version."""
        return self.home.done("push", self.target, "--include", str(self.weights)).strip()

    def restart(self, what: str) -> Serving:
        """Have the model loaded again."""
        if what == "replica":
            kill(self.serving.pid("model-1.1"))
        else:
            assert self.serving.stop() == 0
            self.serving = self.home.serve()
        return self.serving


@pytest.mark.parametrize("what", ["replica", "server"])
def test_what_a_disk_forgot_is_not_served(home: FaultyHome, what: str) -> None:
    """A bit of the weights of the running version turns over. Loaded again they are refused, naming version, file and both digests;
    readiness says so, neighbours serve; and to push the same model again is all it takes."""
    stage = Stage(home)
    serving, whole = stage.serving, stage.stored.read_bytes()
    flip(stage.stored)
    assert serving.ask("model", echo(1)).json == {"output_0": 1, "output_1": 7}, "what was loaded before is as it was pushed"
    serving = stage.restart(what)
    status = serving.until(lambda: "sha256" in (found := serving.status("model"))["reason"] and found, "the status tells why")
    for word in ("model@1", "files/weights.bin", digest(whole), digest(stage.stored.read_bytes()), "damaged", "Push"):
        assert word in status["reason"]
    assert status["state"] == "degraded" and status["reason"] in home.done("status")
    assert not serving.is_ready("model") and not serving.is_ready()
    assert serving.ask("model", echo(1), x_headgate_timeout_ms="200").status in (503, 504)
    assert serving.until_ready("bystander").ask("bystander", echo(2)).status == 200
    stage.push()
    assert stage.stored.read_bytes() == whole
    serving.until_ready("model", "")
    assert serving.ask("model", echo(3)).json == {"output_0": 3, "output_1": 7}


def test_a_damaged_version_is_not_deployed(home: FaultyHome) -> None:
    """A version that was damaged before its turn is refused with the same words, and the one before serves on."""
    stage = Stage(home)
    before = stage.stored
    stage.weights.write_bytes(bytes([8]) * 10_000)
    assert stage.push() == "model@2"
    (second,) = set(home.home.store.rglob("weights.bin")) - {before}
    flip(second)
    refused = home.run("deploy", "model@2")
    assert refused.returncode == errors.Conflict.exit
    assert "files/weights.bin: expected sha256" in refused.stderr
    assert stage.serving.ask("model", echo(1)).json == {"output_0": 1, "output_1": 7}
    assert stage.push() == "model@2"
    home.done("deploy", "model@2")
    assert stage.serving.ask("model", echo(1)).json == {"output_0": 1, "output_1": 8}
