"""New versions, good and bad, under steady load from a client in a process of its own: nobody notices but by the answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from faulty_home import FaultyHome, echo
from serving_home import Load, Serving, failures, is_alive, under_load

from headgate import errors


class Stage:
    """A server with one deployment under load."""

    def __init__(self, home: FaultyHome, load: Load, serving: Serving) -> None:
        self.home = home
        self.load = load
        self.serving = serving
        self._last = 1

    def push(self) -> int:
        """Register another version of the model and return its number."""
        self._last += 1
        reference = self.home.done("push", self.home.model("model", version=self._last)).strip()
        return int(reference.partition("@")[2])

    def still_serves(self, version: int) -> None:
        """Check that requests from now on are answered by ``version``, and that none has failed so far."""
        before = len(self.load.records)
        self.load.until(20)
        assert {record["version"] for record in self.load.records[before + 4 :]} == {version}
        assert failures(self.load.records) == []

    def serving_version(self) -> int:
        """Return which version answers."""
        return int(self.serving.ask("model", echo(1)).json["output_1"])


@pytest.fixture(scope="module")
def stage(shared_home: Callable[[], FaultyHome]) -> Iterator[Stage]:
    """The server of this file."""
    home = shared_home()
    serving = home.serve(home.model("model"), "--threads", "1").until_ready("model").until_settled()
    with under_load(serving.url, "model", home.folder) as load:
        yield Stage(home, load, serving)


def _switches(records: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Return when each version had first answered."""
    first: dict[int, float] = {}
    for record in records:
        first[record["version"]] = min(record["ended"], first.get(record["version"], record["ended"]))
    return first


def test_five_versions_take_over_without_a_failed_request(stage: Stage) -> None:
    """Each deploy switches whole: once the new version has answered, the old one answers no request that begins after it; the old
    replica ends; no request fails."""
    before = len(stage.load.records)
    for _ in range(5):
        old = stage.serving.pid(stage.serving.status("model")["revision"] + ".1")
        version = stage.push()
        stage.home.done("deploy", f"model@{version}")
        stage.still_serves(version)
        stage.serving.until(lambda old=old: not is_alive(old), "the old replica has ended")
    records = stage.load.records[before:]
    assert failures(records) == []
    switched = _switches(records)
    assert len(switched) == 6
    for version, at in switched.items():
        assert [record for record in records if record["begun"] > at and record["version"] < version] == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("raise", "this row is marked"),
        ("kill", "SIGKILL"),
        ("segfault", "SIGSEGV"),
        ("spin", "load_timeout"),
        ("hang", "load_timeout"),
    ],
)
def test_a_version_that_does_not_load_changes_nothing(stage: Stage, fault: str, reason: str) -> None:
    """A version whose load raises, crashes or hangs is refused with the reason, while the one before answers everything."""
    serves, version = stage.serving_version(), stage.push()
    stage.home.on_load("model", fault)
    limit = "2s" if reason == "load_timeout" else "1m"
    deployed = stage.home.run("deploy", f"model@{version}", "--load-timeout", limit)
    stage.home.on_load("model", "")
    assert deployed.returncode == errors.Conflict.exit, deployed.stdout
    assert reason in deployed.stderr and "still serves" in deployed.stderr
    assert "Traceback" not in deployed.stderr
    stage.still_serves(serves)
    status = stage.serving.status("model")
    assert status["state"] == "degraded" and reason in status["reason"]


def test_a_version_that_loads_after_a_failed_one_is_deployed(stage: Stage) -> None:
    """A failed revision is no obstacle for the next one, and the status is clear again."""
    bad = stage.push()
    stage.home.on_load("model", "raise")
    assert stage.home.run("deploy", f"model@{bad}").returncode == errors.Conflict.exit
    stage.home.on_load("model", "")
    version = stage.push()
    stage.home.done("deploy", f"model@{version}", "--load-timeout", "1m")
    stage.still_serves(version)
    stage.serving.until(lambda: stage.serving.status("model")["state"] == "ready", "nothing is left of the failure")


def test_code_that_cannot_be_imported_is_refused_at_the_door(stage: Stage) -> None:
    """A file that crashes or raises while it is imported makes no version; the registry and the traffic are as before."""
    serves, before = stage.serving_version(), stage.home.done("versions", "model", "--output", "json")
    for code, reason in (("\nraise ImportError('no such part')\n", "no such part"), ("\ndo_it('segfault')\n", "SIGSEGV")):
        deployed = stage.home.run("deploy", stage.home.model("model", code=code))
        assert deployed.returncode == errors.PackageError.exit, deployed.stderr
        assert reason in deployed.stderr
    assert stage.home.done("versions", "model", "--output", "json") == before
    stage.still_serves(serves)


def test_what_is_not_there_is_not_deployed(stage: Stage) -> None:
    """An unknown version, alias or model is refused by name, and the deployment stays as it was."""
    serves, generation = stage.serving_version(), stage.serving.status("model")["generation"]
    for reference in ("model@999", "model@champoin", "modle"):
        deployed = stage.home.run("deploy", reference, "--name", "model")
        assert deployed.returncode == errors.NotFound.exit, deployed.stderr
        assert reference.partition("@")[2] in deployed.stderr
    assert "did you mean 'model'" in deployed.stderr
    assert stage.serving.status("model")["generation"] == generation
    stage.still_serves(serves)


@pytest.mark.parametrize("name", ["broken.onnx", "half.skops", "empty.onnx"])
def test_a_damaged_file_is_refused(stage: Stage, name: str) -> None:
    """A model file that is garbage, cut off or empty is refused in words, makes no version and touches nothing that runs."""
    content = {"broken.onnx": b"no model at all", "half.skops": b"PK\3\4" + bytes(500), "empty.onnx": b""}[name]
    path = stage.home.folder / name
    path.write_bytes(content)
    serves = stage.serving_version()
    deployed = stage.home.run("deploy", str(path), "--name", "model")
    assert deployed.returncode == errors.PackageError.exit, deployed.stderr
    assert name in deployed.stderr and "Traceback" not in deployed.stderr
    assert json.loads(stage.home.done("models", "--output", "json"))[0]["name"] == "model"
    stage.still_serves(serves)


def test_a_flipped_bit_in_the_store_is_found(stage: Stage) -> None:
    """A package that changed on the disk since it was registered is not started: the deploy is refused and names the file."""
    serves, version = stage.serving_version(), stage.push()
    listed = json.loads(stage.home.done("versions", "model", "--output", "json"))
    digest = next(entry["digest"] for entry in listed if entry["number"] == version)
    file = next(path for path in _files(stage, digest) if path.name == "model.py")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.parent.chmod(0o700)
    file.chmod(0o600)
    file.write_bytes(content)
    deployed = stage.home.run("deploy", f"model@{version}")
    assert deployed.returncode == errors.Conflict.exit
    assert "files/model.py: expected sha256" in deployed.stderr and "damaged" in deployed.stderr
    stage.still_serves(serves)


def _files(stage: Stage, digest: str) -> list[Path]:
    folder = stage.home.home.store / digest.removeprefix("sha256:")
    return list((folder / "files").rglob("*"))
